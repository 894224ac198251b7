//! How far the orders of a purchase have been read. Renewals count up behind their first order's id
//! (`GPA.1234-…`, `..0`, `..1`), so that lost notifications leave no gap.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// No subscription renews this often; a number beyond it is nonsense.
const RENEWALS_MAX: i64 = 5_000;
/// Paid orders are looked at again, the newest first, because a refund without the end of access is
/// told nowhere else.
const AGAIN_MAX: usize = 60;

/// Kept with the state that it was read for; empty before the first order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bookmark {
    /// By first order: the highest renewal that has been read, -1 for the first order alone.
    read: BTreeMap<String, i64>,
    /// Those of them that are anything but paid, by id: state and time of the last event.
    odd: BTreeMap<String, String>,
    /// Orders that a read named while orders could not be read.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    owed: BTreeSet<String>,
}

/// What an order that does not exist is marked with.
pub(super) const NONE_SUCH: &str = "NONE";

impl Bookmark {
    /// What cannot be read is begun anew.
    pub(super) fn parse(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.read.is_empty() && self.odd.is_empty() && self.owed.is_empty()
    }

    /// Notes orders that are to be read as soon as that is possible again.
    pub(super) fn owe(&mut self, orders: impl IntoIterator<Item = String>) {
        self.owed.extend(orders);
    }

    pub(super) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Everything that was owed has been asked for.
    pub(super) fn settle(&mut self) {
        self.owed.clear();
    }

    /// Whether the books have this order as it is now.
    pub(super) fn has(&self, id: &str, mark: Option<&str>) -> bool {
        let (base, number) = split(id);
        let read = self.read.get(base).is_some_and(|read| number <= *read);
        read && self.odd.get(id).map(String::as_str) == mark
    }

    /// The orders that are to be read for these latest ones: what is new, and what may change.
    pub(super) fn wanted<'a>(&'a self, latest: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
        let mut ends: BTreeMap<&str, i64> = BTreeMap::new();
        for (base, read) in &self.read {
            ends.insert(base, *read);
        }
        let owed = self.owed.iter().map(String::as_str);
        for id in latest.chain(owed).filter(|id| !id.is_empty()) {
            let (base, number) = split(id);
            let end = ends.entry(base).or_insert(-1);
            *end = number.clamp(*end, RENEWALS_MAX);
        }
        let mut wanted = BTreeSet::new();
        for (base, end) in ends {
            let read = self.read.get(base).copied().unwrap_or(-2);
            let renewals = (-1..=end).rev();
            let open =
                renewals
                    .map(|number| (number, join(base, number)))
                    .filter(|(number, id)| {
                        *number > read || !self.odd.get(id).is_some_and(|mark| is_final(mark))
                    });
            let mut again = 0;
            for (number, id) in open {
                again += usize::from(number <= read);
                if again <= AGAIN_MAX {
                    wanted.insert(id);
                }
            }
        }
        wanted
    }

    /// Notes an order that was read; a gap below it stays to be read.
    pub(super) fn note(&mut self, id: &str, mark: Option<String>) {
        let (base, number) = split(id);
        let read = self.read.entry(base.to_owned()).or_insert(-2);
        if number == *read + 1 {
            *read = number;
        }
        match mark {
            Some(mark) => self.odd.insert(id.to_owned(), mark),
            None => self.odd.remove(id),
        };
    }

    /// Orders in the order in which they can be noted.
    pub(super) fn rank(id: &str) -> (&str, i64) {
        split(id)
    }
}

/// Nothing can happen to it any more.
fn is_final(mark: &str) -> bool {
    let state = mark.split_once('@').map_or(mark, |(state, _)| state);
    matches!(state, "REFUNDED" | "CANCELED" | NONE_SUCH)
}

/// The first order's id and the number of the renewal.
fn split(id: &str) -> (&str, i64) {
    let Some((base, number)) = id.split_once("..") else {
        return (id, -1);
    };
    match number.parse() {
        Ok(number @ 0..=RENEWALS_MAX) => (base, number),
        // Not numbered as we know it: an order of its own.
        Ok(_) | Err(_) => (id, -1),
    }
}

fn join(base: &str, number: i64) -> String {
    match number {
        -1 => base.to_owned(),
        number => format!("{base}..{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(bookmark: &Bookmark, latest: &[&str]) -> Vec<String> {
        bookmark
            .wanted(latest.iter().copied())
            .into_iter()
            .collect()
    }

    fn read(through: &[(&str, Option<&str>)]) -> Bookmark {
        let mut bookmark = Bookmark::default();
        for (id, mark) in through {
            bookmark.note(id, mark.map(str::to_owned));
        }
        bookmark
    }

    #[test]
    fn every_renewal_since_the_last_read_is_asked_for() {
        let fresh = Bookmark::default();
        assert_eq!(wanted(&fresh, &["G"]), ["G"]);
        assert_eq!(wanted(&fresh, &["G..2"]), ["G", "G..0", "G..1", "G..2"]);
        let known = read(&[
            ("G", Some("REFUNDED@1")),
            ("G..0", None),
            ("G..1", Some("NONE")),
        ]);
        assert_eq!(
            wanted(&known, &["G..3", "H"]),
            ["G..0", "G..2", "G..3", "H"]
        );
        assert_eq!(
            wanted(&known, &[]),
            ["G..0"],
            "an order may be refunded at any time"
        );
        assert!(known.has("G..0", None) && !known.has("G..0", Some("REFUNDED@2")));
        assert!(!known.has("G..2", None));
        let pending = read(&[("G", Some("PENDING_REFUND@1"))]);
        assert_eq!(wanted(&pending, &["G"]), ["G"]);
    }

    #[test]
    fn what_could_not_be_read_is_owed_until_it_is() {
        let mut bookmark = read(&[("G", None)]);
        assert!(!bookmark.owes());
        bookmark.owe(["G..1".to_owned(), "H".to_owned()]);
        assert!(bookmark.owes());
        let text = serde_json::to_string(&bookmark).unwrap_or_default();
        let mut kept = Bookmark::parse(Some(&text));
        assert_eq!(kept, bookmark);
        // The purchase has gone on meanwhile, under another order.
        assert_eq!(wanted(&kept, &["I"]), ["G", "G..0", "G..1", "H", "I"]);
        kept.settle();
        assert!(!kept.owes());
        assert_eq!(wanted(&kept, &["I"]), ["G", "I"]);
    }

    #[test]
    fn a_gap_stays_to_be_read_and_nonsense_costs_little() {
        let gap = read(&[("G", None), ("G..1", None)]);
        assert_eq!(wanted(&gap, &["G..1"]), ["G", "G..0", "G..1"]);
        let odd = ["G..x", "G..-5", "G..99999999999999999999", "G..6000", ""];
        assert_eq!(wanted(&Bookmark::default(), &odd).len(), 4);
        let mut long = Bookmark::default();
        for number in -1..3_000 {
            long.note(&join("G", number), None);
        }
        assert_eq!(wanted(&long, &["G..3000"]).len(), AGAIN_MAX + 1);
        assert_eq!(Bookmark::parse(Some("nonsense")), Bookmark::default());
        let text = serde_json::to_string(&long).unwrap_or_default();
        assert_eq!(Bookmark::parse(Some(&text)), long);
    }
}
