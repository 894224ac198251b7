//! Actions at Google Play: each looks a purchase up, has the state machine decide, puts it back and
//! tells what happened.

use super::super::agenda::Due;
use super::super::app_store::Billing;
use super::super::delivery::Source;
use super::super::error::SandboxError;
use super::super::outcome::Outcome;
use super::super::state::Turn;
use super::GooglePlayAction;
use super::action::PriceChangeMode;
use super::buy::sold;
use super::lifecycle::Told;
use super::notification::{self, Signal};
use super::price::PriceChange;
use super::purchase::Purchase;
use super::refund::Cause;
use super::subscription::Cancellation;

impl Turn<'_> {
    /// Takes an action.
    pub(in crate::sandbox) fn google_play(
        &mut self,
        action: GooglePlayAction,
    ) -> Result<Outcome, SandboxError> {
        let (now, setup) = (self.now, self.setup);
        match action {
            GooglePlayAction::Buy(buy) => {
                return self.google_play_buy(&buy).map(Outcome::GooglePlay);
            }
            GooglePlayAction::TopUp { purchase_token } => {
                return self
                    .google_play_top_up(&purchase_token)
                    .map(Outcome::GooglePlay);
            }
            GooglePlayAction::ChargeBack {
                purchase_token,
                order_id,
            } => return self.google_play_charge_back(&purchase_token, order_id),
            GooglePlayAction::Cancel {
                purchase_token,
                survey,
            } => {
                let cancellation = Cancellation::User { at: now, survey };
                self.google_play_change(&purchase_token, |purchase| {
                    let told = purchase.stop(cancellation, now, &setup.timing);
                    some(told, "nothing renews")
                })
            }
            GooglePlayAction::Restore { purchase_token } => {
                self.google_play_restore(&purchase_token)
            }
            GooglePlayAction::SetBilling {
                purchase_token,
                billing,
            } => self.google_play_set_billing(&purchase_token, billing),
            GooglePlayAction::SettlePending {
                purchase_token,
                paid,
            } => self.google_play_settle_pending(&purchase_token, paid),
            GooglePlayAction::Pause {
                purchase_token,
                period,
            } => self.google_play_change(&purchase_token, |p| p.pause(period, setup)),
            GooglePlayAction::Resume { purchase_token } => {
                self.google_play_change(&purchase_token, |p| p.resume(now, setup))
            }
            GooglePlayAction::Refund {
                purchase_token,
                order_id,
                revoke,
                quantity,
                source,
                reason,
            } => {
                let cause = Cause { source, reason };
                self.google_play_change(&purchase_token, |purchase| match quantity {
                    Some(quantity) => purchase.refund_quantity(quantity, cause, now),
                    None => {
                        let latest = purchase.latest_order_id().to_owned();
                        purchase.refund(&order_id.unwrap_or(latest), revoke, cause, now)
                    }
                })
            }
            GooglePlayAction::ChangePrice {
                product_id,
                base_plan_id,
                price_micros,
                mode,
            } => self.google_play_change_price(
                (&product_id, base_plan_id.as_deref()),
                price_micros,
                mode,
            ),
            GooglePlayAction::AnswerPrice {
                purchase_token,
                accept,
            } => self.google_play_change(&purchase_token, |purchase| {
                let told = purchase.answer_price(accept, now, &setup.timing);
                told.ok_or("no price change to answer")
            }),
            GooglePlayAction::RemoveItem {
                purchase_token,
                product_id,
            } => self.google_play_change(&purchase_token, |p| p.remove_item(&product_id)),
            GooglePlayAction::AddItems {
                purchase_token,
                items,
            } => {
                let added = self.google_play_add_ons(&items)?;
                self.google_play_change(&purchase_token, |p| p.add_items(added, now, setup))
            }
            GooglePlayAction::StepUpConsent {
                purchase_token,
                accept,
            } => self.google_play_change(&purchase_token, |purchase| {
                let told = purchase.answer_consent(accept, now, &setup.timing);
                told.ok_or("no consent is asked for")
            }),
        }?;
        Ok(Outcome::Done {})
    }

    /// The customer stops renewal; a subscription that awaits its payment ends at once.
    pub(in crate::sandbox) fn google_play_cancel(
        &mut self,
        token: &str,
    ) -> Result<(), SandboxError> {
        let cancel = GooglePlayAction::Cancel {
            purchase_token: token.to_owned(),
            survey: None,
        };
        self.google_play(cancel).map(|_| ())
    }

    /// The customer takes a cancellation back.
    pub(in crate::sandbox) fn google_play_restore(
        &mut self,
        token: &str,
    ) -> Result<(), SandboxError> {
        let now = self.now;
        self.google_play_change(token, |purchase| {
            let signal = purchase.restore(now).ok_or("nothing to restore")?;
            Ok(vec![signal])
        })
    }

    /// Makes the means of payment fail or work.
    pub(in crate::sandbox) fn google_play_set_billing(
        &mut self,
        token: &str,
        billing: Billing,
    ) -> Result<(), SandboxError> {
        let (now, setup) = (self.now, self.setup);
        self.google_play_change(token, |p| Ok(p.set_billing(billing, now, setup)))
    }

    /// Refunds the latest order and ends access.
    pub(in crate::sandbox) fn google_play_refund(
        &mut self,
        token: &str,
    ) -> Result<(), SandboxError> {
        let order_id = self
            .google_play_purchase(token)?
            .latest_order_id()
            .to_owned();
        self.google_play_refund_order(&order_id, true, Cause::default())
    }

    fn google_play_charge_back(
        &mut self,
        token: &str,
        order_id: Option<String>,
    ) -> Result<Outcome, SandboxError> {
        let latest = self
            .google_play_purchase(token)?
            .latest_order_id()
            .to_owned();
        let order_id = order_id.unwrap_or(latest);
        let pending_refund_token = self.world.ids.purchase_token();
        let now = self.now;
        self.google_play_change(token, |purchase| {
            purchase.charge_back(&order_id, pending_refund_token.clone(), now)
        })?;
        Ok(Outcome::RefundReview {
            pending_refund_token,
            order_id,
        })
    }

    /// A new price, for those who buy from now on and for those who subscribe already.
    fn google_play_change_price(
        &mut self,
        (product_id, base_plan_id): (&str, Option<&str>),
        price_micros: i64,
        mode: PriceChangeMode,
    ) -> Result<(), SandboxError> {
        let setup = self.setup;
        sold(setup, product_id, base_plan_id)?;
        if price_micros <= 0 {
            return Err(SandboxError::Refused("a price is above nought"));
        }
        let changed = setup.google_play.iter().filter(|product| {
            product.product_id == product_id
                && (base_plan_id.is_none() || product.base_plan_id() == base_plan_id)
        });
        for product in changed {
            let before = self.world.google_play.price_micros(product);
            let right = match mode {
                PriceChangeMode::Decrease => price_micros < before,
                PriceChangeMode::Increase | PriceChangeMode::OptOutIncrease => {
                    price_micros > before
                }
            };
            if !right {
                return Err(SandboxError::Refused("the price does not go that way"));
            }
            self.world.google_play.set_price(product, price_micros);
        }
        let change = PriceChange::announced(mode, price_micros, self.now);
        // Concerns every subscriber of the product, who are found by looking at all.
        let mut told = Vec::new();
        let subscribers = self.world.google_play.purchases.values();
        for purchase in subscribers.filter(|purchase| purchase.contains(product_id)) {
            let mut purchase = purchase.clone();
            let signals = purchase.change_price((product_id, base_plan_id), change);
            if !signals.is_empty() {
                told.push((purchase, signals));
            }
        }
        for (purchase, signals) in told {
            self.google_play_settle(purchase, signals);
        }
        Ok(())
    }

    /// Lets happen what is due to a purchase.
    pub(in crate::sandbox) fn google_play_play(&mut self, token: &str) {
        if let Some(mut purchase) = self.world.google_play.purchases.get(token).cloned() {
            let told = purchase.play(self.now, self.setup);
            self.google_play_settle(purchase, told);
        }
    }

    /// Google's test notification.
    pub(in crate::sandbox) fn google_play_test(&mut self) {
        let stamp = self.stamp(Source::GooglePlay);
        let id = self.world.ids.number("1", 17);
        self.send(notification::test(self.setup, id, stamp, self.now));
    }

    pub(super) fn google_play_purchase(&self, token: &str) -> Result<Purchase, SandboxError> {
        let purchases = &self.world.google_play.purchases;
        purchases
            .get(token)
            .cloned()
            .ok_or(SandboxError::UnknownPurchase)
    }

    /// Has something happen to one purchase, unless the store refuses.
    fn google_play_change(
        &mut self,
        token: &str,
        change: impl FnOnce(&mut Purchase) -> Result<Told, &'static str>,
    ) -> Result<(), SandboxError> {
        let mut purchase = self.google_play_purchase(token)?;
        let told = change(&mut purchase).map_err(SandboxError::Refused)?;
        self.google_play_settle(purchase, told);
        Ok(())
    }

    /// Puts a changed purchase back, tells what happened, and plans what comes next.
    pub(super) fn google_play_settle(&mut self, purchase: Purchase, told: Told) {
        let mut voided_orders = Vec::new();
        for signal in told {
            let stamp = self.stamp(Source::GooglePlay);
            let id = self.world.ids.number("1", 17);
            let notification =
                notification::about(&purchase, &signal, self.setup, id, stamp, self.now);
            self.send(notification);
            self.superwall_about_google_play(&purchase, &signal);
            if let Signal::Voided(voided) = signal {
                voided_orders.extend(voided.quantity.is_none().then(|| voided.order_id.clone()));
                self.world.google_play.voided.push(voided);
            }
        }
        let token = purchase.token.clone();
        let next = purchase.next_due(self.setup);
        let due = Due::GooglePlay(token.clone());
        self.world.agenda.set(due, next);
        self.world.google_play.put(purchase);
        for order_id in voided_orders {
            self.google_play_end_carried(&token, &order_id);
        }
    }

    /// What a voided order paid for may have gone on in later purchases.
    fn google_play_end_carried(&mut self, token: &str, order_id: &str) {
        let mut token = token.to_owned();
        loop {
            let all = self.world.google_play.purchases.values();
            let mut later = all.filter(|later| {
                later.linked_token.as_ref() == Some(&token) && later.started_at.is_some()
            });
            let Some(mut successor) = later.next().cloned() else {
                return;
            };
            token.clone_from(&successor.token);
            let told = successor.end_carried(order_id, self.now);
            if !told.is_empty() {
                self.google_play_settle(successor, told);
            }
        }
    }
}

/// What is told, or the reason where that is nothing.
fn some(told: Told, refusal: &'static str) -> Result<Told, &'static str> {
    match told.is_empty() {
        true => Err(refusal),
        false => Ok(told),
    }
}
