//! What happens next, and when: one entry per thing that has something due.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};

/// Something that has an event due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Due {
    /// An attempt to deliver the notification with this number.
    Delivery(u64),
    /// An App Store chain, by original transaction id.
    AppStore(String),
    /// A Google Play purchase, by token.
    GooglePlay(String),
}

/// A place in the order of events. At equal times deliveries come first, so that what an event has
/// to tell is delivered before the next event, and among themselves as they were planned.
type Place = (DateTime<Utc>, u64);

/// The rank of everything but deliveries.
const LAST: u64 = u64::MAX;

/// All due events in the order in which they happen.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    in_order: BTreeSet<(Place, Due)>,
    places: HashMap<Due, Place>,
    planned: u64,
}

impl Agenda {
    /// Replaces the time of `due`; `None` takes it off.
    pub(super) fn set(&mut self, due: Due, at: Option<DateTime<Utc>>) {
        let old = self.places.remove(&due);
        let mut entry = (Place::default(), due);
        if let Some(old) = old {
            entry.0 = old;
            self.in_order.remove(&entry);
        }
        if let Some(at) = at {
            let rank = match &entry.1 {
                Due::Delivery(_) => {
                    self.planned += 1;
                    self.planned
                }
                Due::AppStore(_) | Due::GooglePlay(_) => LAST,
            };
            entry.0 = (at, rank);
            self.places.insert(entry.1.clone(), entry.0);
            self.in_order.insert(entry);
        }
    }

    /// The time of the first entry.
    pub(super) fn next(&self) -> Option<DateTime<Utc>> {
        self.in_order.first().map(|((at, _), _)| *at)
    }

    /// The first entry, if it is due at `now`. It stays until its time is set anew, so that an
    /// event whose handling breaks off is not lost.
    pub(super) fn first_due(&self, now: DateTime<Utc>) -> Option<(DateTime<Utc>, Due)> {
        let ((at, _), due) = self.in_order.first()?;
        (*at <= now).then(|| (*at, due.clone()))
    }

    /// Whether a delivery is the first thing due at `now`.
    pub(super) fn delivers_next(&self, now: DateTime<Utc>) -> bool {
        let first = self.in_order.first();
        first.is_some_and(|((at, _), due)| *at <= now && matches!(due, Due::Delivery(_)))
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
        assert!(agenda.delivers_next(start));
        for due in [Due::Delivery(1), Due::GooglePlay("t".to_owned())] {
            assert_eq!(agenda.first_due(start), Some((start, due.clone())));
            agenda.set(due, None);
        }
        assert_eq!(agenda.first_due(start), None);
        assert!(!agenda.delivers_next(start));
        assert_eq!(agenda.next(), Some(start + TimeDelta::days(1)));
        agenda.set(Due::AppStore("1".to_owned()), None);
        assert_eq!(agenda.next(), None);
    }

    #[test]
    fn deliveries_of_one_time_go_out_as_they_were_planned() {
        let start = DateTime::UNIX_EPOCH;
        let mut agenda = Agenda::default();
        for number in [2, 1, 3] {
            agenda.set(Due::Delivery(number), Some(start));
        }
        // The first is put behind the others.
        agenda.set(Due::Delivery(2), Some(start));
        for number in [1, 3, 2] {
            let first = agenda.first_due(start).map(|(_, due)| due);
            assert_eq!(first, Some(Due::Delivery(number)));
            agenda.set(Due::Delivery(number), None);
        }
    }
}
