//! What an action at a store hands back to whoever took it.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::app_store::AppStorePurchase;
use super::google_play::GooglePlayPurchase;

/// What came of an action; as JSON, the fields of what was bought, or nothing.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// What the buyer's device holds now.
    AppStore(AppStorePurchase),
    /// What the buyer's device holds now.
    GooglePlay(GooglePlayPurchase),
    /// Google asks the developer for a review of a charge-back.
    RefundReview {
        /// Names the review in the developer's answer.
        pending_refund_token: String,
        /// The order whose money is asked back.
        order_id: String,
    },
    /// An App Store subscription's period now ends later.
    Extended {
        /// The new end of the period.
        effective_date: DateTime<Utc>,
        /// Names the purchase event whose period it is.
        web_order_line_item_id: String,
    },
    /// Apple told about a token for purchases outside the App Store.
    ExternalPurchase {
        /// Names the token in reports to Apple.
        external_purchase_id: String,
    },
    /// Done, and nothing to hand back.
    Done {},
}

impl Outcome {
    /// What was bought at Google Play, if something was.
    pub fn google_play(self) -> Option<GooglePlayPurchase> {
        match self {
            Self::GooglePlay(purchase) => Some(purchase),
            Self::AppStore(_)
            | Self::RefundReview { .. }
            | Self::Extended { .. }
            | Self::ExternalPurchase { .. }
            | Self::Done {} => None,
        }
    }

    /// What was bought at the App Store, if something was.
    pub fn app_store(self) -> Option<AppStorePurchase> {
        match self {
            Self::AppStore(purchase) => Some(purchase),
            Self::GooglePlay(_)
            | Self::RefundReview { .. }
            | Self::Extended { .. }
            | Self::ExternalPurchase { .. }
            | Self::Done {} => None,
        }
    }
}
