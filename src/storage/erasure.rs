//! Erasure: what an account leaves is nobody's, names nobody and cannot be read.
//!
//! A test plants values everywhere, erases, and looks for them in a dump.

use uuid::Uuid;

use super::{Db, StorageError, Tx};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::time::Instant;

/// An account on its way out, under its lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) erased_at: Option<Instant>,
    /// The living account that it became part of.
    pub(crate) merged_into: Option<Uuid>,
}

/// The account's row; `None`: there never was one. Locked until the transaction ends.
pub(crate) async fn lock(
    tx: &mut Tx<'_>,
    account: AccountId,
) -> Result<Option<Found>, StorageError> {
    let found = sqlx::query_as!(
        Found,
        "select erased_at, merged_into from accounts where id = $1 for update",
        account.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(found)
}

/// Every purchase that may say something of these accounts, in id order: what they own, had or asked
/// for, and what its store's record names them in. None that became part of another.
pub(crate) async fn reached(
    tx: &mut Tx<'_>,
    persons: &[Uuid],
) -> Result<Vec<ChainId>, StorageError> {
    let ids = sqlx::query_scalar!(
        r#"select distinct coalesce(c.merged_into, c.id) as "id!" from purchase_chains c
           where c.id in (
               select id from purchase_chains where owner_account_id = any($1)
               union select chain_id from ownership_claims where account_id = any($1)
               union select chain_id from ownership_changes where from_account_id = any($1)
               union select chain_id from ownership_changes where to_account_id = any($1)
               union select s.chain_id from store_tokens t join store_subscription_state s
                     on lower(s.known->'state'->>'account_token') = t.token
                        and s.known->'state'->>'account_token' is not null
                     where t.account_id = any($1))
           order by 1"#,
        persons
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(ids.into_iter().map(ChainId).collect())
}

/// What stores call these accounts, in lower case.
pub(crate) async fn tokens(tx: &mut Tx<'_>, persons: &[Uuid]) -> Result<Vec<String>, StorageError> {
    let tokens = sqlx::query_scalar!(
        "select token from store_tokens where account_id = any($1)",
        persons
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(tokens)
}

/// Takes the chains from their owner. Whoever is fetching one is fenced off: what the store said
/// before the erasure is not kept after it.
pub(crate) async fn detach(
    tx: &mut Tx<'_>,
    chains: &[ChainId],
    now: Instant,
) -> Result<(), StorageError> {
    let ids: Vec<Uuid> = chains.iter().map(|id| id.0).collect();
    sqlx::query!(
        r#"update purchase_chains
           set owner_account_id = null, owner_since = null, owner_provisional_until = null,
               owner_transferred = false, detached_at = $2, next_check_at = null,
               claim_no = claim_no + 1, lease_until = '-infinity'
           where id = any($1)"#,
        &ids,
        now
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        r#"update store_subscription_state
           set known = jsonb_set(known, '{state,account_token}', 'null')
           where chain_id = any($1) and known #> '{state,account_token}' is not null"#,
        &ids
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Makes everything unreadable that stores have sent about the chains: what was kept plain is
/// emptied, and their keys are destroyed.
///
/// The keys go last: whoever was sealing a plain document is waited for by the statement that empties
/// it, and the key that it made is seen by the one after.
pub(crate) async fn shred(tx: &mut Tx<'_>, chains: &[ChainId]) -> Result<(), StorageError> {
    let ids = with_parts(tx, chains).await?;
    sqlx::query!(
        r#"update raw_notifications set body = '', row_key = null, root_id = null
           where chain_id = any($1) and chain_key_id is null"#,
        &ids
    )
    .execute(&mut **tx)
    .await?;
    allow(tx).await?;
    sqlx::query!(
        "update store_answers set bodies = '{}' where chain_id = any($1) and chain_key_id is null",
        &ids
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        r#"update chain_keys set wrapped = null, destroyed_at = clock_timestamp()
           where wrapped is not null and chain_id = any($1)"#,
        &ids
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes out of the log of events, of duties and of what operators did whatever was said in words or
/// names a token. What happened, when and why stays; of purchases that are another's, what decided
/// stays too, for [`unname`] to go through.
pub(crate) async fn silence(
    tx: &mut Tx<'_>,
    persons: &[Uuid],
    chains: &[ChainId],
) -> Result<(), StorageError> {
    let ids = with_parts(tx, chains).await?;
    allow(tx).await?;
    sqlx::query!(
        r#"update subscription_events
           set detail = null,
               inputs = case when chain_id is null or chain_id = any($2) then null else inputs end
           where (account_id = any($1) or chain_id = any($2))
             and (detail is not null or inputs is not null)"#,
        persons,
        &ids
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        r#"update operator_actions set reason = '', outcome = null
           where account_id = any($1) or chain_id = any($2)"#,
        persons,
        &ids
    )
    .execute(&mut **tx)
    .await?;
    // Whoever owns a purchase next is named to the store by a duty of their own.
    sqlx::query!(
        "delete from duties where chain_id = any($1) and kind = 'set_account_token'",
        &ids
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        r#"update duties set detail = detail - 'account_token', last_error = null
           where chain_id = any($1) and (detail ? 'account_token' or last_error is not null)"#,
        &ids
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes the accounts, and what stores call them, out of what is kept about purchases that they had,
/// asked for or were named in, and that are somebody else's or nobody's: decisions stay such that
/// they can be decided again. Their stores go on saying the names: they are not kept again.
///
/// Before [`forget`], which deletes the names.
pub(crate) async fn unname(
    tx: &mut Tx<'_>,
    persons: &[Uuid],
    tokens: &[String],
    others: &[ChainId],
) -> Result<(), StorageError> {
    let ids = with_parts(tx, others).await?;
    unname_decisions(tx, persons, tokens, &ids).await?;
    let named = sqlx::query_scalar!(
        r#"update store_subscription_state
           set known = jsonb_set(known, '{state,account_token}', 'null')
           where chain_id = any($1) and lower(known #>> '{state,account_token}') = any($2)
           returning chain_id"#,
        &ids,
        tokens
    )
    .fetch_all(&mut **tx)
    .await?;
    sqlx::query!(
        "update purchase_chains set names_erased = true where id = any($1)",
        &named
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        r#"delete from duties where chain_id = any($1) and kind = 'set_account_token'
           and lower(detail ->> 'account_token') = any($2)"#,
        &ids,
        tokens
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        r#"update duties set detail = detail - 'account_token', last_error = null
           where chain_id = any($1) and lower(detail ->> 'account_token') = any($2)"#,
        &ids,
        tokens
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The events of [`unname`].
async fn unname_decisions(
    tx: &mut Tx<'_>,
    persons: &[Uuid],
    tokens: &[String],
    ids: &[Uuid],
) -> Result<(), StorageError> {
    let names: Vec<String> = persons.iter().map(Uuid::to_string).collect();
    allow(tx).await?;
    sqlx::query!(
        r#"update subscription_events e
           set inputs = jsonb_set(inputs, '{step,step,tokens}', coalesce(
               (select jsonb_agg(party)
                from jsonb_array_elements(inputs #> '{step,step,tokens}') as party
                where party ->> 0 <> all($2)), '[]'))
           where chain_id = any($1) and exists (
               select from jsonb_array_elements(
                   case jsonb_typeof(inputs #> '{step,step,tokens}') when 'array'
                        then inputs #> '{step,step,tokens}' else '[]' end) as party
               where party ->> 0 = any($2))"#,
        ids,
        &names
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        r#"update subscription_events
           set inputs = jsonb_set(jsonb_set(inputs, '{step,step,answer,state,account_token}', 'null'),
                                  '{step,step,forgotten}', 'true')
           where chain_id = any($1)
             and lower(inputs #>> '{step,step,answer,state,account_token}') = any($2)"#,
        ids,
        tokens
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        r#"update subscription_events
           set inputs = jsonb_set(inputs, '{rebased,known,state,account_token}', 'null')
           where chain_id = any($1)
             and lower(inputs #>> '{rebased,known,state,account_token}') = any($2)"#,
        ids,
        tokens
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What others have shown of these purchases may be the store's document about the account: of open
/// claims its name goes, of decided ones all of it.
pub(crate) async fn unname_claims(
    tx: &mut Tx<'_>,
    tokens: &[String],
    chains: &[ChainId],
) -> Result<(), StorageError> {
    let ids = with_parts(tx, chains).await?;
    sqlx::query!(
        r#"update ownership_claims
           set stand_in = case when verdict is null
                               then jsonb_set(stand_in, '{account_token}', 'null') end
           where chain_id = any($1) and lower(stand_in ->> 'account_token') = any($2)"#,
        &ids,
        tokens
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets who the account is, what it was given and told, and every credential of it.
pub(crate) async fn forget(
    tx: &mut Tx<'_>,
    persons: &[Uuid],
    now: Instant,
) -> Result<(), StorageError> {
    sqlx::query!(
        "delete from account_identities where account_id = any($1)",
        persons
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "delete from store_tokens where account_id = any($1)",
        persons
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "delete from consumption where account_id = any($1)",
        persons
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!("delete from grants where account_id = any($1)", persons)
        .execute(&mut **tx)
        .await?;
    sqlx::query!(
        "delete from ownership_claims where account_id = any($1)",
        persons
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "delete from snapshot_history where account_id = any($1)",
        persons
    )
    .execute(&mut **tx)
    .await?;
    // Nothing was handed out: whoever owns the purchase next may have it.
    sqlx::query!(
        "delete from deliveries where account_id = any($1) and claimed_at is null",
        persons
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "update deliveries set claim_key = null where account_id = any($1) and claim_key is not null",
        persons
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "update accounts set erased_at = $2, ended_at = coalesce(ended_at, clock_timestamp()) where id = any($1)",
        persons,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The line of an erasure: who asked for it and under which reference, nothing about the account but
/// our own id of it.
pub(crate) async fn record(
    tx: &mut Tx<'_>,
    account: AccountId,
    actor: &str,
    reason: &str,
    now: Instant,
) -> Result<(), StorageError> {
    sqlx::query!(
        r#"insert into operator_actions
               (operation_id, account_id, action, actor, reason, started_at, finished_at, done)
           values ('erase ' || $1::uuid::text, $1, 'erase account', $2, $3, $4, $4, true)
           on conflict (operation_id) do nothing"#,
        account.0,
        actor,
        reason,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// One line of the ledger of erasures: what a restored backup is to forget again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LedgerLine {
    /// Our id of the account.
    pub(crate) account: Uuid,
    pub(crate) erased_at: Instant,
}

/// Erasures since a moment, oldest first: at most `limit`, behind the one that `after` names.
pub(crate) async fn ledger(
    db: &Db,
    since: Option<Instant>,
    after: Option<(Instant, Uuid)>,
    limit: i64,
) -> Result<Vec<LedgerLine>, StorageError> {
    let lines = sqlx::query_as!(
        LedgerLine,
        r#"select id as account, erased_at as "erased_at!" from accounts
           where erased_at is not null and ($1::timestamptz is null or erased_at >= $1)
             and ($2::timestamptz is null or (erased_at, id) > ($2, $3))
           order by erased_at, id limit $4"#,
        since,
        after.map(|(at, _)| at),
        after.map_or(Uuid::nil(), |(_, id)| id),
        limit
    )
    .fetch_all(db.pool())
    .await?;
    Ok(lines)
}

/// Steps of a chain whose inputs were erased: replay begins after them.
pub(crate) async fn erased_steps(tx: &mut Tx<'_>, chain: ChainId) -> Result<usize, StorageError> {
    let steps = sqlx::query_scalar!(
        r#"select count(*) as "count!" from subscription_events
           where chain_id = $1 and inputs is null and answer_id is not null"#,
        chain.0
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(usize::try_from(steps).unwrap_or(0))
}

/// The account and those that became part of it.
pub(crate) async fn with_merged(
    tx: &mut Tx<'_>,
    account: AccountId,
) -> Result<Vec<Uuid>, StorageError> {
    let ids = sqlx::query_scalar!(
        "select id from accounts where id = $1 or merged_into = $1 order by id",
        account.0
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(ids)
}

/// Append-only tables let an erasure, which says so, take out what is personal.
async fn allow(tx: &mut Tx<'_>) -> Result<(), StorageError> {
    sqlx::query_scalar!("select set_config('entitled.erasure', 'on', true)")
        .fetch_one(&mut **tx)
        .await?;
    Ok(())
}

/// The chains and those that became part of them.
async fn with_parts(tx: &mut Tx<'_>, chains: &[ChainId]) -> Result<Vec<Uuid>, StorageError> {
    let ids: Vec<Uuid> = chains.iter().map(|id| id.0).collect();
    let all = sqlx::query_scalar!(
        "select id from purchase_chains where id = any($1) or merged_into = any($1) order by id",
        &ids
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(all)
}
