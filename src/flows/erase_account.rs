//! EraseAccount: its purchases are nobody's, its documents unreadable, its name forgotten; the money
//! stays, under an id that names nobody.

use std::time::Duration;

use tracing::{debug, info};

use super::Core;
use super::derive::{self, Changed};
use crate::domain::event::{ApplyReason, Decision, SignalSource};
use crate::domain::ids::{AccountId, CatalogVersion, ChainId};
use crate::domain::reconcile::Book;
use crate::domain::session::Why;
use crate::domain::time::Instant;
use crate::failpoint;
use crate::storage::erasure;
pub(crate) use crate::storage::erasure::LedgerLine;
use crate::storage::events::{self, Inputs, NewEvent};
use crate::storage::{StorageError, Tx, accounts, chains, ledger, token_sessions};

const ATTEMPTS_MAX: u32 = 8;

/// What an erasure came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Erased {
        at: Instant,
        /// How many are nobody's now.
        purchases: usize,
    },
    /// It was erased before; asking again changes nothing.
    AlreadyErased { at: Instant },
    /// No account of that id was ever here.
    Unknown,
}

/// Whose account it is that is to be erased.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose {
    /// The caller's own. If it becomes part of another one meanwhile, their credential is used up.
    Caller(AccountId),
    /// One that a service or an operator names, and what it has become part of.
    Named(AccountId),
}

/// How one attempt ended.
enum Attempt {
    Done(Outcome, Vec<Changed>),
    /// The account became part of that one.
    PartOf(AccountId),
}

/// Erases an account; which it was, and what came of it. All of it is one transaction: whoever is
/// interrupted asks again.
///
/// `actor` and `reason` are kept: neither says anything about the account's person.
pub(crate) async fn erase_account(
    core: &Core,
    whose: Whose,
    actor: &str,
    reason: &str,
) -> Result<(AccountId, Outcome), StorageError> {
    let (Whose::Caller(mut account) | Whose::Named(mut account)) = whose;
    let mut attempt = 0;
    loop {
        attempt += 1;
        match attempt_erase(core, account, actor, reason).await {
            Ok(Attempt::PartOf(living)) => match whose {
                Whose::Named(_) => account = living,
                Whose::Caller(_) => {
                    let why = "the account was linked meanwhile";
                    return Err(StorageError::Conflict(why.into()));
                }
            },
            Ok(Attempt::Done(outcome, changed)) => {
                failpoint::at("after_erase_commit");
                derive::publish(core, changed);
                core.hub.end(account.0, account);
                if let Outcome::Erased { purchases, .. } = outcome {
                    // The line that the ledger of erasures can be rebuilt from.
                    info!(%account, purchases, "an account was erased");
                    metrics::counter!("entitled_accounts_erased_total").increment(1);
                }
                return Ok((account, outcome));
            }
            Err(StorageError::Conflict(cause)) if attempt < ATTEMPTS_MAX => {
                debug!(%account, attempt, cause, "an erasure runs again");
                tokio::time::sleep(Duration::from_millis(u64::from(attempt) * 5)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn attempt_erase(
    core: &Core,
    account: AccountId,
    actor: &str,
    reason: &str,
) -> Result<Attempt, StorageError> {
    let now = core.clock.now();
    let catalog = core.catalog.load_full();
    let mut tx = core.db.begin().await?;
    // All chains by id, then all accounts by id, as settle does. Those that are another's are locked,
    // too: a settle that is under way there names the account, and is waited for.
    let persons = erasure::with_merged(&mut tx, account).await?;
    let reached = erasure::reached(&mut tx, &persons).await?;
    let locked = chains::lock(&mut tx, &reached).await?;
    match erasure::lock(&mut tx, account).await? {
        None => return Ok(Attempt::Done(Outcome::Unknown, Vec::new())),
        Some(erasure::Found {
            merged_into: Some(living),
            ..
        }) => return Ok(Attempt::PartOf(AccountId(living))),
        Some(erasure::Found {
            erased_at: Some(at),
            ..
        }) => return Ok(Attempt::Done(Outcome::AlreadyErased { at }, Vec::new())),
        Some(erasure::Found {
            erased_at: None, ..
        }) => {}
    }
    // Accounts that became part of it are the same person's.
    if erasure::with_merged(&mut tx, account).await? != persons
        || erasure::reached(&mut tx, &persons).await? != reached
        || locked.len() != reached.len()
    {
        return Err(StorageError::Conflict(
            "the account's purchases have changed".into(),
        ));
    }
    let is_owner = |chain: &&chains::Locked| {
        let owner = chain.owner.map(|owner| owner.account.0);
        owner.is_some_and(|owner| persons.contains(&owner))
    };
    let (owned, others): (Vec<_>, Vec<_>) = locked.iter().partition(is_owner);
    let ids = |chains: Vec<&chains::Locked>| chains.into_iter().map(|chain| chain.id).collect();
    let (owned, others): (Vec<ChainId>, Vec<ChainId>) = (ids(owned), ids(others));
    let tokens = erasure::tokens(&mut tx, &persons).await?;
    erasure::silence(&mut tx, &persons, &owned).await?;
    erasure::unname(&mut tx, &persons, &tokens, &others).await?;
    erasure::unname_claims(&mut tx, &tokens, &reached).await?;
    erasure::shred(&mut tx, &owned).await?;
    erasure::detach(&mut tx, &owned, now).await?;
    erasure::forget(&mut tx, &persons, now).await?;
    for person in &persons {
        token_sessions::revoke_all(&mut tx, AccountId(*person), Why::Erased).await?;
    }
    erasure::record(&mut tx, account, actor, reason, now).await?;
    let mut changed = Vec::new();
    for account in accounts::lock(&mut tx, &[account]).await? {
        changed.extend(derive::account(core, &mut tx, account, &catalog, now).await?);
    }
    let revision = changed.first().map(|changed| changed.stored.revision);
    let event = NewEvent {
        account: Some(account),
        actor: Some(actor),
        revision,
        catalog: Some(catalog.version()),
        ..NewEvent::new(
            SignalSource::Account,
            Decision::Apply(ApplyReason::Erased),
            now,
        )
    };
    events::append(&mut tx, event).await?;
    for chain in &owned {
        rebase(&mut tx, *chain, &locked, catalog.version(), now).await?;
    }
    failpoint::at("before_erase_commit");
    tx.commit().await?;
    let purchases = owned.len();
    let outcome = Outcome::Erased { at: now, purchases };
    Ok(Attempt::Done(outcome, changed))
}

/// Which accounts were erased, oldest first: `limit` of them behind `after`.
pub(crate) async fn erasures(
    core: &Core,
    since: Option<Instant>,
    after: Option<(Instant, uuid::Uuid)>,
    limit: i64,
) -> Result<Vec<LedgerLine>, StorageError> {
    erasure::ledger(&core.db, since, after, limit).await
}

/// From here on the chain's book is this one: what came before cannot be decided again.
async fn rebase(
    tx: &mut Tx<'_>,
    chain: ChainId,
    locked: &[chains::Locked],
    catalog: CatalogVersion,
    now: Instant,
) -> Result<(), StorageError> {
    let store_away = locked
        .iter()
        .any(|locked| locked.id == chain && locked.store_away);
    let inputs = Inputs::Rebased(Book {
        owner: None,
        known: ledger::known(tx, chain).await?,
        store_away,
        detached_at: Some(now),
    });
    let event = NewEvent {
        chain: Some(chain),
        catalog: Some(catalog),
        inputs: Some(&inputs),
        ..NewEvent::new(
            SignalSource::Account,
            Decision::Apply(ApplyReason::Erased),
            now,
        )
    };
    events::append(tx, event).await
}
