//! Duties: what the stores must be told, at least once, after the commit that made it true.

use std::time::Duration;

use chrono::TimeDelta;
use rand::Rng as _;
use tracing::{error, info, warn};

use super::Core;
use crate::domain::duty::Duty;
use crate::domain::refund_defence::{self, Question, RefundAnswer, Ruling};
use crate::domain::subscription::guard::Known;
use crate::domain::time::Instant;
use crate::domain::waiver::{ALARM_LEAD_MAX, REFUNDED_SINCE, Waiver, moot, near_until};
use crate::failpoint;
use crate::providers::contract::{Effect, FetchError};
use crate::storage::duties::{self, Due};
use crate::storage::{StorageError, budget, consumption, ledger};

/// How long a duty waits for the shared budget.
const BUDGET_PAUSE: Duration = Duration::from_millis(500);
/// A duty that waits for somebody's word is looked at at least this often: a wake-up may be lost.
const LOOK_AGAIN: TimeDelta = TimeDelta::minutes(15);
/// So many near or late duties are named in one look; the rest in the next.
const NAMED_MAX: i64 = 200;

/// Takes open duties that are due, up to `limit`.
pub(crate) async fn take_due(core: &Core, limit: usize) -> Result<Vec<Due>, StorageError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // Whoever dies with a duty keeps it from the others for so long.
    let lease = core.tuning.lease + core.tuning.fetch_timeout;
    duties::take(&core.db, limit, core.clock.now(), lease).await
}

/// Carries one duty out, or says why not; a failure of ours is logged and the duty tried again.
pub(crate) async fn fulfil(core: &Core, duty: Due) {
    if let Err(error) = attempt(core, &duty).await {
        warn!(chain = %duty.chain, kind = duty.duty.kind(), %error, "a duty pauses");
    }
}

/// What is to be done about a duty now.
enum Step {
    Perform(Option<RefundAnswer>),
    Waive(Waiver),
    Wait(Instant, &'static str),
}

async fn attempt(core: &Core, due: &Due) -> Result<(), StorageError> {
    let Some(known) = ledger::peek(&core.db, due.chain).await? else {
        let pause = backoff(core, due.attempts);
        return duties::failed(&core.db, due.id, "the chain has no known state", pause).await;
    };
    let now = core.clock.now();
    match next_step(core, due, &known, now).await? {
        Step::Waive(waiver) => waive(core, due, waiver, now).await,
        Step::Wait(until, what) => {
            let until = until.min(now + LOOK_AGAIN);
            duties::wait(&core.db, due.id, until, Some(what), Duration::ZERO).await
        }
        Step::Perform(answer) => perform(core, due, &known, answer.as_ref(), now).await,
    }
}

async fn next_step(
    core: &Core,
    due: &Due,
    known: &Known,
    now: Instant,
) -> Result<Step, StorageError> {
    let state = &known.state;
    let about = &due.transaction_id;
    let back = ledger::taken_back(&core.db, due.chain, about).await?;
    let gone_back = back.refunded || back.revoked;
    if let Some(waiver) = moot(&due.duty, about, due.deadline, state, gone_back, now) {
        // The store was never told because nobody agreed: no fault of anybody's.
        let nobody_agreed = waiver == Waiver::TooLate && unconsented(core, due, known, now).await?;
        return Ok(Step::Waive(if nobody_agreed {
            Waiver::NoConsent
        } else {
            waiver
        }));
    }
    match &due.duty {
        Duty::AnswerConsumptionRequest | Duty::ReviewRefund { .. } => {
            Ok(match rule(core, due, known, now).await? {
                Ruling::Answer(answer) => Step::Perform(Some(answer)),
                Ruling::Wait { until, waits_for } => Step::Wait(until, waits_for.as_str()),
                Ruling::Waive(waiver) => Step::Waive(waiver),
            })
        }
        Duty::Acknowledge { .. } | Duty::Consume | Duty::Finish | Duty::SetAccountToken { .. } => {
            Ok(Step::Perform(None))
        }
    }
}

async fn unconsented(
    core: &Core,
    due: &Due,
    known: &Known,
    now: Instant,
) -> Result<bool, StorageError> {
    Ok(match due.duty {
        Duty::AnswerConsumptionRequest => matches!(
            rule(core, due, known, now).await?,
            Ruling::Waive(_) | Ruling::Wait { .. }
        ),
        Duty::ReviewRefund { .. }
        | Duty::Acknowledge { .. }
        | Duty::Consume
        | Duty::Finish
        | Duty::SetAccountToken { .. } => false,
    })
}

async fn rule(core: &Core, due: &Due, known: &Known, now: Instant) -> Result<Ruling, StorageError> {
    let state = &known.state;
    let provider = state.head.provider;
    let catalog = core.catalog.load();
    // Of any time: a state has only what its read found new, and is of the plan of today.
    let charged = ledger::product_of(&core.db, due.chain, &due.transaction_id).await?;
    let bought = charged
        .as_ref()
        .or_else(|| state.items.first().map(|item| &item.product));
    let question = Question {
        provider,
        asked_at: due.duty.asked_at(due.deadline),
        deadline: due.deadline,
        product: bought
            .and_then(|product| catalog.plan(provider, product))
            .map(|(id, plan)| (id, plan.kind)),
    };
    let told = consumption::about(&core.db, due.chain, &due.transaction_id).await?;
    Ok(refund_defence::rule(
        &question,
        told.as_ref(),
        &core.defence,
        now,
    ))
}

async fn perform(
    core: &Core,
    due: &Due,
    known: &Known,
    answer: Option<&RefundAnswer>,
    now: Instant,
) -> Result<(), StorageError> {
    let provider = known.state.head.provider;
    let per_second = core.tuning.calls_per_second(provider);
    if !budget::take(&core.db, provider, 1.0, per_second, per_second).await? {
        return duties::wait(&core.db, due.id, now, None, BUDGET_PAUSE).await;
    }
    let breaker = core.breakers.of(provider);
    if !breaker.allows() {
        // Not a failure of this call: none was made.
        return failed(
            core,
            due,
            &FetchError::away("too many failures lately"),
            now,
        )
        .await;
    }
    failpoint::at("before_acknowledge");
    let effect = Effect {
        state: &known.state,
        transaction_id: &due.transaction_id,
        duty: &due.duty,
        answer,
    };
    let catalog = core.catalog.load_full();
    let call = core.stores.perform(effect, &catalog);
    let told = tokio::time::timeout(core.tuning.fetch_timeout, call)
        .await
        .unwrap_or_else(|_| Err(FetchError::away("the store took too long")));
    failpoint::at("after_acknowledge");
    match told {
        Ok(()) => {
            breaker.succeeded();
            let kind = due.duty.kind();
            info!(chain = %due.chain, kind, "the store has been told");
            metrics::counter!("entitled_duties_done_total", "kind" => kind).increment(1);
            duties::close(&core.db, due.id, None, now).await
        }
        Err(cause) => {
            if matches!(cause, FetchError::Away { .. }) {
                breaker.failed();
            }
            failed(core, due, &cause, now).await
        }
    }
}

async fn waive(core: &Core, due: &Due, waiver: Waiver, now: Instant) -> Result<(), StorageError> {
    let (kind, reason) = (due.duty.kind(), waiver.as_str());
    metrics::counter!("entitled_duties_waived_total", "kind" => kind, "reason" => reason)
        .increment(1);
    if waiver.is_failure() {
        error!(chain = %due.chain, kind, deadline = %due.deadline, attempts = due.attempts,
            "a store was not told in time");
    } else {
        info!(chain = %due.chain, kind, reason, "a duty was let go");
    }
    duties::close(&core.db, due.id, Some(reason), now).await
}

async fn failed(
    core: &Core,
    due: &Due,
    cause: &FetchError,
    now: Instant,
) -> Result<(), StorageError> {
    let kind = due.duty.kind();
    metrics::counter!("entitled_duties_failed_total", "kind" => kind).increment(1);
    warn!(chain = %due.chain, kind, attempts = due.attempts, %cause, "a store could not be told");
    let asked_for = match cause {
        FetchError::Away { retry_after, .. } => retry_after.unwrap_or_default(),
        FetchError::Refused(_) | FetchError::Unreadable(_) => core.tuning.backoff_max,
    };
    let pause = pause_after(
        backoff(core, due.attempts),
        asked_for,
        (due.deadline - now).to_std().ok(),
    );
    duties::failed(&core.db, due.id, &cause.to_string(), pause).await
}

/// How long a duty pauses that failed: as the back-off and the store say, but never so long that
/// the last tries before the deadline are missed; `left` is the time until it, if any is left.
fn pause_after(backoff: Duration, asked_for: Duration, left: Option<Duration>) -> Duration {
    let pause = backoff.max(asked_for);
    match left.filter(|left| !left.is_zero()) {
        Some(left) => pause.min((left / 4).max(Duration::from_secs(1))),
        None => pause,
    }
}

/// Doubles with every attempt, with jitter.
fn backoff(core: &Core, attempts: i32) -> Duration {
    let exponent = u32::try_from((attempts - 1).clamp(0, 16)).unwrap_or(16);
    let full = Duration::from_millis(500)
        .saturating_mul(1 << exponent)
        .min(core.tuning.backoff_max);
    full.mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// Wakes somebody for every duty that comes near its deadline without having been carried out, and
/// a day before a store refunds purchases that nobody owns or no product maps.
pub(crate) async fn watch_deadlines(core: &Core) -> Result<(), StorageError> {
    let now = core.clock.now();
    // A question that only the customer can let us answer wakes nobody.
    let near = near_until(now);
    for duty in duties::alarm(&core.db, &near, NAMED_MAX, now).await? {
        error!(chain = %duty.chain, kind = duty.kind, deadline = %duty.deadline,
            attempts = duty.attempts, cause = duty.last_error.as_deref().unwrap_or("not tried"),
            "a store waits for us, and not for long");
    }
    let (count, _) = duties::near_deadline(&core.db, &near).await?;
    metrics::gauge!("entitled_duties_near_deadline").set(count as f64);
    for (kind, open, failing) in duties::open_by_kind(&core.db).await? {
        metrics::gauge!("entitled_duties_open", "kind" => kind.clone()).set(open as f64);
        metrics::gauge!("entitled_duties_failing", "kind" => kind).set(failing as f64);
    }
    let forsaken =
        duties::unacknowledged(&core.db, now - REFUNDED_SINCE, now + ALARM_LEAD_MAX).await?;
    metrics::gauge!("entitled_purchases_about_to_be_refunded").set(forsaken.len() as f64);
    if let Some(first) = forsaken.first() {
        warn!(
            count = forsaken.len(), chain = %first.chain, deadline = %first.deadline,
            "purchases without owner or product will be refunded by their store"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_duty_is_tried_at_the_stores_pace_and_a_near_one_before_its_deadline() {
        let seconds = Duration::from_secs;
        for (backoff, asked_for, left, pause) in [
            (4, 0, Some(3600), 4),
            (600, 0, Some(400), 100),
            (4, 900, Some(86_400), 900),
            (4, 900, Some(400), 100),
            (600, 0, Some(2), 1),
            (600, 0, None, 600),
            (4, 900, None, 900),
            (600, 900, Some(0), 900),
        ] {
            let found = pause_after(seconds(backoff), seconds(asked_for), left.map(seconds));
            assert_eq!(found, seconds(pause), "{backoff} {asked_for} {left:?}");
        }
    }
}
