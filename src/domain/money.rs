//! Money: integer micros (10⁻⁶ of the major unit) with its currency. Exact for every store.

use serde::{Deserialize, Serialize};

/// Three upper-case letters of ISO 4217.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Currency([u8; 3]);

impl Currency {
    pub(crate) fn parse(code: &str) -> Option<Self> {
        let bytes: [u8; 3] = code.as_bytes().try_into().ok()?;
        bytes
            .iter()
            .all(u8::is_ascii_uppercase)
            .then_some(Self(bytes))
    }

    #[expect(
        clippy::expect_used,
        reason = "the field is private and only `parse` fills it, with ASCII letters"
    )]
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("three ASCII letters")
    }
}

impl TryFrom<String> for Currency {
    type Error = String;

    fn try_from(code: String) -> Result<Self, Self::Error> {
        Self::parse(&code).ok_or_else(|| format!("not an ISO 4217 code: {code:?}"))
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.as_str().to_owned()
    }
}

/// An amount in one currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Money {
    micros: i64,
    currency: Currency,
}

impl Money {
    /// Apple's unit: 9.99 is 9990, for every currency. `None` when it does not fit.
    pub(crate) fn from_milliunits(milliunits: i64, currency: Currency) -> Option<Self> {
        let micros = milliunits.checked_mul(1_000)?;
        Some(Self { micros, currency })
    }

    /// Google's unit: whole units and billionths with equal signs. `None` when not exact in micros.
    pub(crate) fn from_units_and_nanos(units: i64, nanos: i64, currency: Currency) -> Option<Self> {
        if nanos % 1_000 != 0 || nanos.abs() >= 1_000_000_000 {
            return None;
        }
        let micros = units.checked_mul(1_000_000)?.checked_add(nanos / 1_000)?;
        Some(Self { micros, currency })
    }

    /// A part of it, in thousandths of a percent (100,000 is all of it), rounded to whole micros.
    pub(crate) fn share(self, millipercent: u32) -> Self {
        let part = i128::from(self.micros) * i128::from(millipercent);
        let half = if part < 0 { -50_000 } else { 50_000 };
        let micros = i64::try_from((part + half) / 100_000).unwrap_or(self.micros);
        Self { micros, ..self }
    }

    /// `None` for two currencies, or when it does not fit.
    pub(crate) fn checked_add(self, other: Self) -> Option<Self> {
        let micros = self.micros.checked_add(other.micros)?;
        (self.currency == other.currency).then_some(Self { micros, ..self })
    }

    pub(crate) fn micros(self) -> i64 {
        self.micros
    }

    pub(crate) fn currency(&self) -> &Currency {
        &self.currency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_store_unit_is_exact() {
        let usd = Currency::parse("USD").expect("a code");
        let apple = Money::from_milliunits(9_990, usd).map(Money::micros);
        let google = Money::from_units_and_nanos(9, 990_000_000, usd).map(Money::micros);
        assert_eq!(apple, Some(9_990_000));
        assert_eq!(google, apple);
        assert_eq!(Money::from_units_and_nanos(0, 1, usd), None);
        assert_eq!(Money::from_milliunits(i64::MAX, usd), None);
        assert_eq!(Currency::parse("usd"), None);
    }
}
