//! Where a request enters: warm reads are answered at once; native gRPC goes straight to its service,
//! everything else (browsers, JSON, documents) through the layers that only it needs. Both run where
//! handlers run, away from the thread that moves the connection's bytes.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming};
use tokio::runtime::Handle;
use tokio::time::Sleep;
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::transport::server::TcpConnectInfo;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt as _};

use super::answer::{Answer, Resumed};
use super::deadline;
use super::untaken::{Open, Untaken};
use super::warm::{self, WarmReads};

/// For the body of a read that may be warm, once its headers are here: within one packet, mostly.
const BODY_WITHIN: Duration = Duration::from_millis(500);

/// What answers requests.
pub(super) type Services = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The way in.
#[derive(Clone)]
pub(super) struct Entry {
    /// Asked first, where there are any.
    pub(super) warm: Option<WarmReads>,
    /// Behind the guard, and nothing else.
    pub(super) native: Services,
    /// The same behind all layers.
    pub(super) all: Services,
    /// The runtime that handlers run on.
    pub(super) handlers: Handle,
    /// A call that takes longer is ended.
    pub(super) time_max: Duration,
}

impl Entry {
    /// The way in of one connection.
    pub(super) fn of(&self, peer: TcpConnectInfo, untaken: Untaken) -> ConnectionEntry {
        ConnectionEntry(Arc::new(OfConnection {
            entry: self.clone(),
            peer,
            untaken,
        }))
    }
}

/// The way in of one connection: its requests touch no count that other threads touch.
#[derive(Clone)]
pub(super) struct ConnectionEntry(Arc<OfConnection>);

pub(super) struct OfConnection {
    entry: Entry,
    peer: TcpConnectInfo,
    /// Its answers that nobody has taken.
    untaken: Untaken,
}

impl OfConnection {
    fn handle(&self, mut request: Request<Body>, is_native: bool) -> Handled {
        request.extensions_mut().insert(self.peer.clone());
        let services = match is_native {
            true => self.entry.native.clone(),
            false => self.entry.all.clone(),
        };
        let time_max = self.entry.time_max;
        let told = deadline::told(request.headers());
        let time = told.map_or(time_max, |told| told.min(time_max));
        let (path, untaken) = (request.uri().path().to_owned(), self.untaken.clone());
        let call = deadline::within(time, services.oneshot(request));
        let counted = async move {
            call.await.map(|answer| {
                let open = untaken.count(&path, &answer);
                (answer, open)
            })
        };
        AbortOnDropHandle::new(self.entry.handlers.spawn(counted))
    }
}

impl hyper::service::Service<Request<Incoming>> for ConnectionEntry {
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (parts, body) = request.into_parts();
        Answering::Arrived(Some(Box::new(Arrived {
            connection: Arc::clone(&self.0),
            parts,
            body,
            read: Bytes::new(),
            late: None,
        })))
    }
}

/// A call on the handlers' runtime; it ends with this.
type Handled = AbortOnDropHandle<Result<(Response<Body>, Option<Open>), Infallible>>;

/// An answer on its way.
pub(super) enum Answering {
    /// Nobody has looked at the request; a warm read's body is on its way.
    Arrived(Option<Box<Arrived>>),
    Handled(Handled),
}

/// A request, and what has been read of its body.
pub(super) struct Arrived {
    connection: Arc<OfConnection>,
    parts: Parts,
    body: Incoming,
    read: Bytes,
    /// When the ordinary way waits for the rest of the body. Not begun as long as nothing is waited
    /// for.
    late: Option<Pin<Box<Sleep>>>,
}

/// How the body of a read that may be warm stands.
enum Stands {
    Whole,
    /// More is needed, and will be told.
    Waiting,
    /// It is not for us: too large, broken off, or too slow.
    Otherwise,
}

impl Future for Answering {
    type Output = Result<Response<Answer>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Self::Arrived(arrived) = &mut *self
            && let Some(mut request) = arrived.take()
        {
            let is_native = is_native(&request.parts);
            let connection = Arc::clone(&request.connection);
            if is_native
                && let Some(warm) = &connection.entry.warm
                && WarmReads::may_answer(&request.parts)
            {
                match request.read_body(context) {
                    Stands::Whole => {
                        let answer = warm.answer(&request.parts.headers, &request.read);
                        if let Some(message) = answer {
                            let open = connection.untaken.begin();
                            return Poll::Ready(Ok(Answer::warm(message, open)));
                        }
                    }
                    Stands::Waiting => {
                        *arrived = Some(request);
                        return Poll::Pending;
                    }
                    Stands::Otherwise => {}
                }
            }
            let handled = connection.handle(request.resumed(), is_native);
            *self = Self::Handled(handled);
        }
        let Self::Handled(handled) = &mut *self else {
            return Poll::Pending;
        };
        // A handler that panicked has no answer: the stream is reset, the connection lives on.
        Poll::Ready(match ready!(Pin::new(handled).poll(context)) {
            Ok(Ok((answer, open))) => Ok(answer.map(|body| Answer::Handled(body, open))),
            Ok(Err(never)) => match never {},
            Err(died) => Err(died.into()),
        })
    }
}

impl Arrived {
    /// Reads a body that is thought to be small; what is read is kept, for whoever answers.
    fn read_body(&mut self, context: &mut Context<'_>) -> Stands {
        loop {
            if self.body.is_end_stream() {
                return Stands::Whole;
            }
            if self.read.len() > warm::BODY_BYTES_MAX {
                return Stands::Otherwise;
            }
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(more) if self.read.is_empty() => self.read = more,
                    Ok(more) => {
                        let mut both = BytesMut::from(&self.read[..]);
                        both.extend_from_slice(&more);
                        self.read = both.freeze();
                    }
                    Err(_trailers) => return Stands::Otherwise,
                },
                Poll::Ready(None) => return Stands::Whole,
                Poll::Ready(Some(Err(_))) => return Stands::Otherwise,
                Poll::Pending => {
                    let late = || Box::pin(tokio::time::sleep(BODY_WITHIN));
                    let late = self.late.get_or_insert_with(late);
                    return match late.as_mut().poll(context) {
                        Poll::Ready(()) => Stands::Otherwise,
                        Poll::Pending => Stands::Waiting,
                    };
                }
            }
        }
    }

    /// The request as it came.
    fn resumed(self) -> Request<Body> {
        let body = match self.read.is_empty() {
            true => Body::new(self.body),
            false => Body::new(Resumed {
                first: self.read,
                rest: self.body,
            }),
        };
        Request::from_parts(self.parts, body)
    }
}

/// gRPC as clients without a browser speak it: no page has to be told what it may read.
fn is_native(request: &Parts) -> bool {
    request.version == Version::HTTP_2
        && request.method == Method::POST
        && is_grpc(&request.headers)
        && !request.headers.contains_key(header::ORIGIN)
}

/// Lets calls through that say they are gRPC's, and answers others 415, as gRPC over HTTP/2 asks for.
pub(super) async fn only_grpc(
    services: impl Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    if request.method() != Method::POST || is_grpc(request.headers()) {
        return services.oneshot(request).await;
    }
    let mut refused = Response::new(Body::empty());
    *refused.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Ok(refused)
}

/// `application/grpc`, with or without the name of its encoding.
fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    content_type
        .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+"))
}
