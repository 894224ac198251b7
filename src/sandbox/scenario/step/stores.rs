//! What happens to a purchase through the store, the developer or the family.

use serde::Deserialize;

use super::super::super::app_store::{ExtendReason, ExternalPurchaseKind, RefundReason};
use super::super::super::delivery::Store;
use super::super::offer::Money;
use super::super::time::Length;

/// App Store: the customer asks for the money back; Apple asks the developer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestRefund {
    /// The purchase.
    pub request_refund: String,
    /// Which of its charges.
    #[serde(default)]
    pub charge: Charge,
    /// What the customer gives as the reason.
    #[serde(default)]
    pub reason: RefundReason,
}

/// App Store: Apple declines a refund that was asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclineRefund {
    /// The purchase.
    pub decline_refund: String,
    /// Which of its charges.
    #[serde(default)]
    pub charge: Charge,
}

/// The store gives the money of one charge back.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refund {
    /// The purchase.
    pub refund: String,
    /// Which of its charges.
    #[serde(default)]
    pub charge: Charge,
    /// App Store: the share of the price; below 100 access stays until the refund says otherwise.
    pub percent: Option<u8>,
    /// Google Play: whether access ends with it.
    pub revoke: Option<bool>,
    /// Google Play: how many of a purchase of several.
    pub quantity: Option<u32>,
}

/// Which of a purchase's charges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Charge {
    /// The one that was made when it was bought under that name.
    First,
    /// The latest.
    #[default]
    Latest,
}

/// App Store: Apple takes a refund back.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReverseRefund {
    /// The purchase.
    pub reverse_refund: String,
    /// Which of its charges.
    #[serde(default)]
    pub charge: Charge,
}

/// Google Play: the customer's bank takes the money back.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChargeBack {
    /// The purchase.
    pub charge_back: String,
    /// Which of its charges.
    #[serde(default)]
    pub charge: Charge,
}

/// App Store: a purchase is shared with a member of the family.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The purchase.
    pub share: String,
    /// The member, a customer.
    pub with: String,
    /// What later steps call the member's purchase.
    #[serde(rename = "as")]
    pub name: String,
}

/// App Store: a member of the family loses what was shared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unshare {
    /// The purchase of the one who pays.
    pub unshare: String,
    /// The member, a customer.
    pub with: String,
}

/// The developer changes a price for those who subscribe already.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangePrice {
    /// The product, as the scenario names it.
    pub change_price: String,
    /// Where.
    pub on: Store,
    /// The new price.
    pub to: Money,
    /// How customers come into it.
    pub how: PriceChange,
}

/// How customers come into a price change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriceChange {
    /// Up; who does not agree loses the subscription at renewal.
    Consent,
    /// Up; customers are told, and may cancel.
    Notice,
    /// Down; Google Play only.
    Decrease,
}

/// The customer answers a price increase.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerPrice {
    /// The subscription.
    pub answer_price: String,
    /// Whether the new price is accepted.
    pub accept: bool,
}

/// App Store: the developer extends the current period.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extend {
    /// The subscription.
    pub extend: String,
    /// By how much, in whole days.
    pub by: Length,
    /// Why.
    #[serde(default)]
    pub reason: ExtendReason,
}

/// App Store: the developer takes a product off sale.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdraw {
    /// The product, as the scenario names it.
    pub withdraw: String,
}

/// App Store: a parent withdraws the consent to a minor's use of the app.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RescindConsent {
    /// The minor, a customer.
    pub rescind_consent: String,
}

/// App Store: Apple tells about a token for purchases outside the store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalPurchase {
    /// What it tells.
    pub external_purchase: ExternalPurchaseKind,
}

/// Google Play: the customer adds products to a subscription.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddItems {
    /// The subscription.
    pub add_items: String,
    /// The products, as the scenario names them.
    pub items: Vec<String>,
}

/// Google Play: the customer drops a product from a subscription at the end of its period.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveItem {
    /// The subscription.
    pub remove_item: String,
    /// The product, as the scenario names it.
    pub item: String,
}

/// Google Play: the customer answers whether the step to the full price is agreed to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepUp {
    /// The subscription.
    pub step_up: String,
    /// Whether it is.
    pub accept: bool,
}
