//! Time is a signal: a transition that has passed is committed as a revision and pushed.

use tracing::error;

use super::{Core, derive};
use crate::domain::event::{ApplyReason, Decision, SignalSource};
use crate::domain::ids::AccountId;
use crate::storage::events::{self, NewEvent};
use crate::storage::{StorageError, accounts, snapshots};

const BATCH: i64 = 256;

/// Settles every account whose next transition has passed; tells how many succeeded. One that
/// cannot be settled is logged and holds up nobody.
pub(crate) async fn pass_time(core: &Core) -> Result<usize, StorageError> {
    let (now, catalog) = (core.clock.now(), core.catalog.load().version());
    let (mut settled, mut after) = (0, None);
    loop {
        let due = snapshots::due(&core.db, catalog, now, after, BATCH).await?;
        let Some(last) = due.last() else {
            return Ok(settled);
        };
        after = Some(*last);
        for (_, account) in due {
            match settle_account(core, account).await {
                Ok(()) => settled += 1,
                Err(error @ (StorageError::Unavailable(_) | StorageError::Slow(_))) => {
                    return Err(error);
                }
                Err(error) => error!(%account, %error, "a passed transition cannot be settled"),
            }
        }
    }
}

async fn settle_account(core: &Core, id: AccountId) -> Result<(), StorageError> {
    let now = core.clock.now();
    let catalog = core.catalog.load_full();
    let mut tx = core.db.begin().await?;
    let Some(account) = accounts::lock(&mut tx, &[id]).await?.pop() else {
        return Ok(());
    };
    let changed = derive::account(core, &mut tx, account, &catalog, now).await?;
    if let Some(changed) = &changed {
        let event = NewEvent {
            account: Some(id),
            revision: Some(changed.stored.revision),
            catalog: Some(catalog.version()),
            ..NewEvent::new(
                SignalSource::Time,
                Decision::Apply(ApplyReason::TimePassed),
                now,
            )
        };
        events::append(&mut tx, event).await?;
    }
    tx.commit().await?;
    derive::publish(core, changed.into_iter().collect());
    Ok(())
}
