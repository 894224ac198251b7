//! Billing periods in calendar arithmetic: `P1W`, `P1M`, `P3M`, `P6M`, `P1Y`, and days for trials.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Months, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// A length of time as the stores state it. A month is a calendar month: a purchase of 31 January
/// renews on 28 February and stays on the 28th afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period {
    count: u32,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Day,
    Week,
    Month,
    Year,
}

/// The text is no period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a period: write P1W, P1M, P1Y and the like, or 3d, 1w, 1mo, 1y")]
pub struct InvalidPeriod;

impl Period {
    /// So many days.
    pub const fn days(count: u32) -> Self {
        Self {
            count,
            unit: Unit::Day,
        }
    }

    /// So many weeks.
    pub const fn weeks(count: u32) -> Self {
        Self {
            count,
            unit: Unit::Week,
        }
    }

    /// So many calendar months.
    pub const fn months(count: u32) -> Self {
        Self {
            count,
            unit: Unit::Month,
        }
    }

    /// So many years.
    pub const fn years(count: u32) -> Self {
        Self {
            count,
            unit: Unit::Year,
        }
    }

    /// So many of these periods in one.
    pub(super) fn times(self, count: u8) -> Self {
        Self {
            count: self.count.saturating_mul(count.into()),
            ..self
        }
    }

    /// The moment one period after `start`; the end of time where the calendar has no such day.
    pub fn after(self, start: DateTime<Utc>) -> DateTime<Utc> {
        let count = i64::from(self.count);
        match self.unit {
            Unit::Day => start.checked_add_signed(TimeDelta::days(count)),
            Unit::Week => start.checked_add_signed(TimeDelta::weeks(count)),
            Unit::Month => start.checked_add_months(Months::new(self.count)),
            Unit::Year => start.checked_add_months(Months::new(self.count.saturating_mul(12))),
        }
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Day => 'D',
            Unit::Week => 'W',
            Unit::Month => 'M',
            Unit::Year => 'Y',
        };
        write!(f, "P{}{unit}", self.count)
    }
}

impl FromStr for Period {
    type Err = InvalidPeriod;

    fn from_str(text: &str) -> Result<Self, InvalidPeriod> {
        let text = text.strip_prefix('P').unwrap_or(text);
        let split = text
            .find(|c: char| !c.is_ascii_digit())
            .ok_or(InvalidPeriod)?;
        let (count, unit) = text.split_at(split);
        let count = count.parse().map_err(|_| InvalidPeriod)?;
        let unit = match unit {
            "D" | "d" => Unit::Day,
            "W" | "w" => Unit::Week,
            "M" | "mo" => Unit::Month,
            "Y" | "y" => Unit::Year,
            _ => return Err(InvalidPeriod),
        };
        // The calendar holds an offer of 255 of the longest of these.
        let longest = match unit {
            Unit::Day | Unit::Week | Unit::Month => 10_000,
            Unit::Year => 1_000,
        };
        (1..=longest)
            .contains(&count)
            .then_some(Self { count, unit })
            .ok_or(InvalidPeriod)
    }
}

impl TryFrom<String> for Period {
    type Error = InvalidPeriod;

    fn try_from(text: String) -> Result<Self, InvalidPeriod> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_month_is_a_calendar_month_and_keeps_the_day_it_fell_to() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let month = Period::months(1);
        let february = month.after(at("2026-01-31T10:00:00Z"));
        assert_eq!(february, at("2026-02-28T10:00:00Z"));
        assert_eq!(month.after(february), at("2026-03-28T10:00:00Z"));
        assert_eq!(
            Period::years(1).after(at("2024-02-29T00:00:00Z")),
            at("2025-02-28T00:00:00Z")
        );
    }

    #[test]
    fn periods_are_read_as_the_stores_and_as_people_write_them() {
        assert_eq!("P1M".parse(), Ok(Period::months(1)));
        assert_eq!("1mo".parse(), Ok(Period::months(1)));
        assert_eq!("P3D".parse(), Ok(Period::days(3)));
        assert_eq!(Period::weeks(2).to_string(), "P2W");
        for wrong in [
            "",
            "P",
            "P1",
            "1x",
            "-1d",
            "P0M",
            "PT1H",
            "P1001Y",
            "99999999999d",
        ] {
            assert_eq!(wrong.parse::<Period>(), Err(InvalidPeriod), "{wrong}");
        }
    }

    #[test]
    fn the_longest_offer_ends_before_time_does() {
        let start = "2026-01-31T10:00:00Z".parse::<DateTime<Utc>>().unwrap();
        for longest in ["P10000D", "P10000W", "P10000M", "P1000Y"] {
            let period = longest.parse::<Period>().unwrap();
            assert!(period.times(u8::MAX).after(start) < DateTime::<Utc>::MAX_UTC);
        }
    }
}
