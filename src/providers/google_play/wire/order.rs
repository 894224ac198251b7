//! `Order`: what was charged for a purchase, and what went back.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::WireMoney;
use crate::domain::time::Instant;

/// The answer to `orders.batchget`.
#[derive(Deserialize)]
pub(crate) struct OrdersPage {
    #[serde(default)]
    pub(crate) orders: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Order {
    pub(crate) order_id: String,
    pub(crate) purchase_token: Option<String>,
    #[serde(default)]
    pub(crate) state: String,
    pub(crate) create_time: Option<Instant>,
    pub(crate) last_event_time: Option<Instant>,
    pub(crate) total: Option<WireMoney>,
    pub(crate) tax: Option<WireMoney>,
    #[serde(default)]
    pub(crate) order_history: OrderHistory,
    #[serde(default)]
    pub(crate) line_items: Vec<OrderLine>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderHistory {
    pub(crate) cancellation_event: Option<OrderEvent>,
    pub(crate) refund_event: Option<OrderEvent>,
    #[serde(default)]
    pub(crate) partial_refund_events: Vec<OrderRefund>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderEvent {
    pub(crate) event_time: Option<Instant>,
    /// `OTHER` or `CHARGEBACK`; refunds only.
    #[serde(default)]
    pub(crate) refund_reason: String,
}

/// A refund of a part of the money.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderRefund {
    pub(crate) create_time: Option<Instant>,
    pub(crate) process_time: Option<Instant>,
    #[serde(default)]
    pub(crate) state: String,
    pub(crate) refund_details: Option<RefundDetails>,
}

#[derive(Deserialize)]
pub(crate) struct RefundDetails {
    pub(crate) total: Option<WireMoney>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderLine {
    pub(crate) product_id: String,
    pub(crate) total: Option<WireMoney>,
    pub(crate) tax: Option<WireMoney>,
    pub(crate) subscription_details: Option<SubscriptionDetails>,
    pub(crate) one_time_purchase_details: Option<OneTimeDetails>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscriptionDetails {
    pub(crate) base_plan_id: Option<String>,
    pub(crate) offer_phase_details: Option<OrderOfferPhase>,
    pub(crate) service_period_start_time: Option<Instant>,
    pub(crate) service_period_end_time: Option<Instant>,
}

#[derive(Deserialize)]
pub(crate) struct OneTimeDetails {
    pub(crate) quantity: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderOfferPhase {
    pub(crate) free_trial_details: Option<IgnoredAny>,
    pub(crate) introductory_price_details: Option<IgnoredAny>,
}
