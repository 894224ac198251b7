//! Replay: decide a chain again from its stored answers, times and catalogs; never calls a store.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::Serialize;

use super::{Core, apply_catalog};
use crate::domain::catalog::Catalog;
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::planted::{self, Bug};
use crate::domain::reconcile::{Answer, Book, Step, reconcile};
use crate::domain::subscription::guard::with_evidence;
use crate::domain::subscription::store_state::Evidence;
use crate::domain::time::Instant;
use crate::providers::contract::StoreAnswer;
use crate::storage::events::{self, Inputs, Recorded};
use crate::storage::store_answers::{self, Kept};
use crate::storage::{StorageError, chains, erasure, ledger, timeline};

/// What replaying one chain came to.
#[derive(Debug, Serialize)]
pub(crate) struct Replayed {
    pub(crate) chain: ChainId,
    pub(crate) steps: usize,
    /// Where deciding again came out differently, in words; empty means that it agrees.
    pub(crate) differences: Vec<String>,
    /// Steps whose store answer retention has trimmed: decided by what their events kept of it.
    pub(crate) trimmed: usize,
    /// Steps that were erased with their account: what they decided stays, why is gone.
    pub(crate) erased: usize,
}

/// Replays every live chain of an account.
pub(crate) async fn replay(core: &Core, account: AccountId) -> anyhow::Result<Vec<Replayed>> {
    let mut replayed = Vec::new();
    for chain in timeline::chains_of(&core.db, account).await? {
        if chains::progress(&core.db, chain, core.clock.now())
            .await?
            .lives_in
            == chain
        {
            replayed.push(replay_chain(core, chain).await?);
        }
    }
    Ok(replayed)
}

/// Folds the recorded steps over the same pure function that decided them.
pub(crate) async fn replay_chain(core: &Core, chain: ChainId) -> anyhow::Result<Replayed> {
    let (recorded, stored, erased) = read(core, chain).await?;
    let mut catalogs = HashMap::new();
    let mut book = Book::default();
    let mut differences = Vec::new();
    let mut lost = Lost {
        erased,
        ..Lost::default()
    };
    for event in &recorded {
        match &event.inputs {
            Inputs::Rebased(rebased) => book = rebased.clone(),
            Inputs::Step { step, evidence } => {
                let catalog = catalog_of(core, &mut catalogs, event).await?;
                let step = reread(
                    core,
                    &book,
                    event,
                    step,
                    evidence,
                    catalog,
                    (&mut differences, &mut lost),
                )
                .await?;
                let provider = provider_of(core, chain).await?;
                let outcome = reconcile(provider, &book, &step, evidence, catalog, core.policy);
                let words = outcome.decision.words();
                if words != (event.decision.clone(), event.reason.clone()) {
                    differences.push(format!(
                        "event {}: decided {} {}, now {} {}",
                        event.id, event.decision, event.reason, words.0, words.1
                    ));
                }
                book = outcome.book;
            }
        }
    }
    differences.extend(compare(&stored, &book));
    Ok(Replayed {
        chain,
        steps: recorded.len(),
        differences,
        trimmed: lost.trimmed,
        erased: lost.erased,
    })
}

/// Answers that cannot be read anew.
#[derive(Default)]
struct Lost {
    trimmed: usize,
    erased: usize,
}

async fn provider_of(
    core: &Core,
    chain: ChainId,
) -> anyhow::Result<crate::domain::provider::Provider> {
    let aliases = chains::aliases(&core.db, chain).await?;
    let first = aliases
        .first()
        .ok_or_else(|| anyhow::anyhow!("chain {chain} has no alias"))?;
    Ok(first.provider)
}

async fn catalog_of<'a>(
    core: &Core,
    catalogs: &'a mut HashMap<i64, Catalog>,
    event: &Recorded,
) -> anyhow::Result<&'a Catalog> {
    let version = event
        .catalog
        .ok_or_else(|| anyhow::anyhow!("event {} names no catalog", event.id))?;
    match catalogs.entry(version.0) {
        Entry::Occupied(read) => Ok(read.into_mut()),
        Entry::Vacant(missing) => {
            let catalog = apply_catalog::version(&core.db, version)
                .await?
                .ok_or_else(|| anyhow::anyhow!("catalog version {} is gone", version.0))?;
            Ok(missing.insert(catalog))
        }
    }
}

/// The step with its answer read anew from the store's own words.
async fn reread(
    core: &Core,
    book: &Book,
    event: &Recorded,
    step: &Step,
    facts: &[Evidence],
    catalog: &Catalog,
    (differences, lost): (&mut Vec<String>, &mut Lost),
) -> anyhow::Result<Step> {
    let (Some(id), Answer::Store(state)) = (event.answer_id, &step.answer) else {
        return Ok(step.clone());
    };
    let (raw, fetched_at) = match store_answers::read(&core.db, id).await? {
        Some(Kept::Readable(raw, fetched_at)) => (raw, fetched_at),
        Some(Kept::Erased) => {
            lost.erased += 1;
            return Ok(step.clone());
        }
        Some(Kept::Broken) => {
            differences.push(format!(
                "event {}: answer {id} does not open under its key",
                event.id
            ));
            return Ok(step.clone());
        }
        None => {
            lost.trimmed += 1;
            return Ok(step.clone());
        }
    };
    let answers: Vec<StoreAnswer> = raw
        .into_iter()
        .map(|(call, status, body)| StoreAnswer { call, status, body })
        .collect();
    let mut answer = match core
        .stores
        .normalize(&state.head, &answers, catalog, fetched_at)
    {
        Ok(Answer::Store(state)) if planted::is(Bug::ReplayIgnoresEvidence) => Answer::Store(state),
        Ok(Answer::Store(state)) => Answer::Store(with_evidence(state, facts)),
        Ok(other) => other,
        Err(error) => {
            differences.push(format!(
                "event {}: answer {id} cannot be read: {error}",
                event.id
            ));
            return Ok(step.clone());
        }
    };
    if step.forgotten || (book.detached_at.is_some() && step.hint.is_none()) {
        answer.forget_account();
    }
    if answer != step.answer {
        differences.push(format!(
            "event {}: answer {id} reads differently now",
            event.id
        ));
    }
    Ok(Step {
        answer,
        ..step.clone()
    })
}

/// What was known of a chain at a moment: its stored steps up to then, folded over the same pure
/// function.
pub(crate) async fn book_at(core: &Core, chain: ChainId, at: Instant) -> anyhow::Result<Book> {
    let mut catalogs = HashMap::new();
    let mut book = Book::default();
    let mut tx = core.db.begin().await?;
    let recorded = events::of_chain(&mut tx, chain).await?;
    tx.rollback().await?;
    for event in recorded.iter().filter(|event| event.at <= at) {
        match &event.inputs {
            Inputs::Rebased(rebased) => book = rebased.clone(),
            Inputs::Step { step, evidence } => {
                let catalog = catalog_of(core, &mut catalogs, event).await?;
                let provider = provider_of(core, chain).await?;
                book = reconcile(provider, &book, step, evidence, catalog, core.policy).book;
            }
        }
    }
    Ok(book)
}

/// Steps and outcome as of one moment: under the chain's lock no settle comes between the two.
async fn read(core: &Core, chain: ChainId) -> Result<(Vec<Recorded>, Book, usize), StorageError> {
    let mut tx = core.db.begin().await?;
    let locked = chains::lock(&mut tx, &[chain]).await?.pop();
    let stored = Book {
        owner: locked.as_ref().and_then(|locked| locked.owner),
        known: ledger::known(&mut tx, chain).await?,
        store_away: locked.as_ref().is_some_and(|locked| locked.store_away),
        detached_at: locked.and_then(|locked| locked.detached_at),
    };
    let recorded = events::of_chain(&mut tx, chain).await?;
    let erased = erasure::erased_steps(&mut tx, chain).await?;
    tx.rollback().await?;
    Ok((recorded, stored, erased))
}

fn compare(stored: &Book, replayed: &Book) -> Vec<String> {
    let mut differences = Vec::new();
    if stored.known != replayed.known {
        differences.push("the ledger holds another state than replay arrives at".to_owned());
    }
    if stored.owner != replayed.owner {
        differences.push("the chain has another owner than replay arrives at".to_owned());
    }
    differences
}
