//! Questions of `doctor`: read only, none of them made by a running server.

use super::{Db, StorageError};
use crate::domain::time::Instant;

/// Raw rows in a status that wants a person's eye.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) source: String,
    pub(crate) status: String,
    pub(crate) count: i64,
    pub(crate) oldest: Instant,
}

/// Failed, pending and unread rows by source.
pub(crate) async fn rows(db: &Db) -> Result<Vec<Rows>, StorageError> {
    let rows = sqlx::query_as!(
        Rows,
        r#"select source, status, count(*) as "count!", min(received_at) as "oldest!"
           from raw_notifications where status in ('failed', 'pending', 'received', 'sealed', 'resolved')
           group by source, status order by source, status"#
    )
    .fetch_all(db.pool())
    .await?;
    Ok(rows)
}

/// A store's product that purchases are of.
#[derive(Clone, Debug)]
pub(crate) struct Sold {
    pub(crate) provider: String,
    pub(crate) product_id: String,
    pub(crate) base_plan_id: Option<String>,
    pub(crate) purchases: i64,
}

/// Every product that known purchases are of, most bought first.
pub(crate) async fn products(db: &Db) -> Result<Vec<Sold>, StorageError> {
    let products = sqlx::query_as!(
        Sold,
        r#"select c.provider as "provider!", item #>> '{product,product_id}' as "product_id!",
                  item #>> '{product,base_plan_id}' as base_plan_id, count(*) as "purchases!"
           from store_subscription_state s join purchase_chains c on c.id = s.chain_id,
                jsonb_array_elements(s.known #> '{state,items}') as item
           where c.merged_into is null and item #>> '{product,product_id}' is not null
           group by 1, 2, 3 order by 4 desc"#
    )
    .fetch_all(db.pool())
    .await?;
    Ok(products)
}

/// Work on purchases that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    /// Signals that have not been settled.
    pub(crate) dirty: i64,
    /// Purchases that should have been read again by now.
    pub(crate) due: i64,
    pub(crate) oldest_due: Option<Instant>,
    /// Reads in a row that failed, of the purchase that fares worst.
    pub(crate) failures_max: i32,
}

pub(crate) async fn waiting(db: &Db, now: Instant) -> Result<Waiting, StorageError> {
    let waiting = sqlx::query_as!(
        Waiting,
        r#"select count(*) filter (where dirty_seq > synced_seq) as "dirty!",
                  count(*) filter (where next_check_at <= $1) as "due!",
                  min(next_check_at) filter (where next_check_at <= $1) as oldest_due,
                  coalesce(max(failures), 0) as "failures_max!"
           from purchase_chains
           where merged_into is null
             and (dirty_seq > synced_seq or next_check_at <= $1 or failures > 0)"#,
        now
    )
    .fetch_one(db.pool())
    .await?;
    Ok(waiting)
}

/// Whether a notification was delivered.
pub(crate) async fn was_received(
    db: &Db,
    source: &str,
    event_id: &str,
) -> Result<bool, StorageError> {
    let received = sqlx::query_scalar!(
        r#"select exists (select from ingress_keys where source = $1 and event_id = $2 and deliveries > 0)
               as "received!""#,
        source,
        event_id
    )
    .fetch_one(db.pool())
    .await?;
    Ok(received)
}

/// When a source last delivered a notification of a kind.
pub(crate) async fn newest_of_kind(
    db: &Db,
    source: &str,
    kind: &str,
) -> Result<Option<Instant>, StorageError> {
    let newest = sqlx::query_scalar!(
        r#"select max(received_at) from raw_notifications
           where source = $1 and kind = $2 and not swept"#,
        source,
        kind
    )
    .fetch_one(db.pool())
    .await?;
    Ok(newest)
}

/// The database's own time.
pub(crate) async fn database_time(db: &Db) -> Result<Instant, StorageError> {
    let now = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
        .fetch_one(db.pool())
        .await?;
    Ok(now)
}
