//! What an app tells about the use of a purchase: kept until a store asks.

use super::Core;
use crate::domain::api_key::AppScope;
use crate::domain::ids::AccountId;
use crate::domain::refund_defence::Consumption;
use crate::storage::{StorageError, accounts, consumption, duties};

/// Why it was not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetConsumptionError {
    /// Not a transaction of the account's.
    #[error("the account has no such transaction")]
    UnknownTransaction,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Keeps what is told about one transaction, or about all of the account's purchases, and has
/// stores that wait for it answered.
pub(crate) async fn set_consumption(
    core: &Core,
    account: AccountId,
    apps: &AppScope,
    transaction_id: Option<&str>,
    told: &Consumption,
) -> Result<(), SetConsumptionError> {
    let mut tx = core.db.begin().await?;
    if let Some(transaction_id) = transaction_id
        && !consumption::is_own(&mut tx, account, transaction_id, apps).await?
    {
        return Err(SetConsumptionError::UnknownTransaction);
    }
    let now = core.clock.now();
    let about = transaction_id.unwrap_or_default();
    accounts::hold(&mut tx, account).await?;
    consumption::tell(&mut tx, account, about, told, now).await?;
    duties::wake(&mut tx, account).await?;
    tx.commit().await.map_err(StorageError::from)?;
    core.duties.notify_one();
    Ok(())
}
