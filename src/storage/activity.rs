//! How much was delivered by each source, by the hour of business time.

use super::{Db, StorageError};
use crate::domain::silence::Hour;
use crate::domain::time::Instant;

/// Counts again what may have changed since the last count; the same on every replica.
pub(crate) async fn count(db: &Db, earliest: Instant) -> Result<(), StorageError> {
    sqlx::query!(
        r#"insert into source_activity (source, hour, received)
           select source, date_trunc('hour', received_at at time zone 'utc') at time zone 'utc',
                  count(*)
           from raw_notifications
           where not swept and received_at >= greatest($1,
               coalesce((select max(hour) - interval '1 hour' from source_activity), '-infinity'))
           group by 1, 2
           on conflict (source, hour) do update
           set received = greatest(source_activity.received, excluded.received)
           where source_activity.received < excluded.received"#,
        earliest
    )
    .execute(db.pool())
    .await?;
    Ok(())
}

/// Every source that has said something, with its hours since `since`.
pub(crate) async fn since(
    db: &Db,
    source: &str,
    since: Instant,
) -> Result<Vec<Hour>, StorageError> {
    let hours = sqlx::query_as!(
        Hour,
        r#"select hour as start, received from source_activity
           where source = $1 and hour >= $2 order by hour"#,
        source,
        since
    )
    .fetch_all(db.pool())
    .await?;
    Ok(hours)
}

/// When the source was last heard, by delivery.
pub(crate) async fn last_heard(db: &Db, source: &str) -> Result<Option<Instant>, StorageError> {
    let last = sqlx::query_scalar!(
        r#"select received_at from raw_notifications where source = $1 and not swept
           order by received_at desc limit 1"#,
        source
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(last)
}
