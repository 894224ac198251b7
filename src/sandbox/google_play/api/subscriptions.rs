//! Subscriptions: `purchases.subscriptionsv2`, and what is left of `purchases.subscriptions`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::super::inner::Inner;
use super::super::developer::{Acknowledgement, CancellationType};
use super::super::purchase::Purchase;
use super::super::refund::Revocation;
use super::super::resource;
use super::admission::{ACKNOWLEDGE_SUBSCRIPTION, CANCEL, DEFER, GET_SUBSCRIPTION, REVOKE, admit};
use super::error::{CONCURRENT_UPDATE, GoogleError, NO_METHOD, NOT_FOUND, invalid};
use super::{Answer, find, request};

/// `subscriptions.acknowledge`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Acknowledge {
    developer_payload: Option<String>,
    external_account_ids: Option<ExternalAccountIds>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExternalAccountIds {
    obfuscated_account_id: Option<String>,
    obfuscated_profile_id: Option<String>,
}

/// `subscriptionsv2.cancel`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Cancel {
    cancellation_context: CancellationContext,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CancellationContext {
    cancellation_type: CancellationType,
}

/// `subscriptionsv2.defer`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Defer {
    deferral_context: DeferralContext,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeferralContext {
    etag: String,
    defer_duration: String,
    #[serde(default)]
    validate_only: bool,
}

/// `subscriptionsv2.revoke`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Revoke {
    revocation_context: RevocationContext,
}

/// One of them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RevocationContext {
    full_refund: Option<Empty>,
    prorated_refund: Option<Empty>,
    item_based_refund: Option<ItemBasedRefund>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ItemBasedRefund {
    product_id: String,
}

/// `subscriptions.defer`, the older one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeferV1 {
    deferral_info: DeferralInfo,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeferralInfo {
    /// Both are int64: strings of milliseconds.
    desired_expiry_time_millis: String,
    expected_expiry_time_millis: String,
}

/// `subscriptionsv2.get`.
pub(super) async fn get(
    State(inner): State<Arc<Inner>>,
    Path((package, token)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, &GET_SUBSCRIPTION, &headers).await?;
    inner.read(|world, now| {
        let purchase = find(world, &inner, &package, &token, now)?;
        resource::subscription(purchase, &inner.setup, now)
            .map(Json)
            .ok_or(NOT_FOUND)
    })
}

/// `subscriptionsv2.cancel`, `.defer` and `.revoke`.
pub(super) async fn post(
    State(inner): State<Arc<Inner>>,
    Path((package, token_and_verb)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let (token, verb) = request::verb(&token_and_verb)?;
    let method = match verb {
        "cancel" => &CANCEL,
        "defer" => &DEFER,
        "revoke" => &REVOKE,
        _ => return Err(NO_METHOD),
    };
    admit(&inner, method, &headers).await?;
    look(&inner, &package, token, |_| Ok(()))?;
    match verb {
        "cancel" => cancel(&inner, token, &body).await,
        "defer" => defer(&inner, token, &body).await,
        _ => revoke(&inner, token, &body).await,
    }
    .map(Json)
}

async fn cancel(inner: &Inner, token: &str, body: &Bytes) -> Result<Value, GoogleError> {
    let asked: Cancel = request::body(body)?;
    let kind = asked.cancellation_context.cancellation_type;
    inner.change(|turn| turn.google_play_cancel_by_developer(token, kind))?;
    Ok(json!({}))
}

async fn defer(inner: &Inner, token: &str, body: &Bytes) -> Result<Value, GoogleError> {
    let context = request::body::<Defer>(body)?.deferral_context;
    let by = request::duration(&context.defer_duration)
        .ok_or_else(|| invalid("Invalid value at 'deferral_context.defer_duration'"))?;
    let latest = inner.read(|world, _| {
        let purchase = world.google_play.purchases.get(token);
        purchase.is_some_and(|purchase| purchase.etag() == context.etag)
    });
    if !latest {
        return Err(CONCURRENT_UPDATE);
    }
    let deferred = inner
        .change(|turn| turn.google_play_defer(token, &context.etag, by, context.validate_only))?;
    let details = deferred.into_iter().map(
        |(product, expiry)| json!({"productId": product, "expiryTime": resource::time(expiry)}),
    );
    Ok(json!({"itemExpiryTimeDetails": details.collect::<Vec<_>>()}))
}

async fn revoke(inner: &Inner, token: &str, body: &Bytes) -> Result<Value, GoogleError> {
    let context = request::body::<Revoke>(body)?.revocation_context;
    let revocation = match (
        context.full_refund,
        context.prorated_refund,
        context.item_based_refund,
    ) {
        (Some(Empty {}), None, None) => Revocation::Full,
        (None, Some(Empty {}), None) => Revocation::Prorated,
        (None, None, Some(item)) => Revocation::Item(item.product_id),
        _ => return Err(invalid("Exactly one kind of refund must be set.")),
    };
    inner.change(|turn| turn.google_play_revoke(token, &revocation))?;
    Ok(json!({}))
}

/// `subscriptions.acknowledge`, `.cancel` and `.defer`; the subscription id in the path is no
/// longer looked at.
pub(super) async fn post_v1(
    State(inner): State<Arc<Inner>>,
    Path((package, _, token_and_verb)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, GoogleError> {
    let (token, verb) = request::verb(&token_and_verb)?;
    let method = match verb {
        "acknowledge" => &ACKNOWLEDGE_SUBSCRIPTION,
        "cancel" => &CANCEL,
        "defer" => &DEFER,
        _ => return Err(NO_METHOD),
    };
    admit(&inner, method, &headers).await?;
    look(&inner, &package, token, |_| Ok(()))?;
    match verb {
        "acknowledge" => acknowledge(&inner, token, &body)?,
        "cancel" => {
            let kind = CancellationType::UserRequestedStopRenewals;
            inner.change(|turn| turn.google_play_cancel_by_developer(token, kind))?;
        }
        _ => return Ok(Json(defer_v1(&inner, &package, token, &body)?).into_response()),
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn acknowledge(inner: &Inner, token: &str, body: &Bytes) -> Result<(), GoogleError> {
    let body: Acknowledge = request::body(body)?;
    let accounts = body.external_account_ids.unwrap_or_default();
    let said = Acknowledgement {
        account_id: accounts.obfuscated_account_id,
        profile_id: accounts.obfuscated_profile_id,
        payload: body.developer_payload,
    };
    inner.change(|turn| turn.google_play_acknowledge(token, said))?;
    Ok(())
}

/// The older call names the expiry it knows where the newer one sends an entity tag.
fn defer_v1(inner: &Inner, package: &str, token: &str, body: &Bytes) -> Result<Value, GoogleError> {
    let info = request::body::<DeferV1>(body)?.deferral_info;
    let moment = |text: &str| {
        let millis = text.parse().ok();
        let at = millis.and_then(DateTime::from_timestamp_millis);
        at.ok_or_else(|| invalid("Invalid value at 'deferral_info'"))
    };
    let expected: DateTime<Utc> = moment(&info.expected_expiry_time_millis)?;
    let by: TimeDelta = moment(&info.desired_expiry_time_millis)? - expected;
    let (etag, expiry) = look(inner, package, token, |purchase| {
        let expiry = purchase.subscription().and_then(|s| s.expiry());
        Ok((purchase.etag(), expiry))
    })?;
    if expiry != Some(expected) {
        return Err(CONCURRENT_UPDATE);
    }
    let deferred = inner.change(|turn| turn.google_play_defer(token, &etag, by, false))?;
    let latest = deferred.into_iter().map(|(_, expiry)| expiry).max();
    let millis = latest.map(|at| at.timestamp_millis().to_string());
    Ok(json!({"newExpiryTimeMillis": millis}))
}

/// A look at a subscription of this app.
fn look<T>(
    inner: &Inner,
    package: &str,
    token: &str,
    look: impl FnOnce(&Purchase) -> Result<T, GoogleError>,
) -> Result<T, GoogleError> {
    inner.read(|world, now| {
        let purchase = find(world, inner, package, token, now)?;
        match purchase.subscription() {
            Some(_) => look(purchase),
            None => Err(NOT_FOUND),
        }
    })
}
