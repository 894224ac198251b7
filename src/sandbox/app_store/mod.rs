//! The simulated App Store: what customers own, what happens to it, and what Apple says about it.

mod action;
pub(super) mod api;
mod auth;
mod details;
mod lifecycle;
mod ocsp;
mod operations;
mod payload;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::period::Period;
pub use action::{
    AppStoreAction, AppStoreBuy, BillingPlan, ExtendReason, ExternalPurchaseKind, Offer, OfferKind,
    OfferPayment, RefundReason,
};
pub(super) use lifecycle::Chain;
pub use ocsp::OcspAnswer;

/// What the buyer's device holds after a purchase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStorePurchase {
    /// Id of this transaction.
    pub transaction_id: String,
    /// Id of the chain it belongs to.
    pub original_transaction_id: String,
    /// The signed transaction as StoreKit hands it to the app.
    pub signed_transaction: String,
}

/// Whether the customer's means of payment works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Billing {
    /// Charges succeed; a failed one is made good at once.
    Works,
    /// Charges fail from now on.
    Fails,
}

/// Everything that Apple knows.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct AppStore {
    /// By original transaction id.
    pub(super) chains: BTreeMap<String, Chain>,
    /// Every transaction id, to the chain it belongs to.
    pub(super) chain_of: BTreeMap<String, String>,
    /// `appTransactionId` of each customer.
    pub(super) customers: BTreeMap<String, String>,
}

impl AppStore {
    /// The chain that a transaction belongs to.
    pub(super) fn chain_by_transaction(&self, transaction_id: &str) -> Option<&Chain> {
        self.chains.get(self.chain_of.get(transaction_id)?)
    }

    /// The customer that a transaction id, original or not, or an `appTransactionId` belongs to.
    pub(super) fn customer_by_any(&self, id: &str) -> Option<&str> {
        if let Some(chain) = self.chain_by_transaction(id) {
            return Some(&chain.customer);
        }
        self.customers
            .iter()
            .find(|(_, app_transaction_id)| *app_transaction_id == id)
            .map(|(customer, _)| customer.as_str())
    }

    /// All chains of a customer.
    pub(super) fn chains_of<'a>(&'a self, customer: &'a str) -> impl Iterator<Item = &'a Chain> {
        self.chains
            .values()
            .filter(move |chain| chain.customer == customer)
    }
}

/// One purchase, renewal or one-time charge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Transaction {
    pub(super) id: String,
    pub(super) web_order_line_item_id: Option<String>,
    pub(super) product_id: String,
    pub(super) purchased_at: DateTime<Utc>,
    /// End of the period that was paid; subscriptions only.
    pub(super) expires_at: Option<DateTime<Utc>>,
    pub(super) price_milliunits: i64,
    pub(super) currency: String,
    pub(super) trial: Option<Period>,
    pub(super) renewal: bool,
    pub(super) revoked_at: Option<DateTime<Utc>>,
    /// Superseded by an upgrade.
    pub(super) upgraded: bool,
}

/// Something that Apple tells about a chain.
#[derive(Clone, Debug)]
pub(super) struct Signal {
    pub(super) kind: &'static str,
    pub(super) subtype: Option<&'static str>,
    /// The transaction it is about.
    pub(super) transaction_id: String,
}
