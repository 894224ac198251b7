//! What a settle leaves in the log of events: the decision, who was refused, who lost a purchase.

use super::Core;
use super::derive::Changed;
use super::settle::Work;
use crate::domain::catalog::Catalog;
use crate::domain::event::{ApplyReason, Decision, SignalSource, SkipReason};
use crate::domain::ids::{AccountId, ChainId, Revision};
use crate::domain::ownership::{OwnershipReason, Verdict};
use crate::domain::reconcile::Outcome;
use crate::domain::time::Instant;
use crate::storage::events::{Inputs, NewEvent};
use crate::storage::{StorageError, Tx, events, store_answers};

#[expect(
    clippy::too_many_arguments,
    reason = "the event names everything that decided it"
)]
pub(super) async fn write_events(
    core: &Core,
    tx: &mut Tx<'_>,
    chain: ChainId,
    work: &Work,
    outcome: &Outcome,
    inputs: &Inputs,
    changed: &[Changed],
    catalog: &Catalog,
    now: Instant,
) -> Result<(), StorageError> {
    let answer_id = match work.raw.as_slice() {
        [] => None,
        raw => Some(store_answers::add(tx, &core.db, chain, raw, work.fetched_at).await?),
    };
    let owner = outcome.book.owner.map(|owner| owner.account);
    let detail = outcome.book.known.as_ref().map(describe);
    let event = NewEvent {
        chain: Some(chain),
        account: owner,
        detail: detail.as_deref(),
        revision: owner.and_then(|owner| revision_of(changed, owner)),
        catalog: Some(catalog.version()),
        answer_id,
        inputs: Some(inputs),
        ..NewEvent::new(work.claimed.source, outcome.decision, now)
    };
    events::append(tx, event).await?;
    for (_, claimant, verdict) in &outcome.verdicts {
        if *verdict == Verdict::OwnedByAnother {
            refuse(tx, chain, *claimant, owner, now).await?;
        }
    }
    Ok(())
}

pub(super) fn revision_of(changed: &[Changed], account: AccountId) -> Option<Revision> {
    let mut changed = changed.iter();
    let of_account = changed.find(|changed| changed.account.id == account);
    of_account.map(|changed| changed.stored.revision)
}

/// A refused claim leaves an event on both accounts; neither names the other.
pub(super) async fn refuse(
    tx: &mut Tx<'_>,
    chain: ChainId,
    claimant: AccountId,
    owner: Option<AccountId>,
    now: Instant,
) -> Result<(), StorageError> {
    let decision = Decision::Skip(SkipReason::OwnedByAnother);
    let told = [
        (
            Some(claimant),
            "this account claimed a purchase that is another's",
        ),
        (
            owner,
            "another account claimed this purchase and was refused",
        ),
    ];
    for (account, detail) in told {
        if account.is_some() {
            let event = NewEvent {
                account,
                chain: (account == owner).then_some(chain),
                detail: Some(detail),
                ..NewEvent::new(SignalSource::Proof, decision, now)
            };
            events::append(tx, event).await?;
        }
    }
    Ok(())
}

/// The known state in a few words for the timeline; no token, no personal datum.
fn describe(known: &crate::domain::subscription::guard::Known) -> String {
    let items = known
        .state
        .items
        .iter()
        .map(|item| match item.state.expires_at() {
            Some(end) => format!(
                "{} {} until {}",
                item.product,
                item.state.as_str(),
                end.format("%F %T")
            ),
            None => format!("{} {}", item.product, item.state.as_str()),
        });
    items.collect::<Vec<_>>().join(", ")
}

/// An account that loses a chain is told, whoever has it now.
pub(super) async fn tell_loser(
    tx: &mut Tx<'_>,
    account: AccountId,
    reason: OwnershipReason,
    revision: Option<Revision>,
    now: Instant,
) -> Result<(), StorageError> {
    let (source, why) = match reason {
        OwnershipReason::Claimed | OwnershipReason::Policy => (
            SignalSource::Proof,
            "a purchase moved to another account that showed it, as the policy allows",
        ),
        OwnershipReason::StoreHint => (
            SignalSource::Proof,
            "a purchase moved to the account that the store's record names",
        ),
        OwnershipReason::Joined => (
            SignalSource::Schedule,
            "a purchase turned out to continue one of another account",
        ),
        OwnershipReason::Linked => (
            SignalSource::Account,
            "a purchase went with this account to the one that it was linked to",
        ),
        OwnershipReason::Transfer => (SignalSource::Operator, "a purchase was moved away"),
    };
    let event = NewEvent {
        account: Some(account),
        detail: Some(why),
        revision,
        ..NewEvent::new(source, Decision::Apply(ApplyReason::Transferred), now)
    };
    events::append(tx, event).await
}

/// What an account got of a purchase that is another's by now has changed with it.
pub(super) async fn tell_former(
    tx: &mut Tx<'_>,
    changed: &Changed,
    source: SignalSource,
    decision: Decision,
    now: Instant,
) -> Result<(), StorageError> {
    let event = NewEvent {
        account: Some(changed.account.id),
        detail: Some("what this account has of a purchase that left it has changed"),
        revision: Some(changed.stored.revision),
        ..NewEvent::new(source, decision, now)
    };
    events::append(tx, event).await
}
