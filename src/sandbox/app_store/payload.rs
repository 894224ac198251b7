//! Apple's documents: transaction, renewal info, notification; fields and units as Apple writes them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::delivery::{DeliveryState, Notification, NotificationRecord, Source};
use super::super::error::SandboxError;
use super::super::keys::Keys;
use super::super::setup::{AppStoreKind, Environment, StoreSetup, storefront};
use super::lifecycle::{Chain, Phase};
use super::{Signal, Transaction};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TransactionPayload<'a> {
    transaction_id: &'a str,
    original_transaction_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    web_order_line_item_id: Option<&'a str>,
    bundle_id: &'a str,
    product_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription_group_identifier: Option<&'a str>,
    purchase_date: i64,
    original_purchase_date: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_date: Option<i64>,
    quantity: u8,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_account_token: Option<Uuid>,
    in_app_ownership_type: &'static str,
    signed_date: i64,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    revocation: Option<Revocation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_upgraded: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    offer: Option<Offer>,
    environment: &'static str,
    storefront: &'static str,
    storefront_id: &'static str,
    transaction_reason: &'static str,
    price: i64,
    currency: &'a str,
    app_transaction_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Revocation {
    revocation_date: i64,
    revocation_reason: u8,
    revocation_type: &'static str,
    /// Thousandths of a percent.
    revocation_percentage: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Offer {
    offer_type: u8,
    offer_discount_type: &'static str,
    offer_period: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RenewalPayload<'a> {
    original_transaction_id: &'a str,
    product_id: &'a str,
    auto_renew_product_id: &'a str,
    auto_renew_status: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    renewal_price: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration_intent: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_in_billing_retry_period: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_period_expires_date: Option<i64>,
    signed_date: i64,
    environment: &'static str,
    recent_subscription_start_date: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    renewal_date: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_account_token: Option<Uuid>,
    app_transaction_id: &'a str,
}

/// The decoded payload of a signed transaction.
pub(super) fn transaction(
    chain: &Chain,
    transaction: &Transaction,
    setup: &StoreSetup,
    signed_at: DateTime<Utc>,
) -> Result<Value, SandboxError> {
    let (storefront, storefront_id, _) = storefront(&transaction.currency);
    let first = chain.transactions.first().unwrap_or(transaction);
    encode(&TransactionPayload {
        transaction_id: &transaction.id,
        original_transaction_id: &chain.original_transaction_id,
        web_order_line_item_id: transaction.web_order_line_item_id.as_deref(),
        bundle_id: &setup.bundle_id,
        product_id: &transaction.product_id,
        subscription_group_identifier: chain.subscription.as_ref().map(|s| s.group.as_str()),
        purchase_date: transaction.purchased_at.timestamp_millis(),
        original_purchase_date: first.purchased_at.timestamp_millis(),
        expires_date: transaction.expires_at.map(|at| at.timestamp_millis()),
        quantity: 1,
        r#type: product_type(chain, transaction, setup),
        app_account_token: chain.app_account_token,
        in_app_ownership_type: "PURCHASED",
        signed_date: signed_at.timestamp_millis(),
        revocation: transaction.revoked_at.map(|at| Revocation {
            revocation_date: at.timestamp_millis(),
            revocation_reason: 0,
            revocation_type: "REFUND_FULL",
            revocation_percentage: 100_000,
        }),
        is_upgraded: transaction.upgraded.then_some(true),
        offer: transaction.trial.map(|period| Offer {
            offer_type: 1,
            offer_discount_type: "FREE_TRIAL",
            offer_period: period.to_string(),
        }),
        environment: setup.environment.as_str(),
        storefront,
        storefront_id,
        transaction_reason: match transaction.renewal {
            true => "RENEWAL",
            false => "PURCHASE",
        },
        price: transaction.price_milliunits,
        currency: &transaction.currency,
        app_transaction_id: &chain.app_transaction_id,
    })
}

fn product_type(chain: &Chain, transaction: &Transaction, setup: &StoreSetup) -> &'static str {
    if chain.subscription.is_some() {
        return "Auto-Renewable Subscription";
    }
    match setup.app_store_product(&transaction.product_id) {
        Some(product) if product.kind == AppStoreKind::Consumable => "Consumable",
        _ => "Non-Consumable",
    }
}

/// The decoded payload of a subscription's renewal info; `None` for one-time purchases.
pub(super) fn renewal(
    chain: &Chain,
    setup: &StoreSetup,
    signed_at: DateTime<Utc>,
) -> Result<Option<Value>, SandboxError> {
    let (Some(subscription), Some(latest)) = (&chain.subscription, chain.latest()) else {
        return Ok(None);
    };
    let expires = latest.expires_at.unwrap_or(latest.purchased_at);
    let next = setup
        .app_store_product(&subscription.renews_to)
        .filter(|_| subscription.auto_renew);
    let (intent, retrying, grace) = match subscription.phase {
        Phase::Active | Phase::Declined | Phase::Revoked => (None, None, None),
        Phase::Grace { until } => (Some(2), Some(true), Some(until)),
        Phase::Retry { .. } => (Some(2), Some(true), None),
        Phase::Expired { intent } => (Some(intent), Some(false), None),
    };
    encode(&RenewalPayload {
        original_transaction_id: &chain.original_transaction_id,
        product_id: &latest.product_id,
        auto_renew_product_id: &subscription.renews_to,
        auto_renew_status: subscription.auto_renew.into(),
        renewal_price: next.map(|product| product.price_milliunits),
        currency: next.map(|product| product.currency.as_str()),
        expiration_intent: intent,
        is_in_billing_retry_period: retrying,
        grace_period_expires_date: grace.map(|at| at.timestamp_millis()),
        signed_date: signed_at.timestamp_millis(),
        environment: setup.environment.as_str(),
        recent_subscription_start_date: subscription.since.timestamp_millis(),
        renewal_date: next.map(|_| expires.timestamp_millis()),
        app_account_token: chain.app_account_token,
        app_transaction_id: &chain.app_transaction_id,
    })
    .map(Some)
}

/// What a notification about a chain is written from.
pub(super) struct About<'a> {
    pub(super) chain: &'a Chain,
    pub(super) setup: &'a StoreSetup,
    pub(super) keys: &'a Keys,
    pub(super) now: DateTime<Utc>,
    pub(super) signed_at: DateTime<Utc>,
}

impl About<'_> {
    /// The body of a notification: three signed documents in one.
    pub(super) fn notification(&self, id: &str, signal: &Signal) -> Result<String, SandboxError> {
        let about = self.chain.transaction(&signal.transaction_id);
        let about = about.ok_or(SandboxError::UnknownPurchase)?;
        let inner = transaction(self.chain, about, self.setup, self.signed_at)?;
        let mut data = json!({
            "appAppleId": self.setup.app_apple_id,
            "bundleId": self.setup.bundle_id,
            "bundleVersion": "1",
            "environment": self.setup.environment.as_str(),
            "signedTransactionInfo": self.keys.apple.sign(&inner)?,
        });
        if let Some(renewal) = renewal(self.chain, self.setup, self.signed_at)? {
            data["signedRenewalInfo"] = json!(self.keys.apple.sign(&renewal)?);
            data["status"] = json!(self.chain.status(self.now));
        }
        let mut payload = json!({
            "notificationType": signal.kind,
            "notificationUUID": id,
            "version": "2.0",
            "signedDate": self.signed_at.timestamp_millis(),
            "data": data,
        });
        if let Some(subtype) = signal.subtype {
            payload["subtype"] = json!(subtype);
        }
        body(self.keys, &payload)
    }
}

/// The body of a TEST notification: no transaction, and no app id in the sandbox.
pub(super) fn test(
    id: &str,
    setup: &StoreSetup,
    keys: &Keys,
    signed_at: DateTime<Utc>,
) -> Result<String, SandboxError> {
    let mut data = json!({
        "bundleId": setup.bundle_id,
        "environment": setup.environment.as_str(),
    });
    if setup.environment == Environment::Production {
        data["appAppleId"] = json!(setup.app_apple_id);
    }
    let payload = json!({
        "notificationType": "TEST",
        "notificationUUID": id,
        "version": "2.0",
        "signedDate": signed_at.timestamp_millis(),
        "data": data,
    });
    body(keys, &payload)
}

fn body(keys: &Keys, payload: &Value) -> Result<String, SandboxError> {
    Ok(json!({"signedPayload": keys.apple.sign(payload)?}).to_string())
}

/// A notification as the outbox keeps it.
pub(super) fn record(
    id: &str,
    kind: &str,
    subtype: Option<&str>,
    purchase: Option<String>,
    created_at: DateTime<Utc>,
    body: String,
) -> Notification {
    Notification::new(NotificationRecord {
        id: id.to_owned(),
        source: Source::AppStore,
        notification_type: kind.to_owned(),
        subtype: subtype.map(ToOwned::to_owned),
        purchase,
        created_at,
        state: DeliveryState::Pending,
        attempts: Vec::new(),
        body,
    })
}

fn encode(value: &impl Serialize) -> Result<Value, SandboxError> {
    serde_json::to_value(value).map_err(SandboxError::Encode)
}
