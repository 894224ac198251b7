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
