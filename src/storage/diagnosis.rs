//! Questions of `doctor`: read only, none of them made by a running server.

use super::sealed::{self, Content, RawBody};
use super::{Db, StorageError};
use crate::domain::chain::AppId;
use crate::domain::provider::Environment;
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

/// Messages of a source, the newest first, that are looked through for what one app was sent.
const NEWEST: i64 = 10_000;

/// When a source last delivered something about a purchase of an app, in one of its worlds if it
/// is told which; as far as its newest messages since that moment tell.
pub(crate) async fn heard_of_app(
    db: &Db,
    source: &str,
    app: &AppId,
    environment: Option<Environment>,
    since: Instant,
) -> Result<Option<Instant>, StorageError> {
    let heard = sqlx::query_scalar!(
        r#"select max(r.received_at) from (
               select chain_id, received_at from raw_notifications
               where source = $1 and not swept and received_at >= $4
               order by received_at desc limit $5) r
           join purchase_chains c on c.id = r.chain_id
           left join store_subscription_state s on s.chain_id = c.id
           where c.app = $2
             and ($3::text is null or s.known #>> '{state,environment}' = $3)"#,
        source,
        app.0,
        environment.map(Environment::as_str),
        since,
        NEWEST
    )
    .fetch_one(db.pool())
    .await?;
    Ok(heard)
}

/// The newest test messages of a source since a moment, with what they say: about no purchase, so
/// only they themselves tell for which app they came.
pub(crate) async fn tests(
    db: &Db,
    source: &str,
    since: Instant,
    limit: i64,
) -> Result<Vec<(Instant, Content)>, StorageError> {
    let rows = sqlx::query!(
        r#"select id, received_at, body, row_key, root_id, chain_key_id from (
               select * from raw_notifications
               where source = $1 and not swept and received_at >= $2
               order by received_at desc limit $3) r
           where kind = 'TEST' order by received_at desc limit $4"#,
        source,
        since,
        NEWEST,
        limit
    )
    .fetch_all(db.pool())
    .await?;
    let mut connection = db.connection().await?;
    let mut tests = Vec::with_capacity(rows.len());
    for row in rows {
        let raw = RawBody {
            source,
            id: row.id,
            body: row.body,
            row_key: row.row_key,
            root_id: row.root_id,
            chain_key_id: row.chain_key_id,
        };
        // One whose key cannot be had tells nothing, and is no reason to stop looking.
        if let Ok((content, _)) = sealed::open_raw(&mut connection, db.keyring(), raw).await {
            tests.push((row.received_at, content));
        }
    }
    Ok(tests)
}

/// The database's own time.
pub(crate) async fn database_time(db: &Db) -> Result<Instant, StorageError> {
    let now = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
        .fetch_one(db.pool())
        .await?;
    Ok(now)
}
