//! The replica's copies of snapshots: for each account the latest view and the revision that hints
//! say it has reached (its floor), in one entry and under one lock. A view below its floor is never
//! held, so whoever reads a copy need not ask for the floor.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::view::View;
use crate::bounded::{Bounded, Keep};
use crate::domain::ids::{AccountId, Revision};

/// Longer than any read of the database takes: a floor outlives every fill that began below it.
const FLOOR_NEEDED_FOR: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Held {
    view: Option<Arc<View>>,
    floor: Option<Floor>,
}

#[derive(Clone, Copy)]
struct Floor {
    revision: Revision,
    raised_at: Instant,
}

/// Every account's copy, as far as there is room.
pub(super) struct Copies(Bounded<AccountId, Held>);

impl Copies {
    pub(super) fn new(accounts_max: usize) -> Self {
        Self(Bounded::new(accounts_max, Held::keep))
    }

    pub(super) fn get(&self, id: AccountId) -> Option<Arc<View>> {
        self.with(id, Arc::clone)
    }

    /// What `pick` takes from the view, under its lock: be brief.
    pub(super) fn with<R>(&self, id: AccountId, pick: impl FnOnce(&Arc<View>) -> R) -> Option<R> {
        self.0
            .get(&id, |copy| copy.view.as_ref().map(pick))
            .flatten()
    }

    /// Takes a view unless a newer one is held. Tells whether it is at its floor or above; one that
    /// is not, or that is of another history by now (`is_current`), is not held.
    pub(super) fn admit(&self, view: &Arc<View>, is_current: impl FnOnce() -> bool) -> bool {
        self.0.update(view.account.id, |copy| {
            // Asked under the lock: whoever changes the history clears the copies after that.
            if !is_current() {
                return false;
            }
            let floor = copy.as_ref().and_then(|copy| copy.floor);
            if floor.is_some_and(|floor| view.revision < floor.revision) {
                return false;
            }
            let copy = copy.get_or_insert_default();
            if !copy.view.as_ref().is_some_and(|held| is_newer(held, view)) {
                copy.view = Some(Arc::clone(view));
            }
            true
        })
    }

    /// A hint or a sweep row: the account has reached this revision.
    pub(super) fn raise_floor(&self, id: AccountId, revision: Revision) {
        self.0.update(id, |copy| {
            let copy = copy.get_or_insert_default();
            if copy.floor.is_none_or(|floor| floor.revision <= revision) {
                copy.floor = Some(Floor {
                    revision,
                    raised_at: Instant::now(),
                });
            }
            copy.view.take_if(|view| view.revision < revision);
        });
    }

    /// The revision that hints say the account has reached.
    pub(super) fn floor(&self, id: AccountId) -> Option<Revision> {
        let floor = self.0.get(&id, |copy| copy.floor).flatten();
        floor.map(|floor| floor.revision)
    }

    /// Forgets a floor, unless it has been raised further.
    pub(super) fn drop_floor(&self, id: AccountId, revision: Revision) {
        self.change(id, |copy| {
            copy.floor.take_if(|floor| floor.revision == revision);
        });
    }

    /// Forgets the view, not the floor.
    pub(super) fn forget(&self, id: AccountId) {
        self.change(id, |copy| copy.view = None);
    }

    /// Forgets every view that is so, not its floor.
    pub(super) fn forget_all_that(&self, is_so: impl Fn(&View) -> bool) {
        self.0.retain(|copy| {
            copy.view.take_if(|view| is_so(view));
            copy.is_something()
        });
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.0.retain(|_| false);
    }

    fn change(&self, id: AccountId, change: impl FnOnce(&mut Held)) {
        self.0.update(id, |slot| {
            if let Some(copy) = slot {
                change(copy);
            }
            slot.take_if(|copy| !copy.is_something());
        });
    }
}

impl Held {
    fn is_something(&self) -> bool {
        self.view.is_some() || self.floor.is_some()
    }

    fn keep(&self) -> Keep {
        let young = |floor: Floor| floor.raised_at.elapsed() < FLOOR_NEEDED_FOR;
        match (&self.view, self.floor.is_some_and(young)) {
            (_, true) => Keep::Yes,
            (Some(_), false) => Keep::WhileUsed,
            (None, false) => Keep::No,
        }
    }
}

fn is_newer(held: &View, other: &View) -> bool {
    held.epoch == other.epoch && held.revision > other.revision
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::domain::catalog::Catalog;
    use crate::domain::entitlement::nothing;
    use crate::storage::accounts::Account;

    const ID: AccountId = AccountId(Uuid::nil());

    fn view(epoch: &str, revision: i64) -> Arc<View> {
        Arc::new(View {
            account: Account {
                id: ID,
                store_token: String::new(),
            },
            epoch: epoch.into(),
            revision: Revision(revision),
            snapshot: nothing(&Catalog::none()),
            encoded: Bytes::new(),
            read_at: Instant::now(),
        })
    }

    fn held(copies: &Copies) -> Option<i64> {
        copies.with(ID, |view| view.revision.0)
    }

    #[test]
    fn a_view_below_its_floor_is_not_held_whichever_comes_first() {
        let copies = Copies::new(100);
        assert!(copies.admit(&view("a", 3), || true));
        copies.raise_floor(ID, Revision(3));
        assert_eq!(held(&copies), Some(3));
        copies.raise_floor(ID, Revision(5));
        assert_eq!(held(&copies), None, "it is behind now");
        assert!(!copies.admit(&view("a", 4), || true), "read too early");
        assert_eq!(held(&copies), None);
        copies.raise_floor(ID, Revision(4));
        assert_eq!(copies.floor(ID), Some(Revision(5)), "never lowered");
        assert!(copies.admit(&view("a", 5), || true));
        assert_eq!(held(&copies), Some(5));
    }

    #[test]
    fn an_older_view_replaces_no_newer_one_but_that_of_another_history_does() {
        let copies = Copies::new(100);
        assert!(copies.admit(&view("a", 7), || true));
        assert!(copies.admit(&view("a", 6), || true), "it may be shown");
        assert_eq!(held(&copies), Some(7));
        assert!(copies.admit(&view("b", 2), || true));
        assert_eq!(held(&copies), Some(2));
        assert!(!copies.admit(&view("a", 9), || false), "of a lost history");
        assert_eq!(held(&copies), Some(2));
    }

    #[test]
    fn what_is_forgotten_keeps_its_floor_until_that_is_dropped() {
        let copies = Copies::new(100);
        copies.raise_floor(ID, Revision(2));
        assert!(copies.admit(&view("a", 2), || true));
        copies.forget(ID);
        assert_eq!((held(&copies), copies.floor(ID)), (None, Some(Revision(2))));
        copies.drop_floor(ID, Revision(1));
        assert_eq!(copies.floor(ID), Some(Revision(2)), "raised meanwhile");
        copies.drop_floor(ID, Revision(2));
        assert!(copies.admit(&view("a", 1), || true));
        copies.forget_all_that(|view| view.revision == Revision(1));
        assert_eq!(held(&copies), None);
        copies.raise_floor(ID, Revision(9));
        copies.clear();
        assert_eq!(copies.floor(ID), None);
    }

    #[test]
    fn a_floor_is_kept_while_a_read_may_be_under_way() {
        let copies = Copies::new(10);
        copies.raise_floor(ID, Revision(5));
        for number in 1..1_000 {
            let other = AccountId(Uuid::from_u128(number));
            let mut view = View::clone(&view("a", 1));
            view.account.id = other;
            copies.admit(&Arc::new(view), || true);
        }
        assert_eq!(copies.floor(ID), Some(Revision(5)));
    }
}
