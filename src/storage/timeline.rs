//! One account's or chain's story across the layers, in time order, for support.

use uuid::Uuid;

use super::{Db, StorageError};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::time::Instant;

/// One thing that happened.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Entry {
    /// Business time.
    pub(crate) at: Instant,
    /// `notification`, `decision`, `claim`, `owner`, `duty`.
    pub(crate) layer: String,
    pub(crate) what: String,
    pub(crate) detail: String,
    /// Of the account, where the entry changed it.
    pub(crate) revision: Option<i64>,
}

/// Chains that an account owns, owned or asked for, with what was merged into them.
pub(crate) async fn chains_of(db: &Db, account: AccountId) -> Result<Vec<ChainId>, StorageError> {
    let ids = sqlx::query_scalar!(
        r#"with mine as (
               select id from purchase_chains where owner_account_id = $1
               union select chain_id from ownership_changes
                     where from_account_id = $1 or to_account_id = $1
               union select chain_id from ownership_claims where account_id = $1
           )
           select id as "id!" from mine
           union select id from purchase_chains where merged_into in (select id from mine)"#,
        account.0
    )
    .fetch_all(db.pool())
    .await?;
    Ok(ids.into_iter().map(ChainId).collect())
}

/// Everything about the account itself and about `chains`, in time order.
pub(crate) async fn entries(
    db: &Db,
    account: Option<AccountId>,
    chains: &[ChainId],
) -> Result<Vec<Entry>, StorageError> {
    let chains: Vec<Uuid> = chains.iter().map(|id| id.0).collect();
    let rows = sqlx::query_as!(
        Entry,
        r#"select at as "at!", layer as "layer!", what as "what!", detail as "detail!", revision
           from (
               select at, 'decision' as layer, source || ': ' || decision || ' ' || reason as what,
                      concat_ws(' ', detail, case when actor is not null then 'by ' || actor end) as detail,
                      revision, 3 as rank, id::numeric as tie
               from subscription_events where account_id = $1 or chain_id = any($2)
               union all
               select r.received_at, 'notification', r.source || ': ' || coalesce(r.kind, 'unread'),
                      concat_ws(' ', r.status, r.detail,
                          case when k.deliveries > 1 then 'delivered ' || k.deliveries || ' times' end),
                      null, 1, 0
               from raw_notifications r
               left join ingress_keys k on k.source = r.source and k.event_id = r.event_id
               where r.chain_id = any($2)
               union all
               select opened_at, 'claim', 'claim ' || coalesce(verdict, 'open'),
                      case when account_id is distinct from $1 and $1 is not null
                           then 'by another account' else '' end, null, 2, 0
               from ownership_claims where chain_id = any($2)
               union all
               select at, 'owner', 'owner changed: ' || reason,
                      case when to_account_id = $1 then 'to this account'
                           when from_account_id = $1 then 'away from this account' else '' end,
                      null, 4, id from ownership_changes where chain_id = any($2)
               union all
               select coalesce(done_at, deadline), 'duty', kind || case when done_at is null
                      then ' open' else ' done' end, coalesce(last_error, ''), null, 5, id
               from duties where chain_id = any($2)
           ) as story
           order by at, rank, tie"#,
        account.map(|id| id.0),
        &chains
    )
    .fetch_all(db.pool())
    .await?;
    Ok(rows)
}
