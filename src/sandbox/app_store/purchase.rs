//! Customers buy at the App Store, and share what they bought.

use std::sync::Arc;

use chrono::DateTime;

use super::super::error::SandboxError;
use super::super::setup::{AppStoreKind, AppStoreProduct, Environment};
use super::super::state::Turn;
use super::chain::Chain;
use super::family::Sharing;
use super::plan::Order;
use super::transaction::Transaction;
use super::{AppStoreBuy, AppStorePurchase, Offer, OfferKind, Shelf, Signal};

/// How many of one thing a purchase may be for.
const QUANTITY_MAX: u8 = 10;

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
        if self.shelf().for_sale(&buy.product_id).is_none() {
            return Err(SandboxError::Refused("the product is not for sale"));
        }
        let (chain, signals) = match product.kind {
            AppStoreKind::AutoRenewable { .. } => self.subscribe(buy)?,
            AppStoreKind::NonConsumable | AppStoreKind::Consumable | AppStoreKind::NonRenewing => {
                self.buy_once(buy, product)?
            }
        };
        self.app_store_hand_over(chain, signals)
    }

    fn shelf(&self) -> Shelf<'_> {
        self.world.app_store.shelf(self.setup)
    }

    /// Settles a chain and hands its latest transaction to the device.
    fn app_store_hand_over(
        &mut self,
        chain: Chain,
        signals: Vec<Signal>,
    ) -> Result<AppStorePurchase, SandboxError> {
        let original_transaction_id = chain.original_transaction_id.clone();
        let latest = chain.latest();
        let transaction_id = latest.map(|t| t.id.clone()).unwrap_or_default();
        let order_id = latest.and_then(|t| t.order_id.clone());
        self.app_store_settle(chain, signals)?;
        Ok(AppStorePurchase {
            signed_transaction: self.app_store_signed_transaction(&transaction_id)?,
            transaction_id,
            original_transaction_id,
            order_id,
        })
    }

    fn subscribe(&mut self, buy: &AppStoreBuy) -> Result<(Chain, Vec<Signal>), SandboxError> {
        let setup = self.setup;
        let group = match setup.app_store_product(&buy.product_id).map(|p| &p.kind) {
            Some(AppStoreKind::AutoRenewable { group, .. }) => group,
            Some(
                AppStoreKind::NonConsumable | AppStoreKind::Consumable | AppStoreKind::NonRenewing,
            )
            | None => return Err(SandboxError::UnknownProduct(buy.product_id.clone())),
        };
        let held = self.world.app_store.chains_of(&buy.customer).find(|chain| {
            let subscription = chain.subscription.as_ref();
            !chain.sharing.is_shared() && subscription.is_some_and(|s| s.group == *group)
        });
        let held = held.cloned();
        let fresh = match &held {
            Some(_) => None,
            None => Some(self.new_chain(buy)),
        };
        let now = self.now;
        let world = &mut *self.world;
        let shelf = world.app_store.shelf(setup);
        let terms = shelf
            .terms_for_sale(&buy.product_id)
            .ok_or_else(|| SandboxError::UnknownProduct(buy.product_id.clone()))?;
        let order = Order::new(buy, terms, now)?;
        let running = held.as_ref().is_some_and(|chain| {
            let status = chain.status(now);
            matches!(status, Some(1 | 3 | 4))
        });
        let Some(mut chain) = held.or(fresh) else {
            return Err(SandboxError::UnknownPurchase);
        };
        let signals = match (&chain.subscription, running) {
            (None, _) => chain.subscribe(order, &mut world.ids)?,
            (Some(_), true) => chain.change_plan(order, &shelf, &mut world.ids)?,
            (Some(_), false) => chain.resubscribe(order, &mut world.ids)?,
        };
        Ok((chain, signals))
    }

    fn buy_once(
        &mut self,
        buy: &AppStoreBuy,
        product: &AppStoreProduct,
    ) -> Result<(Chain, Vec<Signal>), SandboxError> {
        let for_ever = product.kind == AppStoreKind::NonConsumable;
        let quantity = buy.quantity.unwrap_or(1);
        if !(1..=QUANTITY_MAX).contains(&quantity) || (for_ever && quantity != 1) {
            return Err(SandboxError::Refused("not in that quantity"));
        }
        if buy.trial.is_some() || buy.billing_plan.is_some() {
            return Err(SandboxError::Refused("that is for subscriptions"));
        }
        if let Some(offer) = &buy.offer {
            offer.check_for_one_time()?;
        }
        let owned = self.world.app_store.chains_of(&buy.customer).any(|chain| {
            !chain.sharing.is_shared()
                && chain
                    .latest()
                    .is_some_and(|t| t.product_id == buy.product_id && t.revocation.is_none())
        });
        if owned && for_ever {
            return Err(SandboxError::Refused("already owned"));
        }
        let price = match &buy.offer {
            Some(offer) => offer.price_milliunits,
            None => self.shelf().price_milliunits(product),
        };
        let mut chain = self.new_chain(buy);
        chain.transactions.push(Arc::new(Transaction {
            id: chain.original_transaction_id.clone(),
            web_order_line_item_id: None,
            order_id: Some(self.world.ids.number("M", 12)),
            product_id: product.product_id.clone(),
            purchased_at: self.now,
            expires_at: None,
            quantity,
            price_milliunits: price.saturating_mul(quantity.into()),
            currency: product.currency.clone(),
            app_account_token: chain.app_account_token,
            offer: buy.offer.as_ref().map(|offer| offer.applied(None)),
            renewal: false,
            upgraded: false,
            revocation: None,
            commitment: None,
            shared_from: None,
            refund_request: None,
            finished: false,
            consumption: None,
            modified_at: DateTime::UNIX_EPOCH,
            revision: 0,
        }));
        let signal = chain.signal("ONE_TIME_CHARGE", None);
        Ok((chain, vec![signal]))
    }

    fn new_chain(&mut self, buy: &AppStoreBuy) -> Chain {
        let token = buy.app_account_token.filter(|_| !buy.outside_app);
        let purchased = Sharing::Purchased {
            members: Vec::new(),
        };
        Chain {
            app_account_token: token,
            ..self.empty_chain(&buy.customer, purchased)
        }
    }

    fn empty_chain(&mut self, customer: &str, sharing: Sharing) -> Chain {
        let prefix = match self.setup.environment {
            Environment::Production => "57000",
            Environment::Sandbox => "2000000",
        };
        let ids = &mut self.world.ids;
        let known = self.world.app_store.customer_mut(customer, ids, self.now);
        Chain {
            app_transaction_id: known.app_transaction_id.clone(),
            original_transaction_id: ids.number(prefix, 15),
            customer: customer.to_owned(),
            app_account_token: None,
            transactions: Vec::new(),
            subscription: None,
            sharing,
        }
    }

    /// A customer redeems an offer for a subscription held now or before.
    pub(super) fn app_store_redeem(
        &mut self,
        original_transaction_id: &str,
        offer: Offer,
        product_id: Option<String>,
    ) -> Result<AppStorePurchase, SandboxError> {
        let chain = self.app_store_subscription(original_transaction_id)?;
        let current = chain.latest().map(|t| t.product_id.clone());
        self.app_store_buy(&AppStoreBuy {
            customer: chain.customer.clone(),
            product_id: product_id.or(current).unwrap_or_default(),
            // A code is redeemed in the store, everything else in the app, which names its account.
            outside_app: offer.kind == OfferKind::OfferCode,
            app_account_token: chain.app_account_token,
            offer: Some(offer),
            ..AppStoreBuy::default()
        })
    }

    /// The purchaser shares with a member of the family; returns what the member's device holds.
    pub(super) fn app_store_share(
        &mut self,
        original_transaction_id: &str,
        member: &str,
    ) -> Result<AppStorePurchase, SandboxError> {
        let store = &self.world.app_store;
        let mut chain = store
            .chains
            .get(original_transaction_id)
            .cloned()
            .ok_or(SandboxError::UnknownPurchase)?;
        let product = chain
            .latest()
            .and_then(|t| self.setup.app_store_product(&t.product_id));
        let shareable = product.is_some_and(|product| match product.kind {
            AppStoreKind::AutoRenewable { .. } | AppStoreKind::NonConsumable => true,
            AppStoreKind::Consumable | AppStoreKind::NonRenewing => false,
        });
        if !shareable || chain.customer == member || !chain.entitles(self.now) {
            return Err(SandboxError::Refused("nothing to share"));
        }
        let known = store.chains_of(member).find(|held| {
            matches!(&held.sharing, Sharing::Shared { purchaser } if purchaser == original_transaction_id)
        });
        let mut shared = match known.cloned() {
            Some(known) => known,
            None => {
                let purchaser = original_transaction_id.to_owned();
                self.empty_chain(member, Sharing::Shared { purchaser })
            }
        };
        let Sharing::Purchased { members } = &mut chain.sharing else {
            return Err(SandboxError::Refused("only the purchaser shares"));
        };
        if members.contains(&shared.original_transaction_id) {
            return Err(SandboxError::Refused("already shared"));
        }
        members.push(shared.original_transaction_id.clone());
        let signal = shared.join(&chain, &mut self.world.ids);
        self.app_store_put(chain, &[])?;
        self.app_store_hand_over(shared, signal.into_iter().collect())
    }

    /// A member of the family loses what was shared.
    pub(super) fn app_store_unshare(
        &mut self,
        original_transaction_id: &str,
        member: &str,
    ) -> Result<(), SandboxError> {
        let store = &self.world.app_store;
        let mut chain = store
            .chains
            .get(original_transaction_id)
            .cloned()
            .ok_or(SandboxError::UnknownPurchase)?;
        let shared = chain.sharing.members().iter();
        let mut shared = shared
            .filter_map(|id| store.chains.get(id))
            .find(|shared| shared.customer == member)
            .cloned()
            .ok_or(SandboxError::Refused("not shared with that member"))?;
        if let Sharing::Purchased { members } = &mut chain.sharing {
            members.retain(|id| *id != shared.original_transaction_id);
        }
        let signal = shared.leave(self.now);
        self.app_store_put(chain, &[])?;
        self.app_store_put(shared, signal.as_slice())
    }
}
