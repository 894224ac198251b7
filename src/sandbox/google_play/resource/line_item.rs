//! `SubscriptionPurchaseLineItem`.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::super::super::setup::{Plan, StoreSetup};
use super::super::action::{PriceChangeMode, ReplacementMode};
use super::super::item::{Deferred, Installments, Item, OfferPhase, Replaced};
use super::super::prepaid::extendable_after;
use super::super::price::{Consent, ConsentState, PriceChange, PriceChangeState};
use super::super::purchase::Purchase;
use super::{money, time};

/// What an item replaced is shown for this long.
const REPLACEMENT_DAYS: i64 = 60;

pub(super) fn line_item(
    item: &Item,
    purchase: &Purchase,
    setup: &StoreSetup,
    now: DateTime<Utc>,
) -> Value {
    let plan = item.plan(setup);
    let mut offer = json!({"basePlanId": item.base_plan_id});
    if let Some(id) = &item.offer_id {
        offer["offerId"] = json!(id);
    }
    let mut line = json!({"productId": item.product_id, "offerDetails": offer});
    if let Some(expiry) = item.expiry {
        line["expiryTime"] = json!(time(expiry));
        line["offerPhase"] = phase(item);
    }
    if let Some(order) = &item.order_id {
        line["latestSuccessfulOrderId"] = json!(order);
    }
    match item.prepaid {
        true => line["prepaidPlan"] = prepaid(item, plan.as_ref(), now),
        false => line["autoRenewingPlan"] = auto_renewing(item, purchase, plan.as_ref()),
    }
    match &item.deferred {
        Some(Deferred::Replacement { product_id }) => {
            line["deferredItemReplacement"] = json!({"productId": product_id});
        }
        Some(Deferred::Removal) => line["deferredItemRemoval"] = json!({}),
        None => {}
    }
    let recent = |replaced: &&Replaced| now <= replaced.at + TimeDelta::days(REPLACEMENT_DAYS);
    if let Some(replaced) = item.replaced.as_ref().filter(recent) {
        line["itemReplacement"] = replacement(replaced);
    }
    line
}

fn phase(item: &Item) -> Value {
    match item.phase {
        OfferPhase::Base => json!({"basePrice": {}}),
        OfferPhase::FreeTrial => json!({"freeTrial": {}}),
        OfferPhase::Introductory => json!({"introductoryPrice": {}}),
        OfferPhase::Proration => json!({"prorationPeriod": {}}),
        OfferPhase::ProrationOfBase => {
            json!({"prorationPeriod": {"originalOfferPhaseType": "BASE"}})
        }
    }
}

fn prepaid(item: &Item, plan: Option<&Plan<'_>>, now: DateTime<Utc>) -> Value {
    let after = plan.and_then(|plan| extendable_after(item, plan));
    match after.filter(|_| item.lasts(now)) {
        Some(after) => json!({"allowExtendAfterTime": time(after)}),
        None => json!({}),
    }
}

fn auto_renewing(item: &Item, purchase: &Purchase, plan: Option<&Plan<'_>>) -> Value {
    let currency = purchase.currency.as_str();
    let mut shown = json!({"recurringPrice": money(item.price_micros, currency)});
    if item.auto_renew {
        shown["autoRenewEnabled"] = json!(true);
    }
    if let Some(installments) = &item.installments {
        shown["installmentDetails"] = installment_details(installments);
    }
    if let Some(change) = &item.price_change {
        let charged_at = plan.and_then(|plan| item.new_price_at(plan));
        shown["priceChangeDetails"] = price_change(change, charged_at, currency);
    }
    let asked = |consent: &&Consent| consent.state != ConsentState::Scheduled;
    if let Some(consent) = item.consent.as_ref().filter(asked) {
        shown["priceStepUpConsentDetails"] = step_up(consent, currency);
    }
    shown
}

fn installment_details(installments: &Installments) -> Value {
    let mut details = json!({"initialCommittedPaymentsCount": installments.initial});
    if installments.subsequent > 0 {
        details["subsequentCommittedPaymentsCount"] = json!(installments.subsequent);
    }
    if installments.remaining > 0 {
        details["remainingCommittedPaymentsCount"] = json!(installments.remaining);
    }
    if installments.pending_cancellation {
        details["pendingCancellation"] = json!({});
    }
    details
}

fn price_change(change: &PriceChange, charged_at: Option<DateTime<Utc>>, currency: &str) -> Value {
    let mut details = json!({
        "newPrice": money(change.price_micros, currency),
        "priceChangeMode": match change.mode {
            PriceChangeMode::Decrease => "PRICE_DECREASE",
            PriceChangeMode::Increase => "PRICE_INCREASE",
            PriceChangeMode::OptOutIncrease => "OPT_OUT_PRICE_INCREASE",
        },
        "priceChangeState": match change.state {
            PriceChangeState::Outstanding => "OUTSTANDING",
            PriceChangeState::Confirmed => "CONFIRMED",
            PriceChangeState::Applied => "APPLIED",
            PriceChangeState::Canceled => "CANCELED",
        },
    });
    if let Some(at) = charged_at {
        details["expectedNewPriceChargeTime"] = json!(time(at));
    }
    details
}

fn step_up(consent: &Consent, currency: &str) -> Value {
    json!({
        "state": match consent.state {
            ConsentState::Scheduled | ConsentState::Pending => "PENDING",
            ConsentState::Confirmed => "CONFIRMED",
            ConsentState::Completed => "COMPLETED",
        },
        "consentDeadlineTime": time(consent.deadline),
        "newPrice": money(consent.price_micros, currency),
    })
}

fn replacement(replaced: &Replaced) -> Value {
    let mut shown = json!({
        "productId": replaced.product_id,
        "basePlanId": replaced.base_plan_id,
        "replacementMode": match replaced.mode {
            ReplacementMode::WithTimeProration => "WITH_TIME_PRORATION",
            ReplacementMode::ChargeProratedPrice => "CHARGE_PRORATED_PRICE",
            ReplacementMode::WithoutProration => "WITHOUT_PRORATION",
            ReplacementMode::ChargeFullPrice => "CHARGE_FULL_PRICE",
            ReplacementMode::Deferred => "DEFERRED",
            ReplacementMode::KeepExisting => "KEEP_EXISTING",
        },
    });
    if let Some(offer) = &replaced.offer_id {
        shown["offerId"] = json!(offer);
    }
    shown
}
