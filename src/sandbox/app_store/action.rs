//! Everything that customers, the developer and Apple's staff can do at the App Store.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::period::Period;
use super::Billing;
use super::offers::Offer;

/// One thing done at the App Store; `do` names the verb, the other fields are its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum AppStoreAction {
    /// A customer buys something. Another product of a held subscription group is an upgrade,
    /// downgrade or crossgrade; of a lapsed one, a resubscription.
    Buy(AppStoreBuy),
    /// The customer turns auto-renewal on or off.
    SetAutoRenew {
        /// The subscription.
        original_transaction_id: String,
        /// Whether it is to renew.
        enabled: bool,
    },
    /// The customer's means of payment fails or works again; a debt is paid at once.
    SetBilling {
        /// The subscription.
        original_transaction_id: String,
        /// Whether charges succeed.
        billing: Billing,
    },
    /// The customer redeems an offer: on an active subscription from the next renewal on (at once
    /// with an upgrade), on a lapsed one by subscribing again.
    RedeemOffer {
        /// The subscription.
        original_transaction_id: String,
        /// The offer.
        offer: Offer,
        /// The product that the offer is for; the current one if absent.
        #[serde(default)]
        product_id: Option<String>,
    },
    /// The customer asks Apple for a refund; Apple asks the developer about the consumption.
    RequestRefund {
        /// What is to be refunded.
        transaction_id: String,
        /// What the customer gives as the reason.
        #[serde(default)]
        reason: RefundReason,
    },
    /// Apple declines a refund that was asked for.
    DeclineRefund {
        /// What was to be refunded.
        transaction_id: String,
    },
    /// Apple refunds a transaction.
    Refund {
        /// What is refunded.
        transaction_id: String,
        /// Share of the price in percent; below 100 it is a prorated refund.
        #[serde(default = "whole")]
        percent: u8,
    },
    /// Apple takes a refund back.
    ReverseRefund {
        /// What had been refunded.
        transaction_id: String,
    },
    /// The purchaser shares a purchase with a member of the family.
    Share {
        /// The purchase.
        original_transaction_id: String,
        /// The member's Apple account; any name.
        member: String,
    },
    /// A member of the family loses what was shared.
    Unshare {
        /// The purchase of the purchaser.
        original_transaction_id: String,
        /// The member's Apple account.
        member: String,
    },
    /// The developer raises the price of a subscription for those who have it.
    RaisePrice {
        /// The subscription product.
        product_id: String,
        /// The new price in thousandths of the currency's major unit.
        price_milliunits: i64,
        /// Whether customers have to agree; those who do not, lose the subscription at renewal.
        consent: bool,
    },
    /// The customer answers a price increase.
    AnswerPrice {
        /// The subscription.
        original_transaction_id: String,
        /// Whether the new price is accepted.
        accept: bool,
    },
    /// The developer extends the current period.
    Extend {
        /// The subscription.
        original_transaction_id: String,
        /// By so many days, 1 to 90.
        days: u8,
        /// Why.
        #[serde(default)]
        reason: ExtendReason,
    },
    /// The developer takes a product off sale; who has it, loses it at renewal.
    WithdrawProduct {
        /// The product.
        product_id: String,
    },
    /// A parent withdraws the consent to a minor's use of the app.
    RescindConsent {
        /// The minor's Apple account.
        customer: String,
    },
    /// Apple tells about a token for purchases outside the App Store.
    ExternalPurchase {
        /// What is told.
        kind: ExternalPurchaseKind,
        /// The token; a new one if absent.
        #[serde(default)]
        external_purchase_id: Option<String>,
    },
}

const fn whole() -> u8 {
    100
}

/// A purchase to be made at the App Store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppStoreBuy {
    /// The Apple account that buys; any name.
    pub customer: String,
    /// What is bought.
    pub product_id: String,
    /// The UUID that the app hands to StoreKit.
    #[serde(default)]
    pub app_account_token: Option<Uuid>,
    /// Length of a free trial to begin with; subscriptions only. Short for an introductory offer.
    #[serde(default)]
    pub trial: Option<Period>,
    /// The offer it is bought with.
    #[serde(default)]
    pub offer: Option<Offer>,
    /// How many, 1 to 10; 1 if absent. Consumables and non-renewing subscriptions only.
    #[serde(default)]
    pub quantity: Option<u8>,
    /// How a yearly subscription is paid; upfront if absent.
    #[serde(default)]
    pub billing_plan: Option<BillingPlan>,
    /// Made in the App Store and not in the app, such as by redeeming an offer code: it carries no
    /// account token.
    #[serde(default)]
    pub outside_app: bool,
}

/// How a yearly subscription is paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BillingPlan {
    /// Each period at its start.
    #[default]
    Upfront,
    /// Month by month, with a commitment to twelve of them.
    Monthly,
}

/// What a customer gives as the reason for wanting a refund.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundReason {
    /// Bought by mistake.
    UnintendedPurchase,
    /// Not received, or not usable.
    FulfillmentIssue,
    /// Not as hoped for.
    UnsatisfiedWithPurchase,
    /// A law says so.
    Legal,
    /// Anything else.
    #[default]
    Other,
}

/// Why a developer extends a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExtendReason {
    /// Not said.
    #[default]
    Undeclared,
    /// To please the customer.
    CustomerSatisfaction,
    /// Anything else.
    Other,
    /// The service was out of order.
    ServiceIssueOrOutage,
}

/// What Apple tells about a token for purchases outside the App Store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExternalPurchaseKind {
    /// It has been made.
    Created,
    /// It is active, and no report has come lately.
    Reminder,
    /// No report has come at all.
    Unreported,
}
