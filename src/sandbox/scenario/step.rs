//! What can happen in a scenario, one verb per step. A step is an inline table whose verb names
//! its object; the other keys say how.

use serde::Deserialize;
use toml::de::ValueDeserializer;

use super::super::app_store::{BillingPlan, ExtendReason, ExternalPurchaseKind, RefundReason};
use super::super::delivery::Store;
use super::super::google_play::ReplacementMode;
use super::super::sins::Sins;
use super::super::traffic::Outage;
use super::expect::Expectations;
use super::offer::{Money, OfferTerms};
use super::time::{Length, Moment};

macro_rules! verbs {
    ($($verb:literal => $name:ident,)+) => {
        /// What happens in a step.
        #[derive(Clone, Debug)]
        #[allow(missing_docs, reason = "each variant is documented at its fields' type")]
        pub enum Step {
            $($name($name),)+
        }

        /// The words that a step may have one of.
        pub(super) const VERBS: &[&str] = &[$($verb,)+];

        impl Step {
            /// Reads the step that `verb` names; `None` for a word that is no verb.
            pub(super) fn read(
                verb: &str,
                table: ValueDeserializer<'_>,
            ) -> Option<Result<Self, toml::de::Error>> {
                match verb {
                    $($verb => Some($name::deserialize(table).map(Self::$name)),)+
                    _ => None,
                }
            }
        }
    };
}

verbs! {
    "buy" => Buy,
    "cancel" => Cancel,
    "uncancel" => Uncancel,
    "card_fails" => CardFails,
    "card_works" => CardWorks,
    "pause" => Pause,
    "unpause" => Unpause,
    "top_up" => TopUp,
    "settle" => Settle,
    "redeem" => Redeem,
    "request_refund" => RequestRefund,
    "decline_refund" => DeclineRefund,
    "refund" => Refund,
    "reverse_refund" => ReverseRefund,
    "charge_back" => ChargeBack,
    "share" => Share,
    "unshare" => Unshare,
    "change_price" => ChangePrice,
    "answer_price" => AnswerPrice,
    "extend" => Extend,
    "withdraw" => Withdraw,
    "rescind_consent" => RescindConsent,
    "external_purchase" => ExternalPurchase,
    "add_items" => AddItems,
    "remove_item" => RemoveItem,
    "step_up" => StepUp,
    "bind" => Bind,
    "restore" => Restore,
    "advance" => Advance,
    "at" => At,
    "sins" => SinsFromNowOn,
    "hold" => Hold,
    "deliver" => Deliver,
    "drop" => Drop,
    "outage" => OutageFromNowOn,
    "expect" => Expect,
}

/// A customer buys a product. Another product of a held App Store group is a plan change.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buy {
    /// The product, as the scenario names it.
    pub buy: String,
    /// Who buys.
    pub by: String,
    /// Where.
    pub on: Store,
    /// What later steps call this purchase.
    #[serde(rename = "as")]
    pub name: String,
    /// The account that the app names to the store, if not the customer's own.
    pub account: Option<String>,
    /// The app names no account to the store.
    #[serde(default)]
    pub without_account: bool,
    /// Length of a free trial to begin with.
    pub trial: Option<Length>,
    /// The offer it is bought with.
    pub offer: Option<OfferTerms>,
    /// How many.
    pub quantity: Option<u8>,
    /// App Store: how a yearly subscription is paid.
    pub billing_plan: Option<BillingPlan>,
    /// Made in the store and not in the app: the store's record names no account.
    #[serde(default)]
    pub outside_app: bool,
    /// Google Play: the purchase that this one takes the place of.
    pub replaces: Option<String>,
    /// Google Play: how the old one turns into the new one.
    pub mode: Option<ReplacementMode>,
    /// Google Play: paid later, in cash for instance.
    #[serde(default)]
    pub pending: bool,
    /// Google Play: further subscriptions in the same purchase, as the scenario names them.
    #[serde(default)]
    pub add_ons: Vec<String>,
}

macro_rules! about_a_purchase {
    ($($(#[$doc:meta])* $name:ident { $(#[$field_doc:meta])* $field:ident })+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $name {
                $(#[$field_doc])*
                pub $field: String,
            }
        )+
    };
}

about_a_purchase! {
    /// The customer turns renewal off.
    Cancel {
        /// The subscription.
        cancel
    }
    /// The customer takes a cancellation back before the end.
    Uncancel {
        /// The subscription.
        uncancel
    }
    /// The customer's means of payment fails from now on.
    CardFails {
        /// The subscription.
        card_fails
    }
    /// The customer's means of payment works again; a debt is paid at once.
    CardWorks {
        /// The subscription.
        card_works
    }
    /// Google Play: the customer ends a pause, or takes back one that has not begun.
    Unpause {
        /// The subscription.
        unpause
    }
}

/// Google Play: the customer pauses from the end of the paid period on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// The subscription.
    pub pause: String,
    /// For how long.
    #[serde(rename = "for")]
    pub length: Length,
}

/// Google Play: the customer extends a prepaid plan by another period.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopUp {
    /// The prepaid purchase.
    pub top_up: String,
    /// What later steps call the new purchase.
    #[serde(rename = "as")]
    pub name: String,
}

/// Google Play: a pending purchase is paid, or given up.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// The pending purchase.
    pub settle: String,
    /// Whether the money came.
    pub paid: bool,
}

/// App Store: the customer redeems an offer on a subscription, held or lapsed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redeem {
    /// The subscription.
    pub redeem: String,
    /// The offer.
    pub offer: OfferTerms,
    /// The product it is for, if not the current one.
    pub product: Option<String>,
}

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

/// The app hands a purchase to the server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// The purchase.
    pub bind: String,
    /// The account that is signed in, if not the customer's own.
    pub account: Option<String>,
    /// App Store: the bare transaction id instead of the signed transaction.
    #[serde(default)]
    pub bare_id: bool,
    /// What the server is to answer.
    #[serde(default)]
    pub outcome: Outcome,
    /// The reason with which the server is to refuse; what it answers then has no outcome.
    pub refused: Option<String>,
}

/// What a server answers to a bind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The purchase is the account's, newly or already.
    #[default]
    Yours,
    /// Newly.
    Bound,
    /// It was before.
    AlreadyYours,
    /// It will be once it is paid.
    Pending,
    /// It is, and gives nothing now.
    WithoutAccess,
}

/// Somebody restores purchases: the app hands over everything that the store customer has.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The store customer of the device.
    pub restore: String,
    /// The account that is signed in, if not the customer's own.
    pub account: Option<String>,
    /// What the server is to answer to each.
    #[serde(default)]
    pub outcome: Outcome,
    /// The reason with which the server is to refuse each.
    pub refused: Option<String>,
}

/// Time passes; what falls due happens in its order.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advance {
    /// How much.
    pub advance: Length,
}

/// Time passes until a moment.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// The moment.
    pub at: Moment,
}

/// What the network does from now on.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinsFromNowOn {
    /// Its sins; an empty table ends them.
    pub sins: Sins,
}

/// Keeps what the stores say from now on, or sends all that was kept.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Whether to keep.
    pub hold: bool,
}

/// Sends notifications now: early, late, or once more.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deliver {
    /// Notification type as the store names it, with its subtype after a slash if wanted; or `all`.
    pub deliver: String,
    /// About this purchase only.
    pub of: Option<String>,
    /// Which of those found.
    #[serde(default)]
    pub which: Which,
}

/// Loses notifications: the store does not try them again.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drop {
    /// Notification type as the store names it, with its subtype after a slash if wanted; or `all`.
    pub drop: String,
    /// About this purchase only.
    pub of: Option<String>,
    /// Which of those found.
    #[serde(default)]
    pub which: Which,
}

/// Which of several notifications, and in which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Which {
    /// The oldest alone.
    #[serde(rename = "first")]
    First,
    /// The newest alone.
    #[default]
    #[serde(rename = "latest")]
    Latest,
    /// All as they happened.
    #[serde(rename = "oldest first")]
    OldestFirst,
    /// All, the newest first.
    #[serde(rename = "newest first")]
    NewestFirst,
}

/// A store's API fails from now on, or works again.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutageFromNowOn {
    /// The store.
    pub outage: Store,
    /// How it fails.
    pub how: Failing,
}

/// How a store's API fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failing {
    /// Every call is answered 503.
    Down,
    /// No call is answered.
    Silent,
    /// Every call is answered 429.
    RateLimited,
    /// Not any more.
    Over,
}

impl Failing {
    /// The same in the simulator's words.
    pub(super) const fn outage(self) -> Option<Outage> {
        match self {
            Self::Down => Some(Outage::Down503),
            Self::Silent => Some(Outage::Timeout),
            Self::RateLimited => Some(Outage::RateLimited),
            Self::Over => None,
        }
    }
}

/// What every account must have now.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// By account; who is not named must have nothing.
    pub expect: Expectations,
    /// Why the server cannot know the truth at this moment; the run fails if it does.
    pub behind: Option<String>,
    /// Machine time that the server may take, where it waits by the machine's clock: before it
    /// asks a store again that did not answer, for instance.
    pub within: Option<Length>,
}
