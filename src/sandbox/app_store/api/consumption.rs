//! Send Consumption Information: what the developer answers when Apple weighs a refund.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;
use uuid::Uuid;

use super::super::super::inner::Inner;
use super::super::super::traffic::Endpoint;
use super::super::payload::{ProductType, product_type};
use super::admission::admit;
use super::body;
use super::error::{
    AppleError, BAD_REQUEST, FAMILY_TRANSACTION, INVALID_ACCOUNT_TENURE, INVALID_APP_ACCOUNT_TOKEN,
    INVALID_CONSUMPTION_STATUS, INVALID_DELIVERY_STATUS, INVALID_DOLLARS_PURCHASED,
    INVALID_DOLLARS_REFUNDED, INVALID_PLATFORM, INVALID_PLAY_TIME, INVALID_REFUND_PREFERENCE,
    INVALID_SAMPLE_CONTENT, INVALID_USER_STATUS, NOT_CONSENTED, PERCENTAGE_OF_SUBSCRIPTION,
    TYPE_NOT_SUPPORTED,
};
use super::transactions::only_transaction;

const DELIVERED: &str = "DELIVERED";
const UNDELIVERED: [&str; 4] = [
    "UNDELIVERED_QUALITY_ISSUE",
    "UNDELIVERED_WRONG_ITEM",
    "UNDELIVERED_SERVER_OUTAGE",
    "UNDELIVERED_OTHER",
];
const REFUND_PREFERENCES: [&str; 3] = ["DECLINE", "GRANT_FULL", "GRANT_PRORATED"];
/// All of it, in thousandths of a percent.
const WHOLE: u64 = 100_000;

/// Version 2, for every kind of product.
pub(super) async fn version_2(
    inner: State<Arc<Inner>>,
    id: Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<StatusCode, AppleError> {
    send(inner, id, headers, bytes, check_version_2).await
}

/// Version 1, deprecated; for consumables and auto-renewable subscriptions.
pub(super) async fn version_1(
    inner: State<Arc<Inner>>,
    id: Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<StatusCode, AppleError> {
    send(inner, id, headers, bytes, check_version_1).await
}

async fn send(
    State(inner): State<Arc<Inner>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
    check: fn(&Value, ProductType) -> Result<(), AppleError>,
) -> Result<StatusCode, AppleError> {
    admit(&inner, Endpoint::AppleConsumption, &headers).await?;
    let answer: Value = body(&bytes)?;
    if !answer.is_object() {
        return Err(BAD_REQUEST);
    }
    inner.read(|world, _| {
        let (chain, found) = only_transaction(world, &id)?;
        if chain.sharing.is_shared() {
            return Err(FAMILY_TRANSACTION);
        }
        check(&answer, product_type(chain, found, &inner.setup))
    })?;
    inner.change(|turn| turn.app_store_record_consumption(&id, answer))?;
    Ok(StatusCode::ACCEPTED)
}

fn check_version_2(answer: &Value, kind: ProductType) -> Result<(), AppleError> {
    check_consent(answer)?;
    let status = answer["deliveryStatus"].as_str();
    let delivered = match status {
        Some(DELIVERED) => true,
        Some(status) if UNDELIVERED.contains(&status) => false,
        Some(_) | None => return Err(INVALID_DELIVERY_STATUS),
    };
    let preference = &answer["refundPreference"];
    let known = preference.as_str();
    if !preference.is_null() && !known.is_some_and(|known| REFUND_PREFERENCES.contains(&known)) {
        return Err(INVALID_REFUND_PREFERENCE);
    }
    let percentage = &answer["consumptionPercentage"];
    if percentage.is_null() {
        return Ok(());
    }
    if kind == ProductType::AutoRenewable {
        return Err(PERCENTAGE_OF_SUBSCRIPTION);
    }
    // Both of these have a name at Apple, but no number that is published.
    match percentage.as_u64() {
        Some(0) => Ok(()),
        Some(percentage) if delivered && percentage <= WHOLE => Ok(()),
        Some(_) | None => Err(BAD_REQUEST),
    }
}

fn check_consent(answer: &Value) -> Result<(), AppleError> {
    if answer["customerConsented"] != true {
        return Err(NOT_CONSENTED);
    }
    match answer["sampleContentProvided"].is_boolean() {
        true => Ok(()),
        false => Err(INVALID_SAMPLE_CONTENT),
    }
}

fn check_version_1(answer: &Value, kind: ProductType) -> Result<(), AppleError> {
    match kind {
        ProductType::Consumable | ProductType::AutoRenewable => {}
        ProductType::NonConsumable | ProductType::NonRenewing => return Err(TYPE_NOT_SUPPORTED),
    }
    check_consent(answer)?;
    for (field, most, error) in [
        ("accountTenure", 7, INVALID_ACCOUNT_TENURE),
        ("consumptionStatus", 3, INVALID_CONSUMPTION_STATUS),
        ("deliveryStatus", 5, INVALID_DELIVERY_STATUS),
        ("lifetimeDollarsPurchased", 7, INVALID_DOLLARS_PURCHASED),
        ("lifetimeDollarsRefunded", 7, INVALID_DOLLARS_REFUNDED),
        ("platform", 2, INVALID_PLATFORM),
        ("playTime", 7, INVALID_PLAY_TIME),
        ("userStatus", 4, INVALID_USER_STATUS),
    ] {
        if answer[field].as_u64().is_none_or(|value| value > most) {
            return Err(error);
        }
    }
    let preference = &answer["refundPreference"];
    if !preference.is_null() && preference.as_u64().is_none_or(|value| value > 3) {
        return Err(INVALID_REFUND_PREFERENCE);
    }
    let token = answer["appAccountToken"].as_str();
    match token.is_some_and(|token| token.is_empty() || Uuid::try_parse(token).is_ok()) {
        true => Ok(()),
        false => Err(INVALID_APP_ACCOUNT_TOKEN),
    }
}
