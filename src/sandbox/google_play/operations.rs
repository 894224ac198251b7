//! What customers, the developer and Google's staff do: buy, cancel, stop paying, acknowledge, refund.

use super::super::agenda::Due;
use super::super::app_store::Billing;
use super::super::error::SandboxError;
use super::super::outcome::Outcome;
use super::super::setup::GooglePlayProduct;
use super::super::state::Turn;
use super::notification::{self, Signal, SubscriptionEvent};
use super::purchase::{
    Cancellation, Content, Order, OutOfApp, Purchase, Subscription, SubscriptionState,
};
use super::{GooglePlayAction, GooglePlayBuy, GooglePlayPurchase};

impl Turn<'_> {
    /// Takes an action.
    pub(in crate::sandbox) fn google_play(
        &mut self,
        action: GooglePlayAction,
    ) -> Result<Outcome, SandboxError> {
        let done = |()| Outcome::Done {};
        match action {
            GooglePlayAction::Buy(buy) => self.google_play_buy(&buy).map(Outcome::GooglePlay),
            GooglePlayAction::Cancel { purchase_token, .. } => {
                self.google_play_cancel(&purchase_token).map(done)
            }
            GooglePlayAction::Restore { purchase_token } => {
                self.google_play_restore(&purchase_token).map(done)
            }
            GooglePlayAction::SetBilling {
                purchase_token,
                billing,
            } => self
                .google_play_set_billing(&purchase_token, billing)
                .map(done),
            GooglePlayAction::Refund { purchase_token, .. } => {
                self.google_play_refund(&purchase_token).map(done)
            }
            GooglePlayAction::SettlePending { .. }
            | GooglePlayAction::Pause { .. }
            | GooglePlayAction::Resume { .. }
            | GooglePlayAction::TopUp { .. }
            | GooglePlayAction::ChargeBack { .. }
            | GooglePlayAction::ChangePrice { .. }
            | GooglePlayAction::AnswerPrice { .. }
            | GooglePlayAction::RemoveItem { .. }
            | GooglePlayAction::AddItems { .. }
            | GooglePlayAction::StepUpConsent { .. } => {
                Err(SandboxError::Refused("not played yet"))
            }
        }
    }

    /// A customer buys something.
    pub(in crate::sandbox) fn google_play_buy(
        &mut self,
        buy: &GooglePlayBuy,
    ) -> Result<GooglePlayPurchase, SandboxError> {
        let setup = self.setup;
        let product = setup
            .google_play_product(&buy.product_id, buy.base_plan_id.as_deref())
            .ok_or_else(|| SandboxError::UnknownProduct(buy.product_id.clone()))?;
        let subscription = Subscription::new(product, self.now, buy.trial);
        self.check_not_held(buy, product)?;
        let replaced = self.replaced(buy)?;
        let out_of_app = self.lapsed(buy)?;
        let (content, signal) = match subscription {
            Some(subscription) => (
                Content::Subscription(subscription),
                Signal::Subscription(SubscriptionEvent::Purchased),
            ),
            None => (
                Content::OneTime {
                    consumed: false,
                    cancelled: false,
                },
                Signal::Purchased,
            ),
        };
        let mut purchase = self.new_purchase(buy, product, content);
        purchase.linked_token = replaced.as_ref().map(|old| old.token.clone());
        if out_of_app.is_none() {
            purchase
                .obfuscated_account_id
                .clone_from(&buy.obfuscated_account_id);
        }
        purchase.out_of_app = out_of_app;
        let bought = GooglePlayPurchase {
            purchase_token: purchase.token.clone(),
            order_id: purchase.latest_order_id().to_owned(),
        };
        if let Some(mut old) = replaced {
            old.replace(self.now, &self.setup.timing);
            self.google_play_settle(old, Vec::new());
        }
        self.google_play_settle(purchase, vec![signal]);
        Ok(bought)
    }

    fn new_purchase(
        &mut self,
        buy: &GooglePlayBuy,
        product: &GooglePlayProduct,
        content: Content,
    ) -> Purchase {
        let order = Order {
            id: self.world.ids.order(),
            at: self.now,
            until: match &content {
                Content::Subscription(subscription) => Some(subscription.expiry),
                Content::OneTime { .. } => None,
            },
            price_micros: match buy.trial {
                Some(_) => 0,
                None => product.price_micros,
            },
            refunded_at: None,
        };
        let token = self.world.ids.purchase_token();
        Purchase::new(token, buy.customer.clone(), product, content, order)
    }

    /// The same thing cannot be bought twice while it is held.
    fn check_not_held(
        &self,
        buy: &GooglePlayBuy,
        product: &GooglePlayProduct,
    ) -> Result<(), SandboxError> {
        let held = self.world.google_play.purchases_of(&buy.customer);
        let held = held.into_iter().any(|purchase| {
            purchase.product_id == product.product_id
                && buy.replaces.as_ref() != Some(&purchase.token)
                && match &purchase.content {
                    Content::Subscription(s) => s.state(self.now) != SubscriptionState::Expired,
                    Content::OneTime {
                        consumed,
                        cancelled,
                    } => !consumed && !cancelled,
                }
        });
        match held {
            true => Err(SandboxError::Refused("already owned")),
            false => Ok(()),
        }
    }

    fn replaced(&self, buy: &GooglePlayBuy) -> Result<Option<Purchase>, SandboxError> {
        let Some(token) = &buy.replaces else {
            return Ok(None);
        };
        let old = self.google_play_purchase(token)?;
        if old.customer != buy.customer || old.subscription().is_none() || !old.entitles(self.now) {
            return Err(SandboxError::Refused("nothing to replace"));
        }
        if !old.acknowledged {
            return Err(SandboxError::Refused(
                "the old purchase is not acknowledged",
            ));
        }
        Ok(Some(old))
    }

    /// The subscription that is taken up again outside the app.
    fn lapsed(&self, buy: &GooglePlayBuy) -> Result<Option<OutOfApp>, SandboxError> {
        if !buy.out_of_app {
            return Ok(None);
        }
        let bought = self.world.google_play.purchases_of(&buy.customer);
        let lapsed = bought.into_iter().rfind(|purchase| {
            purchase.product_id == buy.product_id && purchase.subscription().is_some()
        });
        let lapsed = lapsed.ok_or(SandboxError::Refused("nothing has lapsed"))?;
        Ok(Some(OutOfApp {
            expired_token: lapsed.token.clone(),
            expired_account_id: lapsed.obfuscated_account_id.clone(),
        }))
    }

    /// The customer stops renewal.
    pub(in crate::sandbox) fn google_play_cancel(
        &mut self,
        token: &str,
    ) -> Result<(), SandboxError> {
        let mut purchase = self.google_play_purchase(token)?;
        let signals = purchase.cancel(self.now, &self.setup.timing);
        if signals.is_empty() {
            return Err(SandboxError::Refused("nothing renews"));
        }
        self.google_play_settle(purchase, signals);
        Ok(())
    }

    /// The customer takes a cancellation back.
    pub(in crate::sandbox) fn google_play_restore(
        &mut self,
        token: &str,
    ) -> Result<(), SandboxError> {
        let mut purchase = self.google_play_purchase(token)?;
        let signal = purchase
            .restore(self.now)
            .ok_or(SandboxError::Refused("nothing to restore"))?;
        self.google_play_settle(purchase, vec![signal]);
        Ok(())
    }

    /// Makes the means of payment fail or work.
    pub(in crate::sandbox) fn google_play_set_billing(
        &mut self,
        token: &str,
        billing: Billing,
    ) -> Result<(), SandboxError> {
        let mut purchase = self.google_play_purchase(token)?;
        let signals = purchase.set_billing(billing, self.now, self.setup);
        self.google_play_settle(purchase, signals);
        Ok(())
    }

    /// Refunds the latest order and ends access.
    pub(in crate::sandbox) fn google_play_refund(
        &mut self,
        token: &str,
    ) -> Result<(), SandboxError> {
        let mut purchase = self.google_play_purchase(token)?;
        if purchase.refunded() {
            return Err(SandboxError::Refused("already refunded"));
        }
        // The store blames the customer for a refund of the developer's, as observed.
        let signals = purchase.revoke(self.now, Cancellation::User { at: self.now });
        self.google_play_settle(purchase, signals);
        Ok(())
    }

    /// The developer acknowledges; `account_id` counts only for purchases made outside the app.
    pub(in crate::sandbox) fn google_play_acknowledge(
        &mut self,
        token: &str,
        account_id: Option<String>,
    ) -> Result<(), SandboxError> {
        let mut purchase = self.google_play_purchase(token)?;
        if purchase.out_of_app.is_some() && account_id.is_some() {
            purchase.obfuscated_account_id = account_id;
        }
        purchase.acknowledge();
        self.google_play_settle(purchase, Vec::new());
        Ok(())
    }

    /// The developer consumes a one-time purchase; the store does not know which are meant to be.
    pub(in crate::sandbox) fn google_play_consume(
        &mut self,
        token: &str,
    ) -> Result<(), SandboxError> {
        let mut purchase = self.google_play_purchase(token)?;
        purchase.consume();
        self.google_play_settle(purchase, Vec::new());
        Ok(())
    }

    /// Lets happen what is due to a purchase.
    pub(in crate::sandbox) fn google_play_play(&mut self, token: &str) {
        if let Some(mut purchase) = self.world.google_play.purchases.get(token).cloned() {
            let signals = purchase.play(self.now, self.setup);
            self.google_play_settle(purchase, signals);
        }
    }

    /// Google's test notification.
    pub(in crate::sandbox) fn google_play_test(&mut self) {
        let stamp = self.stamp();
        let id = self.world.ids.number("1", 17);
        self.send(notification::test(self.setup, id, stamp, self.now));
    }

    fn google_play_purchase(&self, token: &str) -> Result<Purchase, SandboxError> {
        let purchases = &self.world.google_play.purchases;
        purchases
            .get(token)
            .cloned()
            .ok_or(SandboxError::UnknownPurchase)
    }

    /// Puts a changed purchase back, tells what happened, and plans what comes next.
    fn google_play_settle(&mut self, purchase: Purchase, signals: Vec<Signal>) {
        for signal in signals {
            let stamp = self.stamp();
            let id = self.world.ids.number("1", 17);
            let notification =
                notification::about(&purchase, &signal, self.setup, id, stamp, self.now);
            self.send(notification);
            self.superwall_about_google_play(&purchase, &signal);
        }
        let next = purchase.next_due(&self.setup.timing);
        let token = purchase.token.clone();
        self.world.agenda.set(Due::GooglePlay(token.clone()), next);
        self.world.google_play.purchases.insert(token, purchase);
    }
}
