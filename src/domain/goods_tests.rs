//! What consumables bring, over everything that happens to them.

use chrono::{DateTime, TimeDelta};
use uuid::Uuid;

use super::*;
use crate::domain::catalog::tests::EXAMPLE;
use crate::domain::chain::{Alias, AliasKind, AppId};
use crate::domain::credit::CreditReason;
use crate::domain::ids::CatalogVersion;
use crate::domain::provider::Environment;
use crate::domain::subscription::state::{Offer, RevocationReason};
use crate::domain::subscription::store_state::{Refund, RefundKind, Transaction};

const COINS: &str = "com.example.coins";
const SWORD: &str = "com.example.sword";

fn now() -> Instant {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
}

fn ann() -> AccountId {
    AccountId(Uuid::from_u128(1))
}

fn ben() -> AccountId {
    AccountId(Uuid::from_u128(2))
}

fn catalog(worth: i64) -> Catalog {
    let text = format!(
        r#"{EXAMPLE}
        [credits.coins]
        [credits.gems]
        [products.coins]
        kind = "consumable"
        credits = {{ coins = {worth}, gems = 1 }}
        app_store = {{ product_id = "{COINS}" }}
        google_play = {{ product_id = "{COINS}" }}
        [products.sword]
        kind = "consumable"
        delivered_by = "backend"
        app_store = {{ product_id = "{SWORD}" }}
        google_play = {{ product_id = "{SWORD}" }}
        "#
    );
    let file = toml::from_str(&text).expect("the example parses");
    Catalog::build(file, CatalogVersion(1)).expect("the example is sound")
}

fn state(product: &str, quantity: u32) -> StoreState {
    let product = StoreProduct::new(product);
    StoreState {
        environment: Environment::Production,
        stamp: now(),
        head: Alias {
            provider: Provider::AppStore,
            app: AppId("example-ios".into()),
            kind: AliasKind::OriginalTransactionId,
            value: "t1".into(),
        },
        aliases: Vec::new(),
        predecessors: Vec::new(),
        account_token: None,
        purchased_at: Some(now()),
        items: vec![Item {
            key: "purchase".into(),
            product: product.clone(),
            kind: ItemKind::OneTime,
            state: ItemState::Owned { since: now() },
            offer: Offer::None,
            started_at: Some(now()),
            transaction_id: Some("t1".into()),
            pending_product: None,
            family_shared: false,
            quantity,
        }],
        transactions: vec![Transaction {
            quantity,
            ..Transaction::new("t1", product, now())
        }],
        acknowledge_by: None,
        bookmark: None,
        out_of_app: false,
        money_untold: false,
    }
}

fn returned(mut state: StoreState, quantity: Option<u32>) -> StoreState {
    let transaction = &mut state.transactions[0];
    transaction.refund = Some(Refund {
        at: now(),
        kind: quantity.map_or(RefundKind::Full, |_| RefundKind::Partial),
        amount: None,
        quantity,
    });
    if quantity.is_none() {
        transaction.revoked_at = Some(now());
        state.items[0].state = ItemState::Revoked {
            at: now(),
            reason: RevocationReason::Refunded,
        };
    }
    state
}

/// Books, again and again, as settles do.
#[derive(Default)]
struct Books {
    entries: Vec<Entry>,
    deliveries: Vec<Delivery>,
}

impl Books {
    fn settle(&mut self, state: &StoreState, owner: AccountId, worth: i64) -> Handover {
        let due = self.due(Provider::AppStore, state, owner, true, worth);
        for entry in &due.entries {
            let same = |e: &&Entry| {
                (&e.line, &e.credit, e.account, e.seq)
                    == (&entry.line, &entry.credit, entry.account, entry.seq)
            };
            assert_eq!(self.entries.iter().find(same), None, "the key is free");
            self.entries.push(entry.clone());
        }
        for row in &due.deliveries {
            self.deliveries.retain(|old| old.line != row.line);
            self.deliveries.push(row.clone());
        }
        let again = self.due(Provider::AppStore, state, owner, true, worth);
        assert_eq!((again.entries, again.deliveries), (vec![], vec![]));
        due
    }

    fn due(
        &self,
        provider: Provider,
        state: &StoreState,
        owner: AccountId,
        served: bool,
        worth: i64,
    ) -> Handover {
        let booked = Booked {
            entries: &self.entries,
            deliveries: &self.deliveries,
        };
        hand_over(
            provider,
            state,
            owner,
            served,
            &catalog(worth),
            booked,
            now(),
        )
    }

    fn balance(&self, account: AccountId, credit: &str) -> i64 {
        let of = self
            .entries
            .iter()
            .filter(|e| e.account == account && e.credit == credit);
        of.map(Entry::amount).sum()
    }

    fn reasons(&self, account: AccountId) -> Vec<CreditReason> {
        let of = self
            .entries
            .iter()
            .filter(|e| e.account == account && e.credit == "coins");
        of.map(|entry| entry.reason).collect()
    }
}

#[test]
fn units_are_credited_once_and_follow_what_the_store_takes_and_gives_back() {
    let mut books = Books::default();
    let three = state(COINS, 3);
    for (state, coins) in [
        (three.clone(), 300),
        (three.clone(), 300),
        (returned(three.clone(), Some(1)), 200),
        (returned(three.clone(), None), 0),
        (three.clone(), 300),
    ] {
        books.settle(&state, ann(), 100);
        assert_eq!(books.balance(ann(), "coins"), coins);
        assert_eq!(books.balance(ann(), "gems"), coins / 100);
    }
    use CreditReason as R;
    let story = [R::Purchase, R::Refund, R::Refund, R::RefundReversed];
    assert_eq!(books.reasons(ann()), story);
}

#[test]
fn what_a_unit_is_worth_is_frozen_at_its_first_entry() {
    let mut books = Books::default();
    books.settle(&state(COINS, 2), ann(), 100);
    books.settle(&state(COINS, 2), ann(), 7);
    books.settle(&returned(state(COINS, 2), Some(1)), ann(), 7);
    assert_eq!(books.balance(ann(), "coins"), 100);
}

#[test]
fn a_purchase_that_moves_takes_its_credits_along() {
    let mut books = Books::default();
    books.settle(&state(COINS, 2), ann(), 100);
    books.settle(&state(COINS, 2), ben(), 100);
    assert_eq!(books.balance(ann(), "coins"), 0);
    assert_eq!(books.balance(ben(), "coins"), 200);
    // Taken back in the same breath as it moves, and back again.
    books.settle(&returned(state(COINS, 2), Some(1)), ann(), 100);
    assert_eq!(books.balance(ann(), "coins"), 100);
    assert_eq!(books.balance(ben(), "coins"), 0);
    // An answer that no longer names the line moves what is booked, and takes nothing.
    let mut silent = state(COINS, 2);
    silent.items.clear();
    books.settle(&silent, ben(), 100);
    assert_eq!(books.balance(ben(), "coins"), 100);
}

#[test]
fn nothing_is_credited_or_told_for_what_is_not_paid_known_or_accepted() {
    let books = Books::default();
    let mut pending = state(COINS, 1);
    pending.items[0].state = ItemState::Pending;
    let mut unknown = state(COINS, 1);
    unknown.items[0].state = ItemState::Unknown {
        said: "RENTED".into(),
    };
    for (state, served) in [
        (pending, true),
        (unknown, true),
        (returned(state(COINS, 1), None), true),
        (state("com.example.unmapped", 1), true),
        (state("com.example.lifetime", 1), true),
        (state(COINS, 1), false),
        (state(SWORD, 1), false),
    ] {
        let due = books.due(Provider::AppStore, &state, ann(), served, 100);
        assert_eq!(due, Handover::default(), "{state:?}");
    }
}

#[test]
fn the_store_is_told_once_everything_has_reached_its_owner() {
    let books = Books::default();
    let duty = |provider, state: &StoreState| {
        let due = books.due(provider, state, ann(), true, 100);
        due.duties.into_iter().map(|new| new.duty).next()
    };
    let mut coins = state(COINS, 1);
    assert_eq!(duty(Provider::AppStore, &coins), Some(Duty::Finish));
    assert_eq!(duty(Provider::GooglePlay, &coins), Some(Duty::Consume));
    coins.transactions[0].consumed = true;
    assert_eq!(duty(Provider::GooglePlay, &coins), None);
    // One order, two lines: the second is the backend's to hand out.
    let mut both = state(COINS, 1);
    both.items.extend(state(SWORD, 2).items);
    assert_eq!(duty(Provider::GooglePlay, &both), None);
    let mut books = Books::default();
    let due = books.settle(&both, ann(), 100);
    assert_eq!(due.entries.len(), 2);
    assert_eq!(due.deliveries[0].line, format!("t1/{SWORD}"));
    assert_eq!(due.deliveries[0].units, 2);
    books.deliveries[0].claimed_at = Some(now());
    let due = books.due(Provider::GooglePlay, &both, ann(), true, 100);
    assert_eq!(due.duties[0].duty, Duty::Consume);
}

#[test]
fn a_delivery_moves_until_it_is_claimed_and_is_revoked_with_its_purchase() {
    let mut books = Books::default();
    books.settle(&state(SWORD, 2), ann(), 100);
    assert_eq!(books.deliveries[0].account, ann());
    books.settle(&state(SWORD, 2), ben(), 100);
    assert_eq!(books.deliveries[0].account, ben());
    books.settle(&returned(state(SWORD, 2), Some(1)), ben(), 100);
    assert_eq!(
        (books.deliveries[0].units, books.deliveries[0].revoked_at),
        (1, None)
    );
    books.settle(&returned(state(SWORD, 2), None), ben(), 100);
    assert_eq!(books.deliveries[0].revoked_at, Some(now()));
    books.settle(&state(SWORD, 2), ben(), 100);
    assert_eq!(books.deliveries[0].revoked_at, None);
    books.deliveries[0].claimed_at = Some(now());
    books.settle(&state(SWORD, 2), ann(), 100);
    assert_eq!(
        books.deliveries[0].account,
        ben(),
        "handed out is handed out"
    );
    books.settle(&returned(state(SWORD, 2), Some(1)), ann(), 100);
    assert_eq!(books.deliveries[0].revoked_at, Some(now()));
    assert_eq!(books.deliveries[0].units, 2);
    assert!(books.entries.is_empty());
}

#[test]
fn only_what_is_bought_once_and_paid_leaves_nothing_to_read() {
    let coins = || state(COINS, 1);
    let with = |change: fn(&mut StoreState)| {
        let mut state = coins();
        change(&mut state);
        bought_once(&state)
    };
    let google = |state: &mut StoreState| state.head.provider = Provider::GooglePlay;
    let name = |store: &str, product: &str| format!("{store}/{product}");
    let apples = || vec![name("app_store", COINS)];
    assert_eq!(with(|_| {}), Some(apples()));
    assert_eq!(with(google), Some(vec![name("google_play", COINS)]));
    let two = with(|state| state.items.extend(super::tests::state(SWORD, 1).items));
    assert_eq!(
        two,
        Some([apples(), vec![name("app_store", SWORD)]].concat())
    );
    assert_eq!(
        bought_once(&returned(coins(), None)),
        Some(apples()),
        "taken back"
    );
    let awaits_payment = with(|state| state.items[0].state = ItemState::Pending);
    assert_eq!(awaits_payment, None, "is shown");
    let renews = with(|state| state.items[0].kind = ItemKind::Subscription);
    assert_eq!(renews, None, "is shown, whatever the catalog calls it");

    let used_up = used_up(&catalog(1));
    for store in ["app_store", "google_play"] {
        for product in [COINS, SWORD] {
            assert!(used_up.contains(&name(store, product)), "{used_up:?}");
        }
    }
    assert_eq!(used_up.len(), 4, "nothing that grants: {used_up:?}");
}
