//! What a pushed notification points at. It is a hint where to look, never the state itself.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::wire::{DeveloperNotification, PushEnvelope, VoidedPurchaseNotification};
use crate::domain::catalog::Catalog;
use crate::domain::chain::{Alias, AliasKind, AppId};
use crate::domain::provider::Provider;
use crate::domain::subscription::store_state::Evidence;
use crate::domain::time::Instant;
use crate::providers::contract::{Meaning, Reading, Signal};

/// An alias is indexed; genuine tokens are far shorter.
const TOKEN_BYTES_MAX: usize = 1024;
/// `refundType`: part of the quantity of a one-time product.
const REFUND_OF_QUANTITY: i64 = 2;

/// A notification, reduced to what is acted on.
pub(super) struct Notification {
    pub(super) package_name: String,
    pub(super) event_time: Instant,
    pub(super) kind: String,
    pub(super) subject: Subject,
}

pub(super) enum Subject {
    Purchase {
        token: String,
        void: Option<Evidence>,
    },
    Nothing {
        reason: &'static str,
    },
}

pub(super) fn read(body: &[u8], catalog: &Catalog) -> Reading {
    let notification = match unwrap(body).and_then(|data| decode(&data)) {
        Ok(notification) => notification,
        Err(reason) => return Reading::Unreadable { reason },
    };
    let Notification {
        package_name,
        event_time,
        kind,
        subject,
    } = notification;
    let Some(app) = catalog.app_by_package(&package_name) else {
        return Reading::Ignored {
            kind,
            reason: "unknown_app",
        };
    };
    match subject {
        Subject::Nothing { reason } => Reading::Ignored { kind, reason },
        Subject::Purchase { token, void } => Reading::Chain(Signal {
            meaning: Meaning::Informs,
            kind,
            alias: token_alias(app.id.clone(), token),
            evidence: void.into_iter().collect(),
            occurred_at: Some(event_time),
        }),
    }
}

pub(super) fn token_alias(app: AppId, token: String) -> Alias {
    Alias {
        provider: Provider::GooglePlay,
        app,
        kind: AliasKind::PurchaseToken,
        value: token,
    }
}

/// The notification inside a push.
pub(super) fn unwrap(body: &[u8]) -> Result<Vec<u8>, String> {
    let push: PushEnvelope =
        serde_json::from_slice(body).map_err(|_| "the body is not a Pub/Sub push".to_owned())?;
    STANDARD
        .decode(push.message.data)
        .map_err(|_| "the message's data is not base64".to_owned())
}

pub(super) fn decode(data: &[u8]) -> Result<Notification, String> {
    let wire: DeveloperNotification = serde_json::from_slice(data).map_err(|error| {
        // The text of a serde error may quote the document, and that holds purchase tokens.
        format!(
            "not a DeveloperNotification (line {}, column {})",
            error.line(),
            error.column()
        )
    })?;
    let event_time = wire.event_time;
    let mut found = Vec::with_capacity(1);
    if let Some(subscription) = wire.subscription_notification {
        let kind = subscription_kind(subscription.notification_type);
        let token = subscription.purchase_token;
        found.push((kind, Subject::Purchase { token, void: None }));
    }
    if let Some(product) = wire.one_time_product_notification {
        let kind = one_time_kind(product.notification_type);
        found.push((
            kind,
            Subject::Purchase {
                token: product.purchase_token,
                void: None,
            },
        ));
    }
    if let Some(voided) = wire.voided_purchase_notification {
        found.push(("VOIDED_PURCHASE".to_owned(), void(voided, event_time)));
    }
    if wire.test_notification.is_some() {
        found.push(("TEST".to_owned(), Subject::Nothing { reason: "test" }));
    }
    if wire.pending_refund_review_notification.is_some() {
        let subject = Subject::Nothing {
            reason: "refund_review",
        };
        found.push(("PENDING_REFUND_REVIEW".to_owned(), subject));
    }
    let count = found.len();
    let (Some((kind, subject)), 1) = (found.pop(), count) else {
        return Err(format!("{count} known notifications in one message, not 1"));
    };
    if let Subject::Purchase { token, .. } = &subject
        && !(1..=TOKEN_BYTES_MAX).contains(&token.len())
    {
        return Err(format!("the purchase token has {} characters", token.len()));
    }
    Ok(Notification {
        package_name: wire.package_name,
        event_time,
        kind,
        subject,
    })
}

fn void(voided: VoidedPurchaseNotification, at: Instant) -> Subject {
    let partial = voided.refund_type == Some(REFUND_OF_QUANTITY);
    let void = voided.order_id.map(|order_id| Evidence::Void {
        order_id,
        at,
        partial,
        chargeback: false,
    });
    Subject::Purchase {
        token: voided.purchase_token,
        void,
    }
}

fn subscription_kind(number: i64) -> String {
    let word = match number {
        1 => "RECOVERED",
        2 => "RENEWED",
        3 => "CANCELED",
        4 => "PURCHASED",
        5 => "ON_HOLD",
        6 => "IN_GRACE_PERIOD",
        7 => "RESTARTED",
        8 => "PRICE_CHANGE_CONFIRMED",
        9 => "DEFERRED",
        10 => "PAUSED",
        11 => "PAUSE_SCHEDULE_CHANGED",
        12 => "REVOKED",
        13 => "EXPIRED",
        17 => "ITEMS_CHANGED",
        18 => "CANCELLATION_SCHEDULED",
        19 => "PRICE_CHANGE_UPDATED",
        20 => "PENDING_PURCHASE_CANCELED",
        22 => "PRICE_STEP_UP_CONSENT_UPDATED",
        _ => return format!("SUBSCRIPTION_TYPE_{number}"),
    };
    format!("SUBSCRIPTION_{word}")
}

fn one_time_kind(number: i64) -> String {
    match number {
        1 => "ONE_TIME_PRODUCT_PURCHASED".to_owned(),
        2 => "ONE_TIME_PRODUCT_CANCELED".to_owned(),
        _ => format!("ONE_TIME_PRODUCT_TYPE_{number}"),
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn every_subscription_type_points_at_its_token() {
        let kinds = [
            (1, "SUBSCRIPTION_RECOVERED"),
            (2, "SUBSCRIPTION_RENEWED"),
            (4, "SUBSCRIPTION_PURCHASED"),
            (12, "SUBSCRIPTION_REVOKED"),
            (20, "SUBSCRIPTION_PENDING_PURCHASE_CANCELED"),
            (22, "SUBSCRIPTION_PRICE_STEP_UP_CONSENT_UPDATED"),
            (99, "SUBSCRIPTION_TYPE_99"),
        ];
        for (number, kind) in kinds {
            let content = json!({"version": "1.0", "notificationType": number,
                "purchaseToken": "the-token", "subscriptionId": "premium"});
            let signal = signal("subscriptionNotification", content);
            assert_eq!(signal.kind, kind);
            assert_eq!(
                signal.alias,
                token_alias(AppId("example-android".into()), "the-token".into())
            );
            assert_eq!(signal.evidence, vec![]);
            let at = signal.occurred_at.map(|at| at.timestamp_millis());
            assert_eq!(at, Some(1_760_000_000_123));
        }
        let content =
            json!({"version": "1.0", "notificationType": 2, "purchaseToken": "t", "sku": "x"});
        let signal = signal("oneTimeProductNotification", content);
        assert_eq!(signal.kind, "ONE_TIME_PRODUCT_CANCELED");
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
                chargeback: false,
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
        let review = json!({"version": "1.0", "orderId": "GPA.1", "refundReason": 7});
        let review = reading("pendingRefundReviewNotification", review);
        let kind = "PENDING_REFUND_REVIEW".into();
        assert_eq!(
            review,
            Reading::Ignored {
                kind,
                reason: "refund_review"
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
}
