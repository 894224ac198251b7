//! Every notification type, and what is made of it.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::domain::catalog::tests::example;
use serde_json::{Value, json};

fn push(notification: &Value) -> Vec<u8> {
    let data = STANDARD.encode(notification.to_string());
    json!({
        "message": {"data": data, "messageId": "1", "message_id": "1", "attributes": {}},
        "subscription": "projects/p/subscriptions/s",
    })
    .to_string()
    .into_bytes()
}

fn reading(field: &str, content: Value) -> Reading {
    let body = push(&json!({
        "version": "1.0",
        "packageName": "com.example.app",
        "eventTimeMillis": "1760000000123",
        field: content,
    }));
    read(&body, &example())
}

fn signal(field: &str, content: Value) -> Signal {
    let reading = reading(field, content);
    let Reading::Chain(signal) = reading else {
        panic!("{reading:?}")
    };
    signal
}

/// Every number of Google's reference, and some that it does not have.
#[test]
fn every_type_points_at_its_purchase_and_has_its_meaning() {
    use Meaning::*;
    let subscription = [
        (1, "RECOVERED", Reinstates),
        (2, "RENEWED", Extends),
        (3, "CANCELED", Schedules),
        (4, "PURCHASED", Grants),
        (5, "ON_HOLD", Ends),
        (6, "IN_GRACE_PERIOD", Extends),
        (7, "RESTARTED", Schedules),
        (8, "PRICE_CHANGE_CONFIRMED", Informs),
        (9, "DEFERRED", Extends),
        (10, "PAUSED", Ends),
        (11, "PAUSE_SCHEDULE_CHANGED", Schedules),
        (12, "REVOKED", Revokes),
        (13, "EXPIRED", Ends),
        (14, "TYPE_14", Unknown),
        (15, "TYPE_15", Unknown),
        (16, "TYPE_16", Unknown),
        (17, "ITEMS_CHANGED", SwitchesProduct),
        (18, "CANCELLATION_SCHEDULED", Schedules),
        (19, "PRICE_CHANGE_UPDATED", Informs),
        (20, "PENDING_PURCHASE_CANCELED", Ends),
        (21, "TYPE_21", Unknown),
        (22, "PRICE_STEP_UP_CONSENT_UPDATED", Informs),
        (0, "TYPE_0", Unknown),
        (-1, "TYPE_-1", Unknown),
        (i64::MAX, "TYPE_9223372036854775807", Unknown),
    ];
    let one_time = [
        (1, "PURCHASED", Grants),
        (2, "CANCELED", Ends),
        (3, "TYPE_3", Unknown),
    ];
    let families = [
        (
            "subscriptionNotification",
            "SUBSCRIPTION",
            &subscription[..],
        ),
        (
            "oneTimeProductNotification",
            "ONE_TIME_PRODUCT",
            &one_time[..],
        ),
    ];
    for (field, family, types) in families {
        for (number, word, meaning) in types {
            let content = json!({"version": "1.0", "notificationType": number,
                "purchaseToken": "the-token", "subscriptionId": "premium", "sku": "x",
                "somethingNew": {"purchaseToken": "another"}});
            let signal = signal(field, content);
            assert_eq!(signal.kind, format!("{family}_{word}"));
            assert_eq!(signal.meaning, *meaning, "{}", signal.kind);
            let app = AppId("example-android".into());
            assert_eq!(signal.alias, token_alias(app, "the-token".into()));
            assert_eq!(signal.evidence, vec![]);
            let at = signal.occurred_at.map(|at| at.timestamp_millis());
            assert_eq!(at, Some(1_760_000_000_123));
        }
    }
}

#[test]
fn a_refund_review_names_an_order_and_asks() {
    let cases = [
        (json!(7), "CHARGEBACK"),
        (json!(9), "REASON_9"),
        (Value::Null, "UNSPECIFIED"),
    ];
    for (number, reason) in cases {
        let content = json!({"version": "1.0", "orderId": "GPA.1..3", "refundReason": number,
            "pendingRefundToken": "say-so", "obfuscatedAccountId": "account-1"});
        let signal = signal("pendingRefundReviewNotification", content);
        assert_eq!(signal.kind, "PENDING_REFUND_REVIEW");
        assert_eq!(signal.meaning, Meaning::Asks);
        let app = AppId("example-android".into());
        assert_eq!(signal.alias, order_alias(app, "GPA.1"));
        let request = Evidence::RefundRequest {
            transaction_id: "GPA.1..3".into(),
            at: signal.occurred_at.unwrap(),
            reason: reason.into(),
            token: Some("say-so".into()),
        };
        assert_eq!(signal.evidence, vec![request]);
    }
}

#[test]
fn a_row_of_the_voided_list_is_read_like_its_notification() {
    let cases = [
        (Value::Null, json!(7), false, VoidCause::Chargeback),
        (Value::Null, json!(8), false, VoidCause::Unacknowledged),
        (Value::Null, json!(1), false, VoidCause::Other),
        (json!(2), Value::Null, true, VoidCause::Other),
    ];
    for (quantity, reason, partial, cause) in cases {
        let row = json!({"kind": "androidpublisher#voidedPurchase", "purchaseToken": "t",
            "orderId": "GPA.1..0", "purchaseTimeMillis": "1", "voidedTimeMillis": "1760000000123",
            "voidedSource": 0, "voidedReason": reason, "voidedQuantity": quantity});
        let body = json!({"packageName": "com.example.app", "voidedPurchase": row});
        let Reading::Chain(signal) = read(body.to_string().as_bytes(), &example()) else {
            panic!("a signal")
        };
        assert_eq!(
            (signal.kind.as_str(), signal.meaning),
            ("VOIDED_PURCHASE", Meaning::Revokes)
        );
        let at = signal.occurred_at.unwrap();
        let void = Evidence::Void {
            order_id: "GPA.1..0".into(),
            at,
            partial,
            cause,
        };
        assert_eq!(
            (signal.evidence, at.timestamp_millis()),
            (vec![void], 1_760_000_000_123)
        );
    }
    let body = json!({"packageName": "com.example.app", "voidedPurchase": {"secret": 1}});
    let broken = read(body.to_string().as_bytes(), &example());
    assert!(matches!(broken, Reading::Unreadable { .. }));
}

#[test]
fn a_void_carries_its_order_as_evidence() {
    for (refund_type, partial) in [(json!(1), false), (json!(2), true), (Value::Null, false)] {
        let content = json!({"purchaseToken": "t", "orderId": "GPA.1..0", "productType": 1,
            "refundType": refund_type});
        let signal = signal("voidedPurchaseNotification", content);
        let at = signal.occurred_at.unwrap();
        let void = Evidence::Void {
            order_id: "GPA.1..0".into(),
            at,
            partial,
            cause: VoidCause::Other,
        };
        assert_eq!(signal.evidence, vec![void]);
    }
}

#[test]
fn what_changes_nothing_is_ignored_with_a_reason() {
    let test = reading("testNotification", json!({"version": "1.0"}));
    assert_eq!(
        test,
        Reading::Ignored {
            kind: "TEST".into(),
            reason: "test"
        }
    );
    let foreign = push(
        &json!({"packageName": "com.example.other", "eventTimeMillis": 1,
        "testNotification": {}}),
    );
    let kind = "TEST".into();
    assert_eq!(
        read(&foreign, &example()),
        Reading::Ignored {
            kind,
            reason: "unknown_app"
        }
    );
}

#[test]
fn event_time_is_text_or_number() {
    for time in [json!("1760000000123"), json!(1_760_000_000_123_i64)] {
        let body = push(
            &json!({"packageName": "com.example.app", "eventTimeMillis": time,
            "subscriptionNotification": {"notificationType": 2, "purchaseToken": "t"}}),
        );
        assert!(matches!(read(&body, &example()), Reading::Chain(_)));
    }
}

#[test]
fn what_is_not_understood_is_unreadable_and_never_quoted() {
    let secret = "secret-token-of-someone";
    let two = json!({"packageName": "com.example.app", "eventTimeMillis": "1",
        "testNotification": {},
        "subscriptionNotification": {"notificationType": 2, "purchaseToken": secret}});
    let none = json!({"packageName": "com.example.app", "eventTimeMillis": "1",
        "surpriseNotification": {"purchaseToken": secret}});
    let untimed = json!({"packageName": "com.example.app", "eventTimeMillis": secret,
        "testNotification": {}});
    let long = json!({"packageName": "com.example.app", "eventTimeMillis": "1",
        "subscriptionNotification": {"notificationType": 2, "purchaseToken": "x".repeat(1025)}});
    let typed = json!({"packageName": "com.example.app", "eventTimeMillis": "1",
        "subscriptionNotification": {"notificationType": secret, "purchaseToken": secret}});
    let bodies = [
        push(&two),
        push(&none),
        push(&untimed),
        push(&long),
        push(&typed),
        push(&json!("text")),
        br#"{"message":{"data":"%%%","messageId":"1"},"subscription":"s"}"#.to_vec(),
        b"{}".to_vec(),
        b"".to_vec(),
    ];
    for body in bodies {
        let reading = read(&body, &example());
        let Reading::Unreadable { reason } = reading else {
            panic!("{reading:?}")
        };
        assert!(!reason.contains("secret"), "{reason}");
    }
}
