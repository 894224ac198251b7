//! What happens to a Google Play purchase by itself, as a state machine that knows neither keys
//! nor the network: each step changes the purchase and says what Google will tell about it.

use chrono::{DateTime, TimeDelta, Utc};

use super::super::app_store::Billing;
use super::super::setup::{StoreSetup, Timing};
use super::item::Deferred;
use super::notification::{Signal, SubscriptionEvent};
use super::order::{Order, Progress};
use super::purchase::Purchase;
use super::subscription::{Cancellation, Phase, SubscriptionState};

/// Without a grace period the store still keeps silent for a day before it acts.
const SILENT_GRACE_HOURS: i64 = 24;

/// What Google tells, in order.
pub(super) type Told = Vec<Signal>;

/// What can fall due to a purchase.
#[derive(Clone, Copy)]
enum DueStep {
    Late,
    Forfeit,
    Consent,
    Decision,
    PhaseEnd,
}

impl Purchase {
    /// Lets happen what is due first.
    pub(super) fn play(&mut self, now: DateTime<Utc>, setup: &StoreSetup) -> Told {
        let steps = [
            (self.late_at(), DueStep::Late),
            (self.forfeited_at(setup), DueStep::Forfeit),
            (self.decided_at(), DueStep::Decision),
            (self.consent_asked_at(), DueStep::Consent),
            (self.ends_at(&setup.timing), DueStep::PhaseEnd),
        ];
        let due = steps
            .into_iter()
            .filter_map(|(at, step)| at.filter(|at| *at <= now).map(|at| (at, step)))
            .min_by_key(|(at, _)| *at);
        match due.map(|(_, step)| step) {
            Some(DueStep::Late) => self.tell_late(now),
            Some(DueStep::Forfeit) => self.forfeit(now),
            Some(DueStep::Decision) => self.decide_overdue(now),
            Some(DueStep::Consent) => self.ask_consent(now),
            Some(DueStep::PhaseEnd) => self.step(now, setup),
            None => Vec::new(),
        }
    }

    fn tell_late(&mut self, now: DateTime<Utc>) -> Told {
        let first = self.late_at().filter(|at| *at <= now);
        let position = self.late.iter().position(|(at, _)| Some(*at) == first);
        let event = position.map(|position| self.late.remove(position).1);
        event.map(Signal::Subscription).into_iter().collect()
    }

    /// The end of a subscription's phase.
    fn step(&mut self, now: DateTime<Utc>, setup: &StoreSetup) -> Told {
        let Some(subscription) = self.subscription_mut() else {
            return Vec::new();
        };
        match subscription.phase {
            Phase::Active => match subscription.charged_at() {
                None => {
                    subscription.phase = Phase::Expired;
                    vec![SubscriptionEvent::Expired.into()]
                }
                Some(at) => match subscription.pause.take() {
                    Some(length) => self.begin_pause(length, at),
                    None => self.charge(at, now, setup),
                },
            },
            Phase::SilentGrace { since, until } | Phase::Grace { since, until } => {
                self.hold(since, until, setup)
            }
            Phase::Hold { until } => self.end(until, Cancellation::System, &setup.timing),
            Phase::Paused { until } => self.end_pause(until, now, setup),
            Phase::Pending | Phase::PendingCanceled | Phase::Expired => Vec::new(),
        }
    }

    /// Charges the periods that start at `start`, if the customer is bound to them and can pay.
    fn charge(&mut self, start: DateTime<Utc>, now: DateTime<Utc>, setup: &StoreSetup) -> Told {
        let Some(subscription) = self.subscription_mut() else {
            return Vec::new();
        };
        let mut told = match subscription.stop_unwanted(start) {
            true => vec![SubscriptionEvent::ItemsChanged.into()],
            false => Vec::new(),
        };
        if !subscription.auto_renew() {
            return self.end(start, Cancellation::System, &setup.timing);
        }
        if subscription.due(start).next().is_none() {
            return told;
        }
        told.extend(match subscription.billing {
            Billing::Works => self.renew(start, start, SubscriptionEvent::Renewed, now, setup),
            Billing::Fails => self.decline(start, setup),
        });
        told
    }

    /// Charges what is due after a time without access, for periods that start at `start`; the end
    /// if the customer is bound to nothing of it.
    pub(super) fn recover(
        &mut self,
        start: DateTime<Utc>,
        now: DateTime<Utc>,
        setup: &StoreSetup,
    ) -> Told {
        let Some(subscription) = self.subscription_mut() else {
            return Vec::new();
        };
        subscription.stop_unwanted(start);
        match subscription.auto_renew() {
            true => self.renew(start, start, SubscriptionEvent::Recovered, now, setup),
            false => self.end(start, Cancellation::System, &setup.timing),
        }
    }

    /// Charges what is due by `due_by`, for periods that start at `start`.
    fn renew(
        &mut self,
        start: DateTime<Utc>,
        due_by: DateTime<Utc>,
        event: SubscriptionEvent,
        now: DateTime<Utc>,
        setup: &StoreSetup,
    ) -> Told {
        let pending = self.orders.iter().rposition(awaits_payment);
        let id = match pending.and_then(|position| self.orders.get(position)) {
            Some(order) => order.id.clone(),
            None => self.next_order_id(),
        };
        let currency = self.currency.clone();
        let Some(subscription) = self.subscription_mut() else {
            return Vec::new();
        };
        let anchor = subscription.items.first().and_then(|item| {
            let expiry = item.expiry.filter(|_| item.auto_renew);
            expiry.filter(|expiry| *expiry > due_by)
        });
        let mut lines = Vec::new();
        let mut asked = false;
        for item in &mut subscription.items {
            if item.charged_at().is_none_or(|at| at > due_by) {
                continue;
            }
            let Some(plan) = item.plan(setup) else {
                // The developer no longer sells it.
                item.auto_renew = false;
                continue;
            };
            item.apply_new_price(start);
            item.count_installment();
            lines.push(item.begin_aligned(start, anchor, &plan, &id));
            asked |= item.plan_consent(&plan, &currency, now);
        }
        subscription.phase = Phase::Active;
        subscription.drop_replaced();
        if lines.is_empty() {
            subscription.end(start, Cancellation::System);
            return vec![SubscriptionEvent::Expired.into()];
        }
        self.settle_order(pending, Order::processed(id, start, lines), now);
        let mut told = vec![event.into()];
        if asked {
            told.push(SubscriptionEvent::PriceStepUpConsentUpdated.into());
        }
        told
    }

    fn settle_order(&mut self, pending: Option<usize>, mut order: Order, now: DateTime<Utc>) {
        order.progress = Progress::Processed { at: now };
        match pending.and_then(|position| self.orders.get_mut(position)) {
            Some(awaited) => {
                order.created_at = awaited.created_at;
                *awaited = order;
            }
            None => self.orders.push(order),
        }
    }

    /// A charge fails at the end of a period; the shortest grace period of the items counts.
    fn decline(&mut self, since: DateTime<Utc>, setup: &StoreSetup) -> Told {
        let id = self.next_order_id();
        let Some(subscription) = self.subscription_mut() else {
            return Vec::new();
        };
        let plans = subscription.due(since).filter_map(|item| item.plan(setup));
        let grace_days = plans.map(|plan| plan.grace_days).min().unwrap_or(0);
        let until = match grace_days {
            0 => since + TimeDelta::hours(SILENT_GRACE_HOURS),
            days => since + TimeDelta::days(days.into()),
        };
        let mut lines = Vec::new();
        for item in &mut subscription.items {
            let replaced = matches!(item.deferred, Some(Deferred::Replacement { .. }))
                && item.expiry == Some(since);
            if replaced || item.charged_at().is_some_and(|at| at <= since) {
                lines.extend(item.awaited_line(since, setup).filter(|_| !replaced));
                item.expiry = item.expiry.map(|_| until);
            }
        }
        subscription.phase = match grace_days {
            0 => Phase::SilentGrace { since, until },
            _ => Phase::Grace { since, until },
        };
        self.orders.push(Order::pending(id, since, lines));
        match grace_days {
            0 => Vec::new(),
            _ => vec![SubscriptionEvent::InGracePeriod.into()],
        }
    }

    /// Leniency is used up: hold, or the end where there is none.
    fn hold(&mut self, since: DateTime<Utc>, at: DateTime<Utc>, setup: &StoreSetup) -> Told {
        let (grace, hold) = self.leniency(setup);
        if hold == 0 {
            return self.end(at, Cancellation::System, &setup.timing);
        }
        let until = at.max(since + TimeDelta::days(grace + hold));
        if let Some(subscription) = self.subscription_mut() {
            subscription.phase = Phase::Hold { until };
        }
        vec![SubscriptionEvent::OnHold.into()]
    }

    /// Days of grace and of hold.
    pub(super) fn leniency(&self, setup: &StoreSetup) -> (i64, i64) {
        let items = self.subscription().map(|s| s.items.as_slice());
        let mut renewing = items.unwrap_or_default().iter().filter(|i| i.auto_renew);
        let plan = renewing.find_map(|item| item.plan(setup));
        plan.map_or((0, 0), |plan| {
            (plan.grace_days.into(), plan.hold_days.into())
        })
    }

    /// The end, told twice: cancelled, and a moment later expired.
    pub(super) fn end(
        &mut self,
        at: DateTime<Utc>,
        cancellation: Cancellation,
        timing: &Timing,
    ) -> Told {
        let lag = TimeDelta::seconds(timing.google_expiry_lag_seconds.into());
        self.give_up_orders(at);
        let Some(subscription) = self.subscription_mut() else {
            return Vec::new();
        };
        subscription.end(at, cancellation);
        self.late.push((at + lag, SubscriptionEvent::Expired));
        vec![SubscriptionEvent::Canceled.into()]
    }

    /// The customer or the developer stops renewal. Unpaid and paused subscriptions end at once,
    /// installments with their commitment.
    pub(super) fn stop(
        &mut self,
        cancellation: Cancellation,
        now: DateTime<Utc>,
        timing: &Timing,
    ) -> Told {
        let Some(subscription) = self.subscription_mut() else {
            return Vec::new();
        };
        if subscription.phase == Phase::Pending || !subscription.auto_renew() {
            return Vec::new();
        }
        if subscription.declined() || matches!(subscription.phase, Phase::Paused { .. }) {
            return self.end(now, cancellation, timing);
        }
        if cancellation.restorable() {
            let mut committed = Vec::new();
            for item in &mut subscription.items {
                committed.extend(item.installments.as_mut().filter(|i| i.remaining > 0));
            }
            if !committed.is_empty() {
                let news = committed.iter().any(|plan| !plan.pending_cancellation);
                committed
                    .into_iter()
                    .for_each(|plan| plan.pending_cancellation = true);
                subscription.cancellation = Some(cancellation);
                return match news {
                    true => vec![SubscriptionEvent::CancellationScheduled.into()],
                    false => Vec::new(),
                };
            }
        }
        subscription.pause = None;
        subscription.cancellation = Some(cancellation);
        for item in &mut subscription.items {
            item.auto_renew = false;
        }
        vec![SubscriptionEvent::Canceled.into()]
    }

    /// The customer takes a cancellation back before the period ends.
    pub(super) fn restore(&mut self, now: DateTime<Utc>) -> Option<Signal> {
        let subscription = self.subscription_mut()?;
        let canceled = subscription.state(now) == SubscriptionState::Canceled;
        let scheduled = subscription.items.iter().any(|item| {
            item.installments
                .is_some_and(|plan| plan.pending_cancellation)
        });
        let restorable = subscription
            .cancellation
            .as_ref()
            .is_some_and(Cancellation::restorable);
        if !restorable || !(canceled || scheduled) {
            return None;
        }
        subscription.cancellation = None;
        for item in &mut subscription.items {
            let goes_on = item.expiry.is_none() || item.lasts(now);
            item.auto_renew = goes_on && item.deferred.is_none() && !item.prepaid;
            if let Some(plan) = &mut item.installments {
                plan.pending_cancellation = false;
            }
        }
        Some(SubscriptionEvent::Restarted.into())
    }

    /// The means of payment fails or works again; a debt is paid at once.
    pub(super) fn set_billing(
        &mut self,
        billing: Billing,
        now: DateTime<Utc>,
        setup: &StoreSetup,
    ) -> Told {
        let Some(subscription) = self.subscription_mut() else {
            return Vec::new();
        };
        subscription.billing = billing;
        match (billing, subscription.phase) {
            // Within grace the billing date stays; out of hold it moves to the day of recovery.
            (
                Billing::Works,
                Phase::SilentGrace { since, until } | Phase::Grace { since, until },
            ) => self.renew(since, until, SubscriptionEvent::Renewed, now, setup),
            (Billing::Works, Phase::Hold { .. }) => self.recover(now, now, setup),
            _ => Vec::new(),
        }
    }

    /// Another purchase takes this one's place; its end is told a moment later.
    pub(super) fn replace(&mut self, now: DateTime<Utc>, timing: &Timing) {
        let lag = TimeDelta::seconds(timing.google_expiry_lag_seconds.into());
        self.give_up_orders(now);
        if let Some(subscription) = self.subscription_mut() {
            subscription.end(now, Cancellation::Replacement);
            subscription.cancellation = Some(Cancellation::Replacement);
            self.late.push((now + lag, SubscriptionEvent::Expired));
        }
    }

    /// Charges that were still being tried are tried no more.
    pub(super) fn give_up_orders(&mut self, at: DateTime<Utc>) {
        for order in self.orders.iter_mut().filter(|order| awaits_payment(order)) {
            order.progress = Progress::Canceled { at };
        }
    }

    /// The developer has delivered.
    pub(super) fn acknowledge(&mut self) {
        self.acknowledged = true;
    }
}

fn awaits_payment(order: &Order) -> bool {
    order.progress == Progress::Pending
}
