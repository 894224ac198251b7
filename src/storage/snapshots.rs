//! Entitlement snapshots: what every device of an account reads, named by (epoch, revision).

use serde_json::value::RawValue;
use sqlx::types::Json;
use tracing::error;
use uuid::Uuid;

use super::{Db, StorageError, Tx};
use crate::domain::entitlement::Snapshot;
use crate::domain::ids::{AccountId, CatalogVersion, Revision};
use crate::domain::time::Instant;

/// A snapshot as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) account: AccountId,
    pub(crate) revision: Revision,
    pub(crate) snapshot: Snapshot,
}

pub(crate) async fn read(db: &Db, account: AccountId) -> Result<Option<Stored>, StorageError> {
    Ok(read_many(db, &[account]).await?.pop())
}

/// Reads snapshots; one that this version cannot read is logged and left out.
pub(crate) async fn read_many(
    db: &Db,
    accounts: &[AccountId],
) -> Result<Vec<Stored>, StorageError> {
    let ids: Vec<Uuid> = accounts.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"select account_id, revision, body as "body: Json<Box<RawValue>>"
           from entitlement_snapshots where account_id = any($1)"#,
        &ids
    )
    .fetch_all(db.pool())
    .await?;
    let stored = rows.into_iter().filter_map(|row| {
        let snapshot = serde_json::from_str(row.body.get())
            .inspect_err(|error| error!(account = %row.account_id, %error, "unreadable snapshot"))
            .ok()?;
        Some(Stored {
            account: row.account_id.into(),
            revision: Revision(row.revision),
            snapshot,
        })
    });
    Ok(stored.collect())
}

/// The snapshot under its account's lock, and the catalog it was derived by.
pub(crate) async fn current(
    tx: &mut Tx<'_>,
    account: AccountId,
) -> Result<Option<(Stored, CatalogVersion)>, StorageError> {
    let row = sqlx::query!(
        r#"select revision, catalog_version, body as "body: Json<Snapshot>"
           from entitlement_snapshots where account_id = $1"#,
        account.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| {
        let stored = Stored {
            account,
            revision: Revision(row.revision),
            snapshot: row.body.0,
        };
        (stored, CatalogVersion(row.catalog_version))
    }))
}

pub(crate) async fn write(
    tx: &mut Tx<'_>,
    stored: &Stored,
    catalog: CatalogVersion,
) -> Result<(), StorageError> {
    sqlx::query!(
        r#"insert into entitlement_snapshots
               (account_id, revision, body, next_transition_at, catalog_version)
           values ($1, $2, $3, $4, $5)
           on conflict (account_id) do update
           set revision = $2, body = $3, next_transition_at = $4, catalog_version = $5,
               changed_xid = pg_current_xact_id()::text::bigint"#,
        stored.account.0,
        stored.revision.0,
        Json(&stored.snapshot) as _,
        stored.snapshot.next_transition_at,
        catalog.0
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The same snapshot, derived by a newer catalog or at a later time: no new revision.
pub(crate) async fn touch(
    tx: &mut Tx<'_>,
    account: AccountId,
    next_transition_at: Option<Instant>,
    catalog: CatalogVersion,
) -> Result<(), StorageError> {
    sqlx::query!(
        r#"update entitlement_snapshots set next_transition_at = $2, catalog_version = $3
           where account_id = $1
             and (next_transition_at is distinct from $2 or catalog_version <> $3)"#,
        account.0,
        next_transition_at,
        catalog.0
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Accounts whose next transition has passed, earliest first, from the one `after` on. What a newer
/// catalog than `catalog` has derived is left to replicas that have it.
pub(crate) async fn due(
    db: &Db,
    catalog: CatalogVersion,
    now: Instant,
    after: Option<(Instant, AccountId)>,
    limit: i64,
) -> Result<Vec<(Instant, AccountId)>, StorageError> {
    let (after_at, after_id) = after.map(|(at, id)| (at, id.0)).unzip();
    let rows = sqlx::query!(
        r#"select next_transition_at as "at!", account_id from entitlement_snapshots
           where next_transition_at <= $1 and catalog_version <= $2
             and ($3::timestamptz is null or (next_transition_at, account_id) > ($3, $4))
           order by next_transition_at, account_id limit $5"#,
        now,
        catalog.0,
        after_at,
        after_id,
        limit
    )
    .fetch_all(db.pool())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.at, row.account_id.into()))
        .collect())
}

/// The business time of the next transition of any account that `catalog` may derive.
pub(crate) async fn next_due(
    db: &Db,
    catalog: CatalogVersion,
) -> Result<Option<Instant>, StorageError> {
    let next = sqlx::query_scalar!(
        r#"select next_transition_at from entitlement_snapshots
           where next_transition_at is not null and catalog_version <= $1
           order by next_transition_at limit 1"#,
        catalog.0
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(next.flatten())
}

/// What changed since a horizon, and the next one.
#[derive(Clone, Debug)]
pub(crate) struct Changes {
    /// Everything below it is committed and visible: the next watermark.
    pub(crate) horizon: i64,
    /// Transactions at or above it may not be visible yet: how far the horizon trails.
    pub(crate) trailing: i64,
    pub(crate) changed: Vec<(AccountId, Revision)>,
}

/// Reads the changes at or above `watermark`, and the next one, in one statement on the primary:
/// a transaction horizon, because no sequence number is safe (commits come out of its order).
pub(crate) async fn changes_since(db: &Db, watermark: i64) -> Result<Changes, StorageError> {
    let row = sqlx::query!(
        r#"with changed as (
               select account_id, revision from entitlement_snapshots where changed_xid >= $1
           )
           select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as "horizon!",
                  pg_snapshot_xmax(pg_current_snapshot())::text::bigint
                      - pg_snapshot_xmin(pg_current_snapshot())::text::bigint as "trailing!",
                  array(select account_id from changed order by account_id) as "accounts!: Vec<Uuid>",
                  array(select revision from changed order by account_id) as "revisions!: Vec<i64>"
           "#,
        watermark
    )
    .fetch_one(db.pool())
    .await?;
    let ids = row.accounts.into_iter().map(AccountId);
    Ok(Changes {
        horizon: row.horizon,
        trailing: row.trailing,
        changed: ids.zip(row.revisions.into_iter().map(Revision)).collect(),
    })
}

/// The revisions of some accounts, for comparing after a listener was away.
pub(crate) async fn revisions(
    db: &Db,
    accounts: &[AccountId],
) -> Result<Vec<(AccountId, Revision)>, StorageError> {
    let ids: Vec<Uuid> = accounts.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        "select account_id, revision from entitlement_snapshots where account_id = any($1)",
        &ids
    )
    .fetch_all(db.pool())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.account_id.into(), Revision(row.revision)))
        .collect())
}

/// The database's name and history. Another primary's timeline makes another epoch, where the
/// server lets us read it.
pub(crate) async fn epoch(db: &Db) -> Result<String, StorageError> {
    if db.hides_timeline() {
        return plain_epoch(db).await;
    }
    let epoch = sqlx::query_scalar!(
        r#"select epoch::text || '-' || left(pg_walfile_name(pg_current_wal_lsn()), 8) as "epoch!"
           from deployment"#
    )
    .fetch_one(db.pool())
    .await
    .map_err(StorageError::from);
    match epoch {
        Err(StorageError::Other(_)) => {
            let epoch = plain_epoch(db).await?;
            db.timeline_is_hidden();
            Ok(epoch)
        }
        other => other,
    }
}

async fn plain_epoch(db: &Db) -> Result<String, StorageError> {
    let epoch = sqlx::query_scalar!(r#"select epoch::text as "epoch!" from deployment"#)
        .fetch_one(db.pool())
        .await?;
    Ok(epoch)
}
