//! Has every account derived by the newest catalog: in paced batches, by any worker, from where the
//! rows themselves say. Whoever dies in between leaves nothing half done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};
use uuid::Uuid;

use super::count_effect::testers;
use super::derive::{self, Changed, snapshot_of};
use super::{Core, apply_catalog};
use crate::domain::catalog::Catalog;
use crate::domain::catalog::relearn::{concerns, teaches};
use crate::domain::event::{ApplyReason, Decision, SignalSource};
use crate::domain::goods;
use crate::domain::ids::{AccountId, CatalogVersion};
use crate::failpoint;
use crate::storage::books::{self, Behind, Range, Renewal};
use crate::storage::catalogs::{self, Seen};
use crate::storage::snapshots::Stored;
use crate::storage::{StorageError, Tx, budget, chains};

/// Batches that make up a second's worth: short transactions, and an even stream of pushes.
const BATCHES_PER_SECOND: f64 = 20.0;
const BATCH_MAX: f64 = 50.0;
/// Purchases that one step of the walk looks at.
const PAGE: i64 = 500;
/// Another worker has the walk, or accounts that are left are under lock.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Purchases that were marked wait for their store: no more are marked meanwhile.
const FLOOD_PAUSE: Duration = Duration::from_secs(1);
/// Accounts that cannot be read are tried again then: a newer program may have come.
const UNDERIVED_PAUSE: Duration = Duration::from_secs(600);

/// Where this process stands; another begins at the first account that is behind.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    version: Option<CatalogVersion>,
    after: Option<AccountId>,
    /// Transactions below it may have begun before this process took the version up.
    begun: i64,
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
            begun: books::begun(&core.db).await?,
            ..Spread::default()
        };
    }
    if !catalogs::any_unfinished(&core.db, version).await?
        && !catalogs::any_left(&core.db, version).await?
    {
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
    let range = Range {
        after: spread.after,
        until: None,
        limit: size as i64,
    };
    if let Some(last) = derive_all(core, &catalog, range).await? {
        spread.after = Some(last);
        return Ok(Stepped::Worked);
    }
    // From the first one again: some may have been under lock.
    if spread.after.take().is_some() {
        return Ok(Stepped::Worked);
    }
    if let Some(stepped) = look_again(core, &catalog, spread).await? {
        return Ok(stepped);
    }
    if catalogs::any_left(&core.db, version).await? {
        return Ok(Stepped::Waits(BUSY_PAUSE));
    }
    if catalogs::finish(&core.db, version, core.clock.now()).await? {
        info!(version = version.0, "every account has come to the catalog");
    }
    Ok(Stepped::Rests)
}

/// Derives accounts, up to the one that it tells. One that cannot be derived is logged, marked, and
/// holds up nobody.
async fn derive_all(
    core: &Core,
    catalog: &Catalog,
    range: Range,
) -> Result<Option<AccountId>, StorageError> {
    let batch = derive_batch(core, catalog, range).await?;
    let last = batch.taken.last().copied();
    if batch.unreadable.is_none() {
        return Ok(last);
    }
    let mut after = range.after;
    for id in batch.taken {
        let alone = Range {
            after,
            until: Some(id),
            limit: 1,
        };
        if let Some(cause) = derive_batch(core, catalog, alone).await?.unreadable {
            error!(account = %id, %cause, "an account cannot come to the newest catalog");
            books::mark_underived(&core.db, id, catalog.version(), UNDERIVED_PAUSE).await?;
        }
        after = Some(id);
    }
    Ok(last)
}

/// An account is derived by the newest catalog now, instead of when its turn comes; if it is under
/// lock, whoever has it does so.
pub(super) async fn reach(core: &Core, account: AccountId) -> Result<(), StorageError> {
    let catalog = core.catalog.load_full();
    if !books::is_behind(&core.db, account, catalog.version()).await? {
        return Ok(());
    }
    let before = account.0.as_u128().checked_sub(1).map(Uuid::from_u128);
    let alone = Range {
        after: before.map(AccountId),
        until: Some(account),
        limit: 1,
    };
    if let Some(cause) = derive_batch(core, &catalog, alone).await?.unreadable {
        warn!(%account, %cause, "an account cannot come to the newest catalog");
    }
    Ok(())
}

/// Accounts that were taken together.
struct Batch {
    taken: Vec<AccountId>,
    /// What kept all of them from being derived.
    unreadable: Option<StorageError>,
}

/// Those that nobody has under lock, in one transaction.
async fn derive_batch(core: &Core, catalog: &Catalog, range: Range) -> Result<Batch, StorageError> {
    let mut tx = core.db.begin().await?;
    let behind = books::take_behind(&mut tx, catalog.version(), range).await?;
    let taken = behind.iter().map(|behind| behind.account.id).collect();
    let changed = match derive_taken(core, &mut tx, catalog, behind).await {
        Ok(changed) => changed,
        Err(cause @ (StorageError::Corrupt(_) | StorageError::Other(_))) => {
            tx.rollback().await.map_err(StorageError::from)?;
            let unreadable = Some(cause);
            return Ok(Batch { taken, unreadable });
        }
        Err(error) => return Err(error),
    };
    failpoint::at("catalog_batch");
    tx.commit().await.map_err(StorageError::from)?;
    derive::publish(core, changed);
    Ok(Batch {
        taken,
        unreadable: None,
    })
}

async fn derive_taken(
    core: &Core,
    tx: &mut Tx<'_>,
    catalog: &Catalog,
    behind: Vec<Behind>,
) -> Result<Vec<Changed>, StorageError> {
    let ids: Vec<AccountId> = behind.iter().map(|behind| behind.account.id).collect();
    let served = testers(tx, &ids, catalog).await?;
    let mut read = books::of_accounts(tx, &ids, &goods::used_up(catalog)).await?;
    let now = core.clock.now();
    let (mut same, mut changed) = (Vec::new(), Vec::new());
    for Behind {
        account,
        revision,
        snapshot: was,
    } in behind
    {
        // Nothing is derived for nobody: nobody reads it.
        if account.is_erased() {
            same.push((account.id, None));
            continue;
        }
        let mut books = read.remove(&account.id).unwrap_or_default();
        let tester = served.contains(&account.id);
        let snapshot = snapshot_of(catalog, &mut books, tester, core.policy.leniency, now);
        if was.as_ref() == Some(&snapshot) {
            same.push((account.id, snapshot.next_transition_at));
            continue;
        }
        let stored = Stored {
            account: account.id,
            revision: revision.next(),
            snapshot,
        };
        changed.push(Changed { account, stored });
    }
    books::touch(tx, &same, catalog.version()).await?;
    let why = Renewal {
        source: SignalSource::Catalog,
        decision: Decision::Apply(ApplyReason::CatalogChanged),
        catalog: catalog.version(),
        at: now,
    };
    let renewed: Vec<&Stored> = changed.iter().map(|changed| &changed.stored).collect();
    books::renew(tx, &renewed, why).await?;
    Ok(changed)
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
    if !any_teaches(core, spread, catalog, before).await? {
        return Ok(None);
    }
    if books::horizon(&core.db).await? < spread.begun {
        // Some may still decide by what was active before: they are seen once they have ended.
        return Ok(Some(Stepped::Waits(BUSY_PAUSE)));
    }
    if catalogs::waiting_to_be_read(&core.db, PAGE).await? >= PAGE {
        // What the stores tell now goes first.
        return Ok(Some(Stepped::Waits(FLOOD_PAUSE)));
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

/// Whether a purchase may have been decided by a catalog that knew less: by the last one that
/// everything came to, or by one after it that was replaced before that.
async fn any_teaches(
    core: &Core,
    spread: &mut Spread,
    catalog: &Catalog,
    from: CatalogVersion,
) -> Result<bool, StorageError> {
    for version in from.0..catalog.version().0 {
        if let Some(old) = known(core, spread, CatalogVersion(version)).await?
            && teaches(&old, catalog)
        {
            return Ok(true);
        }
    }
    Ok(false)
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
