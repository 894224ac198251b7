//! What is foreseen is what a claim then comes to; what counts as held already.

use chrono::{DateTime, TimeDelta};
use uuid::Uuid;

use super::*;
use crate::domain::catalog::TransferPolicy;
use crate::domain::catalog::tests::example;
use crate::domain::chain::{AppId, StoreProduct};
use crate::domain::entitlement::{Grant, derive};
use crate::domain::holding::Holding;
use crate::domain::ownership::{Owner, Rules};
use crate::domain::subscription::state::{ExpiryReason, Leniency, Offer, Renewal};
use crate::domain::subscription::store_state::{Item, ItemKind};

fn now() -> Instant {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
}

fn account(n: u128) -> AccountId {
    AccountId(Uuid::from_u128(n))
}

fn fresh() -> Possession {
    Possession::Signed {
        at: now(),
        shown_at: now(),
    }
}

fn owner(n: u128, provisional: bool) -> Owner {
    Owner {
        account: account(n),
        since: now() - TimeDelta::days(1),
        provisional_until: provisional.then(|| now() + TimeDelta::days(29)),
        transferred: false,
    }
}

fn case(owner: Option<Owner>, hint: Option<u128>) -> Case<'static> {
    Case {
        owner,
        detached_at: None,
        hint: hint.map(account),
        purchased_at: None,
        head: None,
        claims: &[],
        rules: Rules {
            policy: TransferPolicy::Keep,
            auto_bind: true,
            owner_is_anonymous: false,
        },
        active: true,
        moves: 0,
        now: now(),
    }
}

#[test]
fn what_is_foreseen_for_the_first_account() {
    let anonymous = |case: Case<'static>| Case {
        rules: Rules {
            owner_is_anonymous: true,
            ..case.rules
        },
        ..case
    };
    for (case, standing, effect) in [
        (case(None, None), Standing::New, Effect::Bind),
        (case(None, Some(1)), Standing::New, Effect::Bind),
        (case(None, Some(2)), Standing::OwnedByOther, Effect::Refuse),
        (
            case(Some(owner(1, true)), None),
            Standing::Yours,
            Effect::Confirm,
        ),
        (
            case(Some(owner(1, false)), Some(1)),
            Standing::Yours,
            Effect::Confirm,
        ),
        (
            case(Some(owner(2, false)), None),
            Standing::OwnedByOther,
            Effect::Refuse,
        ),
        (
            case(Some(owner(2, true)), Some(1)),
            Standing::OwnedByOther,
            Effect::Move,
        ),
        (
            anonymous(case(Some(owner(2, false)), None)),
            Standing::OwnedByOther,
            Effect::Move,
        ),
        (
            Case {
                moves: 3,
                ..anonymous(case(Some(owner(2, false)), None))
            },
            Standing::OwnedByOther,
            Effect::Refuse,
        ),
    ] {
        assert_eq!(
            foresee(&case, account(1), fresh()),
            (standing, effect),
            "{case:?}"
        );
    }
    // An id alone moves nothing.
    let moved = anonymous(case(Some(owner(2, false)), None));
    let named = foresee(&moved, account(1), Possession::Named);
    assert_eq!(named, (Standing::OwnedByOther, Effect::Refuse));
}

fn subscription(store: Provider, product: StoreProduct, state: ItemState) -> Holding {
    Holding {
        provider: store,
        app: AppId("example".into()),
        environment: Environment::Production,
        item: Item {
            key: "subscription".into(),
            product,
            kind: ItemKind::Subscription,
            state,
            offer: Offer::None,
            started_at: None,
            transaction_id: None,
            pending_product: None,
            family_shared: false,
            quantity: 1,
        },
        units: 1,
        former: false,
        store_away: false,
        unconfirmed_since: None,
        away_since: None,
        tester: false,
    }
}

fn held_of(holdings: &[Holding], grants: &[Grant], wanted: &[&str]) -> Vec<Held> {
    let snapshot = derive(&example(), holdings, grants, Leniency::default(), now());
    let wanted: Vec<String> = wanted.iter().map(|id| (*id).to_owned()).collect();
    held(&snapshot, &wanted, &example())
}

#[test]
fn whoever_pays_already_is_told_by_which_of_their_own_purchases() {
    let yearly = || StoreProduct::new("com.example.premium.yearly");
    let active = ItemState::Active {
        expires_at: now() + TimeDelta::days(9),
        renewal: Renewal::On,
    };
    let both = held_of(
        &[subscription(Provider::AppStore, yearly(), active.clone())],
        &[],
        &["pro_access", "export"],
    );
    let [held] = both.as_slice() else {
        panic!("{both:?}")
    };
    assert_eq!(
        (held.plan.as_str(), held.store),
        ("pro_yearly", Provider::AppStore)
    );
    assert_eq!(held.entitlements, ["export", "pro_access"]);
    assert_eq!(held.state, Some(active.clone()));
    assert!(held.will_renew);

    // Nothing of what is asked about.
    let other = [subscription(Provider::AppStore, yearly(), active)];
    assert!(held_of(&other, &[], &["storage"]).is_empty());
    // A gift is not paid for.
    let gift = Grant {
        entitlement: "pro_access".into(),
        expires_at: None,
    };
    assert!(held_of(&[], &[gift], &["pro_access"]).is_empty());
}

#[test]
fn what_comes_back_by_itself_counts_and_what_is_over_does_not() {
    let yearly = || StoreProduct::new("com.example.premium.yearly");
    for (state, counts) in [
        (ItemState::OnHold { since: now() }, true),
        (
            ItemState::Paused {
                since: now(),
                resumes_at: None,
            },
            true,
        ),
        (ItemState::Pending, true),
        (
            ItemState::Expired {
                at: now(),
                reason: ExpiryReason::Canceled,
            },
            false,
        ),
        (ItemState::Unknown { said: "?".into() }, false),
    ] {
        let holding = subscription(Provider::AppStore, yearly(), state.clone());
        let held = held_of(&[holding], &[], &["pro_access"]);
        assert_eq!(!held.is_empty(), counts, "{state:?}");
    }
}
