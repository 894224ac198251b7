//! The lifecycle of Google Play purchases: each kind of notification, with the resource as it shows
//! at that moment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod changes;
mod items;
mod money;
mod payment;
mod plans;
mod prices;
mod shop;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::super::app_store::Billing;
use super::super::error::SandboxError;
use super::super::outcome::Outcome;
use super::super::period::Period;
use super::super::setup::Timing;
use super::super::truth::PurchaseState;
use super::*;
use shop::{Shop, order};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Asserts fields of a resource by JSON pointer; `null` stands for a field that is not there.
fn assert_shows(resource: &Value, fields: &[(&str, Value)]) {
    for (pointer, expected) in fields {
        let shown = resource.pointer(pointer).unwrap_or(&Value::Null);
        assert_eq!(shown, expected, "{pointer} in {resource:#}");
    }
}

const STATE: &str = "/subscriptionState";
const EXPIRY: &str = "/lineItems/0/expiryTime";
const RENEWS: &str = "/lineItems/0/autoRenewingPlan/autoRenewEnabled";
const PHASE: &str = "/lineItems/0/offerPhase";

fn state(name: &str) -> Value {
    json!(format!("SUBSCRIPTION_STATE_{name}"))
}

fn change(old: &str, product: &str, plan: &str, mode: ReplacementMode) -> GooglePlayBuy {
    GooglePlayBuy {
        replaces: Some(old.to_owned()),
        replacement_mode: Some(mode),
        ..order(product, plan)
    }
}

fn usd(micros: i64) -> Value {
    let mut money = json!({"currencyCode": "USD"});
    if micros / 1_000_000 != 0 {
        money["units"] = json!((micros / 1_000_000).to_string());
    }
    if micros % 1_000_000 != 0 {
        money["nanos"] = json!(micros % 1_000_000 * 1_000);
    }
    money
}
