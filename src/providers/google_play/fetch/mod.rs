//! A complete read of a purchase: itself, what it continues, and the orders that paid for it.

mod bookmark;
mod orders;
mod redact;

use std::collections::BTreeSet;
use std::time::Duration;

use self::bookmark::Bookmark;
pub(super) use self::orders::BOOKMARK;
use super::client::{Client, Reply};
use super::read::token_alias;
use super::wire::{Order, ProductPurchase, SubscriptionPurchase};
use crate::domain::catalog::Catalog;
use crate::domain::chain::{Alias, AliasKind};
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

pub(super) async fn fetch(
    client: &Client,
    request: FetchRequest<'_>,
) -> Result<Vec<StoreAnswer>, FetchError> {
    let package = package(request.head, request.catalog)?;
    tokio::time::timeout(DEADLINE, everything(client, package, &request))
        .await
        .unwrap_or_else(|_| Err(FetchError::away("no complete answer in time")))
}

/// Whether orders could not be read at the read that left this bookmark.
pub(super) fn owes_orders(bookmark: Option<&str>) -> bool {
    Bookmark::parse(bookmark).owes()
}

/// The package of a token's app, from the catalog alone.
pub(super) fn package<'a>(head: &Alias, catalog: &'a Catalog) -> Result<&'a str, FetchError> {
    match head.kind {
        AliasKind::PurchaseToken | AliasKind::OrderId => {}
        AliasKind::OriginalTransactionId => {
            return Err(FetchError::Unreadable(
                "Google Play cannot be asked for an App Store transaction".to_owned(),
            ));
        }
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
    match request.head.kind {
        AliasKind::PurchaseToken | AliasKind::OriginalTransactionId => {
            purchase(client, package, request).await
        }
        AliasKind::OrderId => {
            let id = &request.head.value;
            let reply = client.order(package, id).await?;
            let named: Option<Order> = match reply.status {
                200 => serde_json::from_slice(&reply.body).ok(),
                _ => None,
            };
            let order = keep(format!("{ORDERS}{id}"), reply);
            let Some(token) = named.and_then(|order| order.purchase_token) else {
                return Ok(vec![order]);
            };
            let head = token_alias(request.head.app.clone(), token);
            let request = FetchRequest {
                head: &head,
                ..*request
            };
            let mut answers = purchase(client, package, &request).await?;
            answers.retain(|answer| answer.call != order.call);
            answers.push(order);
            Ok(answers)
        }
    }
}

/// A purchase by its token, which does not say what it bought.
async fn purchase(
    client: &Client,
    package: &str,
    request: &FetchRequest<'_>,
) -> Result<Vec<StoreAnswer>, FetchError> {
    let token = &request.head.value;
    let mut answers = Vec::new();
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
    let (question, ended) = question(package, request, &answers);
    let owed = orders::owed(&question);
    match orders::read(client, question).await {
        Ok(orders) => answers.extend(orders),
        // Why it ended is known from its order alone, and nobody will look again.
        Err(error) if ended || !request.evidence.is_empty() => return Err(error),
        // Access must not wait for the money; the orders are asked for again soon.
        Err(error) => {
            tracing::warn!(%error, "orders cannot be read now");
            answers.extend(owed);
        }
    }
    Ok(answers)
}

/// The orders that the purchases name, and whether there is anything left of the purchase.
fn question<'a>(
    package: &'a str,
    request: &FetchRequest<'a>,
    answers: &[StoreAnswer],
) -> (orders::Question<'a>, bool) {
    let mut latest = BTreeSet::new();
    let mut current = BTreeSet::new();
    let mut ended = false;
    for answer in answers.iter().filter(|answer| answer.status == 200) {
        if answer.call == PRODUCTS {
            if let Ok(product) = serde_json::from_slice::<ProductPurchase>(&answer.body) {
                ended = product.is_canceled();
                let order = product.order_id.filter(|id| !id.is_empty());
                current.extend(order.clone());
                latest.extend(order);
            }
        } else if let Ok(purchase) = serde_json::from_slice::<SubscriptionPurchase>(&answer.body) {
            let lines = purchase.line_items.into_iter();
            let paid: BTreeSet<String> = lines
                .filter_map(|line| line.latest_successful_order_id)
                .filter(|id| !id.is_empty())
                .collect();
            if answer.call == SUBSCRIPTIONS {
                ended = purchase.subscription_state == "SUBSCRIPTION_STATE_EXPIRED";
                current.extend(paid.iter().cloned());
            }
            latest.extend(paid);
        }
    }
    let last = request.last.and_then(|last| last.bookmark.as_deref());
    let question = orders::Question {
        package,
        latest,
        current,
        evidence: request.evidence,
        bookmark: Bookmark::parse(last),
    };
    (question, ended)
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

fn keep(call: String, reply: Reply) -> StoreAnswer {
    StoreAnswer {
        call,
        status: reply.status,
        body: redact::document(reply.body),
    }
}
