//! The last pages of the feed, shared by all who are up to date. Pure: who fills it and who reads it
//! is elsewhere.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Change, Read};
use crate::domain::horizon::{Horizon, Position};

/// Changes that are kept for whoever is a little behind; the database has the rest.
const CHANGES_MAX: usize = 8_192;

/// A part of one step.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) seen: Arc<Horizon>,
    pub(super) target: Arc<Horizon>,
    pub(super) changes: Vec<Arc<Change>>,
    /// The step ends with it.
    pub(super) complete: bool,
    /// What the read saw: the step's own target, but for the later pages of a long one.
    pub(super) now: Arc<Horizon>,
}

/// Where the window can be joined: who has been told all of `seen` goes on with page `next`.
#[derive(Clone, Debug)]
pub(super) struct Anchor {
    pub(super) seen: Arc<Horizon>,
    pub(super) next: u64,
}

/// What a reader finds at a number.
#[derive(Debug)]
pub(super) enum Found {
    Page(Arc<Page>),
    /// It has read everything; it has now seen as much as this.
    Everything(Arc<Horizon>),
    /// The last step is not complete yet: the next page comes at once.
    Nothing,
    /// Pages between have gone.
    Evicted,
}

#[derive(Debug, Default)]
pub(super) struct Window {
    /// Of the pages; empty: it has not begun.
    epoch: String,
    /// The number of the first page that is kept.
    first: u64,
    pages: VecDeque<Arc<Page>>,
    changes: usize,
    anchor: Option<Anchor>,
}

impl Window {
    /// Begins, or begins anew with another history; numbers are never used twice.
    pub(super) fn begin(&mut self, epoch: &str, now: Horizon) {
        let next = self.end() + 1;
        *self = Self {
            epoch: epoch.to_owned(),
            first: next,
            anchor: Some(Anchor {
                seen: Arc::new(now),
                next,
            }),
            ..Self::default()
        };
    }

    /// Nobody reads it any more.
    pub(super) fn clear(&mut self) {
        let first = self.end() + 1;
        *self = Self {
            first,
            ..Self::default()
        };
    }

    /// The number after the last page.
    fn end(&self) -> u64 {
        self.first + self.pages.len() as u64
    }

    pub(super) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Where it can be joined; `None`: it has not begun.
    pub(super) fn anchor(&self) -> Option<Anchor> {
        self.anchor.clone()
    }

    /// Where the next read goes on: between steps, or within one.
    pub(super) fn position(&self) -> Option<Position> {
        let anchor = self.anchor.as_ref()?;
        let begun = self.pages.back().filter(|page| !page.complete);
        let last = begun.and_then(|page| Some((page, page.changes.last()?)));
        Some(Position {
            seen: Horizon::clone(&anchor.seen),
            step: last.map(|(page, last)| (Horizon::clone(&page.target), last.place)),
        })
    }

    /// Takes the next page; one that ends a step and has nothing in it only moves the anchor.
    pub(super) fn push(&mut self, target: Horizon, read: Read) {
        let Read {
            now,
            changes,
            complete,
        } = read;
        let Some(anchor) = self.anchor.clone() else {
            return;
        };
        let goes_on = self.pages.back().is_some_and(|page| !page.complete);
        let target = Arc::new(target);
        if !changes.is_empty() || goes_on {
            self.changes += changes.len();
            self.pages.push_back(Arc::new(Page {
                seen: anchor.seen,
                target: Arc::clone(&target),
                changes,
                complete,
                now: Arc::new(now),
            }));
        }
        if complete {
            let next = self.end();
            self.anchor = Some(Anchor { seen: target, next });
        }
        // The last page stays: it says where the next read goes on.
        while self.changes > CHANGES_MAX && self.pages.len() > 1 {
            let gone = self.pages.pop_front().map_or(0, |page| page.changes.len());
            self.changes -= gone;
            self.first += 1;
        }
    }

    pub(super) fn at(&self, number: u64) -> Found {
        let Some(place) = number.checked_sub(self.first) else {
            return Found::Evicted;
        };
        let page = usize::try_from(place)
            .ok()
            .and_then(|place| self.pages.get(place));
        match (page, &self.anchor) {
            (Some(page), _) => Found::Page(Arc::clone(page)),
            (None, Some(anchor)) if anchor.next == number => {
                Found::Everything(Arc::clone(&anchor.seen))
            }
            (None, Some(_)) if number == self.end() => Found::Nothing,
            (None, Some(_) | None) => Found::Evicted,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use uuid::Uuid;

    use super::*;
    use crate::domain::horizon::Place;
    use crate::domain::ids::AccountId;
    use crate::watch::feed::State;

    fn changes(number: i64, count: u128) -> Vec<Arc<Change>> {
        let change = |account| {
            Arc::new(Change {
                place: Place {
                    number,
                    account: AccountId(Uuid::from_u128(account)),
                },
                names: Vec::new(),
                apps: Vec::new(),
                state: State::Erased,
                encoded: OnceLock::new(),
            })
        };
        (0..count).map(change).collect()
    }

    fn horizon(next: i64) -> Horizon {
        Horizon::new(next, Vec::new())
    }

    fn read(next: i64, changes: Vec<Arc<Change>>, complete: bool) -> Read {
        Read {
            now: horizon(next),
            changes,
            complete,
        }
    }

    fn joined(window: &Window) -> u64 {
        window.anchor().expect("begun").next
    }

    #[test]
    fn whoever_joins_reads_each_page_once_and_is_told_when_that_was_all() {
        let mut window = Window::default();
        assert!(matches!(window.at(0), Found::Evicted) && window.anchor().is_none());
        window.begin("one", horizon(5));
        let number = joined(&window);
        assert!(matches!(window.at(number), Found::Everything(seen) if *seen == horizon(5)));
        // Nothing changed: who is up to date has seen more all the same.
        window.push(horizon(7), read(7, Vec::new(), true));
        assert!(matches!(window.at(number), Found::Everything(seen) if *seen == horizon(7)));
        window.push(horizon(9), read(9, changes(8, 2), true));
        let Found::Page(page) = window.at(number) else {
            panic!("a page")
        };
        assert_eq!((&*page.seen, &*page.target), (&horizon(7), &horizon(9)));
        assert!(matches!(window.at(number + 1), Found::Everything(seen) if *seen == horizon(9)));
        assert_eq!(joined(&window), number + 1);
    }

    #[test]
    fn a_step_of_several_pages_is_joined_behind_it_only() {
        let mut window = Window::default();
        window.begin("one", horizon(5));
        let number = joined(&window);
        window.push(horizon(9), read(9, changes(8, 3), false));
        assert_eq!(
            joined(&window),
            number,
            "who has seen 5 is owed the first page"
        );
        let position = window.position().expect("begun");
        assert_eq!(position.seen, horizon(5));
        let step = position.step.map(|(target, last)| (target, last.number));
        assert_eq!(step, Some((horizon(9), 8)));
        assert!(matches!(window.at(number + 1), Found::Nothing));
        // The rest has moved on to a later step: the page is empty, and ends this one.
        window.push(horizon(9), read(9, Vec::new(), true));
        assert!(matches!(window.at(number + 1), Found::Page(page) if page.complete));
        assert_eq!(joined(&window), number + 2);
        assert_eq!(window.position(), Some(Position::at(horizon(9))));
    }

    #[test]
    fn pages_go_when_there_are_many_and_numbers_never_come_back() {
        let mut window = Window::default();
        window.begin("one", horizon(5));
        let number = joined(&window);
        for step in 0..40 {
            window.push(
                horizon(6 + step),
                read(6 + step, changes(5 + step, 256), true),
            );
        }
        assert!(matches!(window.at(number), Found::Evicted));
        assert!(matches!(window.at(number + 39), Found::Page(_)));
        let after = joined(&window);
        window.clear();
        assert!(matches!(window.at(after), Found::Evicted));
        window.begin("two", horizon(3));
        assert!(joined(&window) > after && window.epoch() == "two");
        assert!(matches!(window.at(after), Found::Evicted));
    }
}
