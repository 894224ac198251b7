//! The orders of a purchase: all that were not read before, and those that may have changed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt, stream};
use serde_json::Value;

use super::bookmark::{Bookmark, NONE_SUCH};
use super::{ORDERS, keep, redact};
use crate::domain::subscription::store_state::Evidence;
use crate::providers::contract::{FetchError, StoreAnswer};
use crate::providers::google_play::client::{Client, Reply};
use crate::providers::google_play::wire::OrdersPage;

/// The calls that tell how far orders are read now.
pub(in crate::providers::google_play) const BOOKMARK: &str = "bookmark";

/// Google takes a thousand; a URL holds fewer.
const BATCH_MAX: usize = 100;
/// Where a batch is refused because of one bad id, each is asked for by itself.
const SINGLE_MAX: usize = 60;
const AT_ONCE: usize = 4;
/// Voids of one purchase that are looked into.
const VOIDS_MAX: usize = 50;

/// What to read.
pub(super) struct Question<'a> {
    pub(super) package: &'a str,
    /// The latest orders of the purchase and of those that it continues.
    pub(super) latest: BTreeSet<String>,
    /// Those that the current periods were paid by: their state decides why a period ended.
    pub(super) current: BTreeSet<String>,
    pub(super) evidence: &'a [Evidence],
    pub(super) bookmark: Bookmark,
}

/// The orders that the books do not have as they are now, and how far they are read with them.
pub(super) async fn read(
    client: &Client,
    question: Question<'_>,
) -> Result<Vec<StoreAnswer>, FetchError> {
    let voided: BTreeSet<String> = voided(question.evidence);
    let mut wanted = question
        .bookmark
        .wanted(question.latest.iter().map(String::as_str));
    let needed: BTreeSet<&String> = voided.iter().chain(&question.current).collect();
    wanted.extend(needed.iter().map(|id| (*id).clone()));
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let wanted: Vec<String> = wanted.into_iter().collect();
    let mut found = BTreeMap::new();
    for ids in wanted.chunks(BATCH_MAX) {
        found.extend(batch(client, question.package, ids).await?);
    }
    let mut bookmark = question.bookmark.clone();
    bookmark.settle();
    let mut ids: Vec<&String> = found.keys().collect();
    ids.sort_by_key(|id| Bookmark::rank(id));
    for id in ids {
        let mark = found.get(id).and_then(mark);
        bookmark.note(id, mark);
    }
    let news = found.into_iter().filter(|(id, answer)| {
        let known = question.bookmark.has(id, mark(answer).as_deref());
        needed.contains(id) || !known
    });
    let mut answers: Vec<StoreAnswer> = news.map(|(_, answer)| answer).collect();
    if !bookmark.is_empty() {
        answers.push(filed(&bookmark));
    }
    Ok(answers)
}

/// How far orders are read, and which ones could not be, while none can.
pub(super) fn owed(question: &Question<'_>) -> Option<StoreAnswer> {
    let mut bookmark = question.bookmark.clone();
    bookmark.owe(question.latest.iter().cloned());
    (!bookmark.is_empty()).then(|| filed(&bookmark))
}

fn filed(bookmark: &Bookmark) -> StoreAnswer {
    StoreAnswer {
        call: BOOKMARK.to_owned(),
        status: 200,
        body: Bytes::from(serde_json::to_vec(bookmark).unwrap_or_default()),
    }
}

fn voided(evidence: &[Evidence]) -> BTreeSet<String> {
    let orders = evidence.iter().rev().filter_map(|fact| match fact {
        Evidence::Void { order_id, .. } => Some(order_id.clone()),
        Evidence::RefundRequest { .. } => None,
    });
    orders.take(VOIDS_MAX).collect()
}

/// `None` for an order that is simply paid.
fn mark(answer: &StoreAnswer) -> Option<String> {
    let order: Value = match answer.status {
        200 => serde_json::from_slice(&answer.body).unwrap_or_default(),
        _ => return Some(NONE_SUCH.to_owned()),
    };
    let text = |name: &str| order.get(name).and_then(Value::as_str).unwrap_or_default();
    match text("state") {
        "PROCESSED" => None,
        state => Some(format!("{state}@{}", text("lastEventTime"))),
    }
}

/// Orders by id. One bad id fails a whole batch.
async fn batch(
    client: &Client,
    package: &str,
    ids: &[String],
) -> Result<BTreeMap<String, StoreAnswer>, FetchError> {
    if let [id] = ids {
        return singles(client, package, std::slice::from_ref(id)).await;
    }
    let reply = match client.orders(package, ids).await {
        Ok(reply) => reply,
        Err(FetchError::Refused(cause)) => return not_allowed(&cause),
        Err(FetchError::Unreadable(_)) => return singles(client, package, ids).await,
        Err(error @ FetchError::Away { .. }) => return Err(error),
    };
    let page: Option<OrdersPage> = match reply.status {
        200 => serde_json::from_slice(&reply.body).ok(),
        _ => None,
    };
    let Some(page) = page else {
        return singles(client, package, ids).await;
    };
    let orders = page.orders.into_iter().filter_map(|mut order| {
        redact::strip(&mut order);
        let id = order.get("orderId")?.as_str()?.to_owned();
        let answer = StoreAnswer {
            call: format!("{ORDERS}{id}"),
            status: 200,
            body: Bytes::from(order.to_string()),
        };
        Some((id, answer))
    });
    Ok(orders.collect())
}

async fn singles(
    client: &Client,
    package: &str,
    ids: &[String],
) -> Result<BTreeMap<String, StoreAnswer>, FetchError> {
    let mut ids: Vec<&String> = ids.iter().collect();
    ids.sort_by_key(|id| Bookmark::rank(id));
    ids.truncate(SINGLE_MAX);
    let mut calls = Vec::with_capacity(ids.len());
    for id in ids {
        calls.push(single(client, package, id));
    }
    let replies: Vec<_> = stream::iter(calls).buffered(AT_ONCE).collect().await;
    let mut found = BTreeMap::new();
    for (id, reply) in replies {
        match reply {
            Ok(reply) => {
                found.insert(id.clone(), keep(format!("{ORDERS}{id}"), reply));
            }
            // Of this one order, or of all: either way the purchase itself stands.
            Err(FetchError::Refused(cause) | FetchError::Unreadable(cause)) => {
                found.extend(not_allowed(&cause)?);
            }
            Err(error @ FetchError::Away { .. }) => return Err(error),
        }
    }
    Ok(found)
}

async fn single<'a>(
    client: &Client,
    package: &str,
    id: &'a String,
) -> (&'a String, Result<Reply, FetchError>) {
    (id, client.order(package, id).await)
}

/// Orders only add the money; access must not wait for a missing permission.
fn not_allowed(cause: &str) -> Result<BTreeMap<String, StoreAnswer>, FetchError> {
    metrics::counter!("entitled_orders_unreadable_total").increment(1);
    tracing::warn!(
        cause,
        "an order cannot be read; its money is not in the books"
    );
    Ok(BTreeMap::new())
}
