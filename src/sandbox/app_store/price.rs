//! Price increases: who has to agree, and what the answer means.

use serde::{Deserialize, Serialize};

use super::Signal;
use super::chain::{Chain, Phase};

/// A higher price that a subscriber has been told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::sandbox) enum PriceIncrease {
    /// Needs the customer's consent, which has not come.
    Pending,
    /// The customer said no; the subscription ends with the period.
    Declined,
    /// The customer said yes, or was not asked.
    Accepted,
}

impl PriceIncrease {
    /// Whether the next period is charged at the new price.
    pub(in crate::sandbox) const fn accepted(self) -> bool {
        match self {
            Self::Accepted => true,
            Self::Pending | Self::Declined => false,
        }
    }
}

impl Chain {
    /// Tells the subscriber that `product_id` becomes dearer; `None` for whom it does not concern:
    /// who leaves anyway, follows a purchaser, or is charged for a commitment at its own price.
    pub(super) fn raise_price(&mut self, product_id: &str, consent: bool) -> Option<Signal> {
        if self.sharing.is_shared() {
            return None;
        }
        let subscription = self.subscription.as_mut()?;
        let subscribed = match subscription.phase {
            Phase::Active | Phase::Declined | Phase::Grace { .. } | Phase::Retry { .. } => true,
            Phase::Ending { .. } | Phase::Expired { .. } | Phase::Revoked => false,
        };
        if !subscribed
            || !subscription.auto_renew
            || subscription.commitment.is_some()
            || subscription.renews_to != product_id
        {
            return None;
        }
        let (answer, subtype) = match consent {
            true => (PriceIncrease::Pending, "PENDING"),
            false => (PriceIncrease::Accepted, "ACCEPTED"),
        };
        subscription.price_increase = Some(answer);
        Some(self.signal("PRICE_INCREASE", Some(subtype)))
    }

    /// The customer answers; `None` if there is nothing to answer.
    pub(super) fn answer_price(&mut self, accept: bool) -> Option<Vec<Signal>> {
        let increase = self.subscription.as_mut()?.price_increase.as_mut()?;
        match (*increase, accept) {
            (PriceIncrease::Accepted, _) => None,
            (PriceIncrease::Pending | PriceIncrease::Declined, true) => {
                *increase = PriceIncrease::Accepted;
                Some(vec![self.signal("PRICE_INCREASE", Some("ACCEPTED"))])
            }
            (PriceIncrease::Pending | PriceIncrease::Declined, false) => {
                *increase = PriceIncrease::Declined;
                Some(Vec::new())
            }
        }
    }
}
