//! A purchase for a person to look at.

use chrono::{DateTime, Utc};

use super::super::details::{Details, Receipt};
use super::order::{Order, OrderState, PaidFor};
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
            transactions: self.orders.iter().map(receipt).collect(),
        }
    }
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
