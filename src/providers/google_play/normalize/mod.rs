//! Google's answers in our words. Pure: the same answers give the same state for ever.

mod one_time;
mod orders;
mod subscription;

use serde::de::DeserializeOwned;

use super::fetch::{LINKED, ORDERS, PRODUCTS, SUBSCRIPTIONS};
use super::read::token_alias;
use super::wire::{Order, ProductPurchase, SubscriptionPurchase};
use crate::domain::chain::{Alias, AliasKind};
use crate::domain::reconcile::Answer;
use crate::domain::time::Instant;
use crate::providers::contract::{FetchError, StoreAnswer};

/// The unacknowledged part of both `acknowledgementState` enums.
const NOT_ACKNOWLEDGED: &str = "ACKNOWLEDGEMENT_STATE_PENDING";

pub(super) fn normalize(
    head: &Alias,
    answers: &[StoreAnswer],
    fetched_at: Instant,
) -> Result<Answer, FetchError> {
    let orders = orders_of(answers)?;
    let subscription = find(answers, SUBSCRIPTIONS);
    let product = find(answers, PRODUCTS);
    let main = product.or(subscription);
    let main =
        main.ok_or_else(|| FetchError::Unreadable("no answer about the purchase".to_owned()))?;
    match main.status {
        200 if main.call == SUBSCRIPTIONS => {
            let purchase: SubscriptionPurchase = parse(main)?;
            let predecessors = predecessors(head, &purchase, answers)?;
            let state = subscription::state(head, &purchase, fetched_at);
            let transactions = orders::transactions(&orders);
            Ok(Answer::Store(
                crate::domain::subscription::store_state::StoreState {
                    predecessors,
                    transactions,
                    ..state
                },
            ))
        }
        200 => {
            let purchase: ProductPurchase = parse(main)?;
            Ok(Answer::Store(one_time::state(
                head, &purchase, &orders, fetched_at,
            )))
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

fn orders_of(answers: &[StoreAnswer]) -> Result<Vec<Order>, FetchError> {
    answers
        .iter()
        .filter(|answer| answer.status == 200 && answer.call.starts_with(ORDERS))
        .map(parse)
        .collect()
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

fn account_token(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).cloned()
}

#[cfg(test)]
mod one_time_tests;
#[cfg(test)]
mod tests;
