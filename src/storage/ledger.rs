//! The provider ledger: the last answer taken, every answer as it came, every transaction.

use bytes::Bytes;
use sqlx::types::Json;

use super::{Db, StorageError, Tx};
use crate::domain::entitlement::Holding;
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::provider::{Environment, Provider};
use crate::domain::subscription::guard::Known;
use crate::domain::subscription::store_state::Transaction;
use crate::domain::time::Instant;

/// One answer of a store as it came: which call, its status, its body.
pub(crate) type RawAnswer = (String, u16, Bytes);

pub(crate) async fn known(tx: &mut Tx<'_>, chain: ChainId) -> Result<Option<Known>, StorageError> {
    let known = sqlx::query_scalar!(
        r#"select known as "known: Json<Known>" from store_subscription_state where chain_id = $1"#,
        chain.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(known.map(|json| json.0))
}

/// What is known of a chain, outside any lock: for callers that only want to know whether to ask.
pub(crate) async fn peek(db: &Db, chain: ChainId) -> Result<Option<Known>, StorageError> {
    let mut tx = db.begin().await?;
    let known = known(&mut tx, chain).await?;
    tx.commit().await?;
    Ok(known)
}

pub(crate) async fn write_known(
    tx: &mut Tx<'_>,
    chain: ChainId,
    known: &Known,
    acknowledge_by: Option<Instant>,
    now: Instant,
) -> Result<(), StorageError> {
    sqlx::query!(
        r#"insert into store_subscription_state (chain_id, known, acknowledge_by, updated_at)
           values ($1, $2, $3, $4)
           on conflict (chain_id) do update
           set known = $2, acknowledge_by = $3, updated_at = $4"#,
        chain.0,
        Json(known) as _,
        acknowledge_by,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(crate) async fn add_answers(
    tx: &mut Tx<'_>,
    chain: ChainId,
    answers: &[RawAnswer],
    fetched_at: Instant,
) -> Result<i64, StorageError> {
    let calls: Vec<String> = answers.iter().map(|answer| answer.0.clone()).collect();
    let statuses: Vec<i32> = answers.iter().map(|answer| i32::from(answer.1)).collect();
    let bodies: Vec<Vec<u8>> = answers.iter().map(|answer| answer.2.to_vec()).collect();
    let id = sqlx::query_scalar!(
        r#"insert into store_answers (chain_id, fetched_at, calls, statuses, bodies)
           values ($1, $2, $3, $4, $5) returning id"#,
        chain.0,
        fetched_at,
        &calls,
        &statuses,
        &bodies
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(id)
}

/// One stored set of answers with the business time at which the store was asked.
pub(crate) async fn answers(
    db: &Db,
    id: i64,
) -> Result<Option<(Vec<RawAnswer>, Instant)>, StorageError> {
    let row = sqlx::query!(
        "select fetched_at, calls, statuses, bodies from store_answers where id = $1",
        id
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(row.map(|row| {
        let statuses = row
            .statuses
            .into_iter()
            .map(|s| u16::try_from(s).unwrap_or(0));
        let bodies = row.bodies.into_iter().map(Bytes::from);
        let answers = row.calls.into_iter().zip(statuses).zip(bodies);
        (
            answers
                .map(|((call, status), body)| (call, status, body))
                .collect(),
            row.fetched_at,
        )
    }))
}

pub(crate) async fn write_transactions(
    tx: &mut Tx<'_>,
    chain: ChainId,
    environment: Environment,
    transactions: &[Transaction],
) -> Result<(), StorageError> {
    for transaction in transactions {
        sqlx::query!(
            r#"insert into transactions (chain_id, transaction_id, product_id, base_plan_id,
                   environment, purchased_at, amount_micros, currency, revoked_at)
               values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
               on conflict (chain_id, transaction_id) do update
               set amount_micros = coalesce(excluded.amount_micros, transactions.amount_micros),
                   currency = coalesce(excluded.currency, transactions.currency),
                   revoked_at = excluded.revoked_at"#,
            chain.0,
            transaction.transaction_id,
            transaction.product.product_id,
            transaction.product.base_plan_id,
            environment.as_str(),
            transaction.purchased_at,
            transaction.price.map(|price| price.micros()),
            transaction
                .price
                .as_ref()
                .map(|price| price.currency().as_str()),
            transaction.revoked_at
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// Everything an account holds, or held until a transfer took it away.
pub(crate) async fn holdings(
    tx: &mut Tx<'_>,
    account: AccountId,
) -> Result<Vec<Holding>, StorageError> {
    let rows = sqlx::query!(
        r#"with mine as (
               select id, null::timestamptz as away_since
               from purchase_chains where owner_account_id = $1
               union all
               select o.chain_id, max(o.at) from ownership_changes o
               join purchase_chains c on c.id = o.chain_id
               where o.from_account_id = $1 and c.owner_account_id is distinct from $1
               group by o.chain_id
           )
           select c.provider, c.store_away, s.known as "known: Json<Known>", mine.away_since
           from mine join purchase_chains c on c.id = mine.id
                join store_subscription_state s on s.chain_id = c.id
           order by c.created_at, c.id"#,
        account.0
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut holdings = Vec::new();
    for row in rows {
        let provider = Provider::parse(&row.provider)
            .ok_or_else(|| StorageError::Corrupt(format!("provider {:?}", row.provider)))?;
        let Known {
            state,
            unconfirmed_since,
            ..
        } = row.known.0;
        holdings.extend(state.items.into_iter().map(|item| Holding {
            provider,
            environment: state.environment,
            item,
            store_away: row.store_away,
            unconfirmed_since,
            away_since: row.away_since,
            // Who is one, the catalog says.
            tester: false,
        }));
    }
    Ok(holdings)
}
