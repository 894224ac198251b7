//! Derives accounts under their locks: the only writer of snapshots.

use super::Core;
use crate::domain::catalog::Catalog;
use crate::domain::credit;
use crate::domain::entitlement::{Snapshot, derive, nothing};
use crate::domain::goods;
use crate::domain::ids::{AccountId, Revision};
use crate::domain::planted::{self, Bug};
use crate::domain::provider::Environment;
use crate::domain::subscription::state::Leniency;
use crate::domain::time::Instant;
use crate::storage::accounts::Account;
use crate::storage::books::Books;
use crate::storage::snapshots::Stored;
use crate::storage::{StorageError, Tx, accounts, credits, grants, history, ledger, snapshots};

/// An account whose snapshot changed in the transaction, to be published after its commit.
pub(super) struct Changed {
    pub(super) account: Account,
    pub(super) stored: Stored,
}

/// What an account's books say by a catalog.
pub(super) fn snapshot_of(
    catalog: &Catalog,
    books: &mut Books,
    tester: bool,
    leniency: Leniency,
    now: Instant,
) -> Snapshot {
    let holdings = books.holdings.iter_mut();
    holdings.for_each(|holding| holding.tester = tester);
    let mut snapshot = derive(catalog, &books.holdings, &books.grants, leniency, now);
    snapshot.credits = credit::balances(catalog, tester, &books.sums);
    snapshot
}

/// Derives an account that `tx` has locked; writes a new revision if anything differs.
pub(super) async fn account(
    core: &Core,
    tx: &mut Tx<'_>,
    account: Account,
    catalog: &Catalog,
    now: Instant,
) -> Result<Option<Changed>, StorageError> {
    // Nothing is derived for nobody: what it held is somebody's, or nobody's.
    if account.is_erased() {
        return erased(tx, account, catalog).await;
    }
    let holdings = ledger::holdings(tx, account.id, &goods::used_up(catalog)).await?;
    let sums = match catalog.credits().next() {
        Some(_) => credits::sums(tx, account.id).await?,
        None => Vec::new(),
    };
    let sandbox = Environment::Sandbox;
    let concerns = holdings.iter().any(|held| held.environment == sandbox)
        || sums.iter().any(|(_, of, _)| *of == sandbox);
    let tester = concerns && is_tester_in(tx, account.id, catalog).await?;
    let mut books = Books {
        holdings,
        grants: grants::of_account(tx, account.id).await?,
        sums,
    };
    let snapshot = snapshot_of(catalog, &mut books, tester, core.policy.leniency, now);
    let current = snapshots::current(tx, account.id).await?;
    let (revision, same) = match &current {
        // A replica that has taken up a newer catalog has been here: its word stands, and it is
        // asked to look at this change too.
        Some((_, newer)) if *newer > catalog.version() => {
            snapshots::touch(tx, account.id, Some(now), *newer).await?;
            return Ok(None);
        }
        Some((stored, _)) => (stored.revision, stored.snapshot == snapshot),
        // Without a row no later catalog would find the account.
        None => (
            Revision::ZERO,
            snapshot == nothing(catalog) && !ledger::has_held(tx, account.id).await?,
        ),
    };
    if same {
        let next = snapshot.next_transition_at;
        snapshots::touch(tx, account.id, next, catalog.version()).await?;
        return Ok(None);
    }
    let reused = current.is_some() && planted::is(Bug::RevisionIsReused);
    let stored = Stored {
        account: account.id,
        revision: if reused { revision } else { revision.next() },
        snapshot,
    };
    snapshots::write(tx, &stored, catalog.version()).await?;
    history::keep(tx, &stored, catalog.version(), now).await?;
    Ok(Some(Changed { account, stored }))
}

/// The last revision of an account that was erased.
async fn erased(
    tx: &mut Tx<'_>,
    account: Account,
    catalog: &Catalog,
) -> Result<Option<Changed>, StorageError> {
    let Some((stored, _)) = snapshots::current(tx, account.id).await? else {
        return Ok(None);
    };
    let snapshot = nothing(catalog);
    if stored.snapshot == snapshot {
        snapshots::touch(tx, account.id, None, catalog.version()).await?;
        return Ok(None);
    }
    let stored = Stored {
        account: account.id,
        revision: stored.revision.next(),
        snapshot,
    };
    snapshots::write(tx, &stored, catalog.version()).await?;
    Ok(Some(Changed { account, stored }))
}

/// Whether an account is among the catalog's testers, while that makes a difference.
pub(super) async fn is_tester(
    core: &Core,
    account: AccountId,
    catalog: &Catalog,
) -> Result<bool, StorageError> {
    let mut tx = core.db.begin().await?;
    let tester = is_tester_in(&mut tx, account, catalog).await?;
    tx.commit().await?;
    Ok(tester)
}

pub(super) async fn is_tester_in(
    tx: &mut Tx<'_>,
    account: AccountId,
    catalog: &Catalog,
) -> Result<bool, StorageError> {
    match catalog.testers() {
        Some(names) => accounts::is_named(tx, account, names).await,
        None => Ok(false),
    }
}

/// After the commit: this replica's devices at once, the others by hint.
pub(super) fn publish(core: &Core, changed: Vec<Changed>) {
    for Changed { account, stored } in changed {
        core.hub.publish_committed(&account, stored);
    }
}
