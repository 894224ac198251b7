//! The token endpoint, and the keys that verify the tokens on Google's pushes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Form, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SerialNumber, date_time_ymd};
use serde_json::{Value, json};

use super::super::super::error::SandboxError;
use super::super::super::inner::Inner;
use super::super::super::jws::{SigningKey, machine_seconds};
use super::super::super::traffic::Endpoint;
use super::error::GoogleError;

/// Years, from 1 January, between which the certificate around the key is valid.
const YEARS: (i32, i32) = (2020, 2045);

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

/// `/oauth2/v1/certs`: the keys in certificates, by key id.
pub(super) async fn certificates(State(inner): State<Arc<Inner>>) -> Result<Response, GoogleError> {
    let key = &inner.keys.push;
    let certificate = certificate(key)?;
    Ok(published(&inner, json!({key.kid.as_str(): certificate})).await)
}

async fn published(inner: &Inner, body: Value) -> Response {
    // A key set has no outage here; the call is counted all the same.
    let _ = inner.traffic.admit(Endpoint::GoogleKeys).await;
    let cached = HeaderValue::from_static("public, max-age=3600");
    ([(header::CACHE_CONTROL, cached)], Json(body)).into_response()
}

/// A certificate that the key has signed for itself, in PEM.
fn certificate(key: &SigningKey) -> Result<String, SandboxError> {
    let pair = KeyPair::try_from(key.pkcs8())?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "federated-signon.sandbox");
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.not_before = date_time_ymd(YEARS.0, 1, 1);
    params.not_after = date_time_ymd(YEARS.1, 1, 1);
    params.serial_number = Some(SerialNumber::from(1));
    Ok(params.self_signed(&pair)?.pem())
}
