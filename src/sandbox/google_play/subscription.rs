//! A subscription purchase as it stands: its items, and the phase that all of them share.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::super::app_store::Billing;
use super::super::period::Period;
use super::super::setup::Timing;
use super::action::{CancelSurvey, ReplacementMode};
use super::item::{Deferred, Item};

/// The renewing part of a purchase.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::sandbox) struct Subscription {
    /// Never empty; the first is the one that the others were added to.
    pub(in crate::sandbox) items: Vec<Item>,
    pub(super) billing: Billing,
    pub(super) phase: Phase,
    /// How the linked subscription turns into this one once it is paid.
    pub(super) replacing: Option<ReplacementMode>,
    pub(in crate::sandbox) cancellation: Option<Cancellation>,
    /// When it was ended, if not by its time running out.
    #[serde(default)]
    pub(super) ended_at: Option<DateTime<Utc>>,
    /// Length of a pause that begins at the end of the period.
    pub(in crate::sandbox) pause: Option<Period>,
}

/// Where a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub(super) enum Phase {
    /// Awaits its first payment.
    Pending,
    /// The first payment was given up.
    PendingCanceled,
    Active,
    /// Unpaid since `since`, and nothing shows it.
    SilentGrace {
        since: DateTime<Utc>,
        until: DateTime<Utc>,
    },
    /// Unpaid since `since`, with access.
    Grace {
        since: DateTime<Utc>,
        until: DateTime<Utc>,
    },
    /// Unpaid, without access.
    Hold {
        until: DateTime<Utc>,
    },
    /// Stopped by the customer, without access.
    Paused {
        until: DateTime<Utc>,
    },
    Expired,
}

/// Why a subscription will not go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub(in crate::sandbox) enum Cancellation {
    User {
        at: DateTime<Utc>,
        survey: Option<CancelSurvey>,
    },
    Developer {
        /// Whether the customer may take it back.
        restorable: bool,
    },
    System,
    Replacement,
}

impl Cancellation {
    pub(super) const fn by_user(at: DateTime<Utc>) -> Self {
        Self::User { at, survey: None }
    }

    /// Whether the customer may take it back before the period ends.
    pub(super) const fn restorable(&self) -> bool {
        match self {
            Self::User { .. } | Self::Developer { restorable: true } => true,
            Self::Developer { restorable: false } | Self::System | Self::Replacement => false,
        }
    }
}

/// `SUBSCRIPTION_STATE_…` without the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sandbox) enum SubscriptionState {
    Pending,
    Active,
    Paused,
    InGracePeriod,
    OnHold,
    Canceled,
    Expired,
    PendingPurchaseCanceled,
}

impl SubscriptionState {
    /// Whether the customer has access in it.
    pub(in crate::sandbox) const fn entitles(self) -> bool {
        match self {
            Self::Active | Self::InGracePeriod | Self::Canceled => true,
            Self::Pending
            | Self::Paused
            | Self::OnHold
            | Self::Expired
            | Self::PendingPurchaseCanceled => false,
        }
    }
}

impl Subscription {
    /// A subscription that awaits its first payment.
    pub(super) fn pending(items: Vec<Item>, replacing: Option<ReplacementMode>) -> Self {
        Self {
            items,
            billing: Billing::Works,
            phase: Phase::Pending,
            replacing,
            cancellation: None,
            ended_at: None,
            pause: None,
        }
    }

    pub(in crate::sandbox) fn state(&self, now: DateTime<Utc>) -> SubscriptionState {
        match self.phase {
            Phase::Pending => SubscriptionState::Pending,
            Phase::PendingCanceled => SubscriptionState::PendingPurchaseCanceled,
            Phase::Active if self.auto_renew() => SubscriptionState::Active,
            Phase::Active if self.lasts(now) && self.prepaid() => SubscriptionState::Active,
            Phase::Active if self.lasts(now) => SubscriptionState::Canceled,
            Phase::SilentGrace { .. } => SubscriptionState::Active,
            Phase::Grace { .. } => SubscriptionState::InGracePeriod,
            Phase::Hold { .. } => SubscriptionState::OnHold,
            Phase::Paused { .. } => SubscriptionState::Paused,
            Phase::Active | Phase::Expired => SubscriptionState::Expired,
        }
    }

    /// Whether it has come to its end, and that has been told.
    pub(super) fn over(&self) -> bool {
        matches!(self.phase, Phase::Expired | Phase::PendingCanceled)
    }

    /// Whether anything in it is set to renew.
    pub(in crate::sandbox) fn auto_renew(&self) -> bool {
        self.items.iter().any(|item| item.auto_renew)
    }

    pub(super) fn prepaid(&self) -> bool {
        self.items.iter().any(|item| item.prepaid)
    }

    /// The end of what was paid or granted; none before the first payment.
    pub(in crate::sandbox) fn expiry(&self) -> Option<DateTime<Utc>> {
        self.items.iter().filter_map(|item| item.expiry).max()
    }

    fn lasts(&self, now: DateTime<Utc>) -> bool {
        self.items.iter().any(|item| item.lasts(now))
    }

    /// Whether the customer has the use of this item. While the store is late to charge, it leaves
    /// access to what it is about to charge.
    pub(in crate::sandbox) fn item_entitles(&self, item: &Item, now: DateTime<Utc>) -> bool {
        self.state(now).entitles() && (item.lasts(now) || item.auto_renew && item.expiry.is_some())
    }

    /// The item that takes an item's place when its period ends.
    pub(in crate::sandbox) fn next(&self, item: &Item) -> Option<&Item> {
        let becomes = item.becomes()?;
        let mut waiting = self.items.iter().filter(|next| next.expiry.is_none());
        waiting.find(|next| next.product_id == becomes)
    }

    /// The next date of charge.
    pub(super) fn charged_at(&self) -> Option<DateTime<Utc>> {
        self.items.iter().filter_map(Item::charged_at).min()
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
            Phase::Active if self.auto_renew() && self.pause.is_some() => self.charged_at(),
            Phase::Active if self.auto_renew() => self
                .charged_at()
                .map(|at| at + lag(timing.google_renewal_lag_seconds)),
            Phase::Active => self
                .expiry()
                .map(|at| at + lag(timing.google_expiry_lag_seconds)),
            Phase::SilentGrace { until, .. }
            | Phase::Grace { until, .. }
            | Phase::Hold { until }
            | Phase::Paused { until } => Some(until),
            Phase::Pending | Phase::PendingCanceled | Phase::Expired => None,
        }
    }

    /// Ends all of it.
    pub(super) fn end(&mut self, at: DateTime<Utc>, cancellation: Cancellation) {
        self.phase = Phase::Expired;
        self.ended_at = Some(at);
        self.pause = None;
        for item in &mut self.items {
            item.end(at);
        }
        self.cancellation.get_or_insert(cancellation);
    }

    /// The items to charge at `at`.
    pub(super) fn due(&self, at: DateTime<Utc>) -> impl Iterator<Item = &Item> {
        self.items
            .iter()
            .filter(move |item| item.charged_at().is_some_and(|charged| charged <= at))
    }

    /// What is due by `start` and has no customer who would pay for it renews no more: a commitment
    /// that is over, a price that was not agreed to. Whether there is any.
    pub(super) fn stop_unwanted(&mut self, start: DateTime<Utc>) -> bool {
        let mut stopped = false;
        for item in &mut self.items {
            let due = item.charged_at().is_some_and(|at| at <= start);
            if due && (item.commitment_over() || item.unagreed(start)) {
                item.auto_renew = false;
                item.cancel_price_change();
                stopped = true;
            }
        }
        stopped
    }

    pub(super) fn item_mut(&mut self, product_id: &str) -> Option<&mut Item> {
        self.items
            .iter_mut()
            .find(|item| item.product_id == product_id)
    }

    /// Forgets items whose replacement has begun.
    pub(super) fn drop_replaced(&mut self) {
        let waits = self.items.iter().any(|item| item.expiry.is_none());
        if !waits {
            self.items
                .retain(|item| !matches!(item.deferred, Some(Deferred::Replacement { .. })));
        }
    }
}
