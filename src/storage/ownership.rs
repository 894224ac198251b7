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
    pub(crate) at: Instant,
}

pub(crate) async fn record(tx: &mut Tx<'_>, change: Change<'_>) -> Result<(), StorageError> {
    sqlx::query!(
        r#"insert into ownership_changes (chain_id, from_account_id, to_account_id, reason, actor, at)
           values ($1, $2, $3, $4, $5, $6)"#,
        change.chain.0,
        change.from.map(|from| from.0),
        change.to.0,
        change.reason.as_str(),
        change.actor,
        change.at
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
