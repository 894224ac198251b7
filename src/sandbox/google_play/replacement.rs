//! How a subscription begins: fresh, or in another's place by one of the replacement modes.

use chrono::{DateTime, TimeDelta, Utc};

use super::super::setup::{Plan, StoreSetup};
use super::action::ReplacementMode;
use super::item::{Deferred, Item, OfferPhase, Replaced, share};
use super::lifecycle::Told;
use super::notification::SubscriptionEvent;
use super::order::{Order, OrderLine, Progress};
use super::purchase::Purchase;
use super::subscription::{Phase, Subscription};

/// What is left of a dear plan buys no more time of a cheap one than this: a century.
const CREDIT_DAYS_MAX: i64 = 36_500;

/// One period of a plan: what it costs and how long it is.
#[derive(Clone, Copy)]
struct Rate {
    price_micros: i64,
    length: TimeDelta,
}

impl Rate {
    /// The time that an amount buys, in whole milliseconds; no end of it where the price is next
    /// to nothing.
    fn buys(self, micros: i64) -> TimeDelta {
        let price = i128::from(self.price_micros).max(1);
        let length = i128::from(self.length.num_milliseconds());
        let millis = i128::from(micros) * length / price;
        let most = TimeDelta::days(CREDIT_DAYS_MAX);
        i64::try_from(millis).map_or(most, |millis| TimeDelta::milliseconds(millis).min(most))
    }

    /// What a length of time costs.
    fn costs(self, time: TimeDelta) -> i64 {
        share(self.price_micros, time, self.length)
    }
}

/// What is left of the old subscription.
struct Left {
    main: Item,
    until: DateTime<Utc>,
    credit_micros: i64,
}

impl Left {
    fn of(old: &Subscription, now: DateTime<Utc>) -> Option<Self> {
        let main = old.items.first()?;
        Some(Self {
            until: main.expiry.filter(|until| now < *until)?,
            credit_micros: old.items.iter().map(|item| item.credit_micros(now)).sum(),
            main: main.clone(),
        })
    }
}

impl Purchase {
    /// The first payment is made: grants everything in the purchase. `old` is the subscription
    /// whose place it takes, as it is until now.
    pub(super) fn begin(
        &mut self,
        old: Option<&Subscription>,
        now: DateTime<Utc>,
        setup: &StoreSetup,
    ) -> Result<Told, &'static str> {
        let order_id = self.first_order_id().to_owned();
        let currency = self.currency.clone();
        let subscription = self.subscription_mut().ok_or("no subscription")?;
        let mode = subscription.replacing.unwrap_or_default();
        let granted = old.is_some_and(|old| old.state(now).entitles());
        let left = old.filter(|_| granted).and_then(|old| Left::of(old, now));
        let mut lines = Vec::new();
        let mut asked = false;
        let mut anchor = None;
        for (position, item) in subscription.items.iter_mut().enumerate() {
            let plan = item.plan(setup).ok_or("the plan is no longer sold")?;
            let kept = old
                .filter(|_| granted)
                .and_then(|old| kept(old, item, position, mode, now));
            item.count_installment();
            match (kept, &left) {
                (Some(kept), _) => item.keep(kept, now),
                (None, Some(left)) if position == 0 => {
                    lines.extend(item.replace(left, mode, &plan, now, &order_id)?);
                }
                (None, _) => lines.push(item.begin_aligned(now, anchor, &plan, &order_id)),
            }
            if position == 0 {
                anchor = item.expiry.filter(|_| item.phase != OfferPhase::FreeTrial);
            }
            if let Some(old) = old.filter(|_| position == 0) {
                item.remember(old, mode, now);
            }
            asked |= item.plan_consent(&plan, &currency, now);
        }
        if let Some(left) = left.filter(|_| mode == ReplacementMode::Deferred) {
            let next = subscription
                .items
                .first()
                .map(|item| item.product_id.clone());
            subscription.items.insert(0, left.main.waiting_for(next));
        }
        subscription.phase = Phase::Active;
        self.started_at = Some(now);
        if let Some(order) = self.orders.first_mut() {
            settle(order, lines, now);
        }
        let mut told = vec![SubscriptionEvent::Purchased.into()];
        if asked {
            told.push(SubscriptionEvent::PriceStepUpConsentUpdated.into());
        }
        Ok(told)
    }
}

fn settle(order: &mut Order, lines: Vec<OrderLine>, now: DateTime<Utc>) {
    if lines.is_empty() {
        // Nothing is charged yet: the confirmation of a change to come.
        order
            .lines
            .iter_mut()
            .for_each(|line| line.total_micros = 0);
    } else {
        order.lines = lines;
    }
    order.progress = Progress::Processed { at: now };
}

/// The item of the old purchase that stays as it is in the new one.
fn kept<'a>(
    old: &'a Subscription,
    item: &Item,
    position: usize,
    mode: ReplacementMode,
    now: DateTime<Utc>,
) -> Option<&'a Item> {
    let stays = position > 0 || mode == ReplacementMode::KeepExisting;
    old.items
        .iter()
        .find(|held| stays && held.is(&item.product_id, &item.base_plan_id) && held.lasts(now))
}

impl Item {
    /// Goes on as it was in the old purchase.
    fn keep(&mut self, held: &Self, now: DateTime<Utc>) {
        *self = Self {
            auto_renew: true,
            deferred: None,
            replaced: Some(held.as_replaced(ReplacementMode::KeepExisting, now)),
            ..held.clone()
        };
    }

    fn as_replaced(&self, mode: ReplacementMode, at: DateTime<Utc>) -> Replaced {
        Replaced {
            product_id: self.product_id.clone(),
            base_plan_id: self.base_plan_id.clone(),
            offer_id: self.offer_id.clone(),
            mode,
            at,
        }
    }

    fn remember(&mut self, old: &Subscription, mode: ReplacementMode, now: DateTime<Utc>) {
        if let Some(main) = old.items.first() {
            self.replaced = Some(main.as_replaced(mode, now));
        }
    }

    /// The old item in a purchase whose new item begins when the old one ends.
    fn waiting_for(mut self, next: Option<String>) -> Self {
        self.auto_renew = false;
        self.deferred = next.map(|product_id| Deferred::Replacement { product_id });
        self
    }

    /// Takes the place of what is left of the old subscription; the line of what is charged now.
    fn replace(
        &mut self,
        left: &Left,
        mode: ReplacementMode,
        plan: &Plan<'_>,
        now: DateTime<Utc>,
        order_id: &str,
    ) -> Result<Option<OrderLine>, &'static str> {
        let credit = left.credit_micros;
        let rate = Rate {
            price_micros: self.price_micros,
            length: plan.period.after(now) - now,
        };
        if self.prepaid {
            return Ok(Some(self.top_up(left, rate, plan, now, order_id)));
        }
        let proration = OfferPhase::Proration;
        Ok(match mode {
            ReplacementMode::WithTimeProration if credit > 0 && self.upcoming.is_empty() => {
                let until = now + rate.buys(credit);
                let line = self.begin(now, until, proration, 0, order_id);
                self.paid_micros = credit;
                Some(line)
            }
            ReplacementMode::WithTimeProration | ReplacementMode::ChargeFullPrice => {
                let mut line = self.begin_period(now, plan, order_id);
                if credit > 0 {
                    let more = rate.buys(credit);
                    self.expiry = self.expiry.map(|until| until + more);
                    self.paid_micros += credit;
                    if self.phase == OfferPhase::Base {
                        self.phase = OfferPhase::ProrationOfBase;
                    }
                    line = self.line(line.total_micros, self.expiry.unwrap_or(now));
                }
                Some(line)
            }
            ReplacementMode::ChargeProratedPrice => {
                let worth = rate.costs(left.until - now);
                if worth < credit {
                    return Err("only an upgrade can be charged the difference");
                }
                let line = self.begin(now, left.until, proration, worth - credit, order_id);
                self.paid_micros = worth;
                Some(line)
            }
            ReplacementMode::WithoutProration | ReplacementMode::KeepExisting => {
                let line = self.begin(now, left.until, proration, 0, order_id);
                self.paid_micros = credit;
                Some(line)
            }
            ReplacementMode::Deferred => {
                self.from = left.until;
                None
            }
        })
    }

    /// A prepaid period on top of what is left: all of it for the same plan, its worth otherwise.
    fn top_up(
        &mut self,
        left: &Left,
        rate: Rate,
        plan: &Plan<'_>,
        now: DateTime<Utc>,
        order_id: &str,
    ) -> OrderLine {
        let until = match left.main.is(&self.product_id, &self.base_plan_id) {
            true => plan.period.after(left.until),
            false => plan.period.after(now) + rate.buys(left.credit_micros),
        };
        let line = self.begin(now, until, OfferPhase::Base, self.price_micros, order_id);
        self.paid_micros += left.credit_micros;
        line
    }
}
