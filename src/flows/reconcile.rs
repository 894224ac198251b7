//! Reconcile: claim a dirty chain, ask its store, settle. One at a time per chain, on any replica.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use rand::Rng as _;
use tracing::{error, warn};

use super::Core;
use super::settle::{self, Settlement, Work};
use crate::domain::event::SignalSource;
use crate::domain::ids::ChainId;
use crate::domain::provider::Provider;
use crate::domain::reconcile::{Answer, awaits_renewal};
use crate::domain::subscription::store_state::StoreState;
use crate::domain::time::Instant;
use crate::failpoint;
use crate::providers::contract::{FetchError, FetchRequest, StoreAnswer};
use crate::storage::leases::{Claimed, Release};
use crate::storage::store_answers::RawAnswer;
use crate::storage::{StorageError, budget, chains, claims, evidence, leases, ledger};

/// A signed proof stands in only if it was signed within this time.
const STAND_IN_AGE_MAX: TimeDelta = TimeDelta::hours(24);
/// Refused credentials and unreadable answers need a person: asked again slowly.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// A purchase made a moment ago may not be readable yet.
const JUST_MADE_PAUSE: Duration = Duration::from_millis(700);
/// A complete read is two calls at either store (Apple: statuses, and what is new in the history),
/// fewer for what is known not to renew, more at the first read of a long history.
const CALLS_PER_FETCH: f64 = 2.0;
/// With pages of history and of refunds, which Apple lets nobody ask for at the others' rate.
const CALLS_PER_THOROUGH_FETCH: f64 = 8.0;
const THOROUGH_TRIES: i32 = 2;
/// A database that is away heals by itself; what fails more often than this is a fault of ours.
const FAULTS_UNTOLD_MAX: i32 = 5;
/// How long a chain waits for the shared budget.
const BUDGET_PAUSE: Duration = Duration::from_millis(500);

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reconciled {
    /// The store was asked and its answer is written.
    Settled,
    /// The store could not be asked; it is asked again after the pause.
    Postponed(Duration),
    /// Somebody else has the chain, or there is nothing to do.
    NotOurs,
}

/// Claims what is due, up to `limit` chains.
pub(crate) async fn claim_due(core: &Core, limit: usize) -> Result<Vec<Claimed>, StorageError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    leases::claim_due(&core.db, limit, core.clock.now(), core.tuning.lease).await
}

/// Claims and reconciles one chain now, in a task that outlives its caller.
pub(crate) async fn reconcile_one(core: &Arc<Core>, id: ChainId) -> Reconciled {
    let core = Arc::clone(core);
    let task = tokio::spawn(async move {
        match leases::claim_one(&core.db, id, core.tuning.lease, false).await {
            Ok(Some(claimed)) => reconcile_claimed(&core, claimed).await,
            Ok(None) => Reconciled::NotOurs,
            Err(error) => {
                warn!(chain = %id, %error, "a chain could not be claimed");
                Reconciled::NotOurs
            }
        }
    });
    task.await.unwrap_or(Reconciled::NotOurs)
}

/// While a chain backs off from its store, a signed proof may still stand in; the store is not
/// asked and the back-off is kept. `None`: nobody is backing off.
pub(crate) async fn stand_in_during_backoff(
    core: &Core,
    id: ChainId,
) -> Result<Option<Duration>, StorageError> {
    let left = leases::backoff_left(&core.db, id).await?;
    if left.is_zero() {
        return Ok(None);
    }
    if let Some(claimed) = leases::claim_one(&core.db, id, core.tuning.lease, true).await? {
        let now = core.clock.now();
        if let Some(answer) = stand_in(core, &claimed, now).await? {
            settle_unconfirmed(core, &claimed, answer, now).await?;
        }
        leases::release(&core.db, &claimed, left, Release::Postponed).await?;
    }
    Ok(Some(left))
}

/// Reconciles a claimed chain; a failure of ours is logged and the chain tried again.
pub(crate) async fn reconcile_claimed(core: &Core, claimed: Claimed) -> Reconciled {
    failpoint::at("after_claim");
    let id = claimed.id;
    match reconcile(core, &claimed).await {
        Ok(reconciled) => reconciled,
        Err(error) => {
            metrics::counter!("entitled_settle_failures_total").increment(1);
            if claimed.failures < FAULTS_UNTOLD_MAX {
                warn!(chain = %id, %error, "reconcile failed; tried again");
            } else {
                error!(chain = %id, %error, "a purchase cannot be settled; tried again and again");
            }
            let pause = backoff(core, claimed.failures);
            // If the database is away too, the lease ends by itself.
            let _ = leases::release(&core.db, &claimed, pause, Release::Failed).await;
            Reconciled::Postponed(pause)
        }
    }
}

async fn reconcile(core: &Core, claimed: &Claimed) -> Result<Reconciled, StorageError> {
    if !within_budget(core, claimed).await? {
        let pause = budget_pause(claimed.source);
        leases::release(&core.db, claimed, pause, Release::Postponed).await?;
        return Ok(Reconciled::Postponed(pause));
    }
    let fetched_at = core.clock.now();
    let breaker = core.breakers.of(claimed.head.provider);
    if !breaker.allows() {
        // Not a failure of this call: none was made.
        let error = FetchError::away("too many failures lately");
        return without_store(core, claimed, error, fetched_at).await;
    }
    match fetch(core, claimed, fetched_at).await? {
        Ok((answer, raw)) => {
            breaker.succeeded();
            failpoint::at("after_fetch");
            settle_answer(core, claimed, answer, raw, fetched_at).await
        }
        Err(error) => {
            if matches!(error, FetchError::Away { .. }) {
                breaker.failed();
            }
            without_store(core, claimed, error, fetched_at).await
        }
    }
}

/// Binds first, then signals, then the schedule: each leaves more of the bucket to the former.
async fn within_budget(core: &Core, claimed: &Claimed) -> Result<bool, StorageError> {
    let provider = claimed.head.provider;
    let per_second = core.tuning.calls_per_second(provider);
    let reserve = match claimed.source {
        SignalSource::Proof => 0.0,
        SignalSource::Notification
        | SignalSource::Refresh
        | SignalSource::Account
        | SignalSource::Operator => per_second,
        SignalSource::Schedule | SignalSource::Time | SignalSource::Catalog => per_second * 3.0,
    };
    let calls = match is_thorough(claimed) {
        true => CALLS_PER_THOROUGH_FETCH.min(per_second),
        false => CALLS_PER_FETCH,
    };
    budget::take(&core.db, provider, calls, per_second, reserve).await
}

/// What an operator asks for is read whole. What cannot be had so is read as ever: it must not stay
/// unread for being long.
fn is_thorough(claimed: &Claimed) -> bool {
    claimed.source == SignalSource::Operator && claimed.failures < THOROUGH_TRIES
}

/// Whoever waits for a signal looks again soon; what only its time calls for is spread, so that many
/// thousands of them are not claimed over and over for nothing.
fn budget_pause(source: SignalSource) -> Duration {
    match source {
        SignalSource::Proof
        | SignalSource::Operator
        | SignalSource::Notification
        | SignalSource::Refresh
        | SignalSource::Account => BUDGET_PAUSE,
        SignalSource::Schedule | SignalSource::Time | SignalSource::Catalog => {
            BUDGET_PAUSE.mul_f64(rand::rng().random_range(4.0..20.0))
        }
    }
}

/// Whether a look-up that nobody is known to have paid for may be made: it comes after all others.
pub(crate) async fn may_look_up(core: &Core, provider: Provider) -> Result<bool, StorageError> {
    let per_second = core.tuning.calls_per_second(provider);
    Ok(core.breakers.of(provider).allows()
        && budget::take(&core.db, provider, 1.0, per_second, per_second * 5.0).await?)
}

type Fetched = Result<(Answer, Vec<RawAnswer>), FetchError>;

async fn fetch(core: &Core, claimed: &Claimed, now: Instant) -> Result<Fetched, StorageError> {
    let facts = evidence::read(&core.db, claimed.id).await?;
    let known = chains::aliases(&core.db, claimed.id).await?;
    let last = ledger::peek(&core.db, claimed.id).await?;
    let catalog = core.catalog.load_full();
    let request = FetchRequest {
        head: &claimed.head,
        evidence: &facts,
        known: &known,
        last: last.as_ref().map(|known| &known.state),
        thorough: is_thorough(claimed),
        catalog: &catalog,
    };
    let began = tokio::time::Instant::now();
    let fetched = tokio::time::timeout(core.tuning.fetch_timeout, core.stores.fetch(request)).await;
    metrics::histogram!("entitled_store_seconds", "provider" => claimed.head.provider.as_str())
        .record(began.elapsed().as_secs_f64());
    let answers = match fetched {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) => return Ok(Err(error)),
        Err(_) => return Ok(Err(FetchError::away("the fetch took too long"))),
    };
    Ok(core
        .stores
        .normalize(&claimed.head, &answers, &catalog, now)
        .map(|answer| {
            let raw = answers
                .into_iter()
                .map(|StoreAnswer { call, status, body }| (call, status, body));
            (answer, raw.collect())
        }))
}

async fn settle_answer(
    core: &Core,
    claimed: &Claimed,
    answer: Answer,
    raw: Vec<RawAnswer>,
    fetched_at: Instant,
) -> Result<Reconciled, StorageError> {
    if answer == Answer::NotFound && claimed.failures == 0 {
        // A purchase made a moment ago may not be readable yet: one more look.
        leases::release(&core.db, claimed, JUST_MADE_PAUSE, Release::Failed).await?;
        return Ok(Reconciled::Postponed(JUST_MADE_PAUSE));
    }
    let work = Work {
        claimed: claimed.clone(),
        answer,
        raw,
        fetched_at,
    };
    match settle::settle(core, &work).await? {
        Settlement::Written => Ok(Reconciled::Settled),
        Settlement::Fenced => {
            let provider = claimed.head.provider.as_str();
            metrics::counter!("entitled_late_answers_total", "provider" => provider).increment(1);
            warn!(chain = %claimed.id, "an answer came after its lease had ended; it was dropped");
            Ok(Reconciled::NotOurs)
        }
    }
}

/// The store cannot be asked: a signed proof stands in, or access is prolonged within bounds.
async fn without_store(
    core: &Core,
    claimed: &Claimed,
    error: FetchError,
    now: Instant,
) -> Result<Reconciled, StorageError> {
    let pause = match &error {
        FetchError::Away { retry_after, .. } => retry_after
            .unwrap_or_default()
            .max(backoff(core, claimed.failures)),
        FetchError::Refused(_) | FetchError::Unreadable(_) => REFUSED_PAUSE,
    };
    let provider = claimed.head.provider.as_str();
    metrics::counter!("entitled_store_failures_total", "provider" => provider).increment(1);
    match &error {
        FetchError::Away { .. } => warn!(chain = %claimed.id, provider, %error, "store away"),
        FetchError::Refused(_) | FetchError::Unreadable(_) => {
            error!(chain = %claimed.id, provider, %error, "store call needs an operator");
        }
    }
    if let Some(answer) = stand_in(core, claimed, now).await? {
        settle_unconfirmed(core, claimed, answer, now).await?;
    }
    leases::release(&core.db, claimed, pause, Release::Failed).await?;
    Ok(Reconciled::Postponed(pause))
}

async fn settle_unconfirmed(
    core: &Core,
    claimed: &Claimed,
    answer: Answer,
    now: Instant,
) -> Result<(), StorageError> {
    let work = Work {
        claimed: claimed.clone(),
        answer,
        raw: Vec::new(),
        fetched_at: now,
    };
    settle::settle(core, &work).await?;
    Ok(())
}

async fn stand_in(
    core: &Core,
    claimed: &Claimed,
    now: Instant,
) -> Result<Option<Answer>, StorageError> {
    let mut tx = core.db.begin().await?;
    let open = claims::open_of(&mut tx, claimed.id).await?;
    let locked = chains::lock(&mut tx, &[claimed.id]).await?.pop();
    let known = ledger::known(&mut tx, claimed.id).await?;
    tx.commit().await?;
    let proofs = open.into_iter().filter_map(|open| open.stand_in);
    let newest = proofs
        .filter(|state| is_recent(state, now))
        .max_by_key(|state| state.stamp);
    if let Some(state) = newest {
        return Ok(Some(Answer::Proof(state)));
    }
    // Said once, not at every retry.
    let said = locked.is_some_and(|chain| chain.store_away);
    let prolong = known.filter(|known| !said && awaits_renewal(known, now));
    Ok(prolong.map(|_| Answer::Away))
}

fn is_recent(state: &StoreState, now: Instant) -> bool {
    now - state.stamp <= STAND_IN_AGE_MAX
}

/// Doubles with every failure, with jitter, so that a recovering store is not met by a herd.
fn backoff(core: &Core, failures: i32) -> Duration {
    let exponent = u32::try_from(failures.clamp(0, 16)).unwrap_or(16);
    let full = Duration::from_secs(1)
        .saturating_mul(1 << exponent)
        .min(core.tuning.backoff_max);
    full.mul_f64(rand::rng().random_range(0.5..=1.0))
}
