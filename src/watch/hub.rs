//! The replica's view of its accounts: a read cache with floors, and a conflating channel per
//! watched account.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant as MachineInstant;
use uuid::Uuid;

use super::bus::HintBus;
use super::copies::Copies;
use super::endings::Endings;
use super::view::{Encoder, View};
use crate::domain::catalog::Catalog;
use crate::domain::entitlement::{Snapshot, nothing};
use crate::domain::ids::{AccountId, Revision};
use crate::storage::accounts::Account;
use crate::storage::snapshots::Stored;
use crate::storage::{Db, StorageError, accounts, snapshots};

/// How fresh a read must be.
#[derive(Clone, Debug)]
pub(crate) enum Freshness {
    /// At most `cache_max_age` old while the database answers.
    MinimizeLatency,
    /// At least this revision, if the epoch is the same.
    AtLeast { epoch: String, revision: Revision },
    /// Read now.
    Full,
}

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// Neither the database nor a good enough copy can answer.
    #[error("the database cannot be reached")]
    Unavailable,
    #[error(transparent)]
    Storage(StorageError),
}

impl ReadError {
    /// One of several reads that failed together; whoever asked for all of them gets the cause.
    pub(super) fn failed(cause: String) -> Self {
        Self::Storage(StorageError::Other(cause))
    }

    pub(super) fn behind() -> Self {
        let why = "the snapshot stays behind its hint";
        Self::Storage(StorageError::Conflict(why.into()))
    }
}

impl From<StorageError> for ReadError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Unavailable(_) | StorageError::Slow(_) => Self::Unavailable,
            other @ (StorageError::Conflict(_)
            | StorageError::Unstorable(_)
            | StorageError::Corrupt(_)
            | StorageError::Other(_)) => Self::Storage(other),
        }
    }
}

/// Limits of the cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HubOptions {
    /// The stated staleness of a default read (default 5 s).
    pub(crate) cache_max_age: Duration,
    /// How long default reads go on while the database cannot be reached (default 10 min).
    pub(crate) outage_staleness_max: Duration,
    pub(crate) cached_accounts_max: usize,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            cache_max_age: Duration::from_secs(5),
            outage_staleness_max: Duration::from_secs(600),
            cached_accounts_max: 200_000,
        }
    }
}

/// So often a snapshot is read again that is behind what a hint has promised.
const FILLS_MAX: u32 = 3;
/// How long a read waits for the database while a copy is at hand.
pub(super) const FILL_PATIENCE: Duration = Duration::from_millis(300);
/// How long after that reads do not wait at all.
const AWAY_MS: u64 = 500;

/// A cheap handle; clones are one hub.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Inner>);

struct Inner {
    db: Db,
    catalog: Arc<ArcSwap<Catalog>>,
    encode: Encoder,
    options: HubOptions,
    /// `ArcSwap` wants a sized value, hence the second `Arc`.
    epoch: ArcSwap<Arc<str>>,
    copies: Copies,
    watched: DashMap<AccountId, watch::Sender<Arc<View>>>,
    endings: Endings,
    /// What carries hints between replicas.
    bus: Arc<dyn HintBus>,
    /// Rings when any account may have changed.
    changed: Notify,
    /// Hints for the other replicas.
    outgoing: mpsc::Sender<(AccountId, Revision)>,
    /// Milliseconds since `started` until which the database is taken to be away.
    away_until_ms: AtomicU64,
    /// Milliseconds since `started` at which the last completed sweep began.
    swept_ms: AtomicU64,
    started: MachineInstant,
}

impl Hub {
    /// The receiver feeds the relay.
    pub(crate) fn new(
        db: Db,
        bus: Arc<dyn HintBus>,
        catalog: Arc<ArcSwap<Catalog>>,
        epoch: String,
        encode: Encoder,
        options: HubOptions,
    ) -> (Self, mpsc::Receiver<(AccountId, Revision)>) {
        // A full queue drops hints: the sweep heals what a hint does not tell.
        let (outgoing, queue) = mpsc::channel(16_384);
        let hub = Self(Arc::new(Inner {
            db,
            bus,
            catalog,
            encode,
            options,
            epoch: ArcSwap::from_pointee(epoch.into()),
            copies: Copies::new(options.cached_accounts_max),
            watched: DashMap::new(),
            endings: Endings::new(),
            changed: Notify::new(),
            outgoing,
            away_until_ms: AtomicU64::new(0),
            swept_ms: AtomicU64::new(0),
            started: MachineInstant::now(),
        }));
        (hub, queue)
    }

    pub(crate) fn encoder(&self) -> Encoder {
        self.0.encode
    }

    pub(super) fn db(&self) -> &Db {
        &self.0.db
    }

    pub(super) fn bus(&self) -> &dyn HintBus {
        &*self.0.bus
    }

    /// Waits until some account may have changed; one waits.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    pub(crate) fn epoch(&self) -> Arc<str> {
        Arc::clone(&self.0.epoch.load())
    }

    /// A change that this replica has just committed: told to its own devices at once, queued for
    /// the other replicas.
    pub(crate) fn publish_committed(&self, account: &Account, stored: Stored) {
        self.raise_floor(stored.account, stored.revision);
        let view = self.view(
            account.clone(),
            self.epoch(),
            stored.revision,
            stored.snapshot,
        );
        self.admit(view);
        let (id, revision) = (stored.account, stored.revision);
        if self.0.outgoing.try_send((id, revision)).is_err() {
            metrics::counter!("entitled_hints_dropped_total").increment(1);
        }
    }

    /// An account, or a session of it, takes no credential any more: callers are recognised anew,
    /// streams end.
    pub(crate) fn end(&self, id: Uuid, account: AccountId) {
        if !self.0.endings.note(id) {
            return;
        }
        self.0.changed.notify_one();
        if id == account.0 {
            self.0.copies.forget(account);
        }
        if let Some(sender) = self.0.watched.get(&account) {
            sender.send_modify(|_| {});
        }
    }

    /// Whether that account or session has ended, as far as this replica knows.
    pub(crate) fn has_ended(&self, id: Uuid) -> bool {
        self.0.endings.has(id)
    }

    /// The cached view of an account, if it is good enough as it is.
    pub(crate) fn cached(&self, id: AccountId, freshness: &Freshness) -> Option<Arc<View>> {
        self.0
            .copies
            .get(id)
            .filter(|view| self.satisfies(view, freshness))
    }

    /// A view that is good enough, and whether it is a copy that the database could not confirm.
    pub(crate) async fn read(
        &self,
        account: &Account,
        freshness: &Freshness,
    ) -> Result<(Arc<View>, bool), ReadError> {
        let cached = self.0.copies.get(account.id);
        if let Some(view) = cached
            .as_ref()
            .filter(|view| self.satisfies(view, freshness))
        {
            return Ok((Arc::clone(view), false));
        }
        let stale = cached.filter(|view| self.may_stand_in(view, freshness));
        let Some(stale) = stale else {
            return Ok((self.fill(account).await?, false));
        };
        // A copy is at hand: nobody waits long for a database that does not answer.
        match self.patiently(FILL_PATIENCE, self.fill(account)).await {
            Ok(view) => Ok((view, false)),
            Err(ReadError::Unavailable) => Ok((stale, true)),
            Err(error) => Err(error),
        }
    }

    /// A copy for when the database cannot be reached.
    pub(super) fn stand_in(&self, id: AccountId, freshness: &Freshness) -> Option<Arc<View>> {
        self.0
            .copies
            .get(id)
            .filter(|view| self.may_stand_in(view, freshness))
    }

    /// A read that is not waited for long, and not begun while the database is taken to be away.
    pub(super) async fn patiently<T>(
        &self,
        patience: Duration,
        read: impl Future<Output = Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        if self.database_is_away() {
            return Err(ReadError::Unavailable);
        }
        match tokio::time::timeout(patience, read).await {
            Ok(Err(ReadError::Unavailable)) | Err(_) => {
                self.note_database_away();
                Err(ReadError::Unavailable)
            }
            Ok(read) => read,
        }
    }

    fn database_is_away(&self) -> bool {
        self.now_ms() < self.0.away_until_ms.load(Ordering::Relaxed)
    }

    fn note_database_away(&self) {
        let until = self.now_ms() + AWAY_MS;
        self.0.away_until_ms.store(until, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn satisfies(&self, view: &View, freshness: &Freshness) -> bool {
        match freshness {
            Freshness::Full => false,
            Freshness::AtLeast { epoch, revision } => {
                *epoch == *view.epoch && *revision <= view.revision && self.is_fresh(view)
            }
            Freshness::MinimizeLatency => self.is_fresh(view),
        }
    }

    fn is_fresh(&self, view: &View) -> bool {
        let confirmed = self.swept_at().max(view.read_at);
        confirmed.elapsed() < self.0.options.cache_max_age
    }

    /// Default reads only: stricter callers asked for certainty.
    fn may_stand_in(&self, view: &View, freshness: &Freshness) -> bool {
        let confirmed = self.swept_at().max(view.read_at);
        matches!(freshness, Freshness::MinimizeLatency)
            && confirmed.elapsed() < self.0.options.outage_staleness_max
    }

    /// Whether the database has not confirmed this replica's copies lately.
    pub(crate) fn is_degraded(&self) -> bool {
        self.swept_at().elapsed() >= self.0.options.cache_max_age
    }

    /// Reads from the database, never settling below what a hint has promised.
    async fn fill(&self, account: &Account) -> Result<Arc<View>, ReadError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let promised = self.0.copies.floor(account.id);
            // Named before it is read: a change of history in between makes it no view at all.
            let epoch = self.epoch();
            let stored = snapshots::read(&self.0.db, account.id).await?;
            let view = self.view_of(account, epoch, stored);
            if self.admit(Arc::clone(&view)) {
                return Ok(view);
            }
            match promised {
                // Promised before it was read, and not so: the hint was of a lost history, or false.
                Some(floor) if tries >= FILLS_MAX && view.revision < floor => {
                    self.0.copies.drop_floor(account.id, floor);
                }
                Some(_) | None => {}
            }
            if tries > FILLS_MAX {
                return Err(ReadError::behind());
            }
        }
    }

    /// The view of what was read; who has no snapshot has nothing.
    pub(super) fn view_of(
        &self,
        account: &Account,
        epoch: Arc<str>,
        stored: Option<Stored>,
    ) -> Arc<View> {
        let (revision, snapshot) = match stored {
            Some(stored) => (stored.revision, stored.snapshot),
            None => (Revision::ZERO, nothing(&self.0.catalog.load())),
        };
        self.view(account.clone(), epoch, revision, snapshot)
    }

    pub(super) fn view(
        &self,
        account: Account,
        epoch: Arc<str>,
        revision: Revision,
        snapshot: Snapshot,
    ) -> Arc<View> {
        let encoded = (self.0.encode)(&account, &epoch, revision, &snapshot);
        let read_at = MachineInstant::now();
        Arc::new(View {
            account,
            epoch,
            revision,
            snapshot,
            encoded,
            read_at,
        })
    }

    /// Takes a view into copies and channel unless a newer one is known; whether it may be shown.
    pub(super) fn admit(&self, view: Arc<View>) -> bool {
        let id = view.account.id;
        let is_current = || **self.0.epoch.load() == view.epoch;
        if !is_current() {
            return false;
        }
        let good = self.0.copies.admit(&view, is_current);
        if let Some(sender) = self.0.watched.get(&id) {
            sender.send_if_modified(|current| {
                let newer = current.epoch != view.epoch || current.revision < view.revision;
                if newer {
                    *current = Arc::clone(&view);
                }
                newer
            });
        }
        good
    }

    fn raise_floor(&self, id: AccountId, revision: Revision) {
        self.0.changed.notify_one();
        self.0.copies.raise_floor(id, revision);
    }

    /// A hint or a sweep row: an account has reached a revision. Tells whether its devices here
    /// must be told, which the caller does in batches (`refresh`).
    pub(super) fn note(&self, id: AccountId, revision: Revision) -> bool {
        self.raise_floor(id, revision);
        self.0
            .watched
            .get(&id)
            .is_some_and(|sender| sender.borrow().revision < revision)
    }

    /// Reads accounts again and tells their devices; who has no snapshot (any more) has nothing.
    pub(super) async fn refresh(&self, ids: &[AccountId]) -> Result<(), StorageError> {
        let epoch = self.epoch();
        let stored = snapshots::read_many(&self.0.db, ids).await?;
        let mut stored: HashMap<AccountId, Stored> = stored
            .into_iter()
            .map(|stored| (stored.account, stored))
            .collect();
        for id in ids {
            let Some(account) = self.watched_account(*id) else {
                continue;
            };
            let stored = stored.remove(id);
            self.admit(self.view_of(&account, Arc::clone(&epoch), stored));
        }
        Ok(())
    }

    fn watched_account(&self, id: AccountId) -> Option<Account> {
        let sender = self.0.watched.get(&id)?;
        let account = sender.borrow().account.clone();
        Some(account)
    }

    pub(super) fn watched_ids(&self) -> Vec<AccountId> {
        self.0.watched.iter().map(|entry| *entry.key()).collect()
    }

    /// A sweep that began at `began` has confirmed every copy that it did not invalidate.
    pub(super) fn swept(&self, began: MachineInstant) {
        let ms = began.duration_since(self.0.started).as_millis();
        self.0
            .swept_ms
            .store(u64::try_from(ms).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn swept_at(&self) -> MachineInstant {
        self.0.started + Duration::from_millis(self.0.swept_ms.load(Ordering::Acquire))
    }

    /// Nothing that is cached or was told is certain any more: another database history, or a
    /// replica that has just begun. Everything is forgotten, everybody told again.
    pub(super) async fn begin_anew(&self, epoch: String) -> Result<(), StorageError> {
        self.0.epoch.store(Arc::new(epoch.into()));
        self.0.copies.clear();
        for batch in self.watched_ids().chunks(1_000) {
            self.refresh(batch).await?;
        }
        Ok(())
    }

    /// Drops the copies of accounts without a snapshot: what they have follows from the catalog. All
    /// others are told when they are derived by it.
    pub(crate) fn forget_nothings(&self) {
        let is_nothing = |view: &View| view.revision == Revision::ZERO;
        self.0.copies.forget_all_that(is_nothing);
    }

    /// Follows an account: registered before it is read, so that no change falls in between.
    pub(crate) async fn subscribe(&self, account: &Account) -> Result<Subscription, ReadError> {
        let placeholder = self.0.copies.get(account.id);
        let receiver = {
            let sender = self.0.watched.entry(account.id).or_insert_with(|| {
                let first = placeholder.unwrap_or_else(|| {
                    self.view(
                        account.clone(),
                        self.epoch(),
                        Revision::ZERO,
                        nothing(&self.0.catalog.load()),
                    )
                });
                watch::Sender::new(first)
            });
            sender.subscribe()
        };
        metrics::gauge!("entitled_streams").increment(1.0);
        let mut subscription = Subscription {
            hub: self.clone(),
            id: account.id,
            session: None,
            receiver: Some(receiver),
        };
        let (view, _) = self.read(account, &Freshness::MinimizeLatency).await?;
        self.admit(view);
        if let Some(receiver) = &mut subscription.receiver {
            receiver.mark_changed();
        }
        Ok(subscription)
    }

    /// The account of an id, if it is at hand.
    pub(crate) fn known(&self, id: AccountId) -> Option<Account> {
        self.0.copies.with(id, |view| view.account.clone())
    }

    /// The account's token, for a caller that has only its id.
    pub(crate) async fn account(&self, id: AccountId) -> Result<Option<Account>, ReadError> {
        if let known @ Some(_) = self.known(id) {
            return Ok(known);
        }
        Ok(accounts::get(&self.0.db, id).await?)
    }
}

/// One stream's end of an account's channel; the channel goes with its last one.
pub(crate) struct Subscription {
    hub: Hub,
    id: AccountId,
    /// The session of ours that it rests on.
    session: Option<Uuid>,
    /// Taken only when dropped.
    receiver: Option<watch::Receiver<Arc<View>>>,
}

impl Subscription {
    /// The same, which ends with a session of ours.
    pub(crate) fn of_session(mut self, session: Option<Uuid>) -> Self {
        self.session = session;
        self
    }

    /// Whether nobody may follow the account by this any more.
    pub(super) fn has_ended(&self) -> bool {
        let ended = |id| self.hub.has_ended(id);
        ended(self.id.0) || self.session.is_some_and(ended)
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Waits for a change; `None` when the hub is gone.
    pub(super) async fn changed(&mut self) -> Option<()> {
        self.receiver.as_mut()?.changed().await.ok()
    }

    /// What the account's channel holds now; it counts as seen.
    pub(super) fn latest(&mut self) -> Option<Arc<View>> {
        Some(Arc::clone(&self.receiver.as_mut()?.borrow_and_update()))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        metrics::gauge!("entitled_streams").decrement(1.0);
        // First the receiver, then the count: of two that go together, the second sees nobody.
        drop(self.receiver.take());
        let nobody_left =
            |_: &AccountId, sender: &mut watch::Sender<Arc<View>>| sender.receiver_count() == 0;
        self.hub.0.watched.remove_if_mut(&self.id, nobody_left);
    }
}
