//! Subscriptions with add-ons: items that come and go in a purchase that goes on.

use chrono::{DateTime, Utc};

use super::super::app_store::Billing;
use super::super::setup::StoreSetup;
use super::item::{Deferred, Item};
use super::lifecycle::Told;
use super::notification::SubscriptionEvent;
use super::order::Order;
use super::purchase::Purchase;
use super::subscription::{Phase, Subscription};

/// The store takes no more items than this in one purchase.
const ITEMS_MAX: usize = 50;

/// Why these items cannot be in one purchase, if so.
pub(super) fn check_together(items: &[Item], setup: &StoreSetup) -> Result<(), &'static str> {
    if items.len() > ITEMS_MAX {
        return Err("too many items in one purchase");
    }
    let Some((first, others)) = items.split_first() else {
        return Ok(());
    };
    let period = first.plan(setup).map(|plan| plan.period);
    for (position, item) in others.iter().enumerate() {
        if first.prepaid || item.prepaid {
            return Err("only auto-renewing plans can be bought together");
        }
        if item.plan(setup).map(|plan| plan.period) != period {
            return Err("plans that are bought together must have the same period");
        }
        let twice = items.iter().take(position + 1);
        if twice
            .into_iter()
            .any(|other| other.product_id == item.product_id)
        {
            return Err("a product cannot be in a purchase twice");
        }
    }
    Ok(())
}

impl Purchase {
    /// The customer adds items, which are paid up to the renewal of the first.
    pub(super) fn add_items(
        &mut self,
        added: Vec<Item>,
        now: DateTime<Utc>,
        setup: &StoreSetup,
    ) -> Result<Told, &'static str> {
        let id = self.next_order_id();
        let subscription = self.subscription_mut().ok_or("no subscription")?;
        if subscription.phase != Phase::Active || !subscription.auto_renew() {
            return Err("items can be added only to what renews");
        }
        if subscription.billing == Billing::Fails {
            return Err("the payment is declined");
        }
        let mut items = subscription.items.clone();
        // An item that was dropped may come again.
        items.retain(|item| item.lasts(now) || item.auto_renew);
        let held = items.len();
        items.extend(added.iter().cloned());
        check_together(&items, setup)?;
        let anchor = items.first().and_then(|item| item.expiry);
        let mut lines = Vec::new();
        for item in items.iter_mut().skip(held) {
            let plan = item.plan(setup).ok_or("the plan is no longer sold")?;
            lines.push(item.begin_aligned(now, anchor, &plan, &id));
        }
        subscription.items = items;
        self.orders.push(Order::processed(id, now, lines));
        Ok(vec![SubscriptionEvent::ItemsChanged.into()])
    }

    /// The customer drops an item at the end of its period; the last one cannot be dropped.
    pub(super) fn remove_item(&mut self, product_id: &str) -> Result<Told, &'static str> {
        let subscription = self.subscription_mut().ok_or("no subscription")?;
        let renewing = subscription.items.iter().filter(|item| item.auto_renew);
        let others = renewing
            .filter(|item| item.product_id != product_id)
            .count();
        let item = subscription.item_mut(product_id).ok_or("no such item")?;
        if !item.auto_renew {
            return Err("the item does not renew");
        }
        if others == 0 {
            return Err("the last item can only be cancelled");
        }
        item.auto_renew = false;
        item.deferred = Some(Deferred::Removal);
        Ok(vec![SubscriptionEvent::ItemsChanged.into()])
    }
}

impl Subscription {
    /// One item ends now; whether any is left that lasts.
    pub(super) fn end_item(&mut self, product_id: &str, now: DateTime<Utc>) -> bool {
        if let Some(item) = self.item_mut(product_id) {
            item.end(now);
        }
        self.items.iter().any(|item| item.lasts(now))
    }
}
