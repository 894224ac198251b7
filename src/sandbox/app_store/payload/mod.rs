//! Apple's signed documents about a purchase: transaction, renewal info, app transaction; fields
//! and units as Apple writes them.

mod renewal;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::super::error::SandboxError;
use super::super::setup::{AppStoreKind, StoreSetup, storefront};
use super::chain::Chain;
use super::transaction::{Revocation, Transaction};
use super::{Customer, offers};
pub(super) use renewal::renewal;

const UPFRONT: &str = "BILLED_UPFRONT";
const MONTHLY: &str = "MONTHLY";

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
    revocation: Option<RevocationFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_upgraded: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    offer: Option<OfferFields<'a>>,
    environment: &'static str,
    storefront: &'static str,
    storefront_id: &'static str,
    transaction_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<&'a str>,
    app_transaction_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    billing_plan_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commitment_info: Option<CommitmentFields>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RevocationFields {
    revocation_date: i64,
    revocation_reason: u8,
    revocation_type: &'static str,
    /// Thousandths of a percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_percentage: Option<u32>,
}

impl From<Revocation> for RevocationFields {
    fn from(revocation: Revocation) -> Self {
        Self {
            revocation_date: revocation.at.timestamp_millis(),
            revocation_reason: revocation.app_issue.into(),
            revocation_type: revocation.kind.as_str(),
            revocation_percentage: revocation.kind.percentage(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfferFields<'a> {
    offer_type: u8,
    offer_discount_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    offer_identifier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offer_period: Option<String>,
}

impl<'a> From<&'a offers::AppliedOffer> for OfferFields<'a> {
    fn from(offer: &'a offers::AppliedOffer) -> Self {
        Self {
            offer_type: offer.kind.code(),
            offer_discount_type: offer.payment.as_str(),
            offer_identifier: offer.id.as_deref(),
            offer_period: offer.period.map(|period| period.to_string()),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CommitmentFields {
    billing_period_number: u8,
    commitment_expires_date: i64,
    commitment_price: i64,
    total_billing_periods: u8,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AppTransactionPayload<'a> {
    receipt_type: &'static str,
    app_apple_id: i64,
    bundle_id: &'a str,
    application_version: &'static str,
    version_external_identifier: i64,
    receipt_creation_date: i64,
    original_purchase_date: i64,
    original_application_version: &'static str,
    device_verification: &'static str,
    device_verification_nonce: &'static str,
    app_transaction_id: &'a str,
    original_platform: &'static str,
}

/// The decoded payload of a signed transaction.
pub(super) fn transaction(
    chain: &Chain,
    transaction: &Transaction,
    setup: &StoreSetup,
    signed_at: DateTime<Utc>,
) -> Result<Value, SandboxError> {
    let (storefront, storefront_id, _) = storefront(&transaction.currency);
    let first = chain.transactions.first();
    let first = first.map_or(transaction.purchased_at, |t| t.purchased_at);
    let subscription = chain.subscription.as_ref();
    // The family pays nothing, and Apple writes no price.
    let paid = !chain.sharing.is_shared();
    encode(&TransactionPayload {
        transaction_id: &transaction.id,
        original_transaction_id: &chain.original_transaction_id,
        web_order_line_item_id: transaction.web_order_line_item_id.as_deref(),
        bundle_id: &setup.bundle_id,
        product_id: &transaction.product_id,
        subscription_group_identifier: subscription.map(|s| s.group.as_str()),
        purchase_date: transaction.purchased_at.timestamp_millis(),
        original_purchase_date: first.timestamp_millis(),
        expires_date: transaction.expires_at.map(|at| at.timestamp_millis()),
        quantity: transaction.quantity,
        r#type: product_type(chain, transaction, setup).as_str(),
        app_account_token: transaction.app_account_token,
        in_app_ownership_type: chain.sharing.as_str(),
        signed_date: signed_at.timestamp_millis(),
        revocation: transaction.revocation.map(RevocationFields::from),
        is_upgraded: transaction.upgraded.then_some(true),
        offer: transaction.offer.as_ref().map(OfferFields::from),
        environment: setup.environment.as_str(),
        storefront,
        storefront_id,
        transaction_reason: match transaction.renewal {
            true => "RENEWAL",
            false => "PURCHASE",
        },
        price: paid.then_some(transaction.price_milliunits),
        currency: paid.then_some(transaction.currency.as_str()),
        app_transaction_id: &chain.app_transaction_id,
        billing_plan_type: subscription.map(|_| plan_name(transaction.commitment.is_some())),
        commitment_info: transaction.commitment.map(|period| CommitmentFields {
            billing_period_number: period.number,
            commitment_expires_date: period.expires_at.timestamp_millis(),
            commitment_price: period.price_milliunits,
            total_billing_periods: period.total,
        }),
    })
}

const fn plan_name(monthly: bool) -> &'static str {
    match monthly {
        true => MONTHLY,
        false => UPFRONT,
    }
}

/// What kind of product a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProductType {
    AutoRenewable,
    NonRenewing,
    Consumable,
    NonConsumable,
}

impl ProductType {
    /// Apple's `type`.
    const fn as_str(self) -> &'static str {
        match self {
            Self::AutoRenewable => "Auto-Renewable Subscription",
            Self::NonRenewing => "Non-Renewing Subscription",
            Self::Consumable => "Consumable",
            Self::NonConsumable => "Non-Consumable",
        }
    }
}

pub(super) fn product_type(
    chain: &Chain,
    transaction: &Transaction,
    setup: &StoreSetup,
) -> ProductType {
    if chain.subscription.is_some() {
        return ProductType::AutoRenewable;
    }
    let product = setup.app_store_product(&transaction.product_id);
    match product.map(|product| &product.kind) {
        Some(AppStoreKind::Consumable) => ProductType::Consumable,
        Some(AppStoreKind::NonRenewing) => ProductType::NonRenewing,
        Some(AppStoreKind::NonConsumable | AppStoreKind::AutoRenewable { .. }) | None => {
            ProductType::NonConsumable
        }
    }
}

/// The decoded payload of a customer's signed app transaction.
pub(super) fn app_transaction(
    customer: &Customer,
    setup: &StoreSetup,
    signed_at: DateTime<Utc>,
) -> Result<Value, SandboxError> {
    encode(&AppTransactionPayload {
        receipt_type: setup.environment.as_str(),
        app_apple_id: setup.app_apple_id,
        bundle_id: &setup.bundle_id,
        application_version: "1",
        version_external_identifier: 0,
        receipt_creation_date: signed_at.timestamp_millis(),
        original_purchase_date: customer.since.timestamp_millis(),
        original_application_version: "1",
        // No device asks; a server cannot check these, and Apple's libraries do not.
        device_verification: "",
        device_verification_nonce: "00000000-0000-4000-8000-000000000000",
        app_transaction_id: &customer.app_transaction_id,
        original_platform: "iOS",
    })
}

fn encode(value: &impl Serialize) -> Result<Value, SandboxError> {
    serde_json::to_value(value).map_err(SandboxError::Encode)
}
