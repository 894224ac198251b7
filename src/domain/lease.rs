//! What a signed lease says: an account's entitlements for whoever cannot ask, each with an end of
//! its own. A lease is a promise that nobody can take back, so it is short, and never longer than
//! the access that it is about.

use std::collections::BTreeMap;

use chrono::{SubsecRound as _, TimeDelta};
use serde::{Deserialize, Serialize};

use super::entitlement::{Entitlement, Snapshot};
use super::provider::Environment;
use super::time::Instant;

/// `[entitlements.X.lease]`: how long whoever cannot ask may go on by what was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LeaseSpec {
    /// On devices; 0: it is in no lease of theirs.
    pub(crate) device_minutes: u32,
    /// In services and at edges; 0: it is in no lease of theirs.
    pub(crate) service_minutes: u32,
}

impl Default for LeaseSpec {
    fn default() -> Self {
        Self {
            device_minutes: 3 * 24 * 60,
            service_minutes: 5,
        }
    }
}

impl LeaseSpec {
    /// The most that a catalog may say: a refund is noticed no sooner where nobody asks.
    pub(crate) const DEVICE_MINUTES_MAX: u32 = 30 * 24 * 60;
    pub(crate) const SERVICE_MINUTES_MAX: u32 = 24 * 60;

    /// Whether it says what every entitlement has that says nothing.
    pub(crate) fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    fn lifetime(&self, holder: Holder) -> TimeDelta {
        let minutes = match holder {
            Holder::Device => self.device_minutes,
            Holder::Service => self.service_minutes,
        };
        TimeDelta::minutes(minutes.into())
    }
}

/// Who goes by a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A phone that may be offline for days.
    Device,
    /// A backend, or an edge in front of it, that can ask again in minutes.
    Service,
}

/// What a lease says, to the second: moments in tokens have no fractions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) issued_at: Instant,
    /// When the last of its entitlements ends; without any, when it says nothing more.
    pub(crate) expires_at: Instant,
    /// From when on another one would reach further.
    pub(crate) renew_at: Instant,
    /// Sandbox, if anything in it stands on a sandbox purchase.
    pub(crate) environment: Environment,
    /// What is on, by the catalog's id.
    pub(crate) entitlements: BTreeMap<String, Leased>,
}

/// One entitlement of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leased {
    /// Off from this second on.
    pub(crate) until: Instant,
    /// Of the purchase that it stands on.
    pub(crate) environment: Environment,
}

impl Lease {
    /// A lease on a snapshot, signed at `now`; `spec` is the catalog's word on each entitlement.
    pub(crate) fn of(
        snapshot: &Snapshot,
        spec: impl Fn(&str) -> LeaseSpec,
        holder: Holder,
        now: Instant,
    ) -> Self {
        let issued_at = now.trunc_subsecs(0);
        let snapshot = snapshot.at(now);
        let mut lease = Self {
            issued_at,
            expires_at: issued_at,
            renew_at: Instant::MAX_UTC,
            environment: Environment::Production,
            entitlements: BTreeMap::new(),
        };
        for entitlement in &snapshot.entitlements {
            let lifetime = spec(&entitlement.id).lifetime(holder);
            lease.add(entitlement, lifetime);
        }
        if lease.entitlements.is_empty() {
            lease.expires_at = issued_at + LeaseSpec::default().lifetime(holder);
        }
        lease.renew_at = lease.renew_at.min(lease.expires_at);
        lease
    }

    fn add(&mut self, entitlement: &Entitlement, lifetime: TimeDelta) {
        let Some((end, environment)) = stands_on(entitlement) else {
            return;
        };
        let reach = self.issued_at + lifetime;
        let until = end.map_or(reach, |end| reach.min(end)).trunc_subsecs(0);
        if until <= self.issued_at {
            return;
        }
        if end.is_none_or(|end| reach < end) {
            self.renew_at = self.renew_at.min(self.issued_at + lifetime / 2);
        }
        self.expires_at = self.expires_at.max(until);
        self.environment = self.environment.max(environment);
        let leased = Leased { until, environment };
        self.entitlements.insert(entitlement.id.clone(), leased);
    }
}

/// The end and the environment of the best that an entitlement stands on: what a sandbox purchase
/// prolongs is not told as production's. `None`: it is off.
fn stands_on(entitlement: &Entitlement) -> Option<(Option<Instant>, Environment)> {
    let environment = entitlement.sources.iter().map(|it| it.environment).min()?;
    let of_it = entitlement.sources.iter();
    let of_it = of_it.filter(|source| source.environment == environment);
    let ends = of_it.map(|source| source.access.until());
    let end = ends.reduce(|a, b| Some(a?.max(b?)))?;
    Some((end, environment))
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
