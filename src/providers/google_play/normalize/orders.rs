//! Orders: what was charged, for which time, and what went back of it.

use super::units;
use crate::domain::chain::StoreProduct;
use crate::domain::money::Money;
use crate::domain::subscription::state::Offer;
use crate::domain::subscription::store_state::{ChargeReason, Refund, RefundKind, Transaction};
use crate::domain::time::Instant;
use crate::providers::google_play::wire::{Order, OrderEvent, OrderLine, OrderOfferPhase};

/// The orders that an answer was read with, by id.
#[derive(Default)]
pub(super) struct Orders(pub(super) Vec<Order>);

impl Orders {
    pub(super) fn get(&self, id: Option<&str>) -> Option<&Order> {
        self.0
            .iter()
            .find(|order| Some(order.order_id.as_str()) == id)
    }

    /// Those that were paid, as charges of a subscription: one per order, named after its first
    /// product, because money goes back by order.
    pub(super) fn charges(&self, region: Option<&String>) -> Vec<Transaction> {
        let paid = self.0.iter().filter(|order| is_paid(order));
        paid.filter_map(|order| charge(order, region)).collect()
    }

    /// The time that an order paid of a product: from and until.
    pub(super) fn period(&self, id: Option<&str>, product_id: &str) -> Option<(Instant, Instant)> {
        let lines = &self.get(id)?.line_items;
        let line = lines.iter().find(|line| line.product_id == product_id)?;
        let details = line.subscription_details.as_ref()?;
        Some((
            details.service_period_start_time?,
            details.service_period_end_time?,
        ))
    }
}

/// Whether any money moved: orders that wait for it, or never got it, are no charges.
fn is_paid(order: &Order) -> bool {
    matches!(
        order.state.as_str(),
        "PROCESSED" | "PENDING_REFUND" | "PARTIALLY_REFUNDED" | "REFUNDED"
    )
}

fn charge(order: &Order, region: Option<&String>) -> Option<Transaction> {
    let line = order.line_items.first()?;
    let details = line.subscription_details.as_ref();
    let ends = order.line_items.iter().filter_map(|line| {
        let details = line.subscription_details.as_ref()?;
        details.service_period_end_time
    });
    let phase = details.and_then(|details| details.offer_phase_details.as_ref());
    let bought = line.one_time_purchase_details.as_ref();
    Some(Transaction {
        reason: reason(&order.order_id),
        expires_at: ends.max(),
        quantity: units(bought.and_then(|bought| bought.quantity)),
        price: money(order.total.as_ref()),
        tax: money(order.tax.as_ref()),
        storefront: region.cloned(),
        offer: phase.map_or(Offer::None, offer),
        refund: refund(order),
        ..Transaction::new(order.order_id.clone(), product(line), order.create_time?)
    })
}

/// Renewals share the first order's id and count up behind it: `GPA.1234-…..0`.
fn reason(order_id: &str) -> ChargeReason {
    match order_id.split_once("..") {
        Some(_) => ChargeReason::Renewal,
        None => ChargeReason::Purchase,
    }
}

fn product(line: &OrderLine) -> StoreProduct {
    let subscription = line.subscription_details.as_ref();
    StoreProduct {
        product_id: line.product_id.clone(),
        base_plan_id: subscription.and_then(|details| details.base_plan_id.clone()),
    }
}

fn offer(phase: &OrderOfferPhase) -> Offer {
    if phase.free_trial_details.is_some() {
        Offer::FreeTrial
    } else if phase.introductory_price_details.is_some() {
        Offer::Introductory
    } else {
        Offer::None
    }
}

/// Money that went back, whether access ended with it or not.
pub(super) fn refund(order: &Order) -> Option<Refund> {
    if order.state == "REFUNDED" {
        let event = order.order_history.refund_event.as_ref();
        let charged_back = event.is_some_and(|event| event.refund_reason == "CHARGEBACK");
        return Some(Refund {
            at: ended_at(order)?,
            kind: match charged_back {
                true => RefundKind::Chargeback,
                false => RefundKind::Full,
            },
            // All of it went back, however many steps it took.
            amount: money(order.total.as_ref()),
            quantity: None,
        });
    }
    let events = order.order_history.partial_refund_events.iter();
    // Before a part is processed nothing has gone back.
    let done: Vec<_> = events.filter(|event| event.state != "PENDING").collect();
    let times = done
        .iter()
        .filter_map(|event| event.process_time.or(event.create_time));
    let at = match (times.max(), order.state.as_str()) {
        (Some(at), _) => at,
        (None, "PARTIALLY_REFUNDED") => order.last_event_time.or(order.create_time)?,
        (None, _) => return None,
    };
    let parts = done.iter().map(|event| {
        let details = event.refund_details.as_ref();
        money(details.and_then(|details| details.total.as_ref()))
    });
    Some(Refund {
        at,
        kind: RefundKind::Partial,
        amount: sum(parts),
        quantity: None,
    })
}

/// `None` unless every part is known and in the same currency.
fn sum(mut parts: impl Iterator<Item = Option<Money>>) -> Option<Money> {
    let first = parts.next()??;
    parts.try_fold(first, |sum, part| sum.checked_add(part?))
}

/// When the order came to its end: refunded, or given up before it was paid.
pub(super) fn ended_at(order: &Order) -> Option<Instant> {
    if !matches!(order.state.as_str(), "REFUNDED" | "CANCELED") {
        return None;
    }
    let time = |event: Option<&OrderEvent>| event.and_then(|event| event.event_time);
    time(order.order_history.refund_event.as_ref())
        .or_else(|| time(order.order_history.cancellation_event.as_ref()))
        .or(order.last_event_time)
        .or(order.create_time)
}

pub(super) fn money(
    wire: Option<&crate::providers::google_play::wire::WireMoney>,
) -> Option<Money> {
    wire.and_then(crate::providers::google_play::wire::WireMoney::money)
}
