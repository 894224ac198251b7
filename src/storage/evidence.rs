//! Facts that only signals carry, kept with the transaction they are about.

use sqlx::types::Json;

use super::{Db, StorageError, Tx};
use crate::domain::ids::ChainId;
use crate::domain::subscription::store_state::Evidence;
use crate::domain::time::Instant;

/// Keeps a fact; the same fact again changes nothing.
pub(crate) async fn add(
    tx: &mut Tx<'_>,
    chain: ChainId,
    fact: &Evidence,
    now: Instant,
) -> Result<(), StorageError> {
    let (kind, transaction_id) = fact.key();
    sqlx::query!(
        r#"insert into chain_evidence (chain_id, kind, transaction_id, fact, observed_at)
           values ($1, $2, $3, $4, $5) on conflict do nothing"#,
        chain.0,
        kind,
        transaction_id.as_ref(),
        Json(fact) as _,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(crate) async fn of_chain(
    tx: &mut Tx<'_>,
    chain: ChainId,
) -> Result<Vec<Evidence>, StorageError> {
    let rows = sqlx::query_scalar!(
        r#"select fact as "fact: Json<Evidence>" from chain_evidence where chain_id = $1
           order by kind, transaction_id"#,
        chain.0
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|json| json.0).collect())
}

/// The same outside a transaction: for the calls that a fetch makes because of it.
pub(crate) async fn read(db: &Db, chain: ChainId) -> Result<Vec<Evidence>, StorageError> {
    let mut tx = db.begin().await?;
    let facts = of_chain(&mut tx, chain).await?;
    tx.commit().await?;
    Ok(facts)
}
