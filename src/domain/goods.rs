//! Consumables: what an owner is credited with or handed out, and when the store is told.
//!
//! Level-triggered like everything else: the units that a purchase holds now, against what was
//! booked so far, give what is to be booked. The same inputs twice give nothing the second time.

use std::collections::BTreeSet;

use chrono::TimeDelta;

use super::catalog::{Catalog, DeliveredBy, Product, ProductKind};
use super::chain::{StoreProduct, further_line};
use super::credit::{self, Entry};
use super::delivery::{self, Delivery};
use super::duty::{Duty, NewDuty};
use super::ids::AccountId;
use super::provider::Provider;
use super::subscription::state::ItemState;
use super::subscription::store_state::{Item, ItemKind, StoreState, Transaction};
use super::time::Instant;

/// A store that waits for nothing more (the purchase was acknowledged elsewhere, or it is the App
/// Store) is still told soon: the customer cannot buy again before.
const TELL_WITHIN: TimeDelta = TimeDelta::days(3);

/// One line of a one-time purchase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// The transaction's id; further lines of one order add their product's.
    pub(crate) id: String,
    pub(crate) product: &'a StoreProduct,
    /// Units that are paid for and not taken back; `None` while the store has not said (pending).
    pub(crate) held: Option<u32>,
    /// The store says that it is used up.
    consumed: bool,
}

/// What was booked for a chain so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Booked<'a> {
    pub(crate) entries: &'a [Entry],
    pub(crate) deliveries: &'a [Delivery],
}

/// What is to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handover {
    /// Appended.
    pub(crate) entries: Vec<Entry>,
    /// Rows as they must be from now on: new ones and those that changed.
    pub(crate) deliveries: Vec<Delivery>,
    /// To be told to the store once the rest is durable.
    pub(crate) duties: Vec<NewDuty>,
}

/// Where all of a purchase was bought once and nothing of it awaits its payment: its products, by
/// names that tell the stores apart.
pub(crate) fn bought_once(state: &StoreState) -> Option<Vec<String>> {
    let once = |item: &Item| item.kind == ItemKind::OneTime && item.state != ItemState::Pending;
    let products = state.items.iter().map(|item| &item.product);
    let names = || products.map(|product| name_of(state.head.provider, product));
    state.items.iter().all(once).then(|| names().collect())
}

/// What a purchase is of (`bought_once`) that leaves its owner nothing but credits.
pub(crate) fn used_up(catalog: &Catalog) -> Vec<String> {
    let consumables = catalog
        .products()
        .filter(|(_, product)| product.kind == ProductKind::Consumable);
    let sold = consumables.flat_map(|(_, product)| product.store_products());
    sold.map(|(provider, product)| name_of(provider, &product))
        .collect()
}

fn name_of(provider: Provider, product: &StoreProduct) -> String {
    format!("{provider}/{product}")
}

/// Everything that `owner` is due from what the store says of the chain. `served`: purchases of
/// its environment count for the owner.
pub(crate) fn hand_over(
    provider: Provider,
    state: &StoreState,
    owner: AccountId,
    served: bool,
    catalog: &Catalog,
    booked: Booked<'_>,
    now: Instant,
) -> Handover {
    let lines = lines(state);
    let plan = |line: &Line<'_>| catalog.plan(provider, line.product);
    let mut entries = Vec::new();
    let mut deliveries = Vec::new();
    for line in no_longer_told(&lines, booked.entries) {
        entries.extend(credit::of_line(line, None, owner, None, booked.entries));
    }
    for line in &lines {
        let used_up = plan(line).filter(|(_, product)| product.kind == ProductKind::Consumable);
        let delivered = booked.deliveries.iter().find(|row| row.line == line.id);
        let credited = booked.entries.iter().any(|entry| entry.line == line.id);
        // What a line was once booked as, it stays, whatever the catalog says later.
        let rates = used_up
            .filter(|(_, product)| {
                served && delivered.is_none() && product.delivered_by == DeliveredBy::Credits
            })
            .map(|(_, product)| &product.credits);
        let booked_of = credit::of_line(&line.id, line.held, owner, rates, booked.entries);
        entries.extend(booked_of);
        let handed_out = used_up.filter(|(_, product)| {
            served && !credited && product.delivered_by == DeliveredBy::Backend
        });
        deliveries.extend(delivery::of_line(
            line,
            owner,
            handed_out.map(|(id, _)| id),
            delivered,
            now,
        ));
    }
    let duties = if served {
        let after = After {
            booked,
            entries: &entries,
        };
        tell_store(provider, state, &lines, catalog, &after)
    } else {
        Vec::new()
    };
    Handover {
        entries,
        deliveries,
        duties,
    }
}

/// Lines that were booked once and that this answer does not name.
fn no_longer_told<'a>(lines: &[Line<'_>], entries: &'a [Entry]) -> BTreeSet<&'a str> {
    let booked = entries.iter().map(|entry| entry.line.as_str());
    booked
        .filter(|name| lines.iter().all(|line| line.id != *name))
        .collect()
}

/// The lines of a one-time purchase; a subscription has none.
pub(crate) fn lines(state: &StoreState) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for item in &state.items {
        if item.kind != ItemKind::OneTime {
            continue;
        }
        // A purchase without an order (a promotion) has one line by each name.
        let transaction = item.transaction_id.as_ref().unwrap_or(&item.key);
        let first = lines.iter().all(|line| line.id != *transaction);
        let row = row_of(state, item);
        lines.push(Line {
            id: if first {
                transaction.clone()
            } else {
                further_line(transaction, &item.product.product_id)
            },
            product: &item.product,
            held: held(item, row.map(Transaction::units_held)),
            consumed: row.is_some_and(|row| row.consumed),
        });
    }
    lines
}

/// The charge behind a line: each line of an order has its own.
fn row_of<'a>(state: &'a StoreState, item: &Item) -> Option<&'a Transaction> {
    state.transactions.iter().find(|row| {
        Some(&row.transaction_id) == item.transaction_id.as_ref()
            && row.product.product_id == item.product.product_id
    })
}

/// Units of an item that are paid for and not taken back, as far as the store has said.
pub(crate) fn units_of(state: &StoreState, item: &Item) -> u32 {
    held(item, row_of(state, item).map(Transaction::units_held)).unwrap_or(0)
}

fn held(item: &Item, by_row: Option<u32>) -> Option<u32> {
    match item.state {
        ItemState::Owned { .. } => Some(by_row.unwrap_or(item.quantity)),
        ItemState::Revoked { .. } | ItemState::Expired { .. } => Some(0),
        ItemState::Pending
        | ItemState::Unknown { .. }
        | ItemState::Active { .. }
        | ItemState::GracePeriod { .. }
        | ItemState::OnHold { .. }
        | ItemState::Paused { .. } => None,
    }
}

/// What is booked once this is committed.
struct After<'a> {
    booked: Booked<'a>,
    entries: &'a [Entry],
}

impl After<'_> {
    /// Whether the owner has what the line bought, and the store is to take it for used up.
    fn handed_over(
        &self,
        provider: Provider,
        line: &Line<'_>,
        plan: Option<(&str, &Product)>,
    ) -> bool {
        match (plan.map(|(_, product)| product.kind), provider) {
            (Some(ProductKind::Consumable), _) => {}
            // Google sells nothing again that is not consumed; its access is derived.
            (Some(ProductKind::NonRenewing), Provider::GooglePlay) => return true,
            (Some(ProductKind::NonRenewing), Provider::AppStore)
            | (Some(ProductKind::Subscription | ProductKind::NonConsumable) | None, _) => {
                return false;
            }
        }
        let mut entries = self.booked.entries.iter().chain(self.entries);
        let delivery = self
            .booked
            .deliveries
            .iter()
            .find(|row| row.line == line.id);
        entries.any(|entry| entry.line == line.id)
            || delivery.is_some_and(|row| row.claimed_at.is_some())
    }
}

/// Google takes the whole purchase for used up, Apple each transaction for finished: only once
/// everything in it has reached its owner, and not what was taken back.
fn tell_store(
    provider: Provider,
    state: &StoreState,
    lines: &[Line<'_>],
    catalog: &Catalog,
    after: &After<'_>,
) -> Vec<NewDuty> {
    let held = |line: &&Line<'_>| line.held.is_some_and(|units| units > 0);
    let done = lines
        .iter()
        .filter(|line| line.held != Some(0))
        .all(|line| after.handed_over(provider, line, catalog.plan(provider, line.product)));
    let Some(line) = lines.iter().find(held).filter(|_| done) else {
        return Vec::new();
    };
    let deadline = state.acknowledge_by.unwrap_or(state.stamp + TELL_WITHIN);
    let duty = match provider {
        Provider::GooglePlay if lines.iter().filter(held).all(|line| line.consumed) => {
            return Vec::new();
        }
        // One per token: the head names it.
        Provider::GooglePlay => (state.head.value.clone(), Duty::Consume),
        Provider::AppStore => (line.id.clone(), Duty::Finish),
    };
    let (transaction_id, duty) = duty;
    vec![NewDuty {
        transaction_id,
        duty,
        deadline,
    }]
}

#[cfg(test)]
#[path = "goods_tests.rs"]
mod tests;
