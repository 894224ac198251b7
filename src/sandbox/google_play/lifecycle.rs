//! What happens to a Google Play purchase, as a state machine that knows neither keys nor the
//! network: each step changes the purchase and says what Google will tell about it.

use chrono::{DateTime, TimeDelta, Utc};

use super::super::app_store::Billing;
use super::super::setup::{GooglePlayKind, GooglePlayProduct, StoreSetup, Timing};
use super::notification::{Signal, SubscriptionEvent};
use super::purchase::{Cancellation, Content, Order, Phase, Purchase, SubscriptionState};

/// Without a grace period the store still keeps silent for a day before it acts.
const SILENT_GRACE_HOURS: i64 = 24;

impl Purchase {
    /// Lets happen what is due first.
    pub(super) fn play(&mut self, now: DateTime<Utc>, setup: &StoreSetup) -> Vec<Signal> {
        let due = |at: Option<DateTime<Utc>>| at.filter(|at| *at <= now);
        let late = self.late.iter().map(|(at, _)| *at).min();
        let ends = self.subscription().and_then(|s| s.ends_at(&setup.timing));
        let forfeited = due(self.forfeited_at());
        if due(late).is_some() {
            let position = self.late.iter().position(|(at, _)| Some(*at) == late);
            let event = position.map(|position| self.late.remove(position).1);
            return event.map(Signal::Subscription).into_iter().collect();
        }
        if forfeited.is_some() && forfeited <= ends.or(forfeited) {
            return self.revoke(now, Cancellation::System);
        }
        if due(ends).is_some() {
            return self.step(setup);
        }
        Vec::new()
    }

    /// The end of a subscription's phase.
    fn step(&mut self, setup: &StoreSetup) -> Vec<Signal> {
        let lag = TimeDelta::seconds(setup.timing.google_expiry_lag_seconds.into());
        let Some(subscription) = self.subscription_mut() else {
            return Vec::new();
        };
        let at = subscription.expiry;
        match subscription.phase {
            Phase::Active if !subscription.auto_renew => {
                subscription.phase = Phase::Expired;
                vec![Signal::Subscription(SubscriptionEvent::Expired)]
            }
            Phase::Active if subscription.billing == Billing::Works => {
                self.renew(at, SubscriptionEvent::Renewed, setup)
            }
            Phase::Active => self.decline(at, setup),
            Phase::SilentGrace { since } | Phase::Grace { since } => self.hold(since, at, setup),
            Phase::Hold { until } => {
                subscription.end(until, Cancellation::System);
                self.late.push((until + lag, SubscriptionEvent::Expired));
                vec![Signal::Subscription(SubscriptionEvent::Canceled)]
            }
            Phase::Expired => Vec::new(),
        }
    }

    fn product<'a>(&self, setup: &'a StoreSetup) -> Option<&'a GooglePlayProduct> {
        let plan = self.subscription().map(|s| s.base_plan_id.as_str());
        setup.google_play_product(&self.product_id, plan)
    }

    /// Days of grace and of hold.
    fn leniency(&self, setup: &StoreSetup) -> (i64, i64) {
        match self.product(setup).map(|product| &product.kind) {
            Some(GooglePlayKind::AutoRenewable {
                grace_days,
                hold_days,
                ..
            }) => ((*grace_days).into(), (*hold_days).into()),
            _ => (0, 0),
        }
    }

    /// Charges the period that starts at `start`.
    fn renew(
        &mut self,
        start: DateTime<Utc>,
        event: SubscriptionEvent,
        setup: &StoreSetup,
    ) -> Vec<Signal> {
        let terms = self.product(setup).and_then(|product| match &product.kind {
            GooglePlayKind::AutoRenewable { period, .. } => Some((*period, product.price_micros)),
            GooglePlayKind::NonConsumable | GooglePlayKind::Consumable => None,
        });
        let id = self.next_order_id();
        let Some(subscription) = self.subscription_mut() else {
            return Vec::new();
        };
        let Some((period, price_micros)) = terms else {
            subscription.end(start, Cancellation::System);
            return vec![Signal::Subscription(SubscriptionEvent::Expired)];
        };
        subscription.expiry = period.after(start);
        subscription.phase = Phase::Active;
        subscription.trial = None;
        let until = Some(subscription.expiry);
        self.orders.push(Order {
            id,
            at: start,
            until,
            price_micros,
            refunded_at: None,
        });
        vec![Signal::Subscription(event)]
    }

    /// A charge fails at the end of a period.
    fn decline(&mut self, since: DateTime<Utc>, setup: &StoreSetup) -> Vec<Signal> {
        let (grace, _) = self.leniency(setup);
        let Some(subscription) = self.subscription_mut() else {
            return Vec::new();
        };
        if grace == 0 {
            subscription.expiry = since + TimeDelta::hours(SILENT_GRACE_HOURS);
            subscription.phase = Phase::SilentGrace { since };
            return Vec::new();
        }
        subscription.expiry = since + TimeDelta::days(grace);
        subscription.phase = Phase::Grace { since };
        vec![Signal::Subscription(SubscriptionEvent::InGracePeriod)]
    }

    /// Leniency is used up: hold, or the end where there is none.
    fn hold(&mut self, since: DateTime<Utc>, at: DateTime<Utc>, setup: &StoreSetup) -> Vec<Signal> {
        let (grace, hold) = self.leniency(setup);
        let Some(subscription) = self.subscription_mut() else {
            return Vec::new();
        };
        if hold == 0 {
            subscription.end(at, Cancellation::System);
            return vec![Signal::Subscription(SubscriptionEvent::Expired)];
        }
        let until = at.max(since + TimeDelta::days(grace + hold));
        subscription.phase = Phase::Hold { until };
        vec![Signal::Subscription(SubscriptionEvent::OnHold)]
    }

    /// The customer stops renewal; unpaid subscriptions end at once.
    pub(super) fn cancel(&mut self, now: DateTime<Utc>, timing: &Timing) -> Vec<Signal> {
        let lag = TimeDelta::seconds(timing.google_expiry_lag_seconds.into());
        let Some(subscription) = self.subscription_mut() else {
            return Vec::new();
        };
        if !subscription.auto_renew {
            return Vec::new();
        }
        let cancellation = Cancellation::User { at: now };
        if subscription.declined() {
            subscription.end(now, cancellation);
            self.late.push((now + lag, SubscriptionEvent::Expired));
        } else {
            subscription.auto_renew = false;
            subscription.cancellation = Some(cancellation);
        }
        vec![Signal::Subscription(SubscriptionEvent::Canceled)]
    }

    /// The customer takes a cancellation back before the period ends.
    pub(super) fn restore(&mut self, now: DateTime<Utc>) -> Option<Signal> {
        let subscription = self.subscription_mut()?;
        if subscription.state(now) != SubscriptionState::Canceled {
            return None;
        }
        subscription.auto_renew = true;
        subscription.cancellation = None;
        Some(Signal::Subscription(SubscriptionEvent::Restarted))
    }

    /// The means of payment fails or works again; a debt is paid at once.
    pub(super) fn set_billing(
        &mut self,
        billing: Billing,
        now: DateTime<Utc>,
        setup: &StoreSetup,
    ) -> Vec<Signal> {
        let Some(subscription) = self.subscription_mut() else {
            return Vec::new();
        };
        subscription.billing = billing;
        match (billing, subscription.phase) {
            // Within grace the billing date stays; out of hold it moves to the day of recovery.
            (Billing::Works, Phase::SilentGrace { since } | Phase::Grace { since }) => {
                self.renew(since, SubscriptionEvent::Renewed, setup)
            }
            (Billing::Works, Phase::Hold { .. }) => {
                self.renew(now, SubscriptionEvent::Recovered, setup)
            }
            _ => Vec::new(),
        }
    }

    /// The latest order is refunded and access ends.
    pub(super) fn revoke(&mut self, now: DateTime<Utc>, cancellation: Cancellation) -> Vec<Signal> {
        if let Some(order) = self.orders.last_mut() {
            order.refunded_at = Some(now);
        }
        let voided = Signal::Voided {
            order_id: self.latest_order_id().to_owned(),
        };
        match &mut self.content {
            Content::Subscription(subscription) => {
                subscription.end(now, cancellation);
                vec![Signal::Subscription(SubscriptionEvent::Revoked), voided]
            }
            Content::OneTime { cancelled, .. } => {
                *cancelled = true;
                vec![voided]
            }
        }
    }

    /// Another purchase takes this one's place; its end is told a moment later.
    pub(super) fn replace(&mut self, now: DateTime<Utc>, timing: &Timing) {
        let lag = TimeDelta::seconds(timing.google_expiry_lag_seconds.into());
        if let Some(subscription) = self.subscription_mut() {
            subscription.end(now, Cancellation::Replacement);
            subscription.cancellation = Some(Cancellation::Replacement);
            self.late.push((now + lag, SubscriptionEvent::Expired));
        }
    }

    /// The developer has delivered.
    pub(super) fn acknowledge(&mut self) {
        self.acknowledged = true;
        self.out_of_app = None;
    }

    /// The developer has delivered, and the product may be bought again.
    pub(super) fn consume(&mut self) {
        self.acknowledge();
        if let Content::OneTime { consumed, .. } = &mut self.content {
            *consumed = true;
        }
    }
}
