//! How many calls may be under way at once. Beyond that a call is told to come back at once: one
//! that waits in a queue is late for its caller and still costs what it costs.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use tokio::sync::Semaphore;
use tonic::body::Body;
use tower::{Layer, Service};

use super::policy::{self, Ruling};
use super::status::{self, Reason};

/// Those who are turned away together come back spread over half as long again.
const COME_BACK: Duration = Duration::from_secs(2);

/// Puts the limit in front of every service of a router; a stream counts until it has begun.
#[derive(Clone)]
pub(super) struct ShedLayer(Arc<Semaphore>);

impl ShedLayer {
    pub(super) fn new(calls_max: u32) -> Self {
        let calls_max = usize::try_from(calls_max).unwrap_or(usize::MAX);
        Self(Arc::new(Semaphore::new(
            calls_max.min(Semaphore::MAX_PERMITS),
        )))
    }
}

impl<S> Layer<S> for ShedLayer {
    type Service = Shed<S>;

    fn layer(&self, inner: S) -> Shed<S> {
        Shed {
            inner,
            calls: Arc::clone(&self.0),
        }
    }
}

#[derive(Clone)]
pub(super) struct Shed<S> {
    inner: S,
    calls: Arc<Semaphore>,
}

impl<S, B> Service<Request<B>> for Shed<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // A busy server is healthy: whoever asks is not to send its callers to fewer replicas.
        if matches!(policy::ruling(request.uri().path()), Ruling::NotOurs) {
            return self.inner.call(request).boxed();
        }
        let Ok(permit) = Arc::clone(&self.calls).try_acquire_owned() else {
            metrics::counter!("entitled_calls_shed_total").increment(1);
            let busy = "the server has as many calls under way as it may; try again";
            let refused = status::retryable(Reason::Overloaded, busy, COME_BACK);
            return std::future::ready(Ok(refused.into_http())).boxed();
        };
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await;
            drop(permit);
            answer
        }
        .boxed()
    }
}
