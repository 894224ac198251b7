//! Google's answers in our words. Pure: the same answers give the same state for ever.

mod one_time;
mod orders;
mod subscription;

use serde::de::DeserializeOwned;

use self::orders::Orders;
use super::fetch::{BOOKMARK, LINKED, ORDERS, PRODUCTS, SUBSCRIPTIONS, owes_orders};
use super::read::token_alias;
use super::wire::{ProductPurchase, SubscriptionPurchase};
use crate::domain::chain::{Alias, AliasKind};
use crate::domain::provider::Environment;
use crate::domain::reconcile::Answer;
use crate::domain::subscription::store_state::StoreState;
use crate::domain::time::Instant;
use crate::providers::contract::{FetchError, StoreAnswer};

/// The unacknowledged part of both `acknowledgementState` enums.
const NOT_ACKNOWLEDGED: &str = "ACKNOWLEDGEMENT_STATE_PENDING";

pub(super) fn normalize(
    head: &Alias,
    answers: &[StoreAnswer],
    fetched_at: Instant,
) -> Result<Answer, FetchError> {
    let orders = orders_of(answers);
    let main = find(answers, PRODUCTS).or(find(answers, SUBSCRIPTIONS));
    let Some(main) = main else {
        return nothing_but_an_order(answers);
    };
    let head = &token_of(head, &orders)?;
    let bookmark =
        find(answers, BOOKMARK).map(|answer| String::from_utf8_lossy(&answer.body).into_owned());
    let money_untold = owes_orders(bookmark.as_deref());
    match main.status {
        200 if main.call == SUBSCRIPTIONS => {
            let purchase: SubscriptionPurchase = parse(main)?;
            let predecessors = predecessors(head, &purchase, answers)?;
            let state = subscription::state(head, &purchase, &orders, fetched_at);
            Ok(Answer::Store(StoreState {
                predecessors,
                bookmark,
                money_untold,
                ..state
            }))
        }
        200 => {
            let purchase: ProductPurchase = parse(main)?;
            let state = one_time::state(head, &purchase, &orders, fetched_at);
            Ok(Answer::Store(StoreState {
                bookmark,
                money_untold,
                ..state
            }))
        }
        400 | 404 => Ok(Answer::NotFound),
        410 => Ok(Answer::Gone),
        status => Err(FetchError::Unreadable(format!(
            "{}: status {status}",
            main.call
        ))),
    }
}

/// Every link that the answers tell of, nearest first.
fn predecessors(
    head: &Alias,
    purchase: &SubscriptionPurchase,
    answers: &[StoreAnswer],
) -> Result<Vec<Alias>, FetchError> {
    let mut tokens: Vec<String> = purchase.continues().map(str::to_owned).collect();
    for answer in answers
        .iter()
        .filter(|answer| answer.call.starts_with(LINKED))
    {
        if answer.status == 200 {
            let linked: SubscriptionPurchase = parse(answer)?;
            tokens.extend(linked.continues().map(str::to_owned));
        }
    }
    let mut aliases: Vec<Alias> = Vec::with_capacity(tokens.len());
    for token in tokens {
        let alias = token_alias(head.app.clone(), token);
        if alias != *head && !aliases.contains(&alias) {
            aliases.push(alias);
        }
    }
    Ok(aliases)
}

fn find<'a>(answers: &'a [StoreAnswer], call: &str) -> Option<&'a StoreAnswer> {
    answers.iter().find(|answer| answer.call == call)
}

/// The token to ask for; a signal may have named only an order, which names its purchase.
fn token_of(head: &Alias, orders: &Orders) -> Result<Alias, FetchError> {
    match head.kind {
        AliasKind::PurchaseToken => Ok(head.clone()),
        AliasKind::OrderId | AliasKind::OriginalTransactionId => {
            let token = orders
                .get(Some(&head.value))
                .and_then(|order| order.purchase_token.clone());
            let token = token
                .ok_or_else(|| FetchError::Unreadable("an order without a purchase".to_owned()))?;
            Ok(token_alias(head.app.clone(), token))
        }
    }
}

/// Google was asked for an order, and has none such.
fn nothing_but_an_order(answers: &[StoreAnswer]) -> Result<Answer, FetchError> {
    let order = answers
        .iter()
        .find(|answer| answer.call.starts_with(ORDERS));
    match order.map(|order| order.status) {
        Some(400 | 404) => Ok(Answer::NotFound),
        Some(410) => Ok(Answer::Gone),
        Some(_) | None => Err(FetchError::Unreadable(
            "no answer about the purchase".to_owned(),
        )),
    }
}

/// An order that cannot be read is money that is not known; access must not wait for it.
fn orders_of(answers: &[StoreAnswer]) -> Orders {
    let found = answers
        .iter()
        .filter(|answer| answer.status == 200 && answer.call.starts_with(ORDERS))
        .filter_map(|answer| {
            let read = parse(answer);
            if let Err(error) = &read {
                tracing::warn!(%error, "an order cannot be read; its charge is not in the books");
            }
            read.ok()
        });
    Orders(found.collect())
}

pub(super) fn parse<T: DeserializeOwned>(answer: &StoreAnswer) -> Result<T, FetchError> {
    serde_json::from_slice(&answer.body).map_err(|error| {
        // The text of a serde error may quote the answer, and that holds purchase tokens.
        let (line, column) = (error.line(), error.column());
        FetchError::Unreadable(format!("{}: line {line}, column {column}", answer.call))
    })
}

/// Order ids as aliases: without the suffix that renewals add (`GPA.1234-…..3`), each once.
fn order_aliases<'a>(head: &Alias, orders: impl Iterator<Item = &'a str>) -> Vec<Alias> {
    let mut aliases: Vec<Alias> = Vec::new();
    for order in orders {
        let base = order.split_once("..").map_or(order, |(base, _)| base);
        let alias = Alias {
            kind: AliasKind::OrderId,
            value: base.to_owned(),
            ..head.clone()
        };
        if !base.is_empty() && !aliases.contains(&alias) {
            aliases.push(alias);
        }
    }
    aliases
}

/// Licence testers pay nothing.
fn environment(test: bool) -> Environment {
    match test {
        true => Environment::Sandbox,
        false => Environment::Production,
    }
}

/// Units bought: one where nothing is said.
fn units(said: Option<i64>) -> u32 {
    let said = said.and_then(|said| u32::try_from(said).ok());
    said.filter(|units| *units > 0).unwrap_or(1)
}

fn account_token(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).cloned()
}

#[cfg(test)]
mod one_time_tests;
#[cfg(test)]
mod plans_tests;
#[cfg(test)]
mod tests;
