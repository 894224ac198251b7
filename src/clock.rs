//! Business time. The one file that reads the wall clock for periods, deadlines and store dates.
//!
//! Machine time (leases, credentials, time-outs, cache age) never comes from here: it is
//! `tokio::time`, `SystemTime` or the database's clock, so a virtual clock cannot bend a guard.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

/// Where business time comes from: the system, or a virtual clock shared with the store simulator.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's UTC clock.
    System,
    /// A clock that tests, `dev` and `demo` move; refused by a production configuration.
    Virtual(VirtualClock),
}

impl Clock {
    /// The business time of this moment, in whole microseconds: what Postgres can keep, so that a
    /// time that was written reads as the time that was decided by.
    pub fn now(&self) -> DateTime<Utc> {
        let now = match self {
            Self::System => Utc::now(),
            Self::Virtual(clock) => clock.now(),
        };
        now.trunc_subsecs(6)
    }

    /// Returns once business time has reached `deadline`, however it gets there.
    pub async fn sleep_until(&self, deadline: DateTime<Utc>) {
        match self {
            Self::System => {
                // Bounded naps: a clock that is set forward must not leave a sleeper behind.
                while let Ok(left) = (deadline - Utc::now()).to_std() {
                    if left.is_zero() {
                        return;
                    }
                    tokio::time::sleep(left.min(Duration::from_secs(30))).await;
                }
            }
            Self::Virtual(clock) => clock.sleep_until(deadline).await,
        }
    }
}

/// A clock that runs from a chosen moment at a chosen rate, stands still at rate 0, and jumps when
/// told to. It may be given a limit that it does not run past.
#[derive(Clone, Debug)]
pub struct VirtualClock(Arc<watch::Sender<Reading>>);

/// What a virtual clock shows, for whoever follows it from another process.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClockReading {
    /// Business time.
    pub now: DateTime<Utc>,
    /// Business seconds that pass in a second of the machine's; 0 while it stands still.
    #[serde(default = "real")]
    pub rate: f64,
    /// The moment it does not run past by itself.
    #[serde(default)]
    pub limit: Option<DateTime<Utc>>,
    /// Changes with every change but the passing of time.
    #[serde(default)]
    pub version: u64,
}

const fn real() -> f64 {
    1.0
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    /// What it showed at `since`.
    at: DateTime<Utc>,
    since: Instant,
    rate: f64,
    limit: Option<DateTime<Utc>>,
    version: u64,
}

impl Reading {
    fn now(&self) -> DateTime<Utc> {
        let passed = scaled(self.since.elapsed(), self.rate);
        let ran = self.at.checked_add_signed(passed);
        let ran = ran.unwrap_or(DateTime::<Utc>::MAX_UTC);
        // A limit in the past does not turn the clock back.
        self.limit.map_or(ran, |limit| ran.min(limit.max(self.at)))
    }

    /// Machine time until it shows `deadline` if nobody touches it.
    fn left(&self, deadline: DateTime<Utc>) -> Option<Duration> {
        if self.rate == 0.0 || self.limit.is_some_and(|limit| limit < deadline) {
            return None;
        }
        let whole = (deadline - self.at).to_std().ok()?.as_secs_f64() / self.rate;
        let whole = Duration::try_from_secs_f64(whole).unwrap_or(SLEEP_MAX);
        let left = whole.saturating_sub(self.since.elapsed());
        // Timers count milliseconds: never zero, or a sleeper that is a little early would spin.
        Some(left.clamp(Duration::from_millis(1), SLEEP_MAX))
    }

    /// Starts anew from where it stands.
    fn rebase(&mut self) {
        (self.at, self.since) = (self.now(), Instant::now());
    }
}

/// Longer sleeps are taken in parts.
const SLEEP_MAX: Duration = Duration::from_secs(3_600);

fn scaled(elapsed: Duration, rate: f64) -> TimeDelta {
    if (rate - 1.0).abs() < f64::EPSILON {
        return TimeDelta::from_std(elapsed).unwrap_or(TimeDelta::MAX);
    }
    let micros = elapsed.as_secs_f64() * rate * 1e6;
    // A float saturates when it is cast; centuries stay within what a date can carry.
    TimeDelta::microseconds((micros as i64).min(MICROS_MAX))
}

/// 200 years.
const MICROS_MAX: i64 = 200 * 366 * 86_400 * 1_000_000;

impl VirtualClock {
    /// A clock that shows `start` now and then runs at the machine's pace.
    pub fn running(start: DateTime<Utc>) -> Self {
        Self::scaled(start, 1.0)
    }

    /// A clock that shows `start` until it is moved.
    pub fn stopped(start: DateTime<Utc>) -> Self {
        Self::scaled(start, 0.0)
    }

    /// A clock that shows `start` now and then runs `rate` times as fast as the machine's.
    pub fn scaled(start: DateTime<Utc>, rate: f64) -> Self {
        Self(Arc::new(watch::Sender::new(Reading {
            at: start,
            since: Instant::now(),
            rate: sane(rate),
            limit: None,
            version: 0,
        })))
    }

    /// The time it shows.
    pub fn now(&self) -> DateTime<Utc> {
        self.0.borrow().now()
    }

    /// Business seconds that pass in a second of the machine's.
    pub fn rate(&self) -> f64 {
        self.0.borrow().rate
    }

    /// Everything a follower needs.
    pub fn reading(&self) -> ClockReading {
        let reading = *self.0.borrow();
        ClockReading {
            now: reading.now(),
            rate: reading.rate,
            limit: reading.limit,
            version: reading.version,
        }
    }

    /// Returns once the clock has been touched since it was at `version`, at most after `patience`.
    pub async fn changed_since(&self, version: u64, patience: Duration) {
        let mut readings = self.0.subscribe();
        let changed = readings.wait_for(|reading| reading.version != version);
        let _ = tokio::time::timeout(patience, changed).await;
    }

    /// From now on it runs `rate` times as fast as the machine's clock; 0 stops it. A rate below 0
    /// or beyond all measure counts as the next that is sane.
    pub fn set_rate(&self, rate: f64) {
        self.touch(|reading| {
            reading.rebase();
            reading.rate = sane(rate);
        });
    }

    /// It does not run past `limit` by itself. Time that a limit held back is made up for when
    /// the limit moves on.
    pub fn set_limit(&self, limit: Option<DateTime<Utc>>) {
        self.touch(|reading| {
            let now = reading.now();
            reading.limit = limit.map(|limit| limit.max(now));
        });
    }

    /// Moves the clock forward to `target`; a target in its past changes nothing.
    pub fn advance_to(&self, target: DateTime<Utc>) {
        self.touch(|reading| {
            reading.rebase();
            reading.at = reading.at.max(target);
            reading.limit = reading.limit.map(|limit| limit.max(target));
        });
    }

    /// Shows what another clock shows, as read a moment ago; never goes back.
    pub fn follow(&self, leader: &ClockReading) {
        self.touch(|reading| {
            reading.rebase();
            reading.at = reading.at.max(leader.now);
            reading.rate = sane(leader.rate);
            reading.limit = leader.limit.map(|limit| limit.max(reading.at));
        });
    }

    fn touch(&self, change: impl FnOnce(&mut Reading)) {
        self.0.send_modify(|reading| {
            change(reading);
            reading.version += 1;
        });
    }

    /// Returns once the clock shows `deadline` or later.
    pub async fn sleep_until(&self, deadline: DateTime<Utc>) {
        let mut readings = self.0.subscribe();
        loop {
            let reading = *readings.borrow_and_update();
            if reading.now() >= deadline {
                return;
            }
            let moved = readings.changed();
            match reading.left(deadline) {
                Some(left) => tokio::select! {
                    () = tokio::time::sleep(left) => {}
                    _ = moved => {}
                },
                None => {
                    if moved.await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// A rate that a clock can run at: ten years a second at most.
fn sane(rate: f64) -> f64 {
    if rate.is_nan() {
        0.0
    } else {
        rate.clamp(0.0, 3.2e8)
    }
}

impl From<VirtualClock> for Clock {
    fn from(clock: VirtualClock) -> Self {
        Self::Virtual(clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stopped_clock_wakes_its_sleepers_when_it_is_moved_past_them() {
        let start = DateTime::UNIX_EPOCH;
        let clock = VirtualClock::stopped(start);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep_until(start + TimeDelta::days(1)).await;
                clock.now()
            }
        });
        clock.advance_to(start + TimeDelta::hours(1));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance_to(start + TimeDelta::days(2));
        assert_eq!(sleeper.await.ok(), Some(start + TimeDelta::days(2)));
    }

    #[test]
    fn a_clock_never_goes_back() {
        let start = DateTime::UNIX_EPOCH + TimeDelta::days(10);
        let clock = VirtualClock::stopped(start);
        clock.advance_to(start - TimeDelta::days(5));
        assert_eq!(clock.now(), start);
    }

    #[tokio::test(start_paused = true)]
    async fn a_scaled_clock_runs_faster_and_changes_its_rate_on_the_way() {
        let start = DateTime::UNIX_EPOCH;
        let clock = VirtualClock::scaled(start, 86_400.0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(clock.now(), start + TimeDelta::days(2));
        clock.set_rate(0.0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(clock.now(), start + TimeDelta::days(2));
        clock.set_rate(3_600.0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(clock.now(), start + TimeDelta::hours(50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_scaled_clock_wakes_its_sleepers_in_scaled_time() {
        let start = DateTime::UNIX_EPOCH;
        let clock = VirtualClock::scaled(start, 86_400.0);
        let began = Instant::now();
        clock.sleep_until(start + TimeDelta::days(30)).await;
        let took = began.elapsed().as_secs_f64();
        assert!((30.0..30.1).contains(&took), "{took}");
        assert!(clock.now() >= start + TimeDelta::days(30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleeper_on_a_stopped_clock_wakes_once_it_runs() {
        let start = DateTime::UNIX_EPOCH;
        let clock = VirtualClock::stopped(start);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(start + TimeDelta::days(1)).await }
        });
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(!sleeper.is_finished());
        clock.set_rate(86_400.0);
        tokio::time::sleep(Duration::from_millis(1_010)).await;
        assert!(sleeper.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_holds_the_clock_and_the_lost_time_is_made_up_for() {
        let start = DateTime::UNIX_EPOCH;
        let clock = VirtualClock::running(start);
        clock.set_limit(Some(start + TimeDelta::seconds(5)));
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert_eq!(clock.now(), start + TimeDelta::seconds(5));
        clock.set_limit(Some(start + TimeDelta::seconds(2)));
        assert_eq!(clock.now(), start + TimeDelta::seconds(5), "never back");
        clock.set_limit(None);
        assert_eq!(clock.now(), start + TimeDelta::seconds(8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_shows_what_its_leader_shows_and_stops_where_that_must_stop() {
        let start = DateTime::UNIX_EPOCH;
        let leader = VirtualClock::scaled(start, 60.0);
        leader.set_limit(Some(start + TimeDelta::minutes(3)));
        let follower = VirtualClock::stopped(start);
        follower.follow(&leader.reading());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(follower.now(), leader.now());
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(follower.now(), start + TimeDelta::minutes(3));
        let seen = leader.reading();
        let waits = leader.changed_since(seen.version, Duration::from_secs(9));
        let began = Instant::now();
        tokio::join!(waits, async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            leader.advance_to(start + TimeDelta::days(1));
        });
        assert_eq!(began.elapsed().as_secs(), 1);
        follower.follow(&leader.reading());
        assert_eq!(follower.now(), start + TimeDelta::days(1));
    }

    #[test]
    fn a_reading_without_a_rate_is_of_a_clock_that_runs() {
        let reading: Result<ClockReading, _> =
            serde_json::from_str(r#"{"now":"2027-01-01T00:00:00Z"}"#);
        let told = reading.ok().map(|reading| (reading.rate, reading.limit));
        assert_eq!(told, Some((1.0, None)));
    }
}
