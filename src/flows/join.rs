//! Join: an answer shows that chains are one purchase; the older one carries on with all of it.

use super::Core;
use super::settle::{LockedSet, book_of};
use crate::domain::catalog::Catalog;
use crate::domain::chain::Alias;
use crate::domain::event::{Decision, MergeReason, SignalSource};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::ownership::{
    MOVES_COUNTED_FOR, Owner, OwnershipReason, Rules, join as domain_join, shows_more,
};
use crate::domain::reconcile::{Book, grants};
use crate::domain::time::Instant;
use crate::storage::events::{Inputs, NewEvent};
use crate::storage::{StorageError, Tx, accounts, claims, events, joins, ownership};

/// An account that a purchase has left, and why.
pub(super) type Loser = (AccountId, OwnershipReason);

/// Merges the parts into the whole. Gives the book to decide by and the accounts that lost a part.
/// `head` is the purchase that the answer is about.
pub(super) async fn join(
    core: &Core,
    tx: &mut Tx<'_>,
    set: &LockedSet,
    head: Option<&Alias>,
    catalog: &Catalog,
    now: Instant,
) -> Result<(Book, Vec<Loser>), StorageError> {
    let mut book = book_of(tx, &set.whole).await?;
    let mut lost = Vec::new();
    for part in &set.parts {
        let part_book = book_of(tx, part).await?;
        join_claims(tx, part.id, set.whole.id, head).await?;
        joins::merge(tx, part.id, set.whole.id).await?;
        let moved = match (part_book.owner, book.owner) {
            (Some(theirs), Some(ours)) if theirs.account != ours.account => {
                let owner =
                    joined_owner(core, tx, set, &book, (ours, theirs), catalog, now).await?;
                Some(if owner.account == theirs.account {
                    (Some(ours.account), owner, OwnershipReason::Policy)
                } else {
                    (Some(theirs.account), owner, OwnershipReason::Joined)
                })
            }
            // The whole was nobody's: it has the part's owner from now on.
            (Some(theirs), None) => Some((None, theirs, OwnershipReason::Joined)),
            (Some(_), Some(_)) | (None, _) => None,
        };
        if let Some((from, owner, reason)) = moved {
            let change = ownership::Change {
                chain: set.whole.id,
                from,
                to: owner.account,
                reason,
                actor: None,
                operation_id: None,
                at: now,
            };
            ownership::record(tx, change).await?;
            lost.extend(from.map(|from| (from, reason)));
            book.owner = Some(owner);
        }
        book.known = book.known.or(part_book.known);
        book.detached_at = book.detached_at.max(part_book.detached_at);
    }
    if !set.parts.is_empty() {
        let inputs = Inputs::Rebased(book.clone());
        let event = NewEvent {
            chain: Some(set.whole.id),
            account: book.owner.map(|owner| owner.account),
            detail: Some("a linked purchase continues this one"),
            catalog: Some(catalog.version()),
            inputs: Some(&inputs),
            ..NewEvent::new(
                SignalSource::Schedule,
                Decision::MergeOnly(MergeReason::Joined),
                now,
            )
        };
        events::append(tx, event).await?;
    }
    Ok((book, lost))
}

/// An account's open claims on both become one, which shows the better of what it has shown.
async fn join_claims(
    tx: &mut Tx<'_>,
    part: ChainId,
    whole: ChainId,
    head: Option<&Alias>,
) -> Result<(), StorageError> {
    let theirs = claims::open_of(tx, part).await?;
    if theirs.is_empty() {
        return Ok(());
    }
    for ours in claims::open_of(tx, whole).await? {
        let account = ours.claim.account;
        let Some(theirs) = theirs.iter().find(|open| open.claim.account == account) else {
            continue;
        };
        let (old, new) = (&ours.claim.possession, &theirs.claim.possession);
        if shows_more(old, new, head) {
            claims::show(tx, ours.claim.id, new, theirs.also_named.as_ref()).await?;
        }
    }
    Ok(())
}

/// Whose a chain is after a join of two that have an owner each.
async fn joined_owner(
    core: &Core,
    tx: &mut Tx<'_>,
    set: &LockedSet,
    book: &Book,
    (ours, theirs): (Owner, Owner),
    catalog: &Catalog,
    now: Instant,
) -> Result<Owner, StorageError> {
    let Some(known) = &book.known else {
        return Ok(ours);
    };
    let provider = set.whole.head.provider;
    let anonymous = accounts::is_anonymous(tx, ours.account).await?;
    let rules = Rules::of(catalog, provider, &known.state, anonymous);
    let active = grants(provider, known, book.store_away, catalog, core.policy, now);
    let moves = ownership::moves_since(tx, set.whole.id, now - MOVES_COUNTED_FOR).await?;
    Ok(domain_join(ours, theirs, rules, active, moves, now))
}
