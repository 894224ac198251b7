//! A subscription: each line item lives by its own expiry time, under the state of the whole.

use chrono::TimeDelta;

use super::{NOT_ACKNOWLEDGED, account_token, order_aliases};
use crate::domain::chain::{Alias, StoreProduct};
use crate::domain::provider::Environment;
use crate::domain::subscription::state::{ExpiryReason, ItemState, Offer, Renewal};
use crate::domain::subscription::store_state::{Item, ItemKind, StoreState};
use crate::domain::time::Instant;
use crate::providers::google_play::wire::{
    AccountIdentifiers, OfferPhase, SubscriptionLine, SubscriptionPurchase,
};

/// Google refunds what was not acknowledged for this long.
const ACKNOWLEDGE_WITHIN: TimeDelta = TimeDelta::days(3);
/// The same for licence testers.
const ACKNOWLEDGE_TEST_WITHIN: TimeDelta = TimeDelta::minutes(5);
/// Prepaid plans shorter than this must be acknowledged within half their length.
const PREPAID_SHORT: TimeDelta = TimeDelta::days(7);

/// `subscriptionState`, without what all its words start with.
enum State<'a> {
    Pending,
    Active,
    Paused,
    InGracePeriod,
    OnHold,
    Canceled,
    Expired,
    PendingPurchaseCanceled,
    Unknown(&'a str),
}

impl<'a> State<'a> {
    fn parse(word: &'a str) -> Self {
        match word.strip_prefix("SUBSCRIPTION_STATE_") {
            Some("PENDING") => Self::Pending,
            Some("ACTIVE") => Self::Active,
            Some("PAUSED") => Self::Paused,
            Some("IN_GRACE_PERIOD") => Self::InGracePeriod,
            Some("ON_HOLD") => Self::OnHold,
            Some("CANCELED") => Self::Canceled,
            Some("EXPIRED") => Self::Expired,
            Some("PENDING_PURCHASE_CANCELED") => Self::PendingPurchaseCanceled,
            Some(_) | None => Self::Unknown(word),
        }
    }

    /// Paid for, so that Google waits for the acknowledgement.
    fn is_paid(&self) -> bool {
        match self {
            Self::Active | Self::Paused | Self::InGracePeriod | Self::OnHold | Self::Canceled => {
                true
            }
            Self::Pending | Self::Expired | Self::PendingPurchaseCanceled | Self::Unknown(_) => {
                false
            }
        }
    }
}

/// Without predecessors and transactions, which other answers tell.
pub(super) fn state(
    head: &Alias,
    purchase: &SubscriptionPurchase,
    fetched_at: Instant,
) -> StoreState {
    let test = purchase.test_purchase.is_some();
    let line_orders = purchase
        .line_items
        .iter()
        .map(|line| &line.latest_successful_order_id);
    let orders = [&purchase.latest_order_id].into_iter().chain(line_orders);
    StoreState {
        environment: if test {
            Environment::Sandbox
        } else {
            Environment::Production
        },
        stamp: fetched_at,
        head: head.clone(),
        aliases: order_aliases(head, orders.filter_map(Option::as_deref)),
        predecessors: Vec::new(),
        account_token: account(purchase),
        purchased_at: purchase.start_time,
        items: items(purchase, fetched_at),
        transactions: Vec::new(),
        acknowledge_by: acknowledge_by(purchase),
        bookmark: None,
    }
}

/// What the app passed at purchase; after a resubscription in the store, at the one before.
fn account(purchase: &SubscriptionPurchase) -> Option<String> {
    let id = |identifiers: Option<&AccountIdentifiers>| {
        account_token(identifiers?.obfuscated_external_account_id.as_ref())
    };
    id(purchase.external_account_identifiers.as_ref()).or_else(|| {
        let context = purchase.out_of_app_purchase_context.as_ref()?;
        id(context.expired_external_account_identifiers.as_ref())
    })
}

fn items(purchase: &SubscriptionPurchase, fetched_at: Instant) -> Vec<Item> {
    let lines = &purchase.line_items;
    lines
        .iter()
        .filter(|line| !waits_for_its_turn(line, lines))
        .map(|line| item(purchase, line, fetched_at))
        .collect()
}

/// A deferred replacement has a line already, but no time of its own before it begins.
fn waits_for_its_turn(line: &SubscriptionLine, lines: &[SubscriptionLine]) -> bool {
    line.expiry_time.is_none()
        && lines
            .iter()
            .any(|other| replacement(other) == Some(line.product_id.as_str()))
}

fn replacement(line: &SubscriptionLine) -> Option<&str> {
    line.deferred_item_replacement
        .as_ref()?
        .product_id
        .as_deref()
}

fn item(purchase: &SubscriptionPurchase, line: &SubscriptionLine, fetched_at: Instant) -> Item {
    let lines = &purchase.line_items;
    let pending_product = replacement(line).map(|product_id| {
        let waiting = lines.iter().find(|other| other.product_id == product_id);
        waiting.map_or_else(|| StoreProduct::new(product_id), product)
    });
    let order = line
        .latest_successful_order_id
        .as_ref()
        .or(purchase.latest_order_id.as_ref());
    Item {
        key: line.product_id.clone(),
        product: product(line),
        kind: ItemKind::Subscription,
        state: line_state(purchase, line, fetched_at),
        offer: line.offer_phase.as_ref().map_or(Offer::None, offer),
        started_at: purchase.start_time,
        transaction_id: order.cloned(),
        pending_product,
        family_shared: false,
        quantity: 1,
    }
}

fn product(line: &SubscriptionLine) -> StoreProduct {
    StoreProduct {
        product_id: line.product_id.clone(),
        base_plan_id: line
            .offer_details
            .as_ref()
            .and_then(|details| details.base_plan_id.clone()),
    }
}

fn offer(phase: &OfferPhase) -> Offer {
    let prorated = phase.proration_period.as_ref();
    let original = prorated.map_or("", |period| period.original_offer_phase_type.as_str());
    if phase.free_trial.is_some() || original.ends_with("FREE_TRIAL") {
        Offer::FreeTrial
    } else if phase.introductory_price.is_some() || original.contains("INTRODUCTORY") {
        Offer::Introductory
    } else {
        Offer::None
    }
}

fn line_state(
    purchase: &SubscriptionPurchase,
    line: &SubscriptionLine,
    fetched_at: Instant,
) -> ItemState {
    let word = &purchase.subscription_state;
    // Times that are display only may be missing; an end of access never.
    let ended_at = line
        .expiry_time
        .or(purchase.start_time)
        .unwrap_or(fetched_at);
    match (State::parse(word), line.expiry_time) {
        (State::Active, Some(expires_at)) => ItemState::Active {
            expires_at,
            renewal: renewal(line),
        },
        (State::Canceled, Some(expires_at)) => ItemState::Active {
            expires_at,
            renewal: Renewal::Off,
        },
        (State::InGracePeriod, Some(until)) => ItemState::GracePeriod {
            expires_at: until,
            until,
        },
        (State::Active | State::Canceled | State::InGracePeriod, None) => ItemState::Unknown {
            said: format!("{word} without expiryTime"),
        },
        (State::OnHold, _) => ItemState::OnHold { since: ended_at },
        (State::Paused, _) => {
            let context = purchase.paused_state_context.as_ref();
            let resumes_at = context.and_then(|context| context.auto_resume_time);
            ItemState::Paused {
                since: ended_at,
                resumes_at,
            }
        }
        (State::Pending, _) => ItemState::Pending,
        (State::Expired, _) => ItemState::Expired {
            at: ended_at,
            reason: expiry_reason(purchase),
        },
        (State::PendingPurchaseCanceled, _) => {
            let at = cancel_time(purchase).unwrap_or(ended_at);
            ItemState::Expired {
                at,
                reason: ExpiryReason::NeverPaid,
            }
        }
        (State::Unknown(said), _) => ItemState::Unknown {
            said: said.to_owned(),
        },
    }
}

fn renewal(line: &SubscriptionLine) -> Renewal {
    let plan = line.auto_renewing_plan.as_ref();
    let leaves = line.deferred_item_removal.is_some();
    if plan.is_some_and(|plan| plan.auto_renew_enabled) && !leaves {
        Renewal::On
    } else {
        Renewal::Off
    }
}

/// Only for people: a refund by the developer also looks like a cancellation by the user. What was
/// taken back is known from voided orders.
fn expiry_reason(purchase: &SubscriptionPurchase) -> ExpiryReason {
    let Some(context) = &purchase.canceled_state_context else {
        return ExpiryReason::Other;
    };
    if context.replacement_cancellation.is_some() {
        ExpiryReason::Replaced
    } else if context.system_initiated_cancellation.is_some() {
        ExpiryReason::BillingError
    } else if context.user_initiated_cancellation.is_some() {
        ExpiryReason::Canceled
    } else {
        ExpiryReason::Other
    }
}

fn cancel_time(purchase: &SubscriptionPurchase) -> Option<Instant> {
    let context = purchase.canceled_state_context.as_ref()?;
    context.user_initiated_cancellation.as_ref()?.cancel_time
}

fn acknowledge_by(purchase: &SubscriptionPurchase) -> Option<Instant> {
    let waiting = purchase.acknowledgement_state == NOT_ACKNOWLEDGED;
    let start = purchase.start_time?;
    if !waiting || !State::parse(&purchase.subscription_state).is_paid() {
        return None;
    }
    let lines = purchase.line_items.iter();
    let prepaid = lines.filter(|line| line.prepaid_plan.is_some());
    let shortest = prepaid
        .filter_map(|line| Some(line.expiry_time? - start))
        .min();
    let within = match shortest {
        _ if purchase.test_purchase.is_some() => ACKNOWLEDGE_TEST_WITHIN,
        Some(length) if length < PREPAID_SHORT => length / 2,
        Some(_) | None => ACKNOWLEDGE_WITHIN,
    };
    Some(start + within)
}

/// The deadline of a one-time product, which follows the general rule.
pub(super) fn acknowledge_paid_by(paid_at: Instant, test: bool) -> Instant {
    paid_at
        + if test {
            ACKNOWLEDGE_TEST_WITHIN
        } else {
            ACKNOWLEDGE_WITHIN
        }
}
