//! Apple's notifications: what is told, around the signed documents it is about.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::super::delivery::{DeliveryState, Notification, NotificationRecord, Source};
use super::super::error::SandboxError;
use super::super::keys::Keys;
use super::super::setup::{Environment, StoreSetup};
use super::action::{ExternalPurchaseKind, RefundReason};
use super::chain::Chain;
use super::extension::MassExtensionResult;
use super::shelf::Shelf;
use super::{Customer, Signal, payload};

/// Days for which a token for purchases outside the App Store is good.
const EXTERNAL_TOKEN_DAYS: i64 = 365;

/// Whom a notification is from, and when.
#[derive(Clone, Copy)]
pub(super) struct Letterhead<'a> {
    /// Apple's `notificationUUID`.
    pub(super) id: &'a str,
    pub(super) setup: &'a StoreSetup,
    pub(super) keys: &'a Keys,
    pub(super) now: DateTime<Utc>,
    pub(super) signed_at: DateTime<Utc>,
}

impl Letterhead<'_> {
    /// What happened to a chain: three signed documents in one.
    pub(super) fn about_chain(
        &self,
        chain: &Chain,
        shelf: &Shelf<'_>,
        signal: &Signal,
    ) -> Result<Notification, SandboxError> {
        let about = chain.transaction(&signal.transaction_id);
        let about = about.ok_or(SandboxError::UnknownPurchase)?;
        let inner = payload::transaction(chain, about, self.setup, self.signed_at)?;
        let mut data = self.app();
        data["bundleVersion"] = json!("1");
        data["signedTransactionInfo"] = json!(self.keys.apple.sign(&inner)?);
        if let Some(renewal) = payload::renewal(chain, shelf, self.signed_at)? {
            data["signedRenewalInfo"] = json!(self.keys.apple.sign(&renewal)?);
            data["status"] = json!(chain.status(self.now));
        }
        if let Some(reason) = signal.consumption_reason {
            data["consumptionRequestReason"] = json!(reason_name(reason));
        }
        let purchase = Some(chain.original_transaction_id.clone());
        self.letter(signal.kind, signal.subtype, ("data", data), purchase)
    }

    /// That notifications arrive: no transaction, and no app id in the sandbox.
    pub(super) fn test(&self) -> Result<Notification, SandboxError> {
        let mut data = json!({
            "bundleId": self.setup.bundle_id,
            "environment": self.setup.environment.as_str(),
        });
        if self.setup.environment == Environment::Production {
            data["appAppleId"] = json!(self.setup.app_apple_id);
        }
        self.letter("TEST", None, ("data", data), None)
    }

    /// That an extension for all subscribers of a product is done.
    pub(super) fn extension_summary(
        &self,
        result: &MassExtensionResult,
    ) -> Result<Notification, SandboxError> {
        let mut summary = self.app();
        summary["requestIdentifier"] = json!(result.request.request_identifier);
        summary["productId"] = json!(result.request.product_id);
        summary["succeededCount"] = json!(result.succeeded);
        summary["failedCount"] = json!(result.failed);
        if !result.request.storefronts.is_empty() {
            summary["storefrontCountryCodes"] = json!(result.request.storefronts);
        }
        let part = ("summary", summary);
        self.letter("RENEWAL_EXTENSION", Some("SUMMARY"), part, None)
    }

    /// That a parent no longer consents to a minor's use of the app.
    pub(super) fn rescind_consent(&self, minor: &Customer) -> Result<Notification, SandboxError> {
        let inner = payload::app_transaction(minor, self.setup, self.signed_at)?;
        let mut data = self.app();
        data["signedAppTransactionInfo"] = json!(self.keys.apple.sign(&inner)?);
        self.letter("RESCIND_CONSENT", None, ("appData", data), None)
    }

    /// What is to be said of a token for purchases outside the App Store.
    pub(super) fn external_purchase(
        &self,
        kind: ExternalPurchaseKind,
        token: &str,
        created_at: DateTime<Utc>,
    ) -> Result<Notification, SandboxError> {
        let expires = created_at + TimeDelta::days(EXTERNAL_TOKEN_DAYS);
        let part = json!({
            "externalPurchaseId": token,
            "tokenCreationDate": created_at.timestamp_millis(),
            "appAppleId": self.setup.app_apple_id,
            "bundleId": self.setup.bundle_id,
            "tokenType": "SERVICES",
            "tokenExpirationDate": expires.timestamp_millis(),
        });
        let subtype = match kind {
            ExternalPurchaseKind::Created => "CREATED",
            ExternalPurchaseKind::Reminder => "ACTIVE_TOKEN_REMINDER",
            ExternalPurchaseKind::Unreported => "UNREPORTED",
        };
        let part = ("externalPurchaseToken", part);
        self.letter("EXTERNAL_PURCHASE_TOKEN", Some(subtype), part, None)
    }

    /// The fields that say which app it is about.
    fn app(&self) -> Value {
        json!({
            "appAppleId": self.setup.app_apple_id,
            "bundleId": self.setup.bundle_id,
            "environment": self.setup.environment.as_str(),
        })
    }

    fn letter(
        &self,
        kind: &str,
        subtype: Option<&str>,
        (name, part): (&str, Value),
        purchase: Option<String>,
    ) -> Result<Notification, SandboxError> {
        let mut payload = json!({
            "notificationType": kind,
            "notificationUUID": self.id,
            "version": "2.0",
            "signedDate": self.signed_at.timestamp_millis(),
        });
        payload[name] = part;
        if let Some(subtype) = subtype {
            payload["subtype"] = json!(subtype);
        }
        let body = json!({"signedPayload": self.keys.apple.sign(&payload)?}).to_string();
        Ok(Notification::new(NotificationRecord {
            id: self.id.to_owned(),
            source: Source::AppStore,
            notification_type: kind.to_owned(),
            subtype: subtype.map(ToOwned::to_owned),
            purchase,
            created_at: self.now,
            state: DeliveryState::Pending,
            sins: Vec::new(),
            attempts: Vec::new(),
            body,
        }))
    }
}

const fn reason_name(reason: RefundReason) -> &'static str {
    match reason {
        RefundReason::UnintendedPurchase => "UNINTENDED_PURCHASE",
        RefundReason::FulfillmentIssue => "FULFILLMENT_ISSUE",
        RefundReason::UnsatisfiedWithPurchase => "UNSATISFIED_WITH_PURCHASE",
        RefundReason::Legal => "LEGAL",
        RefundReason::Other => "OTHER",
    }
}
