//! The books as an auditor reads them: what was kept of what was acknowledged, and how often.
//!
//! For comparing with a history that was written outside the system.

use uuid::Uuid;

use super::{Db, StorageError};

/// A notification as it was kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) source: String,
    pub(crate) event_id: String,
    pub(crate) status: String,
}

/// Every row of the raw ingress, one per kept copy.
pub(crate) async fn notifications(db: &Db) -> Result<Vec<Kept>, StorageError> {
    let rows = sqlx::query_as!(
        Kept,
        "select source, event_id, status from raw_notifications order by source, id"
    )
    .fetch_all(db.pool())
    .await?;
    Ok(rows)
}

/// How many deliveries were counted, repeated ones included.
pub(crate) async fn deliveries(db: &Db) -> Result<i64, StorageError> {
    let count = sqlx::query_scalar!(
        r#"select coalesce(sum(deliveries), 0)::bigint as "count!" from ingress_keys"#
    )
    .fetch_one(db.pool())
    .await?;
    Ok(count)
}

/// A purchase under one of its store's names.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    pub(crate) alias: String,
    pub(crate) owner: Option<Uuid>,
    /// How often it changed hands, the first time included.
    pub(crate) changes: i64,
}

/// Every name of every purchase, and who owns it.
pub(crate) async fn owners(db: &Db) -> Result<Vec<Owned>, StorageError> {
    let rows = sqlx::query_as!(
        Owned,
        r#"select a.value as alias, c.owner_account_id as owner,
                  (select count(*) from ownership_changes o where o.chain_id = c.id) as "changes!"
           from chain_aliases a join purchase_chains c on c.id = a.chain_id"#
    )
    .fetch_all(db.pool())
    .await?;
    Ok(rows)
}

/// An account's revision, and those that its events tell of.
#[derive(Clone, Debug)]
pub(crate) struct Revisions {
    pub(crate) account: Uuid,
    pub(crate) revision: i64,
    /// Different revisions told by events.
    pub(crate) told: i64,
    /// The highest of them.
    pub(crate) last: i64,
}

/// One row per account that has a snapshot.
pub(crate) async fn revisions(db: &Db) -> Result<Vec<Revisions>, StorageError> {
    let rows = sqlx::query_as!(
        Revisions,
        r#"select s.account_id as account, s.revision,
                  (select count(distinct e.revision) from subscription_events e
                   where e.account_id = s.account_id) as "told!",
                  (select coalesce(max(e.revision), 0) from subscription_events e
                   where e.account_id = s.account_id) as "last!"
           from entitlement_snapshots s"#
    )
    .fetch_all(db.pool())
    .await?;
    Ok(rows)
}

/// Ids of the stores' transactions that are booked more than once, over all purchases.
pub(crate) async fn booked_twice(db: &Db) -> Result<Vec<String>, StorageError> {
    let ids = sqlx::query_scalar!(
        "select transaction_id from transactions group by transaction_id having count(*) > 1"
    )
    .fetch_all(db.pool())
    .await?;
    Ok(ids)
}

/// Something that is left to do, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) what: String,
    pub(crate) count: i64,
}

/// Notifications that are not worked in, purchases that are not in sync, and duties that wait for
/// nobody.
pub(crate) async fn open_work(db: &Db) -> Result<Vec<Open>, StorageError> {
    let open = sqlx::query_as!(
        Open,
        r#"select what as "what!", count(*) as "count!" from (
               select 'notification ' || status as what from raw_notifications
               where status in ('received', 'sealed', 'resolved')
               union all
               select 'purchase out of sync' from purchase_chains
               where dirty_seq > synced_seq and merged_into is null
               union all
               select 'duty ' || kind || coalesce(': ' || last_error, '') from duties
               where done_at is null and waits_for is null
           ) as left_over group by what order by what"#
    )
    .fetch_all(db.pool())
    .await?;
    Ok(open)
}
