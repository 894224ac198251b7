//! Plays the steps of a scenario that happen at the stores or on the line; keeps the names that
//! the scenario gives to purchases, and whose each of them is.

use std::collections::BTreeMap;

use super::super::Sandbox;
use super::super::app_store::{AppStoreAction, Billing};
use super::super::delivery::Store;
use super::super::error::SandboxError;
use super::super::google_play::GooglePlayAction;
use super::super::outcome::Outcome as StoreOutcome;
use super::file::Scenario;
use super::offer::billing_period;
use super::selection;
use super::step::{self, Buy, Step};
use super::store_actions::{Action, order, sold};

/// A purchase that a scenario has a name for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bought {
    pub(super) store: Store,
    pub(super) customer: String,
    /// Original transaction id, or purchase token.
    pub(super) id: String,
    /// The transaction or order that was made under this name.
    pub(super) charge: String,
}

/// Why a step could not be played.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The simulator refused or failed.
    #[error("the store: {0}")]
    Store(#[from] SandboxError),
    /// No step has given a purchase this name.
    #[error("no purchase is called {0:?}")]
    UnknownPurchase(String),
    /// The store does not sell the product.
    #[error("{1:?} does not sell {0:?}")]
    NotSold(String, Store),
    /// The server has not told the account's store token.
    #[error("the account {0:?} has no store token yet")]
    NoStoreToken(String),
    /// No notification is as described.
    #[error("no notification is like that; the stores have said: {0}")]
    NoNotification(String),
    /// The step makes no sense at that store.
    #[error("{0}")]
    Means(&'static str),
}

impl From<&'static str> for PlayError {
    fn from(reason: &'static str) -> Self {
        Self::Means(reason)
    }
}

/// Plays one scenario at one simulator.
pub struct Player<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) sandbox: Sandbox,
    bought: BTreeMap<String, Bought>,
    /// Accounts by purchase, as far as apps or binds have said so.
    pub(super) owners: BTreeMap<(Store, String), String>,
    /// What the server has each account called at the stores.
    store_tokens: BTreeMap<String, String>,
    /// Who is signed in on a customer's devices, where that has changed.
    signed_in: BTreeMap<String, String>,
    /// Accounts that became part of another one, which is never among them.
    linked: BTreeMap<String, String>,
}

impl<'a> Player<'a> {
    /// A player at the beginning of a scenario; the simulator is fresh.
    ///
    /// # Errors
    /// The simulator cannot commit the scenario's sins.
    pub fn new(scenario: &'a Scenario, sandbox: Sandbox) -> Result<Self, PlayError> {
        sandbox.set_sins(scenario.sins)?;
        Ok(Self {
            scenario,
            sandbox,
            bought: BTreeMap::new(),
            owners: BTreeMap::new(),
            store_tokens: BTreeMap::new(),
            signed_in: BTreeMap::new(),
            linked: BTreeMap::new(),
        })
    }

    /// Says what the server wants an account called at the stores.
    pub fn set_store_token(&mut self, account: &str, token: &str) {
        self.store_tokens
            .insert(account.to_owned(), token.to_owned());
    }

    /// Says that the server gave a purchase to an account.
    pub fn set_owner(&mut self, store: Store, id: &str, account: &str) {
        self.owners
            .insert((store, id.to_owned()), account.to_owned());
    }

    /// Says that the server made an account a part of another: its purchases, its names at the stores
    /// and its devices are that one's.
    pub fn link(&mut self, account: &str, to: &str) {
        for owner in self.owners.values_mut().filter(|owner| *owner == account) {
            to.clone_into(owner);
        }
        let scenario = self.scenario;
        for customer in scenario.customers.keys() {
            if self.account_of(customer) == account {
                self.signed_in.insert(customer.clone(), to.to_owned());
            }
        }
        self.linked.insert(account.to_owned(), to.to_owned());
    }

    /// Whether an account became part of another one.
    pub fn is_linked(&self, account: &str) -> bool {
        self.linked.contains_key(account)
    }

    pub(super) fn store_token(&self, account: &str) -> Result<&str, PlayError> {
        let token = self.store_tokens.get(account);
        token
            .map(String::as_str)
            .ok_or_else(|| PlayError::NoStoreToken(account.to_owned()))
    }

    /// The account that the server has given this store token.
    pub(super) fn account_by_store_token(&self, token: &str) -> Option<&str> {
        let mut accounts = self.store_tokens.iter();
        let (account, _) = accounts.find(|(_, known)| *known == token)?;
        Some(self.linked.get(account).unwrap_or(account).as_str())
    }

    pub(super) fn bought(&self, name: &str) -> Result<&Bought, PlayError> {
        self.bought
            .get(name)
            .ok_or_else(|| PlayError::UnknownPurchase(name.to_owned()))
    }

    /// The account that is signed in on the devices of whoever bought a purchase.
    ///
    /// # Errors
    /// No purchase has that name.
    pub fn account_of_purchase(&self, name: &str) -> Result<String, PlayError> {
        let customer = &self.bought(name)?.customer;
        Ok(self.account_of(customer).to_owned())
    }

    /// The account that is signed in on a customer's devices now.
    pub fn account_of<'b>(&'b self, customer: &'b str) -> &'b str {
        let changed = self.signed_in.get(customer).map(String::as_str);
        changed.unwrap_or_else(|| self.scenario.account_of(customer))
    }

    /// Plays a step; those of the app that the server answers (`bind`, `restore`, `link`,
    /// `preflight`, `paywall`, `expect`) are the caller's.
    ///
    /// # Errors
    /// The store refuses, or the step names what is not there.
    pub async fn play(&mut self, step: &Step) -> Result<(), PlayError> {
        match step {
            Step::Buy(buy) => self.buy(buy).await,
            Step::TopUp(step) => {
                let old = self.bought(&step.top_up)?.clone();
                let purchase_token = old.id.clone();
                let action = Action::GooglePlay(GooglePlayAction::TopUp { purchase_token });
                self.perform_as(action, &step.name, &old.customer).await?;
                self.inherit(&old, &step.name)
            }
            Step::Share(step) => {
                let owner = self.bought(&step.share)?.id.clone();
                let action = Action::AppStore(AppStoreAction::Share {
                    original_transaction_id: owner,
                    member: step.with.clone(),
                });
                self.perform_as(action, &step.name, &step.with).await
            }
            Step::Advance(step) => {
                let until = step.advance.after(self.sandbox.now());
                Ok(self.sandbox.advance_to(until).await?)
            }
            Step::At(step) => Ok(self.sandbox.advance_to(step.at.0).await?),
            Step::Hold(step) => Ok(self.sandbox.hold_deliveries(step.hold).await?),
            Step::Deliver(step) => {
                for id in self.chosen(&step.deliver, step.of.as_deref(), step.which)? {
                    self.sandbox.deliver(&id).await?;
                }
                Ok(())
            }
            Step::Drop(step) => {
                for id in self.chosen(&step.drop, step.of.as_deref(), step.which)? {
                    self.sandbox.drop_notification(&id)?;
                }
                Ok(())
            }
            Step::OutageFromNowOn(step) => {
                self.sandbox.set_outage(step.outage, step.how.outage());
                Ok(())
            }
            Step::SinsFromNowOn(step) => Ok(self.sandbox.set_sins(step.sins)?),
            Step::SignIn(step) => {
                let account = step.account.clone();
                self.signed_in.insert(step.sign_in.clone(), account);
                Ok(())
            }
            Step::Reinstall(step) => {
                let account = step.account.clone();
                self.signed_in.insert(step.reinstall.clone(), account);
                Ok(())
            }
            Step::Bind(_)
            | Step::Restore(_)
            | Step::Link(_)
            | Step::Preflight(_)
            | Step::Paywall(_)
            | Step::Expect(_) => Ok(()),
            Step::Cancel(_)
            | Step::Uncancel(_)
            | Step::CardFails(_)
            | Step::CardWorks(_)
            | Step::Pause(_)
            | Step::Unpause(_)
            | Step::Settle(_)
            | Step::Redeem(_)
            | Step::RequestRefund(_)
            | Step::DeclineRefund(_)
            | Step::Refund(_)
            | Step::ReverseRefund(_)
            | Step::ChargeBack(_)
            | Step::Unshare(_)
            | Step::ChangePrice(_)
            | Step::AnswerPrice(_)
            | Step::Extend(_)
            | Step::Withdraw(_)
            | Step::RescindConsent(_)
            | Step::ExternalPurchase(_)
            | Step::AddItems(_)
            | Step::RemoveItem(_)
            | Step::StepUp(_) => {
                let action = self.action(step)?;
                self.perform(action).await.map(|_| ())
            }
        }
    }

    async fn buy(&mut self, buy: &Buy) -> Result<(), PlayError> {
        let action = self.buy_action(buy)?;
        let outside = (buy.outside_app && buy.on == Store::GooglePlay).then(|| self.held_by(buy));
        self.perform_as(action, &buy.name, &buy.by).await?;
        // Outside the app the store's record names no account: it continues what lapsed.
        match outside.flatten() {
            Some(old) => self.inherit(&old, &buy.name),
            None => Ok(()),
        }
    }

    /// The customer's latest purchase at the same store.
    fn held_by(&self, buy: &Buy) -> Option<Bought> {
        let mut held = self.bought.values();
        held.rfind(|bought| bought.customer == buy.by && bought.store == buy.on)
            .cloned()
    }

    /// A purchase that continues another belongs to whom that belonged.
    fn inherit(&mut self, old: &Bought, new: &str) -> Result<(), PlayError> {
        let new = self.bought(new)?.clone();
        let owner = self.owner(old.store, &old.id, None).map(str::to_owned);
        if let Some(owner) = owner {
            self.set_owner(new.store, &new.id, &owner);
        }
        Ok(())
    }

    async fn perform(&self, action: Action) -> Result<StoreOutcome, PlayError> {
        Ok(match action {
            Action::AppStore(action) => self.sandbox.app_store(action).await?,
            Action::GooglePlay(action) => self.sandbox.google_play(action).await?,
        })
    }

    async fn perform_as(
        &mut self,
        action: Action,
        name: &str,
        customer: &str,
    ) -> Result<(), PlayError> {
        let outcome = self.perform(action).await?;
        let (store, id, charge) = if let StoreOutcome::AppStore(bought) = outcome {
            let id = bought.original_transaction_id;
            (Store::AppStore, id, bought.transaction_id)
        } else if let StoreOutcome::GooglePlay(bought) = outcome {
            (Store::GooglePlay, bought.purchase_token, bought.order_id)
        } else {
            return Err(PlayError::Means("the store handed over no purchase"));
        };
        let bought = Bought {
            store,
            customer: customer.to_owned(),
            id,
            charge,
        };
        self.bought.insert(name.to_owned(), bought);
        Ok(())
    }

    fn action(&self, step: &Step) -> Result<Action, PlayError> {
        use AppStoreAction as Apple;
        use GooglePlayAction as Google;
        let id = |name: &str| self.bought(name).map(|bought| bought.id.clone());
        let charge = |name: &str, which| {
            let bought = self.bought(name)?;
            self.transaction(bought, which)
        };
        let apple = |action| Ok(Action::AppStore(action));
        let google = |action| Ok(Action::GooglePlay(action));
        match step {
            Step::Cancel(step) => self.renewal(&step.cancel, false),
            Step::Uncancel(step) => self.renewal(&step.uncancel, true),
            Step::CardFails(step) => self.billing(&step.card_fails, Billing::Fails),
            Step::CardWorks(step) => self.billing(&step.card_works, Billing::Works),
            Step::Refund(step) => self.refund_action(step),
            Step::ChangePrice(step) => self.change_price(step),
            Step::AnswerPrice(step) => self.answer_price(&step.answer_price, step.accept),
            Step::Pause(step) => google(Google::Pause {
                purchase_token: id(&step.pause)?,
                period: billing_period(step.length)?,
            }),
            Step::Unpause(step) => google(Google::Resume {
                purchase_token: id(&step.unpause)?,
            }),
            Step::Settle(step) => google(Google::SettlePending {
                purchase_token: id(&step.settle)?,
                paid: step.paid,
            }),
            Step::ChargeBack(step) => google(Google::ChargeBack {
                purchase_token: id(&step.charge_back)?,
                order_id: order(self.bought(&step.charge_back)?, step.charge),
            }),
            Step::AddItems(step) => google(Google::AddItems {
                purchase_token: id(&step.add_items)?,
                items: self.add_ons(&step.items)?,
            }),
            Step::RemoveItem(step) => google(Google::RemoveItem {
                purchase_token: id(&step.remove_item)?,
                product_id: sold(self.scenario, &step.item, Store::GooglePlay)?.0,
            }),
            Step::StepUp(step) => google(Google::StepUpConsent {
                purchase_token: id(&step.step_up)?,
                accept: step.accept,
            }),
            Step::Redeem(step) => apple(Apple::RedeemOffer {
                original_transaction_id: id(&step.redeem)?,
                offer: step.offer.app_store()?,
                product_id: match &step.product {
                    Some(product) => Some(sold(self.scenario, product, Store::AppStore)?.0),
                    None => None,
                },
            }),
            Step::RequestRefund(step) => apple(Apple::RequestRefund {
                transaction_id: charge(&step.request_refund, step.charge)?,
                reason: step.reason,
            }),
            Step::DeclineRefund(step) => apple(Apple::DeclineRefund {
                transaction_id: charge(&step.decline_refund, step.charge)?,
            }),
            Step::ReverseRefund(step) => apple(Apple::ReverseRefund {
                transaction_id: charge(&step.reverse_refund, step.charge)?,
            }),
            Step::Unshare(step) => apple(Apple::Unshare {
                original_transaction_id: id(&step.unshare)?,
                member: step.with.clone(),
            }),
            Step::Extend(step) => {
                let days = step.by.days().and_then(|days| u8::try_from(days).ok());
                apple(Apple::Extend {
                    original_transaction_id: id(&step.extend)?,
                    days: days.ok_or("an extension is 1 to 90 whole days")?,
                    reason: step.reason,
                })
            }
            Step::Withdraw(step) => apple(Apple::WithdrawProduct {
                product_id: sold(self.scenario, &step.withdraw, Store::AppStore)?.0,
            }),
            Step::RescindConsent(step) => apple(Apple::RescindConsent {
                customer: step.rescind_consent.clone(),
            }),
            Step::ExternalPurchase(step) => apple(Apple::ExternalPurchase {
                kind: step.external_purchase,
                external_purchase_id: None,
            }),
            Step::Buy(_)
            | Step::TopUp(_)
            | Step::Share(_)
            | Step::Bind(_)
            | Step::Restore(_)
            | Step::Preflight(_)
            | Step::Paywall(_)
            | Step::SignIn(_)
            | Step::Reinstall(_)
            | Step::Link(_)
            | Step::Advance(_)
            | Step::At(_)
            | Step::SinsFromNowOn(_)
            | Step::Hold(_)
            | Step::Deliver(_)
            | Step::Drop(_)
            | Step::OutageFromNowOn(_)
            | Step::Expect(_) => Err(PlayError::Means("this is nothing that a store does")),
        }
    }

    fn chosen(
        &self,
        kind: &str,
        of: Option<&str>,
        which: step::Which,
    ) -> Result<Vec<String>, PlayError> {
        let purchase = match of {
            Some(name) => Some(self.bought(name)?.id.as_str()),
            None => None,
        };
        let said = self.sandbox.notifications();
        let chosen = selection::choose(&said, kind, purchase, which);
        match chosen.is_empty() {
            true => Err(PlayError::NoNotification(selection::types(&said))),
            false => Ok(chosen),
        }
    }
}
