//! Every revision of every account, for reads as of a past moment.

use sqlx::types::Json;

use super::snapshots::Stored;
use super::{Db, StorageError, Tx};
use crate::domain::entitlement::Snapshot;
use crate::domain::ids::{AccountId, CatalogVersion, Revision};
use crate::domain::time::Instant;

/// Keeps a revision, in the transaction that writes it.
pub(crate) async fn keep(
    tx: &mut Tx<'_>,
    stored: &Stored,
    catalog: CatalogVersion,
    at: Instant,
) -> Result<(), StorageError> {
    sqlx::query!(
        r#"insert into snapshot_history (account_id, revision, at, catalog_version, body)
           values ($1, $2, $3, $4, $5) on conflict do nothing"#,
        stored.account.0,
        stored.revision.0,
        at,
        catalog.0,
        Json(&stored.snapshot) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The last revision written at or before a moment.
pub(crate) async fn as_of(
    db: &Db,
    account: AccountId,
    at: Instant,
) -> Result<Option<Stored>, StorageError> {
    let row = sqlx::query!(
        r#"select revision, body as "body: Json<Snapshot>" from snapshot_history
           where account_id = $1 and at <= $2 order by at desc, revision desc limit 1"#,
        account.0,
        at
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(row.map(|row| Stored {
        account,
        revision: Revision(row.revision),
        snapshot: row.body.0,
    }))
}

/// Whether the account's history is complete: its first revision is kept, or it never had one.
pub(crate) async fn is_complete(db: &Db, account: AccountId) -> Result<bool, StorageError> {
    let complete = sqlx::query_scalar!(
        r#"select coalesce(
               (select min(revision) = 1 from snapshot_history where account_id = $1),
               not exists (select from entitlement_snapshots where account_id = $1)) as "complete!""#,
        account.0
    )
    .fetch_one(db.pool())
    .await?;
    Ok(complete)
}
