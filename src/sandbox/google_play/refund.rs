//! Money given back: refunds with and without the end of access, in part or in full, and
//! charge-backs with the developer's review.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::item::Item;
use super::lifecycle::Told;
use super::notification::{Signal, SubscriptionEvent};
use super::order::{Order, OrderRefund};
use super::purchase::{Content, OneTimeState, Purchase};
use super::subscription::Cancellation;
use super::voided::{VoidReason, VoidSource, Voided};

/// The developer has so long for a review.
const REVIEW_HOURS: i64 = 24;

/// A charge-back that waits for the developer's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct Review {
    /// `pendingRefundToken`.
    pub(in crate::sandbox) token: String,
    pub(in crate::sandbox) order_id: String,
    pub(in crate::sandbox) asked_at: DateTime<Utc>,
}

/// What the developer thinks of a charge-back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(in crate::sandbox) enum RefundPreference {
    Decline,
    Approve,
    Neutral,
}

/// Who gives money back, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sandbox) struct Cause {
    pub(in crate::sandbox) source: VoidSource,
    pub(in crate::sandbox) reason: VoidReason,
}

/// What a developer's revocation gives back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sandbox) enum Revocation {
    /// The latest charge of every item.
    Full,
    /// What has not been used of it.
    Prorated,
    /// The latest charge of one item, which alone ends.
    Item(String),
}

impl Purchase {
    /// An order is refunded in full, and with `revoke` access ends.
    pub(super) fn refund(
        &mut self,
        order_id: &str,
        revoke: bool,
        cause: Cause,
        now: DateTime<Utc>,
    ) -> Result<Told, &'static str> {
        let order = self.order_mut(order_id).ok_or("no such order")?;
        if !order.is_processed() {
            return Err("the order is not paid");
        }
        if order.is_refunded() {
            return Err("already refunded");
        }
        order.refund_pending = false;
        order.refunds.push(OrderRefund {
            at: now,
            micros: order.left_micros(),
            charge_back: cause.reason == VoidReason::Chargeback,
            quantity: None,
            whole: true,
        });
        if !revoke {
            return Ok(Vec::new());
        }
        let by = match cause.source {
            // The store blames the customer for a refund of the developer's, as observed.
            VoidSource::User | VoidSource::Developer => Cancellation::by_user(now),
            VoidSource::Google => Cancellation::System,
        };
        Ok(self.revoke(order_id, by, cause, now))
    }

    /// Access ends, and the order counts as void.
    fn revoke(
        &mut self,
        order_id: &str,
        by: Cancellation,
        cause: Cause,
        now: DateTime<Utc>,
    ) -> Told {
        let mut told = Vec::new();
        self.give_up_orders(now);
        match &mut self.content {
            Content::Subscription(subscription) if !subscription.over() => {
                subscription.end(now, by);
                self.revoked = true;
                told.push(SubscriptionEvent::Revoked.into());
            }
            Content::Subscription(_) => {}
            Content::OneTime(bought) => {
                bought.state = OneTimeState::Cancelled;
                bought.refunded = bought.quantity;
                self.revoked = true;
            }
        }
        told.extend(self.void(order_id, cause, None, now));
        told
    }

    /// An order of the purchase that this one continues was voided: what it paid for, and what came
    /// along into this one, ends; with the last of it the whole purchase.
    pub(super) fn end_carried(&mut self, order_id: &str, now: DateTime<Utc>) -> Told {
        let Some(subscription) = self.subscription_mut() else {
            return Vec::new();
        };
        let paid = |item: &&mut Item| item.order_id.as_deref() == Some(order_id) && item.lasts(now);
        let carried: Vec<&mut Item> = subscription.items.iter_mut().filter(paid).collect();
        if carried.is_empty() {
            return Vec::new();
        }
        carried.into_iter().for_each(|item| item.end(now));
        if subscription.items.iter().any(|item| item.lasts(now)) {
            return vec![SubscriptionEvent::ItemsChanged.into()];
        }
        subscription.end(now, Cancellation::System);
        self.revoked = true;
        self.give_up_orders(now);
        vec![SubscriptionEvent::Revoked.into()]
    }

    fn void(
        &self,
        order_id: &str,
        cause: Cause,
        quantity: Option<u32>,
        now: DateTime<Utc>,
    ) -> Option<Signal> {
        let order = self.order(order_id)?;
        Some(Signal::Voided(Voided {
            purchase_token: self.token.clone(),
            order_id: order_id.to_owned(),
            subscription: self.subscription().is_some(),
            purchased_at: order.created_at,
            voided_at: now,
            source: cause.source,
            reason: cause.reason,
            quantity,
        }))
    }

    /// The purchase was not acknowledged in time.
    pub(super) fn forfeit(&mut self, now: DateTime<Utc>) -> Told {
        let order_id = self.latest_order_id().to_owned();
        let cause = Cause {
            source: VoidSource::Google,
            reason: VoidReason::UnacknowledgedPurchase,
        };
        match self.refund(&order_id, true, cause, now) {
            Ok(told) => told,
            Err(_) => self.revoke(&order_id, Cancellation::System, cause, now),
        }
    }

    /// Some of a one-time purchase of several are given back.
    pub(super) fn refund_quantity(
        &mut self,
        quantity: u32,
        cause: Cause,
        now: DateTime<Utc>,
    ) -> Result<Told, &'static str> {
        let order_id = self.latest_order_id().to_owned();
        let Content::OneTime(bought) = &mut self.content else {
            return Err("only one-time purchases are refunded by quantity");
        };
        let left = bought.quantity.saturating_sub(bought.refunded);
        if bought.state != OneTimeState::Purchased || quantity == 0 || quantity > left {
            return Err("not so many are left to refund");
        }
        if quantity == left {
            return self.refund(&order_id, true, cause, now);
        }
        bought.refunded += quantity;
        let of = bought.quantity;
        let order = self.order_mut(&order_id).ok_or("no such order")?;
        let micros = order.total_micros() / i64::from(of.max(1)) * i64::from(quantity);
        order.refunds.push(OrderRefund {
            at: now,
            micros,
            charge_back: false,
            quantity: Some(quantity),
            whole: false,
        });
        let voided = self.void(&order_id, cause, Some(quantity), now);
        Ok(voided.into_iter().collect())
    }

    /// The developer ends access now.
    pub(super) fn revoke_by_developer(
        &mut self,
        revocation: &Revocation,
        now: DateTime<Utc>,
    ) -> Result<Told, &'static str> {
        let order_id = self.latest_order_id().to_owned();
        let subscription = self.subscription_mut().ok_or("no subscription")?;
        if !subscription.state(now).entitles() {
            return Err("the subscription is not active");
        }
        match revocation {
            Revocation::Full => {
                let owned = subscription.items.iter().filter(|item| item.lasts(now));
                let paid_by = owned.filter_map(|item| item.order_id.clone());
                let others: BTreeSet<_> = paid_by.filter(|id| *id != order_id).collect();
                let mut told = self.refund(&order_id, true, Cause::default(), now)?;
                for other in others {
                    let left = self.order(&other).map_or(0, Order::left_micros);
                    told.extend(self.void_other(&other, left, now));
                }
                Ok(told)
            }
            Revocation::Prorated => {
                let mut unused: BTreeMap<_, i64> = BTreeMap::new();
                for item in &subscription.items {
                    if let Some(paid_by) = &item.order_id {
                        *unused.entry(paid_by.clone()).or_default() += item.credit_micros(now);
                    }
                }
                let latest = unused.remove(&order_id).unwrap_or(0);
                self.give_back(&order_id, latest, now);
                let by = Cancellation::by_user(now);
                let mut told = self.revoke(&order_id, by, Cause::default(), now);
                for (other, micros) in unused {
                    told.extend(self.void_other(&other, micros, now));
                }
                Ok(told)
            }
            Revocation::Item(product_id) => {
                let item = subscription.item_mut(product_id).ok_or("no such item")?;
                let paid_by = item.order_id.clone().ok_or("the item is not owned")?;
                if !item.lasts(now) {
                    return Err("the item has ended");
                }
                if !subscription.end_item(product_id, now) {
                    return self.refund(&paid_by, true, Cause::default(), now);
                }
                let lines = self.order(&paid_by).map(|order| order.lines.as_slice());
                let line = lines.unwrap_or_default().iter();
                let paid = line.filter(|line| line.product_id == *product_id);
                let paid: i64 = paid.map(|line| line.total_micros).sum();
                self.give_back(&paid_by, paid, now);
                Ok(vec![SubscriptionEvent::ItemsChanged.into()])
            }
        }
    }

    /// Voids an order that paid for an item which was added to the subscription.
    fn void_other(&mut self, order_id: &str, micros: i64, now: DateTime<Utc>) -> Option<Signal> {
        if micros == 0 || self.order(order_id)?.is_refunded() {
            return None;
        }
        self.give_back(order_id, micros, now);
        self.void(order_id, Cause::default(), None, now)
    }

    fn give_back(&mut self, order_id: &str, micros: i64, now: DateTime<Utc>) {
        if let Some(order) = self.order_mut(order_id) {
            let left = order.left_micros();
            order.refunds.push(OrderRefund {
                at: now,
                micros: micros.min(left),
                charge_back: false,
                quantity: None,
                whole: micros >= left,
            });
        }
    }

    /// The customer's bank asks the money of an order back.
    pub(super) fn charge_back(
        &mut self,
        order_id: &str,
        token: String,
        now: DateTime<Utc>,
    ) -> Result<Told, &'static str> {
        let order = self.order_mut(order_id).ok_or("no such order")?;
        if order.refund_pending || order.is_refunded() || !order.is_processed() {
            return Err("nothing to charge back");
        }
        order.refund_pending = true;
        let review = Review {
            token,
            order_id: order_id.to_owned(),
            asked_at: now,
        };
        self.reviews.push(review.clone());
        Ok(vec![Signal::RefundReview(review)])
    }

    /// The developer's word on a charge-back. Only a refusal keeps the money.
    pub(super) fn review_refund(
        &mut self,
        order_id: &str,
        token: &str,
        preference: RefundPreference,
        now: DateTime<Utc>,
    ) -> Result<Told, &'static str> {
        let asked = |review: &Review| review.token == token && review.order_id == order_id;
        let position = self.reviews.iter().position(asked);
        let review = self.reviews.remove(position.ok_or("no such review")?);
        match preference {
            RefundPreference::Approve | RefundPreference::Neutral => {
                Ok(self.lose(&review.order_id, now))
            }
            RefundPreference::Decline => {
                if let Some(order) = self.order_mut(&review.order_id) {
                    order.refund_pending = false;
                }
                Ok(Vec::new())
            }
        }
    }

    /// When the first review ends without the developer's word.
    pub(super) fn decided_at(&self) -> Option<DateTime<Utc>> {
        let asked = self.reviews.iter().map(|review| review.asked_at).min();
        asked.map(|at| at + TimeDelta::hours(REVIEW_HOURS))
    }

    /// The developer kept silent.
    pub(super) fn decide_overdue(&mut self, now: DateTime<Utc>) -> Told {
        let overdue = |review: &Review| review.asked_at + TimeDelta::hours(REVIEW_HOURS) <= now;
        match self.reviews.iter().position(overdue) {
            Some(position) => {
                let review = self.reviews.remove(position);
                self.lose(&review.order_id, now)
            }
            None => Vec::new(),
        }
    }

    /// The bank has the money.
    fn lose(&mut self, order_id: &str, now: DateTime<Utc>) -> Told {
        let cause = Cause {
            source: VoidSource::Google,
            reason: VoidReason::Chargeback,
        };
        self.refund(order_id, true, cause, now).unwrap_or_default()
    }
}
