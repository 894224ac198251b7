//! Has every account derived by the newest catalog: in paced batches, by any worker, from where the
//! rows themselves say. Whoever dies in between leaves nothing half done.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::count_effect::testers;
use super::derive::{self, Changed, snapshot_of};
use super::{Core, apply_catalog};
use crate::domain::catalog::Catalog;
use crate::domain::catalog::relearn::{concerns, teaches};
use crate::domain::event::{ApplyReason, Decision, SignalSource};
use crate::domain::goods;
use crate::domain::ids::{AccountId, CatalogVersion};
use crate::domain::time::Instant;
use crate::failpoint;
use crate::storage::accounts::Account;
use crate::storage::books::{self, Books, Current};
use crate::storage::catalogs::{self, Seen};
use crate::storage::events::{self, NewEvent};
use crate::storage::snapshots::{self, Stored};
use crate::storage::{StorageError, Tx, budget, chains, history};

/// Batches that make up a second's worth: short transactions, and an even stream of pushes.
const BATCHES_PER_SECOND: f64 = 20.0;
const BATCH_MAX: f64 = 50.0;
/// Purchases that one step of the walk looks at.
const PAGE: i64 = 500;
/// Another worker has the walk, or accounts that are left are under lock.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Accounts that cannot be read are tried again, not hammered.
const FAILED_PAUSE: Duration = Duration::from_secs(10);

/// Where this process stands; another begins at the first account that is behind.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    version: Option<CatalogVersion>,
    after: Option<AccountId>,
    /// Accounts of this round that could not be derived.
    failed: u64,
    /// Catalogs that purchases were decided by; `None`: not to be had.
    known: BTreeMap<CatalogVersion, Option<Arc<Catalog>>>,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stepped {
    /// Every account is derived by the newest catalog.
    Rests,
    /// The rate is used up, or others are at what is left.
    Waits(Duration),
    Worked,
}

/// One batch.
pub(crate) async fn step(core: &Core, spread: &mut Spread) -> Result<Stepped, StorageError> {
    let catalog = core.catalog.load_full();
    let version = catalog.version();
    if spread.version != Some(version) {
        *spread = Spread {
            version: Some(version),
            ..Spread::default()
        };
    }
    if !catalogs::is_under_way(&core.db, version).await? {
        return Ok(Stepped::Rests);
    }
    if catalogs::newest_version(&core.db).await? != Some(version) {
        // A moment later this process has the newest, too.
        return Ok(Stepped::Waits(BUSY_PAUSE));
    }
    let per_second = core.tuning.catalog_accounts_per_second;
    let size = (per_second / BATCHES_PER_SECOND)
        .clamp(1.0, BATCH_MAX)
        .floor();
    if !budget::take_accounts(&core.db, size, per_second).await? {
        return Ok(Stepped::Waits(Duration::from_secs_f64(size / per_second)));
    }
    let ids = books::behind(&core.db, version, spread.after, size as i64).await?;
    if let Some(last) = ids.last() {
        spread.after = Some(*last);
        spread.failed += derive_all(core, &catalog, &ids).await?;
        return Ok(Stepped::Worked);
    }
    // From the first one again: some may have been under lock.
    if spread.after.take().is_some() && spread.failed == 0 {
        return Ok(Stepped::Worked);
    }
    if let Some(stepped) = look_again(core, &catalog, spread).await? {
        return Ok(stepped);
    }
    if catalogs::behind(&core.db, version).await? > 0 {
        let failed = std::mem::take(&mut spread.failed);
        return Ok(Stepped::Waits(match failed {
            0 => BUSY_PAUSE,
            _ => FAILED_PAUSE,
        }));
    }
    if catalogs::finish(&core.db, version, core.clock.now()).await? {
        info!(version = version.0, "every account has come to the catalog");
    }
    Ok(Stepped::Rests)
}

/// Derives accounts; one that cannot be derived is logged and holds up nobody. Tells how many.
async fn derive_all(
    core: &Core,
    catalog: &Catalog,
    ids: &[AccountId],
) -> Result<u64, StorageError> {
    match derive_batch(core, catalog, ids).await {
        Err(StorageError::Corrupt(_) | StorageError::Other(_)) => {}
        done => return done.map(|()| 0),
    }
    let mut failed = 0;
    for id in ids {
        match derive_batch(core, catalog, &[*id]).await {
            Ok(()) => {}
            Err(error @ (StorageError::Corrupt(_) | StorageError::Other(_))) => {
                error!(account = %id, %error, "an account cannot come to the newest catalog");
                failed += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(failed)
}

/// Those of the accounts that nobody has under lock, in one transaction.
async fn derive_batch(
    core: &Core,
    catalog: &Catalog,
    ids: &[AccountId],
) -> Result<(), StorageError> {
    let mut tx = core.db.begin().await?;
    let accounts = books::lock_free(&mut tx, ids).await?;
    let ids: Vec<AccountId> = accounts.iter().map(|account| account.id).collect();
    // Under lock: whoever was faster has moved its account on.
    let mut current = books::current(&mut tx, &ids).await?;
    current.retain(|current| current.catalog < catalog.version());
    let served = testers(&mut tx, &ids, catalog).await?;
    let mut read = books::of_accounts(&mut tx, &ids, &goods::used_up(catalog)).await?;
    let accounts: HashMap<AccountId, Account> = accounts
        .into_iter()
        .map(|account| (account.id, account))
        .collect();
    let (mut same, mut changed) = (Vec::new(), Vec::new());
    for current in current {
        let id = current.account;
        let (Some(account), Some(mut books)) = (accounts.get(&id), read.remove(&id)) else {
            continue;
        };
        // Nothing is derived for nobody.
        if account.is_erased() {
            books = Books::default();
        }
        let tester = served.contains(&id);
        match renew(core, &mut tx, current, &mut books, (catalog, tester)).await? {
            Renewed::Same(next) => same.push((id, next)),
            Renewed::Changed(stored) => changed.push(Changed {
                account: account.clone(),
                stored,
            }),
        }
    }
    books::touch(&mut tx, &same, catalog.version()).await?;
    failpoint::at("catalog_batch");
    tx.commit().await.map_err(StorageError::from)?;
    derive::publish(core, changed);
    Ok(())
}

enum Renewed {
    Same(Option<Instant>),
    Changed(Stored),
}

async fn renew(
    core: &Core,
    tx: &mut Tx<'_>,
    current: Current,
    books: &mut Books,
    (catalog, tester): (&Catalog, bool),
) -> Result<Renewed, StorageError> {
    let now = core.clock.now();
    let snapshot = snapshot_of(catalog, books, tester, core.policy.leniency, now);
    if snapshot == current.snapshot {
        return Ok(Renewed::Same(snapshot.next_transition_at));
    }
    let stored = Stored {
        account: current.account,
        revision: current.revision.next(),
        snapshot,
    };
    snapshots::write(tx, &stored, catalog.version()).await?;
    history::keep(tx, &stored, catalog.version(), now).await?;
    let decision = Decision::Apply(ApplyReason::CatalogChanged);
    let event = NewEvent {
        account: Some(stored.account),
        revision: Some(stored.revision),
        catalog: Some(catalog.version()),
        ..NewEvent::new(SignalSource::Catalog, decision, now)
    };
    events::append(tx, event).await?;
    Ok(Renewed::Changed(stored))
}

/// One page of purchases that the catalog knows something new about: they are marked dirty. `None`:
/// all have been looked at.
async fn look_again(
    core: &Core,
    catalog: &Catalog,
    spread: &mut Spread,
) -> Result<Option<Stepped>, StorageError> {
    let version = catalog.version();
    let Some(before) = catalogs::last_finished(&core.db, version).await? else {
        return Ok(None);
    };
    match known(core, spread, before).await? {
        Some(old) if teaches(&old, catalog) => {}
        Some(_) | None => return Ok(None),
    }
    let mut tx = core.db.begin().await?;
    let Some(page) = catalogs::walk(&mut tx, version, PAGE).await? else {
        return Ok(Some(Stepped::Waits(BUSY_PAUSE)));
    };
    let Some(last) = page.last().map(|seen| seen.chain) else {
        return Ok(None);
    };
    let mut marked = 0;
    for seen in page {
        if is_taught(core, spread, catalog, before, &seen).await? {
            chains::mark_dirty(&mut tx, seen.chain, SignalSource::Catalog).await?;
            marked += 1;
        }
    }
    catalogs::walked(&mut tx, version, last, marked).await?;
    tx.commit().await.map_err(StorageError::from)?;
    if marked > 0 {
        info!(purchases = marked, version = version.0, "looked at again");
        core.work.notify_one();
    }
    Ok(Some(Stepped::Worked))
}

/// By the catalog that last decided it, the purchase was something else.
async fn is_taught(
    core: &Core,
    spread: &mut Spread,
    catalog: &Catalog,
    before: CatalogVersion,
    seen: &Seen,
) -> Result<bool, StorageError> {
    let decided_by = seen.decided_by.unwrap_or(before);
    let Some(environment) = seen.environment.filter(|_| decided_by < catalog.version()) else {
        return Ok(false);
    };
    let old = known(core, spread, decided_by).await?;
    Ok(old.is_some_and(|old| concerns(&old, catalog, seen.provider, environment, &seen.products)))
}

async fn known(
    core: &Core,
    spread: &mut Spread,
    version: CatalogVersion,
) -> Result<Option<Arc<Catalog>>, StorageError> {
    if let Some(known) = spread.known.get(&version) {
        return Ok(known.clone());
    }
    let found = match apply_catalog::version(&core.db, version).await {
        Ok(found) => found.map(Arc::new),
        Err(apply_catalog::CatalogError::Storage(error)) => return Err(error),
        Err(error) => {
            warn!(version = version.0, %error, "an old catalog cannot be read");
            None
        }
    };
    spread.known.insert(version, found.clone());
    Ok(found)
}
