//! How many connections each address may hold, and how many it may open in a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use dashmap::DashMap;

use super::address::AddressClass;

/// Addresses that have left are forgotten after so many connections.
const TIDIED_AFTER: u32 = 10_000;

/// Connections by address, of all listeners that share it.
#[derive(Clone, Debug)]
pub(super) struct Places {
    held: Arc<DashMap<AddressClass, Held>>,
    /// Taken since the last tidying.
    taken: Arc<AtomicU32>,
    max: u32,
    per_second: f64,
}

#[derive(Debug)]
struct Held {
    now: u32,
    /// How many more it may open at once; refilled by time up to `max`.
    left: f64,
    since: Instant,
}

/// One of an address's connections.
#[derive(Debug)]
pub(super) struct Place(Option<(Places, AddressClass)>);

/// Why an address gets no further connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It holds as many as one may.
    TooMany,
    /// It has opened too many in too short a time.
    TooFast,
}

impl Places {
    pub(super) fn new(max: u32, per_second: u32) -> Self {
        Self {
            held: Arc::default(),
            taken: Arc::default(),
            max,
            per_second: f64::from(per_second),
        }
    }

    /// For an address that speaks for many, like a proxy's: it is not counted.
    pub(super) const fn uncounted() -> Place {
        Place(None)
    }

    pub(super) fn take(&self, address: AddressClass, now: Instant) -> Result<Place, Refused> {
        if self.taken.fetch_add(1, Ordering::Relaxed) >= TIDIED_AFTER {
            self.taken.store(0, Ordering::Relaxed);
            self.tidy(now);
        }
        let mut held = self.held.entry(address).or_insert_with(|| Held {
            now: 0,
            left: f64::from(self.max),
            since: now,
        });
        let passed = now.saturating_duration_since(held.since).as_secs_f64();
        held.left = (held.left + passed * self.per_second).min(f64::from(self.max));
        held.since = now;
        if held.now >= self.max {
            return Err(Refused::TooMany);
        }
        if held.left < 1.0 {
            return Err(Refused::TooFast);
        }
        held.left -= 1.0;
        held.now += 1;
        Ok(Place(Some((self.clone(), address))))
    }

    /// Forgets addresses that hold nothing and may open as many as any.
    fn tidy(&self, now: Instant) {
        self.held.retain(|_, held| {
            let passed = now.saturating_duration_since(held.since).as_secs_f64();
            held.now > 0 || held.left + passed * self.per_second < f64::from(self.max)
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((places, address)) = self.0.take()
            && let Some(mut held) = places.held.get_mut(&address)
        {
            held.now -= 1;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_address_has_its_share_in_number_and_in_time_and_takes_nobody_elses() {
        let places = Places::new(3, 1);
        let (one, other) = (
            AddressClass::of("203.0.113.7".parse().unwrap()),
            AddressClass::of("203.0.113.8".parse().unwrap()),
        );
        let start = Instant::now();
        let held: Vec<Place> = (0..3).map(|_| places.take(one, start).unwrap()).collect();
        assert_eq!(places.take(one, start).unwrap_err(), Refused::TooMany);
        assert!(places.take(other, start).is_ok());
        drop(held);
        // Room, but it came and went too fast.
        assert_eq!(places.take(one, start).unwrap_err(), Refused::TooFast);
        let later = start + Duration::from_secs(1);
        assert!(places.take(one, later).is_ok());
        assert_eq!(places.take(one, later).unwrap_err(), Refused::TooFast);
    }

    #[test]
    fn who_holds_nothing_and_has_waited_is_forgotten() {
        let places = Places::new(2, 1);
        let one = AddressClass::of("203.0.113.7".parse().unwrap());
        let start = Instant::now();
        let held = places.take(one, start).unwrap();
        places.tidy(start + Duration::from_secs(60));
        assert_eq!(places.held.len(), 1, "it holds one");
        drop(held);
        places.tidy(start);
        assert_eq!(places.held.len(), 1, "its haste is not forgotten yet");
        places.tidy(start + Duration::from_secs(1));
        assert!(places.held.is_empty());
    }
}
