//! The web page that drives the simulator by hand: files compiled in, nothing from elsewhere.

use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

/// Only what is compiled in may run, nobody may frame it, and no data becomes markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Name, media type and content of every file.
const FILES: &[(&str, &str, &str)] = &[
    ("page.css", CSS, include_str!("page.css")),
    ("parts.css", CSS, include_str!("parts.css")),
    ("icon.svg", SVG, include_str!("icon.svg")),
    ("page.js", JS, include_str!("page.js")),
    ("dom.js", JS, include_str!("dom.js")),
    ("api.js", JS, include_str!("api.js")),
    ("format.js", JS, include_str!("format.js")),
    ("clock.js", JS, include_str!("clock.js")),
    ("customers.js", JS, include_str!("customers.js")),
    ("purchases.js", JS, include_str!("purchases.js")),
    ("actions.js", JS, include_str!("actions.js")),
    ("forms.js", JS, include_str!("forms.js")),
    ("buy.js", JS, include_str!("buy.js")),
    ("feed.js", JS, include_str!("feed.js")),
    ("notification.js", JS, include_str!("notification.js")),
    ("network.js", JS, include_str!("network.js")),
    ("calls.js", JS, include_str!("calls.js")),
    ("connect.js", JS, include_str!("connect.js")),
];
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const HTML: &str = "text/html; charset=utf-8";

pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(async || file(HTML, include_str!("index.html"))))
        .route("/page/{name}", get(named))
        .route("/control", get(async || Redirect::permanent("/")))
}

async fn named(Path(name): Path<String>) -> Response {
    let found = FILES.iter().find(|(known, _, _)| *known == name);
    match found {
        Some((_, kind, content)) => file(kind, content),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn file(kind: &'static str, content: &'static str) -> Response {
    let headers: [(HeaderName, &str); 6] = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        // The next version of the simulator has other files under the same names.
        (CACHE_CONTROL, "no-cache"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    (headers, content).into_response()
}
