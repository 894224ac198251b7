//! A complete read of a purchase: itself, what it continues, and the orders of known voids.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::client::{Client, Reply};
use super::wire::SubscriptionPurchase;
use crate::domain::catalog::Catalog;
use crate::domain::chain::{Alias, AliasKind};
use crate::domain::subscription::store_state::Evidence;
use crate::providers::contract::{FetchError, FetchRequest, StoreAnswer};

/// Calls of an answer; a number or an order id follows the last two.
pub(super) const SUBSCRIPTIONS: &str = "subscriptions";
pub(super) const PRODUCTS: &str = "products";
pub(super) const LINKED: &str = "linked/";
pub(super) const ORDERS: &str = "orders/";

/// A caller waits for this; longer outages are the schedule's.
pub(super) const DEADLINE: Duration = Duration::from_secs(8);
/// Genuine chains have a few plan changes between two reads.
const HOPS_MAX: usize = 10;
const ORDERS_MAX: usize = 50;
const ORDERS_AT_ONCE: usize = 4;
/// Nobody here needs the customer's name and address, so they are never kept.
const PERSONAL_FIELDS: [&str; 2] = ["subscribeWithGoogleInfo", "buyerAddress"];

pub(super) async fn fetch(
    client: &Client,
    request: FetchRequest<'_>,
) -> Result<Vec<StoreAnswer>, FetchError> {
    let package = package(request.head, request.catalog)?;
    tokio::time::timeout(DEADLINE, everything(client, package, &request))
        .await
        .unwrap_or_else(|_| Err(FetchError::away("no complete answer in time")))
}

/// The package of a token's app, from the catalog alone.
pub(super) fn package<'a>(head: &Alias, catalog: &'a Catalog) -> Result<&'a str, FetchError> {
    if head.kind != AliasKind::PurchaseToken {
        let kind = head.kind.as_str();
        return Err(FetchError::Unreadable(format!(
            "Google Play cannot be asked for a {kind}"
        )));
    }
    let package = catalog
        .app(&head.app)
        .and_then(|app| app.package_name.as_deref());
    package.ok_or_else(|| {
        FetchError::Refused(format!(
            "app {} has no package_name in the catalog",
            head.app
        ))
    })
}

async fn everything(
    client: &Client,
    package: &str,
    request: &FetchRequest<'_>,
) -> Result<Vec<StoreAnswer>, FetchError> {
    let token = &request.head.value;
    let mut answers = Vec::new();
    // A token does not say what it bought.
    let subscription = client.subscription(package, token).await?;
    match subscription.status {
        400 | 404 => {
            answers.push(keep(SUBSCRIPTIONS.to_owned(), subscription));
            let product = client.product(package, token).await?;
            answers.push(keep(PRODUCTS.to_owned(), product));
        }
        _ => {
            let next = link(&subscription.body);
            answers.push(keep(SUBSCRIPTIONS.to_owned(), subscription));
            answers.extend(walk(client, package, request, next).await?);
        }
    }
    answers.extend(orders(client, package, request.evidence).await?);
    Ok(answers)
}

/// Follows what the purchase continues, until something known, forgotten or without a link.
async fn walk(
    client: &Client,
    package: &str,
    request: &FetchRequest<'_>,
    mut next: Option<String>,
) -> Result<Vec<StoreAnswer>, FetchError> {
    let mut answers = Vec::new();
    let mut seen = vec![request.head.value.clone()];
    while let Some(token) = next.take() {
        let known = request.known.iter().any(|alias| alias.value == token);
        if known || seen.contains(&token) || seen.len() > HOPS_MAX {
            break;
        }
        let reply = client.subscription(package, &token).await?;
        if reply.status == 200 {
            next = link(&reply.body);
        }
        answers.push(keep(format!("{LINKED}{}", seen.len()), reply));
        seen.push(token);
    }
    Ok(answers)
}

/// The token that a purchase continues. What cannot be read here is reported by normalising it.
fn link(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<SubscriptionPurchase>(body)
        .ok()?
        .continues()
        .next()
        .map(str::to_owned)
}

async fn orders(
    client: &Client,
    package: &str,
    evidence: &[Evidence],
) -> Result<Vec<StoreAnswer>, FetchError> {
    let mut calls = Vec::new();
    for fact in evidence.iter().rev().take(ORDERS_MAX) {
        match fact {
            Evidence::Void { order_id, .. } => calls.push(order(client, package, order_id)),
            Evidence::RefundRequest { .. } => {}
        }
    }
    let answers: Vec<Option<StoreAnswer>> = stream::iter(calls)
        .buffered(ORDERS_AT_ONCE)
        .try_collect()
        .await?;
    Ok(answers.into_iter().flatten().collect())
}

/// The order only adds the amount; the void itself must not wait for a missing permission.
async fn order(
    client: &Client,
    package: &str,
    id: &str,
) -> Result<Option<StoreAnswer>, FetchError> {
    match client.order(package, id).await {
        Ok(reply) => Ok(Some(keep(format!("{ORDERS}{id}"), reply))),
        Err(error @ (FetchError::Refused(_) | FetchError::Unreadable(_))) => {
            tracing::warn!(%error, "a voided order cannot be read");
            Ok(None)
        }
        Err(error @ FetchError::Away { .. }) => Err(error),
    }
}

fn keep(call: String, reply: Reply) -> StoreAnswer {
    StoreAnswer {
        call,
        status: reply.status,
        body: without_personal_data(reply.body),
    }
}

fn without_personal_data(body: Bytes) -> Bytes {
    let Ok(Value::Object(mut document)) = serde_json::from_slice(&body) else {
        return body;
    };
    let before = document.len();
    for field in PERSONAL_FIELDS {
        document.remove(field);
    }
    if document.len() == before {
        return body;
    }
    Bytes::from(Value::Object(document).to_string())
}
