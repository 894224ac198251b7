//! Periods of the catalog (ISO 8601) and small helpers over store dates.

use chrono::{DateTime, Days, Months, Utc};
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

impl Period {
    /// The end of `times` periods that begin at `start`. Month ends are those of the last month:
    /// a month from the 31st of January ends on the last of February. `None` beyond the calendar.
    pub(crate) fn after(self, start: Instant, times: u32) -> Option<Instant> {
        let count = self.count.checked_mul(times)?;
        match self.unit {
            PeriodUnit::Day => start.checked_add_days(Days::new(count.into())),
            PeriodUnit::Week => start.checked_add_days(Days::new(u64::from(count) * 7)),
            PeriodUnit::Month => start.checked_add_months(Months::new(count)),
            PeriodUnit::Year => start.checked_add_months(Months::new(count.checked_mul(12)?)),
        }
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
    fn periods_end_by_the_calendar() {
        let at = |text: &str| -> Instant { text.parse().expect("a date") };
        for (period, times, end) in [
            ("P1D", 3, "2027-02-03T09:00:00Z"),
            ("P2W", 1, "2027-02-14T09:00:00Z"),
            ("P1M", 1, "2027-02-28T09:00:00Z"),
            ("P1M", 2, "2027-03-31T09:00:00Z"),
            ("P1Y", 1, "2028-01-31T09:00:00Z"),
        ] {
            let period = Period::parse(period).expect("a period");
            assert_eq!(
                period.after(at("2027-01-31T09:00:00Z"), times),
                Some(at(end))
            );
        }
        let years = Period::parse("P1Y").expect("a period");
        assert_eq!(years.after(at("2027-01-31T09:00:00Z"), u32::MAX), None);
    }

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
