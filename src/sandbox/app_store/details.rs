//! A chain for a person to look at.

use super::super::details::{Ahead, Details, Receipt};
use super::price::PriceIncrease;
use super::{AppStore, Chain, Transaction};

impl Chain {
    pub(in crate::sandbox) fn details(&self, store: &AppStore) -> Details {
        let subscription = self.subscription.as_ref();
        let latest = self.latest().filter(|_| subscription.is_some());
        Details {
            billing: subscription.map(|subscription| subscription.billing),
            period_start: latest.map(|transaction| transaction.purchased_at),
            subscription: subscription.is_some(),
            ahead: self.ahead(),
            members: self.members(store),
            transactions: self.transactions.iter().map(|t| receipt(t)).collect(),
        }
    }

    /// Who shares it now, by name.
    fn members(&self, store: &AppStore) -> Vec<String> {
        let chains = self.sharing.members().iter();
        let chains = chains.filter_map(|id| store.chains.get(id));
        let sharing = chains.filter(|chain| chain.latest().is_some_and(|t| t.revocation.is_none()));
        sharing.map(|chain| chain.customer.clone()).collect()
    }

    fn ahead(&self) -> Vec<Ahead> {
        let asked = self.transactions.iter().filter_map(|transaction| {
            transaction.refund_request?;
            Some(Ahead::RefundRequest {
                transaction_id: transaction.id.clone(),
            })
        });
        let mut ahead: Vec<Ahead> = asked.collect();
        let (Some(subscription), Some(latest)) = (&self.subscription, self.latest()) else {
            return ahead;
        };
        if subscription.auto_renew && subscription.renews_to != latest.product_id {
            ahead.push(Ahead::OtherProduct {
                product_id: subscription.renews_to.clone(),
            });
        }
        if let Some(commitment) = &subscription.commitment {
            let period = commitment.period();
            ahead.push(Ahead::Commitment {
                payments: period.total.saturating_sub(period.number).into(),
            });
        }
        if let Some(increase) = &subscription.price_increase {
            ahead.push(Ahead::NewPrice {
                answer_awaited: matches!(increase, PriceIncrease::Pending),
            });
        }
        ahead
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
