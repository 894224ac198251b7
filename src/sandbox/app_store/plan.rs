//! Subscribing, subscribing again, and moving between the products of a group.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::super::error::SandboxError;
use super::super::ids::Ids;
use super::action::{AppStoreBuy, BillingPlan};
use super::chain::{Chain, Phase, Subscription};
use super::commitment::Commitment;
use super::lifecycle::Charge;
use super::offers::{Offer, OfferKind, OfferRun};
use super::shelf::{Shelf, Terms};
use super::{Billing, Signal};

/// An absence shorter than this does not start `recentSubscriptionStartDate` anew.
const SHORT_LAPSE_DAYS: i64 = 60;

/// How a subscription product is bought.
pub(super) struct Order<'a> {
    pub(super) terms: Terms<'a>,
    pub(super) at: DateTime<Utc>,
    pub(super) account_token: Option<Uuid>,
    pub(super) outside_app: bool,
    pub(super) offer: Option<Offer>,
    pub(super) plan: BillingPlan,
}

impl<'a> Order<'a> {
    /// What a purchase asks for, if the store sells it so.
    pub(super) fn new(
        buy: &AppStoreBuy,
        terms: Terms<'a>,
        at: DateTime<Utc>,
    ) -> Result<Self, SandboxError> {
        if buy.quantity.is_some_and(|quantity| quantity != 1) {
            return Err(SandboxError::Refused("a subscription is bought once"));
        }
        let offer = match (&buy.offer, buy.trial) {
            (Some(_), Some(_)) => return Err(SandboxError::Refused("a trial is an offer itself")),
            (Some(offer), None) => Some(offer.clone()),
            (None, trial) => trial.map(Offer::trial),
        };
        if let Some(offer) = &offer {
            offer.check_for_subscription()?;
        }
        let order = Self {
            terms,
            at,
            account_token: buy.app_account_token.filter(|_| !buy.outside_app),
            outside_app: buy.outside_app,
            offer,
            plan: buy.billing_plan.unwrap_or_default(),
        };
        order.commitment()?;
        Ok(order)
    }

    fn commitment(&self) -> Result<Option<Commitment>, SandboxError> {
        match (
            self.plan,
            &self.offer,
            self.terms.product.monthly_commitment_milliunits,
        ) {
            (BillingPlan::Upfront, _, _) => Ok(None),
            (BillingPlan::Monthly, Some(_), _) => Err(SandboxError::Refused(
                "offers do not go with a commitment paid monthly",
            )),
            (BillingPlan::Monthly, None, None) => Err(SandboxError::Refused(
                "the product is not sold with a commitment paid monthly",
            )),
            (BillingPlan::Monthly, None, Some(price)) => {
                Ok(Some(Commitment::begin(price, self.at)))
            }
        }
    }
}

impl Chain {
    /// The first purchase in a group.
    pub(super) fn subscribe(
        &mut self,
        order: Order<'_>,
        ids: &mut Ids,
    ) -> Result<Vec<Signal>, SandboxError> {
        let product = &order.terms.product.product_id;
        self.subscription = Some(Subscription::new(order.terms.group, product, order.at));
        self.bill(order, ids)?;
        Ok(vec![self.signal("SUBSCRIBED", Some("INITIAL_BUY"))])
    }

    /// A purchase in a group whose subscription has ended.
    pub(super) fn resubscribe(
        &mut self,
        order: Order<'_>,
        ids: &mut Ids,
    ) -> Result<Vec<Signal>, SandboxError> {
        self.app_account_token = order.account_token;
        let absent_since = self.ended_at();
        let Some(subscription) = self.subscription.as_mut() else {
            return Err(SandboxError::UnknownPurchase);
        };
        let since = match order.at - absent_since < TimeDelta::days(SHORT_LAPSE_DAYS) {
            true => subscription.since,
            false => order.at,
        };
        let extended_at = std::mem::take(&mut subscription.extended_at);
        *subscription = Subscription {
            extended_at,
            ..Subscription::new(order.terms.group, &order.terms.product.product_id, since)
        };
        self.bill(order, ids)?;
        Ok(vec![self.signal("SUBSCRIBED", Some("RESUBSCRIBE"))])
    }

    /// When the last access ended.
    fn ended_at(&self) -> DateTime<Utc> {
        let paid = self.access_until().unwrap_or(DateTime::UNIX_EPOCH);
        let revoked = self.latest().and_then(|t| t.revoked_at());
        revoked.map_or(paid, |at| at.min(paid))
    }

    /// Charges what was ordered, at once.
    fn bill(&mut self, order: Order<'_>, ids: &mut Ids) -> Result<(), SandboxError> {
        let commitment = order.commitment()?;
        if let Some(subscription) = self.subscription.as_mut() {
            subscription.commitment = commitment;
            subscription.next_offer = order.offer.map(OfferRun::new);
        }
        let charge = Charge {
            terms: order.terms,
            at: order.at,
            renewal: false,
        };
        self.charge(charge, ids);
        Ok(())
    }

    /// A purchase in a group whose subscription is running: up at once, down at the next renewal,
    /// and the same product again takes a planned change back.
    pub(super) fn change_plan(
        &mut self,
        order: Order<'_>,
        shelf: &Shelf<'_>,
        ids: &mut Ids,
    ) -> Result<Vec<Signal>, SandboxError> {
        let held = self.latest().map(|t| t.product_id.clone());
        let (Some(held), Some(subscription)) = (held, self.subscription.as_mut()) else {
            return Err(SandboxError::UnknownPurchase);
        };
        if subscription.phase != Phase::Active {
            return Err(SandboxError::Refused("already subscribed, and payment due"));
        }
        if let Some(offer) = &order.offer
            && offer.kind == OfferKind::WinBack
        {
            return Err(SandboxError::Refused(
                "a win-back offer is for who has left",
            ));
        }
        let product = order.terms.product.product_id.clone();
        let kind = match order.offer {
            Some(_) => "OFFER_REDEEMED",
            None => "DID_CHANGE_RENEWAL_PREF",
        };
        let up = product != held
            && shelf
                .terms(&held)
                .is_none_or(|held| order.terms.is_upgrade_from(&held));
        if !up && order.plan == BillingPlan::Monthly {
            return Err(SandboxError::Refused("a commitment begins with a purchase"));
        }
        if !up && order.offer.is_some() && subscription.commitment.is_some() {
            return Err(SandboxError::Refused("a commitment takes no offers"));
        }
        if product == held {
            return self.stay(&product, order.offer);
        }
        if up {
            if subscription.billing == Billing::Fails {
                return Err(SandboxError::Refused("the payment is declined"));
            }
            subscription.renews_to = product;
            subscription.auto_renew = true;
            self.app_account_token = match order.outside_app {
                true => None,
                false => order.account_token.or(self.app_account_token),
            };
            if let Some(old) = self.latest_mut() {
                old.upgraded = true;
            }
            self.bill(order, ids)?;
            return Ok(vec![self.signal(kind, Some("UPGRADE"))]);
        }
        if subscription.renews_to == product && subscription.auto_renew && order.offer.is_none() {
            return Err(SandboxError::Refused("already going to change"));
        }
        subscription.renews_to = product;
        subscription.auto_renew = true;
        subscription.next_offer = order.offer.map(OfferRun::new);
        subscription.price_increase = None;
        Ok(vec![self.signal(kind, Some("DOWNGRADE"))])
    }

    /// The held product is chosen again: with an offer from the next renewal on, or to stay.
    fn stay(&mut self, product: &str, offer: Option<Offer>) -> Result<Vec<Signal>, SandboxError> {
        let Some(subscription) = self.subscription.as_mut() else {
            return Err(SandboxError::UnknownPurchase);
        };
        if let Some(offer) = &offer
            && offer.kind == OfferKind::Introductory
        {
            return Err(SandboxError::Refused("already subscribed"));
        }
        let moving = subscription.renews_to != product;
        product.clone_into(&mut subscription.renews_to);
        if let Some(offer) = offer {
            subscription.auto_renew = true;
            subscription.next_offer = Some(OfferRun::new(offer));
            return Ok(vec![self.signal("OFFER_REDEEMED", None)]);
        }
        if moving {
            subscription.auto_renew = true;
            subscription.next_offer = None;
            return Ok(vec![self.signal("DID_CHANGE_RENEWAL_PREF", None)]);
        }
        match subscription.auto_renew {
            true => Err(SandboxError::Refused("already subscribed")),
            false => Ok(self.set_auto_renew(true)),
        }
    }
}
