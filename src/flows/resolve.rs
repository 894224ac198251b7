//! Resolve: read raw rows, find or create their chains, mark them dirty.

use tracing::{debug, error, warn};

use super::Core;
use crate::domain::chain::Alias;
use crate::domain::duty;
use crate::domain::event::{Decision, SignalSource, SkipReason};
use crate::domain::ids::ChainId;
use crate::domain::planted::{self, Bug};
use crate::domain::provider::Source;
use crate::domain::subscription::store_state::Evidence;
use crate::domain::time::Instant;
use crate::failpoint;
use crate::providers::contract::{Hint, Meaning, Reading, Signal};
use crate::storage::events::{self, NewEvent};
use crate::storage::ingress::{self, Resolution, Unresolved};
use crate::storage::keyring::Keyring;
use crate::storage::sealed::Content;
use crate::storage::{StorageError, Tx, chains, duties, evidence, ledger, savepoint};

const BATCH: i64 = 64;
const CONFLICTS_MAX: u32 = 5;

/// Resolves one batch; tells how many rows it read. A row that cannot be written harms no other:
/// a failed batch is done again row by row, and the bad one is marked.
pub(crate) async fn resolve_batch(core: &Core) -> Result<usize, StorageError> {
    match resolve_many(core).await {
        Ok(read) => Ok(read),
        Err(error @ (StorageError::Unavailable(_) | StorageError::Slow(_))) => Err(error),
        Err(error) => {
            debug!(%error, "a batch of notifications is resolved row by row");
            let mut read = 0;
            while read < usize::try_from(BATCH).unwrap_or(0) && resolve_next(core).await? {
                read += 1;
            }
            Ok(read)
        }
    }
}

/// One row on its own; `false` when there is none.
async fn resolve_next(core: &Core) -> Result<bool, StorageError> {
    for _ in 0..CONFLICTS_MAX {
        let mut tx = core.db.begin().await?;
        let rows = ingress::take_unresolved(&mut tx, core.db.keyring(), 1).await?;
        let Some(row) = rows.first() else {
            tx.rollback().await?;
            return Ok(false);
        };
        let mut attempt = savepoint(&mut tx).await?;
        let after = match resolve_rows(core, &mut attempt, &rows).await {
            Ok(after) => {
                attempt.commit().await?;
                after
            }
            Err(StorageError::Conflict(_)) => continue,
            Err(error @ (StorageError::Unavailable(_) | StorageError::Slow(_))) => {
                return Err(error);
            }
            Err(
                cause @ (StorageError::Unstorable(_)
                | StorageError::Corrupt(_)
                | StorageError::Other(_)),
            ) => {
                attempt.rollback().await?;
                error!(source = row.source, id = %row.id, %cause,
                    "a notification cannot be resolved; kept");
                let detail = "it cannot be written to the books; see the log";
                let failed = Resolution::Failed { detail };
                ingress::resolve(&mut tx, core.db.keyring(), row, None, failed).await?;
                let decision = Decision::Skip(SkipReason::Unreadable);
                let event = NewEvent {
                    detail: Some(detail),
                    ..NewEvent::new(SignalSource::Notification, decision, core.clock.now())
                };
                events::append(&mut tx, event).await?;
                After::default()
            }
        };
        tx.commit().await?;
        wake(core, &after).await?;
        return Ok(true);
    }
    Err(StorageError::Conflict("a notification keeps losing".into()))
}

async fn resolve_many(core: &Core) -> Result<usize, StorageError> {
    let mut tx = core.db.begin().await?;
    let rows = ingress::take_unresolved(&mut tx, core.db.keyring(), BATCH).await?;
    if rows.is_empty() {
        tx.rollback().await?;
        return Ok(0);
    }
    let after = resolve_rows(core, &mut tx, &rows).await?;
    failpoint::at("before_resolve_commit");
    tx.commit().await?;
    wake(core, &after).await?;
    Ok(rows.len())
}

/// What is left to do once the rows are read and committed.
#[derive(Default)]
struct After {
    /// Names that some of them wait for.
    awaited: Vec<Alias>,
    /// A store asks for an answer.
    asked: bool,
}

/// A settle may have made a name known before it could see the row that waits for it.
async fn wake(core: &Core, after: &After) -> Result<(), StorageError> {
    if after.asked {
        core.duties.notify_one();
    }
    if after.awaited.is_empty() {
        return Ok(());
    }
    let mut tx = core.db.begin().await?;
    ingress::wake(&mut tx, &after.awaited).await?;
    tx.commit().await?;
    Ok(())
}

/// Reads the rows and marks their chains dirty.
async fn resolve_rows(
    core: &Core,
    tx: &mut Tx<'_>,
    rows: &[Unresolved],
) -> Result<After, StorageError> {
    let (now, keys) = (core.clock.now(), core.db.keyring());
    // Whoever sent these has been answered.
    failpoint::at("after_ack");
    let (mut signals, mut unknown, mut awaited) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        match read(core, row) {
            Reading::Chain(signal) => match chains::find(tx, &signal.alias).await? {
                Some(chain) => signals.push((chain, row, signal)),
                None => unknown.push((row, signal)),
            },
            Reading::Hint(hint) => match chain_of(tx, &hint).await? {
                Some((chain, name)) => {
                    let signal = Signal {
                        kind: hint.kind,
                        alias: name,
                        evidence: Vec::new(),
                        occurred_at: hint.occurred_at,
                        meaning: hint.meaning,
                    };
                    signals.push((chain, row, signal));
                }
                None => {
                    wait(tx, keys, row, &hint).await?;
                    awaited.extend(hint.names.into_iter().take(1));
                }
            },
            aside @ (Reading::Ignored { .. }
            | Reading::Unsupported { .. }
            | Reading::Unreadable { .. }) => {
                set_aside(tx, keys, row, &aside, now).await?;
            }
        }
    }
    // Chains are locked in id order, as everywhere.
    signals.sort_by_key(|(chain, ..)| *chain);
    let mut asked = false;
    for (chain, row, signal) in &signals {
        resolve_signal(tx, keys, *chain, row, signal).await?;
        asked |= owe_answers(core, tx, *chain, &signal.evidence).await?;
    }
    // New ones come last, by name: a settle that waits to use the name holds a chain of its own, and
    // nothing above may wait for that chain.
    unknown.sort_by(|(_, one), (_, other)| one.alias.cmp(&other.alias));
    let mut made: Option<(&Alias, ChainId)> = None;
    for (row, signal) in &unknown {
        let chain = match made {
            Some((name, chain)) if *name == signal.alias => chain,
            _ => chains::create(tx, &signal.alias, now)
                .await?
                .ok_or_else(|| StorageError::Conflict("it was named meanwhile".into()))?,
        };
        made = Some((&signal.alias, chain));
        resolve_signal(tx, keys, chain, row, signal).await?;
        asked |= owe_answers(core, tx, chain, &signal.evidence).await?;
    }
    Ok(After { awaited, asked })
}

/// A store's question has its deadline from when it was asked: the duty is not left to the settle,
/// which waits for a store that may be away. What nobody owns, or was never read, has nobody to
/// answer for it; the settle that changes that writes the duty.
async fn owe_answers(
    core: &Core,
    tx: &mut Tx<'_>,
    chain: ChainId,
    facts: &[Evidence],
) -> Result<bool, StorageError> {
    let asks = |fact: &Evidence| matches!(fact, Evidence::RefundRequest { .. });
    if !facts.iter().any(asks) {
        return Ok(false);
    }
    // Locked since it was marked dirty.
    let locked = chains::lock(tx, &[chain]).await?.pop();
    let owned = locked.is_some_and(|chain| chain.owner.is_some());
    let known = match ledger::known(tx, chain).await {
        Ok(known) => known.filter(|_| owned),
        // Written by a newer replica: the settle, which reads it anew, writes the duty.
        Err(StorageError::Corrupt(_)) => None,
        Err(other) => return Err(other),
    };
    let Some(known) = known else {
        return Ok(false);
    };
    let answers = duty::answers(known.state.environment, facts, &core.catalog.load());
    for duty in &answers {
        duties::add(tx, chain, duty).await?;
    }
    Ok(!answers.is_empty())
}

/// What a row says by the code and the catalog of today.
pub(super) fn read(core: &Core, row: &Unresolved) -> Reading {
    let unreadable = |reason: String| Reading::Unreadable { reason };
    match (&row.body, Source::parse(&row.source)) {
        (Content::Readable(body), Some(source)) => {
            core.stores.read(source, body, &core.catalog.load())
        }
        (Content::Readable(_), None) => unreadable("unknown source".into()),
        (Content::Erased, _) => unreadable("erased with its account".into()),
        (Content::Broken(error), _) => unreadable(error.to_string()),
    }
}

/// The chain that a hint names, if the store or a proof has made it known.
async fn chain_of(tx: &mut Tx<'_>, hint: &Hint) -> Result<Option<(ChainId, Alias)>, StorageError> {
    for name in &hint.names {
        if let Some(chain) = chains::find(tx, name).await? {
            return Ok(Some((chain, name.clone())));
        }
    }
    Ok(None)
}

/// Nobody has shown the purchase yet: the row waits until its name is known.
async fn wait(
    tx: &mut Tx<'_>,
    keys: &Keyring,
    row: &Unresolved,
    hint: &Hint,
) -> Result<(), StorageError> {
    let resolution = match hint.names.first() {
        Some(awaited) => Resolution::Pending { awaited },
        None => Resolution::Unsupported {
            detail: "it names no purchase",
        },
    };
    ingress::resolve(tx, keys, row, Some(&hint.kind), resolution).await
}

/// Authentic, but about no chain: kept and told in the log of events.
async fn set_aside(
    tx: &mut Tx<'_>,
    keys: &Keyring,
    row: &Unresolved,
    reading: &Reading,
    now: Instant,
) -> Result<(), StorageError> {
    let (kind, reason, detail) = match reading {
        Reading::Chain(_) | Reading::Hint(_) => return Ok(()),
        Reading::Unsupported { kind, reason } => {
            metrics::counter!("entitled_notifications_unsupported_total",
                "provider" => row.source.clone())
            .increment(1);
            let resolution = Resolution::Unsupported { detail: reason };
            ingress::resolve(tx, keys, row, Some(kind), resolution).await?;
            (kind.as_str(), SkipReason::Unsupported, (*reason).to_owned())
        }
        Reading::Ignored { kind, reason } => {
            let resolution = Resolution::Ignored { detail: reason };
            ingress::resolve(tx, keys, row, Some(kind), resolution).await?;
            (kind.as_str(), SkipReason::Ignored, (*reason).to_owned())
        }
        Reading::Unreadable { reason } => {
            warn!(
                source = row.source,
                reason, "an authentic notification cannot be read; kept"
            );
            metrics::counter!("entitled_notifications_unreadable_total",
                "provider" => row.source.clone())
            .increment(1);
            let failed = Resolution::Failed { detail: reason };
            ingress::resolve(tx, keys, row, None, failed).await?;
            ("unreadable", SkipReason::Unreadable, reason.clone())
        }
    };
    let detail = format!("{} {kind}: {detail}", row.source);
    let event = NewEvent {
        detail: Some(&detail),
        ..NewEvent::new(SignalSource::Notification, Decision::Skip(reason), now)
    };
    events::append(tx, event).await
}

async fn resolve_signal(
    tx: &mut Tx<'_>,
    keys: &Keyring,
    chain: ChainId,
    row: &Unresolved,
    signal: &Signal,
) -> Result<(), StorageError> {
    if planted::is(Bug::LostSignals) {
        let detail = signal.meaning.as_str();
        let resolution = Resolution::Chain {
            chain,
            seq: 0,
            detail,
        };
        return ingress::resolve(tx, keys, row, Some(&signal.kind), resolution).await;
    }
    let seq = chains::mark_dirty(tx, chain, SignalSource::Notification).await?;
    for fact in &signal.evidence {
        let observed_at = signal.occurred_at.unwrap_or(row.received_at);
        evidence::add(tx, chain, fact, observed_at).await?;
    }
    if signal.meaning == Meaning::Unknown {
        warn!(
            source = row.source,
            kind = signal.kind,
            "a notification of an unknown type; its store is asked"
        );
        metrics::counter!("entitled_notifications_unknown_total", "provider" => row.source.clone())
            .increment(1);
    }
    let detail = signal.meaning.as_str();
    let resolution = Resolution::Chain { chain, seq, detail };
    ingress::resolve(tx, keys, row, Some(&signal.kind), resolution).await
}
