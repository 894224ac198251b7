//! What is for sale at which price: the products of the setup with what the developer changed since.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::period::Period;
use super::super::setup::{AppStoreKind, AppStoreProduct, StoreSetup};

/// What the developer changed since the start.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::sandbox) struct Changes {
    /// Prices in thousandths of the major unit, by product.
    pub(super) prices: BTreeMap<String, i64>,
    /// Products no longer for sale.
    pub(super) withdrawn: BTreeSet<String>,
}

/// The products as they are sold now.
#[derive(Clone, Copy)]
pub(in crate::sandbox) struct Shelf<'a> {
    pub(super) setup: &'a StoreSetup,
    changes: &'a Changes,
}

impl<'a> Shelf<'a> {
    pub(super) fn new(setup: &'a StoreSetup, changes: &'a Changes) -> Self {
        Self { setup, changes }
    }

    /// A product, if it can be bought.
    pub(super) fn for_sale(&self, product_id: &str) -> Option<&'a AppStoreProduct> {
        self.setup
            .app_store_product(product_id)
            .filter(|_| !self.changes.withdrawn.contains(product_id))
    }

    /// What a subscription product costs and gives, for sale or not.
    pub(super) fn terms(&self, product_id: &str) -> Option<Terms<'a>> {
        let product = self.setup.app_store_product(product_id)?;
        Terms::of(product, self.price_milliunits(product))
    }

    /// What a subscription product costs and gives, if it is for sale.
    pub(super) fn terms_for_sale(&self, product_id: &str) -> Option<Terms<'a>> {
        let product = self.for_sale(product_id)?;
        Terms::of(product, self.price_milliunits(product))
    }

    pub(super) fn price_milliunits(&self, product: &AppStoreProduct) -> i64 {
        let changed = self.changes.prices.get(&product.product_id);
        changed.copied().unwrap_or(product.price_milliunits)
    }
}

/// What a subscription product costs and gives.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) product: &'a AppStoreProduct,
    pub(super) price_milliunits: i64,
    pub(super) period: Period,
    pub(super) group: &'a str,
    rank: u32,
    pub(super) grace_days: u16,
    pub(super) retry_days: u16,
}

impl<'a> Terms<'a> {
    fn of(product: &'a AppStoreProduct, price_milliunits: i64) -> Option<Self> {
        match &product.kind {
            AppStoreKind::AutoRenewable {
                period,
                group,
                rank,
                grace_days,
                retry_days,
            } => Some(Self {
                product,
                price_milliunits,
                period: *period,
                group,
                rank: *rank,
                grace_days: *grace_days,
                retry_days: *retry_days,
            }),
            AppStoreKind::NonConsumable | AppStoreKind::Consumable | AppStoreKind::NonRenewing => {
                None
            }
        }
    }

    /// Whether a move from `other` to this takes effect at once: up in rank, or sideways to the
    /// same length.
    pub(super) fn is_upgrade_from(&self, other: &Self) -> bool {
        self.rank < other.rank || (self.rank == other.rank && self.period == other.period)
    }
}
