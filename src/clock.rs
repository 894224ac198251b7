//! Business time. The one file that reads the wall clock for periods, deadlines and store dates.
//!
//! Machine time (leases, credentials, time-outs, cache age) never comes from here: it is
//! `tokio::time`, `SystemTime` or the database's clock, so a virtual clock cannot bend a guard.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, Utc};
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

/// A clock that runs from a chosen moment, stands still, and jumps when told to.
#[derive(Clone, Debug)]
pub struct VirtualClock(Arc<watch::Sender<Reading>>);

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: DateTime<Utc>,
    /// When `at` was read, if the clock runs; `None` while it stands still.
    running_since: Option<Instant>,
}

impl Reading {
    fn now(self) -> DateTime<Utc> {
        match self.running_since {
            Some(since) => self.at + since.elapsed(),
            None => self.at,
        }
    }
}

impl VirtualClock {
    /// A clock that shows `start` now and then runs at the machine's pace.
    pub fn running(start: DateTime<Utc>) -> Self {
        Self(Arc::new(watch::Sender::new(Reading {
            at: start,
            running_since: Some(Instant::now()),
        })))
    }

    /// A clock that shows `start` until it is moved.
    pub fn stopped(start: DateTime<Utc>) -> Self {
        Self(Arc::new(watch::Sender::new(Reading {
            at: start,
            running_since: None,
        })))
    }

    /// The time it shows.
    pub fn now(&self) -> DateTime<Utc> {
        self.0.borrow().now()
    }

    /// Moves the clock forward to `target`; a target in its past changes nothing.
    pub fn advance_to(&self, target: DateTime<Utc>) {
        self.0.send_modify(|reading| {
            let now = reading.now();
            reading.at = now.max(target);
            reading.running_since = reading.running_since.map(|_| Instant::now());
        });
    }

    /// Returns once the clock shows `deadline` or later.
    pub async fn sleep_until(&self, deadline: DateTime<Utc>) {
        let mut readings = self.0.subscribe();
        loop {
            let reading = *readings.borrow_and_update();
            let Ok(left) = (deadline - reading.now()).to_std() else {
                return;
            };
            if left.is_zero() {
                return;
            }
            let moved = readings.changed();
            if reading.running_since.is_some() {
                tokio::select! {
                    () = tokio::time::sleep(left) => {}
                    _ = moved => {}
                }
            } else if moved.await.is_err() {
                return;
            }
        }
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
    use chrono::TimeDelta;

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
}
