//! Steps of a scenario in the words of the store that they happen at.

use super::super::app_store::{AppStoreAction, AppStoreBuy, Billing};
use super::super::delivery::Store;
use super::super::google_play::{
    AddOn, GooglePlayAction, GooglePlayBuy, PriceChangeMode, VoidReason, VoidSource,
};
use super::file::Scenario;
use super::offer::billing_period;
use super::player::{Bought, PlayError, Player};
use super::product::Product;
use super::step::{Buy, ChangePrice, Charge, PriceChange, Refund};

/// An action at one of the stores.
#[derive(Debug)]
pub(super) enum Action {
    AppStore(AppStoreAction),
    GooglePlay(GooglePlayAction),
}

/// What a store calls a product: its id, and Google's base plan.
type Sold = (String, Option<String>);

/// A product under its store's name.
pub(super) fn sold(scenario: &Scenario, id: &str, store: Store) -> Result<Sold, PlayError> {
    let product = scenario.products.get(id);
    product
        .and_then(|product| sold_as(product, store))
        .ok_or_else(|| PlayError::NotSold(id.to_owned(), store))
}

/// What a store calls this product, if it sells it.
pub(super) fn sold_as(product: &Product, store: Store) -> Option<Sold> {
    match store {
        Store::AppStore => product.app_store.as_ref().map(|t| (t.id.clone(), None)),
        Store::GooglePlay => {
            let terms = product.google_play.as_ref()?;
            Some((terms.id.clone(), terms.base_plan.clone()))
        }
    }
}

impl Player<'_> {
    pub(super) fn buy_action(&self, buy: &Buy) -> Result<Action, PlayError> {
        let account = match (buy.without_account || buy.outside_app, &buy.account) {
            (true, _) => None,
            (false, Some(account)) => Some(self.store_token(account)?),
            (false, None) => Some(self.store_token(self.account_of(&buy.by))?),
        };
        match buy.on {
            Store::AppStore => self.buy_at_app_store(buy, account),
            Store::GooglePlay => self.buy_at_google_play(buy, account),
        }
    }

    fn buy_at_app_store(&self, buy: &Buy, account: Option<&str>) -> Result<Action, PlayError> {
        let token = account.map(str::parse).transpose();
        let offer = buy.offer.as_ref().map(|offer| offer.app_store());
        let action = AppStoreBuy {
            customer: buy.by.clone(),
            product_id: sold(self.scenario, &buy.buy, buy.on)?.0,
            app_account_token: token.map_err(|_| PlayError::Means("the token is no UUID"))?,
            trial: buy.trial.map(billing_period).transpose()?,
            offer: offer.transpose()?,
            quantity: buy.quantity,
            billing_plan: buy.billing_plan,
            outside_app: buy.outside_app,
        };
        Ok(Action::AppStore(AppStoreAction::Buy(action)))
    }

    fn buy_at_google_play(&self, buy: &Buy, account: Option<&str>) -> Result<Action, PlayError> {
        let (product_id, base_plan_id) = sold(self.scenario, &buy.buy, buy.on)?;
        let offer = buy.offer.as_ref().map(|offer| offer.google_play());
        let replaces = match &buy.replaces {
            Some(name) => Some(self.bought(name)?.id.clone()),
            None => None,
        };
        let action = GooglePlayBuy {
            customer: buy.by.clone(),
            product_id,
            base_plan_id,
            obfuscated_account_id: account.map(str::to_owned),
            obfuscated_profile_id: None,
            replaces,
            replacement_mode: buy.mode,
            out_of_app: buy.outside_app,
            trial: buy.trial.map(billing_period).transpose()?,
            offer: offer.transpose()?,
            pending: buy.pending,
            quantity: buy.quantity.map(u32::from),
            add_ons: self.add_ons(&buy.add_ons)?,
            promotion: None,
        };
        Ok(Action::GooglePlay(GooglePlayAction::Buy(action)))
    }

    pub(super) fn add_ons(&self, names: &[String]) -> Result<Vec<AddOn>, PlayError> {
        let add_on = |name: &String| {
            let (product_id, base_plan_id) = sold(self.scenario, name, Store::GooglePlay)?;
            Ok(AddOn {
                product_id,
                base_plan_id,
                trial: None,
            })
        };
        names.iter().map(add_on).collect()
    }

    pub(super) fn renewal(&self, name: &str, enabled: bool) -> Result<Action, PlayError> {
        let bought = self.bought(name)?;
        let id = bought.id.clone();
        Ok(match (bought.store, enabled) {
            (Store::AppStore, enabled) => Action::AppStore(AppStoreAction::SetAutoRenew {
                original_transaction_id: id,
                enabled,
            }),
            (Store::GooglePlay, false) => Action::GooglePlay(GooglePlayAction::Cancel {
                purchase_token: id,
                survey: None,
            }),
            (Store::GooglePlay, true) => {
                Action::GooglePlay(GooglePlayAction::Restore { purchase_token: id })
            }
        })
    }

    pub(super) fn billing(&self, name: &str, billing: Billing) -> Result<Action, PlayError> {
        let bought = self.bought(name)?;
        let id = bought.id.clone();
        Ok(match bought.store {
            Store::AppStore => Action::AppStore(AppStoreAction::SetBilling {
                original_transaction_id: id,
                billing,
            }),
            Store::GooglePlay => Action::GooglePlay(GooglePlayAction::SetBilling {
                purchase_token: id,
                billing,
            }),
        })
    }

    pub(super) fn refund_action(&self, step: &Refund) -> Result<Action, PlayError> {
        let bought = self.bought(&step.refund)?;
        Ok(match bought.store {
            Store::AppStore => Action::AppStore(AppStoreAction::Refund {
                transaction_id: self.transaction(bought, step.charge)?,
                percent: step.percent.unwrap_or(100),
            }),
            Store::GooglePlay => Action::GooglePlay(GooglePlayAction::Refund {
                purchase_token: bought.id.clone(),
                order_id: order(bought, step.charge),
                revoke: step.revoke.unwrap_or(true),
                quantity: step.quantity,
                source: VoidSource::default(),
                reason: VoidReason::default(),
            }),
        })
    }

    /// The transaction of one of the charges of an App Store purchase.
    pub(super) fn transaction(&self, bought: &Bought, which: Charge) -> Result<String, PlayError> {
        match which {
            Charge::First => Ok(bought.charge.clone()),
            Charge::Latest => {
                let truth = self.sandbox.purchases(&bought.customer);
                let chain = truth.into_iter().find(|purchase| purchase.id == bought.id);
                chain
                    .map(|purchase| purchase.latest_transaction)
                    .ok_or(PlayError::Means("the store has lost this purchase"))
            }
        }
    }

    pub(super) fn answer_price(&self, name: &str, accept: bool) -> Result<Action, PlayError> {
        let bought = self.bought(name)?;
        let id = bought.id.clone();
        Ok(match bought.store {
            Store::AppStore => Action::AppStore(AppStoreAction::AnswerPrice {
                original_transaction_id: id,
                accept,
            }),
            Store::GooglePlay => Action::GooglePlay(GooglePlayAction::AnswerPrice {
                purchase_token: id,
                accept,
            }),
        })
    }

    pub(super) fn change_price(&self, step: &ChangePrice) -> Result<Action, PlayError> {
        let (product_id, base_plan_id) = sold(self.scenario, &step.change_price, step.on)?;
        match step.on {
            Store::AppStore => {
                let consent = match step.how {
                    PriceChange::Consent => true,
                    PriceChange::Notice => false,
                    PriceChange::Decrease => {
                        return Err(PlayError::Means("Apple tells nobody that a price falls"));
                    }
                };
                Ok(Action::AppStore(AppStoreAction::RaisePrice {
                    product_id,
                    price_milliunits: step.to.milliunits(),
                    consent,
                }))
            }
            Store::GooglePlay => Ok(Action::GooglePlay(GooglePlayAction::ChangePrice {
                product_id,
                base_plan_id,
                price_micros: step.to.micros,
                mode: match step.how {
                    PriceChange::Consent => PriceChangeMode::Increase,
                    PriceChange::Notice => PriceChangeMode::OptOutIncrease,
                    PriceChange::Decrease => PriceChangeMode::Decrease,
                },
            })),
        }
    }
}

/// The order of one of the charges of a Google Play purchase; none for the latest.
pub(super) fn order(bought: &Bought, which: Charge) -> Option<String> {
    match which {
        Charge::First => Some(bought.charge.clone()),
        Charge::Latest => None,
    }
}
