//! JSON over HTTP beside gRPC: every RPC of the descriptor set, by one rule (`routes`), carried to
//! the very same services in process. A request becomes a gRPC call, its answer JSON, its refusal
//! problem details, a stream server-sent events. Nothing here knows any single RPC.

mod events;
mod frames;
mod kept;
mod openapi;
mod pages;
mod problem;
mod request;
mod routes;
mod schema;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::{BoxFuture, Either, FutureExt as _};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use prost_reflect::{DescriptorPool, DynamicMessage};
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tower::{Layer, Service, ServiceExt as _};

use self::events::Position;
use self::pages::Pages;
use self::problem::Problem;
use self::routes::{PREFIX, Route, Routes};
use crate::grpc::convert;
use crate::grpc::guard::GuardLayer;
use crate::proto;

pub(crate) use self::pages::openapi;
#[cfg(test)]
pub(super) use self::problem::REASONS;

const JSON: &str = "application/json";
const GET_POST: &str = "GET, POST";
/// The listener's own time-out answers as gRPC does; ours comes before it.
const OF_THE_LISTENERS_TIME: f64 = 0.95;
/// Of this connection or of the JSON; the rest goes along: credentials, addresses, traces.
const NOT_CARRIED: [HeaderName; 12] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::IF_NONE_MATCH,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("prefer"),
];

type Refused = Box<Problem>;

/// Puts the JSON API in front of the services.
#[derive(Clone)]
pub(super) struct TranscodeLayer(Arc<Api>);

struct Api {
    routes: Routes,
    pages: Pages,
    guard: GuardLayer,
    /// How much the body of a call of this gRPC path may hold.
    body_bytes_max: fn(&str) -> usize,
    time_max: Duration,
}

impl TranscodeLayer {
    /// `request_timeout` is the listener's.
    pub(super) fn new(
        guard: GuardLayer,
        body_bytes_max: fn(&str) -> usize,
        request_timeout: Duration,
    ) -> anyhow::Result<Self> {
        let pool = DescriptorPool::decode(proto::DESCRIPTORS)?;
        Ok(Self(Arc::new(Api {
            routes: Routes::of(&pool)?,
            pages: Pages::of(&pool)?,
            guard,
            body_bytes_max,
            time_max: request_timeout.mul_f64(OF_THE_LISTENERS_TIME),
        })))
    }
}

impl<S> Layer<S> for TranscodeLayer {
    type Service = Transcode<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Transcode {
            inner,
            api: Arc::clone(&self.0),
        }
    }
}

/// The services with the JSON API in front.
#[derive(Clone)]
pub(super) struct Transcode<S> {
    inner: S,
    api: Arc<Api>,
}

impl<S> Service<Request<Body>> for Transcode<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !request.uri().path().starts_with(PREFIX) {
            return Either::Left(self.inner.call(request));
        }
        let api = Arc::clone(&self.api);
        // The copy has not been asked whether it is ready; `oneshot` asks.
        let inner = self.inner.clone();
        let answer = async move {
            let answer = api.answer(inner, request).await;
            Ok(answer.unwrap_or_else(|problem| problem.into_response()))
        };
        Either::Right(answer.boxed())
    }
}

impl Api {
    async fn answer<S>(&self, inner: S, request: Request<Body>) -> Result<Response<Body>, Refused>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let path = request.uri().path();
        if let Some(page) = self.pages.get(path) {
            return match *request.method() {
                Method::GET => Ok(page),
                _ => Err(Problem::method_not_allowed("GET").into()),
            };
        }
        let route = self.routes.get(path).ok_or_else(Problem::path_unknown)?;
        let time = self.time(request.headers());
        let call = self.call(inner, route, request, time);
        tokio::time::timeout(time, call)
            .await
            .unwrap_or_else(|_| Err(Problem::deadline().into()))
    }

    async fn call<S>(
        &self,
        inner: S,
        route: &Route,
        request: Request<Body>,
        time: Duration,
    ) -> Result<Response<Body>, Refused>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let (mut parts, body) = request.into_parts();
        if parts.method != Method::POST && !(route.reads && parts.method == Method::GET) {
            let allow = if route.reads { GET_POST } else { "POST" };
            return Err(Problem::method_not_allowed(allow).into());
        }
        // Nothing is read for whoever may not call.
        let grpc = route.grpc.path();
        let admitted = self.guard.admits(grpc, &parts.headers).await;
        if let Some(admitted) = admitted.map_err(|status| Problem::of(&status))? {
            parts.extensions.insert(admitted);
        }
        let mut message = self.read(route, &parts, body).await?;
        // Answers to a POST are kept by nobody.
        let kept = (route.kept && parts.method == Method::GET).then(|| parts.headers.clone());
        let last_event_id = parts.headers.get("last-event-id");
        let last_event_id = last_event_id.and_then(|it| it.to_str().ok());
        let position = route
            .streams()
            .then(|| Position::of(&mut message, last_event_id));
        parts.headers = carried(parts.headers, time);
        parts.method = Method::POST;
        parts.version = Version::HTTP_2;
        parts.uri = http::Uri::from(route.grpc.clone());
        let call = Request::from_parts(parts, framed(&message)?);
        let answer = match inner.oneshot(call).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        let (mut parts, body) = answer.into_parts();
        refusal(Some(&parts.headers))?;
        parts.headers.remove(header::CONTENT_TYPE);
        let output = route.method.output();
        let mut response = match position {
            Some(position) => {
                let mut response = document(events::MEDIA_TYPE, Bytes::new());
                // Proxies that gather what they pass on would hold events back.
                let no = HeaderValue::from_static("no");
                response.headers_mut().insert("x-accel-buffering", no);
                *response.body_mut() = events::events(output, body, position);
                response
            }
            None => {
                let collected = body.collect().await.map_err(|it| Problem::of(&it))?;
                refusal(collected.trailers())?;
                let mut bytes = BytesMut::from(&collected.to_bytes()[..]);
                let json = frames::take(&mut bytes)
                    .and_then(|message| frames::to_json(output, message))
                    .ok_or_else(|| Problem::of(&Status::internal("an answer without a message")))?;
                kept.and_then(|asked| kept::answer(&json, &asked))
                    .unwrap_or_else(|| document(JSON, json.into()))
            }
        };
        response.headers_mut().extend(parts.headers);
        Ok(response)
    }

    /// The request's message, out of its query or its body.
    async fn read(
        &self,
        route: &Route,
        parts: &Parts,
        body: Body,
    ) -> Result<DynamicMessage, Refused> {
        let descriptor = route.method.input();
        let query = parts.uri.query().unwrap_or_default();
        if parts.method == Method::GET {
            return request::from_query(descriptor, query);
        }
        if !query.is_empty() {
            let words = "a POST takes its request in the body, and no query";
            return Err(Problem::invalid(words).into());
        }
        if parts.headers.contains_key(header::CONTENT_ENCODING) {
            return Err(Problem::content_type().into());
        }
        let bytes_max = (self.body_bytes_max)(route.grpc.path());
        let body = match Limited::new(body, bytes_max).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(Problem::too_large().into());
            }
            Err(_) => return Err(Problem::invalid("the body broke off").into()),
        };
        if !body.is_empty() && !is_json(&parts.headers) {
            return Err(Problem::content_type().into());
        }
        request::from_json(descriptor, &body)
    }

    /// How long the caller waits, by RFC 7240's `Prefer: wait=SECONDS` or as gRPC says it.
    fn time(&self, headers: &HeaderMap) -> Duration {
        let grpc = headers.contains_key("grpc-timeout").then(|| {
            let metadata = MetadataMap::from_headers(headers.clone());
            convert::patience(&metadata)
        });
        [wait(headers), grpc.flatten()]
            .into_iter()
            .flatten()
            .fold(self.time_max, Duration::min)
    }
}

fn wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all("prefer").iter();
    preferences
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .find_map(|preference| {
            let (name, value) = preference.split_once('=')?;
            let seconds = value.trim().trim_matches('"').parse().ok()?;
            name.trim()
                .eq_ignore_ascii_case("wait")
                .then(|| Duration::from_secs(seconds))
        })
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let Ok(value) = value.to_str() else {
        return false;
    };
    let mut parts = value.split(';').map(str::trim);
    let named = parts.next().is_some_and(|it| it.eq_ignore_ascii_case(JSON));
    // JSON is UTF-8; any other parameter says nothing to us.
    named
        && parts.all(|parameter| {
            let charset = parameter.split_once('=');
            charset.is_none_or(|(name, value)| {
                !name.trim().eq_ignore_ascii_case("charset")
                    || value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
            })
        })
}

/// The headers that a call carries on.
fn carried(mut headers: HeaderMap, time: Duration) -> HeaderMap {
    for name in NOT_CARRIED {
        headers.remove(name);
    }
    let grpc: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("grpc-"))
        .cloned()
        .collect();
    for name in grpc {
        headers.remove(name);
    }
    let grpc = HeaderValue::from_static("application/grpc");
    headers.insert(header::CONTENT_TYPE, grpc);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    // Handlers that wait for a store learn how long.
    let millis = time.as_millis().min(99_999_999);
    if let Ok(timeout) = HeaderValue::try_from(format!("{millis}m")) {
        headers.insert("grpc-timeout", timeout);
    }
    headers
}

fn framed(message: &DynamicMessage) -> Result<Body, Refused> {
    let bytes = frames::framed(message).ok_or_else(|| Problem::invalid("is too long"))?;
    Ok(Body::new(Full::new(bytes).map_err(|never| match never {})))
}

/// The refusal that headers or trailers tell.
fn refusal(headers: Option<&HeaderMap>) -> Result<(), Refused> {
    match headers.and_then(Status::from_header_map) {
        Some(status) if status.code() != Code::Ok => Err(Problem::of(&status).into()),
        Some(_) | None => Ok(()),
    }
}

/// An answer that nobody between us and the caller keeps.
fn document(media_type: &'static str, bytes: Bytes) -> Response<Body> {
    let body = Full::new(bytes).map_err(|never| match never {});
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )])
    }

    #[test]
    fn the_callers_wait_is_read_as_rfc_7240_writes_it() {
        let table = [
            ("wait=10", Some(10)),
            ("respond-async, wait=3", Some(3)),
            ("Wait=\"7\"; foo=bar", Some(7)),
            ("wait", None),
            ("wait=-1", None),
            ("waits=1", None),
        ];
        for (value, seconds) in table {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(wait(&headers("prefer", value)), expected, "{value}");
        }
    }

    #[test]
    fn json_is_known_by_its_media_type() {
        let table = [
            ("application/json", true),
            ("Application/JSON; charset=UTF-8", true),
            ("application/json; charset=utf-16", false),
            ("application/json+grpc", false),
            ("text/plain", false),
        ];
        for (value, expected) in table {
            assert_eq!(
                is_json(&headers("content-type", value)),
                expected,
                "{value}"
            );
        }
        assert!(!is_json(&HeaderMap::new()));
    }

    #[test]
    fn a_call_carries_the_credential_and_nothing_of_the_connection() {
        let mut sent = headers("authorization", "Bearer x");
        sent.append("x-forwarded-for", HeaderValue::from_static("203.0.113.7"));
        sent.append("connection", HeaderValue::from_static("keep-alive"));
        sent.append("grpc-encoding", HeaderValue::from_static("gzip"));
        sent.append("content-type", HeaderValue::from_static(JSON));
        let carried = carried(sent, Duration::from_secs(3));
        assert_eq!(carried["authorization"], "Bearer x");
        assert_eq!(carried["x-forwarded-for"], "203.0.113.7");
        assert_eq!(carried["grpc-timeout"], "3000m");
        assert_eq!(carried["content-type"], "application/grpc");
        assert!(!carried.contains_key("connection") && !carried.contains_key("grpc-encoding"));
    }
}
