//! What customers, the developer and Apple's staff do to purchases that exist.

use super::super::delivery::Source;
use super::super::error::SandboxError;
use super::super::outcome::Outcome;
use super::super::setup::Environment;
use super::super::state::Turn;
use super::action::{AppStoreAction, ExternalPurchaseKind, RefundReason};
use super::chain::Chain;
use super::extension::{Extended, ExtensionRefusal};
use super::{Billing, Signal, payload};

impl Turn<'_> {
    /// Does one thing at the App Store.
    pub(in crate::sandbox) fn app_store(
        &mut self,
        action: AppStoreAction,
    ) -> Result<Outcome, SandboxError> {
        use AppStoreAction as Do;
        match action {
            Do::Buy(buy) => return self.app_store_buy(&buy).map(Outcome::AppStore),
            Do::SetAutoRenew {
                original_transaction_id,
                enabled,
            } => self.app_store_set_auto_renew(&original_transaction_id, enabled)?,
            Do::SetBilling {
                original_transaction_id,
                billing,
            } => self.app_store_set_billing(&original_transaction_id, billing)?,
            Do::RedeemOffer {
                original_transaction_id,
                offer,
                product_id,
            } => {
                let redeemed = self.app_store_redeem(&original_transaction_id, offer, product_id);
                return redeemed.map(Outcome::AppStore);
            }
            Do::RequestRefund {
                transaction_id,
                reason,
            } => self.app_store_request_refund(&transaction_id, reason)?,
            Do::DeclineRefund { transaction_id } => {
                self.app_store_decline_refund(&transaction_id)?;
            }
            Do::Refund {
                transaction_id,
                percent,
            } => self.app_store_refund(&transaction_id, percent)?,
            Do::ReverseRefund { transaction_id } => {
                self.app_store_reverse_refund(&transaction_id)?;
            }
            Do::Share {
                original_transaction_id,
                member,
            } => {
                let shared = self.app_store_share(&original_transaction_id, &member);
                return shared.map(Outcome::AppStore);
            }
            Do::Unshare {
                original_transaction_id,
                member,
            } => self.app_store_unshare(&original_transaction_id, &member)?,
            Do::RaisePrice {
                product_id,
                price_milliunits,
                consent,
            } => self.app_store_raise_price(&product_id, price_milliunits, consent)?,
            Do::AnswerPrice {
                original_transaction_id,
                accept,
            } => self.app_store_answer_price(&original_transaction_id, accept)?,
            Do::Extend {
                original_transaction_id,
                days,
                reason: _,
            } => {
                let extended = self.app_store_extend(&original_transaction_id, days)?;
                return extended.map(Outcome::from).map_err(SandboxError::from);
            }
            Do::WithdrawProduct { product_id } => self.app_store_withdraw(product_id)?,
            Do::RescindConsent { customer } => self.app_store_rescind_consent(&customer)?,
            Do::ExternalPurchase {
                kind,
                external_purchase_id,
            } => return self.app_store_external_purchase(kind, external_purchase_id),
        }
        Ok(Outcome::Done {})
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
        let world = &mut *self.world;
        let shelf = world.app_store.shelf(self.setup);
        let signals = chain.set_billing(billing, self.now, &shelf, &mut world.ids);
        self.app_store_settle(chain, signals)
    }

    fn app_store_request_refund(
        &mut self,
        transaction_id: &str,
        reason: RefundReason,
    ) -> Result<(), SandboxError> {
        let refusal = SandboxError::Refused("already refunded");
        self.about_transaction(transaction_id, refusal, |chain| {
            chain.request_refund(transaction_id, reason)
        })
    }

    fn app_store_decline_refund(&mut self, transaction_id: &str) -> Result<(), SandboxError> {
        let refusal = SandboxError::Refused("no refund has been asked for");
        self.about_transaction(transaction_id, refusal, |chain| {
            chain.decline_refund(transaction_id)
        })
    }

    /// Refunds one transaction, in full at 100 percent.
    pub(in crate::sandbox) fn app_store_refund(
        &mut self,
        transaction_id: &str,
        percent: u8,
    ) -> Result<(), SandboxError> {
        if !(1..=100).contains(&percent) {
            return Err(SandboxError::Refused("a refund is 1 to 100 percent"));
        }
        let now = self.now;
        let refusal = SandboxError::Refused("already refunded");
        self.about_transaction(transaction_id, refusal, |chain| {
            chain.refund(transaction_id, percent, now)
        })
    }

    fn app_store_reverse_refund(&mut self, transaction_id: &str) -> Result<(), SandboxError> {
        let now = self.now;
        let refusal = SandboxError::Refused("not refunded");
        self.about_transaction(transaction_id, refusal, |chain| {
            chain.reverse_refund(transaction_id, now)
        })
    }

    /// Apple's staff decides about a purchaser's transaction.
    fn about_transaction(
        &mut self,
        transaction_id: &str,
        refusal: SandboxError,
        decide: impl FnOnce(&mut Chain) -> Option<Signal>,
    ) -> Result<(), SandboxError> {
        let chain = self.world.app_store.chain_by_transaction(transaction_id);
        let mut chain = chain.cloned().ok_or(SandboxError::UnknownPurchase)?;
        if chain.sharing.is_shared() {
            return Err(SandboxError::Refused("the member has paid nothing"));
        }
        let signal = decide(&mut chain).ok_or(refusal)?;
        self.app_store_settle(chain, vec![signal])
    }

    fn app_store_answer_price(
        &mut self,
        original_transaction_id: &str,
        accept: bool,
    ) -> Result<(), SandboxError> {
        let mut chain = self.app_store_subscription(original_transaction_id)?;
        let signals = chain.answer_price(accept);
        let signals = signals.ok_or(SandboxError::Refused("no price awaits an answer"))?;
        self.app_store_settle(chain, signals)
    }

    fn app_store_rescind_consent(&mut self, customer: &str) -> Result<(), SandboxError> {
        let ids = &mut self.world.ids;
        let minor = self.world.app_store.customer_mut(customer, ids, self.now);
        let minor = minor.clone();
        self.app_store_announce(|letterhead| letterhead.rescind_consent(&minor))?;
        Ok(())
    }

    fn app_store_external_purchase(
        &mut self,
        kind: ExternalPurchaseKind,
        id: Option<String>,
    ) -> Result<Outcome, SandboxError> {
        let external_purchase_id = id.unwrap_or_else(|| {
            let id = self.world.ids.uuid();
            match self.setup.environment {
                Environment::Production => id.to_string(),
                Environment::Sandbox => format!("SANDBOX_{id}"),
            }
        });
        let tokens = &mut self.world.app_store.external_tokens;
        let created_at = *tokens
            .entry(external_purchase_id.clone())
            .or_insert(self.now);
        self.app_store_announce(|letterhead| {
            letterhead.external_purchase(kind, &external_purchase_id, created_at)
        })?;
        Ok(Outcome::ExternalPurchase {
            external_purchase_id,
        })
    }

    /// A transaction as StoreKit hands it to the app, signed now.
    pub(in crate::sandbox) fn app_store_signed_transaction(
        &mut self,
        transaction_id: &str,
    ) -> Result<String, SandboxError> {
        let signed_at = self.world.read_stamp(Source::AppStore, self.now);
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
        let world = &mut *self.world;
        let Some(mut chain) = world.app_store.chains.get(id).cloned() else {
            return Ok(());
        };
        let shelf = world.app_store.shelf(self.setup);
        let signals = chain.play(&shelf, &mut world.ids);
        self.app_store_settle(chain, signals)
    }

    /// Apple's TEST notification; returns the token to ask about it with.
    pub(in crate::sandbox) fn app_store_test(&mut self) -> Result<String, SandboxError> {
        let (id, signed_at) = self.app_store_announce(|letterhead| letterhead.test())?;
        Ok(format!("{id}_{signed_at}"))
    }

    /// A purchaser's subscription.
    pub(super) fn app_store_subscription(&self, id: &str) -> Result<Chain, SandboxError> {
        let chain = self.world.app_store.chains.get(id);
        let chain = chain.filter(|chain| chain.subscription.is_some());
        let chain = chain.ok_or(SandboxError::UnknownPurchase)?;
        match chain.sharing.is_shared() {
            true => Err(SandboxError::Refused("only the purchaser can do that")),
            false => Ok(chain.clone()),
        }
    }
}

impl From<Extended> for Outcome {
    fn from(extended: Extended) -> Self {
        Self::Extended {
            effective_date: extended.effective_date,
            web_order_line_item_id: extended.web_order_line_item_id,
        }
    }
}

impl From<ExtensionRefusal> for SandboxError {
    fn from(refusal: ExtensionRefusal) -> Self {
        Self::Refused(match refusal {
            ExtensionRefusal::IneligibleState => "not in a state that can be extended",
            ExtensionRefusal::MaximumReached => "extended twice within a year",
            ExtensionRefusal::FamilyShared => "shared, so it follows its purchaser's",
        })
    }
}
