//! Per-account limits on calls that may cost a call to a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::Semaphore;

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
/// Long enough to blunt a flood of junk, short enough for a store that was slow to know a purchase.
const MISSING_FOR: Duration = Duration::from_secs(10);

/// Counts per account within a window that starts with its first call.
#[derive(Debug)]
pub(crate) struct Limit {
    counts: Cache<AccountId, Arc<AtomicU32>>,
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
        let count = self.counts.get_with(account, Default::default);
        if count.fetch_add(1, Ordering::Relaxed) < self.max {
            Ok(())
        } else {
            Err(self.window)
        }
    }
}

/// All limits of a replica.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) bind: Limit,
    /// Proofs of restores, each counted: one full restore a minute.
    pub(crate) restored: Limit,
    /// Bare ids are guessable: few tries.
    pub(crate) bare_id: Limit,
    pub(crate) refresh: Limit,
    pub(crate) preflight: Limit,
    /// An export reads and opens everything of an account.
    pub(crate) export: Limit,
    /// On this replica one export is made at a time.
    pub(crate) exporting: Semaphore,
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

impl Default for Limits {
    fn default() -> Self {
        Self {
            bind: Limit::per_minute(60),
            restored: Limit::per_minute(100),
            bare_id: Limit::per_minute(10),
            refresh: Limit::per_minute(10),
            preflight: Limit::per_minute(30),
            export: Limit::within(EXPORT_WINDOW, 2),
            exporting: Semaphore::new(1),
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
}
