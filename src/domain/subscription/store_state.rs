//! A provider's complete answer about one chain, in our words.

use serde::{Deserialize, Serialize};

use super::state::{ItemState, Offer};
use crate::domain::chain::{Alias, StoreProduct};
use crate::domain::money::Money;
use crate::domain::provider::Environment;
use crate::domain::time::Instant;

/// Everything a store says of one purchase chain at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoreState {
    pub(crate) environment: Environment,
    /// The store's own stamp (Apple: newest `signedDate`); where it gives none (Google), the
    /// business time at which it was asked. Orders answers; arrival never does.
    pub(crate) stamp: Instant,
    /// The id to ask for next time: the newest token, the original transaction id.
    pub(crate) head: Alias,
    /// Further ids that the answer gives for this chain.
    pub(crate) aliases: Vec<Alias>,
    /// Ids of what this purchase continues: linked or expired tokens, nearest first.
    pub(crate) predecessors: Vec<Alias>,
    /// The account token in the store's record, as the app passed it at purchase.
    pub(crate) account_token: Option<String>,
    /// When the chain's newest purchase (not renewal) was made; a hint older than a transfer is void.
    pub(crate) purchased_at: Option<Instant>,
    pub(crate) items: Vec<Item>,
    pub(crate) transactions: Vec<Transaction>,
    /// The store refunds the purchase unless it is acknowledged by then.
    pub(crate) acknowledge_by: Option<Instant>,
}

/// One thing bought: a subscription line or a one-time product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    /// Stable within the chain over renewals and product changes.
    pub(crate) key: String,
    pub(crate) product: StoreProduct,
    pub(crate) kind: ItemKind,
    pub(crate) state: ItemState,
    pub(crate) offer: Offer,
    /// Start of the current period, or the purchase.
    pub(crate) started_at: Option<Instant>,
    /// The paid transaction or order behind the current period: what a refund would name.
    pub(crate) transaction_id: Option<String>,
    /// What it becomes at the next renewal, if something else.
    pub(crate) pending_product: Option<StoreProduct>,
    pub(crate) family_shared: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ItemKind {
    Subscription,
    OneTime,
}

/// A charge or its return, as the store recorded it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transaction {
    pub(crate) transaction_id: String,
    pub(crate) product: StoreProduct,
    pub(crate) purchased_at: Instant,
    pub(crate) price: Option<Money>,
    pub(crate) revoked_at: Option<Instant>,
}

/// A fact that only a signal carries, kept with the transaction it is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub(crate) enum Evidence {
    /// Google: an order was voided (refund, chargeback, revocation).
    Void {
        order_id: String,
        at: Instant,
        partial: bool,
    },
}

impl Evidence {
    /// The transaction it is about: with the kind, its unique key within the chain.
    pub(crate) fn key(&self) -> (&'static str, &str) {
        match self {
            Self::Void { order_id, .. } => ("void", order_id),
        }
    }
}
