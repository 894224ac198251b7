//! The account of a caller: found by what their credential names, or made on the first call.

use super::Core;
use crate::domain::ids::AccountId;
use crate::domain::session::Why;
use crate::storage::accounts::{Account, Found, Named};
use crate::storage::token_sessions::{self, Standing};
use crate::storage::{StorageError, accounts};
use uuid::Uuid;

/// What a verified credential names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Names<'a> {
    /// A user of an identity provider; `anonymous` where it says that nobody has signed in.
    Identity {
        issuer: &'a str,
        subject: &'a str,
        anonymous: bool,
    },
    /// An account by our id.
    Account(AccountId),
    /// An account by a session of ours.
    Session(Uuid),
}

/// Why a credential that verifies names no account.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnAccountError {
    /// Its user has signed in since: the signed-in credential is to be used.
    #[error("this identity was linked to a signed-in one")]
    Linked,
    #[error("the session has ended")]
    Revoked,
    #[error("the account does not exist any more")]
    Gone,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The caller's account. A user with a fresh token is remembered for a while, and so known while
/// the database is away, too.
pub(crate) async fn own_account(core: &Core, names: Names<'_>) -> Result<Account, OwnAccountError> {
    match names {
        Names::Identity {
            issuer,
            subject,
            anonymous,
        } => of_identity(core, issuer, subject, anonymous).await,
        Names::Account(id) => match accounts::named(&core.db, id).await? {
            Named::Living(account) => Ok(account),
            Named::Merged => Err(OwnAccountError::Linked),
            Named::Gone => Err(OwnAccountError::Gone),
        },
        Names::Session(id) => match token_sessions::standing(&core.db, id).await? {
            Standing::Good(account) => Ok(account),
            Standing::Revoked(Why::Linked) => Err(OwnAccountError::Linked),
            Standing::Revoked(Why::Reused) => Err(OwnAccountError::Revoked),
            Standing::Revoked(Why::Erased) | Standing::Gone => Err(OwnAccountError::Gone),
        },
    }
}

/// The caller's account, if they have one, asked of the database: for what cannot be undone. Nobody
/// is made by it, and a credential that is used up names nobody.
pub(crate) async fn own_if_known(
    core: &Core,
    names: Names<'_>,
) -> Result<Option<AccountId>, OwnAccountError> {
    match names {
        Names::Identity {
            issuer,
            subject,
            anonymous,
        } => match accounts::find_own(&core.db, issuer, subject, anonymous).await? {
            Some(Found::Account(account)) => Ok(Some(account.id)),
            Some(Found::Retired) => Err(OwnAccountError::Linked),
            None => Ok(None),
        },
        Names::Account(_) | Names::Session(_) => own_account(core, names)
            .await
            .map(|account| Some(account.id)),
    }
}

async fn of_identity(
    core: &Core,
    issuer: &str,
    subject: &str,
    anonymous: bool,
) -> Result<Account, OwnAccountError> {
    let key = (issuer.to_owned(), subject.to_owned(), anonymous);
    if let Some(account) = core.accounts.get(&key)
        && !core.hub.has_ended(account.id.0)
    {
        return Ok(account);
    }
    let now = core.clock.now();
    match accounts::find_or_create(&core.db, (issuer, subject), anonymous, now).await? {
        Found::Account(account) => {
            core.accounts.insert(key, account.clone());
            Ok(account)
        }
        Found::Retired => Err(OwnAccountError::Linked),
    }
}

/// The account that a credential which was linked has become a part of.
pub(crate) async fn linked_to(
    core: &Core,
    names: Names<'_>,
) -> Result<Option<AccountId>, StorageError> {
    let account = match names {
        Names::Identity {
            issuer, subject, ..
        } => accounts::find(&core.db, issuer, subject).await?,
        Names::Account(id) => accounts::get(&core.db, id).await?,
        Names::Session(id) => match token_sessions::account_of(&core.db, id).await? {
            Some(account) => accounts::get(&core.db, account).await?,
            None => None,
        },
    };
    Ok(account.map(|account| account.id))
}

/// The account of a user whom a service names; made if it was never seen.
pub(crate) async fn account_of(
    core: &Core,
    issuer: &str,
    subject: &str,
) -> Result<Account, StorageError> {
    match of_identity(core, issuer, subject, false).await {
        Ok(account) => Ok(account),
        Err(OwnAccountError::Storage(error)) => Err(error),
        Err(OwnAccountError::Linked | OwnAccountError::Revoked | OwnAccountError::Gone) => Err(
            StorageError::Conflict("the user was linked meanwhile".into()),
        ),
    }
}
