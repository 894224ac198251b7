//! What a store is told of who owns a purchase.

use chrono::DateTime;
use uuid::Uuid;

use super::*;
use crate::domain::catalog::tests::example;
use crate::domain::chain::StoreProduct;
use crate::domain::ids::AccountId;
use crate::domain::reconcile::tests::{active, state as known};

const TOKEN: &str = "0f4c0d8e-0000-4000-8000-000000000001";

fn state() -> StoreState {
    known(0, active(100))
}

fn holder() -> Holder<'static> {
    Holder {
        owner: Owner::transferred(AccountId(Uuid::from_u128(1)), DateTime::UNIX_EPOCH),
        store_token: Some(TOKEN),
    }
}

fn named(provider: Provider, state: &StoreState) -> Vec<Duty> {
    let due = due(provider, holder(), state, &[], &example());
    due.into_iter().map(|due| due.duty).collect()
}

#[test]
fn only_a_running_nameless_purchase_of_ones_own_is_named_at_apple() {
    let set = vec![Duty::SetAccountToken {
        account_token: TOKEN.into(),
    }];
    let nameless = state();
    assert_eq!(named(Provider::AppStore, &nameless), set);

    let mut foreign = nameless.clone();
    foreign.account_token = Some("an adopter's own".into());
    let mut family = nameless.clone();
    family.items[0].family_shared = true;
    let mut unmapped = nameless.clone();
    unmapped.items[0].product = StoreProduct::new("com.example.unknown");
    let mut over = nameless.clone();
    over.items[0].state = ItemState::Revoked {
        at: DateTime::UNIX_EPOCH,
        reason: crate::domain::subscription::state::RevocationReason::Refunded,
    };
    for state in [foreign, family, unmapped, over] {
        assert_eq!(named(Provider::AppStore, &state), vec![]);
    }
    let unknown = Holder {
        store_token: None,
        ..holder()
    };
    let due = due(Provider::AppStore, unknown, &nameless, &[], &example());
    assert!(due.is_empty());
}

#[test]
fn google_is_told_with_the_acknowledgement() {
    let mut nameless = state();
    nameless.acknowledge_by = Some(DateTime::UNIX_EPOCH);
    nameless.items[0].product = StoreProduct {
        product_id: "premium".into(),
        base_plan_id: Some("premium-yearly".into()),
    };
    let mut outside = nameless.clone();
    outside.out_of_app = true;
    for (state, token) in [(outside, Some(TOKEN.to_owned())), (nameless, None)] {
        let acknowledge = Duty::Acknowledge {
            account_token: token,
        };
        assert_eq!(named(Provider::GooglePlay, &state), [acknowledge]);
    }
}

#[test]
fn each_question_about_one_transaction_is_a_duty_of_its_own() {
    let at = |hours| DateTime::UNIX_EPOCH + TimeDelta::hours(hours);
    let asked = |at, token: Option<&str>| Evidence::RefundRequest {
        transaction_id: "7".into(),
        at,
        reason: String::new(),
        token: token.map(str::to_owned),
    };
    let facts = [
        asked(at(0), None),
        asked(at(48), None),
        asked(at(0), Some("review-1")),
        asked(at(1), Some("review-2")),
        // Google says it again, later: the same review.
        asked(at(5), Some("review-2")),
    ];
    let keys: Vec<_> = facts.iter().map(|fact| fact.key().1.into_owned()).collect();
    assert_eq!(
        keys,
        [
            "7@0",
            "7@172800000",
            "7@review-1",
            "7@review-2",
            "7@review-2"
        ]
    );
    let duties = answers(state().environment, &facts, &example());
    let told: Vec<_> = duties.iter().map(|duty| duty.deadline).collect();
    assert_eq!(told, [at(12), at(60), at(24), at(25), at(29)]);
    for (duty, key) in duties.iter().zip(keys) {
        assert_eq!(duty.key(), key, "as its evidence");
        assert_eq!(duty.transaction_id, "7");
    }
    let nobody = Environment::Sandbox;
    let text = "sandbox_access = \"nobody\"\n[[apps]]\nid = \"a\"\nbundle_id = \"b\"";
    let file = toml::from_str(text).expect("parses");
    let catalog = Catalog::build(file, crate::domain::ids::CatalogVersion(1)).expect("sound");
    assert!(answers(nobody, &facts, &catalog).is_empty());
}
