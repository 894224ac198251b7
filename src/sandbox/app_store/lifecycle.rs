//! What happens to an App Store chain, as a state machine that knows neither keys nor the network:
//! each step changes the chain and says what Apple will tell about it.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::super::ids::Ids;
use super::super::setup::Timing;
use super::chain::{Chain, Intent, Phase, Subscription, transaction_prefix};
use super::commitment::{self, Commitment};
use super::offers::{AppliedOffer, OfferRun};
use super::shelf::{Shelf, Terms};
use super::transaction::Transaction;
use super::{Billing, Signal};

/// A charge that becomes a transaction.
#[derive(Clone, Copy)]
pub(super) struct Charge<'a> {
    pub(super) terms: Terms<'a>,
    pub(super) at: DateTime<Utc>,
    pub(super) renewal: bool,
}

impl Chain {
    /// When something happens to this chain by itself; what is shared follows its purchaser.
    pub(in crate::sandbox) fn next_due(&self, timing: &Timing) -> Option<DateTime<Utc>> {
        if self.sharing.is_shared() {
            return None;
        }
        let subscription = self.subscription.as_ref()?;
        let expires = self.expires_at();
        let seconds = |count: u32| TimeDelta::seconds(count.into());
        match subscription.phase {
            Phase::Active if subscription.renews() => {
                Some(expires - seconds(timing.apple_renewal_lead_seconds))
            }
            Phase::Active | Phase::Ending { .. } => {
                Some(expires + seconds(timing.apple_expiry_lag_seconds))
            }
            Phase::Declined => Some(expires),
            Phase::Grace { until } | Phase::Retry { until } => Some(until),
            Phase::Expired { .. } | Phase::Revoked => None,
        }
    }

    /// Lets happen what is due.
    pub(super) fn play(&mut self, shelf: &Shelf<'_>, ids: &mut Ids) -> Vec<Signal> {
        let expires = self.expires_at();
        let Some(subscription) = self.subscription.as_ref() else {
            return Vec::new();
        };
        let pays = subscription.billing == Billing::Works;
        match subscription.phase {
            Phase::Active if !subscription.renews() => self.expire(Intent::Voluntary),
            Phase::Active | Phase::Declined => match self.next_terms(shelf) {
                Err(intent) => {
                    self.enter(Phase::Ending { intent });
                    Vec::new()
                }
                Ok(terms) if pays => self.renew(terms, expires, None, ids),
                Ok(_) if subscription.phase == Phase::Active => {
                    self.enter(Phase::Declined);
                    Vec::new()
                }
                Ok(_) => self.fail_to_renew(shelf, expires),
            },
            Phase::Ending { intent } => self.expire(intent),
            Phase::Grace { until } => {
                let retry = self.retry_days(shelf);
                self.enter(Phase::Retry {
                    until: until.max(expires + retry),
                });
                vec![self.signal("GRACE_PERIOD_EXPIRED", None)]
            }
            Phase::Retry { .. } => self.expire(Intent::Billing),
            Phase::Expired { .. } | Phase::Revoked => Vec::new(),
        }
    }

    fn current_terms<'a>(&self, shelf: &Shelf<'a>) -> Option<Terms<'a>> {
        self.latest().and_then(|t| shelf.terms(&t.product_id))
    }

    fn retry_days(&self, shelf: &Shelf<'_>) -> TimeDelta {
        let terms = self.current_terms(shelf);
        let days = terms.map_or(60, |terms| terms.retry_days);
        TimeDelta::days(match self.is_committed() {
            true => commitment::RETRY_DAYS.into(),
            false => days.into(),
        })
    }

    fn is_committed(&self) -> bool {
        self.subscription
            .as_ref()
            .is_some_and(Subscription::is_committed)
    }

    pub(super) fn expire(&mut self, intent: Intent) -> Vec<Signal> {
        if let Some(subscription) = self.subscription.as_mut() {
            subscription.auto_renew = false;
            subscription.commitment = None;
            subscription.phase = Phase::Expired { intent };
        }
        vec![self.signal("EXPIRED", intent.subtype())]
    }

    fn fail_to_renew(&mut self, shelf: &Shelf<'_>, expires: DateTime<Utc>) -> Vec<Signal> {
        let terms = self.current_terms(shelf);
        let days = terms.map_or(0, |terms| terms.grace_days);
        let free = self
            .latest()
            .and_then(|t| t.offer.as_ref())
            .is_some_and(AppliedOffer::is_free);
        let excluded = free && terms.is_some_and(|terms| terms.product.grace_after_paid_only);
        if days == 0 || excluded || self.is_committed() {
            let until = expires + self.retry_days(shelf);
            self.enter(Phase::Retry { until });
            return vec![self.signal("DID_FAIL_TO_RENEW", None)];
        }
        // Never longer than the period, which matters for weeks.
        let period_end = terms.map_or(expires, |terms| terms.period.after(expires));
        let until = (expires + TimeDelta::days(days.into())).min(period_end);
        self.enter(Phase::Grace { until });
        vec![self.signal("DID_FAIL_TO_RENEW", Some("GRACE_PERIOD"))]
    }

    /// What the next period is to be of, or why there is none.
    pub(super) fn next_terms<'a>(&self, shelf: &Shelf<'a>) -> Result<Terms<'a>, Intent> {
        let subscription = self.subscription.as_ref().ok_or(Intent::Other)?;
        if subscription.is_committed() {
            return self.current_terms(shelf).ok_or(Intent::NotForSale);
        }
        if subscription
            .price_increase
            .is_some_and(|increase| !increase.accepted())
        {
            return Err(Intent::PriceIncrease);
        }
        let next = shelf.terms_for_sale(&subscription.renews_to);
        next.ok_or(Intent::NotForSale)
    }

    /// Charges the next period, which starts at `start`.
    fn renew(
        &mut self,
        terms: Terms<'_>,
        start: DateTime<Utc>,
        subtype: Option<&'static str>,
        ids: &mut Ids,
    ) -> Vec<Signal> {
        self.continue_commitment(&terms, start);
        self.charge(
            Charge {
                terms,
                at: start,
                renewal: true,
            },
            ids,
        );
        vec![self.signal("DID_RENEW", subtype)]
    }

    /// The next month of a commitment; after its last one a new commitment to the same product.
    fn continue_commitment(&mut self, terms: &Terms<'_>, start: DateTime<Utc>) {
        let same = self
            .latest()
            .is_some_and(|t| t.product_id == terms.product.product_id);
        let Some(subscription) = self.subscription.as_mut() else {
            return;
        };
        subscription.commitment = match subscription.commitment {
            Some(running) if running.has_more() => Some(running.next(start)),
            Some(_) if same => terms
                .product
                .monthly_commitment_milliunits
                .map(|price| Commitment::begin(price, start)),
            Some(_) | None => None,
        };
    }

    /// Adds the transaction of a successful charge, made with the offer and for the month of the
    /// commitment that the subscription holds; the subscription is active again.
    pub(super) fn charge(&mut self, charge: Charge<'_>, ids: &mut Ids) {
        let Some(subscription) = self.subscription.as_mut() else {
            return;
        };
        let Terms {
            product, period, ..
        } = charge.terms;
        let offer = subscription.next_offer.take();
        let committed = subscription.commitment;
        let (price_milliunits, expires_at) = match (&offer, committed) {
            (Some(run), _) => (run.price_milliunits(), run.end(period, charge.at)),
            (None, Some(running)) => (
                running.monthly_milliunits,
                commitment::MONTH.after(charge.at),
            ),
            (None, None) => (charge.terms.price_milliunits, period.after(charge.at)),
        };
        let applied = offer.as_ref().map(|run| run.applied(period));
        subscription.next_offer = offer.and_then(OfferRun::after_charge);
        subscription.price_increase = None;
        subscription.phase = Phase::Active;
        let prefix = transaction_prefix(&self.original_transaction_id);
        let transaction = Transaction {
            id: match self.transactions.is_empty() {
                true => self.original_transaction_id.clone(),
                false => ids.number(prefix, 15),
            },
            web_order_line_item_id: Some(ids.number(prefix, 15)),
            order_id: Some(ids.number("M", 12)),
            product_id: product.product_id.clone(),
            purchased_at: charge.at,
            expires_at: Some(expires_at),
            quantity: 1,
            price_milliunits,
            currency: product.currency.clone(),
            app_account_token: self.app_account_token,
            offer: applied,
            renewal: charge.renewal,
            upgraded: false,
            revocation: None,
            commitment: committed.map(|running| running.period()),
            shared_from: None,
            refund_request: None,
            finished: false,
            consumption: None,
            modified_at: DateTime::UNIX_EPOCH,
            revision: 0,
        };
        self.transactions.push(Arc::new(transaction));
    }

    /// The customer turns auto-renewal on or off.
    pub(super) fn set_auto_renew(&mut self, enabled: bool) -> Vec<Signal> {
        let Some(subscription) = self.subscription.as_mut() else {
            return Vec::new();
        };
        if subscription.auto_renew == enabled {
            return Vec::new();
        }
        subscription.auto_renew = enabled;
        let unpaid = matches!(
            subscription.phase,
            Phase::Grace { .. } | Phase::Retry { .. }
        );
        if subscription.phase == Phase::Declined {
            subscription.phase = Phase::Active;
        }
        let ends = unpaid && !subscription.renews();
        let subtype = match enabled {
            true => "AUTO_RENEW_ENABLED",
            false => "AUTO_RENEW_DISABLED",
        };
        let mut signals = vec![self.signal("DID_CHANGE_RENEWAL_STATUS", Some(subtype))];
        if ends {
            // Nobody is left to be charged: access ends with the wish to leave.
            signals.extend(self.expire(Intent::Voluntary));
        }
        signals
    }

    /// The means of payment fails or works again; a debt is paid at once.
    pub(super) fn set_billing(
        &mut self,
        billing: Billing,
        now: DateTime<Utc>,
        shelf: &Shelf<'_>,
        ids: &mut Ids,
    ) -> Vec<Signal> {
        let expires = self.expires_at();
        let Some(subscription) = self.subscription.as_mut() else {
            return Vec::new();
        };
        subscription.billing = billing;
        let recovered = Some("BILLING_RECOVERY");
        // Within grace the billing date stays; out of retry it moves to the day of recovery.
        let (start, subtype) = match (billing, subscription.phase) {
            (Billing::Works, Phase::Grace { .. }) => (expires, recovered),
            (Billing::Works, Phase::Retry { .. }) => (now, recovered),
            (Billing::Works, Phase::Declined) => (expires, None),
            (
                Billing::Works,
                Phase::Active | Phase::Ending { .. } | Phase::Expired { .. } | Phase::Revoked,
            )
            | (Billing::Fails, _) => return Vec::new(),
        };
        match self.next_terms(shelf) {
            Ok(terms) => self.renew(terms, start, subtype, ids),
            // Still paid for: the end comes with the end of the period.
            Err(intent) if now < expires => {
                self.enter(Phase::Ending { intent });
                Vec::new()
            }
            Err(intent) => self.expire(intent),
        }
    }
}
