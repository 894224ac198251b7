//! What happens to an App Store chain, as a state machine that knows neither keys nor the network:
//! each step changes the chain and says what Apple will tell about it.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::ids::Ids;
use super::super::setup::Timing;
use super::commitment::{self, Commitment};
use super::family::Sharing;
use super::offers::{AppliedOffer, OfferRun};
use super::price::PriceIncrease;
use super::shelf::{Shelf, Terms};
use super::transaction::{Transaction, shared_list};
use super::{Billing, Signal};

/// One original transaction id and everything that followed from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::sandbox) struct Chain {
    pub(in crate::sandbox) original_transaction_id: String,
    pub(in crate::sandbox) customer: String,
    pub(in crate::sandbox) app_transaction_id: String,
    /// What the next transactions will carry; each keeps its own.
    pub(in crate::sandbox) app_account_token: Option<Uuid>,
    /// Oldest first; never empty.
    #[serde(with = "shared_list")]
    pub(in crate::sandbox) transactions: Vec<Arc<Transaction>>,
    /// Present for auto-renewable subscriptions.
    pub(in crate::sandbox) subscription: Option<Subscription>,
    pub(in crate::sandbox) sharing: Sharing,
}

/// The renewing part of a chain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::sandbox) struct Subscription {
    pub(in crate::sandbox) group: String,
    /// Product of the next period (of the next commitment, while one runs); differs from the
    /// current one after a downgrade.
    pub(in crate::sandbox) renews_to: String,
    /// What the customer wants; a commitment goes on being charged whatever it is.
    pub(in crate::sandbox) auto_renew: bool,
    pub(in crate::sandbox) billing: Billing,
    pub(in crate::sandbox) phase: Phase,
    /// When the customer first came, or last came back after a long absence.
    pub(in crate::sandbox) since: DateTime<Utc>,
    /// The offer that the next charge is made with.
    pub(in crate::sandbox) next_offer: Option<OfferRun>,
    /// A higher price that the next renewal brings.
    pub(in crate::sandbox) price_increase: Option<PriceIncrease>,
    pub(in crate::sandbox) commitment: Option<Commitment>,
    /// When the developer extended the period.
    pub(in crate::sandbox) extended_at: Vec<DateTime<Utc>>,
}

/// Where a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub(in crate::sandbox) enum Phase {
    /// Paid for.
    Active,
    /// Paid for, but the charge for the next period has failed.
    Declined,
    /// Paid for, but there will be no next period, whatever the customer wants.
    Ending { intent: Intent },
    /// Unpaid, with access.
    Grace { until: DateTime<Utc> },
    /// Unpaid, without access, still being charged.
    Retry { until: DateTime<Utc> },
    /// Ended.
    Expired { intent: Intent },
    /// Refunded, or no longer shared.
    Revoked,
}

/// Why a subscription ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::sandbox) enum Intent {
    /// The customer wanted no more.
    Voluntary,
    /// No payment could be had.
    Billing,
    /// The customer did not agree to a higher price.
    PriceIncrease,
    /// There is nothing to renew to.
    NotForSale,
    /// Anything else.
    Other,
}

impl Intent {
    /// Apple's `expirationIntent`.
    pub(in crate::sandbox) const fn code(self) -> u8 {
        match self {
            Self::Voluntary => 1,
            Self::Billing => 2,
            Self::PriceIncrease => 3,
            Self::NotForSale => 4,
            Self::Other => 5,
        }
    }

    /// Subtype of the EXPIRED notification.
    const fn subtype(self) -> Option<&'static str> {
        match self {
            Self::Voluntary => Some("VOLUNTARY"),
            Self::Billing => Some("BILLING_RETRY"),
            Self::PriceIncrease => Some("PRICE_INCREASE"),
            Self::NotForSale => Some("PRODUCT_NOT_FOR_SALE"),
            Self::Other => None,
        }
    }
}

impl Subscription {
    /// A subscription that has nothing charged yet.
    pub(super) fn new(group: &str, product_id: &str, since: DateTime<Utc>) -> Self {
        Self {
            group: group.to_owned(),
            renews_to: product_id.to_owned(),
            auto_renew: true,
            billing: Billing::Works,
            phase: Phase::Active,
            since,
            next_offer: None,
            price_increase: None,
            commitment: None,
            extended_at: Vec::new(),
        }
    }

    /// Whether another charge follows the current period.
    pub(in crate::sandbox) fn renews(&self) -> bool {
        self.auto_renew || self.is_committed()
    }

    /// Whether months of a commitment are left to be charged.
    pub(super) fn is_committed(&self) -> bool {
        self.commitment.is_some_and(|running| running.has_more())
    }
}

/// A charge that becomes a transaction.
#[derive(Clone, Copy)]
pub(super) struct Charge<'a> {
    pub(super) terms: Terms<'a>,
    pub(super) at: DateTime<Utc>,
    pub(super) renewal: bool,
}

impl Chain {
    /// The latest transaction.
    pub(in crate::sandbox) fn latest(&self) -> Option<&Transaction> {
        self.transactions.last().map(|latest| &**latest)
    }

    pub(super) fn latest_mut(&mut self) -> Option<&mut Transaction> {
        self.transactions.last_mut().map(Arc::make_mut)
    }

    pub(in crate::sandbox) fn transaction(&self, id: &str) -> Option<&Transaction> {
        let mut newest_first = self.transactions.iter().rev();
        newest_first.find(|t| t.id == id).map(|found| &**found)
    }

    pub(super) fn transaction_mut(&mut self, id: &str) -> Option<&mut Transaction> {
        let mut newest_first = self.transactions.iter_mut().rev();
        newest_first.find(|t| t.id == id).map(Arc::make_mut)
    }

    /// End of the latest paid period.
    pub(super) fn expires_at(&self) -> DateTime<Utc> {
        self.latest()
            .and_then(|t| t.expires_at)
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// End of what was paid, or of the grace period.
    pub(in crate::sandbox) fn access_until(&self) -> Option<DateTime<Utc>> {
        let subscription = self.subscription.as_ref()?;
        Some(match subscription.phase {
            Phase::Grace { until } => until,
            Phase::Active
            | Phase::Declined
            | Phase::Ending { .. }
            | Phase::Retry { .. }
            | Phase::Expired { .. }
            | Phase::Revoked => self.expires_at(),
        })
    }

    pub(super) fn signal(&self, kind: &'static str, subtype: Option<&'static str>) -> Signal {
        let latest = self.latest().map(|t| t.id.clone());
        Signal::about(latest.unwrap_or_default(), kind, subtype)
    }

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

    pub(super) fn enter(&mut self, phase: Phase) {
        if let Some(subscription) = self.subscription.as_mut() {
            subscription.phase = phase;
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

    /// Whether the customer has the use of the latest transaction.
    pub(in crate::sandbox) fn entitles(&self, now: DateTime<Utc>) -> bool {
        match &self.subscription {
            Some(_) => matches!(self.status(now), Some(1 | 4)),
            None => self.latest().is_some_and(|t| t.revocation.is_none()),
        }
    }

    /// Apple's `status`, for subscriptions.
    pub(in crate::sandbox) fn status(&self, now: DateTime<Utc>) -> Option<u8> {
        let subscription = self.subscription.as_ref()?;
        let over = now >= self.expires_at();
        Some(match subscription.phase {
            Phase::Active if !subscription.renews() && over => 2,
            Phase::Ending { .. } if over => 2,
            Phase::Active | Phase::Declined | Phase::Ending { .. } => 1,
            Phase::Grace { .. } => 4,
            Phase::Retry { .. } => 3,
            Phase::Expired { .. } => 2,
            Phase::Revoked => 5,
        })
    }
}

/// Ids in the sandbox and in production differ in their first digits; a chain keeps its own.
pub(super) fn transaction_prefix(id: &str) -> &'static str {
    match id.starts_with("2000000") {
        true => "2000000",
        false => "57000",
    }
}
