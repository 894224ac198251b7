//! What operators asked of stores: once per operation id.

use super::{StorageError, Tx};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::time::Instant;

/// An action about to be asked of a store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewAction<'a> {
    pub(crate) operation_id: &'a str,
    pub(crate) chain: ChainId,
    pub(crate) account: Option<AccountId>,
    pub(crate) action: &'a str,
    pub(crate) actor: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) at: Instant,
}

/// An action under that operation id, from an earlier call.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Nil for what was about an account alone.
    pub(crate) chain: ChainId,
    pub(crate) action: String,
    /// Whether the store did it; `None` while nobody knows.
    pub(crate) done: Option<bool>,
    pub(crate) outcome: Option<String>,
}

/// Takes the operation id; `Some` if it was taken before.
pub(crate) async fn start(
    tx: &mut Tx<'_>,
    new: NewAction<'_>,
) -> Result<Option<Known>, StorageError> {
    let taken = sqlx::query!(
        r#"insert into operator_actions
               (operation_id, chain_id, account_id, action, actor, reason, started_at)
           values ($1, $2, $3, $4, $5, $6, $7) on conflict (operation_id) do nothing"#,
        new.operation_id,
        new.chain.0,
        new.account.map(|id| id.0),
        new.action,
        new.actor,
        new.reason,
        new.at
    )
    .execute(&mut **tx)
    .await?
    .rows_affected();
    if taken == 1 {
        return Ok(None);
    }
    let known = sqlx::query_as!(
        Known,
        r#"select coalesce(chain_id, '00000000-0000-0000-0000-000000000000') as "chain!", action,
                  done, outcome
           from operator_actions where operation_id = $1"#,
        new.operation_id
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(Some(known))
}

pub(crate) async fn finish(
    tx: &mut Tx<'_>,
    operation_id: &str,
    done: bool,
    outcome: &str,
    at: Instant,
) -> Result<(), StorageError> {
    sqlx::query!(
        r#"update operator_actions set done = $2, outcome = $3, finished_at = $4
           where operation_id = $1 and finished_at is null"#,
        operation_id,
        done,
        outcome,
        at
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// An operation id that was never finished is free again: the store was not asked.
pub(crate) async fn forget(tx: &mut Tx<'_>, operation_id: &str) -> Result<(), StorageError> {
    sqlx::query!(
        "delete from operator_actions where operation_id = $1 and finished_at is null",
        operation_id
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
