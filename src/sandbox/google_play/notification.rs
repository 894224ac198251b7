//! Google's developer notifications, wrapped as Pub/Sub pushes them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::delivery::{DeliveryState, Notification, NotificationRecord, Source};
use super::super::setup::StoreSetup;
use super::purchase::Purchase;
use super::refund::Review;
use super::voided::Voided;

/// The Pub/Sub subscription that pushes.
pub(in crate::sandbox) const SUBSCRIPTION: &str =
    "projects/entitled-sandbox/subscriptions/play-notifications";

/// The only `refundReason` there is.
const CHARGEBACK: u8 = 7;

/// Subscription notification types. `PRICE_CHANGE_CONFIRMED` (8) is deprecated and never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) enum SubscriptionEvent {
    Recovered,
    Renewed,
    Canceled,
    Purchased,
    OnHold,
    InGracePeriod,
    Restarted,
    Deferred,
    Paused,
    PauseScheduleChanged,
    Revoked,
    Expired,
    ItemsChanged,
    CancellationScheduled,
    PriceChangeUpdated,
    PendingPurchaseCanceled,
    PriceStepUpConsentUpdated,
}

impl SubscriptionEvent {
    /// `notificationType`, and its name.
    const fn kind(self) -> (u8, &'static str) {
        match self {
            Self::Recovered => (1, "SUBSCRIPTION_RECOVERED"),
            Self::Renewed => (2, "SUBSCRIPTION_RENEWED"),
            Self::Canceled => (3, "SUBSCRIPTION_CANCELED"),
            Self::Purchased => (4, "SUBSCRIPTION_PURCHASED"),
            Self::OnHold => (5, "SUBSCRIPTION_ON_HOLD"),
            Self::InGracePeriod => (6, "SUBSCRIPTION_IN_GRACE_PERIOD"),
            Self::Restarted => (7, "SUBSCRIPTION_RESTARTED"),
            Self::Deferred => (9, "SUBSCRIPTION_DEFERRED"),
            Self::Paused => (10, "SUBSCRIPTION_PAUSED"),
            Self::PauseScheduleChanged => (11, "SUBSCRIPTION_PAUSE_SCHEDULE_CHANGED"),
            Self::Revoked => (12, "SUBSCRIPTION_REVOKED"),
            Self::Expired => (13, "SUBSCRIPTION_EXPIRED"),
            Self::ItemsChanged => (17, "SUBSCRIPTION_ITEMS_CHANGED"),
            Self::CancellationScheduled => (18, "SUBSCRIPTION_CANCELLATION_SCHEDULED"),
            Self::PriceChangeUpdated => (19, "SUBSCRIPTION_PRICE_CHANGE_UPDATED"),
            Self::PendingPurchaseCanceled => (20, "SUBSCRIPTION_PENDING_PURCHASE_CANCELED"),
            Self::PriceStepUpConsentUpdated => (22, "SUBSCRIPTION_PRICE_STEP_UP_CONSENT_UPDATED"),
        }
    }
}

impl From<SubscriptionEvent> for Signal {
    fn from(event: SubscriptionEvent) -> Self {
        Self::Subscription(event)
    }
}

/// Something that Google tells about a purchase.
#[derive(Clone, Debug)]
pub(in crate::sandbox) enum Signal {
    Subscription(SubscriptionEvent),
    /// A one-time product was bought.
    Purchased,
    /// The payment of a one-time product was given up.
    PendingCanceled,
    /// An order was refunded or charged back.
    Voided(Voided),
    /// A bank asks for the money of an order, and Google for the developer's word on it.
    RefundReview(Review),
}

impl Signal {
    fn name(&self) -> &'static str {
        match self {
            Self::Subscription(event) => event.kind().1,
            Self::Purchased => "ONE_TIME_PRODUCT_PURCHASED",
            Self::PendingCanceled => "ONE_TIME_PRODUCT_CANCELED",
            Self::Voided(_) => "VOIDED_PURCHASE",
            Self::RefundReview(_) => "PENDING_REFUND_REVIEW",
        }
    }

    /// The field of the notification and what stands in it.
    fn content(&self, purchase: &Purchase) -> (&'static str, Value) {
        let token = &purchase.token;
        let product = &purchase.product_id;
        let one_time = |kind: u8| {
            let content = json!({
                "version": "1.0",
                "notificationType": kind,
                "purchaseToken": token,
                "sku": product,
            });
            ("oneTimeProductNotification", content)
        };
        match self {
            Self::Subscription(event) => (
                "subscriptionNotification",
                json!({
                    "version": "1.0",
                    "notificationType": event.kind().0,
                    "purchaseToken": token,
                    "subscriptionId": product,
                }),
            ),
            Self::Purchased => one_time(1),
            Self::PendingCanceled => one_time(2),
            Self::Voided(voided) => (
                "voidedPurchaseNotification",
                json!({
                    "purchaseToken": token,
                    "orderId": voided.order_id,
                    "productType": if voided.subscription { 1 } else { 2 },
                    "refundType": if voided.quantity.is_some() { 2 } else { 1 },
                }),
            ),
            Self::RefundReview(review) => {
                let mut content = json!({
                    "version": "1.0",
                    "pendingRefundToken": review.token,
                    "orderId": review.order_id,
                    "refundReason": CHARGEBACK,
                });
                if let Some(account) = &purchase.obfuscated_account_id {
                    content["obfuscatedAccountId"] = json!(account);
                }
                if let Some(profile) = &purchase.obfuscated_profile_id {
                    content["obfuscatedProfileId"] = json!(profile);
                }
                ("pendingRefundReviewNotification", content)
            }
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
        sins: Vec::new(),
        attempts: Vec::new(),
        body,
    })
}
