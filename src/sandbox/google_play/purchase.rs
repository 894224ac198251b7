//! A purchase at Google Play as it stands: what is in it, and what follows from that.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::super::app_store::Billing;
use super::super::period::Period;
use super::super::setup::{GooglePlayKind, GooglePlayProduct, Timing};
use super::notification::SubscriptionEvent;

/// An unacknowledged purchase is refunded after this.
const ACKNOWLEDGE_DAYS: i64 = 3;

/// One purchase token and everything that followed from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::sandbox) struct Purchase {
    pub(in crate::sandbox) token: String,
    pub(in crate::sandbox) customer: String,
    pub(in crate::sandbox) product_id: String,
    pub(in crate::sandbox) currency: String,
    pub(in crate::sandbox) started_at: DateTime<Utc>,
    pub(in crate::sandbox) obfuscated_account_id: Option<String>,
    pub(super) linked_token: Option<String>,
    pub(super) out_of_app: Option<OutOfApp>,
    pub(in crate::sandbox) acknowledged: bool,
    /// Paid orders, oldest first; never empty.
    pub(super) orders: Vec<Order>,
    pub(in crate::sandbox) content: Content,
    /// Notifications that follow an earlier one after a moment.
    pub(super) late: Vec<(DateTime<Utc>, SubscriptionEvent)>,
}

/// What was bought.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(in crate::sandbox) enum Content {
    /// An auto-renewing base plan.
    Subscription(Subscription),
    /// A one-time product.
    OneTime { consumed: bool, cancelled: bool },
}

/// The renewing part of a purchase.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::sandbox) struct Subscription {
    pub(in crate::sandbox) base_plan_id: String,
    /// As the store shows it: moved forward by a grace period.
    pub(in crate::sandbox) expiry: DateTime<Utc>,
    pub(in crate::sandbox) auto_renew: bool,
    pub(super) billing: Billing,
    pub(super) phase: Phase,
    pub(super) trial: Option<Period>,
    pub(super) cancellation: Option<Cancellation>,
}

/// Where a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub(super) enum Phase {
    Active,
    /// Unpaid since `since`, and nothing shows it.
    SilentGrace {
        since: DateTime<Utc>,
    },
    /// Unpaid since `since`, with access.
    Grace {
        since: DateTime<Utc>,
    },
    /// Unpaid, without access.
    Hold {
        until: DateTime<Utc>,
    },
    Expired,
}

/// Why a subscription will not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub(super) enum Cancellation {
    User { at: DateTime<Utc> },
    System,
    Replacement,
}

/// What the store remembers of a lapsed subscription that was taken up again outside the app.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OutOfApp {
    pub(super) expired_token: String,
    pub(super) expired_account_id: Option<String>,
}

/// A charge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) id: String,
    pub(super) at: DateTime<Utc>,
    /// End of the period it pays; subscriptions only.
    pub(super) until: Option<DateTime<Utc>>,
    pub(super) price_micros: i64,
    pub(super) refunded_at: Option<DateTime<Utc>>,
}

/// `SUBSCRIPTION_STATE_…` without the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sandbox) enum SubscriptionState {
    Active,
    Canceled,
    InGracePeriod,
    OnHold,
    Expired,
}

impl Subscription {
    pub(super) fn new(
        product: &GooglePlayProduct,
        at: DateTime<Utc>,
        trial: Option<Period>,
    ) -> Option<Self> {
        let GooglePlayKind::AutoRenewable {
            base_plan_id,
            period,
            ..
        } = &product.kind
        else {
            return None;
        };
        Some(Self {
            base_plan_id: base_plan_id.clone(),
            expiry: trial.unwrap_or(*period).after(at),
            auto_renew: true,
            billing: Billing::Works,
            phase: Phase::Active,
            trial,
            cancellation: None,
        })
    }

    pub(in crate::sandbox) fn state(&self, now: DateTime<Utc>) -> SubscriptionState {
        match self.phase {
            Phase::Active if self.auto_renew => SubscriptionState::Active,
            Phase::Active if now < self.expiry => SubscriptionState::Canceled,
            Phase::SilentGrace { .. } => SubscriptionState::Active,
            Phase::Grace { .. } => SubscriptionState::InGracePeriod,
            Phase::Hold { .. } => SubscriptionState::OnHold,
            Phase::Active | Phase::Expired => SubscriptionState::Expired,
        }
    }

    /// Whether a charge has failed and is being tried again.
    pub(super) fn declined(&self) -> bool {
        matches!(
            self.phase,
            Phase::SilentGrace { .. } | Phase::Grace { .. } | Phase::Hold { .. }
        )
    }

    /// When the phase ends by itself.
    pub(super) fn ends_at(&self, timing: &Timing) -> Option<DateTime<Utc>> {
        let lag = |seconds: u32| TimeDelta::seconds(seconds.into());
        match self.phase {
            Phase::Active if self.auto_renew => {
                Some(self.expiry + lag(timing.google_renewal_lag_seconds))
            }
            Phase::Active => Some(self.expiry + lag(timing.google_expiry_lag_seconds)),
            Phase::SilentGrace { .. } | Phase::Grace { .. } => Some(self.expiry),
            Phase::Hold { until } => Some(until),
            Phase::Expired => None,
        }
    }

    pub(super) fn end(&mut self, at: DateTime<Utc>, cancellation: Cancellation) {
        self.phase = Phase::Expired;
        self.auto_renew = false;
        self.expiry = self.expiry.min(at);
        self.cancellation.get_or_insert(cancellation);
    }
}

impl Purchase {
    pub(in crate::sandbox) fn subscription(&self) -> Option<&Subscription> {
        match &self.content {
            Content::Subscription(subscription) => Some(subscription),
            Content::OneTime { .. } => None,
        }
    }

    pub(super) fn subscription_mut(&mut self) -> Option<&mut Subscription> {
        match &mut self.content {
            Content::Subscription(subscription) => Some(subscription),
            Content::OneTime { .. } => None,
        }
    }

    /// The order of the latest successful charge.
    pub(in crate::sandbox) fn latest_order_id(&self) -> &str {
        self.orders.last().map_or("", |order| &order.id)
    }

    /// The order id of the charge after the latest: suffixes count renewals from `..0`.
    pub(super) fn next_order_id(&self) -> String {
        let base = self.orders.first().map_or("", |order| &order.id);
        format!("{base}..{}", self.orders.len().saturating_sub(1))
    }

    pub(super) fn new(
        token: String,
        customer: String,
        product: &GooglePlayProduct,
        content: Content,
        order: Order,
    ) -> Self {
        Self {
            token,
            customer,
            product_id: product.product_id.clone(),
            currency: product.currency.clone(),
            started_at: order.at,
            obfuscated_account_id: None,
            linked_token: None,
            out_of_app: None,
            acknowledged: false,
            orders: vec![order],
            content,
            late: Vec::new(),
        }
    }

    /// Whether the customer has the use of it.
    pub(in crate::sandbox) fn entitles(&self, now: DateTime<Utc>) -> bool {
        match &self.content {
            Content::Subscription(subscription) => matches!(
                subscription.state(now),
                SubscriptionState::Active
                    | SubscriptionState::InGracePeriod
                    | SubscriptionState::Canceled
            ),
            Content::OneTime { cancelled, .. } => !cancelled,
        }
    }

    /// Whether the latest order was refunded.
    pub(in crate::sandbox) fn refunded(&self) -> bool {
        self.orders
            .last()
            .is_some_and(|order| order.refunded_at.is_some())
    }

    fn over(&self) -> bool {
        match &self.content {
            Content::Subscription(subscription) => subscription.phase == Phase::Expired,
            Content::OneTime { cancelled, .. } => *cancelled,
        }
    }

    /// When the purchase is refunded for want of acknowledgement.
    pub(super) fn forfeited_at(&self) -> Option<DateTime<Utc>> {
        (!self.acknowledged && !self.over())
            .then(|| self.started_at + TimeDelta::days(ACKNOWLEDGE_DAYS))
    }

    /// When something happens to this purchase by itself.
    pub(in crate::sandbox) fn next_due(&self, timing: &Timing) -> Option<DateTime<Utc>> {
        let ends = self.subscription().and_then(|s| s.ends_at(timing));
        let late = self.late.iter().map(|(at, _)| *at).min();
        [late, self.forfeited_at(), ends]
            .into_iter()
            .flatten()
            .min()
    }
}
