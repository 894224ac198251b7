//! One feed: it reads the database until the shared window goes on where it stands, and then the
//! window.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant as MachineInstant;

use super::window::{Anchor, Found};
use super::{BEGINS_WITHIN, Change, FeedError, Feeds, Here, PAGE, Read, Slot, concerning, end_of};
use crate::domain::api_key::AppScope;
use crate::domain::horizon::{Horizon, Position};
use crate::storage::StorageError;

/// Silence that proxies tolerate, and how far a cursor that is told may be behind.
const BOOKMARK_EVERY: Duration = Duration::from_secs(10);

/// What a feed is told next.
#[derive(Debug)]
pub(crate) struct Told {
    /// By place; none: a bookmark.
    pub(crate) changes: Vec<Arc<Change>>,
    /// Where the step began that they are of, and where it leads.
    pub(crate) seen: Horizon,
    pub(crate) target: Horizon,
    /// Where the feed stands after them.
    pub(crate) position: Position,
    /// All of some moment has been told, and nothing of what came after it.
    pub(crate) whole: bool,
    /// And nothing of what was committed by now is left.
    pub(crate) caught_up: bool,
}

/// Where a feed reads.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The page of that number.
    Window(u64),
    /// Up to an anchor of the window, whose page is named.
    Database { joins: Option<u64> },
}

/// One feed.
pub(crate) struct Follower {
    feeds: Feeds,
    _slot: Slot,
    scope: AppScope,
    epoch: String,
    position: Position,
    /// The last read that left out what had changed again beyond its step: until that is told, what
    /// was told is of no one moment.
    left_out: Horizon,
    source: Source,
    moved: watch::Receiver<u64>,
    bookmark_at: MachineInstant,
    /// Somebody who has just come is told at once that they have been told everything.
    greeted: bool,
}

impl Follower {
    pub(super) fn new(
        feeds: Feeds,
        slot: Slot,
        position: Position,
        here: Here,
        scope: AppScope,
    ) -> Self {
        let Here { now, epoch } = here;
        let moved = feeds.0.moved.subscribe();
        metrics::gauge!("entitled_feeds").increment(1.0);
        Self {
            feeds,
            _slot: slot,
            scope,
            epoch,
            position,
            // What was told before, elsewhere, may have left out what changed until now.
            left_out: now,
            source: Source::Database { joins: None },
            moved,
            bookmark_at: MachineInstant::now() + BOOKMARK_EVERY,
            greeted: false,
        }
    }

    /// Of which all positions are.
    pub(crate) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Waits for what is to be told next; a bookmark when nothing was for a while.
    pub(crate) async fn next(&mut self) -> Result<Told, FeedError> {
        loop {
            let told = match self.source {
                Source::Window(number) => self.read_window(number).await?,
                Source::Database { joins } => self.catch_up(joins).await?,
            };
            if let Some(told) = told {
                self.bookmark_at = MachineInstant::now() + BOOKMARK_EVERY;
                return Ok(told);
            }
        }
    }

    async fn read_window(&mut self, number: u64) -> Result<Option<Told>, FeedError> {
        self.moved.borrow_and_update();
        let (found, epoch) = self
            .feeds
            .look(|window| (window.at(number), window.epoch() == self.epoch));
        match found {
            Found::Evicted if !epoch => Err(FeedError::Expired),
            Found::Evicted => {
                self.source = Source::Database { joins: None };
                Ok(None)
            }
            Found::Page(page) => {
                self.source = Source::Window(number + 1);
                let read = Read {
                    now: Horizon::clone(&page.now),
                    changes: page.changes.clone(),
                    complete: page.complete,
                };
                let last = self.is_last(number + 1);
                Ok(self.tell((&page.seen, &page.target), read, last))
            }
            Found::Everything(seen) => {
                self.position = Position::at(Horizon::clone(&seen));
                if self.is_whole() && !self.greeted {
                    return Ok(Some(self.bookmark()));
                }
                if !self.is_whole() {
                    self.feeds.0.wanted.notify_one();
                }
                Ok(self.wait().await?.then(|| self.bookmark()))
            }
            Found::Nothing => {
                self.wait().await?;
                Ok(None)
            }
        }
    }

    fn is_last(&self, number: u64) -> bool {
        self.feeds
            .look(|window| matches!(window.at(number), Found::Everything(_)))
    }

    /// One page from the database, or the plan of the step that leads to the window.
    async fn catch_up(&mut self, joins: Option<u64>) -> Result<Option<Told>, FeedError> {
        let (target, after) = match (self.position.step.clone(), joins) {
            (Some((target, told)), _) => (target, Some(told)),
            // The step is told.
            (None, Some(number)) => {
                self.source = Source::Window(number);
                return Ok(None);
            }
            (None, None) => {
                let anchor = self.anchor().await?;
                self.source = Source::Database {
                    joins: Some(anchor.next),
                };
                if *anchor.seen == self.position.seen {
                    return Ok(None);
                }
                (Horizon::clone(&anchor.seen), None)
            }
        };
        let seen = self.position.seen.clone();
        let feeds = self.feeds.clone();
        let permit = feeds.0.catch_ups.acquire().await;
        let page = feeds
            .read(&seen, Some(&target), after, PAGE, &self.epoch)
            .await?;
        drop(permit);
        Ok(self.tell((&seen, &target), page, false))
    }

    /// Where the window goes on, once that is not behind what the feed was told elsewhere.
    async fn anchor(&mut self) -> Result<Anchor, FeedError> {
        let deadline = MachineInstant::now() + BEGINS_WITHIN;
        loop {
            self.moved.borrow_and_update();
            let (anchor, epoch) = self
                .feeds
                .look(|window| (window.anchor(), window.epoch() == self.epoch));
            match anchor {
                Some(_) if !epoch => return Err(FeedError::Expired),
                Some(anchor) if anchor.seen.includes(&self.position.seen) => return Ok(anchor),
                Some(_) | None => {}
            }
            self.feeds.0.wanted.notify_one();
            let moved = tokio::time::timeout_at(deadline, self.moved.changed()).await;
            if !matches!(moved, Ok(Ok(()))) {
                let why = "the feed has not been read for long";
                return Err(StorageError::Unavailable(why.into()).into());
            }
        }
    }

    /// Waits until the window has changed; `true`: it is time for a bookmark.
    async fn wait(&mut self) -> Result<bool, FeedError> {
        match tokio::time::timeout_at(self.bookmark_at, self.moved.changed()).await {
            Ok(Ok(())) => Ok(false),
            Err(_) => Ok(true),
            Ok(Err(_)) => Err(StorageError::Unavailable("the feeds are gone".into()).into()),
        }
    }

    /// Whether all that was told is of one moment.
    fn is_whole(&self) -> bool {
        self.position.step.is_none() && self.position.seen.includes(&self.left_out)
    }

    /// Moves behind a page; `None` if nobody need be told of it.
    fn tell(
        &mut self,
        (seen, target): (&Horizon, &Horizon),
        read: Read,
        last: bool,
    ) -> Option<Told> {
        self.position = end_of(seen, target, &read.changes, read.complete);
        if read.now.includes(&self.left_out) {
            self.left_out = read.now;
        }
        let changes = concerning(read.changes, &self.scope);
        if changes.is_empty() {
            return None;
        }
        let whole = self.is_whole();
        self.greeted |= whole && last;
        Some(Told {
            changes,
            seen: seen.clone(),
            target: target.clone(),
            position: self.position.clone(),
            whole,
            caught_up: whole && last,
        })
    }

    fn bookmark(&mut self) -> Told {
        let whole = self.is_whole();
        self.greeted |= whole;
        let seen = self.position.seen.clone();
        Told {
            changes: Vec::new(),
            seen: seen.clone(),
            target: seen,
            position: self.position.clone(),
            whole,
            caught_up: whole,
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        metrics::gauge!("entitled_feeds").decrement(1.0);
    }
}
