//! Orders: `orders.get`, `.batchget`, `.refund` and `.reviewrefund`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::super::inner::Inner;
use super::super::super::state::World;
use super::super::refund::{Cause, RefundPreference};
use super::super::resource;
use super::admission::{GET_ORDER, REFUND, REVIEW_REFUND, admit};
use super::error::{GoogleError, NO_METHOD, ORDER_NOT_FOUND, invalid};
use super::request::Parameters;
use super::{Answer, request};

/// Orders that one call may ask for.
const BATCH_MAX: usize = 1_000;

/// `consumptionPercentageMilliunits` of all.
const CONSUMED_MAX: u32 = 100_000;
/// Usage events that a review may list.
const EVENTS_MAX: usize = 1_000;
/// Length of a usage event's description in characters.
const DESCRIPTION_CHARS_MAX: usize = 5_000;

/// `orders.reviewrefund`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Review {
    pending_refund_token: String,
    refund_preference: RefundPreference,
    /// Required, whatever it says.
    #[serde(rename = "sampleContentProvided")]
    _sample_content_provided: bool,
    consumption_percentage_milliunits: Option<u32>,
    #[serde(default)]
    consumption_usage_events: Vec<UsageEvent>,
}

/// What it says is looked at by nobody but for its shape.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UsageEvent {
    consumption_item_description: Option<String>,
    #[serde(rename = "consumptionTime")]
    _consumption_time: Option<chrono::DateTime<chrono::Utc>>,
    #[serde(rename = "ipAddress")]
    _ip_address: Option<String>,
    location: Option<Location>,
    #[serde(rename = "obfuscatedAccountId")]
    _obfuscated_account_id: Option<String>,
    #[serde(rename = "obfuscatedProfileId")]
    _obfuscated_profile_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Location {
    #[serde(rename = "administrativeArea")]
    _administrative_area: Option<String>,
    #[serde(rename = "locality")]
    _locality: Option<String>,
    region_code: String,
    #[serde(rename = "sublocality")]
    _sublocality: Option<String>,
}

impl Review {
    fn check(&self) -> Result<(), GoogleError> {
        if self.consumption_percentage_milliunits > Some(CONSUMED_MAX) {
            return Err(invalid(
                "Invalid value at 'consumption_percentage_milliunits'",
            ));
        }
        if self.consumption_usage_events.len() > EVENTS_MAX {
            return Err(invalid(
                "At most 1000 consumption usage events may be sent.",
            ));
        }
        let sound = self.consumption_usage_events.iter().all(|event| {
            let description = event.consumption_item_description.as_deref();
            let chars = description.map_or(0, |text| text.chars().count());
            let located = event.location.as_ref();
            chars <= DESCRIPTION_CHARS_MAX
                && located.is_none_or(|location| !location.region_code.is_empty())
        });
        match sound {
            true => Ok(()),
            false => Err(invalid("Invalid value at 'consumption_usage_events'")),
        }
    }
}

/// `orders.get`.
pub(super) async fn get(
    State(inner): State<Arc<Inner>>,
    Path((package, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, &GET_ORDER, &headers).await?;
    inner.read(|world, _| order(world, &inner, &package, &id).map(Json))
}

/// `orders.batchget`: all or none.
pub(super) async fn batch_get(
    State(inner): State<Arc<Inner>>,
    Path(package): Path<String>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, &GET_ORDER, &headers).await?;
    let ids = parameters.iter().filter(|(name, _)| name == "orderIds");
    let ids: Vec<_> = ids.map(|(_, id)| id).collect();
    if !(1..=BATCH_MAX).contains(&ids.len()) {
        let count = ids.len();
        return Err(invalid(format!(
            "Between 1 and {BATCH_MAX} order IDs must be given, not {count}."
        )));
    }
    let distinct: BTreeSet<_> = ids.iter().collect();
    if distinct.len() != ids.len() {
        return Err(invalid("The order IDs must be distinct."));
    }
    inner.read(|world, _| {
        let orders: Result<Vec<_>, _> = ids
            .iter()
            .map(|id| order(world, &inner, &package, id))
            .collect();
        Ok(Json(json!({"orders": orders?})))
    })
}

/// `orders.refund` and `orders.reviewrefund`.
pub(super) async fn post(
    State(inner): State<Arc<Inner>>,
    Path((package, id_and_verb)): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, GoogleError> {
    let (id, verb) = request::verb(&id_and_verb)?;
    let method = match verb {
        "refund" => &REFUND,
        "reviewrefund" => &REVIEW_REFUND,
        _ => return Err(NO_METHOD),
    };
    admit(&inner, method, &headers).await?;
    inner.read(|world, _| order(world, &inner, &package, id).map(|_| ()))?;
    if verb == "refund" {
        let revoke = request::flag(&parameters, "revoke")?;
        inner.change(|turn| turn.google_play_refund_order(id, revoke, Cause::default()))?;
        return Ok(StatusCode::NO_CONTENT);
    }
    let review: Review = request::body(&body)?;
    review.check()?;
    let (token, preference) = (&review.pending_refund_token, review.refund_preference);
    inner.change(|turn| turn.google_play_review_refund(id, token, preference))?;
    Ok(StatusCode::NO_CONTENT)
}

fn order(world: &World, inner: &Inner, package: &str, id: &str) -> Result<Value, GoogleError> {
    if package != inner.setup.package_name {
        return Err(ORDER_NOT_FOUND);
    }
    let purchase = world.google_play.purchase_by_order(id);
    let purchase = purchase.ok_or(ORDER_NOT_FOUND)?;
    let order = purchase.order(id).ok_or(ORDER_NOT_FOUND)?;
    Ok(resource::order(purchase, order))
}
