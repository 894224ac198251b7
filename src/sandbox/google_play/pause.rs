//! Pauses: a customer stops paying and using for a while, from the end of the paid period on.

use chrono::{DateTime, TimeDelta, Utc};

use super::super::app_store::Billing;
use super::super::period::Period;
use super::super::setup::StoreSetup;
use super::lifecycle::Told;
use super::notification::SubscriptionEvent;
use super::purchase::Purchase;
use super::subscription::{Cancellation, Phase};

/// The lengths that the store offers to customers of a plan with this period.
fn lengths(period: Period) -> Vec<Period> {
    if period == Period::weeks(1) || period == Period::days(7) {
        return (1..=4).map(Period::weeks).collect();
    }
    match [1, 3, 6].map(Period::months).contains(&period) {
        true => (1..=3).map(Period::months).collect(),
        false => Vec::new(),
    }
}

impl Purchase {
    /// The customer plans a pause, or one of another length; the reason if the store has none.
    pub(super) fn pause(
        &mut self,
        length: Period,
        setup: &StoreSetup,
    ) -> Result<Told, &'static str> {
        let subscription = self.subscription_mut().ok_or("no subscription")?;
        if subscription.phase != Phase::Active || !subscription.auto_renew() {
            return Err("only what renews can be paused");
        }
        let plan = subscription.items.first().and_then(|item| item.plan(setup));
        let offered = plan.map(|plan| lengths(plan.period)).unwrap_or_default();
        if !offered.contains(&length) {
            return Err("the store offers no pause of that length for this plan");
        }
        subscription.pause = Some(length);
        Ok(vec![SubscriptionEvent::PauseScheduleChanged.into()])
    }

    /// The period has ended, and the pause begins.
    pub(super) fn begin_pause(&mut self, length: Period, at: DateTime<Utc>) -> Told {
        if let Some(subscription) = self.subscription_mut() {
            let until = length.after(at);
            subscription.phase = Phase::Paused { until };
        }
        vec![SubscriptionEvent::Paused.into()]
    }

    /// The pause is over, and the next period is charged from here on.
    pub(super) fn end_pause(
        &mut self,
        at: DateTime<Utc>,
        now: DateTime<Utc>,
        setup: &StoreSetup,
    ) -> Told {
        let (_, hold) = self.leniency(setup);
        let id = self.next_order_id();
        let Some(subscription) = self.subscription_mut() else {
            return Vec::new();
        };
        if subscription.billing == Billing::Works {
            return self.recover(at, now, setup);
        }
        let due = subscription.due(at);
        let lines = due
            .filter_map(|item| item.awaited_line(at, setup))
            .collect();
        if hold == 0 {
            return self.end(at, Cancellation::System, &setup.timing);
        }
        let until = at + TimeDelta::days(hold);
        subscription.phase = Phase::Hold { until };
        self.orders
            .push(super::order::Order::pending(id, at, lines));
        vec![SubscriptionEvent::OnHold.into()]
    }

    /// The customer ends the pause now, or takes back one that has not begun.
    pub(super) fn resume(
        &mut self,
        now: DateTime<Utc>,
        setup: &StoreSetup,
    ) -> Result<Told, &'static str> {
        let subscription = self.subscription_mut().ok_or("no subscription")?;
        match (subscription.phase, subscription.pause.take()) {
            (Phase::Paused { .. }, _) => Ok(self.end_pause(now, now, setup)),
            (_, Some(_)) => Ok(vec![SubscriptionEvent::PauseScheduleChanged.into()]),
            (_, None) => Err("nothing is paused"),
        }
    }
}
