//! Simulated Google Play: what customers own, what happens to it, and what Google says about it.

pub(super) mod api;
mod lifecycle;
mod notification;
pub(super) mod oauth;
mod operations;
mod purchase;
mod resource;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::period::Period;
pub(super) use notification::{SUBSCRIPTION as PUSH_SUBSCRIPTION, Signal};
pub(super) use purchase::{Content, Purchase, SubscriptionState};

/// A purchase to be made at Google Play.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GooglePlayBuy {
    /// The Google account that buys; any name.
    pub customer: String,
    /// What is bought.
    pub product_id: String,
    /// Base plan, for subscriptions; the first one listed if absent.
    #[serde(default)]
    pub base_plan_id: Option<String>,
    /// What the app hands to the billing library to name its account.
    #[serde(default)]
    pub obfuscated_account_id: Option<String>,
    /// Token of the subscription that this one replaces (plan change, or re-signup before lapse).
    #[serde(default)]
    pub replaces: Option<String>,
    /// Made in the Play store after the subscription has lapsed, without the app: the purchase
    /// carries no account id but the context of the lapsed one, until it is acknowledged.
    #[serde(default)]
    pub out_of_app: bool,
    /// Length of a free trial to begin with; subscriptions only.
    #[serde(default)]
    pub trial: Option<Period>,
}

/// What the buyer's device holds after a purchase.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GooglePlayPurchase {
    /// Names the purchase; whoever holds it possesses the purchase.
    pub purchase_token: String,
    /// The order, as on the customer's receipt.
    pub order_id: String,
}

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
