//! `ProductPurchaseV2`.

use serde_json::{Value, json};

use super::super::super::setup::{Environment, StoreSetup, storefront};
use super::super::purchase::{Content, OneTimeState, Purchase};
use super::{acknowledgement, time};

/// The purchase option of every one-time product; the simulator's have no others.
pub(super) const PURCHASE_OPTION: &str = "buy";

/// `ProductPurchaseV2`; `None` for subscriptions.
pub(in super::super) fn product(purchase: &Purchase, setup: &StoreSetup) -> Option<Value> {
    let bought = match &purchase.content {
        Content::OneTime(bought) => bought,
        Content::Subscription(_) => return None,
    };
    let consumption = match bought.consumed {
        true => "CONSUMPTION_STATE_CONSUMED",
        false => "CONSUMPTION_STATE_YET_TO_BE_CONSUMED",
    };
    let state = match bought.state {
        OneTimeState::Pending => "PENDING",
        OneTimeState::Purchased => "PURCHASED",
        OneTimeState::Cancelled => "CANCELLED",
    };
    let mut resource = json!({
        "kind": "androidpublisher#productPurchaseV2",
        "purchaseStateContext": {"purchaseState": state},
        "acknowledgementState": acknowledgement(purchase),
        "regionCode": storefront(&purchase.currency).2,
        "productLineItem": [{
            "productId": purchase.product_id,
            "productOfferDetails": {
                "purchaseOptionId": PURCHASE_OPTION,
                "quantity": bought.quantity,
                "refundableQuantity": bought.refundable(),
                "consumptionState": consumption,
            },
        }],
    });
    if !purchase.given_away() {
        resource["orderId"] = json!(purchase.latest_order_id());
    }
    if let Some(at) = purchase.started_at {
        resource["purchaseCompletionTime"] = json!(time(at));
    }
    if let Some(account) = &purchase.obfuscated_account_id {
        resource["obfuscatedExternalAccountId"] = json!(account);
    }
    if let Some(profile) = &purchase.obfuscated_profile_id {
        resource["obfuscatedExternalProfileId"] = json!(profile);
    }
    if setup.environment == Environment::Sandbox {
        resource["testPurchaseContext"] = json!({"fopType": "TEST"});
    }
    Some(resource)
}
