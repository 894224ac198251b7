//! Voided purchases: orders whose money went back together with what it had paid for.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A row of the voided list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct Voided {
    pub(in crate::sandbox) purchase_token: String,
    pub(in crate::sandbox) order_id: String,
    /// Whether a subscription was voided, and not a one-time product.
    pub(in crate::sandbox) subscription: bool,
    /// When the order was made.
    pub(in crate::sandbox) purchased_at: DateTime<Utc>,
    pub(in crate::sandbox) voided_at: DateTime<Utc>,
    pub(in crate::sandbox) source: VoidSource,
    pub(in crate::sandbox) reason: VoidReason,
    /// How many of a one-time purchase of several; none for all of it.
    pub(in crate::sandbox) quantity: Option<u32>,
}

/// Who had a purchase voided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoidSource {
    /// The customer asked the store.
    User,
    /// The developer.
    #[default]
    Developer,
    /// The store, or a bank through it.
    Google,
}

impl VoidSource {
    /// `voidedSource`.
    pub(in crate::sandbox) const fn number(self) -> u8 {
        match self {
            Self::User => 0,
            Self::Developer => 1,
            Self::Google => 2,
        }
    }
}

/// Why a purchase was voided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoidReason {
    /// None of the others.
    #[default]
    Other,
    /// The customer thought better of it.
    Remorse,
    /// It was never delivered.
    NotReceived,
    /// It did not work.
    Defective,
    /// Bought by mistake.
    AccidentalPurchase,
    /// Bought with another's money.
    Fraud,
    /// Bought by somebody of the same household.
    FriendlyFraud,
    /// The bank took the money back.
    Chargeback,
    /// The developer never acknowledged it.
    UnacknowledgedPurchase,
}

impl VoidReason {
    /// `voidedReason`.
    pub(in crate::sandbox) const fn number(self) -> u8 {
        match self {
            Self::Other => 0,
            Self::Remorse => 1,
            Self::NotReceived => 2,
            Self::Defective => 3,
            Self::AccidentalPurchase => 4,
            Self::Fraud => 5,
            Self::FriendlyFraud => 6,
            Self::Chargeback => 7,
            Self::UnacknowledgedPurchase => 8,
        }
    }
}
