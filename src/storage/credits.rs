//! Credit entries: append-only; a balance is their sum.

use super::{StorageError, Tx};
use crate::domain::credit::{CreditReason, Entry};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::provider::Environment;
use crate::domain::time::Instant;

/// Everything booked for a chain and for those that became part of it.
pub(crate) async fn of_chain(tx: &mut Tx<'_>, chain: ChainId) -> Result<Vec<Entry>, StorageError> {
    let rows = sqlx::query!(
        r#"select account_id, transaction_id, credit, seq, units, per_unit, reason
           from credit_entries
           where chain_id = $1
              or chain_id in (select id from purchase_chains where merged_into = $1)
           order by id"#,
        chain.0
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let reason = CreditReason::parse(&row.reason)
                .ok_or_else(|| StorageError::Corrupt(format!("reason {:?}", row.reason)))?;
            Ok(Entry {
                account: row.account_id.into(),
                line: row.transaction_id,
                credit: row.credit,
                seq: row.seq,
                units: row.units,
                per_unit: row.per_unit,
                reason,
            })
        })
        .collect()
}

/// Appends entries. One that is there already is refused by its key: whoever comes second runs
/// again and finds nothing left to book.
pub(crate) async fn append(
    tx: &mut Tx<'_>,
    chain: ChainId,
    environment: Environment,
    entries: &[Entry],
    now: Instant,
) -> Result<(), StorageError> {
    for entry in entries {
        sqlx::query!(
            r#"insert into credit_entries (account_id, chain_id, transaction_id, credit,
                   environment, seq, units, per_unit, amount, reason, at)
               values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"#,
            entry.account.0,
            chain.0,
            entry.line,
            entry.credit,
            environment.as_str(),
            entry.seq,
            entry.units,
            entry.per_unit,
            entry.amount(),
            entry.reason.as_str(),
            now
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// Sums of an account, by credit and environment.
pub(crate) async fn sums(
    tx: &mut Tx<'_>,
    account: AccountId,
) -> Result<Vec<(String, Environment, i64)>, StorageError> {
    let rows = sqlx::query!(
        r#"select credit, environment, sum(amount)::bigint as "sum!" from credit_entries
           where account_id = $1 group by credit, environment order by credit, environment"#,
        account.0
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let environment = Environment::parse(&row.environment).ok_or_else(|| {
                StorageError::Corrupt(format!("environment {:?}", row.environment))
            })?;
            Ok((row.credit, environment, row.sum))
        })
        .collect()
}

/// Accounts that have something of a chain: whoever settles it locks them.
pub(crate) async fn holders(
    tx: &mut Tx<'_>,
    chain: ChainId,
) -> Result<Vec<AccountId>, StorageError> {
    let ids = sqlx::query_scalar!(
        r#"select account_id from credit_entries
           where chain_id = $1
              or chain_id in (select id from purchase_chains where merged_into = $1)
           group by account_id, transaction_id, credit having sum(units) <> 0"#,
        chain.0
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(ids.into_iter().map(AccountId).collect())
}
