//! Prices and offers as a scenario says them.

use serde::Deserialize;

use super::super::app_store::{self, OfferKind, OfferPayment};
use super::super::google_play;
use super::time::Length;

/// An amount of money: `"9.99 USD"`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Money {
    /// In millionths of the currency's major unit.
    pub micros: i64,
    /// ISO 4217 code.
    pub currency: String,
}

/// The text is no amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no price; write \"9.99 USD\"")]
pub struct InvalidMoney(String);

/// Digits after the point that a millionth has.
const MICROS_DIGITS: usize = 6;

impl Money {
    /// In thousandths of the major unit, as Apple states prices.
    pub(super) const fn milliunits(&self) -> i64 {
        self.micros / 1_000
    }
}

impl TryFrom<String> for Money {
    type Error = InvalidMoney;

    fn try_from(text: String) -> Result<Self, InvalidMoney> {
        let parsed = || {
            let (amount, currency) = text.split_once(' ')?;
            let (whole, part) = amount.split_once('.').unwrap_or((amount, ""));
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            let code = currency.len() == 3 && currency.bytes().all(|b| b.is_ascii_uppercase());
            if whole.is_empty() || !digits(whole) || !digits(part) || !code {
                return None;
            }
            if part.len() > MICROS_DIGITS {
                return None;
            }
            Some(Self {
                micros: format!("{whole}{part:0<MICROS_DIGITS$}").parse().ok()?,
                currency: currency.to_owned(),
            })
        };
        parsed().ok_or_else(|| InvalidMoney(text.clone()))
    }
}

/// A discount on a purchase.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferTerms {
    /// App Store: whom it is for; new subscribers if absent.
    pub kind: Option<OfferKind>,
    /// App Store: how it is paid; free if absent and no price is given, else as you go.
    pub payment: Option<OfferPayment>,
    /// The offer's id at the store.
    pub id: Option<String>,
    /// Length of one discounted period.
    pub period: Option<Length>,
    /// How many of these periods; 1 if absent.
    pub periods: Option<u8>,
    /// Price of one of them.
    pub price: Option<Money>,
}

impl OfferTerms {
    /// As Apple knows it; an error says what it cannot.
    pub(super) fn app_store(&self) -> Result<app_store::Offer, &'static str> {
        let free = match self.price {
            Some(_) => OfferPayment::PayAsYouGo,
            None => OfferPayment::FreeTrial,
        };
        Ok(app_store::Offer {
            kind: self.kind.unwrap_or(OfferKind::Introductory),
            payment: self.payment.unwrap_or(free),
            id: self.id.clone(),
            period: self.period.map(billing_period).transpose()?,
            periods: self.periods.unwrap_or(1),
            price_milliunits: self.price.as_ref().map_or(0, Money::milliunits),
        })
    }

    /// As Google knows it; an error says what it lacks.
    pub(super) fn google_play(&self) -> Result<google_play::Offer, &'static str> {
        if self.kind.is_some() || self.payment.is_some() {
            return Err("kind and payment of an offer are the App Store's");
        }
        let period = self
            .period
            .ok_or("an offer at Google Play needs a period")?;
        Ok(google_play::Offer {
            id: self
                .id
                .clone()
                .ok_or("an offer at Google Play needs an id")?,
            price_micros: self.price.as_ref().map_or(0, |price| price.micros),
            period: billing_period(period)?,
            periods: self.periods.unwrap_or(1).into(),
        })
    }
}

/// A length of time as a store bills it.
pub(super) fn billing_period(length: Length) -> Result<super::super::period::Period, &'static str> {
    length
        .period()
        .ok_or("stores bill by whole days, weeks, months or years")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact() {
        let micros = |text: &str| Money::try_from(text.to_owned()).ok().map(|m| m.micros);
        assert_eq!(micros("9.99 USD"), Some(9_990_000));
        assert_eq!(micros("120 JPY"), Some(120_000_000));
        assert_eq!(micros("0.000001 USD"), Some(1));
        for wrong in [
            "9.99",
            "9,99 EUR",
            "-1 USD",
            "1.0000001 USD",
            "1 usd",
            ".5 USD",
        ] {
            assert_eq!(micros(wrong), None, "{wrong}");
        }
    }
}
