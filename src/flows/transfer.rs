//! Transfer: an operator moves a chain to another account; both are told in one transaction.

use std::collections::BTreeSet;

use super::settled_events::tell_former;
use super::{Core, derive, goods};
use crate::domain::event::{ApplyReason, Decision, SignalSource};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::ownership::{Owner, OwnershipReason};
use crate::domain::reconcile::Book;
use crate::failpoint;
use crate::storage::chains::Settled;
use crate::storage::events::{self, Inputs, NewEvent};
use crate::storage::ownership::Done;
use crate::storage::{StorageError, accounts, chains, ledger, ownership};

/// What an operator asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer<'a> {
    pub(crate) chain: ChainId,
    /// Whose it is, as the operator knows it: transfers that arrive in the wrong order do not undo
    /// each other. `None`: whoever has it.
    pub(crate) from: Option<AccountId>,
    pub(crate) to: AccountId,
    /// The operator's own id of this transfer: sent again, it changes nothing more.
    pub(crate) operation_id: Option<&'a str>,
    pub(crate) actor: &'a str,
    pub(crate) reason: &'a str,
}

/// Why a transfer was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    #[error("no such purchase chain")]
    UnknownChain,
    #[error("no such account")]
    UnknownAccount,
    #[error("the purchase is that account's already")]
    AlreadyTheirs,
    /// It has changed hands since the operator looked, or an earlier transfer has not arrived.
    #[error("the purchase is not the account's that it is to be taken from; look again")]
    NotTheOwner,
    #[error("that operation id was used for another transfer")]
    OperationReused,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Moves a chain; the event carries the operator's name on both accounts.
pub(crate) async fn transfer(core: &Core, asked: Transfer<'_>) -> Result<(), TransferError> {
    let Transfer {
        chain,
        from: expected,
        to,
        operation_id,
        actor,
        reason,
    } = asked;
    let now = core.clock.now();
    let catalog = core.catalog.load_full();
    let mut tx = core.db.begin().await?;
    let locked = chains::lock(&mut tx, &[chain])
        .await?
        .pop()
        .ok_or(TransferError::UnknownChain)?;
    let from = locked.owner.map(|owner| owner.account);
    // Under the chain's lock: of two that ask with the same id one is first.
    if let Some(id) = operation_id
        && let Some(done) = ownership::of_operation(&mut tx, id).await?
    {
        return if done == (Done { chain, to }) {
            Ok(())
        } else {
            Err(TransferError::OperationReused)
        };
    }
    if expected.is_some() && expected != from {
        return Err(TransferError::NotTheOwner);
    }
    if from == Some(to) {
        return Err(TransferError::AlreadyTheirs);
    }
    let known = ledger::known(&mut tx, chain).await?;
    let state = known.as_ref().map(|known| &known.state);
    let both: BTreeSet<AccountId> = from.into_iter().chain([to]).collect();
    let holders = goods::holders(&mut tx, chain, state).await?;
    let touched: BTreeSet<AccountId> = both.iter().copied().chain(holders).collect();
    let touched: Vec<AccountId> = touched.into_iter().collect();
    let accounts = accounts::lock(&mut tx, &touched).await?;
    if accounts
        .iter()
        .all(|account| account.id != to || account.is_erased())
    {
        return Err(TransferError::UnknownAccount);
    }
    let owner = Owner::transferred(to, now);
    if let Some(state) = state {
        let provider = locked.head.provider;
        goods::hand_over(&mut tx, (chain, provider), state, to, &catalog, now).await?;
    }
    let book = Book {
        owner: Some(owner),
        known,
        store_away: locked.store_away,
        detached_at: locked.detached_at,
    };
    let change = ownership::Change {
        chain,
        from,
        to,
        reason: OwnershipReason::Transfer,
        actor: Some(actor),
        operation_id,
        at: now,
    };
    ownership::record(&mut tx, change).await?;
    if from.is_none() {
        ledger::own_transactions(&mut tx, chain, to).await?;
    }
    let settled = Settled {
        id: chain,
        head: &locked.head,
        owner: Some(owner),
        store_away: locked.store_away,
        detached_at: locked.detached_at,
        // Looked at soon by the schedule, which then sets the next check.
        next_check_at: Some(now),
        synced_seq: None,
        catalog: None,
    };
    chains::settle(&mut tx, &settled).await?;
    let mut changed = Vec::new();
    for account in accounts {
        changed.extend(derive::account(core, &mut tx, account, &catalog, now).await?);
    }
    let inputs = Inputs::Rebased(book);
    for account in &both {
        let event = NewEvent {
            // One event carries the chain and what replay needs; the other is the account's trace.
            chain: (*account == to).then_some(chain),
            account: Some(*account),
            actor: Some(actor),
            detail: Some(reason),
            revision: changed
                .iter()
                .find(|c| c.account.id == *account)
                .map(|c| c.stored.revision),
            catalog: Some(catalog.version()),
            inputs: (*account == to).then_some(&inputs),
            ..NewEvent::new(
                SignalSource::Operator,
                Decision::Apply(ApplyReason::Transferred),
                now,
            )
        };
        events::append(&mut tx, event).await?;
    }
    for other in changed.iter().filter(|one| !both.contains(&one.account.id)) {
        let decision = Decision::Apply(ApplyReason::Transferred);
        tell_former(&mut tx, other, SignalSource::Operator, decision, now).await?;
    }
    failpoint::at("before_transfer_commit");
    tx.commit().await.map_err(StorageError::from)?;
    failpoint::at("after_transfer_commit");
    derive::publish(core, changed);
    Ok(())
}
