//! What an account holds, asked for or lost, purchase by purchase: for explaining.

use sqlx::types::Json;

use super::{Db, StorageError};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::provider::Provider;
use crate::domain::subscription::guard::Known;
use crate::domain::time::Instant;

/// A purchase that has something to do with an account.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) chain: ChainId,
    pub(crate) provider: Provider,
    /// The last answer taken; `None` until the store has answered.
    pub(crate) known: Option<Known>,
    pub(crate) store_away: bool,
    /// Who owns it now.
    pub(crate) owner: Option<AccountId>,
    /// The account's last claim on it: since when, and what became of it.
    pub(crate) claimed_at: Option<Instant>,
    pub(crate) verdict: Option<String>,
}

/// Purchases that the account owns, owned or asked for; what was merged into another is that one.
pub(crate) async fn of_account(db: &Db, account: AccountId) -> Result<Vec<Held>, StorageError> {
    let rows = sqlx::query!(
        r#"with named as (
               select id from purchase_chains where owner_account_id = $1
               union select chain_id from ownership_changes
                     where from_account_id = $1 or to_account_id = $1
               union select chain_id from ownership_claims where account_id = $1
           ), mine as (
               select distinct coalesce(merged_into, id) as id
               from purchase_chains join named using (id)
           )
           select c.id, c.provider, c.store_away, c.owner_account_id,
                  s.known as "known?: Json<Known>",
                  k.opened_at as "opened_at?", k.verdict as "verdict?"
           from mine join purchase_chains c on c.id = mine.id
           left join store_subscription_state s on s.chain_id = c.id
           left join lateral (
               select opened_at, verdict from ownership_claims
               where chain_id = c.id and account_id = $1 order by opened_at desc, id desc limit 1
           ) k on true
           order by c.created_at, c.id"#,
        account.0
    )
    .fetch_all(db.pool())
    .await?;
    rows.into_iter()
        .map(|row| {
            let provider = Provider::parse(&row.provider)
                .ok_or_else(|| StorageError::Corrupt(format!("provider {:?}", row.provider)))?;
            Ok(Held {
                chain: row.id.into(),
                provider,
                known: row.known.map(|known| known.0),
                store_away: row.store_away,
                owner: row.owner_account_id.map(AccountId),
                claimed_at: row.opened_at,
                verdict: row.verdict,
            })
        })
        .collect()
}

/// Who owned a purchase at a moment.
pub(crate) async fn owner_at(
    db: &Db,
    chain: ChainId,
    at: Instant,
) -> Result<Option<AccountId>, StorageError> {
    let owner = sqlx::query_scalar!(
        r#"select to_account_id from ownership_changes where chain_id = $1 and at <= $2
           order by at desc, id desc limit 1"#,
        chain.0,
        at
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(owner.map(AccountId))
}

/// When a purchase, or a part of it, last left an account, up to a moment.
pub(crate) async fn left_at(
    db: &Db,
    chain: ChainId,
    account: AccountId,
    at: Instant,
) -> Result<Option<Instant>, StorageError> {
    let left = sqlx::query_scalar!(
        r#"select max(at) from ownership_changes
           where from_account_id = $2 and at <= $3 and (chain_id = $1
               or chain_id in (select id from purchase_chains where merged_into = $1))"#,
        chain.0,
        account.0,
        at
    )
    .fetch_one(db.pool())
    .await?;
    Ok(left)
}

/// The decision that a purchase stands by: the last that changed it, and the signal behind it.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) event: i64,
    pub(crate) at: Instant,
    pub(crate) source: String,
    pub(crate) decision: String,
    pub(crate) reason: String,
    pub(crate) actor: Option<String>,
    /// For notifications: the store's own word for the newest that it answered to.
    pub(crate) signal: Option<String>,
}

/// The last decision about a purchase up to a moment that changed something; else the last at all.
pub(crate) async fn decided(
    db: &Db,
    chain: ChainId,
    at: Instant,
) -> Result<Option<Decided>, StorageError> {
    let decided = sqlx::query_as!(
        Decided,
        r#"select e.id as event, e.at, e.source, e.decision, e.reason, e.actor,
                  (select r.kind from raw_notifications r
                   where r.chain_id = e.chain_id and r.received_at <= e.at
                     and e.source = 'notification'
                   order by r.received_at desc, r.id desc limit 1) as signal
           from subscription_events e
           where e.chain_id = $1 and e.at <= $2 and e.inputs is not null
           order by (e.decision = 'apply') desc, e.id desc limit 1"#,
        chain.0,
        at
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(decided)
}

/// The last gift, taking back or refusal of an account up to a moment: what is about the account
/// itself, not about a purchase that it owns.
pub(crate) async fn decided_for_account(
    db: &Db,
    account: AccountId,
    reasons: &[String],
    at: Instant,
) -> Result<Option<Decided>, StorageError> {
    let decided = sqlx::query_as!(
        Decided,
        r#"select e.id as event, e.at, e.source, e.decision, e.reason, e.actor,
                  null::text as signal
           from subscription_events e
           where e.account_id = $1 and e.chain_id is null and e.reason = any($2) and e.at <= $3
           order by e.id desc limit 1"#,
        account.0,
        reasons,
        at
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(decided)
}

/// Purchases that a store's id, or ours, names: at most a few.
pub(crate) async fn by_store_id(db: &Db, id: &str) -> Result<Vec<ChainId>, StorageError> {
    let ids = sqlx::query_scalar!(
        r#"select chain_id as "chain_id!" from chain_aliases where value = $1
           union select chain_id from transactions where transaction_id = $1
           union select id from purchase_chains where id = $2"#,
        id,
        uuid::Uuid::parse_str(id).ok()
    )
    .fetch_all(db.pool())
    .await?;
    Ok(ids.into_iter().map(ChainId).collect())
}
