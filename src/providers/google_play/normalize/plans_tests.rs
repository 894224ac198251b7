//! Plans that are more than one renewing line: installments, changes to come, periods cut short.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::tests::{END, NOW, START, answer, at, state_of, subscription};
use super::*;
use crate::domain::chain::StoreProduct;
use crate::domain::subscription::state::{
    ExpiryReason, ItemState, Offer, Renewal, RevocationReason,
};
use crate::domain::subscription::store_state::{ChargeReason, RefundKind};

const ORDER: &str = "GPA.1111-2222..4";

fn read(word: &str, change: impl FnOnce(&mut Value)) -> StoreState {
    state_of(&[answer(SUBSCRIPTIONS, 200, &subscription(word, change))])
}

fn with_order(word: &str, change: impl FnOnce(&mut Value), order: &Value) -> StoreState {
    state_of(&[
        answer(SUBSCRIPTIONS, 200, &subscription(word, change)),
        answer(&format!("orders/{ORDER}"), 200, order),
    ])
}

fn order(state: &str) -> Value {
    json!({"orderId": ORDER, "state": state, "createTime": START, "lastEventTime": NOW,
        "total": {"currencyCode": "EUR", "units": "9"},
        "orderHistory": {"refundEvent": {"eventTime": NOW}},
        "lineItems": [{"productId": "premium", "subscriptionDetails": {
            "basePlanId": "premium-yearly", "offerPhaseDetails": {"freeTrialDetails": {}},
            "servicePeriodStartTime": START, "servicePeriodEndTime": END}}]})
}

fn renews(state: &StoreState) -> bool {
    matches!(
        state.items[0].state,
        ItemState::Active {
            renewal: Renewal::On,
            ..
        }
    )
}

#[test]
fn installments_renew_until_the_commitment_is_over() {
    let cases = [
        (json!({"initialCommittedPaymentsCount": 3}), true),
        (
            json!({"remainingCommittedPaymentsCount": 2, "pendingCancellation": {}}),
            true,
        ),
        (json!({"pendingCancellation": {}}), false),
    ];
    for (details, expected) in cases {
        let state = read("ACTIVE", |p| {
            p["lineItems"][0]["autoRenewingPlan"]["installmentDetails"] = details;
        });
        assert_eq!(renews(&state), expected);
    }
}

/// Another plan of the product waits for the end of the current one.
fn deferred(word: &str, renews: bool) -> StoreState {
    read(word, |p| {
        p["lineItems"][0]["deferredItemReplacement"] = json!({"productId": "premium"});
        p["lineItems"][0]["autoRenewingPlan"]["autoRenewEnabled"] = json!(false);
        let mut next = p["lineItems"][0].clone();
        next["expiryTime"] = Value::Null;
        next["deferredItemReplacement"] = Value::Null;
        next["autoRenewingPlan"]["autoRenewEnabled"] = json!(renews);
        next["offerDetails"]["basePlanId"] = json!("premium-monthly");
        p["lineItems"].as_array_mut().unwrap().push(next);
    })
}

#[test]
fn a_deferred_change_that_is_cancelled_never_begins() {
    let state = deferred("CANCELED", false);
    assert!(!renews(&state));
    assert_eq!(state.items.len(), 1);
    assert_eq!(state.items[0].pending_product, None);
}

#[test]
fn a_deferred_change_to_another_plan_of_the_product_goes_on() {
    let state = deferred("ACTIVE", true);
    assert_eq!(state.items.len(), 1);
    assert!(renews(&state), "the store charges for what comes next");
    let next = StoreProduct {
        product_id: "premium".into(),
        base_plan_id: Some("premium-monthly".into()),
    };
    assert_eq!(state.items[0].pending_product, Some(next));
    let both = read("ACTIVE", |p| {
        let mut second = p["lineItems"][0].clone();
        second["offerDetails"]["basePlanId"] = json!("premium-monthly");
        p["lineItems"].as_array_mut().unwrap().push(second);
    });
    let keys: Vec<_> = both.items.iter().map(|item| item.key.as_str()).collect();
    assert_eq!(keys, ["premium", "premium:premium-monthly"]);
}

#[test]
fn what_is_not_paid_continues_nothing() {
    let linked = |word: &str| {
        read(word, |p| {
            p["linkedPurchaseToken"] = json!("old");
            if word.contains("PENDING") {
                p["startTime"] = Value::Null;
            }
        })
    };
    for word in ["PENDING", "PENDING_PURCHASE_CANCELED"] {
        assert_eq!(linked(word).predecessors, vec![], "{word}");
    }
    for word in ["ACTIVE", "CANCELED", "EXPIRED", "ON_HOLD"] {
        assert_eq!(linked(word).predecessors.len(), 1, "{word}");
    }
}

#[test]
fn a_period_cut_short_by_a_refund_is_a_refund_whoever_told() {
    let ended = |state: &str, expiry: &str| {
        let expiry = json!(expiry);
        with_order(
            "EXPIRED",
            |p| p["lineItems"][0]["expiryTime"] = expiry,
            &order(state),
        )
    };
    let refunded = ItemState::Revoked {
        at: at("2026-01-15T00:00:00Z"),
        reason: RevocationReason::Refunded,
    };
    let cut = ended("REFUNDED", "2026-01-15T00:00:00Z");
    assert_eq!(cut.items[0].state, refunded);
    let charge = &cut.transactions[0];
    assert_eq!(charge.revoked_at, Some(at("2026-01-15T00:00:00Z")));
    assert_eq!(charge.refund.as_ref().unwrap().kind, RefundKind::Full);
    // The money went back, and the period ran to its end.
    let run_out = ended("REFUNDED", END);
    assert!(matches!(run_out.items[0].state, ItemState::Expired { .. }));
    assert_eq!(run_out.transactions[0].revoked_at, None);
    let canceled = ended("PROCESSED", "2026-01-15T00:00:00Z");
    assert!(matches!(canceled.items[0].state, ItemState::Expired { .. }));
    let running = with_order("ACTIVE", |_| {}, &order("REFUNDED"));
    assert!(matches!(running.items[0].state, ItemState::Active { .. }));
}

#[test]
fn an_order_tells_the_period_and_its_price() {
    let state = with_order(
        "IN_GRACE_PERIOD",
        |p| {
            p["lineItems"][0]["expiryTime"] = json!("2026-02-13T10:00:00Z");
        },
        &order("PROCESSED"),
    );
    let grace = ItemState::GracePeriod {
        expires_at: at(END),
        until: at("2026-02-13T10:00:00Z"),
    };
    assert_eq!(
        state.items[0].state, grace,
        "paid until then, granted until later"
    );
    let charge = &state.transactions[0];
    assert_eq!(charge.reason, ChargeReason::Renewal);
    assert_eq!(charge.expires_at, Some(at(END)));
    assert_eq!(charge.offer, Offer::FreeTrial);
    assert_eq!(charge.storefront.as_deref(), Some("DE"));
}

#[test]
fn prices_that_were_not_agreed_to_and_promotions_are_told() {
    let system = |plan: Value| {
        read("EXPIRED", |p| {
            p["canceledStateContext"] = json!({"systemInitiatedCancellation": {}});
            p["lineItems"][0]["autoRenewingPlan"] = plan;
        })
    };
    let change = |mode: &str, state: &str| json!({"priceChangeDetails": {"priceChangeMode": mode, "priceChangeState": state}});
    let cases = [
        (
            change("PRICE_INCREASE", "OUTSTANDING"),
            ExpiryReason::PriceIncreaseDeclined,
        ),
        (
            change("PRICE_INCREASE", "CANCELED"),
            ExpiryReason::PriceIncreaseDeclined,
        ),
        (
            change("PRICE_INCREASE", "APPLIED"),
            ExpiryReason::BillingError,
        ),
        (
            change("PRICE_DECREASE", "OUTSTANDING"),
            ExpiryReason::BillingError,
        ),
        (
            json!({"priceStepUpConsentDetails": {"state": "PENDING"}}),
            ExpiryReason::PriceIncreaseDeclined,
        ),
        (json!({}), ExpiryReason::BillingError),
    ];
    for (plan, expected) in cases {
        let told = format!("{plan}");
        let expired = ItemState::Expired {
            at: at(END),
            reason: expected,
        };
        assert_eq!(system(plan).items[0].state, expired, "{told}");
    }
    let promoted = |phase: Value| {
        let state = read("ACTIVE", |p| {
            p["lineItems"][0]["signupPromotion"] = json!({"oneTimeCode": {}});
            p["lineItems"][0]["offerPhase"] = phase;
        });
        state.items[0].offer
    };
    assert_eq!(promoted(json!({"freeTrial": {}})), Offer::FreeTrial);
    assert_eq!(
        promoted(json!({"introductoryPrice": {}})),
        Offer::Promotional
    );
    assert_eq!(promoted(json!({"basePrice": {}})), Offer::None);
    assert_eq!(promoted(Value::Null), Offer::Promotional);
}

#[test]
fn a_purchase_made_in_the_store_says_so_until_it_is_acknowledged() {
    let state = read("ACTIVE", |p| {
        p["externalAccountIdentifiers"] = Value::Null;
        p["outOfAppPurchaseContext"] = json!({"expiredPurchaseToken": "old",
            "expiredExternalAccountIdentifiers": {"obfuscatedExternalAccountId": "account-9"}});
    });
    assert!(state.out_of_app);
    assert_eq!(state.account_token.as_deref(), Some("account-9"));
    assert_eq!(state.predecessors.len(), 1);
    assert!(!read("ACTIVE", |_| {}).out_of_app);
}
