//! ActAtStore: an operator has a store refund, revoke, cancel or extend. The wish is committed before
//! the store is asked, and the store is asked once: a lost answer must not move money again.

use std::sync::Arc;
use std::time::Duration;

use super::Core;
use super::refresh::synced;
use crate::domain::event::{Decision, MergeReason, SignalSource, SkipReason};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::provider::Provider;
use crate::domain::subscription::store_state::StoreState;
pub(crate) use crate::providers::contract::Command;
use crate::providers::contract::{CommandError, FetchError};
use crate::storage::events::{self, NewEvent};
use crate::storage::operator_actions::{self, Known, NewAction};
use crate::storage::{StorageError, chains, ledger};

/// How long a store may take: longer than for a read, nobody else waits behind it.
const ACT_WITHIN: Duration = Duration::from_secs(15);
/// How long the operator waits for what came of it.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// What an operator asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) chain: ChainId,
    pub(crate) command: &'a Command,
    pub(crate) operation_id: &'a str,
    pub(crate) actor: &'a str,
    pub(crate) reason: &'a str,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Acted {
    /// The store's answer in words.
    pub(crate) outcome: String,
    /// What the store says of the purchase since is worked in.
    pub(crate) settled: bool,
    pub(crate) state: Option<StoreState>,
}

/// Why nothing was done, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActError {
    #[error("no such purchase")]
    UnknownPurchase,
    /// The store was never asked about it, so nothing says what it is.
    #[error("the store has not told about this purchase yet; resync it first")]
    NotRead,
    #[error("that operation id was used for something else")]
    OperationReused,
    /// The answer of the first call was lost.
    #[error(
        "the store was asked under this operation id and its answer was lost; look at the timeline, \
         then use another id if it has to be asked again"
    )]
    Undecided,
    /// It was not asked: the operation id is free again.
    #[error("the store cannot be asked now, and has done nothing: {0}")]
    Away(String),
    #[error("the order is none of this purchase's; look for it with `transactions`")]
    ForeignOrder,
    #[error("{0}")]
    NotOffered(String),
    #[error("{0}")]
    Declined(String),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Asks the store, then reads what came of it.
pub(crate) async fn act_at_store(core: &Arc<Core>, asked: Asked<'_>) -> Result<Acted, ActError> {
    let known = ledger::peek(&core.db, asked.chain).await?;
    // What Apple is asked for it refuses, whatever the order.
    let sold_by = known.as_ref().map(|known| known.state.head.provider);
    if let (Command::Refund { order_id, .. }, Some(Provider::GooglePlay)) = (asked.command, sold_by)
        && !ledger::has_order(&core.db, asked.chain, order_id).await?
    {
        return Err(ActError::ForeignOrder);
    }
    let (owner, earlier) = start(core, &asked).await?;
    if let Some(earlier) = earlier {
        return repeated(core, &asked, earlier).await;
    }
    let Some(known) = known else {
        let mut tx = core.db.begin().await?;
        operator_actions::forget(&mut tx, asked.operation_id).await?;
        tx.commit().await.map_err(StorageError::from)?;
        return Err(ActError::NotRead);
    };
    if let Some(why) = refunded_already(core, &asked).await? {
        finish(core, &asked, owner, false, &why).await?;
        return Err(ActError::Declined(why));
    }
    let catalog = core.catalog.load_full();
    let call = core.stores.command(&known.state, asked.command, &catalog);
    let answer = match tokio::time::timeout(ACT_WITHIN, call).await {
        Ok(answer) => answer,
        // It may have done it: the id stays taken, what came of it is read.
        Err(_) => {
            mark_dirty(core, asked.chain).await?;
            return Err(ActError::Undecided);
        }
    };
    match answer {
        Ok(outcome) => {
            finish(core, &asked, owner, true, &outcome).await?;
            acted(core, asked.chain, outcome).await
        }
        Err(CommandError::NotOffered(why)) => {
            finish(core, &asked, owner, false, why).await?;
            Err(ActError::NotOffered(why.to_owned()))
        }
        Err(CommandError::Declined(why)) => {
            let why = format!("the store refused: {why}");
            finish(core, &asked, owner, false, &why).await?;
            Err(ActError::Declined(why))
        }
        Err(CommandError::Store(FetchError::Away {
            cause,
            untouched: true,
            ..
        })) => {
            not_asked(core, &asked, owner, &cause).await?;
            Err(ActError::Away(cause))
        }
        Err(CommandError::Store(FetchError::Away {
            untouched: false, ..
        })) => {
            // A broken connection may have carried the wish: nobody knows.
            mark_dirty(core, asked.chain).await?;
            Err(ActError::Undecided)
        }
        Err(CommandError::Store(error @ (FetchError::Refused(_) | FetchError::Unreadable(_)))) => {
            let why = error.to_string();
            finish(core, &asked, owner, false, &why).await?;
            Err(ActError::Declined(why))
        }
    }
}

/// Commits the wish, with its event. Gives the owner, and what an earlier call under the same id was.
async fn start(
    core: &Core,
    asked: &Asked<'_>,
) -> Result<(Option<AccountId>, Option<Known>), ActError> {
    let now = core.clock.now();
    let action = in_words(asked.command);
    let mut tx = core.db.begin().await?;
    let chain = chains::lock(&mut tx, &[asked.chain])
        .await?
        .pop()
        .ok_or(ActError::UnknownPurchase)?;
    let owner = chain.owner.map(|owner| owner.account);
    let new = NewAction {
        operation_id: asked.operation_id,
        chain: asked.chain,
        account: owner,
        action: &action,
        actor: asked.actor,
        reason: asked.reason,
        at: now,
    };
    let earlier = operator_actions::start(&mut tx, new).await?;
    if let Some(earlier) = earlier {
        tx.rollback().await.map_err(StorageError::from)?;
        return if earlier.chain == asked.chain && earlier.action == action {
            Ok((owner, Some(earlier)))
        } else {
            Err(ActError::OperationReused)
        };
    }
    let detail = format!("{action}: {}", asked.reason);
    let decision = Decision::MergeOnly(MergeReason::StoreActionAsked);
    let event = NewEvent {
        chain: Some(asked.chain),
        account: owner,
        actor: Some(asked.actor),
        detail: Some(&detail),
        ..NewEvent::new(SignalSource::Operator, decision, now)
    };
    events::append(&mut tx, event).await?;
    tx.commit().await.map_err(StorageError::from)?;
    Ok((owner, None))
}

/// The first call's outcome; what the purchase has become is told as it is now.
async fn repeated(core: &Arc<Core>, asked: &Asked<'_>, earlier: Known) -> Result<Acted, ActError> {
    let outcome = earlier.outcome.unwrap_or_default();
    match earlier.done {
        Some(true) => {
            let known = ledger::peek(&core.db, asked.chain).await?;
            Ok(Acted {
                outcome,
                settled: true,
                state: known.map(|known| known.state),
            })
        }
        Some(false) => Err(ActError::Declined(outcome)),
        None => Err(ActError::Undecided),
    }
}

async fn finish(
    core: &Core,
    asked: &Asked<'_>,
    owner: Option<AccountId>,
    done: bool,
    outcome: &str,
) -> Result<(), StorageError> {
    let now = core.clock.now();
    let decision = if done {
        Decision::MergeOnly(MergeReason::StoreActionDone)
    } else {
        Decision::Skip(SkipReason::StoreActionRefused)
    };
    let detail = format!("{}: {outcome}", in_words(asked.command));
    let mut tx = core.db.begin().await?;
    operator_actions::finish(&mut tx, asked.operation_id, done, outcome, now).await?;
    let event = NewEvent {
        chain: Some(asked.chain),
        account: owner,
        actor: Some(asked.actor),
        detail: Some(&detail),
        ..NewEvent::new(SignalSource::Operator, decision, now)
    };
    events::append(&mut tx, event).await?;
    tx.commit().await?;
    Ok(())
}

/// Money that has gone back is not sent again: the books have every refund, also of long ago.
async fn refunded_already(core: &Core, asked: &Asked<'_>) -> Result<Option<String>, StorageError> {
    let Command::Refund { order_id, revoke } = asked.command else {
        return Ok(None);
    };
    let back = ledger::taken_back(&core.db, asked.chain, order_id).await?;
    let nothing_left = back.refunded && (back.revoked || !revoke);
    Ok(nothing_left.then(|| format!("order {order_id} is refunded already")))
}

/// The wish and why it came to nothing stay in the log; the id may be used again.
async fn not_asked(
    core: &Core,
    asked: &Asked<'_>,
    owner: Option<AccountId>,
    cause: &str,
) -> Result<(), StorageError> {
    let detail = format!("{}: not asked: {cause}", in_words(asked.command));
    let decision = Decision::Skip(SkipReason::StoreActionRefused);
    let event = NewEvent {
        chain: Some(asked.chain),
        account: owner,
        actor: Some(asked.actor),
        detail: Some(&detail),
        ..NewEvent::new(SignalSource::Operator, decision, core.clock.now())
    };
    let mut tx = core.db.begin().await?;
    operator_actions::forget(&mut tx, asked.operation_id).await?;
    events::append(&mut tx, event).await?;
    tx.commit().await?;
    Ok(())
}

async fn mark_dirty(core: &Core, chain: ChainId) -> Result<i64, StorageError> {
    let mut tx = core.db.begin().await?;
    let seq = chains::mark_dirty(&mut tx, chain, SignalSource::Operator).await?;
    tx.commit().await?;
    core.work.notify_one();
    Ok(seq)
}

async fn acted(core: &Arc<Core>, chain: ChainId, outcome: String) -> Result<Acted, ActError> {
    let seq = mark_dirty(core, chain).await?;
    let deadline = tokio::time::Instant::now() + WAIT_MAX;
    let settled = synced(core, chain, seq, deadline).await?;
    let known = ledger::peek(&core.db, chain).await?;
    Ok(Acted {
        outcome,
        settled,
        state: known.map(|known| known.state),
    })
}

/// As the books and the timeline say it.
pub(crate) fn in_words(command: &Command) -> String {
    match command {
        Command::Refund { order_id, revoke } => format!(
            "refund order {order_id}{}",
            if *revoke { " and revoke" } else { "" }
        ),
        Command::Revoke { prorated: true } => "revoke, refunding the unused rest".to_owned(),
        Command::Revoke { prorated: false } => "revoke, refunding all".to_owned(),
        Command::Cancel { by_developer: true } => "cancel for good".to_owned(),
        Command::Cancel {
            by_developer: false,
        } => "cancel".to_owned(),
        Command::Extend { days, .. } => format!("extend by {days} days"),
    }
}
