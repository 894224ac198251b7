//! Transfer: an operator moves a chain to another account; both are told in one transaction.

use std::collections::BTreeSet;

use super::{Core, derive, goods};
use crate::domain::event::{ApplyReason, Decision, SignalSource};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::ownership::{Owner, OwnershipReason};
use crate::domain::reconcile::Book;
use crate::storage::chains::Settled;
use crate::storage::events::{self, Inputs, NewEvent};
use crate::storage::{StorageError, accounts, chains, ledger, ownership};

/// Why a transfer was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    #[error("no such purchase chain")]
    UnknownChain,
    #[error("no such account")]
    UnknownAccount,
    #[error("the purchase is that account's already")]
    AlreadyTheirs,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Moves `chain` to `to`; the event carries the operator's name on both accounts.
pub(crate) async fn transfer(
    core: &Core,
    chain: ChainId,
    to: AccountId,
    actor: &str,
    reason: &str,
) -> Result<(), TransferError> {
    let now = core.clock.now();
    let catalog = core.catalog.load_full();
    let mut tx = core.db.begin().await?;
    let locked = chains::lock(&mut tx, &[chain])
        .await?
        .pop()
        .ok_or(TransferError::UnknownChain)?;
    let from = locked.owner.map(|owner| owner.account);
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
    if accounts.iter().all(|account| account.id != to) {
        return Err(TransferError::UnknownAccount);
    }
    let owner = Owner {
        account: to,
        since: now,
        provisional_until: None,
        transferred: true,
    };
    if let Some(state) = state {
        let provider = locked.head.provider;
        goods::hand_over(&mut tx, (chain, provider), state, to, &catalog, now).await?;
    }
    let book = Book {
        owner: Some(owner),
        known,
        store_away: locked.store_away,
    };
    let change = ownership::Change {
        chain,
        from,
        to,
        reason: OwnershipReason::Transfer,
        actor: Some(actor),
        at: now,
    };
    ownership::record(&mut tx, change).await?;
    let settled = Settled {
        id: chain,
        head: &locked.head,
        owner: Some(owner),
        store_away: locked.store_away,
        // Looked at soon by the schedule, which then sets the next check.
        next_check_at: Some(now),
        synced_seq: None,
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
    tx.commit().await.map_err(StorageError::from)?;
    derive::publish(core, changed);
    Ok(())
}
