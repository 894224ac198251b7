//! Rotation: everything that is sealed hangs on the newest key outside, and the ones before it can go.
//! And sealing what was kept plain. Both may be interrupted, run again, and run beside servers.

use std::time::Duration;

use super::Core;
use crate::storage::keyring::{KeyringError, Root};
use crate::storage::{StorageError, rekeying};

/// Every process has taken a new root key up by then.
pub(crate) const TAKEN_UP_WITHIN: Duration = Duration::from_secs(4);
const BATCH: i64 = 500;

/// Why keys were not rotated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotateError {
    #[error(
        "encryption is off in this configuration: name a key in [[encryption.keys]], and leave \
         encryption.enabled out"
    )]
    Off,
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
/// A rotation that was interrupted is finished instead of begun anew.
pub(crate) async fn rotate(
    core: &Core,
    mut tell: impl FnMut(Progress),
) -> Result<Rotated, RotateError> {
    let keyring = core.db.keyring();
    keyring.refresh(&core.db).await?;
    let mut root = keyring.current().ok_or(RotateError::Off)?;
    let mut connection = core.db.connection().await?;
    let roots = keyring.rewrap_roots(&mut connection).await?;
    let resumed = rekeying::left(&core.db, root.id).await? > 0;
    if !resumed {
        keyring.add_root(&mut connection).await?;
        keyring.refresh(&core.db).await?;
        root = keyring.current().ok_or(RotateError::Off)?;
    }
    drop(connection);
    let mut keys = rewrap(core, &root, 0, &mut tell).await?;
    // Until then other processes may have wrapped something by the root key before.
    tokio::time::sleep(TAKEN_UP_WITHIN).await;
    keys = rewrap(core, &root, keys, &mut tell).await?;
    rekeying::forget_roots(&core.db).await?;
    Ok(Rotated {
        roots,
        keys,
        resumed,
    })
}

async fn rewrap(
    core: &Core,
    root: &Root,
    mut done: usize,
    tell: &mut impl FnMut(Progress),
) -> Result<usize, StorageError> {
    let left = rekeying::left(&core.db, root.id).await?;
    let of = left + i64::try_from(done).unwrap_or(i64::MAX);
    loop {
        let batch = rekeying::rewrap_chain_keys(&core.db, root, BATCH).await?
            + rekeying::rewrap_row_keys(&core.db, root, BATCH).await?;
        done += batch;
        tell(Progress { done, of });
        if batch == 0 {
            return Ok(done);
        }
    }
}

/// Seals what was kept plain; tells how many documents.
pub(crate) async fn seal(
    core: &Core,
    mut tell: impl FnMut(Progress),
) -> Result<usize, RotateError> {
    let root = core.db.keyring().current().ok_or(RotateError::Off)?;
    let of = rekeying::plain(&core.db).await?.all();
    let mut done = 0;
    let mut after = None;
    loop {
        let (sealed, last) = rekeying::seal_rows(&core.db, &root, after, BATCH).await?;
        done += sealed;
        tell(Progress { done, of });
        match last {
            Some(_) => after = last,
            None => break,
        }
    }
    let mut after = 0;
    loop {
        let (sealed, last) = rekeying::seal_answers(&core.db, after, BATCH).await?;
        done += sealed;
        tell(Progress { done, of });
        match last {
            Some(last) => after = last,
            None => return Ok(done),
        }
    }
}
