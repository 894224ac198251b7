//! Simulated Google Play: what customers own, what happens to it, and what Google says about it.

mod action;
pub(super) mod api;
mod details;
mod lifecycle;
mod notification;
pub(super) mod oauth;
mod operations;
mod product_v1;
mod purchase;
mod resource;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use action::{
    AddOn, CancelReason, CancelSurvey, GooglePlayAction, GooglePlayBuy, GooglePlayPurchase, Offer,
    PriceChangeMode, ReplacementMode,
};
pub(super) use notification::{SUBSCRIPTION as PUSH_SUBSCRIPTION, Signal};
pub use oauth::ConsoleAccess;
pub(super) use purchase::{Content, Purchase, SubscriptionState};

/// Everything that Google knows.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct GooglePlay {
    /// By token.
    pub(super) purchases: BTreeMap<String, Purchase>,
}

impl GooglePlay {
    /// All purchases of a customer, oldest first.
    pub(super) fn purchases_of(&self, customer: &str) -> Vec<&Purchase> {
        let mut found: Vec<_> = self
            .purchases
            .values()
            .filter(|purchase| purchase.customer == customer)
            .collect();
        found.sort_by_key(|purchase| purchase.started_at);
        found
    }
}
