//! What can happen in a scenario, one verb per step. A step is an inline table whose verb names
//! its object; the other keys say how.

mod app;
mod line;
mod purchases;
mod stores;

use serde::Deserialize;
use toml::de::ValueDeserializer;

pub use app::{
    Bind, Expect, Link, Outcome, Paywall, Preflight, Reinstall, Restore, SignIn, Standing, Via,
};
pub use line::{Advance, At, Deliver, Drop, Failing, Hold, OutageFromNowOn, SinsFromNowOn, Which};
pub use purchases::{
    Buy, Cancel, CardFails, CardWorks, Pause, Redeem, Settle, TopUp, Uncancel, Unpause,
};
pub use stores::{
    AddItems, AnswerPrice, ChangePrice, Charge, ChargeBack, DeclineRefund, Extend,
    ExternalPurchase, PriceChange, Refund, RemoveItem, RequestRefund, RescindConsent,
    ReverseRefund, Share, StepUp, Unshare, Withdraw,
};

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
    "preflight" => Preflight,
    "paywall" => Paywall,
    "sign_in" => SignIn,
    "reinstall" => Reinstall,
    "link" => Link,
    "advance" => Advance,
    "at" => At,
    "sins" => SinsFromNowOn,
    "hold" => Hold,
    "deliver" => Deliver,
    "drop" => Drop,
    "outage" => OutageFromNowOn,
    "expect" => Expect,
}
