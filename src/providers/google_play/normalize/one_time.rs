//! A one-time product: owned once paid, for ever unless taken back.

use super::subscription::acknowledge_paid_by;
use super::{NOT_ACKNOWLEDGED, account_token, order_aliases, orders};
use crate::domain::chain::{Alias, StoreProduct};
use crate::domain::provider::Environment;
use crate::domain::subscription::state::{ExpiryReason, ItemState, Offer, RevocationReason};
use crate::domain::subscription::store_state::{Item, ItemKind, StoreState};
use crate::domain::time::Instant;
use crate::providers::google_play::wire::{Order, ProductLine, ProductPurchase};

/// `purchaseState`; Google spells this one with two `l`.
const PURCHASED: &str = "PURCHASED";
const CANCELLED: &str = "CANCELLED";
const PENDING: &str = "PENDING";

pub(super) fn state(
    head: &Alias,
    purchase: &ProductPurchase,
    orders: &[Order],
    fetched_at: Instant,
) -> StoreState {
    let test = purchase.test_purchase_context.is_some();
    let items: Vec<Item> = purchase
        .product_line_item
        .iter()
        .map(|line| item(purchase, line, orders, fetched_at))
        .collect();
    let owned = items
        .iter()
        .any(|item| matches!(item.state, ItemState::Owned { .. }));
    let waiting = owned && purchase.acknowledgement_state == NOT_ACKNOWLEDGED;
    let paid_at = purchase.purchase_completion_time;
    StoreState {
        environment: if test {
            Environment::Sandbox
        } else {
            Environment::Production
        },
        stamp: fetched_at,
        head: head.clone(),
        aliases: order_aliases(head, purchase.order_id.as_deref().into_iter()),
        predecessors: Vec::new(),
        account_token: account_token(purchase.obfuscated_external_account_id.as_ref()),
        purchased_at: paid_at,
        items,
        transactions: orders::transactions(orders),
        acknowledge_by: waiting.then(|| acknowledge_paid_by(paid_at.unwrap_or(fetched_at), test)),
        bookmark: None,
    }
}

fn item(
    purchase: &ProductPurchase,
    line: &ProductLine,
    orders: &[Order],
    fetched_at: Instant,
) -> Item {
    let details = line.product_offer_details.as_ref();
    let discounted = details.is_some_and(|details| details.offer_id.is_some());
    let rented = details.is_some_and(|details| details.rent_offer_details.is_some());
    Item {
        key: line.product_id.clone(),
        product: StoreProduct::new(line.product_id.clone()),
        kind: ItemKind::OneTime,
        state: line_state(purchase, rented, orders, fetched_at),
        offer: if discounted {
            Offer::Promotional
        } else {
            Offer::None
        },
        started_at: purchase.purchase_completion_time,
        transaction_id: purchase.order_id.clone(),
        pending_product: None,
        family_shared: false,
        quantity: 1,
    }
}

fn line_state(
    purchase: &ProductPurchase,
    rented: bool,
    orders: &[Order],
    fetched_at: Instant,
) -> ItemState {
    let context = purchase.purchase_state_context.as_ref();
    let word = context.map_or("", |context| context.purchase_state.as_str());
    match (word, purchase.purchase_completion_time) {
        // The answer does not say when a rental ends, and it must not become a lifetime.
        (PURCHASED, _) if rented => ItemState::Unknown {
            said: "PURCHASED as a rental".to_owned(),
        },
        (PURCHASED, paid_at) => ItemState::Owned {
            since: paid_at.unwrap_or(fetched_at),
        },
        (PENDING, _) => ItemState::Pending,
        (CANCELLED, None) => ItemState::Expired {
            at: fetched_at,
            reason: ExpiryReason::NeverPaid,
        },
        (CANCELLED, Some(_)) => {
            let id = purchase.order_id.as_deref();
            let order = orders
                .iter()
                .find(|order| Some(order.order_id.as_str()) == id);
            let at = order.and_then(orders::taken_back_at).unwrap_or(fetched_at);
            ItemState::Revoked {
                at,
                reason: RevocationReason::Refunded,
            }
        }
        (said, _) => ItemState::Unknown {
            said: said.to_owned(),
        },
    }
}
