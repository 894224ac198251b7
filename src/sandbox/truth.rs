//! What customers truly own, for comparing with what a server under test believes.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::app_store::Chain;
use super::delivery::Store;
use super::google_play::{Content, OneTimeState, Purchase, SubscriptionState};
use super::state::World;

/// Where a purchase stands at its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PurchaseState {
    /// Paid for, and if it renews, set to renew.
    Active,
    /// Paid for, not going to renew.
    Canceled,
    /// Unpaid, with access.
    InGracePeriod,
    /// Unpaid, without access: billing retry at Apple, account hold at Google.
    OnHold,
    /// Ended.
    Expired,
    /// Refunded.
    Revoked,
    /// Awaits its first payment.
    Pending,
    /// Stopped by the customer for a while, without access.
    Paused,
}

/// How a customer came to a purchase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ownership {
    /// Bought.
    #[default]
    Purchased,
    /// Through the family of the buyer; Apple only.
    FamilyShared,
}

/// A purchase as its store knows it at this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurchaseTruth {
    /// Where it was bought.
    pub store: Store,
    /// Who bought it.
    pub customer: String,
    /// Original transaction id, or purchase token.
    pub id: String,
    /// The latest transaction id, or order id.
    pub latest_transaction: String,
    /// The product of the current or last period.
    pub product_id: String,
    /// Google's base plan, for subscriptions.
    pub base_plan_id: Option<String>,
    /// Where it stands.
    pub state: PurchaseState,
    /// Whether the customer has the use of it now.
    pub entitled: bool,
    /// End of what was paid or granted in grace; none for one-time purchases.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether it, or what it becomes, is set to renew.
    pub auto_renew: bool,
    /// The product of the next period, if it will be another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_product_id: Option<String>,
    /// Google's base plan of the next period, if it will be another product or plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_base_plan_id: Option<String>,
    /// What the app named its account with: account token, or obfuscated account id.
    pub account: Option<String>,
    /// How many were bought and not refunded; one for subscriptions.
    #[serde(default = "one")]
    pub quantity: u32,
    /// How the customer came to it.
    #[serde(default)]
    pub ownership: Ownership,
    /// The offer that the current or last period was bought with: Apple's kind of offer, Google's
    /// offer id.
    #[serde(default)]
    pub offer: Option<String>,
    /// Whether the developer has acknowledged it; Apple knows no such thing.
    pub acknowledged: Option<bool>,
}

const fn one() -> u32 {
    1
}

/// All purchases of a customer at both stores; of all customers if none is named.
pub(super) fn purchases(
    world: &World,
    customer: Option<&str>,
    now: DateTime<Utc>,
) -> Vec<PurchaseTruth> {
    let apple: Vec<&Chain> = match customer {
        Some(customer) => world.app_store.chains_of(customer).collect(),
        None => world.app_store.chains.values().collect(),
    };
    let apple = apple.into_iter().map(|chain| app_store(chain, now));
    let google: Vec<&Purchase> = match customer {
        Some(customer) => world.google_play.purchases_of(customer).collect(),
        None => world.google_play.purchases.values().collect(),
    };
    let google = google.into_iter().flat_map(|p| google_play(p, now));
    apple.chain(google).collect()
}

fn app_store(chain: &Chain, now: DateTime<Utc>) -> PurchaseTruth {
    let latest = chain.latest();
    let auto_renew = chain.subscription.as_ref().is_some_and(|s| s.renews());
    let one_time = chain.subscription.is_none();
    let offer = latest.and_then(|t| t.offer.as_ref());
    let refunded = latest.is_some_and(|t| t.revocation.is_some());
    PurchaseTruth {
        store: Store::AppStore,
        customer: chain.customer.clone(),
        id: chain.original_transaction_id.clone(),
        latest_transaction: latest.map(|t| t.id.clone()).unwrap_or_default(),
        product_id: latest.map(|t| t.product_id.clone()).unwrap_or_default(),
        base_plan_id: None,
        state: match chain.status(now) {
            _ if refunded => PurchaseState::Revoked,
            Some(1) if !auto_renew => PurchaseState::Canceled,
            Some(2) => PurchaseState::Expired,
            Some(3) => PurchaseState::OnHold,
            Some(4) => PurchaseState::InGracePeriod,
            Some(5) => PurchaseState::Revoked,
            _ => PurchaseState::Active,
        },
        entitled: chain.entitles(now),
        expires_at: match one_time {
            true => None,
            false => chain.access_until(),
        },
        auto_renew,
        next_product_id: next_product(chain),
        next_base_plan_id: None,
        account: latest
            .and_then(|t| t.app_account_token)
            .map(|token| token.to_string()),
        quantity: match one_time && refunded {
            true => 0,
            false => latest.map_or(1, |t| t.quantity.into()),
        },
        ownership: match chain.sharing.is_shared() {
            true => Ownership::FamilyShared,
            false => Ownership::Purchased,
        },
        offer: offer.map(|offer| offer.kind.as_str().to_owned()),
        acknowledged: None,
    }
}

/// What the next charge is for, if something else: while a commitment runs, what follows it.
fn next_product(chain: &Chain) -> Option<String> {
    let subscription = chain.subscription.as_ref().filter(|s| s.auto_renew)?;
    let held = &chain.latest()?.product_id;
    (subscription.renews_to != *held).then(|| subscription.renews_to.clone())
}

/// One per item of a subscription, or the one-time purchase.
fn google_play(purchase: &Purchase, now: DateTime<Utc>) -> Vec<PurchaseTruth> {
    let whole = PurchaseTruth {
        store: Store::GooglePlay,
        customer: purchase.customer.clone(),
        id: purchase.token.clone(),
        latest_transaction: purchase.latest_order_id().to_owned(),
        product_id: purchase.product_id.clone(),
        base_plan_id: None,
        state: PurchaseState::Expired,
        entitled: purchase.entitles(now),
        expires_at: None,
        auto_renew: false,
        next_product_id: None,
        next_base_plan_id: None,
        account: purchase.obfuscated_account_id.clone(),
        quantity: 1,
        ownership: Ownership::Purchased,
        offer: None,
        acknowledged: Some(purchase.acknowledged),
    };
    match &purchase.content {
        Content::OneTime(bought) => vec![PurchaseTruth {
            state: match bought.state {
                OneTimeState::Pending => PurchaseState::Pending,
                OneTimeState::Purchased => PurchaseState::Active,
                OneTimeState::Cancelled if purchase.revoked => PurchaseState::Revoked,
                OneTimeState::Cancelled => PurchaseState::Expired,
            },
            quantity: bought.quantity.saturating_sub(bought.refunded),
            ..whole
        }],
        Content::Subscription(subscription) => {
            // An item that waits for its turn is not the customer's yet.
            let begun = purchase.started_at.is_some();
            let items = subscription.items.iter();
            items
                .filter(|item| item.expiry.is_some() || !begun)
                .map(|item| {
                    let entitled = subscription.item_entitles(item, now);
                    let next = subscription.next(item);
                    let auto_renew = next.unwrap_or(item).is_charged_again();
                    let next = next.filter(|_| auto_renew);
                    PurchaseTruth {
                        product_id: item.product_id.clone(),
                        base_plan_id: Some(item.base_plan_id.clone()),
                        state: google_play_state(purchase, subscription.state(now), entitled),
                        entitled,
                        expires_at: item.expiry,
                        auto_renew,
                        next_product_id: next.map(|next| next.product_id.clone()),
                        next_base_plan_id: next.map(|next| next.base_plan_id.clone()),
                        offer: item.offer_id.clone(),
                        ..whole.clone()
                    }
                })
                .collect()
        }
    }
}

/// Where an item stands, of a subscription in this state.
fn google_play_state(
    purchase: &Purchase,
    state: SubscriptionState,
    entitled: bool,
) -> PurchaseState {
    match state {
        _ if purchase.revoked => PurchaseState::Revoked,
        SubscriptionState::Pending => PurchaseState::Pending,
        SubscriptionState::Paused => PurchaseState::Paused,
        SubscriptionState::OnHold => PurchaseState::OnHold,
        SubscriptionState::Expired | SubscriptionState::PendingPurchaseCanceled => {
            PurchaseState::Expired
        }
        _ if !entitled => PurchaseState::Expired,
        SubscriptionState::Active => PurchaseState::Active,
        SubscriptionState::InGracePeriod => PurchaseState::InGracePeriod,
        SubscriptionState::Canceled => PurchaseState::Canceled,
    }
}
