//! Where a request enters: native gRPC goes straight to its service, everything else (browsers,
//! JSON, documents) through the layers that only it needs. Either runs where handlers run, away from
//! the thread that moves the connection's bytes.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, Version, header};
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::transport::server::TcpConnectInfo;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceExt as _};

use super::deadline;

/// What answers requests.
pub(super) type Services = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The way in, of all connections or of one.
#[derive(Clone)]
pub(super) struct Entry {
    /// Behind the guard, and nothing else.
    native: Services,
    /// The same behind all layers.
    all: Services,
    handlers: Handle,
    time_max: Duration,
    /// Whose connection it is.
    peer: Option<TcpConnectInfo>,
}

impl Entry {
    /// `handlers`: the runtime that calls run on. A call that takes longer than `time_max` is ended.
    pub(super) fn new(
        native: Services,
        all: Services,
        handlers: Handle,
        time_max: Duration,
    ) -> Self {
        Self {
            native,
            all,
            handlers,
            time_max,
            peer: None,
        }
    }

    /// The way in for one connection.
    pub(super) fn of(&self, peer: TcpConnectInfo) -> Self {
        Self {
            peer: Some(peer),
            ..self.clone()
        }
    }

    fn handled(&self, request: Request<Incoming>) -> Handled {
        let mut request = request.map(Body::new);
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(peer.clone());
        }
        let services = if is_native(&request) {
            self.native.clone()
        } else {
            self.all.clone()
        };
        let told = deadline::told(request.headers());
        let time = told.map_or(self.time_max, |told| told.min(self.time_max));
        let call = deadline::within(time, services.oneshot(request));
        Handled(AbortOnDropHandle::new(self.handlers.spawn(call)))
    }
}

impl hyper::service::Service<Request<Incoming>> for Entry {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Handled;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.handled(request)
    }
}

/// gRPC as clients without a browser speak it: no page has to be told what it may read.
fn is_native<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_2
        && request.method() == Method::POST
        && is_grpc(request.headers())
        && !request.headers().contains_key(header::ORIGIN)
}

/// `application/grpc`, with or without the name of its encoding.
fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    content_type
        .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+"))
}

/// A call that is under way on the handlers' runtime; it ends with this.
pub(super) struct Handled(AbortOnDropHandle<Result<Response<Body>, Infallible>>);

impl Future for Handled {
    type Output = Result<Response<Body>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A handler that panicked has no answer: the stream is reset, the connection lives on.
        Poll::Ready(match ready!(Pin::new(&mut self.0).poll(context)) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(never)) => match never {},
            Err(died) => Err(died.into()),
        })
    }
}
