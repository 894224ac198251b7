//! Work on chains: claimed with a lease and a fence, by one worker at a time.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use uuid::Uuid;

use super::chains::alias;
use super::{Db, StorageError};
use crate::domain::chain::Alias;
use crate::domain::event::SignalSource;
use crate::domain::ids::ChainId;
use crate::domain::time::Instant;

/// A chain that this worker may fetch and settle until the lease ends.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) id: ChainId,
    pub(crate) head: Alias,
    /// The fence: settle writes only while the row still carries it.
    pub(crate) claim_no: i64,
    /// What the claim covers; signals that arrive later have a higher number.
    pub(crate) dirty_seq: i64,
    pub(crate) source: SignalSource,
    pub(crate) failures: i32,
}

struct ClaimedRow {
    id: Uuid,
    provider: String,
    app: String,
    head_kind: String,
    head_value: String,
    claim_no: i64,
    dirty_seq: i64,
    synced_seq: i64,
    dirty_source: String,
    failures: i32,
}

impl TryFrom<ClaimedRow> for Claimed {
    type Error = StorageError;

    fn try_from(row: ClaimedRow) -> Result<Self, Self::Error> {
        let source = if row.dirty_seq > row.synced_seq {
            SignalSource::parse(&row.dirty_source).unwrap_or(SignalSource::Notification)
        } else {
            SignalSource::Schedule
        };
        Ok(Self {
            id: row.id.into(),
            head: alias(&row.provider, row.app, &row.head_kind, row.head_value)?,
            claim_no: row.claim_no,
            dirty_seq: row.dirty_seq,
            source,
            failures: row.failures,
        })
    }
}

fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval {
        months: 0,
        days: 0,
        microseconds,
    }
}

/// Claims up to `limit` dirty chains, and a quarter as many whose business time has come.
///
/// A row that cannot be read is logged and left to its lease: it must not hold up the others.
pub(crate) async fn claim_due(
    db: &Db,
    limit: i64,
    now: Instant,
    lease: Duration,
) -> Result<Vec<Claimed>, StorageError> {
    let rows = sqlx::query_as!(
        ClaimedRow,
        r#"with dirty as (
               select id from purchase_chains
               where dirty_seq > synced_seq and merged_into is null
                 and not_before <= clock_timestamp() and lease_until < clock_timestamp()
               order by not_before limit $1 for update skip locked
           ), due as (
               select id from purchase_chains
               where next_check_at <= $2 and merged_into is null
                 and not_before <= clock_timestamp() and lease_until < clock_timestamp()
               order by next_check_at limit greatest($1 / 4, 1) for update skip locked
           )
           update purchase_chains c
           set claim_no = claim_no + 1, lease_until = clock_timestamp() + $3
           where id in (select id from dirty union all select id from due)
           returning id, provider, app, head_kind, head_value, claim_no, dirty_seq, synced_seq,
                     dirty_source, failures"#,
        limit,
        now,
        interval(lease)
    )
    .fetch_all(db.pool())
    .await?;
    let claimed = rows.into_iter().filter_map(|row| {
        let id = row.id;
        Claimed::try_from(row)
            .inspect_err(|error| tracing::error!(chain = %id, %error, "a chain cannot be read"))
            .ok()
    });
    Ok(claimed.collect())
}

/// Claims one chain, if it has work and nobody else holds it; `despite_backoff` for a caller who
/// will not ask the store.
pub(crate) async fn claim_one(
    db: &Db,
    id: ChainId,
    lease: Duration,
    despite_backoff: bool,
) -> Result<Option<Claimed>, StorageError> {
    let row = sqlx::query_as!(
        ClaimedRow,
        r#"update purchase_chains
           set claim_no = claim_no + 1, lease_until = clock_timestamp() + $2
           where id = $1 and dirty_seq > synced_seq and merged_into is null
             and (not_before <= clock_timestamp() or $3) and lease_until < clock_timestamp()
           returning id, provider, app, head_kind, head_value, claim_no, dirty_seq, synced_seq,
                     dirty_source, failures"#,
        id.0,
        interval(lease),
        despite_backoff
    )
    .fetch_optional(db.pool())
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// Why a claim is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// The store could not be asked: the next pause is longer.
    Failed,
    /// Nothing went wrong; it is only not the time.
    Postponed,
}

/// Gives a claim back, not to be tried again before `pause` has passed.
pub(crate) async fn release(
    db: &Db,
    claimed: &Claimed,
    pause: Duration,
    why: Release,
) -> Result<(), StorageError> {
    sqlx::query!(
        r#"update purchase_chains
           set lease_until = '-infinity', failures = failures + $4,
               not_before = clock_timestamp() + $3
           where id = $1 and claim_no = $2"#,
        claimed.id.0,
        claimed.claim_no,
        interval(pause),
        i32::from(why == Release::Failed)
    )
    .execute(db.pool())
    .await?;
    Ok(())
}

/// How long a chain still backs off; zero if it may be tried.
pub(crate) async fn backoff_left(db: &Db, id: ChainId) -> Result<Duration, StorageError> {
    let seconds = sqlx::query_scalar!(
        r#"select greatest(0, extract(epoch from not_before - clock_timestamp()))::float8 as "left!"
           from purchase_chains where id = $1 and not_before > '-infinity'"#,
        id.0
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(Duration::try_from_secs_f64(seconds.unwrap_or(0.0)).unwrap_or_default())
}
