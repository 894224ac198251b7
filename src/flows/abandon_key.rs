//! A key outside that is lost is given up: nothing that it wrapped can be read again, and everything
//! else goes on.

use crate::storage::{Db, StorageError, lost_keys};

const BATCH: i64 = 1000;

/// What giving a key up came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Abandoned {
    pub(crate) roots: u64,
    /// Purchases whose documents so far cannot be read any more.
    pub(crate) purchases: u64,
    /// Notifications that no purchase was known for.
    pub(crate) notifications: u64,
}

/// Destroys everything that hangs on the key outside of that name. May be interrupted and done again.
pub(crate) async fn abandon_key(
    db: &Db,
    kek: &str,
    mut tell: impl FnMut(Abandoned),
) -> Result<Abandoned, StorageError> {
    let roots = lost_keys::roots_under(db, kek).await?;
    let mut abandoned = Abandoned::default();
    // Again once they are gone: a server that still had them may have used them until then.
    for last in [false, true] {
        loop {
            let purchases = lost_keys::destroy_chain_keys(db, &roots, BATCH).await?;
            let notifications = lost_keys::empty_rows(db, &roots, BATCH).await?;
            abandoned.purchases += purchases;
            abandoned.notifications += notifications;
            tell(abandoned);
            if purchases + notifications == 0 {
                break;
            }
        }
        if !last {
            abandoned.roots = lost_keys::delete_roots(db, &roots).await?;
        }
    }
    Ok(abandoned)
}
