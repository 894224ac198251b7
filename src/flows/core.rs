//! What every flow needs, built once in `app`.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::TimeDelta;
use moka::sync::Cache;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::breaker::Breakers;
use super::limits::Limits;
use super::retain::Retention;
use crate::clock::Clock;
use crate::domain::catalog::Catalog;
use crate::domain::gift::GiftRules;
use crate::domain::ids::{AccountId, CatalogVersion, Revision};
use crate::domain::provider::{Environment, Provider};
use crate::domain::reconcile::Policy;
use crate::domain::refund_defence::DefencePolicy;
use crate::providers::registry::Stores;
use crate::storage::Db;
use crate::storage::accounts::Account;
use crate::watch::{Hub, relay};

/// Longer than a database outage that reads outlive.
const ACCOUNTS_REMEMBERED_FOR: Duration = Duration::from_secs(15 * 60);
const ACCOUNTS_REMEMBERED_MAX: u64 = 200_000;

/// Machine-time settings of the pipeline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    /// How long a worker may hold a chain (default 30 s).
    pub(crate) lease: Duration,
    /// How long one fetch of a chain may take (default 6 s: a caller who waits 10 s still hears that
    /// its signed proof stands in).
    pub(crate) fetch_timeout: Duration,
    /// How long a caller waits for its own signal (default 10 s).
    pub(crate) wait_max: Duration,
    /// The longest pause after failures (default 5 min).
    pub(crate) backoff_max: Duration,
    /// Calls per second, over all replicas (default 80: Apple allows 50 of each kind, and a read is
    /// one call of each of two kinds).
    pub(crate) app_store_calls_per_second: f64,
    /// The same for Google (default 40: 3,000 a minute are allowed).
    pub(crate) google_play_calls_per_second: f64,
    /// Accounts per second that a new catalog reaches, over all replicas (default 500).
    pub(crate) catalog_accounts_per_second: f64,
    /// How many chains one worker reconciles at once (default 16).
    pub(crate) concurrency: usize,
}

impl Tuning {
    pub(super) fn calls_per_second(&self, provider: Provider) -> f64 {
        match provider {
            Provider::AppStore => self.app_store_calls_per_second,
            Provider::GooglePlay => self.google_play_calls_per_second,
        }
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            fetch_timeout: Duration::from_secs(6),
            wait_max: Duration::from_secs(10),
            backoff_max: Duration::from_secs(300),
            app_store_calls_per_second: 80.0,
            google_play_calls_per_second: 40.0,
            catalog_accounts_per_second: 500.0,
            concurrency: 16,
        }
    }
}

/// What the configuration says to flows.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) policy: Policy,
    pub(crate) tuning: Tuning,
    pub(crate) defence: DefencePolicy,
    pub(crate) healing: Healing,
    pub(crate) retention: Retention,
    pub(crate) gifts: GiftRules,
    /// Binds of one account; a refresh is as much as several.
    pub(crate) account_calls_per_minute: u32,
}

/// How often stores are looked at for what was not delivered, and what counts as silence.
#[derive(Clone, Debug)]
pub(crate) struct Healing {
    /// Google's voided purchases; a run looks at `overlap` more than its turn.
    pub(crate) voided_every: TimeDelta,
    pub(crate) voided_overlap: TimeDelta,
    /// Apple's notification history.
    pub(crate) history_every: TimeDelta,
    pub(crate) history_overlap: TimeDelta,
    /// The App Store's worlds that are looked at.
    pub(crate) app_store_environments: Vec<Environment>,
    /// Without a sign of life of the webhook listener for so long there was an outage (machine
    /// time).
    pub(crate) outage_after: Duration,
    /// Where notifications are expected from.
    pub(crate) sources: Vec<&'static str>,
    /// So many must be missing before a source is called silent.
    pub(crate) silence_expected_min: f64,
}

/// The parts that flows join.
pub(crate) struct Core {
    pub(crate) db: Db,
    pub(crate) stores: Stores,
    pub(crate) clock: Clock,
    pub(crate) hub: Hub,
    pub(crate) catalog: Arc<ArcSwap<Catalog>>,
    pub(crate) policy: Policy,
    pub(crate) tuning: Tuning,
    pub(crate) defence: DefencePolicy,
    pub(crate) healing: Healing,
    pub(crate) retention: Retention,
    pub(crate) gifts: GiftRules,
    pub(crate) limits: Limits,
    pub(super) breakers: Breakers,
    /// (issuer, subject, anonymous) → account.
    pub(super) accounts: Cache<(String, String, bool), Account>,
    /// Rings when a raw row was kept here.
    pub(crate) received: Notify,
    /// Rings when chains became dirty here.
    pub(crate) work: Notify,
    /// Rings when a settle has written duties.
    pub(crate) duties: Notify,
    /// Rings when transitions may have passed that nobody waited for.
    pub(crate) transitions: Notify,
    /// Rings when this process has taken up a newer catalog.
    pub(crate) catalog_taken_up: Notify,
    /// The newest version that this process has seen; newer than `catalog` if it cannot read it.
    pub(super) newest_catalog: AtomicI64,
    /// Held while a newer version is taken up.
    pub(super) taking_up_catalog: tokio::sync::Mutex<()>,
    /// The text of the configured catalog file.
    pub(super) catalog_file: OnceLock<String>,
    /// Rings whenever a job of this process has done something: whoever waits for idleness looks
    /// again.
    pub(crate) stepped: Notify,
    /// Rings at every settle of this process: waiters look again.
    pub(super) settled: Notify,
    /// Hints for the other replicas, until the relay takes them over.
    hints: Mutex<Option<HintQueue>>,
}

type HintQueue = mpsc::Receiver<(AccountId, Revision)>;

impl Core {
    pub(crate) fn new(
        db: Db,
        stores: Stores,
        clock: Clock,
        hub: Hub,
        catalog: Arc<ArcSwap<Catalog>>,
        settings: Settings,
        hints: HintQueue,
    ) -> Self {
        let Settings {
            policy,
            tuning,
            defence,
            healing,
            retention,
            gifts,
            account_calls_per_minute,
        } = settings;
        let newest_catalog = AtomicI64::new(catalog.load().version().0);
        Self {
            db,
            stores,
            clock,
            hub,
            catalog,
            policy,
            tuning,
            defence,
            healing,
            retention,
            gifts,
            limits: Limits::new(account_calls_per_minute),
            breakers: Breakers::default(),
            accounts: Cache::builder()
                .max_capacity(ACCOUNTS_REMEMBERED_MAX)
                .time_to_live(ACCOUNTS_REMEMBERED_FOR)
                .build(),
            received: Notify::new(),
            work: Notify::new(),
            duties: Notify::new(),
            transitions: Notify::new(),
            catalog_taken_up: Notify::new(),
            newest_catalog,
            taking_up_catalog: tokio::sync::Mutex::default(),
            catalog_file: OnceLock::new(),
            stepped: Notify::new(),
            settled: Notify::new(),
            hints: Mutex::new(Some(hints)),
        }
    }

    /// The newest catalog that this process has seen, whether or not it can read it.
    pub(super) fn newest_catalog(&self) -> CatalogVersion {
        CatalogVersion(self.newest_catalog.load(Ordering::Acquire))
    }

    /// Tells every job of this process to look for work now instead of at its next round.
    pub(crate) fn ring_all(&self) {
        for bell in [
            &self.received,
            &self.work,
            &self.duties,
            &self.transitions,
            &self.catalog_taken_up,
        ] {
            bell.notify_one();
        }
    }

    /// Sends what is queued and returns: for a process that ends after one change.
    pub(crate) async fn flush_hints(&self) {
        let hints = self
            .hints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mut hints) = hints {
            // A closed queue ends the relay once it is empty.
            hints.close();
            relay(self.hub.clone(), hints, CancellationToken::new()).await;
        }
    }

    /// Sends this process's hints to the other replicas until stopped.
    pub(crate) async fn relay(&self, stop: CancellationToken) {
        let hints = self
            .hints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(hints) = hints {
            relay(self.hub.clone(), hints, stop).await;
        }
    }
}
