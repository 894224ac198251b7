//! How much one request may hold: every RPC little, and one RPC a list of what the others hold one of.

use std::task::{Context, Poll};

use http::Request;
use tonic::server::NamedService;
use tower::Service;

/// The same service twice: with the usual limit, and with another for one RPC.
#[derive(Clone)]
pub(super) struct LargerFor<S> {
    /// `/package.Service/Rpc`.
    pub(super) path: &'static str,
    pub(super) usual: S,
    pub(super) larger: S,
}

impl<S: NamedService> NamedService for LargerFor<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for LargerFor<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self.usual.poll_ready(cx) {
            Poll::Ready(Ok(())) => self.larger.poll_ready(cx),
            waits_or_fails @ (Poll::Pending | Poll::Ready(Err(_))) => waits_or_fails,
        }
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if request.uri().path() == self.path {
            self.larger.call(request)
        } else {
            self.usual.call(request)
        }
    }
}
