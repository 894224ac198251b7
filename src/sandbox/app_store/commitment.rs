//! A yearly subscription paid month by month: twelve charges that a cancellation does not stop.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::super::period::Period;
use super::transaction::CommitmentPeriod;

/// Months that a customer commits to.
const MONTHS: u8 = 12;
/// Days for which an unpaid month is charged again before the commitment ends; there is no grace.
pub(super) const RETRY_DAYS: u16 = 90;
/// Length of what one charge pays for.
pub(super) const MONTH: Period = Period::months(1);

/// The running commitment of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct Commitment {
    /// Charges made so far.
    charged: u8,
    pub(in crate::sandbox) monthly_milliunits: i64,
    pub(in crate::sandbox) expires_at: DateTime<Utc>,
}

impl Commitment {
    /// A commitment whose first month starts at `start`.
    pub(super) fn begin(monthly_milliunits: i64, start: DateTime<Utc>) -> Self {
        Self {
            charged: 1,
            monthly_milliunits,
            expires_at: months_after(start, MONTHS),
        }
    }

    /// Whether months are left to be charged.
    pub(in crate::sandbox) fn has_more(&self) -> bool {
        self.charged < MONTHS
    }

    /// The next month is paid; it starts at `start`, later than planned after a failed payment.
    pub(super) fn next(self, start: DateTime<Utc>) -> Self {
        let left = MONTHS.saturating_sub(self.charged);
        Self {
            charged: self.charged.saturating_add(1),
            expires_at: months_after(start, left),
            ..self
        }
    }

    /// What the transaction of the last charge says.
    pub(super) fn period(&self) -> CommitmentPeriod {
        CommitmentPeriod {
            number: self.charged,
            total: MONTHS,
            expires_at: self.expires_at,
            price_milliunits: self.price_milliunits(),
        }
    }

    /// Price of all the months.
    pub(super) fn price_milliunits(&self) -> i64 {
        self.monthly_milliunits.saturating_mul(MONTHS.into())
    }
}

/// Month by month, as the charges fall.
fn months_after(start: DateTime<Utc>, count: u8) -> DateTime<Utc> {
    (0..count).fold(start, |at, _| MONTH.after(at))
}
