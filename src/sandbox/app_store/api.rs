//! The App Store Server API over HTTP.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::super::error::SandboxError;
use super::super::inner::Inner;
use super::super::jws::machine_seconds;
use super::super::setup::StoreSetup;
use super::super::state::World;
use super::super::traffic::{Endpoint, Refusal};
use super::auth::Expected;
use super::lifecycle::Chain;
use super::ocsp;
use super::payload;

/// Transactions on one page of a history.
const PAGE: usize = 20;
/// How long a rate-limited caller is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(in crate::sandbox) fn routes() -> Router<Arc<Inner>> {
    Router::new()
        .route("/inApps/v1/transactions/{id}", get(transaction))
        .route("/inApps/v1/subscriptions/{id}", get(statuses))
        .route("/inApps/v2/refund/lookup/{id}", get(refunds))
        .route("/inApps/v1/notifications/test", post(test_notification))
        .route("/inApps/v1/notifications/test/{token}", get(test_status))
        .merge(ocsp::routes())
}

/// An answer that is not the one hoped for.
#[derive(Debug)]
enum AppleError {
    /// No or no valid token: Apple answers without a body.
    Unauthorized,
    /// Apple's error code and text; the code's first three digits are the status.
    Code(u32, &'static str),
    RateLimited,
    Unavailable,
    Internal,
}

impl From<Refusal> for AppleError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unavailable => Self::Unavailable,
            Refusal::RateLimited => Self::RateLimited,
            Refusal::AccountNotFound => {
                Self::Code(4_040_002, "Account not found. Please try again.")
            }
            Refusal::PurchaseNotFound => Self::Code(
                4_040_006,
                "Original transaction id not found. Please try again.",
            ),
        }
    }
}

impl From<SandboxError> for AppleError {
    fn from(error: SandboxError) -> Self {
        tracing::error!(%error, "the simulated App Store failed");
        Self::Internal
    }
}

impl IntoResponse for AppleError {
    fn into_response(self) -> Response {
        let (code, message) = match self {
            Self::Unauthorized => return StatusCode::UNAUTHORIZED.into_response(),
            Self::Unavailable => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
            Self::Code(code, message) => (code, message),
            Self::RateLimited => (4_290_000, "Rate limit exceeded."),
            Self::Internal => (5_000_000, "An unknown error occurred."),
        };
        let status = u16::try_from(code / 10_000)
            .ok()
            .and_then(|status| StatusCode::from_u16(status).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = Json(json!({"errorCode": code, "errorMessage": message}));
        let mut response = (status, body).into_response();
        if status == StatusCode::TOO_MANY_REQUESTS {
            // Absolute milliseconds, unlike everybody else's Retry-After.
            let at = (SystemTime::now() + RETRY_AFTER)
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |age| age.as_millis());
            if let Ok(value) = HeaderValue::from_str(&at.to_string()) {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
        }
        response
    }
}

type Answer = Result<Json<Value>, AppleError>;

const NO_TRANSACTION: AppleError = AppleError::Code(4_040_010, "Transaction id not found.");

/// Counts the call, plays an outage, and checks the caller's token.
async fn admit(inner: &Inner, endpoint: Endpoint, headers: &HeaderMap) -> Result<(), AppleError> {
    inner.traffic.admit(endpoint).await?;
    let expected = Expected {
        key: &inner.keys.apple_api,
        issuer_id: &inner.keys.apple_issuer_id,
        bundle_id: &inner.setup.bundle_id,
    };
    let authorization = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    match expected.admits(authorization, machine_seconds()) {
        true => Ok(()),
        false => Err(AppleError::Unauthorized),
    }
}

fn numeric(id: &str) -> Result<(), AppleError> {
    match !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Ok(()),
        false => Err(AppleError::Code(4_000_006, "Invalid transaction id.")),
    }
}

async fn transaction(
    State(inner): State<Arc<Inner>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, Endpoint::AppleTransaction, &headers).await?;
    numeric(&id)?;
    inner.read(|world, now| {
        if world.app_store.is_app_transaction(&id) {
            let message = "The app transaction id is not supported.";
            return Err(AppleError::Code(4_000_048, message));
        }
        let chain = world
            .app_store
            .chain_by_transaction(&id)
            .ok_or(NO_TRANSACTION)?;
        let found = chain.transaction(&id).ok_or(NO_TRANSACTION)?;
        let payload = payload::transaction(chain, found, &inner.setup, world.read_stamp(now))?;
        Ok(Json(
            json!({"signedTransactionInfo": inner.keys.apple.sign(&payload)?}),
        ))
    })
}

async fn statuses(
    State(inner): State<Arc<Inner>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, Endpoint::AppleStatuses, &headers).await?;
    numeric(&id)?;
    let wanted = wanted_statuses(query.as_deref())?;
    inner.read(|world, now| {
        let customer = world.app_store.customer_by_any(&id).ok_or(NO_TRANSACTION)?;
        let mut groups: Vec<(&str, Vec<Value>)> = Vec::new();
        for chain in world.app_store.chains_of(customer) {
            let (Some(subscription), Some(status)) = (&chain.subscription, chain.status(now))
            else {
                continue;
            };
            if !wanted.is_empty() && !wanted.contains(&status) {
                continue;
            }
            let item = status_item(&inner, world, chain, status, now)?;
            match groups
                .iter_mut()
                .find(|(group, _)| *group == subscription.group)
            {
                Some((_, items)) => items.push(item),
                None => groups.push((&subscription.group, vec![item])),
            }
        }
        let data: Vec<Value> = groups
            .into_iter()
            .map(|(group, items)| {
                json!({"subscriptionGroupIdentifier": group, "lastTransactions": items})
            })
            .collect();
        Ok(Json(json!({
            "environment": inner.setup.environment.as_str(),
            "bundleId": inner.setup.bundle_id,
            "appAppleId": inner.setup.app_apple_id,
            "data": data,
        })))
    })
}

/// The `status` parameters; none means all. Apple's Node library sends a bare `?`.
fn wanted_statuses(query: Option<&str>) -> Result<Vec<u8>, AppleError> {
    query
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.strip_prefix("status="))
        .map(|value| match value.parse() {
            Ok(status @ 1..=5) => Ok(status),
            _ => Err(AppleError::Code(4_000_031, "Invalid status.")),
        })
        .collect()
}

fn status_item(
    inner: &Inner,
    world: &World,
    chain: &Chain,
    status: u8,
    now: DateTime<Utc>,
) -> Result<Value, AppleError> {
    let signed_at = world.read_stamp(now);
    let latest = chain.latest().ok_or(NO_TRANSACTION)?;
    let transaction = payload::transaction(chain, latest, &inner.setup, signed_at)?;
    let renewal = payload::renewal(chain, &world.app_store.shelf(&inner.setup), signed_at)?.unwrap_or_default();
    Ok(json!({
        "status": status,
        "originalTransactionId": chain.original_transaction_id,
        "signedTransactionInfo": inner.keys.apple.sign(&transaction)?,
        "signedRenewalInfo": inner.keys.apple.sign(&renewal)?,
    }))
}

async fn refunds(
    State(inner): State<Arc<Inner>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, Endpoint::AppleRefunds, &headers).await?;
    numeric(&id)?;
    let start = revision(query.as_deref())?;
    inner.read(|world, now| {
        let customer = world.app_store.customer_by_any(&id).ok_or(NO_TRANSACTION)?;
        let signed_at = world.read_stamp(now);
        let all = refunded(world, customer, &inner.setup, signed_at)?;
        let page = all.iter().skip(start).take(PAGE);
        let signed = page
            .map(|payload| inner.keys.apple.sign(payload))
            .collect::<Result<Vec<_>, _>>()?;
        let end = start.min(all.len()) + signed.len();
        Ok(Json(json!({
            "signedTransactions": signed,
            "revision": format!("r_{end}"),
            "hasMore": end < all.len(),
        })))
    })
}

/// Position to read on from; opaque to callers.
fn revision(query: Option<&str>) -> Result<usize, AppleError> {
    let stated = query
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("revision="))
        .filter(|value| !value.is_empty());
    let Some(stated) = stated else { return Ok(0) };
    stated
        .strip_prefix("r_")
        .and_then(|number| number.parse().ok())
        .ok_or(AppleError::Code(4_000_005, "Invalid request revision."))
}

/// Payloads of all refunded transactions of a customer, in the order of their refunds.
fn refunded(
    world: &World,
    customer: &str,
    setup: &StoreSetup,
    signed_at: DateTime<Utc>,
) -> Result<Vec<Value>, SandboxError> {
    let mut found: Vec<_> = world
        .app_store
        .chains_of(customer)
        .flat_map(|chain| chain.transactions.iter().map(move |t| (chain, t)))
        .filter_map(|(chain, t)| Some((t.revoked_at()?, chain, t)))
        .collect();
    found.sort_by(|(a, _, x), (b, _, y)| a.cmp(b).then_with(|| x.id.cmp(&y.id)));
    found
        .into_iter()
        .map(|(_, chain, t)| payload::transaction(chain, t, setup, signed_at))
        .collect()
}

async fn test_notification(State(inner): State<Arc<Inner>>, headers: HeaderMap) -> Answer {
    admit(&inner, Endpoint::AppleTestNotification, &headers).await?;
    if inner.read(|world, _| world.outbox.webhooks.app_store.is_none()) {
        let message = "No App Store Server Notification URL found.";
        return Err(AppleError::Code(4_040_007, message));
    }
    let token = inner.change(|turn| turn.app_store_test())?;
    Ok(Json(json!({"testNotificationToken": token})))
}

async fn test_status(
    State(inner): State<Arc<Inner>>,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, Endpoint::AppleTestStatus, &headers).await?;
    let invalid = AppleError::Code(4_000_020, "Invalid test notification token.");
    let (id, _) = token.split_once('_').ok_or(invalid)?;
    inner.read(|world, _| {
        let missing = AppleError::Code(4_040_008, "Test notification not found.");
        let found = world.outbox.find(id).ok_or(missing)?;
        let body: Value =
            serde_json::from_str(&found.record.body).map_err(SandboxError::Corrupt)?;
        let attempts: Vec<Value> = found
            .record
            .attempts
            .iter()
            .map(|attempt| {
                json!({
                    "attemptDate": attempt.at.timestamp_millis(),
                    "sendAttemptResult": attempt.result,
                })
            })
            .collect();
        Ok(Json(
            json!({"signedPayload": body["signedPayload"], "sendAttempts": attempts}),
        ))
    })
}
