//! Google's JSON, as far as it is read. Unknown fields and words are tolerated, never interpreted.

mod order;
mod purchase;

use chrono::DateTime;
use serde::{Deserialize, Deserializer};

pub(crate) use self::order::{Order, OrderEvent, OrderLine, OrderOfferPhase, OrdersPage};
pub(crate) use self::purchase::{
    AccountIdentifiers, AutoRenewingPlan, OfferPhase, ProductLine, ProductOfferDetails,
    ProductPurchase, SubscriptionLine, SubscriptionPurchase,
};

use crate::domain::money::{Currency, Money};
use crate::domain::time::Instant;

/// What Pub/Sub pushes.
#[derive(Deserialize)]
pub(crate) struct PushEnvelope {
    pub(crate) message: PubsubMessage,
    /// `projects/P/subscriptions/S`.
    pub(crate) subscription: String,
}

/// Pub/Sub sends the id in both spellings.
#[derive(Deserialize)]
pub(crate) struct PubsubMessage {
    /// Standard base64.
    #[serde(default)]
    pub(crate) data: String,
    #[serde(rename = "messageId")]
    camel_id: Option<String>,
    #[serde(rename = "message_id")]
    snake_id: Option<String>,
}

impl PubsubMessage {
    pub(crate) fn id(&self) -> Option<&str> {
        let id = self.camel_id.as_deref().or(self.snake_id.as_deref());
        id.filter(|id| !id.is_empty())
    }
}

/// A real-time developer notification: exactly one of the five is there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeveloperNotification {
    pub(crate) package_name: String,
    #[serde(rename = "eventTimeMillis", deserialize_with = "millis")]
    pub(crate) event_time: Instant,
    pub(crate) subscription_notification: Option<SubscriptionNotification>,
    pub(crate) one_time_product_notification: Option<OneTimeProductNotification>,
    pub(crate) voided_purchase_notification: Option<VoidedPurchaseNotification>,
    pub(crate) test_notification: Option<serde::de::IgnoredAny>,
    pub(crate) pending_refund_review_notification: Option<RefundReviewNotification>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscriptionNotification {
    pub(crate) notification_type: i64,
    pub(crate) purchase_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OneTimeProductNotification {
    pub(crate) notification_type: i64,
    pub(crate) purchase_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VoidedPurchaseNotification {
    pub(crate) purchase_token: String,
    pub(crate) order_id: Option<String>,
    /// 1 full, 2 part of the quantity.
    pub(crate) refund_type: Option<i64>,
}

/// Names an order and no purchase.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RefundReviewNotification {
    pub(crate) pending_refund_token: String,
    pub(crate) order_id: String,
    /// 7 is a chargeback.
    pub(crate) refund_reason: Option<i64>,
}

/// `VoidedPurchasesListResponse`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VoidedPage {
    #[serde(default)]
    pub(crate) voided_purchases: Vec<serde_json::Value>,
    pub(crate) token_pagination: Option<TokenPagination>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenPagination {
    pub(crate) next_page_token: Option<String>,
}

/// `VoidedPurchase`: an order whose money went back together with what it had paid for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VoidedPurchase {
    pub(crate) purchase_token: String,
    pub(crate) order_id: Option<String>,
    #[serde(rename = "voidedTimeMillis", deserialize_with = "millis")]
    pub(crate) voided_time: Instant,
    pub(crate) voided_reason: Option<i64>,
    /// How many of several; absent for all.
    pub(crate) voided_quantity: Option<i64>,
}

/// `google.type.Money`: both parts are left out when zero.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireMoney {
    #[serde(default)]
    currency_code: String,
    #[serde(default, deserialize_with = "int64")]
    units: i64,
    #[serde(default)]
    nanos: i64,
}

impl WireMoney {
    pub(crate) fn money(&self) -> Option<Money> {
        let currency = Currency::parse(&self.currency_code)?;
        Money::from_units_and_nanos(self.units, self.nanos, currency)
    }
}

/// The body of every refusal.
#[derive(Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) error: ErrorDetails,
}

#[derive(Deserialize)]
pub(crate) struct ErrorDetails {
    #[serde(default)]
    pub(crate) errors: Vec<ErrorReason>,
    pub(crate) status: Option<String>,
    pub(crate) message: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct ErrorReason {
    #[serde(default)]
    pub(crate) reason: String,
}

/// 64-bit integers are strings in Google's JSON, and numbers in some of its documentation.
#[derive(Deserialize)]
#[serde(untagged)]
enum Int64 {
    Number(i64),
    Text(String),
}

fn int64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    match Int64::deserialize(deserializer)? {
        Int64::Number(number) => Ok(number),
        Int64::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Instant, D::Error> {
    let millis = int64(deserializer)?;
    DateTime::from_timestamp_millis(millis)
        .ok_or_else(|| serde::de::Error::custom("not a time in milliseconds"))
}
