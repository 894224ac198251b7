//! The step of one chain: order of answers, absence of the store, owners and unknown products.

use chrono::DateTime;
use uuid::Uuid;

use super::*;
use crate::domain::catalog::tests::{EXAMPLE, example};
use crate::domain::chain::{Alias, AliasKind, AppId, StoreProduct};
use crate::domain::ids::CatalogVersion;
use crate::domain::ownership::Possession;
use crate::domain::provider::Environment;
use crate::domain::subscription::guard::with_evidence;
use crate::domain::subscription::state::{Offer, RevocationReason};
use crate::domain::subscription::store_state::{Evidence, ItemKind, VoidCause};

pub(crate) fn t(hours: i64) -> Instant {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::hours(hours)
}

pub(crate) fn state(stamp: i64, item_state: ItemState) -> StoreState {
    StoreState {
        environment: Environment::Production,
        stamp: t(stamp),
        head: Alias {
            provider: Provider::AppStore,
            app: AppId("example-ios".into()),
            kind: AliasKind::OriginalTransactionId,
            value: "1000".into(),
        },
        aliases: vec![],
        predecessors: vec![],
        account_token: None,
        purchased_at: Some(t(0)),
        items: vec![Item {
            key: "subscription".into(),
            product: StoreProduct::new("com.example.premium.monthly"),
            kind: ItemKind::Subscription,
            state: item_state,
            offer: Offer::None,
            started_at: Some(t(0)),
            transaction_id: Some("tx-1".into()),
            pending_product: None,
            family_shared: false,
            quantity: 1,
        }],
        transactions: vec![],
        acknowledge_by: None,
        bookmark: None,
        out_of_app: false,
        money_untold: false,
    }
}

pub(crate) fn active(until: i64) -> ItemState {
    ItemState::Active {
        expires_at: t(until),
        renewal: Renewal::On,
    }
}

fn claim(n: u128) -> OpenClaim {
    OpenClaim {
        id: ClaimId(Uuid::from_u128(n)),
        account: AccountId(Uuid::from_u128(n)),
        possession: Possession::Named,
        misnamed: false,
    }
}

fn step(now: i64, answer: Answer) -> Step {
    Step {
        source: SignalSource::Notification,
        now: t(now),
        answer,
        hint: None,
        claims: vec![],
        tokens: vec![],
        not_testers: Vec::new(),
        moves: 0,
        owner_is_anonymous: false,
        forgotten: false,
    }
}

fn run(book: &Book, step: &Step) -> Outcome {
    reconcile(
        Provider::AppStore,
        book,
        step,
        &[],
        &example(),
        Policy::default(),
    )
}

fn owned(until: i64) -> Book {
    let mut bind = step(0, Answer::Store(state(0, active(until))));
    bind.claims = vec![claim(1)];
    run(&Book::default(), &bind).book
}

#[test]
fn a_claim_is_decided_with_the_answer_that_confirms_it() {
    let mut bind = step(0, Answer::Store(state(0, active(100))));
    bind.claims = vec![claim(1), claim(2)];
    let outcome = run(&Book::default(), &bind);
    assert_eq!(outcome.decision, Decision::Apply(ApplyReason::Purchased));
    assert_eq!(
        outcome.book.owner.map(|o| o.account),
        Some(claim(1).account)
    );
    assert_eq!(outcome.verdicts[1].2, Verdict::OwnedByAnother);
    assert_eq!(
        outcome.next_check_at,
        Some(t(24)),
        "recheck_max before the period's end"
    );
}

#[test]
fn without_an_owner_the_answer_is_only_kept() {
    let outcome = run(
        &Book::default(),
        &step(0, Answer::Store(state(0, active(10)))),
    );
    assert_eq!(outcome.decision, Decision::MergeOnly(MergeReason::Unowned));
    assert_eq!(
        outcome.next_check_at, None,
        "an unowned chain is looked at on signals only"
    );
}

#[test]
fn every_order_of_answers_ends_in_the_newest() {
    let answers = [
        state(1, active(10)),
        state(10, active(20)),
        state(
            15,
            ItemState::Revoked {
                at: t(15),
                reason: RevocationReason::Refunded,
            },
        ),
    ];
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let mut book = owned(10);
        for n in order.into_iter().chain(order) {
            book = run(&book, &step(16, Answer::Store(answers[n].clone()))).book;
        }
        let known = book.known.expect("known");
        assert_eq!(
            known.state.items[0].state, answers[2].items[0].state,
            "{order:?}"
        );
    }
}

#[test]
fn an_older_answer_changes_nothing_and_a_repeated_one_merges() {
    let book = run(&owned(10), &step(10, Answer::Store(state(10, active(20))))).book;
    let older = run(&book, &step(11, Answer::Store(state(5, active(10)))));
    assert_eq!(older.decision, Decision::Skip(SkipReason::StaleAnswer));
    assert_eq!(older.book.known, book.known);
    assert_eq!(
        older.next_check_at,
        Some(t(11) + DOUBT_RECHECK),
        "it may be a clock that differs"
    );
    let same = run(&book, &step(11, Answer::Store(state(11, active(20)))));
    assert_eq!(same.decision, Decision::MergeOnly(MergeReason::Unchanged));
}

#[test]
fn a_contradiction_is_asked_again_before_it_is_believed() {
    let mut book = owned(20);
    for stamp in 1..=2 {
        let outcome = run(&book, &step(stamp, Answer::Store(state(stamp, active(10)))));
        assert_eq!(outcome.decision, Decision::Skip(SkipReason::Contradiction));
        assert_eq!(outcome.next_check_at, Some(t(stamp) + DOUBT_RECHECK));
        book = outcome.book;
    }
    let believed = run(&book, &step(3, Answer::Store(state(3, active(10)))));
    assert!(matches!(believed.decision, Decision::Apply(_)));
}

#[test]
fn the_environment_of_a_chain_never_changes() {
    let mut sandbox = state(5, active(90));
    sandbox.environment = Environment::Sandbox;
    let outcome = run(&owned(10), &step(5, Answer::Store(sandbox)));
    assert_eq!(
        outcome.decision,
        Decision::Skip(SkipReason::EnvironmentChanged)
    );
}

#[test]
fn while_the_store_is_away_a_proof_stands_in_and_the_store_confirms_it_later() {
    let mut bind = step(0, Answer::Proof(state(0, active(100))));
    bind.claims = vec![claim(1)];
    let outcome = run(&Book::default(), &bind);
    assert_eq!(
        outcome.decision,
        Decision::Apply(ApplyReason::ProofStandsIn)
    );
    assert_eq!(outcome.verdicts[0].2, Verdict::Won);
    let known = outcome.book.known.as_ref().expect("known");
    assert_eq!(known.unconfirmed_since, Some(t(0)));

    let confirmed = run(
        &outcome.book,
        &step(1, Answer::Store(state(1, active(100)))),
    );
    assert_eq!(confirmed.decision, Decision::Apply(ApplyReason::Confirmed));
    assert_eq!(confirmed.book.known.and_then(|k| k.unconfirmed_since), None);
    assert!(!confirmed.book.store_away);
}

#[test]
fn a_proof_adds_nothing_to_what_the_store_has_confirmed() {
    let book = owned(100);
    let mut proof = state(
        1,
        ItemState::Active {
            expires_at: t(100),
            renewal: Renewal::Off,
        },
    );
    proof.account_token = None;
    let outcome = run(&book, &step(1, Answer::Proof(proof)));
    assert_eq!(
        outcome.decision,
        Decision::MergeOnly(MergeReason::Unchanged)
    );
    assert_eq!(
        outcome.book.known, book.known,
        "renewal stays on, access confirmed"
    );
}

#[test]
fn a_claim_stays_open_while_the_store_is_away_and_falls_when_it_does_not_know() {
    let mut away = step(0, Answer::Away);
    away.claims = vec![claim(1)];
    assert!(run(&Book::default(), &away).verdicts.is_empty());
    let mut unknown = step(0, Answer::NotFound);
    unknown.claims = vec![claim(1)];
    assert_eq!(
        run(&Book::default(), &unknown).verdicts[0].2,
        Verdict::NotFound
    );
}

#[test]
fn an_unmapped_product_is_owned_and_grants_nothing() {
    let mut unknown = state(0, active(10));
    unknown.items[0].product = StoreProduct::new("com.example.surprise");
    unknown.acknowledge_by = Some(t(72));
    let mut bind = step(0, Answer::Store(unknown));
    bind.claims = vec![claim(1)];
    let outcome = run(&Book::default(), &bind);
    assert_eq!(
        outcome.decision,
        Decision::MergeOnly(MergeReason::UnmappedProduct)
    );
    assert_eq!(outcome.verdicts[0].2, Verdict::Won);
    assert_eq!(outcome.duties, [], "left to the store's refund");
}

#[test]
fn a_late_renewal_is_asked_for_with_growing_pauses() {
    let book = owned(10);
    let at_end = run(&book, &step(10, Answer::Store(state(10, active(10)))));
    assert_eq!(at_end.next_check_at, Some(t(10) + LATE_RENEWAL_RECHECK_MIN));
    let an_hour_late = run(&book, &step(11, Answer::Store(state(11, active(10)))));
    assert_eq!(
        an_hour_late.next_check_at,
        Some(t(11) + LATE_RENEWAL_RECHECK_MAX)
    );
}

#[test]
fn a_voided_order_ends_its_own_period_only() {
    let void = |order: &str| Evidence::Void {
        order_id: order.into(),
        at: t(5),
        partial: false,
        cause: VoidCause::Other,
    };
    let current = with_evidence(state(6, active(20)), &[void("tx-1")]);
    assert!(matches!(current.items[0].state, ItemState::Revoked { .. }));
    let older = with_evidence(state(6, active(20)), &[void("tx-0")]);
    assert_eq!(older.items[0].state, active(20));
}

#[test]
fn a_successor_is_taken_whatever_the_stamps_and_its_predecessor_never_returns() {
    let token = |value: &str| Alias {
        provider: Provider::GooglePlay,
        app: AppId("example-android".into()),
        kind: AliasKind::PurchaseToken,
        value: value.into(),
    };
    let mut old = state(5, active(90));
    old.head = token("old");
    let mut new = state(4, active(20));
    new.head = token("new");
    new.predecessors = vec![token("old")];

    let mut bind = step(5, Answer::Store(old.clone()));
    bind.claims = vec![claim(1)];
    let book = run(&Book::default(), &bind).book;
    let joined = run(&book, &step(6, Answer::Store(new)));
    assert!(
        matches!(joined.decision, Decision::Apply(_)),
        "{:?}",
        joined.decision
    );
    assert_eq!(
        joined.book.known.as_ref().map(|k| &k.state.head),
        Some(&token("new"))
    );

    old.stamp = t(9);
    let late = run(&joined.book, &step(9, Answer::Store(old)));
    assert_eq!(late.decision, Decision::Skip(SkipReason::StaleAnswer));
    assert_eq!(late.book.known, joined.book.known);
}

#[test]
fn a_refund_shows_as_one_even_where_the_store_says_expired() {
    let ended = ItemState::Expired {
        at: t(6),
        reason: ExpiryReason::Other,
    };
    let void = Evidence::Void {
        order_id: "tx-1".into(),
        at: t(5),
        partial: false,
        cause: VoidCause::Other,
    };
    let refunded = with_evidence(state(7, ended), &[void]);
    assert_eq!(
        refunded.items[0].state,
        ItemState::Revoked {
            at: t(5),
            reason: RevocationReason::Refunded
        }
    );
}

#[test]
fn lines_that_no_order_tells_of_were_charged_once() {
    let mut together = state(1, active(100));
    let line = together.items[0].clone();
    together.items.push(Item {
        key: "add-on".into(),
        ..line
    });
    together.transactions.clear();
    let charges = together.untold_charges();
    let ids: Vec<_> = charges.iter().map(|one| &*one.transaction_id).collect();
    assert_eq!(ids, ["tx-1"]);
}

#[test]
fn money_that_a_store_could_not_tell_is_asked_for_again_whoever_owns_it() {
    let untold = || StoreState {
        money_untold: true,
        ..state(1, active(100))
    };
    let soon = Some(t(1) + UNTOLD_MONEY_RECHECK_MIN);
    for book in [Book::default(), owned(100)] {
        let outcome = run(&book, &step(1, Answer::Store(untold())));
        assert_eq!(outcome.next_check_at, soon);
        let told = run(
            &outcome.book,
            &step(2, Answer::Store(state(2, active(100)))),
        );
        assert_ne!(told.next_check_at, Some(t(2) + UNTOLD_MONEY_RECHECK_MIN));
    }
    // The longer it lasts, the longer the pauses.
    let (first, second) = (
        StoreState {
            stamp: t(2),
            ..untold()
        },
        StoreState {
            stamp: t(3),
            ..untold()
        },
    );
    let book = run(&Book::default(), &step(1, Answer::Store(untold()))).book;
    let later = run(&book, &step(2, Answer::Store(first)));
    let much_later = run(&later.book, &step(3, Answer::Store(second)));
    let most = Policy::default().recheck_max;
    let pause = |n: i64| (t(n) - t(1)).clamp(UNTOLD_MONEY_RECHECK_MIN, most);
    assert_eq!(later.next_check_at, Some(t(2) + pause(2)));
    assert_eq!(much_later.next_check_at, Some(t(3) + pause(3)));
}

#[test]
fn a_sandbox_purchase_says_for_whom_it_is_nothing() {
    let text = format!("sandbox_access = \"testers\"\n{EXAMPLE}");
    let file = toml::from_str(&text).expect("the example parses");
    let catalog = Catalog::build(file, CatalogVersion(1)).expect("it is sound");
    let sandbox = || StoreState {
        environment: Environment::Sandbox,
        ..state(0, active(100))
    };
    let decided = |state: StoreState, not_testers: &[u128]| {
        let mut bind = step(0, Answer::Store(state));
        bind.claims = vec![claim(1)];
        bind.not_testers = not_testers.iter().map(|n| claim(*n).account).collect();
        let book = Book::default();
        let policy = Policy::default();
        reconcile(Provider::AppStore, &book, &bind, &[], &catalog, policy).decision
    };
    let nothing = Decision::MergeOnly(MergeReason::NotATester);
    assert_eq!(decided(sandbox(), &[1]), nothing);
    let bought = Decision::Apply(ApplyReason::Purchased);
    assert_eq!(decided(sandbox(), &[2]), bought);
    assert_eq!(decided(state(0, active(100)), &[1]), bought, "real money");
}
