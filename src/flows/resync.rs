//! Resync: mark chains dirty, so that their store is asked again. Repeats no duty and no event.

use super::Core;
use crate::domain::event::SignalSource;
use crate::domain::ids::AccountId;
use crate::storage::{StorageError, chains};

/// Marks every chain of an account; tells how many.
pub(crate) async fn resync(core: &Core, account: AccountId) -> Result<usize, StorageError> {
    let marked = chains::mark_account_dirty(&core.db, account, SignalSource::Operator).await?;
    core.work.notify_one();
    Ok(marked.len())
}
