//! Rotation: everything that is sealed hangs on the newest key outside, and the ones before it can go.
//! And sealing what was kept plain. Both may be interrupted, run again, and run beside servers.

use std::time::Duration;

use tracing::error;
use uuid::Uuid;

use super::Core;
use crate::failpoint;
use crate::storage::keyring::{Added, KeyringError, Root};
use crate::storage::{StorageError, rekeying};

/// Every process has taken a new root key up by then.
pub(crate) const TAKEN_UP_WITHIN: Duration = Duration::from_secs(4);
const BATCH: i64 = 500;
/// How often a batch gives way to others who want the same rows.
const CONFLICTS_MAX: u32 = 20;
const CONFLICT_PAUSE: Duration = Duration::from_millis(50);

/// Why keys were not rotated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotateError {
    #[error(
        "encryption is off in this configuration: name a key in [[encryption.keys]], and leave \
         encryption.enabled out"
    )]
    Off,
    #[error("another rotation is under way: wait for its end, or end it; then run this again")]
    UnderWay,
    #[error(transparent)]
    Keys(#[from] KeyringError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// How far a rotation or a sealing is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    pub(crate) done: usize,
    /// As counted at its beginning.
    pub(crate) of: i64,
}

/// What a rotation came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rotated {
    /// Root keys that were under another key outside.
    pub(crate) roots: u64,
    /// Chains' and rows' keys that were put under the newest root key.
    pub(crate) keys: usize,
    /// What a rotation before had begun was finished.
    pub(crate) resumed: bool,
}

/// Puts all root keys under the newest key outside, makes a new one, and puts everything under that.
/// A rotation to the same key outside that was interrupted is finished instead of begun anew.
pub(crate) async fn rotate(
    core: &Core,
    mut tell: impl FnMut(Progress),
) -> Result<Rotated, RotateError> {
    let (db, keyring) = (&core.db, core.db.keyring());
    let alone = rekeying::alone(db).await?.ok_or(RotateError::UnderWay)?;
    keyring.refresh(db).await?;
    let mut root = keyring.current()?.ok_or(RotateError::Off)?;
    let newest = keyring.newest().ok_or(RotateError::Off)?;
    let roots = keyring.rewrap_roots(db).await?;
    let resumed = rekeying::is_unfinished(db, root.id, newest).await?;
    if !resumed {
        keyring.add_root(db, Added::ByRotation).await?;
        keyring.refresh(db).await?;
        root = keyring.current()?.ok_or(RotateError::Off)?;
    }
    // Nothing hangs on a root key that a server has not taken up yet.
    tokio::time::sleep(TAKEN_UP_WITHIN).await;
    let keys = rewrap(core, &root, &mut tell).await?;
    rekeying::finish(db, root.id).await?;
    rekeying::forget_roots(db).await?;
    alone.rollback().await.map_err(StorageError::from)?;
    Ok(Rotated {
        roots,
        keys,
        resumed,
    })
}

/// Walks until a whole walk finds nothing: what somebody held is met in the next one.
async fn rewrap(
    core: &Core,
    root: &Root,
    tell: &mut impl FnMut(Progress),
) -> Result<usize, StorageError> {
    let of = rekeying::left(&core.db, root.id).await?;
    let mut done = 0;
    loop {
        let (before, mut broken) = (done, 0);
        let mut after = Some(Uuid::nil());
        while let Some(id) = after {
            let walked =
                patiently(async || rekeying::rewrap_chain_keys(&core.db, root, id, BATCH).await)
                    .await?;
            (done, broken) = (done + walked.moved, broken + walked.broken);
            after = walked.last;
            tell(Progress { done, of });
        }
        let mut after = Some(rekeying::first_row());
        while let Some(mark) = after {
            let walked =
                patiently(async || rekeying::rewrap_row_keys(&core.db, root, &mark, BATCH).await)
                    .await?;
            (done, broken) = (done + walked.moved, broken + walked.broken);
            after = walked.last;
            tell(Progress { done, of });
        }
        if done == before {
            if broken > 0 {
                error!(broken, "keys do not open under the root key that they name");
            }
            return Ok(done);
        }
    }
}

/// Seals what was kept plain; tells how many documents.
pub(crate) async fn seal(
    core: &Core,
    mut tell: impl FnMut(Progress),
) -> Result<usize, RotateError> {
    let (db, keyring) = (&core.db, core.db.keyring());
    let of = rekeying::plain(db).await?.all();
    let mut done = 0;
    loop {
        let before = done;
        let mut after = Some(rekeying::first_row());
        while let Some(mark) = after {
            let root = keyring.current_now(db).await?.ok_or(RotateError::Off)?;
            let walked = patiently(async || {
                let mut tx = db.begin().await?;
                let walked = rekeying::seal_rows(&mut tx, keyring, &root, &mark, BATCH).await?;
                failpoint::at("before_seal_commit");
                tx.commit().await?;
                Ok(walked)
            })
            .await?;
            done += walked.moved;
            after = walked.last;
            tell(Progress { done, of });
        }
        let mut after = Some(0);
        while let Some(id) = after {
            keyring.current_now(db).await?.ok_or(RotateError::Off)?;
            let walked = patiently(async || {
                let mut tx = db.begin().await?;
                let walked = rekeying::seal_answers(&mut tx, keyring, id, BATCH).await?;
                failpoint::at("before_seal_commit");
                tx.commit().await?;
                Ok(walked)
            })
            .await?;
            done += walked.moved;
            after = walked.last;
            tell(Progress { done, of });
        }
        if done == before {
            return Ok(done);
        }
    }
}

/// A batch that lost to another transaction is done again.
async fn patiently<T>(batch: impl AsyncFn() -> Result<T, StorageError>) -> Result<T, StorageError> {
    for _ in 0..CONFLICTS_MAX {
        match batch().await {
            Err(StorageError::Conflict(_)) => tokio::time::sleep(CONFLICT_PAUSE).await,
            other => return other,
        }
    }
    batch().await
}
