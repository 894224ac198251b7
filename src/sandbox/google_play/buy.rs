//! Buying at Google Play: first purchases, changes of plan, top-ups, and what the store refuses.

use super::super::error::SandboxError;
use super::super::setup::{GooglePlayProduct, StoreSetup};
use super::super::state::Turn;
use super::action::{AddOn, Offer, ReplacementMode};
use super::item::{Item, OfferPhase, UpcomingPhase};
use super::items::check_together;
use super::order::{Order, OrderLine, PaidFor};
use super::prepaid::check_top_up;
use super::purchase::{Content, OneTime, OneTimeState, OutOfApp, Purchase};
use super::subscription::{Subscription, SubscriptionState};
use super::{GooglePlayBuy, GooglePlayPurchase};

/// Offer id of a trial that comes without a named offer.
const TRIAL: &str = "free-trial";
/// More discounted periods are a mistake of the caller's.
const OFFER_PERIODS_MAX: u32 = 100;

pub(super) fn sold<'a>(
    setup: &'a StoreSetup,
    product_id: &str,
    base_plan_id: Option<&str>,
) -> Result<&'a GooglePlayProduct, SandboxError> {
    setup
        .google_play_product(product_id, base_plan_id)
        .ok_or_else(|| SandboxError::UnknownProduct(product_id.to_owned()))
}

impl Turn<'_> {
    /// A customer buys something.
    pub(in crate::sandbox) fn google_play_buy(
        &mut self,
        buy: &GooglePlayBuy,
    ) -> Result<GooglePlayPurchase, SandboxError> {
        let product = sold(self.setup, &buy.product_id, buy.base_plan_id.as_deref())?;
        match product.plan() {
            Some(_) => self.google_play_subscribe(buy, product),
            None => self.google_play_buy_one_time(buy, product),
        }
    }

    /// The customer extends a prepaid plan with another purchase of the same.
    pub(super) fn google_play_top_up(
        &mut self,
        token: &str,
    ) -> Result<GooglePlayPurchase, SandboxError> {
        let old = self.google_play_purchase(token)?;
        let items = old.subscription().map(|s| s.items.as_slice());
        let item = items.and_then(<[Item]>::first).filter(|item| item.prepaid);
        let item = item.ok_or(SandboxError::Refused("not a prepaid plan"))?;
        self.google_play_buy(&GooglePlayBuy {
            customer: old.customer.clone(),
            product_id: item.product_id.clone(),
            base_plan_id: Some(item.base_plan_id.clone()),
            obfuscated_account_id: old.obfuscated_account_id.clone(),
            obfuscated_profile_id: old.obfuscated_profile_id.clone(),
            replaces: Some(token.to_owned()),
            ..GooglePlayBuy::default()
        })
    }

    fn google_play_subscribe(
        &mut self,
        buy: &GooglePlayBuy,
        product: &GooglePlayProduct,
    ) -> Result<GooglePlayPurchase, SandboxError> {
        if buy.quantity.is_some_and(|quantity| quantity != 1) {
            return Err(SandboxError::Refused("a subscription is bought once"));
        }
        if let Some(offer) = &buy.offer {
            check_offer(offer).map_err(SandboxError::Refused)?;
        }
        let items = self.items_of(buy, product)?;
        check_together(&items, self.setup).map_err(SandboxError::Refused)?;
        let out_of_app = self.lapsed(buy)?;
        let old = self.replaced(buy)?;
        if out_of_app.is_some() && old.is_some() {
            return Err(SandboxError::Refused("the subscription has not lapsed"));
        }
        self.check_not_held(&items, buy, old.as_ref())?;
        let mode = old
            .as_ref()
            .map(|old| mode(buy, old, &items))
            .transpose()
            .map_err(SandboxError::Refused)?;
        if let Some(old) = &old
            && let (Some(new), Some(held)) = (items.first(), old.subscription())
            && new.prepaid
            && held
                .items
                .iter()
                .any(|item| item.is(&new.product_id, &new.base_plan_id))
        {
            check_top_up(held, self.now, self.setup).map_err(SandboxError::Refused)?;
        }
        let now = self.now;
        let setup = self.setup;
        let lines = items
            .iter()
            .filter_map(|item| item.awaited_line(now, setup))
            .collect();
        let content = Content::Subscription(Subscription::pending(items, mode));
        let mut purchase = self.new_purchase(buy, product, content, lines);
        purchase.linked_token = old.as_ref().map(|old| old.token.clone());
        if out_of_app.is_some() {
            purchase.obfuscated_account_id = None;
            purchase.obfuscated_profile_id = None;
        }
        purchase.out_of_app = out_of_app;
        self.google_play_grant(purchase, old, buy.pending)
    }

    fn google_play_buy_one_time(
        &mut self,
        buy: &GooglePlayBuy,
        product: &GooglePlayProduct,
    ) -> Result<GooglePlayPurchase, SandboxError> {
        let quantity = buy.quantity.unwrap_or(1);
        if quantity == 0 || buy.replaces.is_some() || !buy.add_ons.is_empty() {
            return Err(SandboxError::Refused("not for a one-time product"));
        }
        let held = self.world.google_play.purchases_of(&buy.customer);
        let held = held
            .filter(|purchase| purchase.product_id == product.product_id)
            .any(|purchase| match &purchase.content {
                Content::Subscription(_) => false,
                Content::OneTime(bought) => match bought.state {
                    OneTimeState::Pending => true,
                    OneTimeState::Purchased => !bought.consumed,
                    OneTimeState::Cancelled => false,
                },
            });
        if held {
            return Err(SandboxError::Refused("already owned"));
        }
        let price_micros = self.world.google_play.price_micros(product);
        let charged_micros = match buy.promotion {
            Some(_) => 0,
            None => price_micros,
        };
        let line = OrderLine {
            product_id: product.product_id.clone(),
            listing_micros: price_micros,
            total_micros: charged_micros * i64::from(quantity),
            paid_for: PaidFor::OneTime { quantity },
        };
        let content = Content::OneTime(OneTime {
            quantity,
            refunded: 0,
            consumed: false,
            state: OneTimeState::Pending,
        });
        let purchase = self.new_purchase(buy, product, content, vec![line]);
        self.google_play_grant(purchase, None, buy.pending)
    }

    /// Grants a purchase that has been paid, and puts it in; ends the one whose place it takes.
    fn google_play_grant(
        &mut self,
        mut purchase: Purchase,
        old: Option<Purchase>,
        pending: bool,
    ) -> Result<GooglePlayPurchase, SandboxError> {
        let bought = GooglePlayPurchase {
            purchase_token: purchase.token.clone(),
            order_id: match purchase.given_away() {
                true => String::new(),
                false => purchase.first_order_id().to_owned(),
            },
        };
        let mut told = Vec::new();
        if !pending {
            let held = old.as_ref().and_then(Purchase::subscription);
            let paid = purchase.pay(held, self.now, self.setup);
            told = paid.map_err(SandboxError::Refused)?;
        }
        if let Some(mut old) = old.filter(|_| !pending) {
            old.replace(self.now, &self.setup.timing);
            self.google_play_settle(old, Vec::new());
        }
        self.google_play_settle(purchase, told);
        Ok(bought)
    }

    /// A purchase that awaits its payment is paid or given up.
    pub(super) fn google_play_settle_pending(
        &mut self,
        token: &str,
        paid: bool,
    ) -> Result<(), SandboxError> {
        let mut purchase = self.google_play_purchase(token)?;
        if !purchase.pending() {
            return Err(SandboxError::Refused("nothing awaits payment"));
        }
        if !paid {
            let told = purchase.give_up(self.now);
            self.google_play_settle(purchase, told);
            return Ok(());
        }
        let linked = purchase.linked_token.as_deref();
        let old = linked.and_then(|token| self.world.google_play.purchases.get(token));
        let old = old.filter(|old| !old.over()).cloned();
        self.google_play_grant(purchase, old, false).map(|_| ())
    }

    fn new_purchase(
        &mut self,
        buy: &GooglePlayBuy,
        product: &GooglePlayProduct,
        content: Content,
        lines: Vec<OrderLine>,
    ) -> Purchase {
        let order = Order::pending(self.world.ids.order(), self.now, lines);
        Purchase {
            token: self.world.ids.purchase_token(),
            customer: buy.customer.clone(),
            product_id: product.product_id.clone(),
            currency: product.currency.clone(),
            bought_at: self.now,
            started_at: None,
            obfuscated_account_id: buy.obfuscated_account_id.clone(),
            obfuscated_profile_id: buy.obfuscated_profile_id.clone(),
            linked_token: None,
            out_of_app: None,
            promotion: buy.promotion.clone(),
            acknowledged: false,
            developer_payload: None,
            orders: vec![order],
            content,
            late: Vec::new(),
            revoked: false,
            reviews: Vec::new(),
            version: 0,
        }
    }

    fn items_of(
        &self,
        buy: &GooglePlayBuy,
        product: &GooglePlayProduct,
    ) -> Result<Vec<Item>, SandboxError> {
        let mut main = self.new_item(product)?;
        main.offer(buy);
        let mut items = vec![main];
        items.extend(self.google_play_add_ons(&buy.add_ons)?);
        Ok(items)
    }

    /// Items that nobody owns yet.
    pub(super) fn google_play_add_ons(&self, add_ons: &[AddOn]) -> Result<Vec<Item>, SandboxError> {
        let item = |add_on: &AddOn| {
            let plan = add_on.base_plan_id.as_deref();
            let mut item = self.new_item(sold(self.setup, &add_on.product_id, plan)?)?;
            item.offer(&GooglePlayBuy {
                trial: add_on.trial,
                ..GooglePlayBuy::default()
            });
            Ok(item)
        };
        add_ons.iter().map(item).collect()
    }

    fn new_item(&self, product: &GooglePlayProduct) -> Result<Item, SandboxError> {
        let price_micros = self.world.google_play.price_micros(product);
        Item::new(product, price_micros, self.now)
            .ok_or_else(|| SandboxError::UnknownProduct(product.product_id.clone()))
    }

    /// The same thing cannot be bought twice while it is held.
    fn check_not_held(
        &self,
        items: &[Item],
        buy: &GooglePlayBuy,
        old: Option<&Purchase>,
    ) -> Result<(), SandboxError> {
        let bought = self.world.google_play.purchases_of(&buy.customer);
        let held = bought
            .filter(|purchase| old.is_none_or(|old| old.token != purchase.token))
            .filter_map(Purchase::subscription)
            .filter(|subscription| match subscription.state(self.now) {
                SubscriptionState::Expired | SubscriptionState::PendingPurchaseCanceled => false,
                SubscriptionState::Pending
                | SubscriptionState::Active
                | SubscriptionState::Paused
                | SubscriptionState::InGracePeriod
                | SubscriptionState::OnHold
                | SubscriptionState::Canceled => true,
            })
            .flat_map(|subscription| &subscription.items)
            .any(|held| items.iter().any(|item| item.product_id == held.product_id));
        match held {
            true => Err(SandboxError::Refused("already owned")),
            false => Ok(()),
        }
    }

    /// The subscription whose place a new one takes: the one named, or one of the same product that
    /// has been cancelled and has not lapsed.
    fn replaced(&self, buy: &GooglePlayBuy) -> Result<Option<Purchase>, SandboxError> {
        let old = match &buy.replaces {
            Some(token) => self.google_play_purchase(token)?,
            None => {
                let bought = self.world.google_play.purchases_of(&buy.customer);
                let canceled = bought.rev().find(|purchase| {
                    let state = purchase.subscription().map(|s| s.state(self.now));
                    purchase.product_id == buy.product_id
                        && state == Some(SubscriptionState::Canceled)
                });
                match canceled {
                    Some(canceled) => canceled.clone(),
                    None => return Ok(None),
                }
            }
        };
        let state = old.subscription().map(|s| s.state(self.now));
        let replaceable = match state {
            Some(
                SubscriptionState::Active
                | SubscriptionState::InGracePeriod
                | SubscriptionState::Canceled
                | SubscriptionState::OnHold
                | SubscriptionState::Paused,
            ) => old.customer == buy.customer,
            Some(
                SubscriptionState::Pending
                | SubscriptionState::Expired
                | SubscriptionState::PendingPurchaseCanceled,
            )
            | None => false,
        };
        if !replaceable {
            return Err(SandboxError::Refused("nothing to replace"));
        }
        if !old.acknowledged {
            return Err(SandboxError::Refused(
                "the old purchase is not acknowledged",
            ));
        }
        if self.goes_on_elsewhere(&old.token) {
            return Err(SandboxError::Refused("a change of it awaits its payment"));
        }
        Ok(Some(old))
    }

    /// Whether a purchase has a successor, paid or awaiting its payment: the store knows of one
    /// change of a subscription at a time, and what was changed does not lapse.
    fn goes_on_elsewhere(&self, token: &str) -> bool {
        let all = self.world.google_play.purchases.values();
        let mut successors = all.filter(|purchase| {
            let lapsed = purchase.out_of_app.as_ref();
            purchase.linked_token.as_deref() == Some(token)
                || lapsed.is_some_and(|lapsed| lapsed.expired_token == token)
        });
        successors.any(|successor| {
            let state = successor.subscription().map(|s| s.state(self.now));
            state != Some(SubscriptionState::PendingPurchaseCanceled)
        })
    }

    /// The subscription that is taken up again outside the app.
    fn lapsed(&self, buy: &GooglePlayBuy) -> Result<Option<OutOfApp>, SandboxError> {
        if !buy.out_of_app {
            return Ok(None);
        }
        let mut bought = self.world.google_play.purchases_of(&buy.customer);
        let lapsed = bought.rfind(|purchase| {
            purchase.product_id == buy.product_id
                && purchase.subscription().is_some()
                && purchase.started_at.is_some()
        });
        let lapsed = lapsed.ok_or(SandboxError::Refused("nothing has lapsed"))?;
        if self.goes_on_elsewhere(&lapsed.token) {
            return Err(SandboxError::Refused("it goes on in another purchase"));
        }
        Ok(Some(OutOfApp {
            expired_token: lapsed.token.clone(),
            expired_account_id: lapsed.obfuscated_account_id.clone(),
            expired_profile_id: lapsed.obfuscated_profile_id.clone(),
        }))
    }
}

/// Why a subscription is not sold with this introductory price, if so.
fn check_offer(offer: &Offer) -> Result<(), &'static str> {
    if !(1..=OFFER_PERIODS_MAX).contains(&offer.periods) {
        return Err("an offer has 1 to 100 periods");
    }
    match offer.price_micros < 0 {
        true => Err("no price is below nought"),
        false => Ok(()),
    }
}

/// How the old subscription turns into the new one, or why the store does not do it so.
fn mode(
    buy: &GooglePlayBuy,
    old: &Purchase,
    items: &[Item],
) -> Result<ReplacementMode, &'static str> {
    let first = items.first();
    if first.is_some_and(|item| item.prepaid) {
        return match buy.replacement_mode {
            None | Some(ReplacementMode::ChargeFullPrice) => Ok(ReplacementMode::ChargeFullPrice),
            Some(_) => Err("a change to a prepaid plan is charged in full"),
        };
    }
    let mode = buy.replacement_mode.unwrap_or_default();
    let held = old.subscription().and_then(|s| s.items.first());
    let same = first
        .zip(held)
        .is_some_and(|(item, held)| item.is(&held.product_id, &held.base_plan_id));
    match mode {
        ReplacementMode::KeepExisting if !same => Err("only the same plan can be kept"),
        ReplacementMode::Deferred if items.len() > 1 => Err("add-ons cannot be deferred"),
        ReplacementMode::Deferred if first.is_some_and(|item| !item.upcoming.is_empty()) => {
            Err("an offer cannot be deferred")
        }
        ReplacementMode::KeepExisting
        | ReplacementMode::Deferred
        | ReplacementMode::WithTimeProration
        | ReplacementMode::ChargeProratedPrice
        | ReplacementMode::WithoutProration
        | ReplacementMode::ChargeFullPrice => Ok(mode),
    }
}

impl Item {
    /// Begins with a trial, an introductory price, or one after the other.
    fn offer(&mut self, buy: &GooglePlayBuy) {
        if let Some(period) = buy.trial {
            self.offer_id = Some(TRIAL.to_owned());
            self.upcoming.push(UpcomingPhase {
                phase: OfferPhase::FreeTrial,
                period,
                price_micros: 0,
            });
        }
        if let Some(offer) = &buy.offer {
            self.offer_id = Some(offer.id.clone());
            let phase = UpcomingPhase {
                phase: OfferPhase::Introductory,
                period: offer.period,
                price_micros: offer.price_micros,
            };
            for _ in 0..offer.periods {
                self.upcoming.push(phase);
            }
        }
    }
}
