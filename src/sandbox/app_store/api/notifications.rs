//! Notifications as Apple remembers them: the history, and the test.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::super::delivery::{DeliveryState, Notification, Source};
use super::super::super::error::SandboxError;
use super::super::super::inner::Inner;
use super::super::super::setup::Environment;
use super::super::super::state::World;
use super::super::super::traffic::Endpoint;
use super::admission::admit;
use super::error::{
    AppleError, BAD_REQUEST, INVALID_END_DATE, INVALID_NOTIFICATION_TYPE, INVALID_PAGINATION_TOKEN,
    INVALID_START_DATE, INVALID_TEST_TOKEN, INVALID_TRANSACTION_ID, MULTIPLE_FILTERS,
    NO_NOTIFICATION_URL, NO_TEST_NOTIFICATION, NO_TRANSACTION, PAGINATION_TOKEN_EXPIRED,
    START_AFTER_END, START_TOO_FAR_IN_PAST,
};
use super::query::{Asked, Bookmark, Parameters, fingerprint};
use super::vocabulary::is_notification;
use super::{Answer, PAGE, body, numeric};

/// Attempts that are told of one notification.
const ATTEMPTS_MAX: usize = 6;
/// How far back the history reaches.
const REACH_DAYS_PRODUCTION: i64 = 180;
const REACH_DAYS_SANDBOX: i64 = 30;
/// How long a test can be asked about: six months.
const TEST_TOKEN_DAYS: i64 = 180;

/// A request for the history; each field is judged by itself, so that each has its own error.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wish {
    start_date: Value,
    end_date: Value,
    notification_type: Option<String>,
    notification_subtype: Option<String>,
    transaction_id: Option<String>,
    only_failures: Option<bool>,
}

/// What a request narrows the history to.
struct Filter {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    kind: Option<(String, Option<String>)>,
    transaction_id: Option<String>,
    only_failures: bool,
}

impl Wish {
    fn filter(self, environment: Environment, now: DateTime<Utc>) -> Result<Filter, AppleError> {
        let at = |value: &Value, error| {
            let millis = value.as_i64().ok_or(error)?;
            DateTime::from_timestamp_millis(millis).ok_or(error)
        };
        let start = at(&self.start_date, INVALID_START_DATE)?;
        let end = at(&self.end_date, INVALID_END_DATE)?;
        if start >= end {
            return Err(START_AFTER_END);
        }
        let reach = TimeDelta::days(match environment {
            Environment::Production => REACH_DAYS_PRODUCTION,
            Environment::Sandbox => REACH_DAYS_SANDBOX,
        });
        if start < now - reach {
            return Err(START_TOO_FAR_IN_PAST);
        }
        if self.notification_type.is_some() && self.transaction_id.is_some() {
            return Err(MULTIPLE_FILTERS);
        }
        if let Some(id) = &self.transaction_id {
            numeric(id, INVALID_TRANSACTION_ID)?;
        }
        let kind = match (self.notification_type, self.notification_subtype) {
            (None, None) => None,
            (Some(kind), subtype) if is_notification(&kind, subtype.as_deref()) => {
                Some((kind, subtype))
            }
            (Some(_) | None, _) => return Err(INVALID_NOTIFICATION_TYPE),
        };
        Ok(Filter {
            start,
            end: end.min(now),
            kind,
            transaction_id: self.transaction_id,
            only_failures: self.only_failures.unwrap_or_default(),
        })
    }
}

impl Filter {
    fn holds(&self, notification: &Notification, chains: Option<&[String]>) -> bool {
        let record = &notification.record;
        let of_kind = self.kind.as_ref().is_none_or(|(kind, subtype)| {
            record.notification_type == *kind && (subtype.is_none() || record.subtype == *subtype)
        });
        let of_customer = chains.is_none_or(|chains| {
            let about = record.purchase.as_ref();
            about.is_some_and(|purchase| chains.contains(purchase))
        });
        record.source == Source::AppStore
            && record.created_at <= self.end
            && notification.body().is_some()
            && was_tried(notification)
            && of_kind
            && of_customer
            && !(self.only_failures && record.state == DeliveryState::Delivered)
    }
}

/// Apple tells of what it has tried to send; what the network lost, it has tried.
fn was_tried(notification: &Notification) -> bool {
    let record = &notification.record;
    match record.state {
        DeliveryState::Delivered | DeliveryState::Failed | DeliveryState::Dropped => true,
        DeliveryState::Pending | DeliveryState::Held => !record.attempts.is_empty(),
        DeliveryState::NoWebhook => false,
    }
}

/// Get Notification History, oldest first.
pub(super) async fn history(
    State(inner): State<Arc<Inner>>,
    asked: Asked,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer {
    admit(&inner, Endpoint::AppleNotificationHistory, &headers).await?;
    let parameters = Parameters::of(asked)?;
    let asked: Value = body(&bytes)?;
    let request = fingerprint(&asked.to_string());
    let wish: Wish = serde_json::from_value(asked).map_err(|_| BAD_REQUEST)?;
    inner.read(|world, now| {
        let filter = wish.filter(inner.setup.environment, now)?;
        let from = match parameters.one("paginationToken") {
            Some(token) => Some(number_of(token, &request)?),
            None => None,
        };
        let chains = match &filter.transaction_id {
            Some(id) => Some(chains_of_customer(world, id)?),
            None => None,
        };
        let mut found = world
            .outbox
            .since(filter.start, from.unwrap_or(0))
            .filter(|notification| filter.holds(notification, chains));
        let page: Vec<Value> = found
            .by_ref()
            .take(PAGE)
            .map(item)
            .collect::<Result<_, _>>()?;
        let mut answer = json!({"notificationHistory": page, "hasMore": false});
        if let Some(next) = found.next() {
            let bookmark = Bookmark {
                position: i64::try_from(next.number).unwrap_or(i64::MAX),
                fingerprint: request,
            };
            answer["hasMore"] = json!(true);
            answer["paginationToken"] = json!(bookmark.token());
        }
        Ok(Json(answer))
    })
}

/// The notification to read on from; a token holds only for the request that it was given for.
fn number_of(token: &str, request: &str) -> Result<u64, AppleError> {
    let bookmark = Bookmark::parse(token).ok_or(INVALID_PAGINATION_TOKEN)?;
    if bookmark.fingerprint != request {
        return Err(PAGINATION_TOKEN_EXPIRED);
    }
    u64::try_from(bookmark.position).map_err(|_| INVALID_PAGINATION_TOKEN)
}

/// Original transaction ids of the customer whom a transaction belongs to.
fn chains_of_customer<'a>(world: &'a World, id: &str) -> Result<&'a [String], AppleError> {
    let chain = world.app_store.chain_by_transaction(id);
    let chain = chain.ok_or(NO_TRANSACTION)?;
    let customer = world.app_store.customer(&chain.customer);
    Ok(customer.map_or(&[], |customer| &customer.chains))
}

/// The payload as it was sent, and what came of the attempts.
fn item(notification: &Notification) -> Result<Value, AppleError> {
    let record = &notification.record;
    let body: Value = serde_json::from_str(&record.body).map_err(SandboxError::Encode)?;
    let attempts = &record.attempts;
    let attempts: Vec<Value> = attempts
        .iter()
        .skip(attempts.len().saturating_sub(ATTEMPTS_MAX))
        .map(|attempt| {
            json!({
                "attemptDate": attempt.at.timestamp_millis(),
                "sendAttemptResult": attempt.result,
            })
        })
        .collect();
    Ok(json!({"signedPayload": body["signedPayload"], "sendAttempts": attempts}))
}

/// Request a Test Notification.
pub(super) async fn request_test(State(inner): State<Arc<Inner>>, headers: HeaderMap) -> Answer {
    admit(&inner, Endpoint::AppleTestNotification, &headers).await?;
    if inner.read(|world, _| world.outbox.webhooks.app_store.is_none()) {
        return Err(NO_NOTIFICATION_URL);
    }
    let token = inner.change(|turn| turn.app_store_test())?;
    Ok(Json(json!({"testNotificationToken": token})))
}

/// Get Test Notification Status.
pub(super) async fn test_status(
    State(inner): State<Arc<Inner>>,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, Endpoint::AppleTestStatus, &headers).await?;
    let (id, _) = token
        .split_once('_')
        .filter(|(_, millis)| millis.parse::<i64>().is_ok())
        .ok_or(INVALID_TEST_TOKEN)?;
    inner.read(|world, now| {
        let oldest = now - TimeDelta::days(TEST_TOKEN_DAYS);
        let found = world.outbox.find(id).filter(|found| {
            found.record.notification_type == "TEST"
                && found.record.created_at >= oldest
                && !found.record.attempts.is_empty()
        });
        let mut answer = item(found.ok_or(NO_TEST_NOTIFICATION)?)?;
        answer["firstSendAttemptResult"] = answer["sendAttempts"][0]["sendAttemptResult"].clone();
        Ok(Json(answer))
    })
}
