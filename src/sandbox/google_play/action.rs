//! Everything that a customer, the developer or Google's staff does at Google Play, as data: what
//! scenario files and the control API say.

use serde::{Deserialize, Serialize};

use super::super::app_store::Billing;
use super::super::period::Period;
use super::voided::{VoidReason, VoidSource};

/// One action at Google Play.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
#[expect(
    clippy::large_enum_variant,
    reason = "an action is taken as soon as it is made, and never kept"
)]
pub enum GooglePlayAction {
    /// A customer buys something.
    Buy(GooglePlayBuy),
    /// The customer stops renewal; an unpaid subscription ends at once, an installment plan when
    /// its commitment is paid.
    Cancel {
        /// The subscription.
        purchase_token: String,
        /// What the customer answers to the store's survey.
        #[serde(default)]
        survey: Option<CancelSurvey>,
    },
    /// The customer takes a cancellation back before the period ends.
    Restore {
        /// The subscription.
        purchase_token: String,
    },
    /// The customer's means of payment fails or works again; a debt is paid at once.
    SetBilling {
        /// The subscription.
        purchase_token: String,
        /// How charges go from now on.
        billing: Billing,
    },
    /// A purchase that awaits its payment (cash, for instance) is paid or given up.
    SettlePending {
        /// The pending purchase.
        purchase_token: String,
        /// Whether the money came.
        paid: bool,
    },
    /// The customer pauses the subscription from the end of the paid period on.
    Pause {
        /// The subscription.
        purchase_token: String,
        /// Length of the pause.
        period: Period,
    },
    /// The customer ends a pause early, or takes back one that has not begun.
    Resume {
        /// The subscription.
        purchase_token: String,
    },
    /// The customer extends a prepaid plan by one more period, with a new purchase.
    TopUp {
        /// The prepaid purchase.
        purchase_token: String,
    },
    /// An order is refunded.
    Refund {
        /// The purchase.
        purchase_token: String,
        /// Which order of it; the latest if absent.
        #[serde(default)]
        order_id: Option<String>,
        /// Whether access ends with it.
        #[serde(default = "yes")]
        revoke: bool,
        /// How many of a one-time purchase of several; all that is left if absent.
        #[serde(default)]
        quantity: Option<u32>,
        /// Who has it refunded; the developer if absent.
        #[serde(default)]
        source: VoidSource,
        /// Why.
        #[serde(default)]
        reason: VoidReason,
    },
    /// The customer's bank takes the money back: Google asks the developer for a review, and
    /// decides after it or after 24 hours.
    ChargeBack {
        /// The purchase.
        purchase_token: String,
        /// Which order of it; the latest if absent.
        #[serde(default)]
        order_id: Option<String>,
    },
    /// The developer changes the price for those who subscribe already.
    ChangePrice {
        /// The product.
        product_id: String,
        /// The base plan; all of the product if absent.
        #[serde(default)]
        base_plan_id: Option<String>,
        /// The new price in millionths of the major unit.
        price_micros: i64,
        /// Which way it goes, and whether customers are asked.
        mode: PriceChangeMode,
    },
    /// The customer accepts or refuses a price change.
    AnswerPrice {
        /// The subscription.
        purchase_token: String,
        /// Whether the customer accepts.
        accept: bool,
    },
    /// The customer drops one item of a subscription with add-ons at the end of its period.
    RemoveItem {
        /// The subscription.
        purchase_token: String,
        /// The item's product.
        product_id: String,
    },
    /// The customer adds items to a subscription; they are paid up to its renewal.
    AddItems {
        /// The subscription.
        purchase_token: String,
        /// What is added.
        items: Vec<AddOn>,
    },
    /// The customer answers whether the step from trial or introductory price to the full price is
    /// agreed to, where law asks for it (Korea).
    StepUpConsent {
        /// The subscription.
        purchase_token: String,
        /// Whether the customer agrees.
        accept: bool,
    },
}

const fn yes() -> bool {
    true
}

/// A purchase to be made at Google Play.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GooglePlayBuy {
    /// The Google account that buys; any name.
    pub customer: String,
    /// What is bought.
    pub product_id: String,
    /// Base plan, for subscriptions; the first one listed if absent.
    #[serde(default)]
    pub base_plan_id: Option<String>,
    /// What the app hands to the billing library to name its account.
    #[serde(default)]
    pub obfuscated_account_id: Option<String>,
    /// What the app hands to the billing library to name a profile of its account.
    #[serde(default)]
    pub obfuscated_profile_id: Option<String>,
    /// Token of the subscription that this one replaces (plan change, or re-signup before lapse).
    #[serde(default)]
    pub replaces: Option<String>,
    /// How the old subscription turns into the new one; with time proration if absent.
    #[serde(default)]
    pub replacement_mode: Option<ReplacementMode>,
    /// Made in the Play store after the subscription has lapsed, without the app: the purchase
    /// carries no account id but the context of the lapsed one, until it is acknowledged.
    #[serde(default)]
    pub out_of_app: bool,
    /// Length of a free trial to begin with; subscriptions only.
    #[serde(default)]
    pub trial: Option<Period>,
    /// Introductory price to begin with, after a trial if there is one; subscriptions only.
    #[serde(default)]
    pub offer: Option<Offer>,
    /// Paid later, in cash for instance; see [`GooglePlayAction::SettlePending`].
    #[serde(default)]
    pub pending: bool,
    /// How many; one-time products only, one if absent.
    #[serde(default)]
    pub quantity: Option<u32>,
    /// Further subscriptions in the same purchase.
    #[serde(default)]
    pub add_ons: Vec<AddOn>,
    /// Bought with a promotion code; a one-time product is free then, and has no order.
    #[serde(default)]
    pub promotion: Option<Promotion>,
}

/// A promotion code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promotion {
    /// A code that works once.
    OneTimeCode,
    /// A code that everybody may use.
    VanityCode(String),
}

/// An item that comes with a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddOn {
    /// The product.
    pub product_id: String,
    /// The base plan; the first one listed if absent.
    #[serde(default)]
    pub base_plan_id: Option<String>,
    /// Length of a free trial of this item.
    #[serde(default)]
    pub trial: Option<Period>,
}

/// An introductory price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Offer id as configured at the store.
    pub id: String,
    /// Price of one of its periods in millionths of the major unit.
    pub price_micros: i64,
    /// Length of one of its periods.
    pub period: Period,
    /// How many of them.
    #[serde(default = "once")]
    pub periods: u32,
}

const fn once() -> u32 {
    1
}

/// How a subscription turns into another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplacementMode {
    /// At once; what is left of the old price buys time of the new plan, then it is charged.
    #[default]
    WithTimeProration,
    /// At once; the difference is charged for what is left of the period, the billing date stays.
    ChargeProratedPrice,
    /// At once; nothing is charged before the old period ends.
    WithoutProration,
    /// At once; the full price is charged, and what is left of the old price buys more time.
    ChargeFullPrice,
    /// When the old period ends.
    Deferred,
    /// The item stays as it is; of the items in a purchase that changes others.
    KeepExisting,
}

/// Which way a price goes, and whether customers are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriceChangeMode {
    /// Down, at the next renewal.
    Decrease,
    /// Up, for those who accept; the others' subscriptions end instead.
    Increase,
    /// Up, for all who do not cancel.
    OptOutIncrease,
}

/// A customer's answer to why the subscription was cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelSurvey {
    /// The answer that was picked.
    pub reason: CancelReason,
    /// The customer's own words, for [`CancelReason::Others`].
    #[serde(default)]
    pub comment: Option<String>,
}

/// The answers of the store's survey.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// Not used enough.
    NotEnoughUsage,
    /// Something did not work.
    TechnicalIssues,
    /// Too expensive.
    CostRelated,
    /// Another app is better.
    FoundBetterApp,
    /// In the customer's own words.
    Others,
}

/// What the buyer's device holds after a purchase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GooglePlayPurchase {
    /// Names the purchase; whoever holds it possesses the purchase.
    pub purchase_token: String,
    /// The order, as on the customer's receipt; empty for what was given away.
    pub order_id: String,
}
