//! Resync: mark chains dirty, so that their store is asked again. Repeats no effect.

use super::Core;
use crate::domain::event::{Decision, MergeReason, SignalSource};
use crate::domain::ids::AccountId;
use crate::storage::events::{self, NewEvent};
use crate::storage::{StorageError, chains};

/// Marks every chain of an account; tells how many.
pub(crate) async fn resync(
    core: &Core,
    account: AccountId,
    actor: &str,
) -> Result<usize, StorageError> {
    let marked =
        chains::mark_account_dirty(&core.db, account, SignalSource::Operator, i64::MAX).await?;
    let decision = Decision::MergeOnly(MergeReason::AskedAgain);
    let event = NewEvent {
        account: Some(account),
        actor: Some(actor),
        detail: Some("resync"),
        ..NewEvent::new(SignalSource::Operator, decision, core.clock.now())
    };
    let mut tx = core.db.begin().await?;
    events::append(&mut tx, event).await?;
    tx.commit().await?;
    core.work.notify_one();
    Ok(marked.len())
}
