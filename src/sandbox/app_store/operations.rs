//! What customers and Apple's staff do: buy, cancel, stop paying, refund.

use super::super::agenda::Due;
use super::super::error::SandboxError;
use super::super::setup::{AppStoreKind, AppStoreProduct, Environment};
use super::super::state::Turn;
use super::lifecycle::{Chain, Charge, Phase, Subscription, Terms};
use super::{AppStoreBuy, AppStorePurchase, Billing, Signal, Transaction, payload};

impl Turn<'_> {
    /// A customer buys something.
    pub(in crate::sandbox) fn app_store_buy(
        &mut self,
        buy: &AppStoreBuy,
    ) -> Result<AppStorePurchase, SandboxError> {
        let setup = self.setup;
        let product = setup
            .app_store_product(&buy.product_id)
            .ok_or_else(|| SandboxError::UnknownProduct(buy.product_id.clone()))?;
        let (chain, signal) = match Terms::of(product) {
            Some(terms) => self.subscribe(buy, terms)?,
            None => self.buy_once(buy, product)?,
        };
        let id = chain.original_transaction_id.clone();
        let transaction_id = chain.latest().map(|t| t.id.clone()).unwrap_or_default();
        self.app_store_settle(chain, vec![signal])?;
        Ok(AppStorePurchase {
            signed_transaction: self.app_store_signed_transaction(&transaction_id)?,
            transaction_id,
            original_transaction_id: id,
        })
    }

    fn subscribe(
        &mut self,
        buy: &AppStoreBuy,
        terms: Terms<'_>,
    ) -> Result<(Chain, Signal), SandboxError> {
        let held = self.world.app_store.chains_of(&buy.customer).find(|chain| {
            let subscription = chain.subscription.as_ref();
            subscription.is_some_and(|s| s.group == terms.group)
        });
        let charge = Charge {
            terms,
            at: self.now,
            trial: buy.trial,
            renewal: false,
        };
        let Some(mut chain) = held.cloned() else {
            let mut chain = self.new_chain(buy);
            chain.subscription = Some(Subscription {
                group: terms.group.to_owned(),
                renews_to: buy.product_id.clone(),
                auto_renew: true,
                billing: Billing::Works,
                phase: Phase::Active,
                since: self.now,
            });
            chain.charge(charge, &mut self.world.ids);
            let signal = chain.signal("SUBSCRIBED", Some("INITIAL_BUY"));
            return Ok((chain, signal));
        };
        if matches!(chain.status(self.now), Some(1 | 3 | 4)) {
            return self.change_plan(chain, buy, charge);
        }
        chain.app_account_token = buy.app_account_token;
        chain.charge(charge, &mut self.world.ids);
        if let Some(subscription) = chain.subscription.as_mut() {
            subscription.renews_to.clone_from(&buy.product_id);
            subscription.auto_renew = true;
            subscription.billing = Billing::Works;
            subscription.since = self.now;
        }
        let signal = chain.signal("SUBSCRIBED", Some("RESUBSCRIBE"));
        Ok((chain, signal))
    }

    /// Another product of the group while one is held: up at once, down at the next renewal.
    fn change_plan(
        &mut self,
        mut chain: Chain,
        buy: &AppStoreBuy,
        charge: Charge<'_>,
    ) -> Result<(Chain, Signal), SandboxError> {
        let current = chain.latest().map(|t| t.product_id.clone());
        let current = current.and_then(|id| self.setup.app_store_product(&id));
        let (Some(current), Some(subscription)) =
            (current.and_then(Terms::of), chain.subscription.as_mut())
        else {
            return Err(SandboxError::Refused("the held product is not for sale"));
        };
        if subscription.renews_to == buy.product_id || subscription.phase != Phase::Active {
            return Err(SandboxError::Refused("already subscribed"));
        }
        subscription.renews_to.clone_from(&buy.product_id);
        subscription.auto_renew = true;
        if !charge.terms.is_upgrade_from(&current) {
            let signal = chain.signal("DID_CHANGE_RENEWAL_PREF", Some("DOWNGRADE"));
            return Ok((chain, signal));
        }
        if let Some(old) = chain.transactions.last_mut() {
            old.upgraded = true;
        }
        chain.charge(charge, &mut self.world.ids);
        let signal = chain.signal("DID_CHANGE_RENEWAL_PREF", Some("UPGRADE"));
        Ok((chain, signal))
    }

    fn buy_once(
        &mut self,
        buy: &AppStoreBuy,
        product: &AppStoreProduct,
    ) -> Result<(Chain, Signal), SandboxError> {
        let owned = self.world.app_store.chains_of(&buy.customer).any(|chain| {
            chain
                .latest()
                .is_some_and(|t| t.product_id == buy.product_id && t.revoked_at.is_none())
        });
        if owned && product.kind == AppStoreKind::NonConsumable {
            return Err(SandboxError::Refused("already owned"));
        }
        let mut chain = self.new_chain(buy);
        chain.transactions.push(Transaction {
            id: chain.original_transaction_id.clone(),
            web_order_line_item_id: None,
            product_id: product.product_id.clone(),
            purchased_at: self.now,
            expires_at: None,
            price_milliunits: product.price_milliunits,
            currency: product.currency.clone(),
            trial: None,
            renewal: false,
            revoked_at: None,
            upgraded: false,
        });
        let signal = chain.signal("ONE_TIME_CHARGE", None);
        Ok((chain, signal))
    }

    fn new_chain(&mut self, buy: &AppStoreBuy) -> Chain {
        let prefix = match self.setup.environment {
            Environment::Production => "57000",
            Environment::Sandbox => "2000000",
        };
        let ids = &mut self.world.ids;
        let customers = &mut self.world.app_store.customers;
        let app_transaction_id = customers
            .entry(buy.customer.clone())
            .or_insert_with(|| ids.number("70", 18))
            .clone();
        Chain {
            original_transaction_id: ids.number(prefix, 15),
            customer: buy.customer.clone(),
            app_transaction_id,
            app_account_token: buy.app_account_token,
            transactions: Vec::new(),
            subscription: None,
        }
    }

    /// Turns auto-renewal on or off.
    pub(in crate::sandbox) fn app_store_set_auto_renew(
        &mut self,
        original_transaction_id: &str,
        enabled: bool,
    ) -> Result<(), SandboxError> {
        let mut chain = self.app_store_subscription(original_transaction_id)?;
        let ended = matches!(chain.status(self.now), Some(2 | 5));
        if ended {
            return Err(SandboxError::Refused("the subscription has ended"));
        }
        let signals = chain.set_auto_renew(enabled);
        self.app_store_settle(chain, signals)
    }

    /// Makes the means of payment fail or work.
    pub(in crate::sandbox) fn app_store_set_billing(
        &mut self,
        original_transaction_id: &str,
        billing: Billing,
    ) -> Result<(), SandboxError> {
        let mut chain = self.app_store_subscription(original_transaction_id)?;
        let signals = chain.set_billing(billing, self.now, self.setup, &mut self.world.ids);
        self.app_store_settle(chain, signals)
    }

    /// Refunds one transaction in full.
    pub(in crate::sandbox) fn app_store_refund(
        &mut self,
        transaction_id: &str,
    ) -> Result<(), SandboxError> {
        let mut chain = self
            .world
            .app_store
            .chain_by_transaction(transaction_id)
            .cloned()
            .ok_or(SandboxError::UnknownPurchase)?;
        let signal = chain
            .refund(transaction_id, self.now)
            .ok_or(SandboxError::Refused("already refunded"))?;
        self.app_store_settle(chain, vec![signal])
    }

    /// A transaction as StoreKit hands it to the app, signed now.
    pub(in crate::sandbox) fn app_store_signed_transaction(
        &mut self,
        transaction_id: &str,
    ) -> Result<String, SandboxError> {
        let signed_at = self.world.read_stamp(self.now);
        let chain = self.world.app_store.chain_by_transaction(transaction_id);
        let chain = chain.ok_or(SandboxError::UnknownPurchase)?;
        let transaction = chain
            .transaction(transaction_id)
            .ok_or(SandboxError::UnknownPurchase)?;
        let payload = payload::transaction(chain, transaction, self.setup, signed_at)?;
        self.keys.apple.sign(&payload)
    }

    /// Lets happen what is due to a chain.
    pub(in crate::sandbox) fn app_store_play(&mut self, id: &str) -> Result<(), SandboxError> {
        let Some(mut chain) = self.world.app_store.chains.get(id).cloned() else {
            return Ok(());
        };
        let signals = chain.play(self.setup, &mut self.world.ids);
        self.app_store_settle(chain, signals)
    }

    /// Apple's TEST notification; returns the token to ask about it with.
    pub(in crate::sandbox) fn app_store_test(&mut self) -> Result<String, SandboxError> {
        let signed_at = self.stamp();
        let id = self.world.ids.uuid().to_string();
        let body = payload::test(&id, self.setup, self.keys, signed_at)?;
        self.send(payload::record(&id, "TEST", None, None, self.now, body));
        Ok(format!("{id}_{}", signed_at.timestamp_millis()))
    }

    fn app_store_subscription(&self, id: &str) -> Result<Chain, SandboxError> {
        self.world
            .app_store
            .chains
            .get(id)
            .filter(|chain| chain.subscription.is_some())
            .cloned()
            .ok_or(SandboxError::UnknownPurchase)
    }

    /// Puts a changed chain back, tells what happened, and plans what comes next.
    fn app_store_settle(&mut self, chain: Chain, signals: Vec<Signal>) -> Result<(), SandboxError> {
        for signal in signals {
            let signed_at = self.stamp();
            let id = self.world.ids.uuid().to_string();
            let about = payload::About {
                chain: &chain,
                setup: self.setup,
                keys: self.keys,
                now: self.now,
                signed_at,
            };
            let body = about.notification(&id, &signal)?;
            let purchase = Some(chain.original_transaction_id.clone());
            let (kind, subtype) = (signal.kind, signal.subtype);
            self.send(payload::record(
                &id, kind, subtype, purchase, self.now, body,
            ));
            self.superwall_about_app_store(&chain, &signal);
        }
        let id = chain.original_transaction_id.clone();
        for transaction in &chain.transactions {
            let known = &mut self.world.app_store.chain_of;
            known.insert(transaction.id.clone(), id.clone());
        }
        let next = chain.next_due(&self.setup.timing);
        self.world.agenda.set(Due::AppStore(id.clone()), next);
        self.world.app_store.chains.insert(id, chain);
        Ok(())
    }
}
