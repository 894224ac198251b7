//! Reads as of a past moment: the last revision written by then, evaluated at it.

use super::Core;
use crate::domain::entitlement::nothing;
use crate::domain::ids::Revision;
use crate::domain::time::Instant;
use crate::storage::accounts::Account;
use crate::storage::snapshots::Stored;
use crate::storage::{StorageError, history};

/// Why a past moment cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PastError {
    #[error("that moment has not come yet")]
    Future,
    #[error("what was true then is not kept any more")]
    Forgotten,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What was stored of an account at `at`.
pub(crate) async fn stored_at(
    core: &Core,
    account: &Account,
    at: Instant,
) -> Result<Stored, PastError> {
    if at > core.clock.now() {
        return Err(PastError::Future);
    }
    match history::as_of(&core.db, account.id, at).await? {
        Some(stored) => Ok(Stored {
            snapshot: stored.snapshot.at(at).into_owned(),
            ..stored
        }),
        // Before its first revision an account had nothing; before the first that is kept, nobody
        // knows.
        None if history::is_complete(&core.db, account.id).await? => Ok(Stored {
            account: account.id,
            revision: Revision::ZERO,
            snapshot: nothing(&core.catalog.load()),
        }),
        None => Err(PastError::Forgotten),
    }
}
