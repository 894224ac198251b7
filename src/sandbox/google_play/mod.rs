//! Simulated Google Play: what customers own, what happens to it, and what Google says about it.
//!
//! ```text
//! action ─▶ operations, buy, developer ─▶ state machine (pure) ─▶ told ─▶ notification
//!                                         lifecycle, replacement, pause, prepaid,
//!                                         price, items, pending, refund
//! api ◀── resource ◀── purchase, subscription, item, order, voided
//! ```

mod action;
pub(super) mod api;
mod buy;
mod details;
mod developer;
mod item;
mod items;
mod lifecycle;
mod notification;
pub(super) mod oauth;
mod operations;
mod order;
mod pause;
mod pending;
mod prepaid;
mod price;
mod product_v1;
mod purchase;
mod refund;
mod replacement;
mod resource;
mod subscription;
#[cfg(test)]
mod tests;
mod voided;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::remembering::Remembering;
use super::setup::GooglePlayProduct;
pub use action::{
    AddOn, CancelReason, CancelSurvey, GooglePlayAction, GooglePlayBuy, GooglePlayPurchase, Offer,
    PriceChangeMode, Promotion, ReplacementMode,
};
pub(super) use item::OfferPhase;
pub(super) use notification::{SUBSCRIPTION as PUSH_SUBSCRIPTION, Signal, SubscriptionEvent};
pub use oauth::ConsoleAccess;
pub(super) use order::{Order, PaidFor};
pub(super) use purchase::{Content, OneTimeState, Purchase};
pub(super) use subscription::{Cancellation, SubscriptionState};
use voided::Voided;
pub use voided::{VoidReason, VoidSource};

/// Everything that Google knows.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct GooglePlay {
    /// By token.
    pub(super) purchases: Remembering<Purchase>,
    /// Tokens of each customer, oldest first.
    by_customer: BTreeMap<String, Vec<String>>,
    /// Every order id, to the token of its purchase.
    token_of: BTreeMap<String, String>,
    /// Oldest first.
    voided: Vec<Voided>,
    /// Prices that the developer has changed: by product, then base plan (empty for one-time
    /// products), in millionths of the major unit.
    prices: BTreeMap<String, BTreeMap<String, i64>>,
}

impl GooglePlay {
    /// All purchases of a customer, oldest first.
    pub(super) fn purchases_of(
        &self,
        customer: &str,
    ) -> impl DoubleEndedIterator<Item = &Purchase> {
        let tokens = self.by_customer.get(customer).into_iter().flatten();
        tokens.filter_map(|token| self.purchases.get(token))
    }

    /// The purchase that an order belongs to.
    pub(super) fn purchase_by_order(&self, order_id: &str) -> Option<&Purchase> {
        self.purchases.get(self.token_of.get(order_id)?)
    }

    /// The voided list, oldest first.
    pub(super) fn voided(&self) -> &[Voided] {
        &self.voided
    }

    /// What those pay who buy now, in millionths of the major unit.
    fn price_micros(&self, product: &GooglePlayProduct) -> i64 {
        let plans = self.prices.get(&product.product_id);
        let changed = plans.and_then(|plans| plans.get(product.base_plan_id().unwrap_or_default()));
        changed.copied().unwrap_or(product.price_micros)
    }

    fn set_price(&mut self, product: &GooglePlayProduct, price_micros: i64) {
        let plans = self.prices.entry(product.product_id.clone()).or_default();
        let plan = product.base_plan_id().unwrap_or_default();
        plans.insert(plan.to_owned(), price_micros);
    }

    /// Puts a purchase in or back.
    fn put(&mut self, mut purchase: Purchase) {
        purchase.version += 1;
        let token = purchase.token.clone();
        if !self.purchases.contains_key(&token) {
            let tokens = self.by_customer.entry(purchase.customer.clone());
            tokens.or_default().push(token.clone());
        }
        if let Some(order) = purchase.orders.last()
            && !self.token_of.contains_key(&order.id)
        {
            self.token_of.insert(order.id.clone(), token.clone());
        }
        self.purchases.insert(token, purchase);
    }
}
