//! Settle: the one writer. Lock, read, decide, write, one commit; then tell the devices.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use tracing::{debug, info, warn};

use super::Core;
use super::apply_catalog;
use super::derive::{self, Changed};
use super::goods;
use super::join::join;
use super::settled_events::{revision_of, tell_former, tell_loser, write_events};
use crate::domain::catalog::Catalog;
use crate::domain::chain::Alias;
use crate::domain::event::{Decision, SignalSource};
use crate::domain::ids::{AccountId, CatalogVersion, ChainId};
use crate::domain::ownership::{MOVES_COUNTED_FOR, OpenClaim, Owner};
use crate::domain::reconcile::{Answer, Book, Outcome, Step, reconcile};
use crate::domain::subscription::guard::with_evidence;
use crate::domain::subscription::store_state::{Evidence, StoreState, Transaction};
use crate::domain::time::Instant;
use crate::failpoint;
use crate::storage::chains::{Locked, Settled};
use crate::storage::events::Inputs;
use crate::storage::leases::Claimed;
use crate::storage::ledger::Page;
use crate::storage::store_answers::RawAnswer;
use crate::storage::{
    StorageError, Tx, accounts, chains, claims, duties, evidence, ingress, ledger, ownership,
};

const ATTEMPTS_MAX: u32 = 8;
/// What a former catalog has decided is looked at again after so long (business time).
const FORMER_RECHECK: TimeDelta = TimeDelta::minutes(5);

/// A fetched answer on its way into the books.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) claimed: Claimed,
    pub(super) answer: Answer,
    /// As they came, for replay; empty when the store could not be asked.
    pub(super) raw: Vec<RawAnswer>,
    pub(super) fetched_at: Instant,
}

impl Work {
    /// Whether the store has been asked: otherwise the chain stays dirty.
    fn is_complete(&self) -> bool {
        match self.answer {
            Answer::Store(_) | Answer::NotFound | Answer::Gone => true,
            Answer::Proof(_) | Answer::Away => false,
        }
    }

    fn state(&self) -> Option<&StoreState> {
        match &self.answer {
            Answer::Store(state) | Answer::Proof(state) => Some(state),
            Answer::NotFound | Answer::Gone | Answer::Away => None,
        }
    }
}

/// How a settle ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settlement {
    Written,
    /// The claim is somebody else's by now: nothing was written.
    Fenced,
}

/// Writes one answer; runs again when it loses to another transaction.
pub(super) async fn settle(core: &Core, work: &Work) -> Result<Settlement, StorageError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match attempt_settle(core, work).await {
            Ok((settlement, changed)) => {
                failpoint::at("after_commit");
                derive::publish(core, changed);
                core.settled.notify_waiters();
                failpoint::at("after_notify");
                return Ok(settlement);
            }
            Err(StorageError::Conflict(cause)) if attempt < ATTEMPTS_MAX => {
                debug!(chain = %work.claimed.id, attempt, cause, "settle runs again");
                tokio::time::sleep(Duration::from_millis(u64::from(attempt) * 5)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// What a settle decides by.
#[derive(Clone, Copy)]
struct By<'a> {
    catalog: &'a Catalog,
    /// The newest version that this process has seen, whether or not it can read it.
    seen: CatalogVersion,
    now: Instant,
}

impl By<'_> {
    /// If this program cannot read the newest catalog, whoever waits is answered by the former, and
    /// soon a replica looks again that can read it.
    fn next_check(self, outcome: &Outcome, chain: ChainId) -> Option<Instant> {
        let (by, newest) = (self.catalog.version(), self.seen);
        if newest <= by {
            return outcome.next_check_at;
        }
        warn!(%chain, by = by.0, newest = newest.0, "decided by a former catalog; looked at again");
        let again = self.now + FORMER_RECHECK;
        Some(outcome.next_check_at.map_or(again, |at| at.min(again)))
    }
}

/// The chains of one settle under lock: the one that carries on, and those that become part of it.
pub(super) struct LockedSet {
    pub(super) whole: Locked,
    pub(super) parts: Vec<Locked>,
}

impl LockedSet {
    /// Whether a record of their store named an account that was erased since.
    fn name_erased(&self) -> bool {
        let mut all = std::iter::once(&self.whole).chain(&self.parts);
        all.any(|chain| chain.names_erased)
    }
}

async fn attempt_settle(
    core: &Core,
    work: &Work,
) -> Result<(Settlement, Vec<Changed>), StorageError> {
    // In this order: a newer one in between is newer than what was seen, never the other way round.
    let seen = core.newest_catalog();
    let catalog = core.catalog.load_full();
    let now = core.clock.now();
    let mut tx = core.db.begin().await?;
    let Some(set) = lock_chains(&mut tx, work).await? else {
        tx.rollback().await?;
        return Ok((Settlement::Fenced, Vec::new()));
    };
    let chain = set.whole.id;
    let head = work.state().map(|state| &state.head);
    let (book, mut lost) = join(core, &mut tx, &set, head, &catalog, now).await?;
    let (mut step, facts) = gather(&mut tx, &set, &book, work, &catalog, now).await?;
    failpoint::at("after_settle_read");
    let outcome = reconcile(
        set.whole.head.provider,
        &book,
        &step,
        &facts,
        &catalog,
        core.policy,
    );
    let owner = outcome.book.owner.map(|owner| owner.account);
    if let Some(loser) = book.owner.map(|owner| owner.account)
        && let Some(reason) = outcome.ownership
        && owner != Some(loser)
    {
        lost.push((loser, reason));
    }
    let mut touched: BTreeSet<AccountId> = lost.iter().map(|(loser, _)| *loser).collect();
    touched.extend(book.owner.map(|owner| owner.account));
    touched.extend(owner);
    let taken = outcome.book.known.as_ref().map(|known| &known.state);
    touched.extend(goods::holders(&mut tx, chain, taken).await?);
    // Whoever is named by what is kept was alive when it was read, and stays so until it is written.
    let named: BTreeSet<AccountId> = step.parties().chain(owner).collect();
    let locked: Vec<AccountId> = touched.union(&named).copied().collect();
    let mut accounts = accounts::lock(&mut tx, &locked).await?;
    let lives = |id: &AccountId| {
        let mut accounts = accounts.iter();
        accounts.any(|account| account.id == *id && !account.is_erased())
    };
    if !named.iter().all(lives) {
        return Err(StorageError::Conflict(
            "somebody was erased, or has become part of another account".into(),
        ));
    }
    accounts.retain(|account| touched.contains(&account.id));
    step.tokens.retain(|(account, _)| owner == Some(*account));

    let woken = write_books(&mut tx, &set, work, &book, &outcome, now).await?;
    write_owner(&mut tx, chain, &book, &outcome, now).await?;
    let by = By {
        catalog: &catalog,
        seen,
        now,
    };
    let newest = write_chain(&mut tx, &set, work, &outcome, by).await?;
    if !newest {
        // Behind a catalog's walk over purchases nobody looks again: by the newest, or not at all.
        tx.rollback().await?;
        apply_catalog::follow(core).await?;
        return Err(StorageError::Conflict("a newer catalog is active".into()));
    }
    let mut told = !outcome.duties.is_empty();
    if let (Some(owner), Some(state)) = (outcome.book.owner, taken) {
        let chain = (chain, set.whole.head.provider);
        told |= goods::hand_over(&mut tx, chain, state, owner.account, &catalog, now).await?;
    }
    let mut changed = Vec::new();
    for account in accounts {
        changed.extend(derive::account(core, &mut tx, account, &catalog, now).await?);
    }
    let inputs = Inputs::Step {
        step,
        evidence: facts,
    };
    write_events(
        core, &mut tx, chain, work, &outcome, &inputs, &changed, &catalog, now,
    )
    .await?;
    for (loser, reason) in &lost {
        let revision = revision_of(&changed, *loser);
        tell_loser(&mut tx, *loser, *reason, revision, now).await?;
    }
    let told_of = |account| owner == Some(account) || lost.iter().any(|lost| lost.0 == account);
    for other in changed.iter().filter(|one| !told_of(one.account.id)) {
        tell_former(&mut tx, other, work.claimed.source, outcome.decision, now).await?;
    }
    failpoint::at("before_commit");
    tx.commit().await?;
    if told {
        core.duties.notify_one();
    }
    if woken {
        core.received.notify_one();
    }
    log(&set, &outcome, work);
    Ok((Settlement::Written, changed))
}

/// Locks the chain and everything that the answer links to it. `None`: fenced.
async fn lock_chains(tx: &mut Tx<'_>, work: &Work) -> Result<Option<LockedSet>, StorageError> {
    let id = work.claimed.id;
    let names = work.state().map(all_names).unwrap_or_default();
    let before = linked(tx, &names, id).await?;
    let ids: Vec<ChainId> = before.iter().copied().collect();
    let mut locked = chains::lock(tx, &ids).await?;
    let fenced = locked
        .iter()
        .all(|chain| chain.id != id || chain.claim_no != work.claimed.claim_no);
    if fenced {
        return Ok(None);
    }
    if locked.len() != ids.len() || linked(tx, &names, id).await? != before {
        return Err(StorageError::Conflict(
            "the set of linked chains has grown".into(),
        ));
    }
    locked.sort_by_key(|chain| (chain.created_at, chain.id));
    let whole = locked.remove(0);
    Ok(Some(LockedSet {
        whole,
        parts: locked,
    }))
}

/// Names by which the answer says that something is the same purchase.
/// Sorted, as everybody writes names who writes several: nobody waits for another crosswise.
fn all_names(state: &StoreState) -> Vec<Alias> {
    let head = std::iter::once(&state.head);
    let names: BTreeSet<&Alias> = head
        .chain(&state.predecessors)
        .chain(&state.aliases)
        .collect();
    names.into_iter().cloned().collect()
}

async fn linked(
    tx: &mut Tx<'_>,
    names: &[Alias],
    id: ChainId,
) -> Result<BTreeSet<ChainId>, StorageError> {
    let mut ids = BTreeSet::from([id]);
    for name in names {
        ids.extend(chains::find(tx, name).await?);
    }
    Ok(ids)
}

pub(super) async fn book_of(tx: &mut Tx<'_>, chain: &Locked) -> Result<Book, StorageError> {
    Ok(Book {
        owner: chain.owner,
        known: ledger::known(tx, chain.id).await?,
        store_away: chain.store_away,
        detached_at: chain.detached_at,
    })
}

/// Everything that the decision depends on, read under the lock.
async fn gather(
    tx: &mut Tx<'_>,
    set: &LockedSet,
    book: &Book,
    work: &Work,
    catalog: &Catalog,
    now: Instant,
) -> Result<(Step, Vec<Evidence>), StorageError> {
    let (chain, owner) = (set.whole.id, book.owner);
    let facts = evidence::of_chain(tx, chain).await?;
    let mut answer = match work.answer.clone() {
        Answer::Store(state) => Answer::Store(with_evidence(state, &facts)),
        Answer::Proof(state) => Answer::Proof(with_evidence(state, &facts)),
        Answer::NotFound => Answer::NotFound,
        Answer::Gone => Answer::Gone,
        Answer::Away => Answer::Away,
    };
    let token = match &answer {
        Answer::Store(state) | Answer::Proof(state) => state.account_token.as_deref(),
        Answer::NotFound | Answer::Gone | Answer::Away => None,
    };
    let hint = match token {
        Some(token) => accounts::by_store_token(tx, token).await?,
        None => None,
    };
    let names_erased = book.detached_at.is_some() || set.name_erased();
    let forgotten = hint.is_none() && names_erased && answer.forget_account();
    let open = claims::open_of(tx, chain).await?;
    // A claim that came after the fetch is not refused by it: the purchase may be that new.
    let spoken_of = |open: &claims::Open| {
        answer != Answer::NotFound || open.opened_seq <= work.claimed.dirty_seq
    };
    let mut claims = Vec::new();
    for open in open.into_iter().filter(spoken_of) {
        let misnamed = match &open.also_named {
            Some(name) => !is_name_of(tx, chain, work, name).await?,
            None => false,
        };
        claims.push(OpenClaim {
            misnamed,
            ..open.claim
        });
    }
    let parties: BTreeSet<AccountId> = claims
        .iter()
        .map(|claim| claim.account)
        .chain(hint)
        .chain(owner.map(|owner| owner.account))
        .collect();
    let parties: Vec<AccountId> = parties.into_iter().collect();
    let tokens = accounts::store_tokens(tx, &parties).await?;
    let mut not_testers = Vec::new();
    for account in parties {
        if catalog.testers().is_some() && !derive::is_tester_in(tx, account, catalog).await? {
            not_testers.push(account);
        }
    }
    let moves = match claims.is_empty() {
        true => 0,
        false => ownership::moves_since(tx, chain, now - MOVES_COUNTED_FOR).await?,
    };
    let owner_is_anonymous = match owner {
        Some(owner) if !claims.is_empty() => accounts::is_anonymous(tx, owner.account).await?,
        Some(_) | None => false,
    };
    Ok((
        Step {
            source: work.claimed.source,
            now,
            answer,
            hint,
            claims,
            tokens,
            not_testers,
            moves,
            owner_is_anonymous,
            forgotten,
        },
        facts,
    ))
}

/// Whether the store's answer, or an earlier one, gives the chain this name.
async fn is_name_of(
    tx: &mut Tx<'_>,
    chain: ChainId,
    work: &Work,
    name: &Alias,
) -> Result<bool, StorageError> {
    let told = work
        .state()
        .is_some_and(|state| all_names(state).contains(name));
    Ok(told || chains::find(tx, name).await? == Some(chain))
}

/// The ledger: what is known now, each transaction, what the store must be told. Tells whether
/// messages that waited for one of the chain's names are read now.
async fn write_books(
    tx: &mut Tx<'_>,
    set: &LockedSet,
    work: &Work,
    before: &Book,
    outcome: &Outcome,
    now: Instant,
) -> Result<bool, StorageError> {
    let chain = set.whole.id;
    let Some(known) = &outcome.book.known else {
        return Ok(false);
    };
    ledger::write_known(tx, chain, known, known.state.acknowledge_by, now).await?;
    let taken = !matches!(outcome.decision, Decision::Skip(_));
    let mut woken = false;
    if let Some(state) = work.state().filter(|_| taken) {
        let page = Page {
            chain,
            environment: known.state.environment,
            owner: outcome.book.owner.map(|owner| owner.account),
            now,
        };
        let before = before.known.as_ref().map(|known| &known.state);
        // What has not changed since is there already; who doubts the books has all of it written.
        let doubted = work.claimed.source == SignalSource::Operator;
        let news = |transaction: &&Transaction| {
            doubted || before.is_none_or(|state| !state.transactions.contains(transaction))
        };
        let transactions = known.state.transactions.iter();
        let told: Vec<_> = transactions.filter(news).cloned().collect();
        ledger::write_transactions(tx, page, &told, true).await?;
        ledger::write_transactions(tx, page, &known.state.untold_charges(), false).await?;
        let names = all_names(state);
        for name in &names {
            chains::own_alias(tx, chain, name).await?;
        }
        if before.map(all_names).is_none_or(|before| before != names) {
            woken = ingress::wake(tx, &names).await? > 0;
        }
    }
    // Charges that nobody owned may have come with a part, too.
    if let Some(owner) = outcome.book.owner
        && (before.owner.is_none() || !set.parts.is_empty())
    {
        ledger::own_transactions(tx, chain, owner.account).await?;
    }
    for duty in &outcome.duties {
        duties::add(tx, chain, duty).await?;
    }
    Ok(woken)
}

async fn write_owner(
    tx: &mut Tx<'_>,
    chain: ChainId,
    before: &Book,
    outcome: &Outcome,
    now: Instant,
) -> Result<(), StorageError> {
    for (claim, _, verdict) in &outcome.verdicts {
        claims::decide(tx, *claim, *verdict, now).await?;
    }
    let account = |owner: Option<Owner>| owner.map(|owner| owner.account);
    if let Some(to) = account(outcome.book.owner)
        && account(before.owner) != Some(to)
        && let Some(reason) = outcome.ownership
    {
        let from = account(before.owner);
        let change = ownership::Change {
            chain,
            from,
            to,
            reason,
            actor: None,
            operation_id: None,
            at: now,
        };
        ownership::record(tx, change).await?;
    }
    Ok(())
}

/// `false`: a newer catalog than the one that was seen has become active, and nothing is to be written.
async fn write_chain(
    tx: &mut Tx<'_>,
    set: &LockedSet,
    work: &Work,
    outcome: &Outcome,
    by: By<'_>,
) -> Result<bool, StorageError> {
    let chain = set.whole.id;
    // A chain that has just been joined is looked at once more by its new head.
    let synced_seq = (work.is_complete() && set.parts.is_empty() && chain == work.claimed.id)
        .then_some(work.claimed.dirty_seq);
    let head = outcome
        .book
        .known
        .as_ref()
        .map_or(&set.whole.head, |known| &known.state.head);
    let settled = Settled {
        id: chain,
        head,
        owner: outcome.book.owner,
        store_away: outcome.book.store_away,
        detached_at: outcome.book.detached_at,
        next_check_at: by.next_check(outcome, chain),
        synced_seq,
        catalog: Some(by.seen.max(by.catalog.version())),
    };
    if !chains::settle(tx, &settled).await? {
        return Ok(false);
    }
    if let Some(synced_seq) = synced_seq {
        ingress::mark_processed(tx, chain, synced_seq).await?;
    }
    Ok(true)
}

fn log(set: &LockedSet, outcome: &Outcome, work: &Work) {
    let (decision, reason) = outcome.decision.words();
    let provider = set.whole.head.provider;
    metrics::counter!("entitled_decisions_total", "provider" => provider.as_str(),
        "decision" => decision.clone(), "reason" => reason.clone())
    .increment(1);
    info!(chain = %set.whole.id, %provider, source = work.claimed.source.as_str(), decision, reason, "settled");
}
