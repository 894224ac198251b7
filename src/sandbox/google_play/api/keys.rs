//! The token endpoint, and the keys that verify the tokens on Google's pushes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Form, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::super::inner::Inner;
use super::super::super::jws::machine_seconds;
use super::super::super::traffic::Endpoint;
use super::error::GoogleError;

/// `POST /token`: a signed assertion for a bearer token.
pub(super) async fn token(
    State(inner): State<Arc<Inner>>,
    Form(form): Form<BTreeMap<String, String>>,
) -> Response {
    if let Err(refusal) = inner.traffic.admit(Endpoint::GoogleToken).await {
        return GoogleError::from(refusal).into_response();
    }
    let own_url = format!("{}/google/token", inner.base_url);
    let key = &inner.keys.service_account;
    match inner
        .google_tokens
        .grant(&form, key, &own_url, machine_seconds())
    {
        Ok(body) => Json(body).into_response(),
        Err(body) => (StatusCode::BAD_REQUEST, Json(body)).into_response(),
    }
}

/// `/oauth2/v3/certs`: the keys as a JWK set.
pub(super) async fn jwks(State(inner): State<Arc<Inner>>) -> Response {
    published(&inner, json!({"keys": [inner.keys.push.jwk()]})).await
}

async fn published(inner: &Inner, body: Value) -> Response {
    // A key set has no outage here; the call is counted all the same.
    let _ = inner.traffic.admit(Endpoint::GoogleKeys).await;
    let cached = HeaderValue::from_static("public, max-age=3600");
    ([(header::CACHE_CONTROL, cached)], Json(body)).into_response()
}
