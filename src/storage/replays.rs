//! Stored notifications to be read again: selected, and put back in line.

use uuid::Uuid;

use super::sealed::{self, Content, RawBody};
use super::{Db, StorageError};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::time::Instant;

/// Which notifications, and from where on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selection<'a> {
    pub(crate) account: Option<AccountId>,
    pub(crate) source: Option<&'a str>,
    /// Inclusive, business time.
    pub(crate) since: Option<Instant>,
    /// Exclusive, business time.
    pub(crate) until: Option<Instant>,
    /// The last row of the page before.
    pub(crate) after: Option<(Instant, Uuid)>,
    pub(crate) limit: i64,
}

/// A notification as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) id: Uuid,
    pub(crate) source: String,
    pub(crate) body: Content,
    pub(crate) received_at: Instant,
    pub(crate) status: String,
    pub(crate) kind: Option<String>,
    pub(crate) chain: Option<Uuid>,
    pub(crate) detail: Option<String>,
}

/// One page, oldest first. Of an account: what was about the purchases that it owns or owned.
pub(crate) async fn select(db: &Db, selection: &Selection<'_>) -> Result<Vec<Kept>, StorageError> {
    let (after_at, after_id) = selection.after.unzip();
    let rows = sqlx::query!(
        r#"select id, source, body, received_at, status, kind, chain_id as chain, detail, row_key,
                  root_id, chain_key_id
           from raw_notifications
           where ($1::uuid is null or chain_id in (
                   select id from purchase_chains where owner_account_id = $1
                   union select chain_id from ownership_changes
                         where from_account_id = $1 or to_account_id = $1))
             and ($2::text is null or source = $2)
             and ($3::timestamptz is null or received_at >= $3)
             and ($4::timestamptz is null or received_at < $4)
             and ($5::timestamptz is null or (received_at, id) > ($5, $6))
           order by received_at, id limit $7"#,
        selection.account.map(|id| id.0),
        selection.source,
        selection.since,
        selection.until,
        after_at,
        after_id,
        selection.limit
    )
    .fetch_all(db.pool())
    .await?;
    let mut connection = db.connection().await?;
    let mut kept = Vec::with_capacity(rows.len());
    for row in rows {
        let raw = RawBody {
            source: &row.source,
            id: row.id,
            body: row.body,
            row_key: row.row_key,
            root_id: row.root_id,
            chain_key_id: row.chain_key_id,
        };
        let (body, _) = sealed::open_raw(&mut connection, db.keyring(), raw).await?;
        kept.push(Kept {
            id: row.id,
            source: row.source,
            body,
            received_at: row.received_at,
            status: row.status,
            kind: row.kind,
            chain: row.chain,
            detail: row.detail,
        });
    }
    Ok(kept)
}

/// Puts a notification back in line, unless somebody has taken it up meanwhile. It keeps its key:
/// nothing can be taken for new.
pub(crate) async fn read_again(db: &Db, source: &str, id: Uuid) -> Result<bool, StorageError> {
    let put = sqlx::query!(
        r#"update raw_notifications
           set status = case when row_key is null then 'received' else 'sealed' end, detail = null
           where source = $1 and id = $2 and status in ('failed', 'ignored', 'pending', 'unsupported')"#,
        source,
        id
    )
    .execute(db.pool())
    .await?
    .rows_affected();
    Ok(put == 1)
}

/// Purchases that were created or looked at in a time range, page by page; none merged into
/// another.
pub(crate) async fn chains(
    db: &Db,
    selection: &Selection<'_>,
    after: Option<Uuid>,
) -> Result<Vec<ChainId>, StorageError> {
    let ids = sqlx::query_scalar!(
        r#"select c.id from purchase_chains c
           where c.merged_into is null and ($1::text is null or c.provider = $1)
             and ($4::uuid is null or c.id > $4)
             and (($2::timestamptz is null and $3::timestamptz is null) or exists (
                 select from subscription_events e where e.chain_id = c.id
                   and ($2::timestamptz is null or e.at >= $2)
                   and ($3::timestamptz is null or e.at < $3)))
           order by c.id limit $5"#,
        selection.source,
        selection.since,
        selection.until,
        after,
        selection.limit
    )
    .fetch_all(db.pool())
    .await?;
    Ok(ids.into_iter().map(ChainId).collect())
}
