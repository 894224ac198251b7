//! Renewal dates moved into the future by the developer, of one subscriber or of all of a product.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::Signal;
use super::action::ExtendReason;
use super::chain::{Chain, Phase};
use super::offers::AppliedOffer;

/// Days by which one extension may move the date.
pub(super) const DAYS_MAX: u8 = 90;
/// Extensions that one customer gets within the days.
const EXTENSIONS_MAX: usize = 2;
const WITHIN_DAYS: i64 = 365;

/// Why Apple does not extend a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::sandbox) enum ExtensionRefusal {
    /// Not in a paid period.
    #[error("the subscription is not in a state that can be extended")]
    IneligibleState,
    /// Extended often enough.
    #[error("the subscription has been extended twice within a year")]
    MaximumReached,
    /// Only the purchaser's subscription can be extended.
    #[error("a shared subscription follows its purchaser's")]
    FamilyShared,
}

/// An extended period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sandbox) struct Extended {
    pub(in crate::sandbox) effective_date: DateTime<Utc>,
    pub(in crate::sandbox) web_order_line_item_id: String,
}

/// An extension for all subscribers of a product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct MassExtension {
    /// The developer's own name for the request.
    pub(in crate::sandbox) request_identifier: String,
    pub(in crate::sandbox) product_id: String,
    /// 1 to 90.
    pub(in crate::sandbox) days: u8,
    pub(in crate::sandbox) reason: ExtendReason,
    /// ISO 3166 alpha-3 codes; empty for all.
    pub(in crate::sandbox) storefronts: Vec<String>,
}

/// What became of an extension for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct MassExtensionResult {
    pub(in crate::sandbox) request: MassExtension,
    pub(in crate::sandbox) completed_at: DateTime<Utc>,
    pub(in crate::sandbox) succeeded: u64,
    pub(in crate::sandbox) failed: u64,
}

impl Chain {
    /// Moves the end of the current period; `days` has been checked.
    pub(super) fn extend(
        &mut self,
        days: u8,
        now: DateTime<Utc>,
    ) -> Result<(Extended, Signal), ExtensionRefusal> {
        if self.sharing.is_shared() {
            return Err(ExtensionRefusal::FamilyShared);
        }
        self.check_extension(now)?;
        let delta = TimeDelta::days(days.into());
        let expires = self.expires_at() + delta;
        if let Some(subscription) = self.subscription.as_mut() {
            subscription.extended_at.push(now);
            subscription.phase = match subscription.phase {
                Phase::Grace { until } if expires <= now => Phase::Grace {
                    until: until + delta,
                },
                // Charged, and judged, anew when the later end comes.
                Phase::Active
                | Phase::Declined
                | Phase::Ending { .. }
                | Phase::Grace { .. }
                | Phase::Retry { .. }
                | Phase::Expired { .. }
                | Phase::Revoked => Phase::Active,
            };
            if let Some(commitment) = subscription.commitment.as_mut() {
                commitment.expires_at += delta;
            }
        }
        let Some(latest) = self.latest_mut() else {
            return Err(ExtensionRefusal::IneligibleState);
        };
        latest.expires_at = Some(expires);
        if let Some(commitment) = latest.commitment.as_mut() {
            commitment.expires_at += delta;
        }
        let extended = Extended {
            effective_date: expires,
            web_order_line_item_id: latest.web_order_line_item_id.clone().unwrap_or_default(),
        };
        Ok((extended, self.signal("RENEWAL_EXTENDED", None)))
    }

    fn check_extension(&self, now: DateTime<Utc>) -> Result<(), ExtensionRefusal> {
        let (Some(subscription), Some(latest)) = (&self.subscription, self.latest()) else {
            return Err(ExtensionRefusal::IneligibleState);
        };
        let running = match subscription.phase {
            Phase::Active | Phase::Declined | Phase::Ending { .. } => now < self.expires_at(),
            Phase::Grace { until } => now < until,
            Phase::Retry { .. } | Phase::Expired { .. } | Phase::Revoked => false,
        };
        let free = latest.offer.as_ref().is_some_and(AppliedOffer::is_free);
        if !running || free {
            return Err(ExtensionRefusal::IneligibleState);
        }
        let since = now - TimeDelta::days(WITHIN_DAYS);
        let recent = subscription.extended_at.iter().filter(|at| **at > since);
        match recent.count() < EXTENSIONS_MAX {
            true => Ok(()),
            false => Err(ExtensionRefusal::MaximumReached),
        }
    }
}
