//! A purchase for a person to look at.

use super::super::details::{Details, Receipt};
use super::purchase::{Order, Purchase};

impl Purchase {
    pub(in crate::sandbox) fn details(&self) -> Details {
        let subscription = self.subscription();
        let latest = self.orders.last().filter(|_| subscription.is_some());
        let receipt = |order: &Order| Receipt {
            id: order.id.clone(),
            product_id: self.product_id.clone(),
            at: order.at,
            until: order.until,
            price_micros: order.price_micros,
            currency: self.currency.clone(),
            refunded_at: order.refunded_at,
            note: None,
        };
        Details {
            billing: subscription.map(|subscription| subscription.billing),
            period_start: latest.map(|order| order.at),
            transactions: self.orders.iter().map(receipt).collect(),
        }
    }
}
