//! LinkIdentity: an account that nobody signed in to becomes part of a signed-in one.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::info;
use uuid::Uuid;

use super::derive::{self, Changed};
use super::own_account::{Names, OwnAccountError, linked_to, own_account};
use super::settled_events::revision_of;
use super::{Core, goods, limits};
use crate::domain::catalog::Catalog;
use crate::domain::event::{ApplyReason, Decision, SignalSource};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::linking::{Pair, Refusal, may_link};
use crate::domain::ownership::{Owner, OwnershipReason};
use crate::domain::reconcile::Book;
use crate::domain::session::Why;
use crate::domain::time::Instant;
use crate::failpoint;
use crate::storage::accounts::Account;
use crate::storage::chains::{Locked, Settled};
use crate::storage::events::{self, Inputs, NewEvent};
use crate::storage::{
    StorageError, Tx, accounts, chains, ledger, links, ownership, token_sessions,
};

const ATTEMPTS_MAX: u32 = 8;

/// What became of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linked {
    Now,
    /// They were one already: an answer may have been lost.
    Before,
}

/// Why two accounts were not linked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// One of the credentials names no account.
    #[error(transparent)]
    Credential(#[from] OwnAccountError),
    #[error("too many attempts")]
    TooMany(Duration),
}

impl From<StorageError> for LinkError {
    fn from(cause: StorageError) -> Self {
        Self::Credential(cause.into())
    }
}

/// Links what `joins` names to the account `stays`. Safe to repeat, to race and to interrupt: it is
/// one transaction, and afterwards the same call finds it done.
pub(crate) async fn link_identity(
    core: &Core,
    stays: &Account,
    joins: Names<'_>,
) -> Result<Linked, LinkError> {
    core.limits
        .calls
        .take(stays.id, limits::BIND)
        .map_err(LinkError::TooMany)?;
    let joining = match own_account(core, joins).await {
        Ok(account) => account.id,
        Err(OwnAccountError::Linked) => return linked_before(core, stays, joins).await,
        Err(cause) => return Err(cause.into()),
    };
    if joining == stays.id {
        return Ok(Linked::Before);
    }
    let mut attempt = 0;
    loop {
        attempt += 1;
        match attempt_link(core, joining, stays.id).await {
            Ok(Some(done)) => {
                failpoint::at("after_link_commit");
                for id in done.sessions {
                    core.hub.end(id, joining);
                }
                core.hub.end(joining.0, joining);
                derive::publish(core, done.changed);
                core.work.notify_one();
                info!(from = %joining, into = %stays.id, "an account became part of another");
                return Ok(Linked::Now);
            }
            // Another call was first.
            Ok(None) => return linked_before(core, stays, joins).await,
            Err(LinkError::Credential(OwnAccountError::Storage(StorageError::Conflict(_))))
                if attempt < ATTEMPTS_MAX =>
            {
                tokio::time::sleep(Duration::from_millis(u64::from(attempt) * 5)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The joining credential was used up: for this account, or for another.
async fn linked_before(
    core: &Core,
    stays: &Account,
    joins: Names<'_>,
) -> Result<Linked, LinkError> {
    match linked_to(core, joins).await? {
        Some(account) if account == stays.id => Ok(Linked::Before),
        Some(_) | None => Err(Refusal::LinkedElsewhere.into()),
    }
}

struct Done {
    sessions: Vec<Uuid>,
    changed: Vec<Changed>,
}

/// `None`: `from` has become part of some account meanwhile.
async fn attempt_link(
    core: &Core,
    from: AccountId,
    into: AccountId,
) -> Result<Option<Done>, LinkError> {
    let catalog = core.catalog.load_full();
    let now = core.clock.now();
    let mut tx = core.db.begin().await?;
    let owned = links::owned(&mut tx, from).await?;
    let mut moved = Vec::with_capacity(owned.len());
    let mut touched = BTreeSet::from([from, into]);
    let locked = chains::lock(&mut tx, &owned).await?;
    for chain in locked {
        let known = ledger::known(&mut tx, chain.id).await?;
        let state = known.as_ref().map(|known| &known.state);
        touched.extend(goods::holders(&mut tx, chain.id, state).await?);
        let book = Book {
            owner: chain.owner,
            known,
            store_away: chain.store_away,
            detached_at: chain.detached_at,
        };
        moved.push((chain, book));
    }
    let touched: Vec<AccountId> = touched.into_iter().collect();
    let living = accounts::lock(&mut tx, &touched).await?;
    let lives = |id: AccountId| living.iter().any(|account| account.id == id);
    if !lives(from) {
        return Ok(None);
    }
    // With `from` locked no purchase can come to it any more: settle looks at its lock, too.
    if !lives(into) || links::owned(&mut tx, from).await? != owned {
        let why = "what is to be linked has changed meanwhile";
        return Err(StorageError::Conflict(why.into()).into());
    }
    may_link(pair(&mut tx, from, into).await?)?;
    failpoint::at("after_link_decided");

    let mut books = Vec::with_capacity(moved.len());
    for (chain, book) in moved {
        let id = chain.id;
        books.push((
            id,
            hand_over(&mut tx, chain, book, (from, into), &catalog, now).await?,
        ));
    }
    links::absorb(&mut tx, from, into).await?;
    let sessions = token_sessions::revoke_all(&mut tx, from, Why::Linked).await?;
    let mut changed = Vec::new();
    for account in living.into_iter().filter(|account| account.id != from) {
        changed.extend(derive::account(core, &mut tx, account, &catalog, now).await?);
    }
    write_events(&mut tx, (from, into), &books, &changed, &catalog, now).await?;
    failpoint::at("before_link_commit");
    tx.commit().await.map_err(StorageError::from)?;
    Ok(Some(Done { sessions, changed }))
}

async fn pair(tx: &mut Tx<'_>, from: AccountId, into: AccountId) -> Result<Pair, StorageError> {
    Ok(Pair {
        stays_is_signed_in: !accounts::is_anonymous(tx, into).await?,
        joins_is_signed_in: !accounts::is_anonymous(tx, from).await?,
        joins_has_anything: links::has_anything(tx, from).await?,
        share_an_issuer: links::share_an_issuer(tx, from, into).await?,
        one_has_ended: links::any_ended(tx, [from, into]).await?,
    })
}

/// Gives a chain the name of its new owner. It is no transfer: how it was won, and since when,
/// stays, and what the store's record says of the old account says it of the new one.
async fn hand_over(
    tx: &mut Tx<'_>,
    chain: Locked,
    book: Book,
    (from, into): (AccountId, AccountId),
    catalog: &Catalog,
    now: Instant,
) -> Result<Book, StorageError> {
    let owner = chain.owner.map(|owner| Owner {
        account: into,
        ..owner
    });
    if let Some(known) = &book.known {
        let provider = (chain.id, chain.head.provider);
        goods::hand_over(tx, provider, &known.state, into, catalog, now).await?;
    }
    let change = ownership::Change {
        chain: chain.id,
        from: Some(from),
        to: into,
        reason: OwnershipReason::Linked,
        actor: None,
        operation_id: None,
        at: now,
    };
    ownership::record(tx, change).await?;
    let settled = Settled {
        id: chain.id,
        head: &chain.head,
        owner,
        store_away: chain.store_away,
        detached_at: chain.detached_at,
        // Looked at soon by the schedule, which then sets the next check.
        next_check_at: Some(now),
        synced_seq: None,
        catalog: None,
    };
    chains::settle(tx, &settled).await?;
    Ok(Book { owner, ..book })
}

/// One event for each purchase, with what replay needs, and one for each account.
async fn write_events(
    tx: &mut Tx<'_>,
    (from, into): (AccountId, AccountId),
    books: &[(ChainId, Book)],
    changed: &[Changed],
    catalog: &Catalog,
    now: Instant,
) -> Result<(), StorageError> {
    let decision = Decision::Apply(ApplyReason::Linked);
    for (chain, book) in books {
        let inputs = Inputs::Rebased(book.clone());
        let event = NewEvent {
            chain: Some(*chain),
            account: Some(into),
            detail: Some("it came with an account that was linked to this one"),
            catalog: Some(catalog.version()),
            inputs: Some(&inputs),
            ..NewEvent::new(SignalSource::Account, decision, now)
        };
        events::append(tx, event).await?;
    }
    let came = format!("account {from} became part of this one");
    let went = format!("this account became part of {into}");
    for (account, detail) in [(into, came), (from, went)] {
        let event = NewEvent {
            account: Some(account),
            detail: Some(&detail),
            revision: revision_of(changed, account),
            catalog: Some(catalog.version()),
            ..NewEvent::new(SignalSource::Account, decision, now)
        };
        events::append(tx, event).await?;
    }
    Ok(())
}
