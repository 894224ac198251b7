//! What happens next, and when: one entry per thing that has something due.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

/// Something that has an event due. Order matters at equal times: what an event has to tell is
/// delivered before the next event happens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// An attempt to deliver the notification with this number.
    Delivery(u64),
    /// An App Store chain, by original transaction id.
    AppStore(String),
    /// A Google Play purchase, by token.
    GooglePlay(String),
}

/// All due events in the order in which they happen.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    by_time: BTreeSet<(DateTime<Utc>, Due)>,
    times: BTreeMap<Due, DateTime<Utc>>,
}

impl Agenda {
    /// Replaces the time of `due`; `None` takes it off.
    pub(super) fn set(&mut self, due: Due, at: Option<DateTime<Utc>>) {
        if let Some(old) = self.times.remove(&due) {
            self.by_time.remove(&(old, due.clone()));
        }
        if let Some(at) = at {
            self.times.insert(due.clone(), at);
            self.by_time.insert((at, due));
        }
    }

    /// The time of the first entry.
    pub(super) fn next(&self) -> Option<DateTime<Utc>> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The first entry, if it is due at `now`. It stays until its time is set anew, so that an
    /// event whose handling breaks off is not lost.
    pub(super) fn first_due(&self, now: DateTime<Utc>) -> Option<(DateTime<Utc>, Due)> {
        self.by_time.first().filter(|(at, _)| *at <= now).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn events_come_in_time_order_and_deliveries_before_events_of_the_same_time() {
        let start = DateTime::UNIX_EPOCH;
        let mut agenda = Agenda::default();
        agenda.set(Due::GooglePlay("t".to_owned()), Some(start));
        agenda.set(Due::Delivery(1), Some(start));
        agenda.set(
            Due::AppStore("1".to_owned()),
            Some(start + TimeDelta::days(2)),
        );
        agenda.set(
            Due::AppStore("1".to_owned()),
            Some(start + TimeDelta::days(1)),
        );
        for due in [Due::Delivery(1), Due::GooglePlay("t".to_owned())] {
            assert_eq!(agenda.first_due(start), Some((start, due.clone())));
            agenda.set(due, None);
        }
        assert_eq!(agenda.first_due(start), None);
        assert_eq!(agenda.next(), Some(start + TimeDelta::days(1)));
        agenda.set(Due::AppStore("1".to_owned()), None);
        assert_eq!(agenda.next(), None);
    }
}
