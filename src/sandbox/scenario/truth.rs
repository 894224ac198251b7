//! What every account of a scenario truly has: purchases as the stores know them, whose they are,
//! and what the scenario's products give.

use std::collections::BTreeMap;

use super::super::delivery::Store;
use super::super::truth::PurchaseTruth;
use super::player::{PlayError, Player};
use super::product::Product;
use super::store_actions::sold_as;

/// What everybody has at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Entitlements that are on, by account, with the number of purchases that each stands on.
    pub on: BTreeMap<String, BTreeMap<String, usize>>,
    /// What is counted, by account.
    pub counted: BTreeMap<String, BTreeMap<String, u64>>,
    /// How many purchases the stores know, ended ones included.
    pub purchases: usize,
}

impl Truth {
    /// Whether an account has the use of something.
    pub fn is_on(&self, account: &str, entitlement: &str) -> bool {
        let on = self.on.get(account);
        on.is_some_and(|on| on.contains_key(entitlement))
    }

    /// How many of something an account has.
    pub fn count(&self, account: &str, counted: &str) -> u64 {
        let of = self.counted.get(account);
        of.and_then(|of| of.get(counted)).copied().unwrap_or(0)
    }
}

impl Player<'_> {
    /// What everybody has now.
    ///
    /// # Errors
    /// A store knows a purchase of something that the scenario does not sell.
    pub fn truth(&self) -> Result<Truth, PlayError> {
        let mut truth = Truth::default();
        for purchase in self.sandbox.all_purchases() {
            truth.purchases += 1;
            let product = self.product_of(&purchase)?;
            let hint = purchase.account.as_deref();
            let owner = self.owner(purchase.store, &purchase.id, hint);
            let (Some(owner), true) = (owner, purchase.entitled) else {
                continue;
            };
            let on = truth.on.entry(owner.to_owned()).or_default();
            for entitlement in &product.gives {
                *on.entry(entitlement.clone()).or_default() += 1;
            }
            let counted = truth.counted.entry(owner.to_owned()).or_default();
            for (name, amount) in &product.credits {
                *counted.entry(name.clone()).or_default() += amount * u64::from(purchase.quantity);
            }
        }
        Ok(truth)
    }

    fn product_of(&self, purchase: &PurchaseTruth) -> Result<&Product, PlayError> {
        let named = (purchase.product_id.clone(), purchase.base_plan_id.clone());
        let mut products = self.scenario.products.values();
        products
            .find(|product| sold_as(product, purchase.store).as_ref() == Some(&named))
            .ok_or_else(|| PlayError::NotSold(purchase.product_id.clone(), purchase.store))
    }

    /// Whose a purchase is: to whom the server gave it, or else whom the store's record names.
    pub(super) fn owner(&self, store: Store, id: &str, hint: Option<&str>) -> Option<&str> {
        let given = self.owners.get(&(store, id.to_owned()));
        let given = given.map(String::as_str);
        given.or_else(|| hint.and_then(|token| self.account_by_store_token(token)))
    }
}
