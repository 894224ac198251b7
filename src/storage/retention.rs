//! What is no longer needed is deleted: in batches, each in its own transaction.

use chrono::TimeDelta;
use uuid::Uuid;

use super::{Db, StorageError, Tx, unused_accounts};
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
    AnonymousAccounts,
}

impl Kept {
    pub(crate) const ALL: [Self; 9] = [
        Self::Notifications,
        Self::OpenNotifications,
        Self::IngressKeys,
        Self::StoreAnswers,
        Self::SnapshotHistory,
        Self::SourceActivity,
        Self::Claims,
        Self::Duties,
        Self::AnonymousAccounts,
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
            Self::AnonymousAccounts => "anonymous_accounts",
        }
    }
}

/// What to trim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    pub(crate) kept: Kept,
    /// Rows that are older go.
    pub(crate) before: Instant,
    /// The same for what is kept by machine time.
    pub(crate) age: TimeDelta,
    /// Rows looked at.
    pub(crate) limit: i64,
    /// Where the batch before ended.
    pub(crate) after: Option<Mark>,
    /// Only count.
    pub(crate) dry: bool,
}

/// The last row of a batch of a kind of which some old rows stay: they are passed once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    at: Instant,
    /// An account's or a session's id; nil for kinds that have none.
    id: Uuid,
    number: i64,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trimmed {
    pub(crate) gone: u64,
    /// As many as were asked for were looked at.
    pub(crate) more: bool,
    pub(crate) after: Option<Mark>,
}

/// Deletes rows, at most as many as the batch may look at.
pub(crate) async fn trim(db: &Db, batch: Batch) -> Result<Trimmed, StorageError> {
    let Batch {
        kept,
        before,
        age,
        limit,
        after,
        dry,
    } = batch;
    let mut tx = db.begin().await?;
    // Append-only tables let nobody else.
    sqlx::query_scalar!("select set_config('entitled.retention', 'on', true)")
        .fetch_one(&mut *tx)
        .await?;
    let gone = match kept {
        Kept::Notifications => all(limit, notifications(&mut tx, before, limit, dry).await?),
        Kept::OpenNotifications => all(
            limit,
            open_notifications(&mut tx, before, limit, dry).await?,
        ),
        Kept::IngressKeys => all(limit, ingress_keys(&mut tx, before, limit, dry).await?),
        Kept::StoreAnswers => store_answers(&mut tx, before, limit, after, dry).await?,
        Kept::SnapshotHistory => snapshot_history(&mut tx, before, limit, after, dry).await?,
        Kept::SourceActivity => all(limit, source_activity(&mut tx, before, limit, dry).await?),
        Kept::Claims => all(limit, claims(&mut tx, before, limit, dry).await?),
        Kept::Duties => all(limit, duties(&mut tx, before, limit, dry).await?),
        Kept::AnonymousAccounts => anonymous_accounts(&mut tx, age, limit, after, dry).await?,
    };
    tx.commit().await?;
    Ok(gone)
}

/// A kind of which every old row goes.
fn all(limit: i64, gone: i64) -> Trimmed {
    Trimmed {
        gone: u64::try_from(gone).unwrap_or_default(),
        more: gone >= limit,
        after: None,
    }
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
async fn store_answers(
    tx: &mut Tx<'_>,
    before: Instant,
    limit: i64,
    after: Option<Mark>,
    dry: bool,
) -> Result<Trimmed, sqlx::Error> {
    let row = sqlx::query!(
        r#"with seen as (
               select id, chain_id, fetched_at from store_answers
               where fetched_at < $1
                 and (fetched_at, id) > (coalesce($4, '-infinity'::timestamptz), $5)
               order by fetched_at, id limit $2
           ), old as (
               select id from seen where exists
                   (select 1 from store_answers n where n.chain_id = seen.chain_id and n.id > seen.id)
           ), gone as (
               delete from store_answers a using old where a.id = old.id and not $3
           ), last as (
               select id, fetched_at from seen order by fetched_at desc, id desc limit 1
           )
           select (select count(*) from old) as "gone!", (select count(*) from seen) as "seen!",
                  (select fetched_at from last) as at, (select id from last) as id"#,
        before,
        limit,
        dry,
        after.map(|mark| mark.at),
        after.map_or(0, |mark| mark.number)
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(Trimmed {
        gone: u64::try_from(row.gone).unwrap_or_default(),
        more: row.seen >= limit,
        after: row.at.zip(row.id).map(|(at, number)| Mark {
            at,
            id: Uuid::nil(),
            number,
        }),
    })
}

/// What held at the cutoff stays, so that every later moment can be told.
async fn snapshot_history(
    tx: &mut Tx<'_>,
    before: Instant,
    limit: i64,
    after: Option<Mark>,
    dry: bool,
) -> Result<Trimmed, sqlx::Error> {
    let row = sqlx::query!(
        r#"with seen as (
               select account_id, revision, at from snapshot_history
               where at < $1 and (at, account_id, revision)
                   > (coalesce($4, '-infinity'::timestamptz), $5, $6)
               order by at, account_id, revision limit $2
           ), old as (
               select account_id, revision from seen where exists
                   (select 1 from snapshot_history n
                    where n.account_id = seen.account_id and n.revision > seen.revision
                      and n.at < $1)
           ), gone as (
               delete from snapshot_history h using old
               where h.account_id = old.account_id and h.revision = old.revision and not $3
           ), last as (
               select account_id, revision, at from seen
               order by at desc, account_id desc, revision desc limit 1
           )
           select (select count(*) from old) as "gone!", (select count(*) from seen) as "seen!",
                  (select at from last) as at, (select account_id from last) as account,
                  (select revision from last) as revision"#,
        before,
        limit,
        dry,
        after.map(|mark| mark.at),
        after.map_or(Uuid::nil(), |mark| mark.id),
        after.map_or(0, |mark| mark.number)
    )
    .fetch_one(&mut **tx)
    .await?;
    let last = row.at.zip(row.account).zip(row.revision);
    Ok(Trimmed {
        gone: u64::try_from(row.gone).unwrap_or_default(),
        more: row.seen >= limit,
        after: last.map(|((at, id), number)| Mark { at, id, number }),
    })
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

/// How many dead sessions a count looks at in one step.
const COUNTED_AT_ONCE: i64 = 10_000;

/// Accounts without a sign-in that have come to nothing.
async fn anonymous_accounts(
    tx: &mut Tx<'_>,
    age: TimeDelta,
    limit: i64,
    after: Option<Mark>,
    dry: bool,
) -> Result<Trimmed, StorageError> {
    let at_once = if dry {
        limit.min(COUNTED_AT_ONCE)
    } else {
        limit
    };
    let mut last = after.map(|mark| (mark.at, mark.id));
    let mut trimmed = Trimmed::default();
    loop {
        let looked = unused_accounts::delete(tx, age, at_once, last, dry).await?;
        trimmed.gone += u64::try_from(looked.gone).unwrap_or(u64::MAX);
        trimmed.more = i64::try_from(looked.seen).unwrap_or(i64::MAX) >= at_once;
        last = looked.last.or(last);
        if !(dry && trimmed.more) {
            break;
        }
    }
    trimmed.after = last.map(|(at, id)| Mark { at, id, number: 0 });
    Ok(trimmed)
}
