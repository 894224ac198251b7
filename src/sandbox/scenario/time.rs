//! Lengths and moments of time as a scenario says them: `"1 month and 1 hour"`, `"2027-02-10"`.

use std::str::FromStr;

use chrono::{DateTime, Months, NaiveDate, TimeDelta, Utc};
use serde::Deserialize;

use super::super::period::Period;

/// A length of time: calendar months first, then exact time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Length {
    months: u32,
    rest: TimeDelta,
}

/// The text is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no length of time; write \"3 days\", \"1 month\", \"1 year and 2 hours\"")]
pub struct InvalidLength(String);

impl Length {
    /// The moment so long after `start`; the end of time where the calendar has no such day.
    pub fn after(self, start: DateTime<Utc>) -> DateTime<Utc> {
        start
            .checked_add_months(Months::new(self.months))
            .and_then(|moved| moved.checked_add_signed(self.rest))
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// The same as a store's billing period, if it is whole days, months or years.
    pub fn period(self) -> Option<Period> {
        let days = u32::try_from(self.rest.num_days()).ok()?;
        if TimeDelta::days(days.into()) != self.rest {
            return None;
        }
        match (self.months, days) {
            (0, 0) => None,
            (0, days) if days % 7 == 0 => Some(Period::weeks(days / 7)),
            (0, days) => Some(Period::days(days)),
            (months, 0) if months % 12 == 0 => Some(Period::years(months / 12)),
            (months, 0) => Some(Period::months(months)),
            _ => None,
        }
    }

    /// The same by the machine's clock, which knows no months.
    pub fn machine_time(self) -> std::time::Duration {
        self.rest.to_std().unwrap_or_default()
    }

    /// The same as whole days, if it is that.
    pub fn days(self) -> Option<u16> {
        let days = u16::try_from(self.rest.num_days()).ok()?;
        (self.months == 0 && TimeDelta::days(days.into()) == self.rest).then_some(days)
    }

    fn add(&mut self, count: u32, unit: &str) -> Option<()> {
        let months = match unit.strip_suffix('s').unwrap_or(unit) {
            "year" => count.checked_mul(12)?,
            "month" => count,
            unit => {
                let seconds = match unit {
                    "week" => 604_800,
                    "day" => 86_400,
                    "hour" => 3_600,
                    "minute" => 60,
                    "second" => 1,
                    _ => return None,
                };
                let more = TimeDelta::try_seconds(i64::from(count) * seconds)?;
                self.rest = self.rest.checked_add(&more)?;
                0
            }
        };
        self.months = self.months.checked_add(months)?;
        Some(())
    }
}

impl TryFrom<String> for Length {
    type Error = InvalidLength;

    fn try_from(text: String) -> Result<Self, InvalidLength> {
        let words: Vec<&str> = text.split_whitespace().filter(|w| *w != "and").collect();
        let mut length = Self::default();
        for pair in words.chunks(2) {
            let [count, unit] = pair else {
                return Err(InvalidLength(text));
            };
            let added = count.parse().ok().and_then(|count| length.add(count, unit));
            if added.is_none() {
                return Err(InvalidLength(text));
            }
        }
        match length == Self::default() {
            true => Err(InvalidLength(text)),
            false => Ok(length),
        }
    }
}

/// A moment: a date (its first second) or a date and time, in UTC; TOML's own or quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Moment(pub DateTime<Utc>);

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "no moment; write 2027-02-10 or 2027-02-10T09:00:00Z"
)]
enum Written {
    Bare(toml::value::Datetime),
    Quoted(String),
}

/// The text is no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no moment; write 2027-02-10 or 2027-02-10T09:00:00Z")]
pub struct InvalidMoment(String);

impl TryFrom<Written> for Moment {
    type Error = InvalidMoment;

    fn try_from(written: Written) -> Result<Self, InvalidMoment> {
        match written {
            Written::Bare(moment) => moment.to_string().parse(),
            Written::Quoted(text) => text.parse(),
        }
    }
}

impl FromStr for Moment {
    type Err = InvalidMoment;

    fn from_str(text: &str) -> Result<Self, InvalidMoment> {
        let midnight = || {
            let day = text.parse::<NaiveDate>().ok()?;
            Some(day.and_hms_opt(0, 0, 0)?.and_utc())
        };
        let moment = text.parse().ok().or_else(midnight);
        moment
            .map(Self)
            .ok_or_else(|| InvalidMoment(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn length(text: &str) -> Option<Length> {
        text.to_owned().try_into().ok()
    }

    #[test]
    fn lengths_read_as_people_say_them() {
        let start: DateTime<Utc> = "2027-01-31T09:00:00Z".parse().unwrap();
        let after = |text: &str| length(text).map(|length| length.after(start).to_rfc3339());
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(after("1 month"), is("2027-02-28T09:00:00+00:00"));
        assert_eq!(after("1 year and 2 hours"), is("2028-01-31T11:00:00+00:00"));
        assert_eq!(
            after("1 month 3 days and 30 minutes"),
            is("2027-03-03T09:30:00+00:00")
        );
        for wrong in [
            "",
            "month",
            "1",
            "1 fortnight",
            "-1 day",
            "0 days",
            "1month",
        ] {
            assert_eq!(after(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_length_is_a_billing_period_or_days_where_a_store_could_name_it() {
        let period = |text: &str| length(text).unwrap().period().map(|p| p.to_string());
        assert_eq!(period("1 month").as_deref(), Some("P1M"));
        assert_eq!(period("12 months").as_deref(), Some("P1Y"));
        assert_eq!(period("14 days").as_deref(), Some("P2W"));
        assert_eq!(period("3 days").as_deref(), Some("P3D"));
        assert_eq!(period("1 month 1 day"), None);
        assert_eq!(period("90 minutes"), None);
        assert_eq!(length("2 weeks").unwrap().days(), Some(14));
        assert_eq!(length("1 month").unwrap().days(), None);
    }
}
