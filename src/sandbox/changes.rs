//! Which notifications have changed lately, for whoever watches them.

use std::collections::{BTreeSet, VecDeque};

/// A watcher who is further behind than this has to read anew.
const REMEMBERED_MAX: usize = 4_096;

/// The latest changes, in their order.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// How many there have been.
    count: u64,
    recent: VecDeque<u64>,
}

/// What a watcher has missed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    /// Numbers of the notifications that have changed, each once, ascending.
    pub(super) numbers: BTreeSet<u64>,
    /// Whether there was more than is remembered.
    pub(super) incomplete: bool,
}

impl Changes {
    /// Notes that the notification with this number is new or has changed.
    pub(super) fn note(&mut self, number: u64) {
        self.count += 1;
        self.recent.push_back(number);
        if self.recent.len() > REMEMBERED_MAX {
            self.recent.pop_front();
        }
    }

    /// How many changes there have been: what to ask with the next time.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// What has changed since there had been `seen` changes.
    pub(super) fn since(&self, seen: u64) -> News {
        let missed = usize::try_from(self.count.saturating_sub(seen)).unwrap_or(usize::MAX);
        let skipped = self.recent.len().saturating_sub(missed);
        News {
            numbers: self.recent.iter().skip(skipped).copied().collect(),
            incomplete: missed > self.recent.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_hears_each_change_once_and_is_told_when_it_was_too_slow() {
        let mut changes = Changes::default();
        for number in [1, 2, 1] {
            changes.note(number);
        }
        assert_eq!(changes.since(0).numbers, BTreeSet::from([1, 2]));
        assert_eq!(changes.since(2).numbers, BTreeSet::from([1]));
        assert_eq!(changes.since(changes.count()).numbers, BTreeSet::new());
        assert!(!changes.since(0).incomplete);
        for number in 0..2 * REMEMBERED_MAX as u64 {
            changes.note(number);
        }
        assert!(changes.since(3).incomplete);
        assert_eq!(changes.since(3).numbers.len(), REMEMBERED_MAX);
    }
}
