//! What happens at Google Play, as Superwall tells it: its transaction ids are order ids, and its
//! original transaction id is the id of the first order of the token.

use chrono::{DateTime, Utc};

use super::super::delivery::Store;
use super::super::google_play::{
    Cancellation, OfferPhase, Order, PaidFor, Promotion, Purchase, Signal, SubscriptionEvent,
    SubscriptionState,
};
use super::event::{Event, Name, PeriodType, Reason, State, Subject};

/// What Superwall makes of a signal; of many it makes nothing. `replaced` is the purchase that the
/// new one is linked to.
pub(super) fn events(
    purchase: &Purchase,
    replaced: Option<&Purchase>,
    signal: &Signal,
    now: DateTime<Utc>,
) -> Vec<Event> {
    // What was given away has no order, and so no id that Superwall could name it by.
    if purchase.given_away() {
        return Vec::new();
    }
    match signal {
        Signal::Subscription(SubscriptionEvent::Purchased) => bought(purchase, replaced, now),
        Signal::Subscription(event) => told(purchase, *event, now).into_iter().collect(),
        Signal::Purchased => {
            let event = Event::new(Name::NonRenewingPurchase, subject(purchase, None, now));
            vec![event.charged(paid_micros(purchase))]
        }
        Signal::Voided(voided) => {
            let order = purchase.order(&voided.order_id);
            // Superwall has no event of its own for money given back.
            let event = Event::new(Name::Cancellation, subject(purchase, order, now));
            let refund = order.and_then(|order| order.refunds.last());
            let micros = refund.map_or(0, |refund| refund.micros);
            vec![event.because(Reason::CustomerSupport).charged(-micros)]
        }
        Signal::PendingCanceled | Signal::RefundReview(_) => Vec::new(),
    }
}

/// A new token: a first purchase, or a change of plan.
fn bought(purchase: &Purchase, replaced: Option<&Purchase>, now: DateTime<Utc>) -> Vec<Event> {
    let new = subject(purchase, None, now);
    let change = replaced.map(|old| subject(old, None, now));
    let change = change.filter(|old| old.product_id != new.product_id);
    let change = change.map(|old| {
        let subject = Subject {
            transaction_id: new.transaction_id.clone(),
            ..old
        };
        Event::new(Name::ProductChange, subject).changed_to(new.product_id.clone())
    });
    let first = Event::new(Name::InitialPurchase, new).charged(paid_micros(purchase));
    change.into_iter().chain([first]).collect()
}

fn told(purchase: &Purchase, event: SubscriptionEvent, now: DateTime<Utc>) -> Option<Event> {
    let tell = |name: Name| Event::new(name, subject(purchase, None, now));
    let subscription = purchase.subscription()?;
    Some(match event {
        SubscriptionEvent::Renewed | SubscriptionEvent::Recovered => Event {
            trial_conversion: converts(purchase),
            ..tell(Name::Renewal).charged(paid_micros(purchase))
        },
        SubscriptionEvent::Canceled | SubscriptionEvent::CancellationScheduled => {
            tell(Name::Cancellation).because(reason(subscription.cancellation.as_ref()))
        }
        SubscriptionEvent::Restarted => tell(Name::Uncancellation),
        SubscriptionEvent::OnHold | SubscriptionEvent::InGracePeriod => tell(Name::BillingIssue),
        // The pause begins at the end of the period.
        SubscriptionEvent::PauseScheduleChanged if subscription.pause.is_some() => {
            tell(Name::SubscriptionPaused)
        }
        SubscriptionEvent::Revoked => tell(Name::Expiration).because(Reason::CustomerSupport),
        SubscriptionEvent::Expired => match &subscription.cancellation {
            // The change of plan has been told.
            Some(Cancellation::Replacement) => return None,
            cancellation => tell(Name::Expiration).because(reason(cancellation.as_ref())),
        },
        SubscriptionEvent::Purchased
        | SubscriptionEvent::Deferred
        | SubscriptionEvent::Paused
        | SubscriptionEvent::PauseScheduleChanged
        | SubscriptionEvent::ItemsChanged
        | SubscriptionEvent::PriceChangeUpdated
        | SubscriptionEvent::PendingPurchaseCanceled
        | SubscriptionEvent::PriceStepUpConsentUpdated => return None,
    })
}

fn reason(cancellation: Option<&Cancellation>) -> Reason {
    match cancellation {
        Some(Cancellation::User { .. }) => Reason::Unsubscribe,
        Some(Cancellation::Developer { .. }) => Reason::DeveloperInitiated,
        Some(Cancellation::System) => Reason::BillingError,
        Some(Cancellation::Replacement) => Reason::Unknown,
        // Nobody cancelled: an installment plan that will end, for one.
        None => Reason::Unsubscribe,
    }
}

/// The purchase with regard to one of its orders, the latest paid one if none is named.
fn subject(purchase: &Purchase, order: Option<&Order>, now: DateTime<Utc>) -> Subject {
    let subscription = purchase.subscription();
    let order = order.or_else(|| purchase.order(purchase.latest_order_id()));
    let item = subscription.and_then(|subscription| subscription.items.first());
    let line = order.and_then(|order| order.lines.first());
    let renews = subscription.is_some_and(|subscription| subscription.auto_renew());
    Subject {
        store: Store::GooglePlay,
        purchase: purchase.token.clone(),
        customer: purchase.customer.clone(),
        original_transaction_id: purchase.first_order_id().to_owned(),
        transaction_id: order.map(|order| order.id.clone()).unwrap_or_default(),
        product_id: match item {
            None => purchase.product_id.clone(),
            Some(item) => match &item.offer_id {
                Some(offer) => format!("{}:{}:{offer}", item.product_id, item.base_plan_id),
                None => format!("{}:{}", item.product_id, item.base_plan_id),
            },
        },
        period_type: line.map_or(PeriodType::Normal, |line| period_type(&line.paid_for)),
        purchased_at: order.map_or(purchase.bought_at, |order| order.created_at),
        expires_at: subscription.and_then(|subscription| subscription.expiry()),
        currency: purchase.currency.clone(),
        offer_code: match &purchase.promotion {
            Some(Promotion::VanityCode(code)) => Some(code.clone()),
            Some(Promotion::OneTimeCode) | None => None,
        },
        family_share: false,
        state: match subscription.map(|subscription| subscription.state(now)) {
            _ if purchase.revoked => State::Revoked,
            None | Some(SubscriptionState::Active) => State::Active,
            Some(SubscriptionState::Canceled) => State::Canceled,
            Some(SubscriptionState::InGracePeriod) => State::InGracePeriod,
            Some(SubscriptionState::OnHold) => State::InBillingRetry,
            Some(SubscriptionState::Paused) => State::Paused,
            Some(
                SubscriptionState::Expired
                | SubscriptionState::Pending
                | SubscriptionState::PendingPurchaseCanceled,
            ) => State::Expired,
        },
        renews,
    }
}

fn period_type(paid_for: &PaidFor) -> PeriodType {
    match paid_for {
        PaidFor::OneTime { .. } => PeriodType::Normal,
        PaidFor::Subscription { phase, .. } => match phase {
            OfferPhase::FreeTrial => PeriodType::Trial,
            OfferPhase::Introductory => PeriodType::Intro,
            OfferPhase::Base | OfferPhase::Proration | OfferPhase::ProrationOfBase => {
                PeriodType::Normal
            }
        },
    }
}

/// Whether the latest paid order is the first after a trial.
fn converts(purchase: &Purchase) -> bool {
    let mut paid = purchase
        .orders
        .iter()
        .rev()
        .filter(|order| order.is_processed());
    let mut trial = || {
        let line = paid.next().and_then(|order| order.lines.first());
        line.is_some_and(|line| period_type(&line.paid_for) == PeriodType::Trial)
    };
    let (latest, before) = (trial(), trial());
    before && !latest
}

/// What the latest paid order cost.
fn paid_micros(purchase: &Purchase) -> i64 {
    let order = purchase.order(purchase.latest_order_id());
    order.map_or(0, Order::total_micros)
}
