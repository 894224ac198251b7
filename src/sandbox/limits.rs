//! Rate limits of the stores' APIs: sliding windows of machine time, watched only where a run asks
//! for it. On a virtual clock a month of calls comes within a second.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Calls that share an allowance.
pub(super) struct Limit {
    /// Names the allowance; one per store and kind of call.
    pub(super) name: &'static str,
    /// So many calls in any stretch of this length; the longest stretch stands last.
    pub(super) windows: &'static [(usize, Duration)],
}

/// What has been called lately.
#[derive(Default)]
pub(super) struct Limits {
    on: AtomicBool,
    calls: Mutex<BTreeMap<&'static str, VecDeque<Instant>>>,
}

impl Limits {
    /// Starts or stops watching; what was called before does not count.
    pub(super) fn watch(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    pub(super) fn is_watching(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Counts a call that is allowed; otherwise says how long the caller has to wait.
    pub(super) fn take(&self, limit: &Limit, now: Instant) -> Result<(), Duration> {
        if !self.is_watching() {
            return Ok(());
        }
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = calls.entry(limit.name).or_default();
        let age = |at: &Instant| now.saturating_duration_since(*at);
        let longest = limit.windows.last().map_or(Duration::ZERO, |(_, per)| *per);
        while calls.front().is_some_and(|at| age(at) >= longest) {
            calls.pop_front();
        }
        let wait = limit.windows.iter().filter_map(|(allowed, per)| {
            let first = calls.len().checked_sub(*allowed)?;
            per.checked_sub(age(calls.get(first)?))
        });
        match wait.filter(|wait| !wait.is_zero()).max() {
            Some(wait) => Err(wait),
            None => {
                calls.push_back(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);
    const LIMIT: Limit = Limit {
        name: "test",
        windows: &[(2, SECOND), (3, MINUTE)],
    };

    #[test]
    fn calls_are_counted_in_every_window_once_limits_are_watched() {
        let limits = Limits::default();
        let start = Instant::now();
        for _ in 0..10 {
            assert_eq!(limits.take(&LIMIT, start), Ok(()));
        }
        limits.watch(true);
        assert_eq!(limits.take(&LIMIT, start), Ok(()));
        assert_eq!(limits.take(&LIMIT, start), Ok(()));
        assert_eq!(limits.take(&LIMIT, start), Err(SECOND));
        let other = Limit {
            name: "other",
            ..LIMIT
        };
        assert_eq!(limits.take(&other, start), Ok(()));
        assert_eq!(limits.take(&LIMIT, start + SECOND), Ok(()));
        let full = limits.take(&LIMIT, start + 2 * SECOND);
        assert_eq!(full, Err(MINUTE - 2 * SECOND));
        assert_eq!(limits.take(&LIMIT, start + MINUTE), Ok(()));
        limits.watch(false);
        assert_eq!(limits.take(&LIMIT, start + MINUTE), Ok(()));
    }
}
