//! Who there is and what they have, over HTTP: the truth by which a server under test is judged.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::Sandbox;
use super::super::customers::account;
use super::super::details::Details;
use super::super::truth::PurchaseTruth;
use super::body::{Body, Params};
use super::notifications::{self, Summary};
use super::problem::Problem;

const LIMIT: usize = 200;
const LIMIT_MAX: usize = 10_000;

/// A customer in a list.
#[derive(Default, Serialize)]
pub(super) struct Entry {
    name: String,
    /// How many purchases, ended ones included.
    purchases: usize,
    /// Products that the customer has the use of now.
    entitled: Vec<String>,
}

/// Which customers, and how many; they are listed by name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Part of the name, in any case.
    search: Option<String>,
    /// Only those whose names come later than this one.
    after: Option<String>,
    limit: Option<usize>,
}

/// A page of customers.
#[derive(Serialize)]
pub(super) struct Page {
    customers: Vec<Entry>,
    /// How many there are that match, on all pages.
    total: usize,
}

pub(super) async fn list(
    State(sandbox): State<Sandbox>,
    Params(filter): Params<Filter>,
) -> Json<Page> {
    let search = filter.search.unwrap_or_default().to_lowercase();
    let limit = filter.limit.unwrap_or(LIMIT).min(LIMIT_MAX);
    let mut found: BTreeMap<String, Entry> = sandbox
        .inner
        .read(|world, _| {
            world
                .customers
                .names()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .into_iter()
        .map(|name| (name, Entry::default()))
        .collect();
    for truth in sandbox.all_purchases() {
        let entry = found.entry(truth.customer).or_default();
        entry.purchases += 1;
        if truth.entitled {
            entry.entitled.push(truth.product_id);
        }
    }
    found.retain(|name, _| name.to_lowercase().contains(&search));
    let total = found.len();
    let after = filter.after.unwrap_or_default();
    let customers = found
        .into_iter()
        .skip_while(|(name, _)| *name <= after)
        .take(limit)
        .map(|(name, entry)| Entry { name, ..entry })
        .collect();
    Json(Page { customers, total })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCustomer {
    name: String,
}

/// A customer with all purchases.
#[derive(Serialize)]
pub(super) struct Customer {
    name: String,
    /// An account id to buy with, for who has none of an app.
    account: Uuid,
    purchases: Vec<Purchase>,
    /// What was said about them, newest first, if asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notifications: Vec<Summary>,
}

/// How much of a customer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Depth {
    /// The latest so many notifications; none if absent.
    notifications: Option<usize>,
}

/// A purchase: where it stands, and how it came to that.
#[derive(Serialize)]
struct Purchase {
    #[serde(flatten)]
    truth: PurchaseTruth,
    #[serde(flatten)]
    details: Details,
}

impl Customer {
    fn of(sandbox: &Sandbox, name: String) -> Self {
        let purchases = sandbox.purchases(&name).into_iter();
        Self {
            account: account(&name),
            purchases: sandbox.inner.read(|world, _| {
                let detailed = purchases.map(|truth| Purchase {
                    details: Details::of(world, &truth),
                    truth,
                });
                detailed.collect()
            }),
            notifications: Vec::new(),
            name,
        }
    }
}

pub(super) async fn create(
    State(sandbox): State<Sandbox>,
    Body(new): Body<NewCustomer>,
) -> Result<(StatusCode, Json<Customer>), Problem> {
    let name = new.name.trim().to_owned();
    let named = sandbox
        .inner
        .change(|turn| Ok(turn.world.customers.add(&name, turn.now)))?;
    match named {
        true => Ok((StatusCode::CREATED, Json(Customer::of(&sandbox, name)))),
        false => Err(Problem::malformed(
            "`name` must be 1 to 100 characters without control characters",
        )),
    }
}

pub(super) async fn show(
    State(sandbox): State<Sandbox>,
    Path(name): Path<String>,
    Params(depth): Params<Depth>,
) -> Result<Json<Customer>, Problem> {
    let mut customer = Customer::of(&sandbox, name);
    if let Some(limit) = depth.notifications {
        customer.notifications = notifications::about(&sandbox, &customer.name, limit);
    }
    let named = || {
        sandbox
            .inner
            .read(|world, _| world.customers.contains(&customer.name))
    };
    match !customer.purchases.is_empty() || named() {
        true => Ok(Json(customer)),
        false => Err(Problem::no_customer()),
    }
}

/// Whose purchases; everybody's if nobody is named.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whose {
    customer: Option<String>,
}

/// All purchases as their stores know them now.
pub(super) async fn truth(
    State(sandbox): State<Sandbox>,
    Params(whose): Params<Whose>,
) -> Json<Vec<PurchaseTruth>> {
    Json(match whose.customer {
        Some(customer) => sandbox.purchases(&customer),
        None => sandbox.all_purchases(),
    })
}
