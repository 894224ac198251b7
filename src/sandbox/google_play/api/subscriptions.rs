//! Subscriptions: `purchases.subscriptionsv2`, and what is left of `purchases.subscriptions`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::super::super::inner::Inner;
use super::super::resource;
use super::admission::{ACKNOWLEDGE_SUBSCRIPTION, GET_SUBSCRIPTION, admit};
use super::error::{GoogleError, NO_METHOD, NOT_FOUND};
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

/// `subscriptions.acknowledge`; the subscription id in the path is no longer looked at.
pub(super) async fn post_v1(
    State(inner): State<Arc<Inner>>,
    Path((package, _, token_and_verb)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, GoogleError> {
    let (token, "acknowledge") = request::verb(&token_and_verb)? else {
        return Err(NO_METHOD);
    };
    admit(&inner, &ACKNOWLEDGE_SUBSCRIPTION, &headers).await?;
    check(&inner, &package, token)?;
    let body: Acknowledge = request::body(&body)?;
    let accounts = body.external_account_ids.unwrap_or_default();
    inner.change(|turn| {
        let account = accounts.obfuscated_account_id;
        turn.google_play_acknowledge(token, account, accounts.obfuscated_profile_id)
    })?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses tokens that name no subscription of this app.
fn check(inner: &Inner, package: &str, token: &str) -> Result<(), GoogleError> {
    inner.read(|world, now| {
        let purchase = find(world, inner, package, token, now)?;
        purchase.subscription().map(|_| ()).ok_or(NOT_FOUND)
    })
}
