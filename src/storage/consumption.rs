//! What apps told us about the use of purchases: input of refund defence.

use super::{Db, StorageError, Tx};
use crate::domain::api_key::AppScope;
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::refund_defence::{Consumption, Delivery};
use crate::domain::time::Instant;

/// Keeps what `account` says about one transaction, or about all of its purchases (`""`).
pub(crate) async fn tell(
    tx: &mut Tx<'_>,
    account: AccountId,
    transaction_id: &str,
    told: &Consumption,
    now: Instant,
) -> Result<(), StorageError> {
    let used = told
        .used_millipercent
        .and_then(|used| i32::try_from(used).ok());
    sqlx::query!(
        r#"insert into consumption
               (account_id, transaction_id, consented, delivery, used_millipercent, updated_at)
           values ($1, $2, $3, $4, $5, $6)
           on conflict (account_id, transaction_id) do update
           set consented = $3, delivery = $4, used_millipercent = $5, updated_at = $6"#,
        account.0,
        transaction_id,
        told.consented,
        told.delivery.map(Delivery::as_str),
        used,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What the chain's owner said about a transaction, or else about everything.
pub(crate) async fn about(
    db: &Db,
    chain: ChainId,
    transaction_id: &str,
) -> Result<Option<Consumption>, StorageError> {
    let row = sqlx::query!(
        r#"select u.consented, u.delivery, u.used_millipercent
           from purchase_chains c join consumption u on u.account_id = c.owner_account_id
           where c.id = $1 and u.transaction_id in ($2, '')
           order by u.transaction_id = '' limit 1"#,
        chain.0,
        transaction_id
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(row.map(|row| Consumption {
        consented: row.consented,
        delivery: row.delivery.as_deref().and_then(Delivery::parse),
        used_millipercent: row.used_millipercent.and_then(|used| used.try_into().ok()),
    }))
}

/// Whether a transaction belongs to a purchase of `account`, in one of those apps.
pub(crate) async fn is_own(
    tx: &mut Tx<'_>,
    account: AccountId,
    transaction_id: &str,
    apps: &AppScope,
) -> Result<bool, StorageError> {
    let apps = apps.ids();
    let own = sqlx::query_scalar!(
        r#"select exists (
               select 1 from transactions t join purchase_chains c on c.id = t.chain_id
               where c.owner_account_id = $1 and t.transaction_id = $2
                 and ($3::text[] is null or c.app = any($3))) as "own!""#,
        account.0,
        transaction_id,
        apps.as_deref()
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(own)
}
