//! One-time products and orders in our words.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::tests::{END, NOW, START, answer, at, state_of, subscription};
use super::*;
use crate::domain::money::Money;
use crate::domain::provider::Environment;
use crate::domain::subscription::guard::with_evidence;
use crate::domain::subscription::state::{ExpiryReason, ItemState, RevocationReason};
use crate::domain::subscription::store_state::{
    Evidence, ItemKind, RefundKind, StoreState, VoidCause,
};

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
        "tax": {"currencyCode": "EUR", "units": "2", "nanos": 710_000_000},
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
fn orders_tell_what_was_paid_and_what_was_returned() {
    let partial = |p: &mut Value| {
        p["orderHistory"] = json!({"partialRefundEvents": [
            {"createTime": START, "processTime": START, "state": "PROCESSED_SUCCESSFULLY",
             "refundDetails": {"total": {"currencyCode": "EUR", "units": "2"}}},
            {"createTime": NOW, "processTime": NOW, "state": "PROCESSED_SUCCESSFULLY",
             "refundDetails": {"total": {"currencyCode": "EUR", "nanos": 500_000_000}}},
            {"createTime": NOW, "state": "PENDING",
             "refundDetails": {"total": {"currencyCode": "EUR", "units": "9"}}}]});
    };
    let charged_back = |p: &mut Value| {
        p["orderHistory"]["refundEvent"]["refundReason"] = json!("CHARGEBACK");
    };
    type Change = fn(&mut Value);
    let none: Change = |_| {};
    let refund = |kind, micros| Some((kind, Some(micros)));
    let cases: [(&str, Change, _); 7] = [
        ("REFUNDED", none, Some(refund(RefundKind::Full, 16_990_000))),
        (
            "REFUNDED",
            charged_back,
            Some(refund(RefundKind::Chargeback, 16_990_000)),
        ),
        ("PROCESSED", none, Some(None)),
        (
            "PARTIALLY_REFUNDED",
            partial,
            Some(refund(RefundKind::Partial, 2_500_000)),
        ),
        ("PENDING_REFUND", none, Some(None)),
        // No money moved.
        ("CANCELED", none, None),
        ("PENDING", none, None),
    ];
    for (word, change, expected) in cases {
        let mut order = order(word);
        change(&mut order);
        let state = state_of(&[
            answer(SUBSCRIPTIONS, 200, &subscription("ACTIVE", |_| {})),
            answer("orders/GPA.9", 200, &order),
            answer("orders/GPA.8", 404, &json!({})),
            answer("orders/GPA.7", 200, &json!({"lineItems": "nonsense"})),
        ]);
        let told = state.transactions.first().map(|transaction| {
            assert_eq!(transaction.price.map(Money::micros), Some(16_990_000));
            assert_eq!(transaction.tax.map(Money::micros), Some(2_710_000));
            assert_eq!(transaction.storefront.as_deref(), Some("DE"));
            assert_eq!(transaction.revoked_at, None, "money, not access");
            let refund = transaction.refund.as_ref();
            refund.map(|refund| (refund.kind, refund.amount.map(Money::micros)))
        });
        assert_eq!(told, expected, "{word}");
    }
}

#[test]
fn pieces_are_counted_even_without_the_order() {
    let bought = |details: Value| {
        let mut state = product("PURCHASED", |p| {
            p["orderId"] = json!("GPA.unreadable");
            p["productLineItem"][0]["productOfferDetails"] = details;
        });
        (state.items.remove(0), state.transactions.remove(0))
    };
    let (item, transaction) = bought(json!({"quantity": 5, "refundableQuantity": 3,
        "consumptionState": "CONSUMPTION_STATE_YET_TO_BE_CONSUMED"}));
    assert_eq!((item.quantity, transaction.quantity), (5, 5));
    assert_eq!(item.transaction_id.as_deref(), Some("GPA.unreadable"));
    let refund = transaction.refund.clone().unwrap();
    assert_eq!(
        (refund.kind, refund.quantity),
        (RefundKind::Partial, Some(2))
    );
    assert_eq!((transaction.units_held(), transaction.consumed), (3, false));
    assert_eq!(transaction.price, None);
    let (_, used) = bought(json!({"consumptionState": "CONSUMPTION_STATE_CONSUMED"}));
    assert_eq!(
        (used.quantity, used.units_held(), used.consumed),
        (1, 1, true)
    );
    // The money went back without the goods.
    let (item, kept) = bought(json!({"quantity": 5, "refundableQuantity": 0}));
    assert!(matches!(item.state, ItemState::Owned { .. }));
    assert_eq!(kept.units_held(), 5);
    let odd = bought(json!({"quantity": -3, "refundableQuantity": -1}));
    assert_eq!((odd.1.quantity, odd.1.units_held()), (1, 1));
}

#[test]
fn a_refunded_product_is_returned_with_its_money_and_a_gift_has_no_order() {
    let refunded = product("CANCELLED", |_| {}).transactions.remove(0);
    assert_eq!(
        (refunded.revoked_at, refunded.units_held()),
        (Some(at(NOW)), 0)
    );
    assert_eq!(refunded.refund.unwrap().kind, RefundKind::Full);
    let gift = product("PURCHASED", |p| p["orderId"] = Value::Null);
    let id = &gift.transactions[0].transaction_id;
    assert!(id.starts_with("gift-") && !id.contains("head"), "{id}");
    assert_eq!(gift.items[0].transaction_id.as_ref(), Some(id));
    let unpaid = product("PENDING", |p| p["purchaseCompletionTime"] = Value::Null);
    assert_eq!(unpaid.transactions, vec![]);
    let two = product("PURCHASED", |p| {
        let lines = p["productLineItem"].as_array_mut().unwrap();
        lines.push(json!({"productId": "coins", "productOfferDetails": {"quantity": 2}}));
    });
    let ids: Vec<_> = two
        .transactions
        .iter()
        .map(|t| t.transaction_id.as_str())
        .collect();
    assert_eq!(ids, ["GPA.9", "GPA.9/lifetime"]);
}

/// A cart of two products, as Google may list it, with its order.
fn cart(listed: [&str; 2], state: &str, order: Value, gems: Value) -> StoreState {
    let line = |product: &&str| {
        let details = match *product {
            "gems" => gems.clone(),
            _ => json!({"quantity": 1}),
        };
        json!({"productId": product, "productOfferDetails": details})
    };
    let purchase = json!({
        "orderId": "GPA.9", "purchaseStateContext": {"purchaseState": state},
        "purchaseCompletionTime": START, "acknowledgementState": "ACKNOWLEDGEMENT_STATE_PENDING",
        "productLineItem": listed.iter().map(line).collect::<Vec<_>>(),
    });
    state_of(&[
        answer(SUBSCRIPTIONS, 404, &json!({})),
        answer(PRODUCTS, 200, &purchase),
        answer("orders/GPA.9", 200, &order),
    ])
}

/// Coins for 1.00, gems for 2.00.
fn order_of_cart(state: &str) -> Value {
    let euros = |units: &str| json!({"currencyCode": "EUR", "units": units});
    json!({
        "orderId": "GPA.9", "state": state, "createTime": START, "lastEventTime": END,
        "total": euros("3"), "orderHistory": {"refundEvent": {"eventTime": NOW}},
        "lineItems": [{"productId": "gems", "total": euros("2")},
                      {"productId": "coins", "total": euros("1")}],
    })
}

const LISTINGS: [[&str; 2]; 2] = [["coins", "gems"], ["gems", "coins"]];

#[test]
fn lines_have_their_names_however_google_lists_them() {
    let bought = LISTINGS.map(|listed| {
        let order = order_of_cart("PROCESSED");
        cart(listed, "PURCHASED", order, json!({"quantity": 2}))
    });
    assert_eq!(bought[0], bought[1]);
    let [state, _] = bought;
    let charged: Vec<_> = state
        .transactions
        .iter()
        .map(|charge| {
            let price = charge.price.map(Money::micros);
            (charge.transaction_id.as_str(), charge.quantity, price)
        })
        .collect();
    assert_eq!(
        charged,
        [
            ("GPA.9", 1, Some(1_000_000)),
            ("GPA.9/gems", 2, Some(2_000_000))
        ]
    );
}

#[test]
fn money_of_a_cart_goes_back_once() {
    let partly = |amount: &str| {
        let mut order = order_of_cart("PARTIALLY_REFUNDED");
        order["orderHistory"] = json!({"partialRefundEvents": [
            {"processTime": NOW, "state": "PROCESSED_SUCCESSFULLY",
             "refundDetails": {"total": {"currencyCode": "EUR", "units": amount}}}]});
        order
    };
    let bought = json!({"quantity": 2});
    let one_left = json!({"quantity": 2, "refundableQuantity": 1});
    let full = |micros| Some((RefundKind::Full, Some(micros), None));
    let part = |micros, pieces| Some((RefundKind::Partial, micros, pieces));
    let cases = [
        // What happened; what went back of the coins, and of the gems.
        (
            "CANCELLED",
            order_of_cart("REFUNDED"),
            &bought,
            [full(1_000_000), full(2_000_000)],
        ),
        // Money without the goods.
        (
            "PURCHASED",
            order_of_cart("REFUNDED"),
            &bought,
            [full(1_000_000), full(2_000_000)],
        ),
        (
            "PURCHASED",
            partly("1"),
            &bought,
            [part(Some(1_000_000), None), None],
        ),
        (
            "PURCHASED",
            partly("1"),
            &one_left,
            [part(Some(1_000_000), None), part(None, Some(1))],
        ),
        (
            "CANCELLED",
            partly("3"),
            &bought,
            [part(Some(3_000_000), None), part(None, None)],
        ),
    ];
    for (word, order, gems, expected) in cases {
        for listed in LISTINGS {
            let state = cart(listed, word, order.clone(), gems.clone());
            let told = state.transactions.iter().map(|charge| {
                let refund = charge.refund.as_ref()?;
                let amount = refund.amount_of(charge.price).map(Money::micros);
                Some((refund.kind, amount, refund.quantity))
            });
            assert_eq!(told.collect::<Vec<_>>(), expected, "{word} {order}");
        }
    }
}

#[test]
fn a_void_reaches_every_line_of_its_order_and_no_other_order() {
    for (order, reached) in [("GPA.9", true), ("GPA.", false), ("GPA.99", false)] {
        let void = Evidence::Void {
            order_id: order.into(),
            at: at(NOW),
            partial: false,
            cause: VoidCause::Other,
        };
        let bought = cart(
            ["coins", "gems"],
            "PURCHASED",
            order_of_cart("PROCESSED"),
            json!({"quantity": 2}),
        );
        let state = with_evidence(bought, &[void]);
        for (item, charge) in state.items.iter().zip(&state.transactions) {
            assert_eq!(item.state.is_ended(), reached, "{order} {}", item.key);
            assert_eq!(charge.units_held() == 0, reached, "{order} {}", item.key);
            assert_eq!(charge.refund.is_some(), reached, "{order} {}", item.key);
        }
    }
}
