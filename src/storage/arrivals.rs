//! What has come since a moment: for whoever follows a first purchase. Read only.

use uuid::Uuid;

use super::{Db, StorageError};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::provider::{Provider, Source};
use crate::domain::time::Instant;

/// Where somebody began to look. Rows are ordered by it, not by a clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    notification: Uuid,
    event: i64,
}

/// Whose notifications are followed. Named in each query: the key of the table begins with it.
fn sources() -> Vec<String> {
    let stores = Provider::ALL.into_iter().map(Source::Store);
    let all = stores.chain([Source::Superwall]);
    all.map(|source| source.as_str().to_owned()).collect()
}

pub(crate) async fn mark(db: &Db) -> Result<Mark, StorageError> {
    let row = sqlx::query!(
        r#"select (select last.id from unnest($1::text[]) as s (source), lateral (
                      select id from raw_notifications r where r.source = s.source
                      order by id desc limit 1) last
                   order by last.id desc limit 1) as notification,
                  coalesce((select max(id) from subscription_events), 0) as "event!""#,
        &sources()
    )
    .fetch_one(db.pool())
    .await?;
    Ok(Mark {
        notification: row.notification.unwrap_or_default(),
        event: row.event,
    })
}

/// A notification.
#[derive(Clone, Debug)]
pub(crate) struct Notified {
    pub(crate) source: String,
    /// The store's own word; absent until it is read.
    pub(crate) kind: Option<String>,
    pub(crate) status: String,
    pub(crate) detail: Option<String>,
    pub(crate) chain: Option<Uuid>,
}

/// What was delivered since, oldest first.
pub(crate) async fn notifications(db: &Db, since: Mark) -> Result<Vec<Notified>, StorageError> {
    let rows = sqlx::query_as!(
        Notified,
        r#"select source, kind, status, detail, chain_id as chain from raw_notifications
           where source = any($1) and id > $2 and not swept order by id limit 1000"#,
        &sources(),
        since.notification
    )
    .fetch_all(db.pool())
    .await?;
    Ok(rows)
}

/// A purchase that something happened to.
#[derive(Clone, Debug)]
pub(crate) struct Touched {
    pub(crate) chain: ChainId,
    pub(crate) provider: String,
    pub(crate) owner: Option<AccountId>,
    /// Decisions since.
    pub(crate) decisions: i64,
    /// The reason of the latest.
    pub(crate) reason: Option<String>,
    /// Something waits to be settled.
    pub(crate) waits: bool,
    /// Reads of the store in a row that failed.
    pub(crate) failures: i32,
    /// Somebody's app asked to have it, since.
    pub(crate) claimed: bool,
}

/// Purchases that were told of, asked for or decided since, the newest last.
pub(crate) async fn purchases(
    db: &Db,
    since: Mark,
    began: Instant,
) -> Result<Vec<Touched>, StorageError> {
    let rows = sqlx::query!(
        r#"with touched as (
               select chain_id as id from raw_notifications
               where source = any($4) and id > $1 and not swept and chain_id is not null
               union select chain_id from subscription_events
                     where id > $2 and chain_id is not null
               union select chain_id from ownership_claims
                     where verdict is null and opened_at >= $3
           ), living as (
               select distinct coalesce(c.merged_into, c.id) as id
               from touched t join purchase_chains c on c.id = t.id
           )
           select c.id, c.provider, c.owner_account_id as owner,
                  c.dirty_seq > c.synced_seq as "waits!", c.failures,
                  (select count(*) from subscription_events e
                   where e.chain_id = c.id and e.id > $2) as "decisions!",
                  (select e.reason from subscription_events e
                   where e.chain_id = c.id and e.id > $2 order by e.id desc limit 1) as reason,
                  exists (select from ownership_claims o
                          where o.chain_id = c.id and o.opened_at >= $3) as "claimed!"
           from living l join purchase_chains c on c.id = l.id
           order by c.created_at, c.id"#,
        since.notification,
        since.event,
        began,
        &sources()
    )
    .fetch_all(db.pool())
    .await?;
    let touched = rows.into_iter().map(|row| Touched {
        chain: ChainId(row.id),
        provider: row.provider,
        owner: row.owner.map(AccountId),
        decisions: row.decisions,
        reason: row.reason,
        waits: row.waits,
        failures: row.failures,
        claimed: row.claimed,
    });
    Ok(touched.collect())
}
