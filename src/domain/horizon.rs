//! How far a reader of all accounts has been told: which transactions it has seen, and its place in
//! the step to the next ones.
//!
//! A number alone will not do: transactions become visible in another order than they are numbered
//! in. What one read sees is all that an earlier one saw, and more; so a reader that names what it
//! has seen is owed exactly the rest.

use super::ids::AccountId;

/// Which transactions a read sees: all that are numbered below `next` but those still open.
///
/// One set has one form, so that two are equal if they see the same. The default sees nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Horizon {
    next: i64,
    /// Ascending; all below `next`, and `next - 1` is never among them.
    open: Vec<i64>,
}

impl Horizon {
    pub(crate) fn new(mut next: i64, mut open: Vec<i64>) -> Self {
        open.sort_unstable();
        open.dedup();
        open.retain(|number| *number < next);
        while open.last() == Some(&(next - 1)) {
            open.pop();
            next -= 1;
        }
        Self { next, open }
    }

    /// The number below which it sees what is not in [`Self::open`].
    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    /// What was not committed yet, ascending.
    pub(crate) fn open(&self) -> &[i64] {
        &self.open
    }

    /// Everything below it is seen.
    pub(crate) fn floor(&self) -> i64 {
        self.open.first().copied().unwrap_or(self.next)
    }

    pub(crate) fn sees(&self, number: i64) -> bool {
        number < self.next && self.open.binary_search(&number).is_err()
    }

    /// Whether it sees all that `other` sees.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        let unseen_there = |number: &i64| *number >= other.next || !other.sees(*number);
        other.next <= self.next && self.open.iter().all(unseen_there)
    }
}

/// Where a change stands among those of one step: by its transaction, then by account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) number: i64,
    pub(crate) account: AccountId,
}

/// What a reader has been told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// All of this.
    pub(crate) seen: Horizon,
    /// And of the step to another horizon all up to a place.
    pub(crate) step: Option<(Horizon, Place)>,
}

impl Position {
    pub(crate) fn at(seen: Horizon) -> Self {
        Self { seen, step: None }
    }

    /// Whether a reader who sees `now` may have been told all that.
    pub(crate) fn is_past(&self, now: &Horizon) -> bool {
        let targets = self.step.iter().map(|(target, _)| target);
        targets.chain([&self.seen]).all(|seen| now.includes(seen))
    }
}

#[cfg(test)]
#[path = "horizon_tests.rs"]
mod tests;
