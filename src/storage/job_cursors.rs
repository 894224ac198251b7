//! Where jobs that walk through time stand: one row per job and subject, one replica at a time.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::postgres::types::PgInterval;
use sqlx::types::{Json, JsonValue};

use super::{Db, StorageError, Tx};
use crate::domain::time::Instant;

/// One subject of a job.
#[derive(Clone, Debug)]
pub(crate) struct Stand<C, A> {
    pub(crate) cursor: C,
    /// What somebody wants of it.
    pub(crate) asked: Option<A>,
    /// A replica is at it.
    pub(crate) held: bool,
}

fn parse<T: DeserializeOwned>(value: JsonValue) -> Result<T, StorageError> {
    serde_json::from_value(value).map_err(|error| StorageError::Corrupt(error.to_string()))
}

fn json<T: Serialize>(value: &T) -> Result<JsonValue, StorageError> {
    serde_json::to_value(value).map_err(|error| StorageError::Corrupt(error.to_string()))
}

/// How a subject stands; one that was never begun stands at its default.
pub(crate) async fn read<C, A>(
    db: &Db,
    job: &str,
    subject: &str,
) -> Result<Stand<C, A>, StorageError>
where
    C: DeserializeOwned + Default,
    A: DeserializeOwned,
{
    let row = sqlx::query!(
        r#"select cursor, asked, lease_until > clock_timestamp() as "held!"
           from job_cursors where job = $1 and subject = $2"#,
        job,
        subject
    )
    .fetch_optional(db.pool())
    .await?;
    let Some(row) = row else {
        return Ok(Stand {
            cursor: C::default(),
            asked: None,
            held: false,
        });
    };
    Ok(Stand {
        cursor: parse(row.cursor)?,
        asked: row.asked.map(parse).transpose()?,
        held: row.held,
    })
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}

/// Takes a subject for `lease`, unless another replica has it.
pub(crate) async fn hold(
    db: &Db,
    job: &str,
    subject: &str,
    lease: Duration,
    now: Instant,
) -> Result<bool, StorageError> {
    let taken = take(db, job, subject, lease, now).await?;
    Ok(taken.is_some())
}

/// Takes a subject for `lease`, unless another replica has it; tells until when (machine time),
/// which is what `renew` knows its holder by.
pub(crate) async fn take(
    db: &Db,
    job: &str,
    subject: &str,
    lease: Duration,
    now: Instant,
) -> Result<Option<Instant>, StorageError> {
    let held_until = sqlx::query_scalar!(
        r#"insert into job_cursors as j (job, subject, cursor, lease_until, updated_at)
           values ($1, $2, '{}', clock_timestamp() + $3::interval, $4)
           on conflict (job, subject) do update set lease_until = excluded.lease_until
           where j.lease_until < clock_timestamp()
           returning lease_until"#,
        job,
        subject,
        interval(lease),
        now
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(held_until)
}

/// Holds a subject for `lease` more; `None`: it is not this holder's any more.
pub(crate) async fn renew(
    db: &Db,
    job: &str,
    subject: &str,
    held_until: Instant,
    lease: Duration,
) -> Result<Option<Instant>, StorageError> {
    let held_until = sqlx::query_scalar!(
        r#"update job_cursors set lease_until = clock_timestamp() + $4::interval
           where job = $1 and subject = $2 and lease_until = $3 returning lease_until"#,
        job,
        subject,
        held_until,
        interval(lease)
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(held_until)
}

/// Keeps the cursor and gives the subject back. `taken_up` is the ask that this is the work of: one
/// that came since stays.
pub(crate) async fn save<C: Serialize, A: Serialize>(
    db: &Db,
    job: &str,
    subject: &str,
    cursor: &C,
    taken_up: Option<&A>,
    now: Instant,
) -> Result<(), StorageError> {
    let taken_up = taken_up.map(json).transpose()?;
    sqlx::query!(
        r#"update job_cursors set cursor = $3, updated_at = $5, lease_until = '-infinity',
               asked = case when asked = $4 then null else asked end
           where job = $1 and subject = $2"#,
        job,
        subject,
        json(cursor)?,
        taken_up,
        now
    )
    .execute(db.pool())
    .await?;
    Ok(())
}

/// Gives the subject back as it was.
pub(crate) async fn release(db: &Db, job: &str, subject: &str) -> Result<(), StorageError> {
    sqlx::query!(
        r#"update job_cursors set lease_until = '-infinity' where job = $1 and subject = $2"#,
        job,
        subject
    )
    .execute(db.pool())
    .await?;
    Ok(())
}

/// Leaves a wish with a subject; `join` makes one of it and of the one that waits already.
pub(crate) async fn ask<A: Serialize + DeserializeOwned>(
    tx: &mut Tx<'_>,
    job: &str,
    subject: &str,
    wish: A,
    join: impl FnOnce(A, A) -> A,
    now: Instant,
) -> Result<(), StorageError> {
    let waiting = sqlx::query_scalar!(
        r#"insert into job_cursors as j (job, subject, cursor, updated_at)
           values ($1, $2, '{}', $3)
           on conflict (job, subject) do update set updated_at = j.updated_at
           returning asked"#,
        job,
        subject,
        now
    )
    .fetch_one(&mut **tx)
    .await?;
    let wish = match waiting {
        Some(waiting) => join(parse(waiting)?, wish),
        None => wish,
    };
    sqlx::query!(
        "update job_cursors set asked = $3 where job = $1 and subject = $2",
        job,
        subject,
        json(&wish)?
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The cursor under lock, made if it was not there.
pub(crate) async fn lock<C: DeserializeOwned>(
    tx: &mut Tx<'_>,
    job: &str,
    subject: &str,
    now: Instant,
) -> Result<C, StorageError> {
    let cursor = sqlx::query_scalar!(
        r#"insert into job_cursors as j (job, subject, cursor, updated_at)
           values ($1, $2, '{}', $3)
           on conflict (job, subject) do update set updated_at = j.updated_at
           returning cursor"#,
        job,
        subject,
        now
    )
    .fetch_one(&mut **tx)
    .await?;
    parse(cursor)
}

/// Writes a cursor that is locked.
pub(crate) async fn put<C: Serialize>(
    tx: &mut Tx<'_>,
    job: &str,
    subject: &str,
    cursor: &C,
    now: Instant,
) -> Result<(), StorageError> {
    sqlx::query!(
        "update job_cursors set cursor = $3, updated_at = $4 where job = $1 and subject = $2",
        job,
        subject,
        Json(cursor) as _,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The database's own time: machine time that all replicas share.
pub(crate) async fn machine_now(tx: &mut Tx<'_>) -> Result<Instant, StorageError> {
    let now = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
        .fetch_one(&mut **tx)
        .await?;
    Ok(now)
}
