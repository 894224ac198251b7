//! Prepaid plans: paid ahead, never renewed, topped up by further purchases.

use chrono::{DateTime, TimeDelta, Utc};

use super::super::setup::{Plan, StoreSetup};
use super::item::Item;
use super::subscription::Subscription;

/// Plans shorter than this must be acknowledged within half their length.
const SHORT_DAYS: i64 = 7;

/// How long the developer of a short prepaid plan has to acknowledge it; `None` for other plans.
pub(super) fn acknowledge_within(
    subscription: &Subscription,
    setup: &StoreSetup,
) -> Option<TimeDelta> {
    let item = subscription.items.iter().find(|item| item.prepaid)?;
    let plan = item.plan(setup)?;
    let length = plan.period.after(item.from) - item.from;
    (length < TimeDelta::days(SHORT_DAYS)).then(|| length / 2)
}

/// When a top-up is allowed again: as soon as less than one period is left.
pub(super) fn extendable_after(item: &Item, plan: &Plan<'_>) -> Option<DateTime<Utc>> {
    let expiry = item.expiry?;
    let length = plan.period.after(item.from) - item.from;
    Some(item.from.max(expiry - length))
}

/// Why the customer cannot top this up now, if so.
pub(super) fn check_top_up(
    subscription: &Subscription,
    now: DateTime<Utc>,
    setup: &StoreSetup,
) -> Result<(), &'static str> {
    let item = subscription.items.iter().find(|item| item.prepaid);
    let item = item.ok_or("not a prepaid plan")?;
    if !item.lasts(now) {
        return Err("the plan has expired");
    }
    let plan = item.plan(setup).ok_or("the plan is no longer sold")?;
    match extendable_after(item, &plan) {
        Some(after) if now < after => Err("too early to top up"),
        _ => Ok(()),
    }
}
