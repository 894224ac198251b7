//! A purchase for a person to look at.

use chrono::{DateTime, Utc};

use super::super::details::{Ahead, Details, Receipt};
use super::item::{Deferred, Item};
use super::order::{Order, OrderState, PaidFor};
use super::price::{ConsentState, PriceChangeState};
use super::purchase::Purchase;

impl Purchase {
    pub(in crate::sandbox) fn details(&self) -> Details {
        let subscription = self.subscription();
        let main = subscription.and_then(|subscription| subscription.items.first());
        let receipt = |order: &Order| Receipt {
            id: order.id.clone(),
            product_id: self.product_id.clone(),
            at: order.created_at,
            until: paid_until(order),
            price_micros: order.total_micros(),
            currency: self.currency.clone(),
            refunded_at: order.refunds.last().map(|refund| refund.at),
            note: note(order),
        };
        Details {
            billing: subscription.map(|subscription| subscription.billing),
            period_start: main
                .filter(|item| item.expiry.is_some())
                .map(|item| item.from),
            subscription: subscription.is_some(),
            ahead: self.ahead(),
            members: Vec::new(),
            transactions: self.orders.iter().map(receipt).collect(),
        }
    }

    fn ahead(&self) -> Vec<Ahead> {
        let reviews = self.reviews.iter().map(|review| Ahead::ChargeBack {
            order_id: review.order_id.clone(),
        });
        let mut ahead: Vec<Ahead> = reviews.collect();
        if let Some(subscription) = self.subscription() {
            ahead.extend(subscription.pause.map(|_| Ahead::Pause));
            ahead.extend(subscription.items.iter().flat_map(of_item));
        }
        ahead
    }
}

fn of_item(item: &Item) -> Vec<Ahead> {
    let mut ahead = Vec::new();
    if item.prepaid {
        ahead.push(Ahead::Prepaid);
    }
    match &item.deferred {
        Some(Deferred::Replacement { product_id }) => ahead.push(Ahead::OtherProduct {
            product_id: product_id.clone(),
        }),
        Some(Deferred::Removal) => ahead.push(Ahead::Removal {
            product_id: item.product_id.clone(),
        }),
        None => {}
    }
    ahead.extend(item.price_change.and_then(|change| match change.state {
        PriceChangeState::Outstanding => Some(Ahead::NewPrice {
            answer_awaited: true,
        }),
        PriceChangeState::Confirmed => Some(Ahead::NewPrice {
            answer_awaited: false,
        }),
        PriceChangeState::Applied | PriceChangeState::Canceled => None,
    }));
    ahead.extend(item.consent.and_then(|consent| match consent.state {
        ConsentState::Pending => Some(Ahead::FullPrice),
        ConsentState::Scheduled | ConsentState::Confirmed | ConsentState::Completed => None,
    }));
    let owed = item.installments.filter(|plan| plan.remaining > 0);
    ahead.extend(owed.map(|plan| Ahead::Commitment {
        payments: plan.remaining,
    }));
    ahead
}

fn paid_until(order: &Order) -> Option<DateTime<Utc>> {
    let ends = order.lines.iter().filter_map(|line| match &line.paid_for {
        PaidFor::Subscription { until, .. } => Some(*until),
        PaidFor::OneTime { .. } => None,
    });
    ends.max()
}

/// What is unusual about an order.
fn note(order: &Order) -> Option<&'static str> {
    match order.state() {
        OrderState::Pending => Some("awaits payment"),
        OrderState::Canceled => Some("never paid"),
        OrderState::PendingRefund => Some("charge-back under review"),
        OrderState::PartiallyRefunded => Some("refunded in part"),
        OrderState::Processed | OrderState::Refunded => None,
    }
}
