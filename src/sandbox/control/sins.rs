//! The network's sins and the pace of a run over HTTP.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::super::Sandbox;
use super::super::delivery::{Source, Store};
use super::super::pace::{Pace, Progress};
use super::super::sins::{CallSin, DeliverySin, Sins};
use super::body::Body;
use super::problem::Problem;
use super::{Done, done};

pub(super) async fn show(State(sandbox): State<Sandbox>) -> Json<Sins> {
    Json(sandbox.sins())
}

/// All chances anew; those that are left out become nothing.
pub(super) async fn set(State(sandbox): State<Sandbox>, Body(sins): Body<Sins>) -> Done {
    match sins.fault() {
        Some(fault) => Err(Problem::malformed(fault)),
        None => done(sandbox.set_sins(sins)),
    }
}

/// What the next notifications suffer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NextDeliveries {
    #[serde(default)]
    source: Option<Source>,
    suffer: DeliverySin,
    #[serde(default = "once")]
    count: u32,
}

/// What the next calls of a store's API suffer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NextCalls {
    #[serde(default)]
    store: Option<Store>,
    suffer: CallSin,
    #[serde(default = "once")]
    count: u32,
}

const fn once() -> u32 {
    1
}

pub(super) async fn next_deliveries(
    State(sandbox): State<Sandbox>,
    Body(next): Body<NextDeliveries>,
) -> Done {
    done(sandbox.sin_next_deliveries(next.source, next.suffer, next.count))
}

pub(super) async fn next_calls(
    State(sandbox): State<Sandbox>,
    Body(next): Body<NextCalls>,
) -> StatusCode {
    sandbox.sin_next_calls(next.store, next.suffer, next.count);
    StatusCode::NO_CONTENT
}

/// Sends now whatever is late, overtaken, repeated or tried again.
pub(super) async fn flush(State(sandbox): State<Sandbox>) -> Done {
    done(sandbox.flush_deliveries().await)
}

/// How events follow each other, and what has been played.
#[derive(Serialize)]
pub(super) struct Run {
    pace: Pace,
    progress: Progress,
}

pub(super) async fn run(State(sandbox): State<Sandbox>) -> Json<Run> {
    let progress = *sandbox.progress().borrow();
    Json(Run {
        pace: sandbox.pace(),
        progress,
    })
}

/// How events are to follow each other, and who is asked between them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WishedRun {
    #[serde(default)]
    pace: Option<Pace>,
    /// Where the server under test says whether it is idle; an empty text asks nobody.
    #[serde(default)]
    idle_url: Option<String>,
}

pub(super) async fn set_run(
    State(sandbox): State<Sandbox>,
    Body(wish): Body<WishedRun>,
) -> Json<Run> {
    if let Some(pace) = wish.pace {
        sandbox.set_pace(pace);
    }
    if let Some(url) = wish.idle_url {
        sandbox.set_idle_url(Some(url).filter(|url| !url.is_empty()));
    }
    run(State(sandbox)).await
}
