//! A simulator without a listener: its stores are called, and heard, inside the process. Millions
//! of signals need no socket.

use axum::Router;
use axum::body::{self, Body};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{Request, Response};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::delivery::NotificationRecord;
use super::error::SandboxError;
use super::setup::Options;
use super::{Sandbox, server};

/// The port of an address at which nobody listens.
const NOWHERE: u16 = 9;
/// Longer answers are no store's.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The stores' APIs as a caller inside the process reaches them.
#[derive(Clone)]
pub struct Line(Router);

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line")
    }
}

impl Line {
    /// One call: what a request to the simulator's address would be answered.
    ///
    /// # Errors
    /// The answer breaks off, which takes a fault of the simulator.
    pub async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, SandboxError> {
        let answer = match self.0.clone().oneshot(request.map(Body::from)).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        let (parts, body) = answer.into_parts();
        let body = body::to_bytes(body, BODY_BYTES_MAX)
            .await
            .map_err(|_| SandboxError::Refused("the answer broke off"))?;
        Ok(Response::from_parts(parts, body))
    }
}

impl Sandbox {
    /// A simulator that nobody outside the process reaches. Nothing runs by itself: time passes by
    /// [`Sandbox::advance_to`], and what the stores say is taken by [`Sandbox::told_since`].
    ///
    /// # Errors
    /// The keys cannot be made.
    pub async fn in_process(options: Options) -> Result<Self, SandboxError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, NOWHERE));
        Ok(Self {
            inner: Arc::new(server::build(options, address).await?),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// The stores' APIs, to be called inside the process.
    pub fn line(&self) -> Line {
        Line(server::stores(self))
    }

    /// What the stores have said after the first `heard` notifications, oldest first.
    pub fn told_since(&self, heard: usize) -> Vec<NotificationRecord> {
        self.inner.read(|world, _| {
            let all = world.outbox.all().skip(heard);
            all.map(|notification| notification.record.clone())
                .collect()
        })
    }

    /// When something happens next at a store by itself, if anything does.
    pub fn next_event(&self) -> Option<DateTime<Utc>> {
        self.inner.read(|world, _| world.agenda.next())
    }
}
