//! A provider's complete answer about one chain, in our words.

use std::borrow::Cow;

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
    /// How far the store's history of this purchase has been read (Apple: `revision`): the next
    /// read asks for what changed since, and `transactions` holds only that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bookmark: Option<String>,
    /// Google: bought in the store after the subscription had lapsed, so that the app could not
    /// name its account; acknowledging does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) out_of_app: bool,
    /// The purchase could be read and what was paid for it could not (Google: its orders): it is
    /// asked for again until it is told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) money_untold: bool,
}

impl StoreState {
    /// Charges that the items name and no transaction tells of (an order that could not be read):
    /// without money, so that what was bought is not forgotten. Items that were charged together are
    /// one charge, of the first.
    pub(crate) fn untold_charges(&self) -> Vec<Transaction> {
        let untold = |item: &Item| {
            let id = item.transaction_id.as_ref()?;
            let paid = !matches!(item.state, ItemState::Pending | ItemState::Unknown { .. });
            let told = self
                .transactions
                .iter()
                .any(|transaction| transaction.transaction_id == *id);
            let at = item.started_at.or(self.purchased_at).unwrap_or(self.stamp);
            (paid && !told).then(|| Transaction {
                expires_at: item
                    .state
                    .expires_at()
                    .filter(|_| item.kind == ItemKind::Subscription),
                quantity: item.quantity,
                offer: item.offer,
                family_shared: item.family_shared,
                revoked_at: match item.state {
                    ItemState::Revoked { at, .. } => Some(at),
                    ItemState::Active { .. }
                    | ItemState::GracePeriod { .. }
                    | ItemState::OnHold { .. }
                    | ItemState::Paused { .. }
                    | ItemState::Pending
                    | ItemState::Expired { .. }
                    | ItemState::Owned { .. }
                    | ItemState::Unknown { .. } => None,
                },
                ..Transaction::new(id.clone(), item.product.clone(), at)
            })
        };
        let mut charges: Vec<Transaction> = Vec::new();
        for charge in self.items.iter().filter_map(untold) {
            let id = &charge.transaction_id;
            if charges.iter().all(|other| other.transaction_id != *id) {
                charges.push(charge);
            }
        }
        charges
    }
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
    /// Units bought: 1 but for one-time products sold by the piece.
    #[serde(default = "one")]
    pub(crate) quantity: u32,
}

fn one() -> u32 {
    1
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ItemKind {
    Subscription,
    OneTime,
}

/// A charge, with what became of it, as the store recorded it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transaction {
    /// Apple: the transaction id. Google: the order id, or the purchase token's own name where
    /// there is no order (promotions).
    pub(crate) transaction_id: String,
    pub(crate) product: StoreProduct,
    #[serde(default)]
    pub(crate) reason: ChargeReason,
    pub(crate) purchased_at: Instant,
    /// End of the period it paid for; `None` for what has none.
    #[serde(default)]
    pub(crate) expires_at: Option<Instant>,
    #[serde(default = "one")]
    pub(crate) quantity: u32,
    /// In the buyer's currency, for all units, tax included where the store includes it.
    pub(crate) price: Option<Money>,
    /// Part of `price`, where the store tells it.
    #[serde(default)]
    pub(crate) tax: Option<Money>,
    /// The country that it was bought in, as the store writes it: ISO 3166-1 alpha-3 (App Store),
    /// alpha-2 (Google Play).
    #[serde(default)]
    pub(crate) storefront: Option<String>,
    #[serde(default)]
    pub(crate) offer: Offer,
    #[serde(default)]
    pub(crate) family_shared: bool,
    /// Units that the store says are used up (Google: consumed).
    #[serde(default)]
    pub(crate) consumed: bool,
    /// When the store took it back: what it paid for is gone.
    pub(crate) revoked_at: Option<Instant>,
    /// Money that went back, with or without revocation.
    #[serde(default)]
    pub(crate) refund: Option<Refund>,
}

impl Transaction {
    /// One unit, without money; the rest is set by name.
    pub(crate) fn new(
        transaction_id: impl Into<String>,
        product: StoreProduct,
        purchased_at: Instant,
    ) -> Self {
        Self {
            transaction_id: transaction_id.into(),
            product,
            reason: ChargeReason::Purchase,
            purchased_at,
            expires_at: None,
            quantity: 1,
            price: None,
            tax: None,
            storefront: None,
            offer: Offer::None,
            family_shared: false,
            consumed: false,
            revoked_at: None,
            refund: None,
        }
    }

    /// Units that are paid for and not taken back: what a consumable is credited for.
    pub(crate) fn units_held(&self) -> u32 {
        match (&self.refund, self.revoked_at) {
            (
                Some(Refund {
                    quantity: Some(returned),
                    ..
                }),
                _,
            ) => self.quantity.saturating_sub(*returned),
            (_, Some(_)) => 0,
            (Some(_) | None, None) => self.quantity,
        }
    }
}

/// Why the store charged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ChargeReason {
    /// The customer bought, upgraded or topped up.
    #[default]
    Purchase,
    /// The store renewed by itself.
    Renewal,
}

impl ChargeReason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Purchase => "purchase",
            Self::Renewal => "renewal",
        }
    }
}

/// Money that went back to the customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refund {
    pub(crate) at: Instant,
    pub(crate) kind: RefundKind,
    /// What went back, where the store tells it; a part of the price where it gives a share.
    pub(crate) amount: Option<Money>,
    /// Units taken back, where it is by the piece; `None`: all or none, as `revoked_at` says.
    pub(crate) quantity: Option<u32>,
}

impl Refund {
    /// What went back of `price`, as far as that can be told.
    pub(crate) fn amount_of(&self, price: Option<Money>) -> Option<Money> {
        match self.kind {
            RefundKind::Full | RefundKind::Chargeback | RefundKind::Unacknowledged => {
                self.amount.or(price)
            }
            RefundKind::Prorated | RefundKind::Partial => self.amount,
        }
    }
}

/// How a refund came about, as far as the store tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RefundKind {
    /// All of it (Apple `REFUND_FULL`; Google `REFUNDED`).
    Full,
    /// The unused rest of a period (Apple `REFUND_PRORATED`).
    Prorated,
    /// Some units or some money.
    Partial,
    /// The bank took it back.
    Chargeback,
    /// The purchase was not acknowledged in time.
    Unacknowledged,
}

impl RefundKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Prorated => "prorated",
            Self::Partial => "partial",
            Self::Chargeback => "chargeback",
            Self::Unacknowledged => "unacknowledged",
        }
    }
}

/// Why an order was voided, as far as it changes what its refund is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VoidCause {
    /// Asked for by the customer or the developer, or not told.
    #[default]
    Other,
    /// Google's `voidedReason` 7.
    Chargeback,
    /// Google's `voidedReason` 8.
    Unacknowledged,
}

impl VoidCause {
    /// What the refund of an order that was voided whole is called.
    pub(crate) fn refund(self) -> RefundKind {
        match self {
            Self::Other => RefundKind::Full,
            Self::Chargeback => RefundKind::Chargeback,
            Self::Unacknowledged => RefundKind::Unacknowledged,
        }
    }
}

/// A fact that only a signal carries, kept with the transaction it is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub(crate) enum Evidence {
    /// Google: an order was voided (refund, chargeback, revocation). A partial one is by the piece:
    /// the purchase itself says how many units are left.
    Void {
        order_id: String,
        at: Instant,
        partial: bool,
        #[serde(default)]
        cause: VoidCause,
    },
    /// The customer asked the store for a refund, and the store asks us (Apple
    /// `CONSUMPTION_REQUEST`, Google `pendingRefundReviewNotification`).
    RefundRequest {
        transaction_id: String,
        at: Instant,
        /// The store's own word for why.
        reason: String,
        /// Google: `pendingRefundToken`, to be given back with the answer.
        token: Option<String>,
    },
}

/// Tells one request for money from another about the same transaction. Google names each by a
/// token; Apple's is told by when it was signed, which no redelivery changes.
pub(crate) fn request_key(transaction_id: &str, at: Instant, token: Option<&str>) -> String {
    match token {
        Some(token) => format!("{transaction_id}@{token}"),
        None => format!("{transaction_id}@{}", at.timestamp_millis()),
    }
}

impl Evidence {
    /// The transaction it is about: with the kind, its unique key within the chain. Money may be
    /// asked back more than once for one transaction, so that a request names itself, too.
    pub(crate) fn key(&self) -> (&'static str, Cow<'_, str>) {
        let (kind, transaction_id) = match self {
            // What comes later may tell more: a part and then the rest, the cause at last.
            Self::Void {
                order_id,
                partial: true,
                ..
            } => ("partial_void", order_id),
            Self::Void {
                order_id, cause, ..
            } => match cause {
                VoidCause::Other => ("void", order_id),
                VoidCause::Chargeback => ("chargeback", order_id),
                VoidCause::Unacknowledged => ("unacknowledged", order_id),
            },
            Self::RefundRequest {
                transaction_id,
                at,
                token,
                ..
            } => {
                let key = request_key(transaction_id, *at, token.as_deref());
                return ("refund_request", Cow::Owned(key));
            }
        };
        (kind, Cow::Borrowed(transaction_id))
    }
}
