//! A subscription: each line item lives by its own expiry time, under the state of the whole.

use chrono::TimeDelta;

use super::orders::{self, Orders};
use super::{NOT_ACKNOWLEDGED, account_token, environment, order_aliases};
use crate::domain::chain::{Alias, StoreProduct};
use crate::domain::subscription::state::{
    ExpiryReason, ItemState, Offer, Renewal, RevocationReason,
};
use crate::domain::subscription::store_state::{Item, ItemKind, StoreState};
use crate::domain::time::Instant;
use crate::providers::google_play::wire::{
    AccountIdentifiers, AutoRenewingPlan, OfferPhase, SubscriptionLine, SubscriptionPurchase,
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

/// One reading of a purchase with the orders that paid it.
struct Reading<'a> {
    purchase: &'a SubscriptionPurchase,
    orders: &'a Orders,
    fetched_at: Instant,
}

/// Without predecessors, which other answers tell.
pub(super) fn state(
    head: &Alias,
    purchase: &SubscriptionPurchase,
    orders: &Orders,
    fetched_at: Instant,
) -> StoreState {
    let reading = Reading {
        purchase,
        orders,
        fetched_at,
    };
    let line_orders = purchase
        .line_items
        .iter()
        .map(|line| &line.latest_successful_order_id);
    let named = [&purchase.latest_order_id].into_iter().chain(line_orders);
    let items = reading.items();
    let mut transactions = orders.charges(purchase.region_code.as_ref());
    for transaction in &mut transactions {
        transaction.revoked_at = revoked_at(&items, &transaction.transaction_id);
    }
    StoreState {
        environment: environment(purchase.test_purchase.is_some()),
        stamp: fetched_at,
        head: head.clone(),
        aliases: order_aliases(head, named.filter_map(Option::as_deref)),
        predecessors: Vec::new(),
        account_token: account(purchase),
        purchased_at: purchase.start_time,
        items,
        transactions,
        acknowledge_by: acknowledge_by(purchase),
        bookmark: None,
        out_of_app: purchase.out_of_app_purchase_context.is_some(),
        money_untold: false,
    }
}

/// Taken back together with everything that it paid for.
fn revoked_at(items: &[Item], order_id: &str) -> Option<Instant> {
    let paid = items
        .iter()
        .filter(|item| item.transaction_id.as_deref() == Some(order_id));
    let ends = paid.map(|item| match item.state {
        ItemState::Revoked { at, .. } => Some(at),
        ItemState::Active { .. }
        | ItemState::GracePeriod { .. }
        | ItemState::OnHold { .. }
        | ItemState::Paused { .. }
        | ItemState::Pending
        | ItemState::Expired { .. }
        | ItemState::Owned { .. }
        | ItemState::Unknown { .. } => None,
    });
    let ends: Option<Vec<Instant>> = ends.collect();
    ends?.into_iter().max()
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

fn product(line: &SubscriptionLine) -> StoreProduct {
    StoreProduct {
        product_id: line.product_id.clone(),
        base_plan_id: line
            .offer_details
            .as_ref()
            .and_then(|details| details.base_plan_id.clone()),
    }
}

/// What kind of period the line is in. A promotion counts where it is what makes the price.
fn offer(line: &SubscriptionLine) -> Offer {
    let promoted = line.signup_promotion.is_some();
    let Some(phase) = &line.offer_phase else {
        return match promoted {
            true => Offer::Promotional,
            false => Offer::None,
        };
    };
    match (phase_of(phase), promoted) {
        (Offer::Introductory, true) => Offer::Promotional,
        (offer, _) => offer,
    }
}

fn phase_of(phase: &OfferPhase) -> Offer {
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

impl Reading<'_> {
    fn items(&self) -> Vec<Item> {
        let lines = &self.purchase.line_items;
        let mut items: Vec<Item> = Vec::with_capacity(lines.len());
        for line in lines.iter().filter(|line| !waits_for_its_turn(line, lines)) {
            let mut item = self.item(line);
            if items.iter().any(|other| other.key == item.key) {
                // Two plans of one product, when one follows the other.
                let plan = item.product.base_plan_id.as_deref().unwrap_or_default();
                item.key = format!("{}:{plan}", item.key);
            }
            items.push(item);
        }
        items
    }

    fn item(&self, line: &SubscriptionLine) -> Item {
        let order = line
            .latest_successful_order_id
            .as_ref()
            .or(self.purchase.latest_order_id.as_ref());
        let paid = self.paid(line);
        Item {
            key: line.product_id.clone(),
            product: product(line),
            kind: ItemKind::Subscription,
            state: self.line_state(line),
            offer: offer(line),
            started_at: paid.map(|(from, _)| from).or(self.purchase.start_time),
            transaction_id: order.cloned(),
            pending_product: self.pending_product(line),
            family_shared: false,
            quantity: 1,
        }
    }

    /// What the line becomes at its end. What was cancelled before its turn came never begins.
    fn pending_product(&self, line: &SubscriptionLine) -> Option<StoreProduct> {
        match self.next(line) {
            Some(next) => renews(next).then(|| product(next)),
            None => replacement(line).map(StoreProduct::new),
        }
    }

    /// The line that begins when this one ends; it is not paid yet.
    fn next(&self, line: &SubscriptionLine) -> Option<&SubscriptionLine> {
        let product_id = replacement(line)?;
        let mut lines = self.purchase.line_items.iter();
        lines.find(|next| next.expiry_time.is_none() && next.product_id == product_id)
    }

    /// Whether the store will charge for it, or for what it becomes.
    fn renews(&self, line: &SubscriptionLine) -> bool {
        renews(self.next(line).unwrap_or(line))
    }

    /// The time that the line's latest order paid for.
    fn paid(&self, line: &SubscriptionLine) -> Option<(Instant, Instant)> {
        let id = line.latest_successful_order_id.as_deref();
        self.orders.period(id, &line.product_id)
    }

    fn line_state(&self, line: &SubscriptionLine) -> ItemState {
        let purchase = self.purchase;
        let word = &purchase.subscription_state;
        // Times that are display only may be missing; an end of access never.
        let ended_at = line
            .expiry_time
            .or(purchase.start_time)
            .unwrap_or(self.fetched_at);
        match (State::parse(word), line.expiry_time) {
            (State::Active | State::Canceled | State::InGracePeriod, None) => ItemState::Unknown {
                said: format!("{word} without expiryTime"),
            },
            (State::Active, Some(expires_at)) if self.renews(line) => ItemState::Active {
                expires_at,
                renewal: Renewal::On,
            },
            (State::InGracePeriod, Some(until)) if self.renews(line) => {
                let paid = self.paid(line).map_or(until, |(_, paid_until)| paid_until);
                ItemState::GracePeriod {
                    expires_at: paid.min(until),
                    until,
                }
            }
            // Add-ons end each at its own time, whatever becomes of the rest.
            (State::Active | State::Canceled | State::InGracePeriod, Some(expires_at)) => {
                let over = expires_at <= self.fetched_at;
                match self.taken_back(line, expires_at).filter(|_| over) {
                    Some(revoked) => revoked,
                    None => ItemState::Active {
                        expires_at,
                        renewal: Renewal::Off,
                    },
                }
            }
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
            (State::Expired, _) => {
                self.taken_back(line, ended_at)
                    .unwrap_or_else(|| ItemState::Expired {
                        at: ended_at,
                        reason: expiry_reason(purchase, line),
                    })
            }
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

    /// Money of the current period went back, and the line ended before that period did: a refund
    /// with the end of access, whether or not its notification came through.
    fn taken_back(&self, line: &SubscriptionLine, ended_at: Instant) -> Option<ItemState> {
        let order = self
            .orders
            .get(line.latest_successful_order_id.as_deref())?;
        orders::refund(order)?;
        let (_, paid_until) = self.paid(line)?;
        (ended_at < paid_until).then_some(ItemState::Revoked {
            at: ended_at,
            reason: RevocationReason::Refunded,
        })
    }
}

fn renews(line: &SubscriptionLine) -> bool {
    let Some(plan) = &line.auto_renewing_plan else {
        return false;
    };
    let installments = plan.installment_details.as_ref();
    // A customer who has canceled goes on paying until the commitment is over.
    let last = installments.is_some_and(|plan| {
        plan.pending_cancellation.is_some() && plan.remaining_committed_payments_count <= 0
    });
    plan.auto_renew_enabled && !last && line.deferred_item_removal.is_none()
}

/// Only for people: a refund by the developer also looks like a cancellation by the user. What was
/// taken back is known from orders and voids.
fn expiry_reason(purchase: &SubscriptionPurchase, line: &SubscriptionLine) -> ExpiryReason {
    let Some(context) = &purchase.canceled_state_context else {
        return ExpiryReason::Other;
    };
    let plan = line.auto_renewing_plan.as_ref();
    if context.replacement_cancellation.is_some() {
        ExpiryReason::Replaced
    } else if context.system_initiated_cancellation.is_some() {
        match plan.is_some_and(price_not_agreed) {
            true => ExpiryReason::PriceIncreaseDeclined,
            false => ExpiryReason::BillingError,
        }
    } else if context.user_initiated_cancellation.is_some() {
        ExpiryReason::Canceled
    } else {
        ExpiryReason::Other
    }
}

/// A price that the customer had to agree to, and did not.
fn price_not_agreed(plan: &AutoRenewingPlan) -> bool {
    let change = plan.price_change_details.as_ref().is_some_and(|change| {
        change.price_change_mode == "PRICE_INCREASE"
            && matches!(
                change.price_change_state.as_str(),
                "OUTSTANDING" | "CANCELED"
            )
    });
    let step = plan.price_step_up_consent_details.as_ref();
    change || step.is_some_and(|step| step.state == "PENDING")
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
