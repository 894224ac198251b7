//! Purchases that are paid later: granted when the money comes, dropped when it does not.

use chrono::{DateTime, Utc};

use super::super::setup::StoreSetup;
use super::lifecycle::Told;
use super::notification::{Signal, SubscriptionEvent};
use super::order::Progress;
use super::purchase::{Content, OneTimeState, Purchase};
use super::subscription::{Phase, Subscription};

impl Purchase {
    /// The money came. `old` is the subscription whose place this one takes.
    pub(super) fn pay(
        &mut self,
        old: Option<&Subscription>,
        now: DateTime<Utc>,
        setup: &StoreSetup,
    ) -> Result<Told, &'static str> {
        match &mut self.content {
            Content::Subscription(_) => self.begin(old, now, setup),
            Content::OneTime(bought) => {
                bought.state = OneTimeState::Purchased;
                self.started_at = Some(now);
                for order in &mut self.orders {
                    order.progress = Progress::Processed { at: now };
                }
                Ok(vec![Signal::Purchased])
            }
        }
    }

    /// The money will not come.
    pub(super) fn give_up(&mut self, now: DateTime<Utc>) -> Told {
        self.give_up_orders(now);
        match &mut self.content {
            Content::Subscription(subscription) => {
                subscription.phase = Phase::PendingCanceled;
                for item in &mut subscription.items {
                    item.auto_renew = false;
                }
                vec![SubscriptionEvent::PendingPurchaseCanceled.into()]
            }
            Content::OneTime(bought) => {
                bought.state = OneTimeState::Cancelled;
                vec![Signal::PendingCanceled]
            }
        }
    }
}
