//! The state of one line item: each variant holds only what is true in it.

use serde::{Deserialize, Serialize};

use crate::domain::planted::{self, Bug};
use crate::domain::time::Instant;

/// A line item of a purchase, normalised over all stores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum ItemState {
    /// A subscription inside a paid (or free trial) period.
    Active {
        expires_at: Instant,
        renewal: Renewal,
    },
    /// The renewal failed; the store keeps access while it retries.
    GracePeriod { expires_at: Instant, until: Instant },
    /// The renewal failed; the store retries without access (Apple billing retry, Google hold).
    OnHold { since: Instant },
    /// The customer paused it at the store.
    Paused {
        since: Instant,
        resumes_at: Option<Instant>,
    },
    /// Not paid yet (cash, approval by a parent).
    Pending,
    /// Over.
    Expired { at: Instant, reason: ExpiryReason },
    /// Taken back by the store: refund, chargeback, family sharing withdrawn.
    Revoked {
        at: Instant,
        reason: RevocationReason,
    },
    /// A one-time purchase that lasts.
    Owned { since: Instant },
    /// A word of the store that this version does not know: kept, counted, grants nothing.
    Unknown { said: String },
}

/// Whether the store will charge again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Renewal {
    On,
    /// Canceled, prepaid or non-renewing: the end is known.
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExpiryReason {
    Canceled,
    BillingError,
    PriceIncreaseDeclined,
    ProductUnavailable,
    /// A pending purchase that was never paid.
    NeverPaid,
    /// Its successor (a new token, an upgrade) carries on.
    Replaced,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RevocationReason {
    Refunded,
    FamilySharingEnded,
    /// Not acknowledged in time, fraud, or not told.
    Store,
}

/// What kind of period the customer is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Offer {
    #[default]
    None,
    FreeTrial,
    Introductory,
    Promotional,
}

impl Offer {
    /// The word for SQL; none for the full price.
    pub(crate) fn as_str(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::FreeTrial => Some("free_trial"),
            Self::Introductory => Some("introductory"),
            Self::Promotional => Some("promotional"),
        }
    }
}

impl ItemState {
    /// The word for SQL, events and the timeline.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Active { .. } => "active",
            Self::GracePeriod { .. } => "grace_period",
            Self::OnHold { .. } => "on_hold",
            Self::Paused { .. } => "paused",
            Self::Pending => "pending",
            Self::Expired { .. } => "expired",
            Self::Revoked { .. } => "revoked",
            Self::Owned { .. } => "owned",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// The end of what was paid, for display.
    pub(crate) fn expires_at(&self) -> Option<Instant> {
        match self {
            Self::Active { expires_at, .. } | Self::GracePeriod { expires_at, .. } => {
                Some(*expires_at)
            }
            Self::Expired { at, .. } | Self::Revoked { at, .. } => Some(*at),
            Self::OnHold { since } => Some(*since),
            Self::Paused { since, .. } => Some(*since),
            Self::Pending | Self::Owned { .. } | Self::Unknown { .. } => None,
        }
    }

    pub(crate) fn will_renew(&self) -> bool {
        matches!(
            self,
            Self::Active {
                renewal: Renewal::On,
                ..
            } | Self::GracePeriod { .. }
        )
    }

    /// Since when the store has failed to charge.
    pub(crate) fn billing_issue_since(&self) -> Option<Instant> {
        match self {
            Self::GracePeriod {
                expires_at: since, ..
            }
            | Self::OnHold { since } => Some(*since),
            Self::Active { .. }
            | Self::Paused { .. }
            | Self::Pending
            | Self::Expired { .. }
            | Self::Revoked { .. }
            | Self::Owned { .. }
            | Self::Unknown { .. } => None,
        }
    }

    /// Nothing but a new purchase or a reversed refund can bring it back.
    pub(crate) fn is_ended(&self) -> bool {
        matches!(self, Self::Expired { .. } | Self::Revoked { .. })
    }
}

/// How long access outlives the paid period while the store may still renew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leniency {
    /// Stores renew seconds to minutes late (default 1 h).
    pub(crate) renewal: chrono::TimeDelta,
    /// The most that a store which cannot be reached extends it (default 24 h).
    pub(crate) outage: chrono::TimeDelta,
    /// How long access from a signed proof alone lasts while the store is away (default 6 h).
    pub(crate) unconfirmed: chrono::TimeDelta,
}

impl Default for Leniency {
    fn default() -> Self {
        Self {
            renewal: chrono::TimeDelta::hours(1),
            outage: chrono::TimeDelta::hours(24),
            unconfirmed: chrono::TimeDelta::hours(6),
        }
    }
}

/// When access ends if nobody says anything more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Access {
    /// It grants nothing.
    None,
    Until(Instant),
    Lifetime,
}

impl Access {
    pub(crate) fn is_open_at(self, now: Instant) -> bool {
        match self {
            Self::None => false,
            Self::Until(end) => now < end,
            Self::Lifetime => true,
        }
    }

    pub(crate) fn until(self) -> Option<Instant> {
        match self {
            Self::Until(end) => Some(end),
            Self::None | Self::Lifetime => None,
        }
    }

    /// The same access, but never beyond `end`.
    #[must_use]
    pub(crate) fn no_later_than(self, end: Instant) -> Self {
        match self {
            Self::None => Self::None,
            Self::Until(until) => Self::Until(until.min(end)),
            Self::Lifetime => Self::Until(end),
        }
    }
}

impl ItemState {
    /// Access that this state gives, judged by `leniency`; `store_away` while the store cannot be asked.
    pub(crate) fn access(&self, leniency: Leniency, store_away: bool) -> Access {
        match self {
            Self::Active {
                expires_at,
                renewal: Renewal::Off,
            } => Access::Until(*expires_at),
            Self::Active {
                expires_at,
                renewal: Renewal::On,
            } => {
                let slack = if planted::is(Bug::NoLeniency) {
                    chrono::TimeDelta::zero()
                } else if store_away {
                    leniency.outage
                } else {
                    leniency.renewal
                };
                Access::Until(*expires_at + slack)
            }
            Self::GracePeriod { .. } if planted::is(Bug::GraceIsOver) => Access::None,
            Self::GracePeriod { until, .. } => Access::Until(*until),
            Self::Pending if planted::is(Bug::PendingGrants) => Access::Lifetime,
            Self::Owned { .. } => Access::Lifetime,
            Self::OnHold { .. }
            | Self::Paused { .. }
            | Self::Pending
            | Self::Expired { .. }
            | Self::Revoked { .. }
            | Self::Unknown { .. } => Access::None,
        }
    }
}
