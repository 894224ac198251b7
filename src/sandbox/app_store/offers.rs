//! Discounts: what an offer says, and how many discounted periods are still to come.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::super::error::SandboxError;
use super::super::period::Period;

/// A discount on a purchase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Whom it is for.
    pub kind: OfferKind,
    /// How it is paid.
    pub payment: OfferPayment,
    /// The offer's own name; introductory offers have none.
    #[serde(default)]
    pub id: Option<String>,
    /// Length of one discounted period, the product's own if absent; none for
    /// [`OfferPayment::OneTime`].
    #[serde(default)]
    pub period: Option<Period>,
    /// How many of these periods.
    #[serde(default = "one")]
    pub periods: u8,
    /// Price of one period (of the whole, when paid up front) in thousandths of the major unit.
    #[serde(default)]
    pub price_milliunits: i64,
}

const fn one() -> u8 {
    1
}

/// Whom an offer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfferKind {
    /// New subscribers.
    Introductory,
    /// Present and former subscribers whom the app chooses.
    Promotional,
    /// Holders of a code.
    OfferCode,
    /// Former subscribers whom Apple chooses.
    WinBack,
}

impl OfferKind {
    /// Apple's `offerType`.
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Introductory => 1,
            Self::Promotional => 2,
            Self::OfferCode => 3,
            Self::WinBack => 4,
        }
    }

    /// The name in scenario files and in the truth.
    pub(in crate::sandbox) const fn as_str(self) -> &'static str {
        match self {
            Self::Introductory => "introductory",
            Self::Promotional => "promotional",
            Self::OfferCode => "offer_code",
            Self::WinBack => "win_back",
        }
    }

    /// The id of an offer that was given none; introductory offers have no id at Apple either.
    const fn default_id(self) -> Option<&'static str> {
        match self {
            Self::Introductory => None,
            Self::Promotional => Some("promotional"),
            Self::OfferCode => Some("offer-code"),
            Self::WinBack => Some("win-back"),
        }
    }
}

/// How an offer is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfferPayment {
    /// Nothing.
    FreeTrial,
    /// A reduced price in every discounted period.
    PayAsYouGo,
    /// One price for all of the discounted time.
    PayUpFront,
    /// A reduced price for something that does not renew.
    OneTime,
}

impl OfferPayment {
    /// Apple's `offerDiscountType`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::FreeTrial => "FREE_TRIAL",
            Self::PayAsYouGo => "PAY_AS_YOU_GO",
            Self::PayUpFront => "PAY_UP_FRONT",
            Self::OneTime => "ONE_TIME",
        }
    }
}

impl Offer {
    /// A free trial for new subscribers.
    pub const fn trial(period: Period) -> Self {
        Self {
            kind: OfferKind::Introductory,
            payment: OfferPayment::FreeTrial,
            id: None,
            period: Some(period),
            periods: 1,
            price_milliunits: 0,
        }
    }

    /// Whether a subscription can be bought with it.
    pub(super) fn check_for_subscription(&self) -> Result<(), SandboxError> {
        if self.payment == OfferPayment::OneTime {
            return Err(SandboxError::Refused("the offer is not for subscriptions"));
        }
        if self.payment == OfferPayment::FreeTrial && self.price_milliunits != 0 {
            return Err(SandboxError::Refused("a free trial has no price"));
        }
        if self.price_milliunits < 0 {
            return Err(SandboxError::Refused("no price is below nought"));
        }
        if self.periods == 0 {
            return Err(SandboxError::Refused("an offer has at least one period"));
        }
        Ok(())
    }

    /// Whether something that does not renew can be bought with it.
    pub(super) fn check_for_one_time(&self) -> Result<(), SandboxError> {
        if self.price_milliunits < 0 {
            return Err(SandboxError::Refused("no price is below nought"));
        }
        match (self.payment, self.kind) {
            (OfferPayment::OneTime, OfferKind::OfferCode) => Ok(()),
            _ => Err(SandboxError::Refused("the offer is for subscriptions")),
        }
    }

    /// What a transaction says of it.
    pub(super) fn applied(&self, period: Option<Period>) -> AppliedOffer {
        AppliedOffer {
            kind: self.kind,
            payment: self.payment,
            id: self
                .id
                .clone()
                .or_else(|| self.kind.default_id().map(ToOwned::to_owned))
                .filter(|_| self.kind != OfferKind::Introductory),
            period,
        }
    }
}

/// The offer that a transaction was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct AppliedOffer {
    pub(in crate::sandbox) kind: OfferKind,
    pub(in crate::sandbox) payment: OfferPayment,
    pub(in crate::sandbox) id: Option<String>,
    /// Length of the discounted time of this transaction.
    pub(in crate::sandbox) period: Option<Period>,
}

impl AppliedOffer {
    /// Whether nothing was paid.
    pub(in crate::sandbox) fn is_free(&self) -> bool {
        self.payment == OfferPayment::FreeTrial
    }
}

/// An offer that the next charge is made with, and perhaps some after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::sandbox) struct OfferRun {
    offer: Offer,
    charges_left: u8,
}

impl OfferRun {
    pub(super) fn new(offer: Offer) -> Self {
        let charges_left = match offer.payment {
            OfferPayment::PayAsYouGo => offer.periods,
            // Several free or prepaid periods are one long one.
            OfferPayment::FreeTrial | OfferPayment::PayUpFront | OfferPayment::OneTime => 1,
        };
        Self {
            offer,
            charges_left,
        }
    }

    /// Length of what the next charge pays for.
    pub(super) fn period(&self, own: Period) -> Period {
        let period = self.offer.period.unwrap_or(own);
        match self.offer.payment {
            OfferPayment::PayAsYouGo | OfferPayment::OneTime => period,
            OfferPayment::FreeTrial | OfferPayment::PayUpFront => period.times(self.offer.periods),
        }
    }

    pub(super) fn price_milliunits(&self) -> i64 {
        self.offer.price_milliunits
    }

    /// What the next transaction says of the offer.
    pub(super) fn applied(&self, own: Period) -> AppliedOffer {
        self.offer.applied(Some(self.period(own)))
    }

    /// End of what is paid by a charge at `start`.
    pub(super) fn end(&self, own: Period, start: DateTime<Utc>) -> DateTime<Utc> {
        self.period(own).after(start)
    }

    /// The offer after one charge; `None` when it was the last.
    pub(super) fn after_charge(mut self) -> Option<Self> {
        self.charges_left = self.charges_left.saturating_sub(1);
        (self.charges_left > 0).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paid_as_you_go_is_several_charges_and_everything_else_one_long_one() {
        let offer = |payment| Offer {
            payment,
            periods: 3,
            ..Offer::trial(Period::months(1))
        };
        let run = OfferRun::new(offer(OfferPayment::PayAsYouGo));
        assert_eq!(run.period(Period::years(1)), Period::months(1));
        let last = run.after_charge().and_then(OfferRun::after_charge).unwrap();
        assert_eq!(last.after_charge(), None);
        for payment in [OfferPayment::FreeTrial, OfferPayment::PayUpFront] {
            let run = OfferRun::new(offer(payment));
            assert_eq!(run.period(Period::years(1)), Period::months(3));
            assert_eq!(run.after_charge(), None);
        }
    }
}
