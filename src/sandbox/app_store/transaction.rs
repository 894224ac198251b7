//! One purchase, renewal or one-time charge, as Apple keeps it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::action::RefundReason;
use super::offers::AppliedOffer;

/// One transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::sandbox) struct Transaction {
    pub(in crate::sandbox) id: String,
    /// Names the period across renewals and devices; subscriptions only.
    pub(in crate::sandbox) web_order_line_item_id: Option<String>,
    /// As on the customer's receipt; what a family member gets was never ordered.
    pub(in crate::sandbox) order_id: Option<String>,
    pub(in crate::sandbox) product_id: String,
    pub(in crate::sandbox) purchased_at: DateTime<Utc>,
    /// End of the period that was paid; auto-renewable subscriptions only.
    pub(in crate::sandbox) expires_at: Option<DateTime<Utc>>,
    pub(in crate::sandbox) quantity: u8,
    /// For the whole quantity.
    pub(in crate::sandbox) price_milliunits: i64,
    pub(in crate::sandbox) currency: String,
    pub(in crate::sandbox) app_account_token: Option<Uuid>,
    pub(in crate::sandbox) offer: Option<AppliedOffer>,
    /// Charged by the store and not by the customer's own act.
    pub(in crate::sandbox) renewal: bool,
    /// Superseded by an upgrade.
    pub(in crate::sandbox) upgraded: bool,
    pub(in crate::sandbox) revocation: Option<Revocation>,
    /// Present while a commitment is paid month by month.
    pub(in crate::sandbox) commitment: Option<CommitmentPeriod>,
    /// The purchaser's transaction that a family member's one follows.
    pub(in crate::sandbox) shared_from: Option<String>,
    /// The reason that a customer gave for a refund not yet decided on.
    pub(in crate::sandbox) refund_request: Option<RefundReason>,
    /// Whether the app or the server has said that it delivered.
    pub(in crate::sandbox) finished: bool,
    /// What the developer last said about the consumption, as received.
    pub(in crate::sandbox) consumption: Option<Value>,
    /// When the signed document last changed.
    pub(in crate::sandbox) modified_at: DateTime<Utc>,
    /// Number of that change among all of the store's; orders the history.
    pub(in crate::sandbox) revision: u64,
}

/// Money or access taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct Revocation {
    pub(in crate::sandbox) at: DateTime<Utc>,
    /// Whether the customer blamed the app.
    pub(in crate::sandbox) app_issue: bool,
    pub(in crate::sandbox) kind: RevocationKind,
}

/// What was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::sandbox) enum RevocationKind {
    /// All the money.
    RefundFull,
    /// That percentage of the money.
    RefundProrated { percent: u8 },
    /// Access that came through the family.
    FamilyRevoke,
}

impl RevocationKind {
    /// Apple's `revocationType`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::RefundFull => "REFUND_FULL",
            Self::RefundProrated { .. } => "REFUND_PRORATED",
            Self::FamilyRevoke => "FAMILY_REVOKE",
        }
    }

    /// Apple's `revocationPercentage`, in thousandths of a percent; none where no money moved.
    pub(super) const fn percentage(self) -> Option<u32> {
        match self {
            Self::RefundFull => Some(100_000),
            Self::RefundProrated { percent } => Some(percent as u32 * 1_000),
            Self::FamilyRevoke => None,
        }
    }
}

/// Which of the committed months a transaction paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct CommitmentPeriod {
    /// From 1.
    pub(in crate::sandbox) number: u8,
    pub(in crate::sandbox) total: u8,
    pub(in crate::sandbox) expires_at: DateTime<Utc>,
    /// For all the months together.
    pub(in crate::sandbox) price_milliunits: i64,
}

impl Transaction {
    /// When money or access was taken back.
    pub(in crate::sandbox) fn revoked_at(&self) -> Option<DateTime<Utc>> {
        self.revocation.map(|revocation| revocation.at)
    }

    /// Whether money was given back.
    pub(in crate::sandbox) fn refunded(&self) -> bool {
        self.revocation
            .is_some_and(|revocation| match revocation.kind {
                RevocationKind::RefundFull | RevocationKind::RefundProrated { .. } => true,
                RevocationKind::FamilyRevoke => false,
            })
    }
}

/// Transactions are shared between a chain and its earlier versions, so that keeping one costs
/// nothing; on disk they are plain lists.
pub(super) mod shared_list {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::Transaction;

    pub(in super::super) fn serialize<S: Serializer>(
        list: &[Arc<Transaction>],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().map(|item| &**item))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Arc<Transaction>>, D::Error> {
        let list = Vec::<Transaction>::deserialize(deserializer)?;
        Ok(list.into_iter().map(Arc::new).collect())
    }
}
