//! Voided purchases that were told nowhere: the list reaches back thirty days.

use bytes::Bytes;
use chrono::TimeDelta;
use serde_json::Value;

use super::client::{self, Client};
use super::fetch;
use super::read::voided_row::{SweptVoid, event_id};
use super::wire::{VoidedPage, VoidedPurchase};
use crate::domain::provider::Environment;
use crate::providers::contract::{FetchError, Found, SweepPage, SweepRequest};

/// What is older is no longer listed, and asking for it is refused.
const REACH: TimeDelta = TimeDelta::days(30);
const PAGE_MAX: u32 = 1_000;

pub(super) async fn sweep(
    client: &Client,
    request: SweepRequest<'_>,
) -> Result<SweepPage, FetchError> {
    let package = match (&request.app.package_name, request.environment) {
        (Some(package), Environment::Production) => package,
        // One list has both worlds.
        (_, Environment::Sandbox) | (None, Environment::Production) => {
            return Ok(SweepPage::default());
        }
    };
    let since = request.since.max(request.until - REACH);
    let mut query = vec![
        ("startTime", since.timestamp_millis().to_string()),
        ("endTime", request.until.timestamp_millis().to_string()),
        // Subscriptions, too.
        ("type", "1".to_owned()),
        ("includeQuantityBasedPartialRefund", "true".to_owned()),
        ("maxResults", PAGE_MAX.to_string()),
    ];
    if let Some(cursor) = request.cursor {
        query.push(("token", cursor.to_owned()));
    }
    let listed = tokio::time::timeout(fetch::DEADLINE, client.voided(package, &query));
    let reply = listed
        .await
        .unwrap_or_else(|_| Err(FetchError::away("no answer in time")))?;
    if reply.status != 200 {
        let (status, reason) = (reply.status, client::reason(&reply.body));
        return Err(FetchError::Refused(format!(
            "voidedpurchases: status {status} {reason}"
        )));
    }
    let page: VoidedPage = serde_json::from_slice(&reply.body)
        .map_err(|_| FetchError::Unreadable("voidedpurchases: not a page".to_owned()))?;
    let rows = page.voided_purchases.into_iter();
    let next = page.token_pagination.and_then(|page| page.next_page_token);
    Ok(SweepPage {
        found: rows.map(|row| found(package, row)).collect(),
        next: next.filter(|next| !next.is_empty()),
    })
}

/// A row that cannot be read is kept all the same: resolving it says so.
fn found(package: &str, row: Value) -> Found {
    let read: Option<VoidedPurchase> = serde_json::from_value(row.clone()).ok();
    let id = read.as_ref().map(event_id);
    let swept = SweptVoid {
        package_name: package.to_owned(),
        voided_purchase: row,
    };
    let body = serde_json::to_vec(&swept).unwrap_or_default();
    Found {
        event_id: id.unwrap_or_else(|| format!("voided/unreadable/{}", client::short_hash(&body))),
        body: Bytes::from(body),
    }
}
