//! Voided purchases: `purchases.voidedpurchases.list`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::super::inner::Inner;
use super::super::super::state::World;
use super::super::voided::Voided;
use super::Answer;
use super::admission::{LIST_VOIDED, admit};
use super::error::{GoogleError, PERMISSION_DENIED, invalid};
use super::request::{Parameters, flag, moment, number, parameter};

/// The list reaches back so far.
const WINDOW_DAYS: i64 = 30;
/// How far a caller's clock may be off.
const SKEW_SECONDS: i64 = 60;
/// Rows of one page, at most and unless asked otherwise.
const PAGE_MAX: usize = 1_000;

/// What is listed, and from which row on; a page token holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Listing {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    subscriptions: bool,
    /// Whether refunds of some of several are listed.
    partial: bool,
    /// Rows to pass over.
    start: usize,
}

/// `voidedpurchases.list`.
pub(super) async fn list(
    State(inner): State<Arc<Inner>>,
    Path(package): Path<String>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, &LIST_VOIDED, &headers).await?;
    if package != inner.setup.package_name {
        return Err(PERMISSION_DENIED);
    }
    let size = match number(&parameters, "maxResults")? {
        None | Some(0) => PAGE_MAX,
        Some(size) => PAGE_MAX.min(size),
    };
    inner.read(|world, now| {
        let listing = match parameter(&parameters, "token") {
            Some(token) => Listing::open(token)?,
            None => Listing::asked(&parameters, now)?,
        };
        Ok(Json(listing.page(world, size)))
    })
}

impl Listing {
    fn asked(parameters: &Parameters, now: DateTime<Utc>) -> Result<Self, GoogleError> {
        let oldest = now - TimeDelta::days(WINDOW_DAYS);
        let skew = TimeDelta::seconds(SKEW_SECONDS);
        let from = moment(parameters, "startTime")?.unwrap_or(oldest);
        let to = moment(parameters, "endTime")?.unwrap_or(now);
        if from < oldest - skew {
            return Err(invalid("startTime cannot be older than 30 days."));
        }
        if to > now + skew {
            return Err(invalid("endTime cannot be in the future."));
        }
        if to < from {
            return Err(invalid("endTime cannot be before startTime."));
        }
        Ok(Self {
            from,
            to,
            subscriptions: match number::<i32>(parameters, "type")? {
                None | Some(0) => false,
                Some(1) => true,
                Some(other) => return Err(invalid(format!("Invalid value at 'type', {other}"))),
            },
            partial: flag(parameters, "includeQuantityBasedPartialRefund")?,
            start: number(parameters, "startIndex")?.unwrap_or(0),
        })
    }

    fn open(token: &str) -> Result<Self, GoogleError> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok();
        let listing = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        listing.ok_or_else(|| invalid("Invalid value at 'token'"))
    }

    fn seal(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!(self).to_string())
    }

    fn lists(&self, voided: &Voided) -> bool {
        (self.from..=self.to).contains(&voided.voided_at)
            && (self.subscriptions || !voided.subscription)
            && (self.partial || voided.quantity.is_none())
    }

    fn page(self, world: &World, size: usize) -> Value {
        // The list is in order of time, so that what is too old need not be looked at.
        let all = world.google_play.voided();
        let first = all.partition_point(|voided| voided.voided_at < self.from);
        let rows = all.get(first..).unwrap_or_default();
        let mut rows = rows
            .iter()
            .filter(|voided| self.lists(voided))
            .skip(self.start);
        let page: Vec<_> = rows.by_ref().take(size).map(row).collect();
        let more = rows.next().is_some();
        let mut answer = json!({});
        if more {
            let next = Self {
                start: self.start + page.len(),
                ..self
            };
            answer["tokenPagination"] = json!({"nextPageToken": next.seal()});
        }
        if !page.is_empty() {
            answer["voidedPurchases"] = Value::Array(page);
        }
        answer
    }
}

/// `VoidedPurchase`.
fn row(voided: &Voided) -> Value {
    let millis = |at: DateTime<Utc>| at.timestamp_millis().to_string();
    let mut row = json!({
        "kind": "androidpublisher#voidedPurchase",
        "purchaseToken": voided.purchase_token,
        "orderId": voided.order_id,
        "purchaseTimeMillis": millis(voided.purchased_at),
        "voidedTimeMillis": millis(voided.voided_at),
        "voidedSource": voided.source.number(),
        "voidedReason": voided.reason.number(),
    });
    if let Some(quantity) = voided.quantity {
        row["voidedQuantity"] = json!(quantity);
    }
    row
}
