//! GetEntitlements: who is asking, and the view they may have.

use std::sync::Arc;

use super::Core;
use crate::domain::ids::AccountId;
use crate::storage::accounts::{self, Account, OneName};
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

/// The accounts that a service names, each as `present_account` finds it, with one query for all that
/// are not at hand. In the order of the names.
pub(crate) async fn present_accounts(
    core: &Core,
    names: &[&str],
) -> Result<Vec<Option<Account>>, ReadError> {
    let mut found = vec![None; names.len()];
    let (mut places, mut asked) = (Vec::new(), Vec::new());
    for (place, name) in names.iter().enumerate() {
        let one = match Name::of(name) {
            Name::Id(id) => match core.hub.known(id) {
                known @ Some(_) => {
                    found[place] = known;
                    continue;
                }
                None => OneName::Id(id),
            },
            Name::Identity(issuer, subject) => OneName::Identity(issuer, subject),
            Name::Nobody => continue,
        };
        places.push(place);
        asked.push(one);
    }
    if asked.is_empty() {
        return Ok(found);
    }
    let read = accounts::present_many(&core.db, &asked).await?;
    for (place, account) in places.into_iter().zip(read) {
        found[place] = account;
    }
    Ok(found)
}

/// Reads accounts, evaluated now; each as `read_entitlements` would, in their order.
pub(crate) async fn read_batch(
    core: &Core,
    asked: &[(Account, Freshness)],
) -> Vec<Result<Read, ReadError>> {
    let answers = crate::watch::read_batch(&core.hub, asked).await;
    let as_of = core.clock.now();
    let read = |(view, degraded): (Arc<View>, bool)| Read {
        view: view.at(as_of, core.hub.encoder()),
        as_of,
        degraded,
    };
    let answers = answers.into_iter();
    answers.map(|answer| answer.map(read)).collect()
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
