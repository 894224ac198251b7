//! A purchase at Google Play as it stands: what is in it, and what follows from that.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::super::setup::{StoreSetup, Timing};
use super::action::Promotion;
use super::notification::SubscriptionEvent;
use super::order::Order;
use super::prepaid;
use super::refund::Review;
use super::subscription::{Phase, Subscription, SubscriptionState};

/// An unacknowledged purchase is refunded after this.
pub(super) const ACKNOWLEDGE_DAYS: i64 = 3;
/// A purchase can be read this long after it has expired.
const READABLE_DAYS: i64 = 60;

/// One purchase token and everything that followed from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::sandbox) struct Purchase {
    pub(in crate::sandbox) token: String,
    pub(in crate::sandbox) customer: String,
    /// The product bought, or the first of several.
    pub(in crate::sandbox) product_id: String,
    pub(in crate::sandbox) currency: String,
    /// When it was made, paid or not.
    pub(in crate::sandbox) bought_at: DateTime<Utc>,
    /// When it was granted; none while it awaits its payment.
    pub(in crate::sandbox) started_at: Option<DateTime<Utc>>,
    pub(in crate::sandbox) obfuscated_account_id: Option<String>,
    pub(in crate::sandbox) obfuscated_profile_id: Option<String>,
    pub(in crate::sandbox) linked_token: Option<String>,
    /// Made outside the app; the API shows it until the purchase is acknowledged.
    pub(in crate::sandbox) out_of_app: Option<OutOfApp>,
    pub(in crate::sandbox) promotion: Option<Promotion>,
    pub(in crate::sandbox) acknowledged: bool,
    /// What the developer attached when acknowledging.
    #[serde(default)]
    pub(super) developer_payload: Option<String>,
    /// All charges, oldest first; never empty.
    pub(in crate::sandbox) orders: Vec<Order>,
    pub(in crate::sandbox) content: Content,
    /// Notifications that follow an earlier one after a moment.
    pub(super) late: Vec<(DateTime<Utc>, SubscriptionEvent)>,
    /// Whether its end came with the money given back.
    pub(in crate::sandbox) revoked: bool,
    /// Charge-backs that wait for the developer's word.
    pub(super) reviews: Vec<Review>,
    /// Counts the changes; the entity tag follows from it.
    pub(super) version: u64,
}

/// What was bought.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(in crate::sandbox) enum Content {
    /// A subscription, with its add-ons.
    Subscription(Subscription),
    /// A one-time product.
    OneTime(OneTime),
}

/// A one-time purchase, of several maybe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct OneTime {
    pub(in crate::sandbox) quantity: u32,
    /// How many of them were given back for money.
    pub(in crate::sandbox) refunded: u32,
    pub(in crate::sandbox) consumed: bool,
    pub(in crate::sandbox) state: OneTimeState,
}

impl OneTime {
    /// How many of it can still be refunded.
    pub(in crate::sandbox) fn refundable(&self) -> u32 {
        match self.state {
            OneTimeState::Purchased => self.quantity.saturating_sub(self.refunded),
            OneTimeState::Pending | OneTimeState::Cancelled => 0,
        }
    }
}

/// `purchaseState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::sandbox) enum OneTimeState {
    Pending,
    Purchased,
    Cancelled,
}

/// What the store remembers of a lapsed subscription that was taken up again outside the app.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::sandbox) struct OutOfApp {
    pub(in crate::sandbox) expired_token: String,
    pub(in crate::sandbox) expired_account_id: Option<String>,
    pub(in crate::sandbox) expired_profile_id: Option<String>,
}

impl Purchase {
    pub(in crate::sandbox) fn subscription(&self) -> Option<&Subscription> {
        match &self.content {
            Content::Subscription(subscription) => Some(subscription),
            Content::OneTime(_) => None,
        }
    }

    pub(super) fn subscription_mut(&mut self) -> Option<&mut Subscription> {
        match &mut self.content {
            Content::Subscription(subscription) => Some(subscription),
            Content::OneTime(_) => None,
        }
    }

    /// Whether a product is an item of it.
    pub(super) fn contains(&self, product_id: &str) -> bool {
        let items = self.subscription().into_iter().flat_map(|s| &s.items);
        items.into_iter().any(|item| item.product_id == product_id)
    }

    /// Whether it was given away: a one-time product for a promotion code.
    pub(in crate::sandbox) fn given_away(&self) -> bool {
        self.promotion.is_some() && self.subscription().is_none()
    }

    /// The first order; its id is the base of all.
    pub(in crate::sandbox) fn first_order_id(&self) -> &str {
        self.orders.first().map_or("", |order| &order.id)
    }

    /// The order of the latest successful charge, or the one that awaits its payment.
    pub(in crate::sandbox) fn latest_order_id(&self) -> &str {
        let paid = self.orders.iter().rfind(|order| order.is_processed());
        paid.or(self.orders.first())
            .map_or("", |order| order.id.as_str())
    }

    /// The order of a charge that has failed and is being tried again.
    pub(in crate::sandbox) fn pending_order_id(&self) -> Option<&str> {
        let declined = self.subscription().is_some_and(Subscription::declined);
        let order = self.orders.last().filter(|_| declined)?;
        Some(&order.id)
    }

    pub(in crate::sandbox) fn order(&self, id: &str) -> Option<&Order> {
        self.orders.iter().find(|order| order.id == id)
    }

    pub(super) fn order_mut(&mut self, id: &str) -> Option<&mut Order> {
        self.orders.iter_mut().find(|order| order.id == id)
    }

    /// The order id of the charge after the latest: suffixes count renewals from `..0`.
    pub(super) fn next_order_id(&self) -> String {
        let renewals = self.orders.len().saturating_sub(1);
        format!("{}..{renewals}", self.first_order_id())
    }

    /// Whether the customer has the use of any of it.
    pub(in crate::sandbox) fn entitles(&self, now: DateTime<Utc>) -> bool {
        match &self.content {
            Content::Subscription(subscription) => subscription.state(now).entitles(),
            Content::OneTime(bought) => bought.state == OneTimeState::Purchased,
        }
    }

    /// Whether the API still answers for it: a hold or a pause may well last longer than what it
    /// is forgotten after.
    pub(in crate::sandbox) fn readable(&self, now: DateTime<Utc>) -> bool {
        let Some(subscription) = self.subscription() else {
            return true;
        };
        let ended_at = subscription.ended_at.or(subscription.expiry());
        let limit = TimeDelta::days(READABLE_DAYS);
        subscription.state(now) != SubscriptionState::Expired
            || ended_at.is_none_or(|at| now <= at + limit)
    }

    /// The entity tag: another one after every change, and no part of the token.
    pub(in crate::sandbox) fn etag(&self) -> String {
        // FNV-1a
        let hash = self
            .token
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
            });
        format!("{hash:016x}-{:x}", self.version)
    }

    pub(super) fn over(&self) -> bool {
        match &self.content {
            Content::Subscription(subscription) => subscription.over(),
            Content::OneTime(bought) => bought.state == OneTimeState::Cancelled,
        }
    }

    /// When the purchase is refunded for want of acknowledgement; a pending one is not.
    pub(super) fn forfeited_at(&self, setup: &StoreSetup) -> Option<DateTime<Utc>> {
        let started_at = self.started_at?;
        if self.acknowledged || self.over() {
            return None;
        }
        let short = self
            .subscription()
            .and_then(|subscription| prepaid::acknowledge_within(subscription, setup));
        Some(started_at + short.unwrap_or(TimeDelta::days(ACKNOWLEDGE_DAYS)))
    }

    /// When something happens to this purchase by itself.
    pub(in crate::sandbox) fn next_due(&self, setup: &StoreSetup) -> Option<DateTime<Utc>> {
        [
            self.late_at(),
            self.forfeited_at(setup),
            self.ends_at(&setup.timing),
            self.consent_asked_at(),
            self.decided_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn late_at(&self) -> Option<DateTime<Utc>> {
        self.late.iter().map(|(at, _)| *at).min()
    }

    pub(super) fn ends_at(&self, timing: &Timing) -> Option<DateTime<Utc>> {
        self.subscription().and_then(|s| s.ends_at(timing))
    }

    /// Whether it awaits its first payment.
    pub(in crate::sandbox) fn pending(&self) -> bool {
        match &self.content {
            Content::Subscription(subscription) => subscription.phase == Phase::Pending,
            Content::OneTime(bought) => bought.state == OneTimeState::Pending,
        }
    }
}
