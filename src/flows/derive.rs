//! Derives accounts under their locks: the only writer of snapshots.

use super::Core;
use crate::domain::catalog::Catalog;
use crate::domain::entitlement::{derive, nothing};
use crate::domain::ids::Revision;
use crate::domain::time::Instant;
use crate::storage::accounts::Account;
use crate::storage::snapshots::Stored;
use crate::storage::{StorageError, Tx, grants, ledger, snapshots};

/// An account whose snapshot changed in the transaction, to be published after its commit.
pub(super) struct Changed {
    pub(super) account: Account,
    pub(super) stored: Stored,
}

/// Derives an account that `tx` has locked; writes a new revision if anything differs.
pub(super) async fn account(
    core: &Core,
    tx: &mut Tx<'_>,
    account: Account,
    catalog: &Catalog,
    now: Instant,
) -> Result<Option<Changed>, StorageError> {
    let holdings = ledger::holdings(tx, account.id).await?;
    let grants = grants::of_account(tx, account.id).await?;
    let snapshot = derive(catalog, &holdings, &grants, core.policy.leniency, now);
    let current = snapshots::current(tx, account.id).await?;
    let (revision, same) = match &current {
        Some(stored) => (stored.revision, stored.snapshot == snapshot),
        None => (Revision::ZERO, snapshot == nothing(catalog)),
    };
    if same {
        snapshots::touch(
            tx,
            account.id,
            snapshot.next_transition_at,
            catalog.version(),
        )
        .await?;
        return Ok(None);
    }
    let stored = Stored {
        account: account.id,
        revision: revision.next(),
        snapshot,
    };
    snapshots::write(tx, &stored, catalog.version()).await?;
    Ok(Some(Changed { account, stored }))
}

/// After the commit: this replica's devices at once, the others by hint.
pub(super) fn publish(core: &Core, changed: Vec<Changed>) {
    for Changed { account, stored } in changed {
        core.hub.publish_committed(&account, stored);
    }
}
