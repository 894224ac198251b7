//! What an account holds: the items of its chains, and the plans that they were before.

use super::chain::{AppId, StoreProduct};
use super::goods;
use super::provider::{Environment, Provider};
use super::subscription::guard::Known;
use super::subscription::state::{ExpiryReason, ItemState, Offer};
use super::subscription::store_state::{Item, ItemKind};
use super::time::Instant;

/// An item as the account's derivation sees it: the store's word plus what we know of the chain.
#[derive(Clone, Debug)]
pub(crate) struct Holding {
    pub(crate) provider: Provider,
    /// The app that it was bought in.
    pub(crate) app: AppId,
    pub(crate) environment: Environment,
    pub(crate) item: Item,
    /// Units of a one-time purchase that are paid for and not taken back.
    pub(crate) units: u32,
    /// The plan that the item was before a change: over, and remembered for its reason.
    pub(crate) former: bool,
    /// The store could not be asked when the period ended.
    pub(crate) store_away: bool,
    /// Set while only a signed proof stands for the store's word.
    pub(crate) unconfirmed_since: Option<Instant>,
    /// Since when the chain, once the account's, is another's.
    pub(crate) away_since: Option<Instant>,
    /// The account is one that sandbox purchases serve while they do not serve everyone.
    pub(crate) tester: bool,
}

/// A chain as the books have it.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) provider: Provider,
    pub(crate) store_away: bool,
    pub(crate) away_since: Option<Instant>,
    pub(crate) known: Known,
}

impl Chain {
    /// Its items, and what it was before: `charged` names every product that was ever paid for on
    /// it, with the end of the last period that was.
    pub(crate) fn holdings(
        self,
        charged: impl IntoIterator<Item = (StoreProduct, Instant)>,
    ) -> Vec<Holding> {
        let Known {
            state,
            unconfirmed_since,
            ..
        } = self.known;
        let units: Vec<u32> = state
            .items
            .iter()
            .map(|item| goods::units_of(&state, item))
            .collect();
        let holding = |item, units, former| Holding {
            provider: self.provider,
            app: state.head.app.clone(),
            environment: state.environment,
            item,
            units,
            former,
            store_away: self.store_away,
            unconfirmed_since,
            away_since: self.away_since,
            // Who is one, the catalog says.
            tester: false,
        };
        let subscription = |item: &&Item| item.kind == ItemKind::Subscription;
        // Whichever plan came next began when, or before, this one does.
        let next_began = state
            .items
            .iter()
            .filter(subscription)
            .filter_map(|item| item.started_at)
            .max();
        let is_renewable = state.items.iter().any(|item| subscription(&item));
        let former = charged.into_iter().filter(|(product, _)| {
            is_renewable && state.items.iter().all(|item| item.product != *product)
        });
        let mut holdings: Vec<Holding> = former
            .map(|(product, ended_at)| {
                let at = next_began.map_or(ended_at, |began| ended_at.min(began));
                holding(formerly(product, at), 0, true)
            })
            .collect();
        let items = state.items.iter().cloned().zip(units);
        holdings.extend(items.map(|(item, units)| holding(item, units, false)));
        holdings
    }
}

/// A plan that a change ended.
fn formerly(product: StoreProduct, at: Instant) -> Item {
    Item {
        key: String::new(),
        product,
        kind: ItemKind::Subscription,
        state: ItemState::Expired {
            at,
            reason: ExpiryReason::Replaced,
        },
        offer: Offer::None,
        started_at: None,
        transaction_id: None,
        pending_product: None,
        family_shared: false,
        quantity: 1,
    }
}
