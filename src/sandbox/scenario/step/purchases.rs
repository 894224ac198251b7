//! What customers do: buy, leave and come back, stop paying, pause.

use serde::Deserialize;

use super::super::super::app_store::BillingPlan;
use super::super::super::delivery::Store;
use super::super::super::google_play::ReplacementMode;
use super::super::offer::OfferTerms;
use super::super::time::Length;

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
