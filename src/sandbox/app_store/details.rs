//! A chain for a person to look at.

use super::super::details::{Details, Receipt};
use super::{Chain, Transaction};

impl Chain {
    pub(in crate::sandbox) fn details(&self) -> Details {
        let subscription = self.subscription.as_ref();
        let latest = self.latest().filter(|_| subscription.is_some());
        Details {
            billing: subscription.map(|subscription| subscription.billing),
            period_start: latest.map(|transaction| transaction.purchased_at),
            transactions: self.transactions.iter().map(|t| receipt(t)).collect(),
        }
    }
}

fn receipt(transaction: &Transaction) -> Receipt {
    Receipt {
        id: transaction.id.clone(),
        product_id: transaction.product_id.clone(),
        at: transaction.purchased_at,
        until: transaction.expires_at,
        price_micros: transaction.price_milliunits.saturating_mul(1_000),
        currency: transaction.currency.clone(),
        refunded_at: transaction.revoked_at(),
        note: note(transaction),
    }
}

fn note(transaction: &Transaction) -> Option<&'static str> {
    if transaction.upgraded {
        return Some("upgraded");
    }
    if transaction.shared_from.is_some() {
        return Some("family");
    }
    transaction.refund_request.map(|_| "refund requested")
}
