//! The simulated App Store: what customers own, what happens to it, and what Apple says about it.
//!
//! ```text
//! action ─▶ operations ─▶ chain (lifecycle, plan, refund, family, …) ─▶ settle ─▶ notifications
//!                                      clockwork: play ─┘                └─▶ family members' chains
//! ```

mod action;
pub(super) mod api;
mod auth;
mod chain;
mod commitment;
mod details;
mod developer;
pub(super) mod extension;
mod family;
mod lifecycle;
mod notification;
mod ocsp;
mod offers;
mod operations;
mod payload;
mod plan;
mod price;
mod purchase;
mod refund;
mod settle;
mod shelf;
mod transaction;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::remembering::Remembering;

use super::ids::Ids;
use super::setup::StoreSetup;
pub use action::{
    AppStoreAction, AppStoreBuy, BillingPlan, ExtendReason, ExternalPurchaseKind, RefundReason,
};
pub(super) use auth::LastToken;
pub(super) use chain::Chain;
use extension::MassExtensionResult;
pub use ocsp::OcspAnswer;
pub use offers::{Offer, OfferKind, OfferPayment};
use shelf::{Changes, Shelf};
pub(super) use transaction::{RevocationKind, Transaction};

/// What the buyer's device holds after a purchase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStorePurchase {
    /// Id of this transaction.
    pub transaction_id: String,
    /// Id of the chain it belongs to.
    pub original_transaction_id: String,
    /// The signed transaction as StoreKit hands it to the app.
    pub signed_transaction: String,
    /// The order, as on the customer's receipt e-mail; a family member gets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
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
    pub(super) chains: Remembering<Chain>,
    /// Every transaction id, to the chain it belongs to.
    chain_of: BTreeMap<String, String>,
    /// Apple accounts by name.
    customers: BTreeMap<String, Customer>,
    /// `appTransactionId`, to the name of the customer.
    customer_of: BTreeMap<String, String>,
    /// Order id, to the transactions that were ordered.
    orders: BTreeMap<String, Vec<String>>,
    /// Changes of transactions so far.
    revision: u64,
    changes: Changes,
    /// Extensions for all subscribers, by the developer's name for the request.
    mass_extensions: BTreeMap<String, MassExtensionResult>,
    /// Tokens for purchases outside the App Store, with their time of birth.
    external_tokens: BTreeMap<String, DateTime<Utc>>,
}

/// An Apple account, as far as it has to do with the app.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Customer {
    pub(super) app_transaction_id: String,
    /// When the app was first downloaded.
    pub(super) since: DateTime<Utc>,
    /// Original transaction ids, oldest first.
    pub(super) chains: Vec<String>,
}

impl AppStore {
    /// The chain that a transaction belongs to.
    pub(super) fn chain_by_transaction(&self, transaction_id: &str) -> Option<&Chain> {
        self.chains.get(self.chain_of.get(transaction_id)?)
    }

    /// The customer that a transaction id, original or not, or an `appTransactionId` belongs to.
    pub(super) fn customer_by_any(&self, id: &str) -> Option<&str> {
        match self.chain_by_transaction(id) {
            Some(chain) => Some(&chain.customer),
            None => self.customer_of.get(id).map(String::as_str),
        }
    }

    /// Whether the id is an `appTransactionId`.
    pub(super) fn is_app_transaction(&self, id: &str) -> bool {
        self.customer_of.contains_key(id)
    }

    /// What is known of a customer.
    pub(super) fn customer(&self, name: &str) -> Option<&Customer> {
        self.customers.get(name)
    }

    /// All chains of a customer, oldest first.
    pub(super) fn chains_of<'a>(&'a self, customer: &str) -> impl Iterator<Item = &'a Chain> {
        let ids = self.customers.get(customer).map(|known| &known.chains);
        ids.into_iter()
            .flatten()
            .filter_map(|id| self.chains.get(id))
    }

    /// Ids of the transactions that an order on a receipt is for.
    pub(super) fn transactions_of_order(&self, order_id: &str) -> &[String] {
        self.orders.get(order_id).map_or(&[], Vec::as_slice)
    }

    /// What became of an extension for all subscribers.
    pub(super) fn mass_extension(&self, request_identifier: &str) -> Option<&MassExtensionResult> {
        self.mass_extensions.get(request_identifier)
    }

    /// The products as they are sold now.
    pub(super) fn shelf<'a>(&'a self, setup: &'a StoreSetup) -> Shelf<'a> {
        Shelf::new(setup, &self.changes)
    }

    fn transaction_mut(&mut self, transaction_id: &str) -> Option<&mut Transaction> {
        let chain = self.chain_of.get(transaction_id)?;
        self.chains.get_mut(chain)?.transaction_mut(transaction_id)
    }

    /// The customer of that name, known from now on.
    fn customer_mut(&mut self, name: &str, ids: &mut Ids, now: DateTime<Utc>) -> &mut Customer {
        let by_app_transaction = &mut self.customer_of;
        self.customers.entry(name.to_owned()).or_insert_with(|| {
            let app_transaction_id = ids.number("70", 18);
            by_app_transaction.insert(app_transaction_id.clone(), name.to_owned());
            Customer {
                app_transaction_id,
                since: now,
                chains: Vec::new(),
            }
        })
    }
}

/// Something that Apple tells about a chain.
#[derive(Clone, Debug)]
pub(super) struct Signal {
    pub(super) kind: &'static str,
    pub(super) subtype: Option<&'static str>,
    /// The transaction it is about.
    pub(super) transaction_id: String,
    /// Why the customer wants a refund; only where Apple asks about the consumption.
    pub(super) consumption_reason: Option<RefundReason>,
}

impl Signal {
    fn about(transaction_id: String, kind: &'static str, subtype: Option<&'static str>) -> Self {
        Self {
            kind,
            subtype,
            transaction_id,
            consumption_reason: None,
        }
    }
}
