//! GetEntitlements: who is asking, and the view they may have.

use std::sync::Arc;

use super::Core;
use crate::domain::ids::AccountId;
use crate::storage::accounts::Account;
use crate::storage::{StorageError, accounts};
use crate::watch::{Freshness, ReadError, View};

/// A view evaluated at `as_of`.
pub(crate) struct Read {
    pub(crate) view: Arc<View>,
    pub(crate) as_of: crate::domain::time::Instant,
    /// The database could not confirm it.
    pub(crate) degraded: bool,
}

/// Reads an account, evaluated now.
pub(crate) async fn read_entitlements(
    core: &Core,
    account: &Account,
    freshness: &Freshness,
) -> Result<Read, ReadError> {
    let (view, degraded) = core.hub.read(account, freshness).await?;
    let as_of = core.clock.now();
    Ok(Read {
        view: view.at(as_of, core.hub.encoder()),
        as_of,
        degraded,
    })
}

/// The account of an identity, if it was ever seen: nobody is made by being erased.
pub(crate) async fn erasable(
    core: &Core,
    issuer: &str,
    subject: &str,
) -> Result<Option<AccountId>, StorageError> {
    let found = accounts::find(&core.db, issuer, subject).await?;
    Ok(found.map(|account| account.id))
}

/// The account that a service or operator names: our id, or `issuer:subject`.
pub(crate) async fn named_account(core: &Core, name: &str) -> Result<Option<Account>, ReadError> {
    if let Ok(id) = uuid::Uuid::parse_str(name) {
        return core.hub.account(AccountId(id)).await;
    }
    match name.split_once(':') {
        Some((issuer, subject)) => Ok(accounts::find(&core.db, issuer, subject).await?),
        None => Ok(None),
    }
}
