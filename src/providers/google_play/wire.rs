//! Google's JSON, as far as it is read. Unknown fields and words are tolerated, never interpreted.

use chrono::DateTime;
use serde::{Deserialize, Deserializer};

use crate::domain::money::{Currency, Money};
use crate::domain::time::Instant;

/// What Pub/Sub pushes.
#[derive(Deserialize)]
pub(super) struct PushEnvelope {
    pub(super) message: PubsubMessage,
    /// `projects/P/subscriptions/S`.
    pub(super) subscription: String,
}

/// Pub/Sub sends the id in both spellings.
#[derive(Deserialize)]
pub(super) struct PubsubMessage {
    /// Standard base64.
    #[serde(default)]
    pub(super) data: String,
    #[serde(rename = "messageId")]
    camel_id: Option<String>,
    #[serde(rename = "message_id")]
    snake_id: Option<String>,
}

impl PubsubMessage {
    pub(super) fn id(&self) -> Option<&str> {
        let id = self.camel_id.as_deref().or(self.snake_id.as_deref());
        id.filter(|id| !id.is_empty())
    }
}

/// A real-time developer notification: exactly one of the five is there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeveloperNotification {
    pub(super) package_name: String,
    #[serde(rename = "eventTimeMillis", deserialize_with = "millis")]
    pub(super) event_time: Instant,
    pub(super) subscription_notification: Option<SubscriptionNotification>,
    pub(super) one_time_product_notification: Option<OneTimeProductNotification>,
    pub(super) voided_purchase_notification: Option<VoidedPurchaseNotification>,
    pub(super) test_notification: Option<serde::de::IgnoredAny>,
    pub(super) pending_refund_review_notification: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SubscriptionNotification {
    pub(super) notification_type: i64,
    pub(super) purchase_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OneTimeProductNotification {
    pub(super) notification_type: i64,
    pub(super) purchase_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VoidedPurchaseNotification {
    pub(super) purchase_token: String,
    pub(super) order_id: Option<String>,
    /// 1 full, 2 part of the quantity.
    pub(super) refund_type: Option<i64>,
}

/// `SubscriptionPurchaseV2`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SubscriptionPurchase {
    #[serde(default)]
    pub(super) subscription_state: String,
    pub(super) start_time: Option<Instant>,
    #[serde(default)]
    pub(super) acknowledgement_state: String,
    pub(super) linked_purchase_token: Option<String>,
    pub(super) canceled_state_context: Option<CanceledStateContext>,
    pub(super) paused_state_context: Option<PausedStateContext>,
    pub(super) external_account_identifiers: Option<AccountIdentifiers>,
    pub(super) out_of_app_purchase_context: Option<OutOfAppPurchaseContext>,
    pub(super) test_purchase: Option<serde::de::IgnoredAny>,
    /// Deprecated but still sent; in grace it names the order that failed.
    pub(super) latest_order_id: Option<String>,
    #[serde(default)]
    pub(super) line_items: Vec<SubscriptionLine>,
}

impl SubscriptionPurchase {
    /// The tokens that this one continues, nearest first: after a change or re-signup, or after a
    /// resubscription in the store.
    pub(super) fn continues(&self) -> impl Iterator<Item = &str> {
        let expired = self.out_of_app_purchase_context.as_ref();
        let expired = expired.and_then(|context| context.expired_purchase_token.as_deref());
        [self.linked_purchase_token.as_deref(), expired]
            .into_iter()
            .flatten()
            .filter(|token| !token.is_empty())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CanceledStateContext {
    pub(super) user_initiated_cancellation: Option<UserInitiatedCancellation>,
    pub(super) system_initiated_cancellation: Option<serde::de::IgnoredAny>,
    pub(super) replacement_cancellation: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserInitiatedCancellation {
    pub(super) cancel_time: Option<Instant>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PausedStateContext {
    pub(super) auto_resume_time: Option<Instant>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AccountIdentifiers {
    pub(super) obfuscated_external_account_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OutOfAppPurchaseContext {
    pub(super) expired_external_account_identifiers: Option<AccountIdentifiers>,
    pub(super) expired_purchase_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SubscriptionLine {
    pub(super) product_id: String,
    pub(super) expiry_time: Option<Instant>,
    pub(super) latest_successful_order_id: Option<String>,
    pub(super) auto_renewing_plan: Option<AutoRenewingPlan>,
    pub(super) prepaid_plan: Option<serde::de::IgnoredAny>,
    pub(super) offer_details: Option<OfferDetails>,
    pub(super) offer_phase: Option<OfferPhase>,
    pub(super) deferred_item_replacement: Option<DeferredItemReplacement>,
    pub(super) deferred_item_removal: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AutoRenewingPlan {
    #[serde(default)]
    pub(super) auto_renew_enabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OfferDetails {
    pub(super) base_plan_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OfferPhase {
    pub(super) free_trial: Option<serde::de::IgnoredAny>,
    pub(super) introductory_price: Option<serde::de::IgnoredAny>,
    pub(super) proration_period: Option<ProrationPeriod>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProrationPeriod {
    #[serde(default)]
    pub(super) original_offer_phase_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeferredItemReplacement {
    pub(super) product_id: Option<String>,
}

/// `ProductPurchaseV2`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProductPurchase {
    pub(super) order_id: Option<String>,
    pub(super) purchase_state_context: Option<PurchaseStateContext>,
    pub(super) purchase_completion_time: Option<Instant>,
    #[serde(default)]
    pub(super) acknowledgement_state: String,
    pub(super) obfuscated_external_account_id: Option<String>,
    pub(super) test_purchase_context: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    pub(super) product_line_item: Vec<ProductLine>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PurchaseStateContext {
    #[serde(default)]
    pub(super) purchase_state: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProductLine {
    pub(super) product_id: String,
    pub(super) product_offer_details: Option<ProductOfferDetails>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProductOfferDetails {
    pub(super) offer_id: Option<String>,
    pub(super) rent_offer_details: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Order {
    pub(super) order_id: String,
    #[serde(default)]
    pub(super) state: String,
    pub(super) create_time: Option<Instant>,
    pub(super) last_event_time: Option<Instant>,
    pub(super) total: Option<WireMoney>,
    pub(super) order_history: Option<OrderHistory>,
    #[serde(default)]
    pub(super) line_items: Vec<OrderLine>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OrderHistory {
    pub(super) refund_event: Option<OrderEvent>,
    pub(super) cancellation_event: Option<OrderEvent>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OrderEvent {
    pub(super) event_time: Option<Instant>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OrderLine {
    pub(super) product_id: String,
    pub(super) subscription_details: Option<OrderSubscriptionDetails>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OrderSubscriptionDetails {
    pub(super) base_plan_id: Option<String>,
}

/// `google.type.Money`: both parts are left out when zero.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireMoney {
    #[serde(default)]
    currency_code: String,
    #[serde(default, deserialize_with = "int64")]
    units: i64,
    #[serde(default)]
    nanos: i64,
}

impl WireMoney {
    pub(super) fn money(&self) -> Option<Money> {
        let currency = Currency::parse(&self.currency_code)?;
        Money::from_units_and_nanos(self.units, self.nanos, currency)
    }
}

/// The body of every refusal.
#[derive(Deserialize)]
pub(super) struct ErrorBody {
    pub(super) error: ErrorDetails,
}

#[derive(Deserialize)]
pub(super) struct ErrorDetails {
    #[serde(default)]
    pub(super) errors: Vec<ErrorReason>,
    pub(super) status: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct ErrorReason {
    #[serde(default)]
    pub(super) reason: String,
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
