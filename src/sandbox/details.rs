//! What a person who looks at a purchase wants to see besides where it stands.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::app_store::Billing;
use super::delivery::Store;
use super::state::World;
use super::truth::PurchaseTruth;

/// How a purchase came to where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Details {
    /// Whether charges succeed; subscriptions only.
    pub(super) billing: Option<Billing>,
    /// Start of the period that ends at `expires_at`; subscriptions only.
    pub(super) period_start: Option<DateTime<Utc>>,
    /// Whether it lasts for a period and not for good.
    pub(super) subscription: bool,
    /// What has been arranged for later, or waits for somebody.
    pub(super) ahead: Vec<Ahead>,
    /// Family members that share it.
    pub(super) members: Vec<String>,
    /// Every charge, oldest first.
    pub(super) transactions: Vec<Receipt>,
}

/// Something that has been arranged for later, or waits for somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum Ahead {
    /// The next period is one of another product.
    OtherProduct { product_id: String },
    /// An item ends with its period.
    Removal { product_id: String },
    /// The price changes; the customer may have been asked.
    NewPrice { answer_awaited: bool },
    /// The customer is asked whether the full price may follow an offer.
    FullPrice,
    /// A pause begins with the end of the period.
    Pause,
    /// It is paid ahead, and can be topped up.
    Prepaid,
    /// So many payments are owed whatever the customer wants.
    Commitment { payments: u32 },
    /// The customer has asked for a refund of this transaction.
    RefundRequest { transaction_id: String },
    /// A charge-back of this order is under review.
    ChargeBack { order_id: String },
}

/// One charge: Apple's transaction, or Google's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Receipt {
    /// Transaction id, or order id.
    pub(super) id: String,
    pub(super) product_id: String,
    pub(super) at: DateTime<Utc>,
    /// End of what it pays; subscriptions only.
    pub(super) until: Option<DateTime<Utc>>,
    /// In millionths of the currency's major unit.
    pub(super) price_micros: i64,
    pub(super) currency: String,
    pub(super) refunded_at: Option<DateTime<Utc>>,
    /// What is special about it.
    pub(super) note: Option<&'static str>,
}

impl Details {
    pub(super) fn of(world: &World, truth: &PurchaseTruth) -> Self {
        let found = match truth.store {
            Store::AppStore => {
                let chain = world.app_store.chains.get(&truth.id);
                chain.map(|chain| chain.details(&world.app_store))
            }
            Store::GooglePlay => {
                let purchase = world.google_play.purchases.get(&truth.id);
                purchase.map(|purchase| purchase.details())
            }
        };
        found.unwrap_or_default()
    }
}
