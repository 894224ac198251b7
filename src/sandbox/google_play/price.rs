//! Prices that change for those who subscribe already, and the consent that law asks for before a
//! cheap period turns into a dear one.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::super::setup::{Plan, Timing};
use super::action::PriceChangeMode;
use super::item::{Item, OfferPhase};
use super::lifecycle::Told;
use super::notification::SubscriptionEvent;
use super::purchase::Purchase;
use super::subscription::{Cancellation, Phase};

/// An increase that customers must accept is charged this long after it was announced: seven days
/// in which it can be taken back, and thirty of notice.
const INCREASE_NOTICE_DAYS: i64 = 37;
/// An increase that customers need not accept is announced this long ahead.
const OPT_OUT_NOTICE_DAYS: i64 = 30;
/// Consent is asked for this long before the step up.
const CONSENT_DAYS: i64 = 30;
/// The currency of the country whose law asks for consent.
const CONSENT_CURRENCY: &str = "KRW";

/// The latest change of an item's price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PriceChange {
    pub(super) mode: PriceChangeMode,
    pub(super) price_micros: i64,
    pub(super) state: PriceChangeState,
    /// The first renewal from here on is charged the new price.
    pub(super) charged_from: DateTime<Utc>,
}

/// `priceChangeState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PriceChangeState {
    Outstanding,
    Confirmed,
    Applied,
    Canceled,
}

/// Consent to the end of a trial or of an introductory price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Consent {
    pub(super) state: ConsentState,
    pub(super) price_micros: i64,
    /// When the customer is asked.
    pub(super) asked_at: DateTime<Utc>,
    /// When the subscription ends without it.
    pub(super) deadline: DateTime<Utc>,
}

/// Where a consent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ConsentState {
    /// Not asked for yet; nothing shows it.
    Scheduled,
    Pending,
    Confirmed,
    Completed,
}

impl PriceChange {
    pub(super) fn announced(mode: PriceChangeMode, price_micros: i64, now: DateTime<Utc>) -> Self {
        let (state, days) = match mode {
            PriceChangeMode::Decrease => (PriceChangeState::Confirmed, 0),
            PriceChangeMode::Increase => (PriceChangeState::Outstanding, INCREASE_NOTICE_DAYS),
            PriceChangeMode::OptOutIncrease => (PriceChangeState::Confirmed, OPT_OUT_NOTICE_DAYS),
        };
        Self {
            mode,
            price_micros,
            state,
            charged_from: now + TimeDelta::days(days),
        }
    }

    pub(super) fn open(&self) -> bool {
        matches!(
            self.state,
            PriceChangeState::Outstanding | PriceChangeState::Confirmed
        )
    }
}

impl Item {
    /// When the announced price is charged first, as things stand: cheap phases and commitments
    /// are kept to.
    pub(super) fn new_price_at(&self, plan: &Plan<'_>) -> Option<DateTime<Utc>> {
        let change = self.price_change.filter(PriceChange::open)?;
        let mut at = self.expiry?;
        for phase in &self.upcoming {
            at = phase.period.after(at);
        }
        for _ in 0..self.installments.map_or(0, |plan| plan.remaining) {
            at = plan.period.after(at);
        }
        while at < change.charged_from {
            at = plan.period.after(at);
        }
        Some(at)
    }

    /// Whether the charge at `start` would be the first at a new price.
    fn meets_new_price(&self, start: DateTime<Utc>) -> bool {
        let committed = self.installments.is_some_and(|plan| plan.remaining > 0);
        let change = self.price_change.filter(PriceChange::open);
        self.upcoming.is_empty()
            && !committed
            && change.is_some_and(|change| change.charged_from <= start)
    }

    /// Whether the charge at `start` needs an agreement that the customer has not given.
    pub(super) fn unagreed(&self, start: DateTime<Utc>) -> bool {
        let price = self.price_change.map(|change| change.state);
        let consent = self
            .consent
            .map(|consent| (consent.state, consent.deadline));
        self.meets_new_price(start) && price == Some(PriceChangeState::Outstanding)
            || matches!(
                consent,
                Some((ConsentState::Scheduled | ConsentState::Pending, deadline)) if deadline <= start
            )
    }

    /// The new price holds from the charge at `start` on.
    pub(super) fn apply_new_price(&mut self, start: DateTime<Utc>) {
        if !self.meets_new_price(start) {
            return;
        }
        if let Some(change) = &mut self.price_change {
            change.state = PriceChangeState::Applied;
            self.price_micros = change.price_micros;
        }
    }

    /// The subscription ends over a price that was not agreed to.
    pub(super) fn cancel_price_change(&mut self) {
        if let Some(change) = self.price_change.as_mut().filter(|change| change.open()) {
            change.state = PriceChangeState::Canceled;
        }
    }

    /// Plans the consent to the next step up, where one is needed; says whether it is asked now.
    pub(super) fn plan_consent(
        &mut self,
        plan: &Plan<'_>,
        currency: &str,
        now: DateTime<Utc>,
    ) -> bool {
        if let Some(consent) = &mut self.consent
            && consent.state == ConsentState::Confirmed
        {
            consent.state = ConsentState::Completed;
        }
        let price_micros = self.next_phase(plan).price_micros;
        let steps_up = self.phase_price_micros() < price_micros;
        let Some(deadline) = self
            .expiry
            .filter(|_| steps_up && currency == CONSENT_CURRENCY)
        else {
            return false;
        };
        let asked_at = now.max(deadline - TimeDelta::days(CONSENT_DAYS));
        let state = match asked_at <= now {
            true => ConsentState::Pending,
            false => ConsentState::Scheduled,
        };
        self.consent = Some(Consent {
            state,
            price_micros,
            asked_at,
            deadline,
        });
        state == ConsentState::Pending
    }

    /// What the customer pays for a period of the kind that runs now.
    fn phase_price_micros(&self) -> i64 {
        match self.phase {
            OfferPhase::FreeTrial | OfferPhase::Introductory => self.paid_micros,
            OfferPhase::Base | OfferPhase::Proration | OfferPhase::ProrationOfBase => {
                self.price_micros
            }
        }
    }
}

impl Purchase {
    /// The developer changes the price of a product for this customer.
    pub(super) fn change_price(
        &mut self,
        (product_id, base_plan_id): (&str, Option<&str>),
        change: PriceChange,
    ) -> Told {
        let Some(subscription) = self.subscription_mut() else {
            return Vec::new();
        };
        if matches!(subscription.phase, Phase::Pending) || subscription.over() {
            return Vec::new();
        }
        let mut changed = false;
        for item in &mut subscription.items {
            let meant = item.product_id == product_id
                && base_plan_id.is_none_or(|plan| item.base_plan_id == plan);
            if meant && item.auto_renew && item.price_micros != change.price_micros {
                item.price_change = Some(change);
                changed = true;
            }
        }
        match changed {
            true => vec![SubscriptionEvent::PriceChangeUpdated.into()],
            false => Vec::new(),
        }
    }

    /// The customer accepts an announced price, or cancels over it.
    pub(super) fn answer_price(
        &mut self,
        accept: bool,
        now: DateTime<Utc>,
        timing: &Timing,
    ) -> Option<Told> {
        let subscription = self.subscription_mut()?;
        let asked = |item: &&mut Item| {
            item.price_change
                .is_some_and(|change| change.open() && change.mode != PriceChangeMode::Decrease)
        };
        let mut answered = false;
        for item in subscription.items.iter_mut().filter(asked) {
            answered = true;
            match (&mut item.price_change, accept) {
                (Some(change), true) => change.state = PriceChangeState::Confirmed,
                (_, false) => item.cancel_price_change(),
                (None, true) => {}
            }
        }
        if !answered {
            return None;
        }
        let mut told = vec![SubscriptionEvent::PriceChangeUpdated.into()];
        if !accept {
            told.extend(self.stop(Cancellation::by_user(now), now, timing));
        }
        Some(told)
    }

    /// When the customer is asked for consent next.
    pub(super) fn consent_asked_at(&self) -> Option<DateTime<Utc>> {
        let subscription = self.subscription().filter(|s| !s.over())?;
        let consents = subscription.items.iter().filter_map(|item| item.consent);
        consents
            .filter(|consent| consent.state == ConsentState::Scheduled)
            .map(|consent| consent.asked_at)
            .min()
    }

    /// The customer is asked for consent.
    pub(super) fn ask_consent(&mut self, now: DateTime<Utc>) -> Told {
        let items = self.subscription_mut().map(|s| &mut s.items);
        for item in items.into_iter().flatten() {
            if let Some(consent) = &mut item.consent
                && consent.state == ConsentState::Scheduled
                && consent.asked_at <= now
            {
                consent.state = ConsentState::Pending;
            }
        }
        vec![SubscriptionEvent::PriceStepUpConsentUpdated.into()]
    }

    /// The customer consents to the step up, or cancels over it.
    pub(super) fn answer_consent(
        &mut self,
        accept: bool,
        now: DateTime<Utc>,
        timing: &Timing,
    ) -> Option<Told> {
        let subscription = self.subscription_mut()?;
        let mut asked = subscription
            .items
            .iter_mut()
            .filter_map(|item| item.consent.as_mut())
            .filter(|consent| consent.state == ConsentState::Pending)
            .peekable();
        asked.peek()?;
        if !accept {
            drop(asked);
            return Some(self.stop(Cancellation::by_user(now), now, timing));
        }
        for consent in asked {
            consent.state = ConsentState::Confirmed;
        }
        Some(vec![SubscriptionEvent::PriceStepUpConsentUpdated.into()])
    }
}
