//! Books what consumables bring their owner, under the lock of their chain and of all accounts
//! that have something of it.

use super::derive;
use crate::domain::catalog::Catalog;
use crate::domain::goods::{self, Booked, Handover};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::provider::{Environment, Provider};
use crate::domain::subscription::store_state::{ItemKind, StoreState};
use crate::domain::time::Instant;
use crate::storage::{StorageError, Tx, credits, deliveries, duties};

/// Whether a chain can have anything to book: subscriptions cost no query.
fn concerns(state: &StoreState) -> bool {
    state
        .items
        .iter()
        .any(|item| item.kind == ItemKind::OneTime)
}

/// Accounts that `hand_over` may take from: to be locked and derived with the owner.
pub(super) async fn holders(
    tx: &mut Tx<'_>,
    chain: ChainId,
    state: Option<&StoreState>,
) -> Result<Vec<AccountId>, StorageError> {
    match state.filter(|state| concerns(state)) {
        Some(_) => credits::holders(tx, chain).await,
        None => Ok(Vec::new()),
    }
}

/// Writes what `owner` is due, and what others no longer are. Tells whether there are new duties.
pub(super) async fn hand_over(
    tx: &mut Tx<'_>,
    chain: (ChainId, Provider),
    state: &StoreState,
    owner: AccountId,
    catalog: &Catalog,
    now: Instant,
) -> Result<bool, StorageError> {
    if !concerns(state) {
        return Ok(false);
    }
    let due = due(tx, chain, state, owner, catalog, now).await?;
    let chain = chain.0;
    credits::append(tx, chain, state.environment, &due.entries, now).await?;
    deliveries::write(tx, chain, state.environment, &due.deliveries, now).await?;
    for duty in &due.duties {
        duties::add(tx, chain, duty).await?;
    }
    Ok(!due.duties.is_empty())
}

/// Writes what the store is to be told once a backend has claimed a delivery; the rest is
/// settle's.
pub(super) async fn tell_store(
    tx: &mut Tx<'_>,
    chain: (ChainId, Provider),
    state: &StoreState,
    owner: AccountId,
    catalog: &Catalog,
    now: Instant,
) -> Result<(), StorageError> {
    let due = due(tx, chain, state, owner, catalog, now).await?;
    for duty in &due.duties {
        duties::add(tx, chain.0, duty).await?;
    }
    Ok(())
}

async fn due(
    tx: &mut Tx<'_>,
    (chain, provider): (ChainId, Provider),
    state: &StoreState,
    owner: AccountId,
    catalog: &Catalog,
    now: Instant,
) -> Result<Handover, StorageError> {
    let entries = credits::of_chain(tx, chain).await?;
    let rows = deliveries::of_chain(tx, chain).await?;
    let booked = Booked {
        entries: &entries,
        deliveries: &rows,
    };
    let tester = match state.environment {
        Environment::Production => false,
        Environment::Sandbox => derive::is_tester_in(tx, owner, catalog).await?,
    };
    let served = catalog.serves(state.environment, tester);
    Ok(goods::hand_over(
        provider, state, owner, served, catalog, booked, now,
    ))
}
