//! Deliveries: goods that a backend hands out itself, one row per line of a purchase.

use uuid::Uuid;

use super::{Db, StorageError, Tx};
use crate::domain::api_key::AppScope;
use crate::domain::delivery::Delivery;
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::provider::Environment;
use crate::domain::time::Instant;

/// The rows of a chain. They move with it when it becomes part of another.
pub(crate) async fn of_chain(
    tx: &mut Tx<'_>,
    chain: ChainId,
) -> Result<Vec<Delivery>, StorageError> {
    let rows = sqlx::query!(
        r#"select transaction_id, account_id, product, units, claimed_at, revoked_at
           from deliveries where chain_id = $1 order by transaction_id for update"#,
        chain.0
    )
    .fetch_all(&mut **tx)
    .await?;
    let rows = rows.into_iter().map(|row| Delivery {
        line: row.transaction_id,
        account: row.account_id.into(),
        product: row.product,
        units: u32::try_from(row.units).unwrap_or(0),
        claimed_at: row.claimed_at,
        revoked_at: row.revoked_at,
    });
    Ok(rows.collect())
}

/// Writes rows as they must be; who claimed one, and when, is only written by the claim.
pub(crate) async fn write(
    tx: &mut Tx<'_>,
    chain: ChainId,
    environment: Environment,
    rows: &[Delivery],
    now: Instant,
) -> Result<(), StorageError> {
    for row in rows {
        sqlx::query!(
            r#"insert into deliveries
                   (chain_id, transaction_id, account_id, product, units, created_at, revoked_at,
                    environment)
               values ($1, $2, $3, $4, $5, $6, $7, $8)
               on conflict (chain_id, transaction_id) do update
               set account_id = $3, units = $5, revoked_at = $7"#,
            chain.0,
            row.line,
            row.account.0,
            row.product,
            i64::from(row.units),
            now,
            row.revoked_at,
            environment.as_str()
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// A row as a backend sees it.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) id: Uuid,
    pub(crate) chain: ChainId,
    pub(crate) transaction_id: String,
    pub(crate) account: AccountId,
    pub(crate) product: String,
    pub(crate) units: i64,
    pub(crate) environment: String,
    pub(crate) created_at: Instant,
    pub(crate) claimed_at: Option<Instant>,
    pub(crate) claim_key: Option<String>,
    pub(crate) revoked_at: Option<Instant>,
}

/// How a backend names what it wants to hand out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Named<'a> {
    Id(Uuid),
    Transaction(&'a str),
}

/// The row of an account by either name.
pub(crate) async fn find(
    tx: &mut Tx<'_>,
    account: AccountId,
    named: Named<'_>,
    apps: &AppScope,
) -> Result<Option<Listed>, StorageError> {
    let apps = apps.ids();
    let (id, transaction) = match named {
        Named::Id(id) => (Some(id), None),
        Named::Transaction(transaction) => (None, Some(transaction)),
    };
    let row = sqlx::query_as!(
        Listed,
        r#"select id, chain_id as chain, transaction_id, account_id as account, product, units,
                  environment, created_at, claimed_at, claim_key, revoked_at
           from deliveries
           where account_id = $1 and (id = $2 or transaction_id = $3)
             and ($4::text[] is null or exists (
                 select 1 from purchase_chains c where c.id = chain_id and c.app = any($4)))
           order by created_at limit 1"#,
        account.0,
        id,
        transaction,
        apps.as_deref()
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row)
}

/// Claims a row for ever. `false`: the key has claimed another one.
pub(crate) async fn claim(
    tx: &mut Tx<'_>,
    id: Uuid,
    key: &str,
    now: Instant,
) -> Result<bool, StorageError> {
    let claimed = sqlx::query!(
        r#"update deliveries set claimed_at = $3, claim_key = $2
           where id = $1 and claimed_at is null
             and not exists (select 1 from deliveries where claim_key = $2)"#,
        id,
        key,
        now
    )
    .execute(&mut **tx)
    .await;
    match claimed {
        Ok(done) => Ok(done.rows_affected() > 0),
        Err(sqlx::Error::Database(error)) if error.constraint() == Some("deliveries_claim") => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// What is to be handed out, oldest first; of one account or of all.
pub(crate) async fn open(
    db: &Db,
    account: Option<AccountId>,
    apps: &AppScope,
    after: Option<(Instant, Uuid)>,
    limit: i64,
) -> Result<Vec<Listed>, StorageError> {
    let apps = apps.ids();
    let (after_at, after_id) = after.unzip();
    let rows = sqlx::query_as!(
        Listed,
        r#"select id, chain_id as chain, transaction_id, account_id as account, product, units,
                  environment, created_at, claimed_at, claim_key, revoked_at
           from deliveries
           where claimed_at is null and revoked_at is null
             and ($1::uuid is null or account_id = $1)
             and ($2::timestamptz is null or (created_at, id) > ($2, $3))
             and ($5::text[] is null or exists (
                 select 1 from purchase_chains c where c.id = chain_id and c.app = any($5)))
           order by created_at, id limit $4"#,
        account.map(|id| id.0),
        after_at,
        after_id,
        limit,
        apps.as_deref()
    )
    .fetch_all(db.pool())
    .await?;
    Ok(rows)
}
