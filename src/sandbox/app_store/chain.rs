//! A chain as Apple keeps it: the transactions of one original transaction id, and where its
//! subscription stands.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::commitment::Commitment;
use super::family::Sharing;
use super::offers::OfferRun;
use super::price::PriceIncrease;
use super::transaction::{Transaction, shared_list};
use super::{Billing, Signal};

/// One original transaction id and everything that followed from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::sandbox) struct Chain {
    pub(in crate::sandbox) original_transaction_id: String,
    pub(in crate::sandbox) customer: String,
    pub(in crate::sandbox) app_transaction_id: String,
    /// What the next transactions will carry; each keeps its own.
    pub(in crate::sandbox) app_account_token: Option<Uuid>,
    /// Oldest first; never empty.
    #[serde(with = "shared_list")]
    pub(in crate::sandbox) transactions: Vec<Arc<Transaction>>,
    /// Present for auto-renewable subscriptions.
    pub(in crate::sandbox) subscription: Option<Subscription>,
    pub(in crate::sandbox) sharing: Sharing,
}

/// The renewing part of a chain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::sandbox) struct Subscription {
    pub(in crate::sandbox) group: String,
    /// Product of the next period (of the next commitment, while one runs); differs from the
    /// current one after a downgrade.
    pub(in crate::sandbox) renews_to: String,
    /// What the customer wants; a commitment goes on being charged whatever it is.
    pub(in crate::sandbox) auto_renew: bool,
    pub(in crate::sandbox) billing: Billing,
    pub(in crate::sandbox) phase: Phase,
    /// When the customer first came, or last came back after a long absence.
    pub(in crate::sandbox) since: DateTime<Utc>,
    /// The offer that the next charge is made with.
    pub(in crate::sandbox) next_offer: Option<OfferRun>,
    /// A higher price that the next renewal brings.
    pub(in crate::sandbox) price_increase: Option<PriceIncrease>,
    pub(in crate::sandbox) commitment: Option<Commitment>,
    /// When the developer extended the period.
    pub(in crate::sandbox) extended_at: Vec<DateTime<Utc>>,
}

/// Where a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub(in crate::sandbox) enum Phase {
    /// Paid for.
    Active,
    /// Paid for, but the charge for the next period has failed.
    Declined,
    /// Paid for, but there will be no next period, whatever the customer wants.
    Ending { intent: Intent },
    /// Unpaid, with access.
    Grace { until: DateTime<Utc> },
    /// Unpaid, without access, still being charged.
    Retry { until: DateTime<Utc> },
    /// Ended.
    Expired { intent: Intent },
    /// Refunded, or no longer shared.
    Revoked,
}

/// Why a subscription ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::sandbox) enum Intent {
    /// The customer wanted no more.
    Voluntary,
    /// No payment could be had.
    Billing,
    /// The customer did not agree to a higher price.
    PriceIncrease,
    /// There is nothing to renew to.
    NotForSale,
    /// Anything else.
    Other,
}

impl Intent {
    /// Apple's `expirationIntent`.
    pub(in crate::sandbox) const fn code(self) -> u8 {
        match self {
            Self::Voluntary => 1,
            Self::Billing => 2,
            Self::PriceIncrease => 3,
            Self::NotForSale => 4,
            Self::Other => 5,
        }
    }

    /// Subtype of the EXPIRED notification.
    pub(super) const fn subtype(self) -> Option<&'static str> {
        match self {
            Self::Voluntary => Some("VOLUNTARY"),
            Self::Billing => Some("BILLING_RETRY"),
            Self::PriceIncrease => Some("PRICE_INCREASE"),
            Self::NotForSale => Some("PRODUCT_NOT_FOR_SALE"),
            Self::Other => None,
        }
    }
}

impl Subscription {
    /// A subscription that has nothing charged yet.
    pub(super) fn new(group: &str, product_id: &str, since: DateTime<Utc>) -> Self {
        Self {
            group: group.to_owned(),
            renews_to: product_id.to_owned(),
            auto_renew: true,
            billing: Billing::Works,
            phase: Phase::Active,
            since,
            next_offer: None,
            price_increase: None,
            commitment: None,
            extended_at: Vec::new(),
        }
    }

    /// Whether another charge follows the current period.
    pub(in crate::sandbox) fn renews(&self) -> bool {
        self.auto_renew || self.is_committed()
    }

    /// Whether months of a commitment are left to be charged.
    pub(super) fn is_committed(&self) -> bool {
        self.commitment.is_some_and(|running| running.has_more())
    }
}

impl Chain {
    /// The latest transaction.
    pub(in crate::sandbox) fn latest(&self) -> Option<&Transaction> {
        self.transactions.last().map(|latest| &**latest)
    }

    pub(super) fn latest_mut(&mut self) -> Option<&mut Transaction> {
        self.transactions.last_mut().map(Arc::make_mut)
    }

    pub(in crate::sandbox) fn transaction(&self, id: &str) -> Option<&Transaction> {
        let mut newest_first = self.transactions.iter().rev();
        newest_first.find(|t| t.id == id).map(|found| &**found)
    }

    pub(super) fn transaction_mut(&mut self, id: &str) -> Option<&mut Transaction> {
        let mut newest_first = self.transactions.iter_mut().rev();
        newest_first.find(|t| t.id == id).map(Arc::make_mut)
    }

    /// End of the latest paid period.
    pub(super) fn expires_at(&self) -> DateTime<Utc> {
        self.latest()
            .and_then(|t| t.expires_at)
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// End of what was paid, or of the grace period.
    pub(in crate::sandbox) fn access_until(&self) -> Option<DateTime<Utc>> {
        let subscription = self.subscription.as_ref()?;
        Some(match subscription.phase {
            Phase::Grace { until } => until,
            Phase::Active
            | Phase::Declined
            | Phase::Ending { .. }
            | Phase::Retry { .. }
            | Phase::Expired { .. }
            | Phase::Revoked => self.expires_at(),
        })
    }

    pub(super) fn signal(&self, kind: &'static str, subtype: Option<&'static str>) -> Signal {
        let latest = self.latest().map(|t| t.id.clone());
        Signal::about(latest.unwrap_or_default(), kind, subtype)
    }

    pub(super) fn enter(&mut self, phase: Phase) {
        if let Some(subscription) = self.subscription.as_mut() {
            subscription.phase = phase;
        }
    }

    /// Whether the customer has the use of the latest transaction.
    pub(in crate::sandbox) fn entitles(&self, now: DateTime<Utc>) -> bool {
        match &self.subscription {
            Some(_) => matches!(self.status(now), Some(1 | 4)),
            None => self.latest().is_some_and(|t| t.revocation.is_none()),
        }
    }

    /// Apple's `status`, for subscriptions.
    pub(in crate::sandbox) fn status(&self, now: DateTime<Utc>) -> Option<u8> {
        let subscription = self.subscription.as_ref()?;
        let over = now >= self.expires_at();
        Some(match subscription.phase {
            Phase::Active if !subscription.renews() && over => 2,
            Phase::Ending { .. } if over => 2,
            Phase::Active | Phase::Declined | Phase::Ending { .. } => 1,
            Phase::Grace { .. } => 4,
            Phase::Retry { .. } => 3,
            Phase::Expired { .. } => 2,
            Phase::Revoked => 5,
        })
    }
}

/// Ids in the sandbox and in production differ in their first digits; a chain keeps its own.
pub(super) fn transaction_prefix(id: &str) -> &'static str {
    match id.starts_with("2000000") {
        true => "2000000",
        false => "57000",
    }
}
