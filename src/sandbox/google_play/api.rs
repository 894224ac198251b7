//! The Google Play Developer API over HTTP, with the token endpoint and key set beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Form, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::super::error::SandboxError;
use super::super::inner::Inner;
use super::super::jws::machine_seconds;
use super::super::state::World;
use super::super::traffic::{Endpoint, Refusal};
use super::purchase::Purchase;
use super::resource;

/// A purchase can be read this long after it has expired.
const READABLE_DAYS: i64 = 60;
/// Shorter texts cannot be a purchase token.
const TOKEN_CHARS_MIN: usize = 20;

pub(in crate::sandbox) fn routes() -> Router<Arc<Inner>> {
    let app = "/androidpublisher/v3/applications/{package}";
    Router::new()
        .route("/token", post(token))
        .route("/oauth2/v3/certs", get(certs))
        .route(
            &format!("{app}/purchases/subscriptionsv2/tokens/{{token}}"),
            get(subscription),
        )
        .route(
            &format!("{app}/purchases/productsv2/tokens/{{token}}"),
            get(product),
        )
        .route(
            &format!("{app}/purchases/subscriptions/{{product}}/tokens/{{token_and_verb}}"),
            post(subscription_verb),
        )
        .route(
            &format!("{app}/purchases/products/{{product}}/tokens/{{token_and_verb}}"),
            post(product_verb),
        )
        .route(&format!("{app}/orders/{{order}}"), get(order))
}

/// An answer that is not the one hoped for, in Google's error shape.
#[derive(Debug)]
struct GoogleError {
    code: StatusCode,
    status: &'static str,
    reason: &'static str,
    message: &'static str,
}

const fn error(
    code: StatusCode,
    status: &'static str,
    reason: &'static str,
    message: &'static str,
) -> GoogleError {
    GoogleError {
        code,
        status,
        reason,
        message,
    }
}

const UNAUTHORIZED: GoogleError = error(
    StatusCode::UNAUTHORIZED,
    "UNAUTHENTICATED",
    "authError",
    "Invalid Credentials",
);
const INVALID: GoogleError = error(
    StatusCode::BAD_REQUEST,
    "INVALID_ARGUMENT",
    "invalid",
    "Invalid Value",
);
const MISMATCH: GoogleError = error(
    StatusCode::BAD_REQUEST,
    "INVALID_ARGUMENT",
    "purchaseTokenMismatch",
    "The purchase token does not match the package name.",
);
const NOT_FOUND: GoogleError = error(
    StatusCode::NOT_FOUND,
    "NOT_FOUND",
    "purchaseTokenNotFound",
    "The purchase token was not found.",
);
const ORDER_NOT_FOUND: GoogleError = error(
    StatusCode::NOT_FOUND,
    "NOT_FOUND",
    "notFound",
    "The order was not found.",
);
const GONE: GoogleError = error(
    StatusCode::GONE,
    "FAILED_PRECONDITION",
    "subscriptionPurchaseNoLongerAvailable",
    "The subscription purchase is no longer available for query because it has been expired for too long.",
);

impl From<Refusal> for GoogleError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unavailable => error(
                StatusCode::SERVICE_UNAVAILABLE,
                "UNAVAILABLE",
                "backendError",
                "The service is currently unavailable.",
            ),
            Refusal::RateLimited => error(
                StatusCode::TOO_MANY_REQUESTS,
                "RESOURCE_EXHAUSTED",
                "rateLimitExceeded",
                "Quota exceeded.",
            ),
            Refusal::AccountNotFound | Refusal::PurchaseNotFound => NOT_FOUND,
        }
    }
}

impl From<SandboxError> for GoogleError {
    fn from(failure: SandboxError) -> Self {
        match failure {
            SandboxError::UnknownPurchase => NOT_FOUND,
            SandboxError::Refused(_) => INVALID,
            failure @ (SandboxError::Listen(_)
            | SandboxError::Storage(_)
            | SandboxError::Corrupt(_)
            | SandboxError::Encode(_)
            | SandboxError::Key(_)
            | SandboxError::Client(_)
            | SandboxError::UnknownProduct(_)
            | SandboxError::UnknownNotification) => {
                tracing::error!(error = %failure, "simulated Google Play failed");
                error(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "INTERNAL",
                    "backendError",
                    "Backend Error",
                )
            }
        }
    }
}

impl IntoResponse for GoogleError {
    fn into_response(self) -> Response {
        let body = json!({"error": {
            "code": self.code.as_u16(),
            "message": self.message,
            "status": self.status,
            "errors": [{"domain": "global", "reason": self.reason, "message": self.message}],
        }});
        (self.code, Json(body)).into_response()
    }
}

type Answer = Result<Json<Value>, GoogleError>;

/// Counts the call, plays an outage, and checks the caller's bearer token.
async fn admit(inner: &Inner, endpoint: Endpoint, headers: &HeaderMap) -> Result<(), GoogleError> {
    inner.traffic.admit(endpoint).await?;
    let authorization = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    match inner.google_tokens.admits(authorization) {
        true => Ok(()),
        false => Err(UNAUTHORIZED),
    }
}

async fn token(
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

async fn certs(State(inner): State<Arc<Inner>>) -> Response {
    // A key set has no outage here; the call is counted all the same.
    let _ = inner.traffic.admit(Endpoint::GoogleKeys).await;
    let cached = HeaderValue::from_static("public, max-age=3600");
    let body = Json(json!({"keys": [inner.keys.push.jwk()]}));
    ([(header::CACHE_CONTROL, cached)], body).into_response()
}

/// The purchase, if the package is ours and the token is known and still readable.
fn find<'a>(
    world: &'a World,
    inner: &Inner,
    package: &str,
    token: &str,
    now: DateTime<Utc>,
) -> Result<&'a Purchase, GoogleError> {
    if token.len() < TOKEN_CHARS_MIN {
        return Err(INVALID);
    }
    let purchase = world.google_play.purchases.get(token).ok_or(NOT_FOUND)?;
    if package != inner.setup.package_name {
        return Err(MISMATCH);
    }
    let readable = TimeDelta::days(READABLE_DAYS);
    let expired = purchase.subscription().map(|s| s.expiry);
    match expired {
        Some(expiry) if !purchase.entitles(now) && expiry + readable < now => Err(GONE),
        _ => Ok(purchase),
    }
}

async fn subscription(
    State(inner): State<Arc<Inner>>,
    Path((package, token)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, Endpoint::GoogleSubscription, &headers).await?;
    inner.read(|world, now| {
        let purchase = find(world, &inner, &package, &token, now)?;
        resource::subscription(purchase, &inner.setup, now)
            .map(Json)
            .ok_or(NOT_FOUND)
    })
}

async fn product(
    State(inner): State<Arc<Inner>>,
    Path((package, token)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, Endpoint::GoogleProduct, &headers).await?;
    inner.read(|world, now| {
        let purchase = find(world, &inner, &package, &token, now)?;
        resource::product(purchase, &inner.setup)
            .map(Json)
            .ok_or(NOT_FOUND)
    })
}

/// `tokens/{token}:acknowledge` of subscriptions.
async fn subscription_verb(
    State(inner): State<Arc<Inner>>,
    Path((package, _, token_and_verb)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, GoogleError> {
    let Some((token, "acknowledge")) = token_and_verb.rsplit_once(':') else {
        return Err(NOT_FOUND);
    };
    admit(&inner, Endpoint::GoogleAcknowledge, &headers).await?;
    let subscribed = inner.read(|world, now| {
        find(world, &inner, &package, token, now).map(|p| p.subscription().is_some())
    })?;
    if !subscribed {
        return Err(NOT_FOUND);
    }
    let body: Value = match body.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&body).map_err(|_| INVALID)?,
    };
    let account = body["externalAccountIds"]["obfuscatedAccountId"].as_str();
    let account = account.map(ToOwned::to_owned);
    inner.change(|turn| turn.google_play_acknowledge(token, account))?;
    Ok(StatusCode::NO_CONTENT)
}

/// `tokens/{token}:acknowledge` and `:consume` of one-time products.
async fn product_verb(
    State(inner): State<Arc<Inner>>,
    Path((package, product, token_and_verb)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, GoogleError> {
    let (token, verb) = token_and_verb.rsplit_once(':').ok_or(NOT_FOUND)?;
    let (endpoint, consume) = match verb {
        "acknowledge" => (Endpoint::GoogleAcknowledge, false),
        "consume" => (Endpoint::GoogleConsume, true),
        _ => return Err(NOT_FOUND),
    };
    admit(&inner, endpoint, &headers).await?;
    inner.read(|world, now| {
        let purchase = find(world, &inner, &package, token, now)?;
        match purchase.subscription().is_none() && purchase.product_id == product {
            true => Ok(()),
            false => Err(NOT_FOUND),
        }
    })?;
    inner.change(|turn| match consume {
        true => turn.google_play_consume(token),
        false => turn.google_play_acknowledge(token, None),
    })?;
    Ok(StatusCode::NO_CONTENT)
}

async fn order(
    State(inner): State<Arc<Inner>>,
    Path((package, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, Endpoint::GoogleOrder, &headers).await?;
    if package != inner.setup.package_name {
        return Err(ORDER_NOT_FOUND);
    }
    inner.read(|world, _| {
        let purchases = world.google_play.purchases.values();
        purchases
            .flat_map(|purchase| purchase.orders.iter().map(move |order| (purchase, order)))
            .find(|(_, order)| order.id == id)
            .map(|(purchase, order)| Json(resource::order(purchase, order)))
            .ok_or(ORDER_NOT_FOUND)
    })
}
