//! An item of a subscription purchase: what it is, until when it is paid, what it costs next.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::super::period::Period;
use super::super::setup::{GooglePlayProduct, Plan, PlanRenewal, StoreSetup};
use super::action::ReplacementMode;
use super::order::{OrderLine, PaidFor};
use super::price::{Consent, PriceChange};

/// One product in a subscription purchase.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::sandbox) struct Item {
    pub(in crate::sandbox) product_id: String,
    pub(in crate::sandbox) base_plan_id: String,
    /// When what is paid now began, or an item that waits will begin.
    pub(in crate::sandbox) from: DateTime<Utc>,
    /// As the store shows it: moved forward by a grace period; none while the item is not owned.
    pub(in crate::sandbox) expiry: Option<DateTime<Utc>>,
    pub(in crate::sandbox) auto_renew: bool,
    /// Whether it is paid ahead and cannot renew.
    pub(in crate::sandbox) prepaid: bool,
    /// Price of a full period to this customer, in millionths of the major unit.
    pub(in crate::sandbox) price_micros: i64,
    /// What the current period is worth, in millionths of the major unit.
    pub(super) paid_micros: i64,
    pub(in crate::sandbox) offer_id: Option<String>,
    pub(in crate::sandbox) phase: OfferPhase,
    /// What is charged before the full price, next first.
    pub(super) upcoming: Vec<UpcomingPhase>,
    /// The order that paid the current period.
    pub(in crate::sandbox) order_id: Option<String>,
    pub(super) replaced: Option<Replaced>,
    pub(super) deferred: Option<Deferred>,
    pub(super) price_change: Option<PriceChange>,
    pub(super) consent: Option<Consent>,
    pub(super) installments: Option<Installments>,
}

/// What kind of period an item is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::sandbox) enum OfferPhase {
    Base,
    FreeTrial,
    Introductory,
    /// A period made shorter or longer by a change of plan.
    Proration,
    /// The same, which took in the first full period of the new plan.
    ProrationOfBase,
}

/// A period at another price than the full one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UpcomingPhase {
    pub(super) phase: OfferPhase,
    pub(super) period: Period,
    pub(super) price_micros: i64,
}

/// The item whose place an item has taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Replaced {
    pub(super) product_id: String,
    pub(super) base_plan_id: String,
    pub(super) offer_id: Option<String>,
    pub(super) mode: ReplacementMode,
    pub(super) at: DateTime<Utc>,
}

/// What happens to an item at the end of its period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "becomes", rename_all = "snake_case")]
pub(super) enum Deferred {
    Replacement { product_id: String },
    Removal,
}

/// What a customer has committed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Installments {
    pub(super) initial: u32,
    pub(super) subsequent: u32,
    /// Committed payments still to come.
    pub(super) remaining: u32,
    /// The subscription ends with the commitment.
    pub(super) pending_cancellation: bool,
}

impl Item {
    /// An item that nobody owns yet; `None` if the product is no subscription.
    pub(super) fn new(
        product: &GooglePlayProduct,
        price_micros: i64,
        at: DateTime<Utc>,
    ) -> Option<Self> {
        let plan = product.plan()?;
        Some(Self {
            product_id: product.product_id.clone(),
            base_plan_id: plan.base_plan_id.to_owned(),
            from: at,
            expiry: None,
            auto_renew: plan.renewal != PlanRenewal::Never,
            prepaid: plan.renewal == PlanRenewal::Never,
            price_micros,
            paid_micros: 0,
            offer_id: None,
            phase: OfferPhase::Base,
            upcoming: Vec::new(),
            order_id: None,
            replaced: None,
            deferred: None,
            price_change: None,
            consent: None,
            installments: match plan.renewal {
                PlanRenewal::Installments {
                    payments,
                    further_payments,
                } => Some(Installments {
                    initial: payments.max(1),
                    subsequent: further_payments,
                    remaining: payments.max(1),
                    pending_cancellation: false,
                }),
                PlanRenewal::Auto | PlanRenewal::Never => None,
            },
        })
    }

    pub(super) fn plan<'a>(&self, setup: &'a StoreSetup) -> Option<Plan<'a>> {
        let product = setup.google_play_product(&self.product_id, Some(&self.base_plan_id));
        product.and_then(GooglePlayProduct::plan)
    }

    pub(super) fn is(&self, product_id: &str, base_plan_id: &str) -> bool {
        self.product_id == product_id && self.base_plan_id == base_plan_id
    }

    /// Whether its time has not run out.
    pub(in crate::sandbox) fn lasts(&self, now: DateTime<Utc>) -> bool {
        self.expiry.is_some_and(|expiry| now < expiry)
    }

    /// When it is charged next, if it renews.
    pub(super) fn charged_at(&self) -> Option<DateTime<Utc>> {
        self.auto_renew.then(|| self.expiry.unwrap_or(self.from))
    }

    /// Whether another charge follows the current period: a commitment that was cancelled has a
    /// last one.
    pub(in crate::sandbox) fn is_charged_again(&self) -> bool {
        self.auto_renew && !self.commitment_over()
    }

    /// The product that takes its place at the end of its period.
    pub(super) fn becomes(&self) -> Option<&str> {
        match &self.deferred {
            Some(Deferred::Replacement { product_id }) => Some(product_id),
            Some(Deferred::Removal) | None => None,
        }
    }

    /// What the next period costs, and how long it is; nothing changes.
    pub(super) fn next_phase(&self, plan: &Plan<'_>) -> UpcomingPhase {
        let full = UpcomingPhase {
            phase: OfferPhase::Base,
            period: plan.period,
            price_micros: self.price_micros,
        };
        self.upcoming.first().copied().unwrap_or(full)
    }

    /// Begins its next period at `start`, paid or free.
    pub(super) fn begin_period(
        &mut self,
        start: DateTime<Utc>,
        plan: &Plan<'_>,
        order_id: &str,
    ) -> OrderLine {
        let next = self.next_phase(plan);
        if !self.upcoming.is_empty() {
            self.upcoming.remove(0);
        }
        let until = next.period.after(start);
        self.begin(start, until, next.phase, next.price_micros, order_id)
    }

    /// Begins a period of any length.
    pub(super) fn begin(
        &mut self,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        phase: OfferPhase,
        charged_micros: i64,
        order_id: &str,
    ) -> OrderLine {
        self.from = from;
        self.expiry = Some(until);
        self.phase = phase;
        self.paid_micros = charged_micros;
        self.order_id = Some(order_id.to_owned());
        self.line(charged_micros, until)
    }

    /// The line of an order that pays its current period.
    pub(super) fn line(&self, charged_micros: i64, until: DateTime<Utc>) -> OrderLine {
        OrderLine {
            product_id: self.product_id.clone(),
            listing_micros: self.price_micros,
            total_micros: charged_micros,
            paid_for: PaidFor::Subscription {
                base_plan_id: self.base_plan_id.clone(),
                offer_id: self.offer_id.clone(),
                phase: self.phase,
                from: self.from,
                until,
            },
        }
    }

    /// Ends it at `at`, if it has not ended before.
    pub(super) fn end(&mut self, at: DateTime<Utc>) {
        self.auto_renew = false;
        self.expiry = self.expiry.map(|expiry| expiry.min(at));
    }

    /// Begins its next period, cut to the date on which the item that it was added to renews.
    pub(super) fn begin_aligned(
        &mut self,
        start: DateTime<Utc>,
        anchor: Option<DateTime<Utc>>,
        plan: &Plan<'_>,
        order_id: &str,
    ) -> OrderLine {
        let full = plan.period.after(start);
        match anchor.filter(|anchor| self.upcoming.is_empty() && *anchor < full) {
            Some(anchor) => {
                let charged = share(self.price_micros, anchor - start, full - start);
                self.begin(start, anchor, OfferPhase::Proration, charged, order_id)
            }
            None => self.begin_period(start, plan, order_id),
        }
    }

    /// The line of an order for a period that has not been paid.
    pub(super) fn awaited_line(
        &self,
        start: DateTime<Utc>,
        setup: &StoreSetup,
    ) -> Option<OrderLine> {
        let next = self.next_phase(&self.plan(setup)?);
        let mut awaited = self.clone();
        (awaited.from, awaited.phase) = (start, next.phase);
        Some(awaited.line(next.price_micros, next.period.after(start)))
    }

    /// What is left of the current period at `now`, in millionths of the major unit.
    pub(super) fn credit_micros(&self, now: DateTime<Utc>) -> i64 {
        match self.expiry {
            Some(expiry) if now < expiry => share(
                self.paid_micros,
                expiry - now.max(self.from),
                expiry - self.from,
            ),
            _ => 0,
        }
    }

    /// Whether the customer has paid all that was promised, and wants no more.
    pub(super) fn commitment_over(&self) -> bool {
        self.installments
            .is_some_and(|plan| plan.pending_cancellation && plan.remaining == 0)
    }

    /// One payment of a commitment is made; after the last the next commitment begins, if the plan
    /// has one.
    pub(super) fn count_installment(&mut self) {
        let Some(plan) = &mut self.installments else {
            return;
        };
        match plan.remaining.checked_sub(1) {
            Some(left) => plan.remaining = left,
            None => match plan.subsequent.checked_sub(1) {
                Some(left) => plan.remaining = left,
                None => self.installments = None,
            },
        }
    }
}

/// The part of a price that falls on a part of its time.
pub(super) fn share(price_micros: i64, part: TimeDelta, whole: TimeDelta) -> i64 {
    let whole = i128::from(whole.num_milliseconds()).max(1);
    let part = i128::from(part.num_milliseconds());
    i64::try_from(i128::from(price_micros) * part / whole).unwrap_or(0)
}
