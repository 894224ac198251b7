//! The latest calls of servers to the stores, for people who look.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::inner::Inner;

const KEPT_MAX: usize = 200;

/// A call to a store's API and how it was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct RecentCall {
    /// Business time of the answer.
    pub(super) at: DateTime<Utc>,
    pub(super) method: String,
    /// The path without its query, which may hold what is nobody's business.
    pub(super) path: String,
    pub(super) status: u16,
    /// Milliseconds of machine time from the request to its answer.
    pub(super) latency_millis: u64,
}

/// The latest calls, oldest first.
#[derive(Default)]
pub(super) struct RecentCalls(Mutex<VecDeque<RecentCall>>);

impl RecentCalls {
    fn push(&self, call: RecentCall) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() == KEPT_MAX {
            calls.pop_front();
        }
        calls.push_back(call);
    }

    /// The latest `limit` calls, newest first.
    pub(super) fn latest(&self, limit: usize) -> Vec<RecentCall> {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().rev().take(limit).cloned().collect()
    }
}

/// Middleware: remembers the call.
pub(super) async fn remember(
    State(inner): State<Arc<Inner>>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let method = request.method().to_string();
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    inner.recent.push(RecentCall {
        at: inner.clock.now(),
        method,
        path,
        status: response.status().as_u16(),
        latency_millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    inner.changed.send_replace(());
    response
}
