//! What the developer does at the App Store: prices, extensions, and words about single purchases.

use serde_json::Value;
use uuid::Uuid;

use super::super::error::SandboxError;
use super::super::setup::storefront;
use super::super::state::Turn;
use super::Signal;
use super::chain::Chain;
use super::extension::{DAYS_MAX, Extended, ExtensionRefusal, MassExtension, MassExtensionResult};

impl Turn<'_> {
    pub(super) fn app_store_raise_price(
        &mut self,
        product_id: &str,
        price_milliunits: i64,
        consent: bool,
    ) -> Result<(), SandboxError> {
        let shelf = self.world.app_store.shelf(self.setup);
        let terms = shelf
            .terms(product_id)
            .ok_or_else(|| SandboxError::UnknownProduct(product_id.to_owned()))?;
        if price_milliunits <= terms.price_milliunits {
            return Err(SandboxError::Refused("that raises no price"));
        }
        let prices = &mut self.world.app_store.changes.prices;
        prices.insert(product_id.to_owned(), price_milliunits);
        let chains = self.world.app_store.chains.values();
        let told: Vec<(Chain, Signal)> = chains
            .filter(|chain| {
                let subscription = chain.subscription.as_ref();
                subscription.is_some_and(|s| s.renews_to == product_id)
            })
            .filter_map(|chain| {
                let mut chain = chain.clone();
                let signal = chain.raise_price(product_id, consent)?;
                Some((chain, signal))
            })
            .collect();
        for (chain, signal) in told {
            self.app_store_settle(chain, vec![signal])?;
        }
        Ok(())
    }

    pub(super) fn app_store_withdraw(&mut self, product_id: String) -> Result<(), SandboxError> {
        if self.setup.app_store_product(&product_id).is_none() {
            return Err(SandboxError::UnknownProduct(product_id));
        }
        self.world.app_store.changes.withdrawn.insert(product_id);
        Ok(())
    }

    /// Moves the end of one subscription's current period by 1 to 90 days.
    pub(in crate::sandbox) fn app_store_extend(
        &mut self,
        original_transaction_id: &str,
        days: u8,
    ) -> Result<Result<Extended, ExtensionRefusal>, SandboxError> {
        if !(1..=DAYS_MAX).contains(&days) {
            return Err(SandboxError::Refused("an extension is 1 to 90 days"));
        }
        let chain = self.world.app_store.chains.get(original_transaction_id);
        let mut chain = chain.cloned().ok_or(SandboxError::UnknownPurchase)?;
        match chain.extend(days, self.now) {
            Ok((extended, signal)) => {
                self.app_store_settle(chain, vec![signal])?;
                Ok(Ok(extended))
            }
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// Extends all active subscribers of a product; a request made before is not done again.
    pub(in crate::sandbox) fn app_store_extend_mass(
        &mut self,
        request: MassExtension,
    ) -> Result<(), SandboxError> {
        if !(1..=DAYS_MAX).contains(&request.days) {
            return Err(SandboxError::Refused("an extension is 1 to 90 days"));
        }
        let known = &self.world.app_store.mass_extensions;
        if known.contains_key(&request.request_identifier) {
            return Ok(());
        }
        let subscribers: Vec<Chain> = self
            .world
            .app_store
            .chains
            .values()
            .filter(|chain| self.is_extended_by(chain, &request))
            .cloned()
            .collect();
        let (mut succeeded, mut failed) = (0, 0);
        for mut chain in subscribers {
            let signal = match chain.extend(request.days, self.now) {
                Ok((_, signal)) => {
                    succeeded += 1;
                    signal
                }
                Err(_) => {
                    failed += 1;
                    chain.signal("RENEWAL_EXTENSION", Some("FAILURE"))
                }
            };
            self.app_store_settle(chain, vec![signal])?;
        }
        let result = MassExtensionResult {
            completed_at: self.now,
            succeeded,
            failed,
            request,
        };
        self.app_store_announce(|letterhead| letterhead.extension_summary(&result))?;
        let id = result.request.request_identifier.clone();
        self.world.app_store.mass_extensions.insert(id, result);
        Ok(())
    }

    fn is_extended_by(&self, chain: &Chain, request: &MassExtension) -> bool {
        let Some(latest) = chain.latest() else {
            return false;
        };
        let (code, _, _) = storefront(&latest.currency);
        let chosen = request.storefronts.is_empty()
            || request.storefronts.iter().any(|wanted| wanted == code);
        chosen
            && latest.product_id == request.product_id
            && !chain.sharing.is_shared()
            && matches!(chain.status(self.now), Some(1 | 4))
    }

    /// The developer names the account of a purchase: on its latest transaction and all to come.
    pub(in crate::sandbox) fn app_store_set_account_token(
        &mut self,
        original_transaction_id: &str,
        token: Uuid,
    ) -> Result<(), SandboxError> {
        let chain = self.world.app_store.chains.get(original_transaction_id);
        let mut chain = chain.cloned().ok_or(SandboxError::UnknownPurchase)?;
        chain.app_account_token = Some(token);
        if let Some(latest) = chain.latest_mut() {
            latest.app_account_token = Some(token);
        }
        self.app_store_settle(chain, Vec::new())
    }

    /// The developer says that a transaction has been delivered.
    pub(in crate::sandbox) fn app_store_finish(
        &mut self,
        transaction_id: &str,
    ) -> Result<(), SandboxError> {
        let transaction = self.world.app_store.transaction_mut(transaction_id);
        transaction.ok_or(SandboxError::UnknownPurchase)?.finished = true;
        Ok(())
    }

    /// The developer answers Apple's question about the consumption of a purchase.
    pub(in crate::sandbox) fn app_store_record_consumption(
        &mut self,
        transaction_id: &str,
        answer: Value,
    ) -> Result<(), SandboxError> {
        let transaction = self.world.app_store.transaction_mut(transaction_id);
        let transaction = transaction.ok_or(SandboxError::UnknownPurchase)?;
        transaction.consumption = Some(answer);
        Ok(())
    }
}
