//! Renewal dates moved into the future: of one subscriber, or of all of a product.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::super::inner::Inner;
use super::super::super::setup::AppStoreKind;
use super::super::super::traffic::Endpoint;
use super::super::action::ExtendReason;
use super::super::extension::{DAYS_MAX, ExtensionRefusal, MassExtension};
use super::admission::admit;
use super::error::{
    AppleError, EXTENDED_TOO_OFTEN, FAMILY_NOT_EXTENSIBLE, INVALID_EXTEND_BY_DAYS,
    INVALID_EXTEND_REASON, INVALID_ORIGINAL_TRANSACTION_ID, INVALID_PRODUCT_ID,
    INVALID_REQUEST_IDENTIFIER, INVALID_STOREFRONT, NO_MASS_EXTENSION, NO_ORIGINAL_TRANSACTION,
    NO_STOREFRONTS, NOT_EXTENSIBLE,
};
use super::{Answer, body, numeric};

/// Characters of a developer's name for a request.
const REQUEST_IDENTIFIER_MAX: usize = 128;

/// Both requests; each field is judged by itself, so that each has its own error.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Wish {
    extend_by_days: Value,
    extend_reason_code: Value,
    request_identifier: Value,
    product_id: Value,
    storefront_country_codes: Value,
}

impl Wish {
    fn days(&self) -> Result<u8, AppleError> {
        let days = self.extend_by_days.as_u64();
        days.and_then(|days| u8::try_from(days).ok())
            .filter(|days| (1..=DAYS_MAX).contains(days))
            .ok_or(INVALID_EXTEND_BY_DAYS)
    }

    fn reason(&self) -> Result<ExtendReason, AppleError> {
        match self.extend_reason_code.as_u64() {
            Some(0) => Ok(ExtendReason::Undeclared),
            Some(1) => Ok(ExtendReason::CustomerSatisfaction),
            Some(2) => Ok(ExtendReason::Other),
            Some(3) => Ok(ExtendReason::ServiceIssueOrOutage),
            Some(_) | None => Err(INVALID_EXTEND_REASON),
        }
    }

    fn request_identifier(&self) -> Result<&str, AppleError> {
        let name = self.request_identifier.as_str();
        name.filter(|name| (1..=REQUEST_IDENTIFIER_MAX).contains(&name.len()))
            .ok_or(INVALID_REQUEST_IDENTIFIER)
    }

    fn storefronts(&self) -> Result<Vec<String>, AppleError> {
        let codes = match &self.storefront_country_codes {
            Value::Null => return Ok(Vec::new()),
            Value::Array(codes) if codes.is_empty() => return Err(NO_STOREFRONTS),
            Value::Array(codes) => codes,
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                return Err(INVALID_STOREFRONT);
            }
        };
        let is_code = |code: &&str| code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase());
        codes
            .iter()
            .map(|code| code.as_str().filter(is_code).map(ToOwned::to_owned))
            .map(|code| code.ok_or(INVALID_STOREFRONT))
            .collect()
    }
}

/// Extend a Subscription Renewal Date.
pub(super) async fn one(
    State(inner): State<Arc<Inner>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer {
    admit(&inner, Endpoint::AppleExtend, &headers).await?;
    numeric(&id, INVALID_ORIGINAL_TRANSACTION_ID)?;
    let wish: Wish = body(&bytes)?;
    let days = wish.days()?;
    wish.reason()?;
    wish.request_identifier()?;
    inner.read(|world, _| {
        let chain = world.app_store.chains.get(&id);
        let chain = chain.ok_or(NO_ORIGINAL_TRANSACTION)?;
        match chain.subscription.is_some() {
            true => Ok(()),
            false => Err(NOT_EXTENSIBLE),
        }
    })?;
    let extended = inner.change(|turn| turn.app_store_extend(&id, days))?;
    let extended = extended.map_err(|refusal| match refusal {
        ExtensionRefusal::IneligibleState => NOT_EXTENSIBLE,
        ExtensionRefusal::MaximumReached => EXTENDED_TOO_OFTEN,
        ExtensionRefusal::FamilyShared => FAMILY_NOT_EXTENSIBLE,
    })?;
    Ok(Json(json!({
        "originalTransactionId": id,
        "webOrderLineItemId": extended.web_order_line_item_id,
        "success": true,
        "effectiveDate": extended.effective_date.timestamp_millis(),
    })))
}

/// Extend Subscription Renewal Dates for All Active Subscribers.
pub(super) async fn mass(
    State(inner): State<Arc<Inner>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer {
    admit(&inner, Endpoint::AppleMassExtend, &headers).await?;
    let wish: Wish = body(&bytes)?;
    let request = MassExtension {
        request_identifier: wish.request_identifier()?.to_owned(),
        product_id: wish
            .product_id
            .as_str()
            .filter(|id| is_subscription(&inner, id))
            .ok_or(INVALID_PRODUCT_ID)?
            .to_owned(),
        days: wish.days()?,
        reason: wish.reason()?,
        storefronts: wish.storefronts()?,
    };
    let answer = json!({"requestIdentifier": request.request_identifier});
    inner.change(|turn| turn.app_store_extend_mass(request))?;
    Ok(Json(answer))
}

fn is_subscription(inner: &Inner, product_id: &str) -> bool {
    let product = inner.setup.app_store_product(product_id);
    product.is_some_and(|product| match product.kind {
        AppStoreKind::AutoRenewable { .. } => true,
        AppStoreKind::NonRenewing | AppStoreKind::NonConsumable | AppStoreKind::Consumable => false,
    })
}

/// Get Status of Subscription Renewal Date Extensions.
pub(super) async fn mass_status(
    State(inner): State<Arc<Inner>>,
    Path((product_id, request_identifier)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, Endpoint::AppleMassExtendStatus, &headers).await?;
    inner.read(|world, _| {
        let found = world.app_store.mass_extension(&request_identifier);
        let found = found
            .filter(|found| found.request.product_id == product_id)
            .ok_or(NO_MASS_EXTENSION)?;
        Ok(Json(json!({
            "requestIdentifier": request_identifier,
            "complete": true,
            "completeDate": found.completed_at.timestamp_millis(),
            "succeededCount": found.succeeded,
            "failedCount": found.failed,
        })))
    })
}
