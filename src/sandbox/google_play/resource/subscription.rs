//! `SubscriptionPurchaseV2`.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::super::super::setup::{Environment, StoreSetup, storefront};
use super::super::action::{CancelReason, CancelSurvey, Promotion};
use super::super::purchase::{OutOfApp, Purchase};
use super::super::subscription::{Cancellation, Phase, Subscription, SubscriptionState};
use super::line_item::line_item;
use super::{acknowledgement, time};

/// `SubscriptionPurchaseV2`; `None` for one-time purchases.
pub(in super::super) fn subscription(
    purchase: &Purchase,
    setup: &StoreSetup,
    now: DateTime<Utc>,
) -> Option<Value> {
    let subscription = purchase.subscription()?;
    let pending_order = purchase.pending_order_id();
    let line = |item| line_item(item, purchase, setup, now);
    let mut resource = json!({
        "kind": "androidpublisher#subscriptionPurchaseV2",
        "etag": purchase.etag(),
        "regionCode": storefront(&purchase.currency).2,
        "subscriptionState": state(subscription.state(now)),
        "acknowledgementState": acknowledgement(purchase),
        // Deprecated, still sent; a failed renewal shows its own order here.
        "latestOrderId": pending_order.unwrap_or(purchase.latest_order_id()),
        "lineItems": subscription.items.iter().map(line).collect::<Vec<_>>(),
    });
    if let Some(at) = purchase.started_at {
        resource["startTime"] = json!(time(at));
    }
    if let Some(linked) = &purchase.linked_token {
        resource["linkedPurchaseToken"] = json!(linked);
    }
    let account = purchase.obfuscated_account_id.as_ref();
    let profile = purchase.obfuscated_profile_id.as_ref();
    if account.is_some() || profile.is_some() {
        resource["externalAccountIdentifiers"] = accounts(account, profile);
    }
    if let Some(context) = purchase
        .out_of_app
        .as_ref()
        .filter(|_| !purchase.acknowledged)
    {
        resource["outOfAppPurchaseContext"] = out_of_app(context);
    }
    if let Some(promotion) = &purchase.promotion {
        resource["lineItems"][0]["signupPromotion"] = signup_promotion(promotion);
    }
    if setup.environment == Environment::Sandbox {
        resource["testPurchase"] = json!({});
    }
    if let Some((field, context)) = state_context(subscription, pending_order, now) {
        resource[field] = context;
    }
    Some(resource)
}

const fn state(state: SubscriptionState) -> &'static str {
    match state {
        SubscriptionState::Pending => "SUBSCRIPTION_STATE_PENDING",
        SubscriptionState::Active => "SUBSCRIPTION_STATE_ACTIVE",
        SubscriptionState::Paused => "SUBSCRIPTION_STATE_PAUSED",
        SubscriptionState::InGracePeriod => "SUBSCRIPTION_STATE_IN_GRACE_PERIOD",
        SubscriptionState::OnHold => "SUBSCRIPTION_STATE_ON_HOLD",
        SubscriptionState::Canceled => "SUBSCRIPTION_STATE_CANCELED",
        SubscriptionState::Expired => "SUBSCRIPTION_STATE_EXPIRED",
        SubscriptionState::PendingPurchaseCanceled => {
            "SUBSCRIPTION_STATE_PENDING_PURCHASE_CANCELED"
        }
    }
}

fn accounts(account: Option<&String>, profile: Option<&String>) -> Value {
    let mut accounts = json!({});
    if let Some(account) = account {
        accounts["obfuscatedExternalAccountId"] = json!(account);
    }
    if let Some(profile) = profile {
        accounts["obfuscatedExternalProfileId"] = json!(profile);
    }
    accounts
}

fn signup_promotion(promotion: &Promotion) -> Value {
    match promotion {
        Promotion::OneTimeCode => json!({"oneTimeCode": {}}),
        Promotion::VanityCode(code) => json!({"vanityCode": {"promotionCode": code}}),
    }
}

fn out_of_app(context: &OutOfApp) -> Value {
    let account = context.expired_account_id.as_ref();
    let profile = context.expired_profile_id.as_ref();
    json!({
        "expiredExternalAccountIdentifiers": accounts(account, profile),
        "expiredPurchaseToken": context.expired_token,
    })
}

/// The field that only this state has.
fn state_context(
    subscription: &Subscription,
    pending_order: Option<&str>,
    now: DateTime<Utc>,
) -> Option<(&'static str, Value)> {
    let declined = json!({"renewalDeclined": {"pendingOrderId": pending_order}});
    match subscription.state(now) {
        SubscriptionState::Pending
        | SubscriptionState::Active
        | SubscriptionState::PendingPurchaseCanceled => None,
        SubscriptionState::InGracePeriod => Some(("inGracePeriodStateContext", declined)),
        SubscriptionState::OnHold => Some(("onHoldStateContext", declined)),
        SubscriptionState::Paused => match subscription.phase {
            Phase::Paused { until } => {
                Some(("pausedStateContext", json!({"autoResumeTime": time(until)})))
            }
            Phase::Pending
            | Phase::PendingCanceled
            | Phase::Active
            | Phase::SilentGrace { .. }
            | Phase::Grace { .. }
            | Phase::Hold { .. }
            | Phase::Expired => None,
        },
        SubscriptionState::Canceled | SubscriptionState::Expired => {
            let context = match &subscription.cancellation {
                Some(cancellation) => canceled(cancellation),
                // A prepaid plan runs out without being cancelled.
                None if subscription.prepaid() => return None,
                None => canceled(&Cancellation::System),
            };
            Some(("canceledStateContext", context))
        }
    }
}

fn canceled(cancellation: &Cancellation) -> Value {
    match cancellation {
        Cancellation::User { at, survey } => {
            let mut user = json!({"cancelTime": time(*at)});
            if let Some(survey) = survey {
                user["cancelSurveyResult"] = survey_result(survey);
            }
            json!({"userInitiatedCancellation": user})
        }
        Cancellation::Developer { .. } => json!({"developerInitiatedCancellation": {}}),
        Cancellation::Replacement => json!({"replacementCancellation": {}}),
        Cancellation::System => json!({"systemInitiatedCancellation": {}}),
    }
}

fn survey_result(survey: &CancelSurvey) -> Value {
    let reason = match survey.reason {
        CancelReason::NotEnoughUsage => "CANCEL_SURVEY_REASON_NOT_ENOUGH_USAGE",
        CancelReason::TechnicalIssues => "CANCEL_SURVEY_REASON_TECHNICAL_ISSUES",
        CancelReason::CostRelated => "CANCEL_SURVEY_REASON_COST_RELATED",
        CancelReason::FoundBetterApp => "CANCEL_SURVEY_REASON_FOUND_BETTER_APP",
        CancelReason::Others => "CANCEL_SURVEY_REASON_OTHERS",
    };
    let mut result = json!({"reason": reason});
    if let (CancelReason::Others, Some(comment)) = (survey.reason, &survey.comment) {
        result["reasonUserInput"] = json!(comment);
    }
    result
}
