//! The key set of our own tokens, on the listener of the API: plain HTTP, for whoever checks a
//! token or a lease.

use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::{Either, Ready, ready};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

const PATH: &str = "/.well-known/jwks.json";
/// A new key is published an hour before it signs (docs/operations.md): copies may be five minutes
/// old.
const CACHE: &str = "public, max-age=300";

/// Answers for the key set in front of everything that speaks gRPC.
#[derive(Clone, Debug)]
pub(super) struct PublishedKeys(pub(super) Option<Bytes>);

impl<S> Layer<S> for PublishedKeys {
    type Service = WithKeys<S>;

    fn layer(&self, inner: S) -> WithKeys<S> {
        WithKeys {
            keys: self.0.clone(),
            inner,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct WithKeys<S> {
    keys: Option<Bytes>,
    inner: S,
}

impl<S, B> Service<Request<B>> for WithKeys<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<Ready<Result<Response<Body>, S::Error>>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let asked = request.uri().path() == PATH
            && (request.method() == Method::GET || request.method() == Method::HEAD);
        match &self.keys {
            Some(keys) if asked => Either::Left(ready(Ok(document(keys.clone())))),
            Some(_) | None => Either::Right(self.inner.call(request)),
        }
    }
}

fn document(keys: Bytes) -> Response<Body> {
    let mut answer = Response::new(Body::new(http_body_util::Full::new(keys)));
    let headers = answer.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/jwk-set+json"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(CACHE));
    answer
}
