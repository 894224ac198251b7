//! What is no longer needed is deleted: in batches, each in its own transaction.

use super::{Db, StorageError, Tx};
use crate::domain::time::Instant;

/// A kind of row that does not stay for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Notifications,
    OpenNotifications,
    IngressKeys,
    StoreAnswers,
    SnapshotHistory,
    SourceActivity,
    Claims,
    Duties,
}

impl Kept {
    pub(crate) const ALL: [Self; 8] = [
        Self::Notifications,
        Self::OpenNotifications,
        Self::IngressKeys,
        Self::StoreAnswers,
        Self::SnapshotHistory,
        Self::SourceActivity,
        Self::Claims,
        Self::Duties,
    ];

    /// As its setting is called, without the unit.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Notifications => "notifications",
            Self::OpenNotifications => "open_notifications",
            Self::IngressKeys => "ingress_keys",
            Self::StoreAnswers => "store_answers",
            Self::SnapshotHistory => "snapshot_history",
            Self::SourceActivity => "source_activity",
            Self::Claims => "claims",
            Self::Duties => "duties",
        }
    }
}

/// Deletes up to `limit` rows that are older than `before`; tells how many. A dry run only counts.
pub(crate) async fn trim(
    db: &Db,
    kept: Kept,
    before: Instant,
    limit: i64,
    dry: bool,
) -> Result<u64, StorageError> {
    let mut tx = db.begin().await?;
    // Append-only tables let nobody else.
    sqlx::query_scalar!("select set_config('entitled.retention', 'on', true)")
        .fetch_one(&mut *tx)
        .await?;
    let gone = match kept {
        Kept::Notifications => notifications(&mut tx, before, limit, dry).await,
        Kept::OpenNotifications => open_notifications(&mut tx, before, limit, dry).await,
        Kept::IngressKeys => ingress_keys(&mut tx, before, limit, dry).await,
        Kept::StoreAnswers => store_answers(&mut tx, before, limit, dry).await,
        Kept::SnapshotHistory => snapshot_history(&mut tx, before, limit, dry).await,
        Kept::SourceActivity => source_activity(&mut tx, before, limit, dry).await,
        Kept::Claims => claims(&mut tx, before, limit, dry).await,
        Kept::Duties => duties(&mut tx, before, limit, dry).await,
    }?;
    tx.commit().await?;
    Ok(u64::try_from(gone).unwrap_or_default())
}

type Counted = Result<i64, sqlx::Error>;

async fn notifications(tx: &mut Tx<'_>, before: Instant, limit: i64, dry: bool) -> Counted {
    sqlx::query_scalar!(
        r#"with old as (
               select source, id from raw_notifications
               where received_at < $1 and (status in ('processed', 'ignored', 'unsupported')
                   -- a hint whose purchase never became known
                   or (status = 'pending' and source = 'superwall')) limit $2
           ), gone as (
               delete from raw_notifications r using old
               where r.source = old.source and r.id = old.id and not $3
           )
           select count(*) as "count!" from old"#,
        before,
        limit,
        dry
    )
    .fetch_one(&mut **tx)
    .await
}

async fn open_notifications(tx: &mut Tx<'_>, before: Instant, limit: i64, dry: bool) -> Counted {
    sqlx::query_scalar!(
        r#"with old as (
               select source, id from raw_notifications
               where received_at < $1 and status in ('failed', 'pending') limit $2
           ), gone as (
               delete from raw_notifications r using old
               where r.source = old.source and r.id = old.id and not $3
           )
           select count(*) as "count!" from old"#,
        before,
        limit,
        dry
    )
    .fetch_one(&mut **tx)
    .await
}

/// A key stays as long as its row.
async fn ingress_keys(tx: &mut Tx<'_>, before: Instant, limit: i64, dry: bool) -> Counted {
    sqlx::query_scalar!(
        r#"with old as (
               select source, event_id from ingress_keys k
               where last_received_at < $1 and not exists
                   (select 1 from raw_notifications r
                    where r.source = k.source and r.event_id = k.event_id
                      and r.received_at >= k.first_received_at)
               limit $2
           ), gone as (
               delete from ingress_keys k using old
               where k.source = old.source and k.event_id = old.event_id and not $3
           )
           select count(*) as "count!" from old"#,
        before,
        limit,
        dry
    )
    .fetch_one(&mut **tx)
    .await
}

/// The newest answer about a purchase stays: it is what the purchase stands by.
async fn store_answers(tx: &mut Tx<'_>, before: Instant, limit: i64, dry: bool) -> Counted {
    sqlx::query_scalar!(
        r#"with old as (
               select id from store_answers a
               where fetched_at < $1 and exists
                   (select 1 from store_answers n where n.chain_id = a.chain_id and n.id > a.id)
               limit $2
           ), gone as (
               delete from store_answers a using old where a.id = old.id and not $3
           )
           select count(*) as "count!" from old"#,
        before,
        limit,
        dry
    )
    .fetch_one(&mut **tx)
    .await
}

/// What held at the cutoff stays, so that every later moment can be told.
async fn snapshot_history(tx: &mut Tx<'_>, before: Instant, limit: i64, dry: bool) -> Counted {
    sqlx::query_scalar!(
        r#"with old as (
               select account_id, revision from snapshot_history h
               where at < $1 and exists
                   (select 1 from snapshot_history n
                    where n.account_id = h.account_id and n.revision > h.revision and n.at < $1)
               limit $2
           ), gone as (
               delete from snapshot_history h using old
               where h.account_id = old.account_id and h.revision = old.revision and not $3
           )
           select count(*) as "count!" from old"#,
        before,
        limit,
        dry
    )
    .fetch_one(&mut **tx)
    .await
}

async fn source_activity(tx: &mut Tx<'_>, before: Instant, limit: i64, dry: bool) -> Counted {
    sqlx::query_scalar!(
        r#"with old as (
               select source, hour from source_activity where hour < $1 limit $2
           ), gone as (
               delete from source_activity a using old
               where a.source = old.source and a.hour = old.hour and not $3
           )
           select count(*) as "count!" from old"#,
        before,
        limit,
        dry
    )
    .fetch_one(&mut **tx)
    .await
}

async fn claims(tx: &mut Tx<'_>, before: Instant, limit: i64, dry: bool) -> Counted {
    sqlx::query_scalar!(
        r#"with old as (
               select id from ownership_claims
               where decided_at < $1 and verdict is not null limit $2
           ), gone as (
               delete from ownership_claims c using old where c.id = old.id and not $3
           )
           select count(*) as "count!" from old"#,
        before,
        limit,
        dry
    )
    .fetch_one(&mut **tx)
    .await
}

/// Only duties that the store's own record says are done: the others' causes stay, and would name
/// them again.
async fn duties(tx: &mut Tx<'_>, before: Instant, limit: i64, dry: bool) -> Counted {
    sqlx::query_scalar!(
        r#"with old as (
               select id from duties
               where done_at < $1 and deadline < $1 and kind = 'acknowledge' limit $2
           ), gone as (
               delete from duties d using old where d.id = old.id and not $3
           )
           select count(*) as "count!" from old"#,
        before,
        limit,
        dry
    )
    .fetch_one(&mut **tx)
    .await
}
