//! Charges: what was asked for, what it pays, and what came back of it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::item::OfferPhase;

/// A charge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::sandbox) struct Order {
    pub(in crate::sandbox) id: String,
    pub(in crate::sandbox) created_at: DateTime<Utc>,
    pub(in crate::sandbox) progress: Progress,
    /// What it is for; never empty.
    pub(in crate::sandbox) lines: Vec<OrderLine>,
    /// What was given back, oldest first.
    pub(in crate::sandbox) refunds: Vec<OrderRefund>,
    /// A charge-back is being decided.
    pub(in crate::sandbox) refund_pending: bool,
}

/// How far the charge itself has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "progress", rename_all = "snake_case")]
pub(in crate::sandbox) enum Progress {
    /// The money has not come yet.
    Pending,
    Processed {
        at: DateTime<Utc>,
    },
    /// The money never came.
    Canceled {
        at: DateTime<Utc>,
    },
}

/// One item of a charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct OrderLine {
    pub(in crate::sandbox) product_id: String,
    /// The price as listed, in millionths of the major unit.
    pub(in crate::sandbox) listing_micros: i64,
    /// What is paid for it, tax included, in millionths of the major unit.
    pub(in crate::sandbox) total_micros: i64,
    pub(in crate::sandbox) paid_for: PaidFor,
}

/// What a line of a charge pays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(in crate::sandbox) enum PaidFor {
    Subscription {
        base_plan_id: String,
        offer_id: Option<String>,
        phase: OfferPhase,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    },
    OneTime {
        quantity: u32,
    },
}

/// Money given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct OrderRefund {
    pub(in crate::sandbox) at: DateTime<Utc>,
    pub(in crate::sandbox) micros: i64,
    /// The customer's bank took it.
    pub(in crate::sandbox) charge_back: bool,
    /// For a one-time purchase of several, how many were given back.
    pub(in crate::sandbox) quantity: Option<u32>,
    /// It gave back all that was left.
    pub(in crate::sandbox) whole: bool,
}

/// `Order.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sandbox) enum OrderState {
    Pending,
    Processed,
    Canceled,
    PendingRefund,
    PartiallyRefunded,
    Refunded,
}

impl Order {
    /// A charge that goes through at once.
    pub(super) fn processed(id: String, at: DateTime<Utc>, lines: Vec<OrderLine>) -> Self {
        Self {
            progress: Progress::Processed { at },
            ..Self::pending(id, at, lines)
        }
    }

    /// A charge whose money is awaited.
    pub(super) fn pending(id: String, at: DateTime<Utc>, lines: Vec<OrderLine>) -> Self {
        Self {
            id,
            created_at: at,
            progress: Progress::Pending,
            lines,
            refunds: Vec::new(),
            refund_pending: false,
        }
    }

    pub(in crate::sandbox) fn state(&self) -> OrderState {
        match self.progress {
            Progress::Pending => OrderState::Pending,
            Progress::Canceled { .. } => OrderState::Canceled,
            Progress::Processed { .. } if self.refund_pending => OrderState::PendingRefund,
            Progress::Processed { .. } if self.refunds.iter().any(|refund| refund.whole) => {
                OrderState::Refunded
            }
            Progress::Processed { .. } if self.refunds.is_empty() => OrderState::Processed,
            Progress::Processed { .. } => OrderState::PartiallyRefunded,
        }
    }

    pub(in crate::sandbox) fn is_processed(&self) -> bool {
        matches!(self.progress, Progress::Processed { .. })
    }

    /// Whether nothing of it is left to give back.
    pub(in crate::sandbox) fn is_refunded(&self) -> bool {
        self.state() == OrderState::Refunded
    }

    /// What was paid, in millionths of the major unit.
    pub(in crate::sandbox) fn total_micros(&self) -> i64 {
        self.lines.iter().map(|line| line.total_micros).sum()
    }

    /// What has not been given back, in millionths of the major unit.
    pub(in crate::sandbox) fn left_micros(&self) -> i64 {
        let refunded: i64 = self.refunds.iter().map(|refund| refund.micros).sum();
        (self.total_micros() - refunded).max(0)
    }

    /// When something last happened to it.
    pub(in crate::sandbox) fn last_event_at(&self) -> DateTime<Utc> {
        let progressed = match self.progress {
            Progress::Pending => self.created_at,
            Progress::Processed { at } | Progress::Canceled { at } => at,
        };
        let refunded = self.refunds.last().map(|refund| refund.at);
        refunded.map_or(progressed, |at| progressed.max(at))
    }
}
