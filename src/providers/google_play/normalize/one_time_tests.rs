//! One-time products and orders in our words.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::tests::{END, NOW, START, answer, at, state_of, subscription};
use super::*;
use crate::domain::provider::Environment;
use crate::domain::subscription::state::{ExpiryReason, ItemState, RevocationReason};
use crate::domain::subscription::store_state::{ItemKind, StoreState};

fn product(state: &str, change: impl FnOnce(&mut Value)) -> StoreState {
    let mut purchase = json!({
        "kind": "androidpublisher#productPurchaseV2", "orderId": "GPA.9",
        "purchaseStateContext": {"purchaseState": state}, "purchaseCompletionTime": START,
        "acknowledgementState": "ACKNOWLEDGEMENT_STATE_PENDING",
        "obfuscatedExternalAccountId": "account-1",
        "productLineItem": [{"productId": "lifetime", "productOfferDetails": {"quantity": 1}}],
    });
    change(&mut purchase);
    state_of(&[
        answer(SUBSCRIPTIONS, 404, &json!({})),
        answer(PRODUCTS, 200, &purchase),
        answer("orders/GPA.9", 200, &order("REFUNDED")),
    ])
}

fn order(state: &str) -> Value {
    json!({
        "orderId": "GPA.9", "state": state, "createTime": START, "lastEventTime": END,
        "total": {"currencyCode": "EUR", "units": "16", "nanos": 990_000_000},
        "orderHistory": {"refundEvent": {"eventTime": NOW, "refundReason": "OTHER"}},
        "lineItems": [{"productId": "lifetime", "total": {"currencyCode": "EUR", "units": "16"}}],
    })
}

#[test]
fn every_one_time_state_has_its_item_state() {
    let absent = |p: &mut Value| p["purchaseCompletionTime"] = Value::Null;
    let cases = [
        (
            product("PURCHASED", |_| {}),
            ItemState::Owned { since: at(START) },
        ),
        (product("PENDING", absent), ItemState::Pending),
        (
            product("CANCELLED", |_| {}),
            ItemState::Revoked {
                at: at(NOW),
                reason: RevocationReason::Refunded,
            },
        ),
        (
            product("CANCELLED", absent),
            ItemState::Expired {
                at: at(NOW),
                reason: ExpiryReason::NeverPaid,
            },
        ),
        (
            product("CANCELED", |_| {}),
            ItemState::Unknown {
                said: "CANCELED".into(),
            },
        ),
        (
            product("PURCHASED", |p| {
                p["productLineItem"][0]["productOfferDetails"]["rentOfferDetails"] = json!({});
            }),
            ItemState::Unknown {
                said: "PURCHASED as a rental".into(),
            },
        ),
    ];
    for (state, expected) in cases {
        assert_eq!(state.items[0].state, expected);
        assert_eq!(state.items[0].kind, ItemKind::OneTime);
        let owned = matches!(expected, ItemState::Owned { .. });
        assert_eq!(state.acknowledge_by.is_some(), owned, "{expected:?}");
    }
    let test = product("PURCHASED", |p| {
        p["testPurchaseContext"] = json!({"fopType": "TEST"})
    });
    assert_eq!(test.environment, Environment::Sandbox);
    assert_eq!(test.acknowledge_by, Some(at("2026-01-10T10:05:00Z")));
    assert_eq!(test.account_token.as_deref(), Some("account-1"));
}

#[test]
fn orders_tell_what_was_paid_and_when_it_was_returned() {
    let cases = [
        ("REFUNDED", Some(NOW)),
        ("CANCELED", Some(NOW)),
        ("PROCESSED", None),
        ("PARTIALLY_REFUNDED", None),
        ("PENDING_REFUND", None),
    ];
    for (word, returned) in cases {
        let purchase = answer(SUBSCRIPTIONS, 200, &subscription("ACTIVE", |_| {}));
        let state = state_of(&[
            purchase,
            answer("orders/GPA.9", 200, &order(word)),
            answer("orders/GPA.8", 404, &json!({})),
        ]);
        assert_eq!(state.transactions.len(), 1);
        let transaction = &state.transactions[0];
        assert_eq!(
            transaction.price.map(|price| price.micros()),
            Some(16_990_000)
        );
        assert_eq!(transaction.revoked_at, returned.map(at), "{word}");
    }
}
