//! Keeps foreign web pages out. The control API asks nobody who they are, so it must not obey a
//! page that the developer happens to have open: neither one that sends requests across origins,
//! nor one whose name was made to point here (DNS rebinding).

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, TRANSFER_ENCODING};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;

use super::super::Sandbox;
use super::problem::Problem;

/// Says where a browser's request comes from; every current browser sends it to loopback.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Middleware: lets a request through only if no foreign page can be behind it.
pub(super) async fn guard(
    State(sandbox): State<Sandbox>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let loopback_only = sandbox.inner.loopback_only;
    let authority = request.uri().authority().cloned();
    check_origin(request.headers(), authority, loopback_only)?;
    check_body(request.method(), request.headers())?;
    let mut response = next.run(request).await;
    let same_origin = HeaderValue::from_static("same-origin");
    response.headers_mut().insert(RESOURCE_POLICY, same_origin);
    Ok(response)
}

/// The name by which the simulator was called must be one that no stranger can point at it, and a
/// page that calls must be the simulator's own.
fn check_origin(
    headers: &HeaderMap,
    authority: Option<Authority>,
    loopback_only: bool,
) -> Result<(), Problem> {
    let host = text(headers, &HOST).map(str::to_owned);
    let host = authority.map(|name| name.to_string()).or(host);
    let host = host.and_then(|host| host.parse::<Authority>().ok());
    let Some(host) = host.filter(|host| trusted(host.host(), loopback_only)) else {
        return Err(Problem::foreign(
            "the Host header is a name that could be somebody else's",
            "Call the simulator by its IP address or as localhost.",
        ));
    };
    let own = format!("http://{host}");
    let foreign = headers.get_all(ORIGIN).iter().any(|origin| origin != &own);
    let across = matches!(text(headers, &FETCH_SITE), Some("cross-site" | "same-site"));
    if foreign || across {
        return Err(Problem::foreign(
            "the request was made by a web page of another origin",
            "Use the simulator's own page, or call the API from a program.",
        ));
    }
    Ok(())
}

/// An address cannot be rebound, and the names of this machine cannot be taken. A simulator that
/// listens beyond loopback is also called by the single-word names that container networks give.
fn trusted(host: &str, loopback_only: bool) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let local = host.eq_ignore_ascii_case("localhost");
    let container = !host.contains('.') || host == "host.docker.internal";
    local || bare.parse::<IpAddr>().is_ok() || (!loopback_only && container)
}

/// A form or a simple request of a page is never JSON.
fn check_body(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let empty = !headers.contains_key(TRANSFER_ENCODING)
        && matches!(text(headers, &CONTENT_LENGTH), None | Some("0"));
    let kind = text(headers, &CONTENT_TYPE);
    let json = kind.is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json")
    });
    match json || (kind.is_none() && empty) {
        true => Ok(()),
        false => Err(Problem::not_json()),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn only_names_that_nobody_else_can_take_are_answered() {
        for (host, alone, beyond) in [
            ("127.0.0.1:4800", true, true),
            ("[::1]:4800", true, true),
            ("localhost:4800", true, true),
            ("LocalHost", true, true),
            ("10.1.2.3:4800", true, true),
            ("sandbox:4800", false, true),
            ("host.docker.internal:4800", false, true),
            ("evil.example:4800", false, false),
            ("localhost.evil.example", false, false),
            ("127.0.0.1.evil.example", false, false),
            ("127.0.0.1@evil.example", false, false),
            ("", false, false),
        ] {
            let named = |loopback_only| {
                check_origin(&headers(&[("host", host)]), None, loopback_only).is_ok()
            };
            assert_eq!((named(true), named(false)), (alone, beyond), "{host}");
        }
        assert!(check_origin(&HeaderMap::new(), None, true).is_err());
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        for (origin, site, answered) in [
            ("http://127.0.0.1:4800", "same-origin", true),
            ("http://127.0.0.1:4801", "same-site", false),
            ("http://127.0.0.1:4801", "same-origin", false),
            ("https://evil.example", "cross-site", false),
            ("http://127.0.0.1:4800", "cross-site", false),
            ("null", "none", false),
        ] {
            let request = headers(&[
                ("host", "127.0.0.1:4800"),
                ("origin", origin),
                ("sec-fetch-site", site),
            ]);
            let checked = check_origin(&request, None, true);
            assert_eq!(checked.is_ok(), answered, "{origin} {site}");
        }
    }

    #[test]
    fn what_a_form_can_send_is_refused() {
        for (kind, answered) in [
            (Some("application/json"), true),
            (Some("application/json; charset=utf-8"), true),
            (Some("text/plain"), false),
            (Some("application/x-www-form-urlencoded"), false),
            (None, false),
        ] {
            let mut request = headers(&[("content-length", "2")]);
            if let Some(kind) = kind {
                request.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            }
            let checked = check_body(&Method::POST, &request);
            assert_eq!(checked.is_ok(), answered, "{kind:?}");
        }
        assert!(check_body(&Method::POST, &HeaderMap::new()).is_ok());
        let chunked = headers(&[("transfer-encoding", "chunked")]);
        assert!(check_body(&Method::POST, &chunked).is_err());
        assert!(check_body(&Method::GET, &headers(&[("content-type", "text/plain")])).is_ok());
    }
}
