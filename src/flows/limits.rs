//! Per-account limits on calls that may cost a call to a store.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::Core;
use crate::domain::chain::Alias;
use crate::domain::ids::{AccountId, ChainId};
use crate::storage::{StorageError, budget};

/// Takes one from a bucket that all replicas share, refilled at `per_second`.
pub(crate) async fn take_shared(
    core: &Core,
    bucket: &str,
    per_second: f64,
) -> Result<bool, StorageError> {
    budget::take_of(&core.db, bucket, 1.0, per_second, 0.0).await
}

const WINDOW: Duration = Duration::from_secs(60);
const EXPORT_WINDOW: Duration = Duration::from_secs(60 * 60);
/// On one replica.
const EXPORTS_AT_ONCE: usize = 2;
/// Long enough to blunt a flood of junk, short enough for a store that was slow to know a purchase.
const MISSING_FOR: Duration = Duration::from_secs(10);

/// Counts per account (or session) within a window that starts with its first call.
#[derive(Debug)]
pub(crate) struct Limit {
    counts: Cache<Uuid, Arc<AtomicU32>>,
    max: u32,
    window: Duration,
}

impl Limit {
    fn per_minute(max: u32) -> Self {
        Self::within(WINDOW, max)
    }

    fn within(window: Duration, max: u32) -> Self {
        let counts = Cache::builder()
            .max_capacity(200_000)
            .time_to_live(window)
            .build();
        Self {
            counts,
            max,
            window,
        }
    }

    /// Takes one; the wait until it may be tried again if none is left.
    pub(crate) fn take(&self, account: AccountId) -> Result<(), Duration> {
        self.take_of(account.0)
    }

    /// The same of whatever else has an id.
    pub(crate) fn take_of(&self, id: Uuid) -> Result<(), Duration> {
        let count = self.counts.get_with(id, Default::default);
        if count.fetch_add(1, Ordering::Relaxed) < self.max {
            Ok(())
        } else {
            Err(self.window)
        }
    }
}

/// A bind costs one of an account's share.
pub(crate) const BIND: u32 = 1;
/// A refresh asks about all purchases.
pub(crate) const REFRESH: u32 = 6;

/// One share per account of all calls that may cost a call to a store: as much as a minute refills
/// at once, and then no faster than it refills.
#[derive(Debug)]
pub(crate) struct Shares {
    left: Cache<AccountId, Arc<Mutex<Share>>>,
    max: f64,
}

#[derive(Debug)]
struct Share {
    left: f64,
    since: Instant,
}

impl Shares {
    fn per_minute(max: u32) -> Self {
        Self {
            // After a window without a call a share is whole again.
            left: Cache::builder()
                .max_capacity(200_000)
                .time_to_idle(WINDOW)
                .build(),
            max: f64::from(max),
        }
    }

    /// Takes `cost`; the wait until there is as much if there is not.
    pub(crate) fn take(&self, account: AccountId, cost: u32) -> Result<(), Duration> {
        self.take_at(account, cost, Instant::now())
    }

    fn take_at(&self, account: AccountId, cost: u32, now: Instant) -> Result<(), Duration> {
        let whole = || {
            let (left, since) = (self.max, now);
            Arc::new(Mutex::new(Share { left, since }))
        };
        let share = self.left.get_with(account, whole);
        let mut share = share.lock().unwrap_or_else(PoisonError::into_inner);
        let (cost, per_second) = (f64::from(cost), self.max / WINDOW.as_secs_f64());
        let passed = now.saturating_duration_since(share.since).as_secs_f64();
        share.left = (share.left + passed * per_second).min(self.max);
        share.since = now;
        if share.left < cost {
            metrics::counter!("entitled_account_calls_refused_total").increment(1);
            return Err(Duration::from_secs_f64((cost - share.left) / per_second));
        }
        share.left -= cost;
        Ok(())
    }
}

/// All limits of a replica.
#[derive(Debug)]
pub(crate) struct Limits {
    /// Binds and refreshes of an account together.
    pub(crate) calls: Shares,
    /// Proofs of restores, each counted: one full restore a minute.
    pub(crate) restored: Limit,
    /// Bare ids are guessable: few tries.
    pub(crate) bare_id: Limit,
    pub(crate) preflight: Limit,
    /// New refresh tokens of a session: an app needs one for each access token.
    pub(crate) rotations: Limit,
    /// An export reads and opens everything of an account.
    pub(crate) export: Limit,
    /// Each holds a connection and what the database saw at its beginning.
    pub(crate) exporting: Arc<Semaphore>,
    /// Purchases that their store did not know a moment ago: junk is not asked for twice.
    missing: Cache<Alias, ()>,
    /// Refusals that have left their events today.
    refusals: Cache<(ChainId, AccountId), ()>,
}

impl Limits {
    pub(crate) fn is_known_missing(&self, alias: &Alias) -> bool {
        self.missing.contains_key(alias)
    }

    pub(crate) fn note_missing(&self, alias: &Alias) {
        self.missing.insert(alias.clone(), ());
    }

    /// Whether this account's claim on that chain is refused for the first time in a day: a
    /// stubborn claimant does not fill the owner's timeline.
    pub(crate) fn is_first_refusal(&self, chain: ChainId, claimant: AccountId) -> bool {
        let key = (chain, claimant);
        self.refusals.entry(key).or_insert(()).is_fresh()
    }
}

impl Limits {
    /// `account_calls_per_minute`: binds of one account; a refresh is as much as six.
    pub(crate) fn new(account_calls_per_minute: u32) -> Self {
        Self {
            calls: Shares::per_minute(account_calls_per_minute),
            restored: Limit::per_minute(100),
            bare_id: Limit::per_minute(10),
            preflight: Limit::per_minute(30),
            rotations: Limit::per_minute(10),
            export: Limit::within(EXPORT_WINDOW, 2),
            exporting: Arc::new(Semaphore::new(EXPORTS_AT_ONCE)),
            missing: Cache::builder()
                .max_capacity(100_000)
                .time_to_live(MISSING_FOR)
                .build(),
            refusals: Cache::builder()
                .max_capacity(100_000)
                .time_to_live(Duration::from_secs(24 * 60 * 60))
                .build(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_account_cannot_use_up_anothers() {
        let limit = Limit::per_minute(2);
        let (a, b) = (
            AccountId(uuid::Uuid::from_u128(1)),
            AccountId(uuid::Uuid::from_u128(2)),
        );
        assert!(limit.take(a).is_ok() && limit.take(a).is_ok());
        assert_eq!(limit.take(a), Err(WINDOW));
        assert!(limit.take(b).is_ok());
    }

    #[test]
    fn binds_and_refreshes_share_what_time_gives_back() {
        let shares = Shares::per_minute(60);
        let (a, b) = (
            AccountId(uuid::Uuid::from_u128(1)),
            AccountId(uuid::Uuid::from_u128(2)),
        );
        let start = Instant::now();
        let take = |account, cost, after| {
            shares.take_at(account, cost, start + Duration::from_secs(after))
        };
        for _ in 0..9 {
            assert_eq!(take(a, REFRESH, 0), Ok(()));
        }
        for _ in 0..4 {
            assert_eq!(take(a, BIND, 0), Ok(()));
        }
        assert_eq!(take(a, REFRESH, 0), Err(Duration::from_secs(4)));
        assert_eq!(take(a, BIND, 0), Ok(()), "what is cheaper still is");
        assert_eq!(take(b, REFRESH, 0), Ok(()));
        assert_eq!(take(a, REFRESH, 4), Err(Duration::from_secs(1)));
        assert_eq!(take(a, REFRESH, 5), Ok(()));
        for _ in 0..10 {
            assert_eq!(take(a, REFRESH, 600), Ok(()));
        }
        assert!(take(a, REFRESH, 600).is_err(), "no more than a minute's");
    }
}
