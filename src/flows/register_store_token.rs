//! RegisterStoreToken: a name by which the stores know an account from before it came here.

use tracing::warn;

use super::Core;
use crate::domain::event::SignalSource;
use crate::domain::ids::AccountId;
use crate::storage::{StorageError, accounts, store_tokens};

/// More than any app has ever passed for one user.
const PER_ACCOUNT_MAX: i64 = 32;

/// Why a token was not registered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegisterError {
    #[error("the token names another account")]
    Taken,
    /// Nothing names an account that was erased.
    #[error("no such account")]
    Gone,
    #[error("the account has {PER_ACCOUNT_MAX} registered tokens")]
    TooMany,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Registers `token` for an account. Safe to repeat; purchases that carry it already are decided
/// again.
pub(crate) async fn register_store_token(
    core: &Core,
    account: AccountId,
    token: &str,
) -> Result<(), RegisterError> {
    let mut tx = core.db.begin().await?;
    match accounts::by_store_token(&mut tx, token).await? {
        Some(named) if named == account => return Ok(()),
        Some(_) => return Err(RegisterError::Taken),
        None => {}
    }
    // Chains before accounts, as everywhere.
    let found = store_tokens::mark_named_dirty(&mut tx, token, SignalSource::Account).await?;
    let locked = accounts::lock(&mut tx, &[account]).await?;
    // It became part of another one in this moment; asked again, it is that one's.
    match locked.first() {
        None => {
            let why = "the account was merged meanwhile";
            return Err(StorageError::Conflict(why.into()).into());
        }
        Some(account) if account.is_erased() => return Err(RegisterError::Gone),
        Some(_) => {}
    }
    if store_tokens::registered(&mut tx, account).await? >= PER_ACCOUNT_MAX {
        return Err(RegisterError::TooMany);
    }
    let named = store_tokens::register(&mut tx, token, account, core.clock.now()).await?;
    if named != account {
        return Err(RegisterError::Taken);
    }
    tx.commit().await.map_err(StorageError::from)?;
    if !found.is_empty() {
        core.work.notify_one();
    }
    Ok(())
}

/// The same for what a user's own provider says of them, at the call with which they come: whatever
/// the matter is with the token, the user is served.
pub(crate) async fn own_store_token(
    core: &Core,
    account: AccountId,
    token: &str,
) -> Result<(), StorageError> {
    let why = match register_store_token(core, account, token).await {
        Ok(()) => return Ok(()),
        Err(RegisterError::Storage(error)) => return Err(error),
        Err(RegisterError::Taken) => "taken",
        Err(RegisterError::TooMany) => "too_many",
        Err(RegisterError::Gone) => "gone",
    };
    warn!(%account, why, "a store token of a user's provider is not theirs here");
    metrics::counter!("entitled_store_tokens_refused_total", "reason" => why).increment(1);
    Ok(())
}
