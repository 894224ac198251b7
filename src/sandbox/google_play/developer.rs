//! What the developer's server does through the API: acknowledge, consume, cancel, defer, revoke,
//! refund, review.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::super::error::SandboxError;
use super::super::state::Turn;
use super::notification::SubscriptionEvent;
use super::purchase::{Content, OneTimeState, Purchase};
use super::refund::{Cause, RefundPreference, Revocation};
use super::subscription::{Cancellation, SubscriptionState};

/// Renewal can be deferred by at least so much at a time.
const DEFER_DAYS_MIN: i64 = 1;
/// And by at most so much.
const DEFER_DAYS_MAX: i64 = 365;
/// Older orders cannot be refunded.
const REFUNDABLE_DAYS: i64 = 3 * 365;

/// Why a deferral is refused whose entity tag is not the latest.
pub(super) const STALE_ETAG: &str = "the entity tag is stale";

/// `cancellationType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(in crate::sandbox) enum CancellationType {
    /// No renewal; the customer may take it back, and pays installments to the end.
    UserRequestedStopRenewals,
    /// No further payment; it cannot be taken back.
    DeveloperRequestedStopPayments,
}

/// What the developer says on acknowledging; the ids count only for purchases made outside the app.
#[derive(Clone, Debug, Default)]
pub(in crate::sandbox) struct Acknowledgement {
    pub(in crate::sandbox) account_id: Option<String>,
    pub(in crate::sandbox) profile_id: Option<String>,
    pub(in crate::sandbox) payload: Option<String>,
}

/// An item and its new expiry.
pub(in crate::sandbox) type DeferredItems = Vec<(String, DateTime<Utc>)>;

impl Turn<'_> {
    /// The developer acknowledges; once more changes nothing.
    pub(in crate::sandbox) fn google_play_acknowledge(
        &mut self,
        token: &str,
        said: Acknowledgement,
    ) -> Result<(), SandboxError> {
        let mut purchase = self.google_play_purchase(token)?;
        if purchase.pending() {
            return Err(SandboxError::Refused("the purchase is not paid"));
        }
        if purchase.acknowledged {
            return Ok(());
        }
        if purchase.out_of_app.is_some() {
            purchase.obfuscated_account_id = said.account_id.or(purchase.obfuscated_account_id);
            purchase.obfuscated_profile_id = said.profile_id.or(purchase.obfuscated_profile_id);
        }
        purchase.developer_payload = said.payload;
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
        match &mut purchase.content {
            Content::OneTime(bought) if bought.state == OneTimeState::Purchased => {
                bought.consumed = true;
            }
            Content::OneTime(_) | Content::Subscription(_) => {
                return Err(SandboxError::Refused("nothing to consume"));
            }
        }
        purchase.acknowledge();
        self.google_play_settle(purchase, Vec::new());
        Ok(())
    }

    /// The developer stops renewals or payments.
    pub(in crate::sandbox) fn google_play_cancel_by_developer(
        &mut self,
        token: &str,
        kind: CancellationType,
    ) -> Result<(), SandboxError> {
        let restorable = match kind {
            CancellationType::UserRequestedStopRenewals => true,
            CancellationType::DeveloperRequestedStopPayments => false,
        };
        let cancellation = Cancellation::Developer { restorable };
        let mut purchase = self.google_play_purchase(token)?;
        let told = purchase.stop(cancellation, self.now, &self.setup.timing);
        if told.is_empty() {
            return Err(SandboxError::Refused("nothing renews"));
        }
        self.google_play_settle(purchase, told);
        Ok(())
    }

    /// The developer gives time: every item's renewal moves by `by`. `etag` must be the latest.
    pub(in crate::sandbox) fn google_play_defer(
        &mut self,
        token: &str,
        etag: &str,
        by: TimeDelta,
        validate_only: bool,
    ) -> Result<DeferredItems, SandboxError> {
        let mut purchase = self.google_play_purchase(token)?;
        if purchase.etag() != etag {
            return Err(SandboxError::Refused(STALE_ETAG));
        }
        let deferred = purchase
            .defer(by, self.now)
            .map_err(SandboxError::Refused)?;
        if !validate_only {
            let told = vec![SubscriptionEvent::Deferred.into()];
            self.google_play_settle(purchase, told);
        }
        Ok(deferred)
    }

    /// The developer ends access now and gives money back.
    pub(in crate::sandbox) fn google_play_revoke(
        &mut self,
        token: &str,
        revocation: &Revocation,
    ) -> Result<(), SandboxError> {
        let mut purchase = self.google_play_purchase(token)?;
        let told = purchase.revoke_by_developer(revocation, self.now);
        self.google_play_settle(purchase, told.map_err(SandboxError::Refused)?);
        Ok(())
    }

    /// The developer refunds an order, and with `revoke` ends access.
    pub(in crate::sandbox) fn google_play_refund_order(
        &mut self,
        order_id: &str,
        revoke: bool,
        cause: Cause,
    ) -> Result<(), SandboxError> {
        let mut purchase = self.google_play_purchase_by_order(order_id)?;
        let created_at = purchase.order(order_id).map(|order| order.created_at);
        let oldest = self.now - TimeDelta::days(REFUNDABLE_DAYS);
        if created_at.is_some_and(|at| at < oldest) {
            return Err(SandboxError::Refused("the order is too old to refund"));
        }
        let told = purchase.refund(order_id, revoke, cause, self.now);
        self.google_play_settle(purchase, told.map_err(SandboxError::Refused)?);
        Ok(())
    }

    /// The developer's word on a charge-back.
    pub(in crate::sandbox) fn google_play_review_refund(
        &mut self,
        order_id: &str,
        pending_refund_token: &str,
        preference: RefundPreference,
    ) -> Result<(), SandboxError> {
        let mut purchase = self.google_play_purchase_by_order(order_id)?;
        let told = purchase.review_refund(order_id, pending_refund_token, preference, self.now);
        self.google_play_settle(purchase, told.map_err(SandboxError::Refused)?);
        Ok(())
    }

    fn google_play_purchase_by_order(&self, order_id: &str) -> Result<Purchase, SandboxError> {
        let found = self.world.google_play.purchase_by_order(order_id);
        found.cloned().ok_or(SandboxError::UnknownPurchase)
    }
}

impl Purchase {
    /// Moves what lasts by `by`.
    fn defer(&mut self, by: TimeDelta, now: DateTime<Utc>) -> Result<DeferredItems, &'static str> {
        if by < TimeDelta::days(DEFER_DAYS_MIN) || by > TimeDelta::days(DEFER_DAYS_MAX) {
            return Err("renewal is deferred by a day to a year");
        }
        let subscription = self.subscription_mut().ok_or("no subscription")?;
        if subscription.state(now) != SubscriptionState::Active || subscription.prepaid() {
            return Err("only an active subscription that renews is deferred");
        }
        let mut deferred = Vec::new();
        for item in subscription.items.iter_mut().filter(|item| item.lasts(now)) {
            item.expiry = item.expiry.map(|expiry| expiry + by);
            deferred.extend(item.expiry.map(|expiry| (item.product_id.clone(), expiry)));
        }
        for waiting in subscription.items.iter_mut().filter(|i| i.expiry.is_none()) {
            waiting.from += by;
        }
        match deferred.is_empty() {
            true => Err("only an active subscription that renews is deferred"),
            false => Ok(deferred),
        }
    }
}
