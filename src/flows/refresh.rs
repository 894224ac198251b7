//! RefreshSubscription: ask the stores now about every purchase of an account.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant as MachineInstant;

use super::reconcile::{Reconciled, reconcile_one};
use super::{Core, limits};
use crate::domain::event::SignalSource;
use crate::domain::ids::{AccountId, ChainId};
use crate::storage::{StorageError, chains};

const LOOK_AGAIN: Duration = Duration::from_millis(150);
/// Purchases of one account that are asked about at once.
const AT_ONCE: usize = 8;
/// Purchases that one refresh asks about: a device cannot spend the stores' quota on every pack of
/// coins its account ever bought. An operator's resync asks about all.
const PURCHASES_MAX: i64 = 50;

/// Why a refresh did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefreshError {
    #[error("too many refreshes")]
    TooMany(Duration),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Asks the stores; tells how many purchases could not be asked about in time. Work that is under way for a chain is joined, not repeated.
pub(crate) async fn refresh(core: &Arc<Core>, account: AccountId) -> Result<usize, RefreshError> {
    core.limits
        .calls
        .take(account, limits::REFRESH)
        .map_err(RefreshError::TooMany)?;
    let marked =
        chains::mark_account_dirty(&core.db, account, SignalSource::Refresh, PURCHASES_MAX).await?;
    let deadline = MachineInstant::now() + core.tuning.wait_max;
    let mut done = futures::stream::iter(marked)
        .map(|(chain, seq)| synced(core, chain, seq, deadline))
        .buffer_unordered(AT_ONCE);
    let mut pending = 0;
    while let Some(done) = done.next().await {
        pending += usize::from(!done?);
    }
    Ok(pending)
}

/// Works a signal in, or waits until somebody has; `false` if it took too long.
pub(super) async fn synced(
    core: &Arc<Core>,
    chain: ChainId,
    seq: i64,
    deadline: MachineInstant,
) -> Result<bool, StorageError> {
    loop {
        let settled = core.settled.notified();
        let reconciled = tokio::time::timeout_at(deadline, reconcile_one(core, chain))
            .await
            .unwrap_or(Reconciled::NotOurs);
        if chains::progress(&core.db, chain, core.clock.now())
            .await?
            .synced_seq
            >= seq
        {
            return Ok(true);
        }
        if matches!(reconciled, Reconciled::Postponed(_)) || MachineInstant::now() >= deadline {
            return Ok(false);
        }
        tokio::select! {
            () = settled => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}
