//! What the App Store sends, as JSON: signed payloads and the answers of its Server API.
//!
//! Unknown fields are ignored and unknown words kept as they came; neither ever grants anything.

use serde::{Deserialize, Deserializer};

use super::verify::Document;
use crate::domain::time::Instant;

/// A moment: integer milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "i64")]
pub(super) struct Millis(pub(super) Instant);

impl TryFrom<i64> for Millis {
    type Error = &'static str;

    fn try_from(millis: i64) -> Result<Self, Self::Error> {
        Instant::from_timestamp_millis(millis)
            .map(Self)
            .ok_or("not a date")
    }
}

/// Makes an enum of the words that are known and `Unknown` for all others.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
        #[serde(from = "String")]
        pub(super) enum $name {
            $($variant,)+
            Unknown(String),
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                match word.as_str() {
                    $($word => Self::$variant,)+
                    _ => Self::Unknown(word),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)+
                    Self::Unknown(word) => word,
                })
            }
        }
    };
}

words!(
    /// The environments whose documents Apple signs.
    Environment { Production = "Production", Sandbox = "Sandbox" }
);
words!(
    /// What kind of product was bought.
    ProductType {
        AutoRenewable = "Auto-Renewable Subscription",
        NonConsumable = "Non-Consumable",
        Consumable = "Consumable",
        NonRenewing = "Non-Renewing Subscription",
    }
);
words!(
    /// Bought by this customer, or used through family sharing.
    Ownership { Purchased = "PURCHASED", FamilyShared = "FAMILY_SHARED" }
);
words!(
    /// Whether the customer acted or the subscription renewed.
    Reason { Purchase = "PURCHASE", Renewal = "RENEWAL" }
);
words!(
    /// How an offer is paid.
    Discount {
        FreeTrial = "FREE_TRIAL",
        PayAsYouGo = "PAY_AS_YOU_GO",
        PayUpFront = "PAY_UP_FRONT",
        OneTime = "ONE_TIME",
    }
);
words!(
    /// Why a transaction was taken back.
    RevocationType {
        RefundFull = "REFUND_FULL",
        RefundProrated = "REFUND_PRORATED",
        FamilyRevoke = "FAMILY_REVOKE",
    }
);

/// `JWSTransactionDecodedPayload`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Transaction {
    pub(super) transaction_id: String,
    pub(super) original_transaction_id: String,
    pub(super) bundle_id: String,
    pub(super) product_id: String,
    #[serde(rename = "type")]
    pub(super) product_type: ProductType,
    pub(super) environment: Environment,
    pub(super) purchase_date: Millis,
    pub(super) original_purchase_date: Option<Millis>,
    pub(super) expires_date: Option<Millis>,
    #[serde(default, deserialize_with = "integer")]
    pub(super) quantity: Option<i64>,
    pub(super) app_account_token: Option<String>,
    pub(super) in_app_ownership_type: Option<Ownership>,
    pub(super) transaction_reason: Option<Reason>,
    pub(super) revocation_date: Option<Millis>,
    pub(super) revocation_type: Option<RevocationType>,
    /// Thousandths of a percent of the price.
    #[serde(default, deserialize_with = "integer")]
    pub(super) revocation_percentage: Option<i64>,
    /// Only there when true: an upgrade took its place.
    #[serde(default)]
    pub(super) is_upgraded: bool,
    #[serde(default, deserialize_with = "integer")]
    pub(super) offer_type: Option<i64>,
    pub(super) offer_discount_type: Option<Discount>,
    /// Milliunits; money never decides access, so another shape of it is no fault.
    #[serde(default, deserialize_with = "integer")]
    pub(super) price: Option<i64>,
    pub(super) currency: Option<String>,
    /// ISO 3166-1 alpha-3.
    pub(super) storefront: Option<String>,
    pub(super) commitment_info: Option<Commitment>,
    /// What this purchase carries on under another id.
    pub(super) previous_original_transaction_id: Option<String>,
}

/// A year's commitment that is paid by the month.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Commitment {
    pub(super) commitment_expires_date: Option<Millis>,
}

/// `JWSRenewalInfoDecodedPayload`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RenewalInfo {
    pub(super) original_transaction_id: String,
    pub(super) environment: Environment,
    pub(super) auto_renew_product_id: Option<String>,
    #[serde(default, deserialize_with = "integer")]
    pub(super) auto_renew_status: Option<i64>,
    #[serde(default, deserialize_with = "integer")]
    pub(super) expiration_intent: Option<i64>,
    pub(super) grace_period_expires_date: Option<Millis>,
    pub(super) recent_subscription_start_date: Option<Millis>,
    pub(super) app_account_token: Option<String>,
    pub(super) commitment_info: Option<RenewalCommitment>,
}

/// What follows when the commitment ends.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RenewalCommitment {
    #[serde(default, deserialize_with = "integer")]
    pub(super) commitment_auto_renew_status: Option<i64>,
    pub(super) commitment_auto_renew_product_id: Option<String>,
}

/// `responseBodyV2DecodedPayload`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Notification {
    pub(super) notification_type: String,
    pub(super) subtype: Option<String>,
    pub(super) data: Option<NotificationData>,
    #[serde(default)]
    pub(super) summary: Presence,
    #[serde(default)]
    pub(super) external_purchase_token: Presence,
    #[serde(default)]
    pub(super) app_data: Presence,
}

/// The one field of a notification that its authenticity needs, to know it again; all else may be
/// as no version has seen it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct NotificationName {
    #[serde(rename = "notificationUUID")]
    pub(super) uuid: String,
}

/// What a notification is about.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NotificationData {
    pub(super) environment: Environment,
    pub(super) bundle_id: String,
    pub(super) app_apple_id: Option<i64>,
    pub(super) signed_transaction_info: Option<String>,
    pub(super) signed_renewal_info: Option<String>,
    /// Why the customer wants a refund, in Apple's word.
    pub(super) consumption_request_reason: Option<String>,
}

/// Whether an object is there; what it says is of no consequence here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Presence(pub(super) bool);

impl<'de> Deserialize<'de> for Presence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<serde::de::IgnoredAny>::deserialize(deserializer)
            .map(|value| Self(value.is_some()))
    }
}

/// What is posted to the webhook.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NotificationBody {
    pub(super) signed_payload: String,
}

/// `StatusResponse`: all subscriptions of the customer, whichever of their ids was asked for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusResponse {
    pub(super) environment: Environment,
    pub(super) bundle_id: String,
    pub(super) app_apple_id: Option<i64>,
    #[serde(default)]
    data: Vec<SubscriptionGroup>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SubscriptionGroup {
    #[serde(default)]
    last_transactions: Vec<LastTransaction>,
}

/// The newest transaction of one subscription.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LastTransaction {
    pub(super) status: i64,
    pub(super) original_transaction_id: String,
    pub(super) signed_transaction_info: String,
    pub(super) signed_renewal_info: Option<String>,
}

impl StatusResponse {
    /// The row of one subscription among all that the customer has.
    pub(super) fn row(&self, original_transaction_id: &str) -> Option<&LastTransaction> {
        self.data
            .iter()
            .flat_map(|group| &group.last_transactions)
            .find(|row| row.original_transaction_id == original_transaction_id)
    }
}

/// `HistoryResponse`: one page, the longest unchanged first.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HistoryResponse {
    #[serde(default)]
    pub(super) signed_transactions: Vec<String>,
    pub(super) revision: Option<String>,
    #[serde(default)]
    pub(super) has_more: bool,
}

/// `TransactionInfoResponse`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TransactionInfoResponse {
    pub(super) signed_transaction_info: String,
}

/// The body of a refusal.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ErrorBody {
    pub(super) error_code: i64,
}

impl Document for Transaction {
    const NAME: &'static str = "transaction";
}

impl Document for RenewalInfo {
    const NAME: &'static str = "renewal info";
}

impl Document for NotificationName {
    const NAME: &'static str = "notification";
}

impl Document for Notification {
    const NAME: &'static str = "notification";
}

/// An integer, or nothing if it is anything else: for fields that no decision needs.
fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    serde_json::Value::deserialize(deserializer).map(|value| value.as_i64())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn unknown_words_and_fields_are_kept_or_passed_over() {
        let transaction: Transaction = serde_json::from_value(serde_json::json!({
            "transactionId": "2", "originalTransactionId": "1", "bundleId": "b",
            "productId": "p", "type": "Subscription Suite", "environment": "Xcode",
            "purchaseDate": 1_700_000_000_000_i64, "price": 9.99, "offerType": "5",
            "inAppOwnershipType": "ASSIGNED", "somethingNew": {"a": [1]},
        }))
        .unwrap();
        assert_eq!(
            transaction.product_type,
            ProductType::Unknown("Subscription Suite".into())
        );
        assert_eq!(
            transaction.environment,
            Environment::Unknown("Xcode".into())
        );
        assert_eq!((transaction.price, transaction.offer_type), (None, None));
        assert!(!transaction.is_upgraded);
    }

    #[test]
    fn dates_are_integers() {
        for date in [
            "1.7e12",
            "\"1700000000000\"",
            "9223372036854775807",
            "null",
            "[1]",
        ] {
            assert!(serde_json::from_str::<Millis>(date).is_err(), "{date}");
        }
    }
}
