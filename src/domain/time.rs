//! Periods of the catalog (ISO 8601) and small helpers over store dates.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Business time, as the stores and devices see it.
pub(crate) type Instant = DateTime<Utc>;

/// A billing period: `P1W`, `P1M`, `P3M`, `P1Y`…
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Period {
    count: u32,
    unit: PeriodUnit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PeriodUnit {
    Day,
    Week,
    Month,
    Year,
}

impl Period {
    /// Reads `P`, a number, and one of `D`, `W`, `M`, `Y`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let body = text.strip_prefix('P')?;
        let unit = match body.chars().last()? {
            'D' => PeriodUnit::Day,
            'W' => PeriodUnit::Week,
            'M' => PeriodUnit::Month,
            'Y' => PeriodUnit::Year,
            _ => return None,
        };
        let count = body[..body.len() - 1].parse().ok().filter(|n| *n > 0)?;
        Some(Self { count, unit })
    }
}

impl TryFrom<String> for Period {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or_else(|| format!("not a period such as P1M or P1Y: {text:?}"))
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

impl std::fmt::Display for Period {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = match self.unit {
            PeriodUnit::Day => 'D',
            PeriodUnit::Week => 'W',
            PeriodUnit::Month => 'M',
            PeriodUnit::Year => 'Y',
        };
        write!(f, "P{}{unit}", self.count)
    }
}

/// The earlier of two moments where either may be missing.
pub(crate) fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_read_and_print_alike() {
        for text in ["P1D", "P1W", "P1M", "P3M", "P6M", "P1Y"] {
            assert_eq!(
                Period::parse(text).map(|p| p.to_string()).as_deref(),
                Some(text)
            );
        }
        for text in ["", "P", "PM", "P0M", "P1", "1M", "P1H", "P-1M", "P1M2D"] {
            assert_eq!(Period::parse(text), None, "{text}");
        }
    }
}
