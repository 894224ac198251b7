//! Deliveries: goods that a backend hands out itself, one row per line of a purchase.

use super::{StorageError, Tx};
use crate::domain::delivery::Delivery;
use crate::domain::ids::ChainId;
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
    rows: &[Delivery],
    now: Instant,
) -> Result<(), StorageError> {
    for row in rows {
        sqlx::query!(
            r#"insert into deliveries
                   (chain_id, transaction_id, account_id, product, units, created_at, revoked_at)
               values ($1, $2, $3, $4, $5, $6, $7)
               on conflict (chain_id, transaction_id) do update
               set account_id = $3, units = $5, revoked_at = $7"#,
            chain.0,
            row.line,
            row.account.0,
            row.product,
            i64::from(row.units),
            now,
            row.revoked_at
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}
