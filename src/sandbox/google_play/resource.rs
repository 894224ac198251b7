//! Google's resources: subscription, one-time purchase, order; fields as the Developer API has them.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::super::setup::{Environment, StoreSetup, storefront};
use super::purchase::{Cancellation, Content, Order, Purchase, Subscription, SubscriptionState};

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// `Money`: whole units as a string, the rest in billionths.
fn money(micros: i64, currency: &str) -> Value {
    json!({
        "currencyCode": currency,
        "units": (micros / 1_000_000).to_string(),
        "nanos": micros % 1_000_000 * 1_000,
    })
}

impl SubscriptionState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "SUBSCRIPTION_STATE_ACTIVE",
            Self::Canceled => "SUBSCRIPTION_STATE_CANCELED",
            Self::InGracePeriod => "SUBSCRIPTION_STATE_IN_GRACE_PERIOD",
            Self::OnHold => "SUBSCRIPTION_STATE_ON_HOLD",
            Self::Expired => "SUBSCRIPTION_STATE_EXPIRED",
        }
    }
}

fn acknowledgement(purchase: &Purchase) -> &'static str {
    match purchase.acknowledged {
        true => "ACKNOWLEDGEMENT_STATE_ACKNOWLEDGED",
        false => "ACKNOWLEDGEMENT_STATE_PENDING",
    }
}

/// `SubscriptionPurchaseV2`; `None` for one-time purchases.
pub(super) fn subscription(
    purchase: &Purchase,
    setup: &StoreSetup,
    now: DateTime<Utc>,
) -> Option<Value> {
    let subscription = purchase.subscription()?;
    let state = subscription.state(now);
    let latest_order = match subscription.declined() {
        true => purchase.next_order_id(),
        false => purchase.latest_order_id().to_owned(),
    };
    let mut resource = json!({
        "kind": "androidpublisher#subscriptionPurchaseV2",
        "startTime": time(purchase.started_at),
        "regionCode": storefront(&purchase.currency).2,
        "subscriptionState": state.as_str(),
        "acknowledgementState": acknowledgement(purchase),
        "latestOrderId": latest_order,
        "lineItems": [line_item(purchase, subscription, setup)],
    });
    if let Some(linked) = &purchase.linked_token {
        resource["linkedPurchaseToken"] = json!(linked);
    }
    if let Some(account) = &purchase.obfuscated_account_id {
        resource["externalAccountIdentifiers"] = json!({"obfuscatedExternalAccountId": account});
    }
    if let Some(context) = &purchase.out_of_app {
        let mut accounts = json!({});
        if let Some(account) = &context.expired_account_id {
            accounts["obfuscatedExternalAccountId"] = json!(account);
        }
        resource["outOfAppPurchaseContext"] = json!({
            "expiredExternalAccountIdentifiers": accounts,
            "expiredPurchaseToken": context.expired_token,
        });
    }
    if setup.environment == Environment::Sandbox {
        resource["testPurchase"] = json!({});
    }
    let pending = json!({"renewalDeclined": {"pendingOrderId": purchase.next_order_id()}});
    match state {
        SubscriptionState::Active => {}
        SubscriptionState::InGracePeriod => resource["inGracePeriodStateContext"] = pending,
        SubscriptionState::OnHold => resource["onHoldStateContext"] = pending,
        SubscriptionState::Canceled | SubscriptionState::Expired => {
            resource["canceledStateContext"] = canceled(subscription);
        }
    }
    Some(resource)
}

fn canceled(subscription: &Subscription) -> Value {
    match subscription.cancellation {
        Some(Cancellation::User { at }) => {
            json!({"userInitiatedCancellation": {"cancelTime": time(at)}})
        }
        Some(Cancellation::Replacement) => json!({"replacementCancellation": {}}),
        Some(Cancellation::System) | None => json!({"systemInitiatedCancellation": {}}),
    }
}

fn line_item(purchase: &Purchase, subscription: &Subscription, setup: &StoreSetup) -> Value {
    let plan_id = subscription.base_plan_id.as_str();
    let mut plan = json!({});
    // Google leaves a false boolean out.
    if subscription.auto_renew {
        plan["autoRenewEnabled"] = json!(true);
    }
    if let Some(product) = setup.google_play_product(&purchase.product_id, Some(plan_id)) {
        plan["recurringPrice"] = money(product.price_micros, &product.currency);
    }
    let mut offer = json!({"basePlanId": plan_id});
    let mut phase = json!({"basePrice": {}});
    if subscription.trial.is_some() {
        offer["offerId"] = json!("free-trial");
        phase = json!({"freeTrial": {}});
    }
    json!({
        "productId": purchase.product_id,
        "expiryTime": time(subscription.expiry),
        "latestSuccessfulOrderId": purchase.latest_order_id(),
        "autoRenewingPlan": plan,
        "offerDetails": offer,
        "offerPhase": phase,
    })
}

/// `ProductPurchaseV2`; `None` for subscriptions.
pub(super) fn product(purchase: &Purchase, setup: &StoreSetup) -> Option<Value> {
    let Content::OneTime {
        consumed,
        cancelled,
    } = &purchase.content
    else {
        return None;
    };
    let consumption = match consumed {
        true => "CONSUMPTION_STATE_CONSUMED",
        false => "CONSUMPTION_STATE_YET_TO_BE_CONSUMED",
    };
    let state = match cancelled {
        true => "CANCELLED",
        false => "PURCHASED",
    };
    let mut resource = json!({
        "kind": "androidpublisher#productPurchaseV2",
        "orderId": purchase.latest_order_id(),
        "purchaseStateContext": {"purchaseState": state},
        "purchaseCompletionTime": time(purchase.started_at),
        "acknowledgementState": acknowledgement(purchase),
        "regionCode": storefront(&purchase.currency).2,
        "productLineItem": [{
            "productId": purchase.product_id,
            "productOfferDetails": {
                "purchaseOptionId": "buy",
                "quantity": 1,
                "refundableQuantity": if *cancelled { 0 } else { 1 },
                "consumptionState": consumption,
            },
        }],
    });
    if let Some(account) = &purchase.obfuscated_account_id {
        resource["obfuscatedExternalAccountId"] = json!(account);
    }
    if setup.environment == Environment::Sandbox {
        resource["testPurchaseContext"] = json!({"fopType": "TEST"});
    }
    Some(resource)
}

/// `Order`.
pub(super) fn order(purchase: &Purchase, order: &Order) -> Value {
    let price = money(order.price_micros, &purchase.currency);
    let zero = money(0, &purchase.currency);
    let mut item = json!({
        "productId": purchase.product_id,
        "listingPrice": price,
        "total": price,
        "tax": zero,
    });
    match (purchase.subscription(), order.until) {
        (Some(subscription), Some(until)) => {
            item["subscriptionDetails"] = json!({
                "basePlanId": subscription.base_plan_id,
                "servicePeriodStartTime": time(order.at),
                "servicePeriodEndTime": time(until),
            });
        }
        _ => item["oneTimePurchaseDetails"] = json!({"quantity": 1, "purchaseOptionId": "buy"}),
    }
    let mut history = json!({"processedEvent": {"eventTime": time(order.at)}});
    if let Some(at) = order.refunded_at {
        history["refundEvent"] = json!({
            "eventTime": time(at),
            "refundReason": "OTHER",
            "refundDetails": {"total": price, "tax": zero},
        });
    }
    json!({
        "orderId": order.id,
        "purchaseToken": purchase.token,
        "state": if order.refunded_at.is_some() { "REFUNDED" } else { "PROCESSED" },
        "createTime": time(order.at),
        "lastEventTime": time(order.refunded_at.unwrap_or(order.at)),
        "total": price,
        "tax": zero,
        "developerRevenueInBuyerCurrency": money(order.price_micros / 100 * 85, &purchase.currency),
        "salesChannel": "IN_APP",
        "lineItems": [item],
        "orderHistory": history,
    })
}
