//! A one-time product: owned once paid, for ever unless taken back, by the piece if bought so.

use super::orders::{self, Orders, money};
use super::subscription::acknowledge_paid_by;
use super::{NOT_ACKNOWLEDGED, account_token, environment, order_aliases, units};
use crate::domain::chain::{Alias, StoreProduct, further_line};
use crate::domain::subscription::state::{ExpiryReason, ItemState, Offer, RevocationReason};
use crate::domain::subscription::store_state::{
    Item, ItemKind, Refund, RefundKind, StoreState, Transaction,
};
use crate::domain::time::Instant;
use crate::providers::google_play::client::short_hash;
use crate::providers::google_play::wire::{
    Order, ProductLine, ProductOfferDetails, ProductPurchase,
};

/// `purchaseState`; Google spells this one with two `l`.
const PURCHASED: &str = "PURCHASED";
const CANCELLED: &str = "CANCELLED";
const PENDING: &str = "PENDING";

/// A purchase together with its order, where that can be read.
struct Bought<'a> {
    head: &'a Alias,
    purchase: &'a ProductPurchase,
    order: Option<&'a Order>,
    fetched_at: Instant,
}

pub(super) fn state(
    head: &Alias,
    purchase: &ProductPurchase,
    orders: &Orders,
    fetched_at: Instant,
) -> StoreState {
    let bought = Bought {
        head,
        purchase,
        order: orders.get(purchase.order_id.as_deref()),
        fetched_at,
    };
    let test = purchase.test_purchase_context.is_some();
    // Names come by position, and Google promises no order of its own.
    let mut sorted: Vec<&ProductLine> = purchase.product_line_item.iter().collect();
    sorted.sort_by_key(|line| &line.product_id);
    let lines = || sorted.iter().copied().enumerate();
    let items: Vec<Item> = lines().map(|(at, line)| bought.item(at, line)).collect();
    let owned = items
        .iter()
        .any(|item| matches!(item.state, ItemState::Owned { .. }));
    let waiting = owned && purchase.acknowledgement_state == NOT_ACKNOWLEDGED;
    let paid_at = purchase.purchase_completion_time;
    StoreState {
        environment: environment(test),
        stamp: fetched_at,
        head: head.clone(),
        aliases: order_aliases(head, purchase.order_id.as_deref().into_iter()),
        predecessors: Vec::new(),
        account_token: account_token(purchase.obfuscated_external_account_id.as_ref()),
        purchased_at: paid_at,
        items,
        transactions: lines()
            .filter_map(|(at, line)| bought.transaction(at, line))
            .collect(),
        acknowledge_by: waiting.then(|| acknowledge_paid_by(paid_at.unwrap_or(fetched_at), test)),
        bookmark: None,
        out_of_app: false,
        money_untold: false,
    }
}

fn gift(token: &str) -> String {
    format!("gift-{}", short_hash(token.as_bytes()))
}

impl Bought<'_> {
    /// The order; where there is none, because the purchase was a gift, a name made of the token,
    /// which itself is a secret. Further products of one order are told apart by their names.
    fn transaction_id(&self, position: usize, line: &ProductLine) -> String {
        let order = self
            .purchase
            .order_id
            .as_deref()
            .filter(|id| !id.is_empty());
        let id = order.map_or_else(|| gift(&self.head.value), str::to_owned);
        match position {
            0 => id,
            _ => further_line(&id, &line.product_id),
        }
    }

    fn item(&self, position: usize, line: &ProductLine) -> Item {
        let details = line.product_offer_details.as_ref();
        let discounted = details.is_some_and(|details| details.offer_id.is_some());
        Item {
            key: line.product_id.clone(),
            product: StoreProduct::new(line.product_id.clone()),
            kind: ItemKind::OneTime,
            state: self.line_state(details),
            offer: match discounted {
                true => Offer::Promotional,
                false => Offer::None,
            },
            started_at: self.purchase.purchase_completion_time,
            transaction_id: Some(self.transaction_id(position, line)),
            pending_product: None,
            family_shared: false,
            quantity: units(details.and_then(|details| details.quantity)),
        }
    }

    fn line_state(&self, details: Option<&ProductOfferDetails>) -> ItemState {
        let rented = details.is_some_and(|details| details.rent_offer_details.is_some());
        match (self.said(), self.purchase.purchase_completion_time) {
            // The answer does not say when a rental ends, and it must not become a lifetime.
            (PURCHASED, _) if rented => ItemState::Unknown {
                said: "PURCHASED as a rental".to_owned(),
            },
            (PURCHASED, paid_at) => ItemState::Owned {
                since: paid_at.unwrap_or(self.fetched_at),
            },
            (PENDING, _) => ItemState::Pending,
            (CANCELLED, None) => ItemState::Expired {
                at: self.canceled_at(),
                reason: ExpiryReason::NeverPaid,
            },
            (CANCELLED, Some(_)) => ItemState::Revoked {
                at: self.canceled_at(),
                reason: RevocationReason::Refunded,
            },
            (said, _) => ItemState::Unknown {
                said: said.to_owned(),
            },
        }
    }

    fn said(&self) -> &str {
        let context = self.purchase.purchase_state_context.as_ref();
        context.map_or("", |context| context.purchase_state.as_str())
    }

    /// The purchase itself does not say when.
    fn canceled_at(&self) -> Instant {
        let order = self.order.and_then(orders::ended_at);
        order.unwrap_or(self.fetched_at)
    }

    /// What was charged for a line. It is known even where orders cannot be read, without the
    /// price; what was never paid is none.
    fn transaction(&self, position: usize, line: &ProductLine) -> Option<Transaction> {
        let paid_at = self.purchase.purchase_completion_time?;
        let revoked = match self.said() {
            PURCHASED => false,
            CANCELLED => true,
            _ => return None,
        };
        let details = line.product_offer_details.as_ref();
        let discounted = details.is_some_and(|details| details.offer_id.is_some());
        let paid = self.order.and_then(|order| {
            let lines = &order.line_items;
            lines.iter().find(|paid| paid.product_id == line.product_id)
        });
        let consumed = details.is_some_and(|d| d.consumption_state == "CONSUMPTION_STATE_CONSUMED");
        Some(Transaction {
            quantity: units(details.and_then(|details| details.quantity)),
            price: money(paid.and_then(|paid| paid.total.as_ref())),
            tax: money(paid.and_then(|paid| paid.tax.as_ref())),
            storefront: self.purchase.region_code.clone(),
            offer: match discounted {
                true => Offer::Promotional,
                false => Offer::None,
            },
            consumed,
            revoked_at: revoked.then(|| self.canceled_at()),
            refund: self.refund(position, details, paid_at, revoked),
            ..Transaction::new(
                self.transaction_id(position, line),
                StoreProduct::new(line.product_id.clone()),
                paid_at,
            )
        })
    }

    /// What the order says that went back, for one line of it: its money is booked once.
    fn told(&self, position: usize) -> Option<Refund> {
        let refund = self.order.and_then(orders::refund)?;
        let amount = match refund.kind {
            // Of each line what it cost.
            RefundKind::Full | RefundKind::Chargeback | RefundKind::Unacknowledged => refund
                .amount
                .filter(|_| self.purchase.product_line_item.len() == 1),
            // Of which line, the order does not say.
            RefundKind::Partial | RefundKind::Prorated => refund.amount.filter(|_| position == 0),
        };
        Some(Refund { amount, ..refund })
    }

    /// The order tells the money, the purchase the pieces.
    fn refund(
        &self,
        position: usize,
        details: Option<&ProductOfferDetails>,
        paid_at: Instant,
        revoked: bool,
    ) -> Option<Refund> {
        let told = self.told(position);
        if revoked {
            let at = self.canceled_at();
            let refund = told.unwrap_or(Refund {
                at,
                kind: RefundKind::Full,
                amount: None,
                quantity: None,
            });
            return Some(refund);
        }
        let bought = units(details.and_then(|details| details.quantity));
        let left = details.and_then(|details| details.refundable_quantity);
        // Nought left of what is still owned is money without the pieces.
        let left = left
            .and_then(|left| u32::try_from(left).ok())
            .filter(|left| *left > 0);
        let returned = bought.saturating_sub(left.unwrap_or(bought));
        if returned == 0 {
            let part = |refund: &Refund| refund.kind == RefundKind::Partial;
            return told.filter(|refund| position == 0 || !part(refund));
        }
        Some(Refund {
            quantity: Some(returned),
            kind: RefundKind::Partial,
            ..told.unwrap_or(Refund {
                at: paid_at,
                kind: RefundKind::Partial,
                amount: None,
                quantity: None,
            })
        })
    }
}
