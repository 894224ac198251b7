//! `ProductPurchase`, the older resource of one-time products, told from the newer one.

use serde_json::{Value, json};

use super::purchase::Purchase;

/// Position of the value's name in the list that the older API numbers; pending and unknown states
/// never look like something better.
fn position(value: &Value, names: &[&str]) -> usize {
    let found = names.iter().position(|name| value == name);
    found.unwrap_or(names.len().saturating_sub(1))
}

/// The same purchase in the older shape. `current` is its `ProductPurchaseV2`.
pub(super) fn of(purchase: &Purchase, current: &Value) -> Value {
    let item = &current["productLineItem"][0];
    let offer = &item["productOfferDetails"];
    let state = &current["purchaseStateContext"]["purchaseState"];
    let mut resource = json!({
        "kind": "androidpublisher#productPurchase",
        "purchaseTimeMillis": purchase.bought_at.timestamp_millis().to_string(),
        "purchaseState": position(state, &["PURCHASED", "CANCELLED", "PENDING"]),
        "consumptionState": u8::from(offer["consumptionState"] == "CONSUMPTION_STATE_CONSUMED"),
        "acknowledgementState": u8::from(
            current["acknowledgementState"] == "ACKNOWLEDGEMENT_STATE_ACKNOWLEDGED",
        ),
        "purchaseToken": purchase.token,
        "productId": item["productId"],
    });
    let same = [
        ("orderId", &current["orderId"]),
        ("regionCode", &current["regionCode"]),
        ("quantity", &offer["quantity"]),
        ("refundableQuantity", &offer["refundableQuantity"]),
        (
            "obfuscatedExternalAccountId",
            &current["obfuscatedExternalAccountId"],
        ),
        (
            "obfuscatedExternalProfileId",
            &current["obfuscatedExternalProfileId"],
        ),
    ];
    for (name, value) in same.into_iter().filter(|(_, value)| !value.is_null()) {
        resource[name] = value.clone();
    }
    if let Some(payload) = &purchase.developer_payload {
        resource["developerPayload"] = json!(payload);
    }
    // A purchase in the ordinary way has no type.
    if current["testPurchaseContext"].is_object() {
        resource["purchaseType"] = json!(0);
    } else if purchase.given_away() {
        resource["purchaseType"] = json!(1);
    }
    resource
}
