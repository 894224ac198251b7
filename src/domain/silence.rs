//! Silence: a source that usually speaks and does not. Pure: counts by the hour, the last word, and
//! the time give the verdict.

use chrono::{TimeDelta, Timelike as _};

use super::time::Instant;

/// What is usual is learned from so much time before the last word.
pub(crate) const LEARNED_FROM: TimeDelta = TimeDelta::days(14);
/// Before so much history nothing is called usual.
const LEARNED_AT_LEAST: TimeDelta = TimeDelta::hours(24);
/// Longer silences are judged as if they were so long.
const HOURS_JUDGED_MAX: i64 = 24 * 60;

/// Notifications of one source in one hour of business time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hour {
    pub(crate) start: Instant,
    pub(crate) received: i64,
}

/// What is to be thought of a source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Judged {
    pub(crate) silent_for: TimeDelta,
    /// How many would have come in that time as a rule, by the hour of the day.
    pub(crate) expected: f64,
    /// As many an hour are usual.
    pub(crate) per_hour: f64,
    pub(crate) verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Too little has been heard yet to know what is usual.
    Learning,
    Usual,
    Silent,
}

/// Judges a source by its history. `None`: it has never said anything.
///
/// It is silent once `expected_min` notifications should have come since the last one: with 20, a
/// source that speaks at random is wrongly called silent less than once in 10⁸ times.
pub(crate) fn judge(
    history: &[Hour],
    last: Option<Instant>,
    expected_min: f64,
    now: Instant,
) -> Option<Judged> {
    let last = last?.min(now);
    let known: Vec<&Hour> = history
        .iter()
        .filter(|hour| hour.start <= last && hour.start > last - LEARNED_FROM)
        .collect();
    let first = known.iter().map(|hour| hour.start).min();
    let span = first.map_or(TimeDelta::zero(), |first| last - first);
    let days = (span.num_minutes() as f64 / (24.0 * 60.0)).max(1.0);
    let mut by_hour = [0.0; 24];
    for hour in &known {
        by_hour[hour.start.hour() as usize % 24] += hour.received as f64 / days;
    }
    let silent_for = now - last;
    let hours = silent_for.num_minutes() as f64 / 60.0;
    let mut expected = 0.0;
    for passed in 0..silent_for.num_hours().min(HOURS_JUDGED_MAX) {
        let at = last + TimeDelta::hours(passed);
        expected += by_hour[at.hour() as usize % 24];
    }
    let rest = hours.fract();
    expected += by_hour[now.hour() as usize % 24] * rest;
    let per_hour = by_hour.iter().sum::<f64>() / 24.0;
    let verdict = if span < LEARNED_AT_LEAST {
        Verdict::Learning
    } else if expected >= expected_min {
        Verdict::Silent
    } else {
        Verdict::Usual
    };
    Some(Judged {
        silent_for,
        expected,
        per_hour,
        verdict,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Instant {
        "2027-01-10T00:00:00Z".parse::<Instant>().unwrap() + TimeDelta::hours(hours)
    }

    /// `hours` of history up to `at(0)`, with what `rate` says for each hour of the day.
    fn history(hours: i64, rate: impl Fn(u32) -> i64) -> Vec<Hour> {
        let all = (-hours..0).map(|hour| Hour {
            start: at(hour),
            received: rate(at(hour).hour()),
        });
        all.collect()
    }

    fn verdict(history: &[Hour], now: i64) -> Verdict {
        judge(history, Some(at(0)), 20.0, at(now)).unwrap().verdict
    }

    #[test]
    fn a_busy_source_is_missed_within_hours_and_a_quiet_one_within_weeks() {
        let busy = history(14 * 24, |_| 40);
        assert_eq!(verdict(&busy, 0), Verdict::Usual);
        assert_eq!(verdict(&busy, 3), Verdict::Silent);
        let judged = judge(&busy, Some(at(0)), 20.0, at(3)).unwrap();
        assert_eq!(judged.silent_for, TimeDelta::hours(3));
        assert!((judged.per_hour - 40.0).abs() < 1.0, "{judged:?}");
        assert!((judged.expected - 120.0).abs() < 3.0, "{judged:?}");

        let quiet = history(14 * 24, |hour| i64::from(hour == 12));
        assert_eq!(verdict(&quiet, 24 * 14), Verdict::Usual);
        assert_eq!(verdict(&quiet, 24 * 22), Verdict::Silent);
    }

    #[test]
    fn a_night_is_not_a_silence() {
        let days = history(14 * 24, |hour| if hour < 8 { 0 } else { 60 });
        assert_eq!(verdict(&days, 8), Verdict::Usual);
        assert_eq!(verdict(&days, 9), Verdict::Silent);
    }

    #[test]
    fn a_new_source_is_learned_first_and_a_mute_one_has_no_verdict() {
        let new = history(20, |_| 1_000);
        assert_eq!(verdict(&new, 5), Verdict::Learning);
        assert_eq!(judge(&[], None, 20.0, at(5)), None);
    }

    #[test]
    fn a_long_silence_does_not_become_usual() {
        let mut with_silence = history(14 * 24, |_| 10);
        with_silence.extend((0..24 * 40).map(|hour| Hour {
            start: at(hour),
            received: 0,
        }));
        assert_eq!(verdict(&with_silence, 24 * 40), Verdict::Silent);
    }
}
