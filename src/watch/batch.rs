//! Reads of many accounts: copies where they are good enough, one query for all the others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::hub::{FILL_PATIENCE, Freshness, Hub, ReadError};
use super::view::View;
use crate::domain::ids::AccountId;
use crate::storage::accounts::Account;
use crate::storage::snapshots::{self, Stored};

/// A view, and whether it is a copy that the database could not confirm.
pub(crate) type Answer = Result<(Arc<View>, bool), ReadError>;

/// Each account as [`Hub::read`] would read it, in the order of the request.
pub(crate) async fn read_batch(hub: &Hub, asked: &[(Account, Freshness)]) -> Vec<Answer> {
    let copies: Vec<Option<Arc<View>>> = asked
        .iter()
        .map(|(account, freshness)| hub.cached(account.id, freshness))
        .collect();
    let missing: Vec<&Account> = asked
        .iter()
        .zip(&copies)
        .filter(|(_, copy)| copy.is_none())
        .map(|((account, _), _)| account)
        .collect();
    let stand_ins: Vec<Option<Arc<View>>> = asked
        .iter()
        .map(|(account, freshness)| hub.stand_in(account.id, freshness))
        .collect();
    // Nobody waits long for a database that does not answer while copies of all are at hand.
    let dispensable = || {
        copies
            .iter()
            .zip(&stand_ins)
            .all(|(a, b)| a.is_some() || b.is_some())
    };
    let filled = if missing.is_empty() {
        Ok(HashMap::new())
    } else if dispensable() {
        hub.patiently(FILL_PATIENCE, fill(hub, missing)).await
    } else {
        fill(hub, missing).await
    };
    let unread = match &filled {
        Ok(_) | Err(ReadError::Unavailable) => None,
        Err(ReadError::Storage(cause)) => Some(cause.to_string()),
    };
    let answer = |((account, copy), stand_in): ((&Account, Option<Arc<View>>), _)| {
        if let Some(view) = copy {
            return Ok((view, false));
        }
        if let Some(view) = filled.as_ref().ok().and_then(|all| all.get(&account.id)) {
            return Ok((Arc::clone(view), false));
        }
        match (&unread, &filled, stand_in) {
            (Some(cause), _, _) => Err(ReadError::failed(cause.clone())),
            (None, Ok(_), _) => Err(ReadError::behind()),
            (None, Err(_), Some(view)) => Ok((view, true)),
            (None, Err(_), None) => Err(ReadError::Unavailable),
        }
    };
    let accounts = asked.iter().map(|(account, _)| account);
    accounts.zip(copies).zip(stand_ins).map(answer).collect()
}

/// Reads accounts in one query, never settling below what a hint has promised: whoever stays behind
/// that is read again, and left out in the end.
async fn fill(
    hub: &Hub,
    accounts: Vec<&Account>,
) -> Result<HashMap<AccountId, Arc<View>>, ReadError> {
    let mut filled = HashMap::new();
    let mut named = HashSet::new();
    let mut left = accounts;
    left.retain(|account| named.insert(account.id));
    for _ in 0..3 {
        if left.is_empty() {
            break;
        }
        // Named before it is read: a change of history in between makes it no view at all.
        let epoch = hub.epoch();
        let ids: Vec<AccountId> = left.iter().map(|account| account.id).collect();
        let stored = snapshots::read_many(hub.db(), &ids).await?;
        let mut stored: HashMap<AccountId, Stored> = stored
            .into_iter()
            .map(|stored| (stored.account, stored))
            .collect();
        left.retain(|account| {
            let view = hub.view_of(account, Arc::clone(&epoch), stored.remove(&account.id));
            let admitted = hub.admit(Arc::clone(&view));
            if admitted {
                filled.insert(account.id, view);
            }
            !admitted
        });
    }
    Ok(filled)
}
