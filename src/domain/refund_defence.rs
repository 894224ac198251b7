//! Refund defence: what a store is told when a customer asks it for money back.

use serde::{Deserialize, Serialize};

/// The answer to a store's question about a refund, in our words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefundAnswer {
    /// The customer could try it before buying.
    pub(crate) sample_content_provided: bool,
    pub(crate) delivery: Delivery,
    /// How much was used, in thousandths of a percent: 100,000 is all of it. `None`: not told.
    pub(crate) consumption_millipercent: Option<u32>,
    pub(crate) preference: Preference,
}

/// Whether what was bought arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Delivery {
    Delivered,
    QualityIssue,
    WrongItem,
    ServerOutage,
    OtherReason,
}

/// What we would like the store to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Preference {
    /// The store decides.
    #[default]
    Neutral,
    Decline,
    GrantFull,
    /// Apple only; Google is told `NEUTRAL`.
    GrantProrated,
}
