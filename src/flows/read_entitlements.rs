//! GetEntitlements: who is asking, and the view they may have.

use std::sync::Arc;

use super::Core;
use crate::domain::ids::AccountId;
use crate::storage::accounts::{self, Account};
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

/// The account that an operator looks for: our id, or `issuer:subject`, by any name that it ever had.
pub(crate) async fn named_account(core: &Core, name: &str) -> Result<Option<Account>, ReadError> {
    match Name::of(name) {
        Name::Id(id) => core.hub.account(id).await,
        Name::Identity(issuer, subject) => Ok(accounts::find(&core.db, issuer, subject).await?),
        Name::Nobody => Ok(None),
    }
}

/// The account that a service names, or that something irrevocable is done to: a name whose user has
/// signed in elsewhere since is nobody's, and leads to no other person.
pub(crate) async fn present_account(core: &Core, name: &str) -> Result<Option<Account>, ReadError> {
    match Name::of(name) {
        Name::Id(id) => core.hub.account(id).await,
        Name::Identity(issuer, subject) => {
            Ok(accounts::find_present(&core.db, issuer, subject).await?)
        }
        Name::Nobody => Ok(None),
    }
}

/// What somebody may be called.
enum Name<'a> {
    Id(AccountId),
    Identity(&'a str, &'a str),
    Nobody,
}

impl<'a> Name<'a> {
    fn of(text: &'a str) -> Self {
        match (uuid::Uuid::parse_str(text), text.split_once(':')) {
            (Ok(id), _) => Self::Id(AccountId(id)),
            (Err(_), Some((issuer, subject))) => Self::Identity(issuer, subject),
            (Err(_), None) => Self::Nobody,
        }
    }
}
