//! Duties: what the stores must be told, at least once, before a deadline.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use sqlx::types::Json;

use super::{Db, StorageError, Tx};
use crate::domain::duty::{Duty, NewDuty};
use crate::domain::ids::ChainId;
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
    sqlx::query!(
        r#"insert into duties (chain_id, transaction_id, kind, detail, deadline)
           values ($1, $2, $3, $4, $5)
           on conflict (chain_id, transaction_id, kind) do update set detail = excluded.detail
           where duties.done_at is null and duties.detail <> excluded.detail"#,
        chain.0,
        new.transaction_id,
        new.duty.kind(),
        Json(&new.duty) as _,
        new.deadline
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes open duties; each is nobody else's for `lease`, and tried again after it.
pub(crate) async fn take(db: &Db, limit: i64, lease: Duration) -> Result<Vec<Due>, StorageError> {
    let lease = PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(lease.as_micros()).unwrap_or(i64::MAX),
    };
    let rows = sqlx::query!(
        r#"update duties set attempts = attempts + 1,
               not_before = clock_timestamp() + $2::interval * least(attempts + 1, 20)
           where id in (select id from duties
                        where done_at is null and not_before <= clock_timestamp()
                        order by deadline limit $1 for update skip locked)
           returning id, chain_id, transaction_id, detail as "detail: Json<Duty>", deadline,
                     attempts"#,
        limit,
        lease
    )
    .fetch_all(db.pool())
    .await?;
    let due = rows.into_iter().map(|row| Due {
        id: row.id,
        chain: row.chain_id.into(),
        transaction_id: row.transaction_id,
        duty: row.detail.0,
        deadline: row.deadline,
        attempts: row.attempts,
    });
    Ok(due.collect())
}

pub(crate) async fn done(db: &Db, id: i64, now: Instant) -> Result<(), StorageError> {
    sqlx::query!(
        "update duties set done_at = $2, last_error = null where id = $1",
        id,
        now
    )
    .execute(db.pool())
    .await?;
    Ok(())
}

pub(crate) async fn failed(db: &Db, id: i64, error: &str) -> Result<(), StorageError> {
    sqlx::query!("update duties set last_error = $2 where id = $1", id, error)
        .execute(db.pool())
        .await?;
    Ok(())
}

/// Purchases that the store will refund by `horizon` and that no duty covers: unowned or unmapped.
pub(crate) async fn unacknowledged(db: &Db, horizon: Instant) -> Result<i64, StorageError> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from store_subscription_state s
           where s.acknowledge_by <= $1 and not exists
             (select 1 from duties d join purchase_chains c on c.id = d.chain_id
              where d.chain_id = s.chain_id and d.transaction_id = c.head_value
                and d.done_at is not null)"#,
        horizon
    )
    .fetch_one(db.pool())
    .await?;
    Ok(count)
}
