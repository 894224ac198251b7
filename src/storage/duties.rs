//! Duties: what the stores must be told, at least once, before a deadline.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Db, StorageError, Tx};
use crate::domain::duty::{Duty, NewDuty};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::time::Instant;

/// A duty that a worker may execute until its pause ends.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    pub(crate) id: i64,
    pub(crate) chain: ChainId,
    /// The transaction or token that the duty is about.
    pub(crate) transaction_id: String,
    pub(crate) duty: Duty,
    pub(crate) deadline: Instant,
    pub(crate) attempts: i32,
}

/// Writes a duty; the same effect again is the same duty. An open one says what was decided last:
/// the owner may have changed.
pub(crate) async fn add(
    tx: &mut Tx<'_>,
    chain: ChainId,
    new: &NewDuty,
) -> Result<(), StorageError> {
    let key = new.key();
    sqlx::query!(
        r#"insert into duties (chain_id, transaction_id, kind, detail, deadline, about)
           values ($1, $2, $3, $4, $5, $6)
           on conflict (chain_id, transaction_id, kind) do update set detail = excluded.detail
           where duties.done_at is null and duties.detail <> excluded.detail"#,
        chain.0,
        key.as_ref(),
        new.duty.kind(),
        Json(&new.duty) as _,
        new.deadline,
        new.transaction_id
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}

/// Takes open duties that are due at `now`, nearest deadline first; each is nobody else's for
/// `lease`, and tried again after it.
pub(crate) async fn take(
    db: &Db,
    limit: i64,
    now: Instant,
    lease: Duration,
) -> Result<Vec<Due>, StorageError> {
    let rows = sqlx::query!(
        r#"update duties set attempts = attempts + 1,
               not_before = clock_timestamp() + $2::interval
           where id in (select id from duties
                        where done_at is null and not_before <= clock_timestamp() and due_at <= $3
                        order by deadline limit $1 for update skip locked)
           returning id, chain_id, coalesce(about, transaction_id) as "about!", detail as "detail: Json<Duty>", deadline,
                     attempts"#,
        limit,
        interval(lease),
        now
    )
    .fetch_all(db.pool())
    .await?;
    let due = rows.into_iter().map(|row| Due {
        id: row.id,
        chain: row.chain_id.into(),
        transaction_id: row.about,
        duty: row.detail.0,
        deadline: row.deadline,
        attempts: row.attempts,
    });
    Ok(due.collect())
}

/// Carried out; or let go, with the reason.
pub(crate) async fn close(
    db: &Db,
    id: i64,
    waived: Option<&str>,
    now: Instant,
) -> Result<(), StorageError> {
    sqlx::query!(
        r#"update duties set done_at = $2, waived = $3, waits_for = null,
               last_error = case when $3::text is null then null else last_error end
           where id = $1"#,
        id,
        now,
        waived
    )
    .execute(db.pool())
    .await?;
    Ok(())
}

/// Not carried out, for no fault of the duty's: tried again after `pause`.
pub(crate) async fn failed(
    db: &Db,
    id: i64,
    error: &str,
    pause: Duration,
) -> Result<(), StorageError> {
    sqlx::query!(
        r#"update duties set last_error = $2, waits_for = null,
               not_before = clock_timestamp() + $3::interval
           where id = $1"#,
        id,
        error,
        interval(pause)
    )
    .execute(db.pool())
    .await?;
    Ok(())
}

/// Nothing is wrong; it is only not the time. The look does not count as an attempt.
pub(crate) async fn wait(
    db: &Db,
    id: i64,
    until: Instant,
    waits_for: Option<&str>,
    pause: Duration,
) -> Result<(), StorageError> {
    sqlx::query!(
        r#"update duties set attempts = greatest(attempts - 1, 0), due_at = $2, waits_for = $3,
               not_before = clock_timestamp() + $4::interval
           where id = $1"#,
        id,
        until,
        waits_for,
        interval(pause)
    )
    .execute(db.pool())
    .await?;
    Ok(())
}

/// Has the duties of an account's purchases that wait for its word looked at now.
pub(crate) async fn wake(tx: &mut Tx<'_>, account: AccountId) -> Result<(), StorageError> {
    sqlx::query!(
        r#"update duties set due_at = '-infinity', not_before = '-infinity'
           where done_at is null and waits_for is not null
             and chain_id in (select id from purchase_chains where owner_account_id = $1)"#,
        account.0
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// An open duty as alarms and people see it.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) chain: ChainId,
    pub(crate) kind: String,
    pub(crate) deadline: Instant,
    pub(crate) attempts: i32,
    pub(crate) last_error: Option<String>,
}

/// How many open duties are near or past their deadline and wait for nobody's word, and the first
/// of them. `near` says for each kind until when a deadline is near.
pub(crate) async fn near_deadline(
    db: &Db,
    near: &[(&str, Instant)],
) -> Result<(i64, Option<Open>), StorageError> {
    let (kinds, until) = columns(near);
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from duties
           join unnest($1::text[], $2::timestamptz[]) as near(kind, until) using (kind)
           where done_at is null and waits_for is null and deadline <= near.until"#,
        &kinds as _,
        &until
    )
    .fetch_one(db.pool())
    .await?;
    let first = sqlx::query!(
        r#"select chain_id, kind as "kind!", deadline, attempts, last_error from duties
           join unnest($1::text[], $2::timestamptz[]) as near(kind, until) using (kind)
           where done_at is null and waits_for is null and deadline <= near.until
           order by deadline limit 1"#,
        &kinds as _,
        &until
    )
    .fetch_optional(db.pool())
    .await?;
    let first = first.map(|row| Open {
        chain: ChainId(row.chain_id),
        kind: row.kind,
        deadline: row.deadline,
        attempts: row.attempts,
        last_error: row.last_error,
    });
    Ok((count, first))
}

/// How many open duties wait for somebody's word.
pub(crate) async fn waiting(db: &Db) -> Result<i64, StorageError> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from duties where done_at is null and waits_for is not null"#
    )
    .fetch_one(db.pool())
    .await?;
    Ok(count)
}

/// Notes that somebody is woken for up to `limit` of those that [`near_deadline`] counts, nearest
/// deadline first, and gives them: each once, on one replica.
pub(crate) async fn alarm(
    db: &Db,
    near: &[(&str, Instant)],
    limit: i64,
    now: Instant,
) -> Result<Vec<Open>, StorageError> {
    let (kinds, until) = columns(near);
    let rows = sqlx::query!(
        r#"update duties set alarmed_at = $4
           where id in (
               select id from duties d
               join unnest($1::text[], $2::timestamptz[]) as near(kind, until) using (kind)
               where done_at is null and waits_for is null and alarmed_at is null
                 and deadline <= near.until
               order by deadline limit $3 for update of d skip locked)
           returning chain_id, kind, deadline, attempts, last_error"#,
        &kinds as _,
        &until,
        limit,
        now
    )
    .fetch_all(db.pool())
    .await?;
    let alarmed = rows.into_iter().map(|row| Open {
        chain: ChainId(row.chain_id),
        kind: row.kind,
        deadline: row.deadline,
        attempts: row.attempts,
        last_error: row.last_error,
    });
    Ok(alarmed.collect())
}

fn columns<'a>(near: &[(&'a str, Instant)]) -> (Vec<&'a str>, Vec<Instant>) {
    near.iter().copied().unzip()
}

/// How many duties of each kind are open, and how many of them were tried and failed.
pub(crate) async fn open_by_kind(db: &Db) -> Result<Vec<(String, i64, i64)>, StorageError> {
    let rows = sqlx::query!(
        r#"select kind, count(*) as "open!", count(last_error) as "failing!"
           from duties where done_at is null group by kind"#
    )
    .fetch_all(db.pool())
    .await?;
    let counted = rows
        .into_iter()
        .map(|row| (row.kind, row.open, row.failing));
    Ok(counted.collect())
}

/// A purchase that nobody owns or nothing maps, and that its store refunds at `deadline`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forsaken {
    pub(crate) chain: Uuid,
    pub(crate) deadline: Instant,
    pub(crate) owned: bool,
}

/// Purchases for real money that the store refunds between `since` and `horizon` and that no done
/// duty covers: unowned, unmapped, or not acknowledged in spite of all tries.
pub(crate) async fn unacknowledged(
    db: &Db,
    since: Instant,
    horizon: Instant,
) -> Result<Vec<Forsaken>, StorageError> {
    let rows = sqlx::query_as!(
        Forsaken,
        r#"select s.chain_id as chain, s.acknowledge_by as "deadline!",
                  c.owner_account_id is not null as "owned!"
           from store_subscription_state s join purchase_chains c on c.id = s.chain_id
           where s.acknowledge_by between $2 and $1 and c.merged_into is null
             and s.known #>> '{state,environment}' = 'production' and not exists
             (select 1 from duties d where d.chain_id = s.chain_id
                and d.transaction_id = c.head_value and d.done_at is not null)
           order by s.acknowledge_by limit 10000"#,
        horizon,
        since
    )
    .fetch_all(db.pool())
    .await?;
    Ok(rows)
}
