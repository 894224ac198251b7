//! Orders: what was charged, and when it was given back.

use crate::domain::chain::StoreProduct;
use crate::domain::subscription::store_state::Transaction;
use crate::domain::time::Instant;
use crate::providers::google_play::wire::{Order, OrderEvent, OrderLine};

/// One per order: a purchase of several products is one charge, named after the first.
pub(super) fn transactions(orders: &[Order]) -> Vec<Transaction> {
    orders.iter().filter_map(transaction).collect()
}

fn transaction(order: &Order) -> Option<Transaction> {
    let line = order.line_items.first()?;
    Some(Transaction {
        price: order.total.as_ref().and_then(|total| total.money()),
        revoked_at: taken_back_at(order),
        ..Transaction::new(order.order_id.clone(), product(line), order.create_time?)
    })
}

fn product(line: &OrderLine) -> StoreProduct {
    let subscription = line.subscription_details.as_ref();
    StoreProduct {
        product_id: line.product_id.clone(),
        base_plan_id: subscription.and_then(|details| details.base_plan_id.clone()),
    }
}

/// When the whole order was given back. A part of it (`PARTIALLY_REFUNDED`) is money, not access.
pub(super) fn taken_back_at(order: &Order) -> Option<Instant> {
    if !matches!(order.state.as_str(), "REFUNDED" | "CANCELED") {
        return None;
    }
    let time = |event: Option<&OrderEvent>| event.and_then(|event| event.event_time);
    let history = order.order_history.as_ref();
    time(history.and_then(|history| history.refund_event.as_ref()))
        .or_else(|| time(history.and_then(|history| history.cancellation_event.as_ref())))
        .or(order.last_event_time)
        .or(order.create_time)
}
