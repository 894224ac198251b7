//! The clock over HTTP: what it shows, how it runs, and journeys through time.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::super::Sandbox;
use super::super::clockwork::check_calendar;
use super::super::error::SandboxError;
use super::super::period::Period;
use super::body::{Body, Params};
use super::problem::Problem;
use crate::clock::ClockReading;

/// A leg of a journey should take about so long: between two legs a journey can be stopped and
/// others can act.
const LEG: Duration = Duration::from_millis(200);
/// How long a follower waits for a change.
const PATIENCE: Duration = Duration::from_secs(20);
/// A year in a second.
const RATE_MAX: f64 = 31_536_000.0;
/// The first leg is this part of the whole way.
const FIRST_LEG: i32 = 16;

/// The clock being moved from one moment to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(in crate::sandbox) struct Journey {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

/// How the clock runs.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// It stands until it is moved.
    Stopped,
    /// As fast as the machine's.
    Real,
    /// At another rate.
    Scaled,
}

impl Mode {
    fn of(rate: f64) -> Self {
        if rate <= 0.0 {
            Self::Stopped
        } else if (rate - 1.0).abs() < f64::EPSILON {
            Self::Real
        } else {
            Self::Scaled
        }
    }
}

/// What the clock shows.
#[derive(Serialize)]
pub(super) struct ClockView {
    /// Time, rate, and what else a follower needs.
    #[serde(flatten)]
    reading: ClockReading,
    mode: Mode,
    /// When the next thing is due at a store or to be delivered.
    next_event_at: Option<DateTime<Utc>>,
    /// The journey under way.
    advancing: Option<Journey>,
    /// How far it has come, from 0 to 1.
    progress: Option<f64>,
}

impl ClockView {
    pub(super) fn of(sandbox: &Sandbox) -> Self {
        let inner = &sandbox.inner;
        let reading = inner.clock.reading();
        let advancing = *inner.journey.borrow();
        Self {
            reading,
            mode: Mode::of(reading.rate),
            next_event_at: inner.read(|world, _| world.agenda.next()),
            advancing,
            progress: advancing.map(|journey| {
                let whole = (journey.to - journey.from).as_seconds_f64();
                ((reading.now - journey.from).as_seconds_f64() / whole).clamp(0.0, 1.0)
            }),
        }
    }
}

/// A follower waits for the next change.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    /// The version that it knows: the answer comes when it is another, or after 20 seconds.
    after: Option<u64>,
}

pub(super) async fn show(
    State(sandbox): State<Sandbox>,
    Params(since): Params<Since>,
) -> Json<ClockView> {
    if let Some(version) = since.after {
        let changed = sandbox.inner.clock.changed_since(version, PATIENCE);
        tokio::select! {
            () = changed => {}
            () = sandbox.stop.cancelled() => {}
        }
    }
    Json(ClockView::of(&sandbox))
}

/// How the clock is to run.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Run {
    mode: Mode,
    /// Business seconds in a second of the machine's; for [`Mode::Scaled`].
    #[serde(default)]
    rate: Option<f64>,
}

impl Run {
    fn rate(&self) -> Result<f64, Problem> {
        match (self.mode, self.rate) {
            (Mode::Stopped, None) => Ok(0.0),
            (Mode::Real, None) => Ok(1.0),
            (Mode::Scaled, Some(rate)) if rate > 0.0 && rate <= RATE_MAX => Ok(rate),
            (Mode::Scaled, _) => Err(Problem::malformed(
                "`rate` must be more than 0 and at most 31536000 (a year in a second)",
            )),
            (Mode::Stopped | Mode::Real, Some(_)) => Err(Problem::malformed(
                "unknown field `rate`: only the mode `scaled` has one",
            )),
        }
    }
}

/// Stops the clock or lets it run.
pub(super) async fn set(
    State(sandbox): State<Sandbox>,
    Body(run): Body<Run>,
) -> Result<Json<ClockView>, Problem> {
    sandbox.set_rate(run.rate()?);
    Ok(Json(ClockView::of(&sandbox)))
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Landmark {
    /// The next thing that is due at a store or to be delivered.
    NextEvent,
}

/// A journey: where to, in one of three ways, and whether to wait for its end.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Advance {
    /// To a moment.
    #[serde(default)]
    to: Option<DateTime<Utc>>,
    /// By a calendar period.
    #[serde(default)]
    by: Option<Period>,
    /// To something that is going to happen.
    #[serde(default)]
    until: Option<Landmark>,
    #[serde(default = "yes")]
    wait: bool,
}

const fn yes() -> bool {
    true
}

impl Advance {
    fn destination(&self, sandbox: &Sandbox) -> Result<DateTime<Utc>, Problem> {
        match (&self.to, &self.by, &self.until) {
            (Some(to), None, None) => Ok(*to),
            (None, Some(by), None) => Ok(by.after(sandbox.now())),
            (None, None, Some(Landmark::NextEvent)) => sandbox
                .inner
                .read(|world, _| world.agenda.next())
                .ok_or_else(Problem::nothing_due),
            _ => Err(Problem::malformed(
                "say where to: one of `to` (a moment), `by` (a period) and `until` (`next_event`)",
            )),
        }
    }
}

/// Moves the clock; answers when everything on the way has happened, or at once if not waited for.
/// A caller who hangs up does not stop it.
pub(super) async fn advance(
    State(sandbox): State<Sandbox>,
    Body(wish): Body<Advance>,
) -> Result<(StatusCode, Json<ClockView>), Problem> {
    let journey = Journey {
        from: sandbox.now(),
        to: wish.destination(&sandbox)?,
    };
    check_calendar(journey.to)?;
    let mut busy = false;
    sandbox.inner.journey.send_if_modified(|current| {
        busy = current.is_some();
        if !busy {
            *current = Some(journey);
        }
        !busy
    });
    if busy {
        return Err(Problem::travelling());
    }
    let traveller = sandbox.clone();
    let arrived = sandbox.tasks.spawn(async move {
        let arrived = travel(&traveller, journey).await;
        end(&traveller, journey);
        arrived
    });
    if !wish.wait {
        return Ok((StatusCode::ACCEPTED, Json(ClockView::of(&sandbox))));
    }
    match arrived.await {
        Ok(arrived) => arrived?,
        Err(_) => return Err(Problem::interrupted()),
    }
    Ok((StatusCode::OK, Json(ClockView::of(&sandbox))))
}

/// Forgets the journey, unless it was stopped and another has begun.
fn end(sandbox: &Sandbox, journey: Journey) {
    sandbox.inner.journey.send_if_modified(|current| {
        let mine = *current == Some(journey);
        if mine {
            *current = None;
        }
        mine
    });
    sandbox.inner.changed.send_replace(());
}

/// Goes in legs, until there or stopped.
async fn travel(sandbox: &Sandbox, journey: Journey) -> Result<(), SandboxError> {
    let mut leg = (journey.to - journey.from) / FIRST_LEG;
    loop {
        let started = Instant::now();
        let now = sandbox.now();
        let next = match leg < journey.to - now {
            true => now + leg,
            false => journey.to,
        };
        tokio::select! {
            () = sandbox.stop.cancelled() => return Ok(()),
            arrived = sandbox.advance_to(next) => arrived?,
        }
        sandbox.inner.changed.send_replace(());
        let stopped = *sandbox.inner.journey.borrow() != Some(journey);
        if stopped || next == journey.to {
            return Ok(());
        }
        if started.elapsed() < LEG {
            leg = leg * 2;
        } else if started.elapsed() > LEG * 4 {
            leg = (leg / 2).max(TimeDelta::minutes(1));
        }
    }
}

/// Ends a journey where it has come to.
pub(super) async fn stop(State(sandbox): State<Sandbox>) -> Json<ClockView> {
    sandbox.inner.journey.send_replace(None);
    Json(ClockView::of(&sandbox))
}
