//! What lies between the stores and a server under test, over HTTP: outages, limits, revocation of
//! certificates, and calls.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::super::Sandbox;
use super::super::app_store::OcspAnswer;
use super::super::delivery::{Store, Webhooks};
use super::super::recent::RecentCall;
use super::super::traffic::{Endpoint, Outage};
use super::body::Body;
use super::{Done, done};

/// So many calls are told, the latest.
const RECENT: usize = 100;

/// An outage to begin, or with none given, to end.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WishedOutage {
    store: Store,
    #[serde(default)]
    outage: Option<Outage>,
}

pub(super) async fn outage(
    State(sandbox): State<Sandbox>,
    Body(wish): Body<WishedOutage>,
) -> StatusCode {
    sandbox.set_outage(wish.store, wish.outage);
    StatusCode::NO_CONTENT
}

/// What each store's API suffers from; those that work are left out.
pub(super) async fn outages(State(sandbox): State<Sandbox>) -> Json<BTreeMap<Store, Outage>> {
    Json(sandbox.inner.traffic.outages())
}

/// What Apple's OCSP responders answer.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ocsp {
    answer: OcspAnswer,
}

pub(super) async fn set_ocsp(State(sandbox): State<Sandbox>, Body(wish): Body<Ocsp>) -> StatusCode {
    sandbox.set_ocsp(wish.answer);
    StatusCode::NO_CONTENT
}

pub(super) async fn ocsp(State(sandbox): State<Sandbox>) -> Json<Ocsp> {
    let answer = sandbox.inner.ocsp();
    Json(Ocsp { answer })
}

/// Whether the stores count calls and refuse those above their limits.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateLimits {
    enforced: bool,
}

pub(super) async fn set_rate_limits(
    State(sandbox): State<Sandbox>,
    Body(wish): Body<RateLimits>,
) -> StatusCode {
    sandbox.enforce_rate_limits(wish.enforced);
    StatusCode::NO_CONTENT
}

pub(super) async fn rate_limits(State(sandbox): State<Sandbox>) -> Json<RateLimits> {
    let enforced = sandbox.inner.limits.is_watching();
    Json(RateLimits { enforced })
}

/// What servers have asked the stores.
#[derive(Serialize)]
pub(super) struct Calls {
    /// How often each endpoint has been called, refused calls included.
    counts: BTreeMap<Endpoint, u64>,
    /// The latest calls, newest first.
    recent: Vec<RecentCall>,
}

pub(super) async fn calls(State(sandbox): State<Sandbox>) -> Json<Calls> {
    Json(Calls {
        counts: sandbox.store_calls(),
        recent: sandbox.inner.recent.latest(RECENT),
    })
}

pub(super) async fn set_webhooks(
    State(sandbox): State<Sandbox>,
    Body(webhooks): Body<Webhooks>,
) -> Done {
    done(sandbox.set_webhooks(webhooks))
}

pub(super) async fn webhooks(State(sandbox): State<Sandbox>) -> Json<Webhooks> {
    Json(sandbox.inner.read(|world, _| world.outbox.webhooks.clone()))
}
