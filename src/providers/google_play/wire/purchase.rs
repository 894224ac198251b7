//! Purchases: `SubscriptionPurchaseV2` and `ProductPurchaseV2`.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::domain::time::Instant;

/// `SubscriptionPurchaseV2`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscriptionPurchase {
    #[serde(default)]
    pub(crate) subscription_state: String,
    pub(crate) start_time: Option<Instant>,
    /// ISO 3166-1 alpha-2.
    pub(crate) region_code: Option<String>,
    pub(crate) etag: Option<String>,
    #[serde(default)]
    pub(crate) acknowledgement_state: String,
    pub(crate) linked_purchase_token: Option<String>,
    pub(crate) canceled_state_context: Option<CanceledStateContext>,
    pub(crate) paused_state_context: Option<PausedStateContext>,
    pub(crate) external_account_identifiers: Option<AccountIdentifiers>,
    pub(crate) out_of_app_purchase_context: Option<OutOfAppPurchaseContext>,
    pub(crate) test_purchase: Option<IgnoredAny>,
    /// Deprecated but still sent; in grace it names the order that failed.
    pub(crate) latest_order_id: Option<String>,
    #[serde(default)]
    pub(crate) line_items: Vec<SubscriptionLine>,
}

impl SubscriptionPurchase {
    /// The tokens that this one continues, nearest first: after a change or re-signup, or after a
    /// resubscription in the store. What was never paid continues nothing: until it is, and if it
    /// never is, the purchase that it links to goes on by itself.
    pub(crate) fn continues(&self) -> impl Iterator<Item = &str> {
        let expired = self.out_of_app_purchase_context.as_ref();
        let expired = expired.and_then(|context| context.expired_purchase_token.as_deref());
        let paid = self.start_time.is_some() && !self.subscription_state.contains("PENDING");
        [self.linked_purchase_token.as_deref(), expired]
            .into_iter()
            .flatten()
            .filter(move |token| paid && !token.is_empty())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CanceledStateContext {
    pub(crate) user_initiated_cancellation: Option<UserInitiatedCancellation>,
    pub(crate) system_initiated_cancellation: Option<IgnoredAny>,
    pub(crate) replacement_cancellation: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UserInitiatedCancellation {
    pub(crate) cancel_time: Option<Instant>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PausedStateContext {
    pub(crate) auto_resume_time: Option<Instant>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AccountIdentifiers {
    pub(crate) obfuscated_external_account_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OutOfAppPurchaseContext {
    pub(crate) expired_external_account_identifiers: Option<AccountIdentifiers>,
    pub(crate) expired_purchase_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscriptionLine {
    pub(crate) product_id: String,
    pub(crate) expiry_time: Option<Instant>,
    pub(crate) latest_successful_order_id: Option<String>,
    pub(crate) auto_renewing_plan: Option<AutoRenewingPlan>,
    pub(crate) prepaid_plan: Option<IgnoredAny>,
    pub(crate) offer_details: Option<OfferDetails>,
    pub(crate) offer_phase: Option<OfferPhase>,
    pub(crate) deferred_item_replacement: Option<DeferredItemReplacement>,
    pub(crate) deferred_item_removal: Option<IgnoredAny>,
    pub(crate) signup_promotion: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AutoRenewingPlan {
    #[serde(default)]
    pub(crate) auto_renew_enabled: bool,
    pub(crate) installment_details: Option<InstallmentDetails>,
    pub(crate) price_change_details: Option<PriceChange>,
    pub(crate) price_step_up_consent_details: Option<PriceStepUpConsent>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InstallmentDetails {
    /// Absent when none is left.
    #[serde(default)]
    pub(crate) remaining_committed_payments_count: i64,
    /// The customer has canceled: the plan ends with the commitment.
    pub(crate) pending_cancellation: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PriceChange {
    #[serde(default)]
    pub(crate) price_change_mode: String,
    #[serde(default)]
    pub(crate) price_change_state: String,
}

#[derive(Deserialize)]
pub(crate) struct PriceStepUpConsent {
    #[serde(default)]
    pub(crate) state: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OfferDetails {
    pub(crate) base_plan_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OfferPhase {
    pub(crate) free_trial: Option<IgnoredAny>,
    pub(crate) introductory_price: Option<IgnoredAny>,
    pub(crate) proration_period: Option<ProrationPeriod>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProrationPeriod {
    #[serde(default)]
    pub(crate) original_offer_phase_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeferredItemReplacement {
    pub(crate) product_id: Option<String>,
}

/// `ProductPurchaseV2`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProductPurchase {
    pub(crate) order_id: Option<String>,
    /// ISO 3166-1 alpha-2.
    pub(crate) region_code: Option<String>,
    pub(crate) purchase_state_context: Option<PurchaseStateContext>,
    pub(crate) purchase_completion_time: Option<Instant>,
    #[serde(default)]
    pub(crate) acknowledgement_state: String,
    pub(crate) obfuscated_external_account_id: Option<String>,
    pub(crate) test_purchase_context: Option<IgnoredAny>,
    #[serde(default)]
    pub(crate) product_line_item: Vec<ProductLine>,
}

impl ProductPurchase {
    /// Google spells this one with two `l`.
    pub(crate) fn is_canceled(&self) -> bool {
        let context = self.purchase_state_context.as_ref();
        context.is_some_and(|context| context.purchase_state == "CANCELLED")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PurchaseStateContext {
    #[serde(default)]
    pub(crate) purchase_state: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProductLine {
    pub(crate) product_id: String,
    pub(crate) product_offer_details: Option<ProductOfferDetails>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProductOfferDetails {
    pub(crate) offer_id: Option<String>,
    pub(crate) rent_offer_details: Option<IgnoredAny>,
    /// Units bought; absent for one.
    pub(crate) quantity: Option<i64>,
    /// Units that have not been given back.
    pub(crate) refundable_quantity: Option<i64>,
    #[serde(default)]
    pub(crate) consumption_state: String,
}
