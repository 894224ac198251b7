//! Google's developer notifications, wrapped as Pub/Sub pushes them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::delivery::{DeliveryState, Notification, NotificationRecord, Source};
use super::super::setup::StoreSetup;
use super::purchase::Purchase;

/// The Pub/Sub subscription that pushes.
pub(in crate::sandbox) const SUBSCRIPTION: &str =
    "projects/entitled-sandbox/subscriptions/play-notifications";

/// Subscription notification types that the simulator sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) enum SubscriptionEvent {
    Recovered,
    Renewed,
    Canceled,
    Purchased,
    OnHold,
    InGracePeriod,
    Restarted,
    Revoked,
    Expired,
}

impl SubscriptionEvent {
    const fn number(self) -> u8 {
        match self {
            Self::Recovered => 1,
            Self::Renewed => 2,
            Self::Canceled => 3,
            Self::Purchased => 4,
            Self::OnHold => 5,
            Self::InGracePeriod => 6,
            Self::Restarted => 7,
            Self::Revoked => 12,
            Self::Expired => 13,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Recovered => "SUBSCRIPTION_RECOVERED",
            Self::Renewed => "SUBSCRIPTION_RENEWED",
            Self::Canceled => "SUBSCRIPTION_CANCELED",
            Self::Purchased => "SUBSCRIPTION_PURCHASED",
            Self::OnHold => "SUBSCRIPTION_ON_HOLD",
            Self::InGracePeriod => "SUBSCRIPTION_IN_GRACE_PERIOD",
            Self::Restarted => "SUBSCRIPTION_RESTARTED",
            Self::Revoked => "SUBSCRIPTION_REVOKED",
            Self::Expired => "SUBSCRIPTION_EXPIRED",
        }
    }
}

/// Something that Google tells about a purchase.
#[derive(Clone, Debug)]
pub(in crate::sandbox) enum Signal {
    Subscription(SubscriptionEvent),
    /// A one-time product was bought.
    Purchased,
    /// An order was refunded or charged back.
    Voided {
        order_id: String,
    },
}

impl Signal {
    fn name(&self) -> &'static str {
        match self {
            Self::Subscription(event) => event.name(),
            Self::Purchased => "ONE_TIME_PRODUCT_PURCHASED",
            Self::Voided { .. } => "VOIDED_PURCHASE",
        }
    }

    /// The field of the notification and what stands in it.
    fn content(&self, purchase: &Purchase) -> (&'static str, Value) {
        let token = &purchase.token;
        let product = &purchase.product_id;
        match self {
            Self::Subscription(event) => (
                "subscriptionNotification",
                json!({
                    "version": "1.0",
                    "notificationType": event.number(),
                    "purchaseToken": token,
                    "subscriptionId": product,
                }),
            ),
            Self::Purchased => (
                "oneTimeProductNotification",
                json!({"version": "1.0", "notificationType": 1, "purchaseToken": token, "sku": product}),
            ),
            Self::Voided { order_id } => (
                "voidedPurchaseNotification",
                json!({
                    "purchaseToken": token,
                    "orderId": order_id,
                    "productType": if purchase.subscription().is_some() { 1 } else { 2 },
                    "refundType": 1,
                }),
            ),
        }
    }
}

/// A notification about a purchase, ready for the outbox.
pub(super) fn about(
    purchase: &Purchase,
    signal: &Signal,
    setup: &StoreSetup,
    message_id: String,
    stamp: DateTime<Utc>,
    created_at: DateTime<Utc>,
) -> Notification {
    let (field, content) = signal.content(purchase);
    let body = body(setup, (field, &content), &message_id, stamp);
    record(
        message_id,
        signal.name(),
        Some(purchase.token.clone()),
        created_at,
        body,
    )
}

/// Google's test notification.
pub(super) fn test(
    setup: &StoreSetup,
    message_id: String,
    stamp: DateTime<Utc>,
    created_at: DateTime<Utc>,
) -> Notification {
    let content = json!({"version": "1.0"});
    let body = body(setup, ("testNotification", &content), &message_id, stamp);
    record(message_id, "TEST", None, created_at, body)
}

fn body(
    setup: &StoreSetup,
    (field, content): (&str, &Value),
    message_id: &str,
    stamp: DateTime<Utc>,
) -> String {
    let mut notification = json!({
        "version": "1.0",
        "packageName": setup.package_name,
        // A string: that is what is really sent, whatever the reference says.
        "eventTimeMillis": stamp.timestamp_millis().to_string(),
    });
    notification[field] = content.clone();
    let published = stamp.to_rfc3339_opts(SecondsFormat::Millis, true);
    json!({
        "message": {
            "data": STANDARD.encode(notification.to_string()),
            "attributes": {},
            "messageId": message_id,
            "message_id": message_id,
            "publishTime": published,
            "publish_time": published,
        },
        "subscription": SUBSCRIPTION,
    })
    .to_string()
}

fn record(
    id: String,
    kind: &str,
    purchase: Option<String>,
    created_at: DateTime<Utc>,
    body: String,
) -> Notification {
    Notification::new(NotificationRecord {
        id,
        source: Source::GooglePlay,
        notification_type: kind.to_owned(),
        subtype: None,
        purchase,
        created_at,
        state: DeliveryState::Pending,
        attempts: Vec::new(),
        body,
    })
}
