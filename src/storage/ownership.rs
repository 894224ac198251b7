//! Changes of owner: append-only, so that both sides can be told and moves can be counted.

use super::{StorageError, Tx};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::ownership::OwnershipReason;
use crate::domain::time::Instant;

/// A change of owner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'a> {
    pub(crate) chain: ChainId,
    pub(crate) from: Option<AccountId>,
    pub(crate) to: AccountId,
    pub(crate) reason: OwnershipReason,
    pub(crate) actor: Option<&'a str>,
    /// An operator's own id of it.
    pub(crate) operation_id: Option<&'a str>,
    pub(crate) at: Instant,
}

pub(crate) async fn record(tx: &mut Tx<'_>, change: Change<'_>) -> Result<(), StorageError> {
    let recorded = sqlx::query!(
        r#"insert into ownership_changes
               (chain_id, from_account_id, to_account_id, reason, actor, at, operation_id)
           values ($1, $2, $3, $4, $5, $6, $7)"#,
        change.chain.0,
        change.from.map(|from| from.0),
        change.to.0,
        change.reason.as_str(),
        change.actor,
        change.at,
        change.operation_id
    )
    .execute(&mut **tx)
    .await;
    match recorded {
        // Another purchase was transferred under that id in this moment; asked again, it is told.
        Err(sqlx::Error::Database(error))
            if error.constraint() == Some("ownership_changes_operation") =>
        {
            Err(StorageError::Conflict("the operation id was used".into()))
        }
        recorded => Ok(recorded.map(drop)?),
    }
}

/// How often the policy has moved a chain since then.
pub(crate) async fn moves_since(
    tx: &mut Tx<'_>,
    chain: ChainId,
    since: Instant,
) -> Result<u32, StorageError> {
    let moves = sqlx::query_scalar!(
        r#"select count(*) as "count!" from ownership_changes
           where chain_id = $1 and reason = $2 and at > $3"#,
        chain.0,
        OwnershipReason::Policy.as_str(),
        since
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(u32::try_from(moves).unwrap_or(u32::MAX))
}

/// A transfer that an operator has made before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) chain: ChainId,
    pub(crate) to: AccountId,
}

/// The transfer of that operation, if it was made.
pub(crate) async fn of_operation(
    tx: &mut Tx<'_>,
    operation_id: &str,
) -> Result<Option<Done>, StorageError> {
    let row = sqlx::query!(
        "select chain_id, to_account_id from ownership_changes where operation_id = $1",
        operation_id
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| Done {
        chain: row.chain_id.into(),
        to: row.to_account_id.into(),
    }))
}
