//! The feed of all accounts, for caches of backends: what changed, told once, in order, to whoever
//! says how far they have been told.
//!
//! Feeds that are up to date read one shared window of pages in memory, which one task fills from
//! the database for all of them ([`tail`]). Whoever comes back, or is too slow for the window, reads
//! the database up to a place where the window goes on ([`follow`]). Nothing is queued for anybody.

mod follow;
mod tail;
mod window;

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use super::hub::{Hub, ReadError};
use super::view::View;
use crate::domain::api_key::AppScope;
use crate::domain::chain::AppId;
use crate::domain::horizon::{Horizon, Place, Position};
use crate::domain::ids::AccountId;
use crate::domain::planted::{self, Bug};
use crate::storage::feed::{self, Question, Row, RowState};
use crate::storage::{StorageError, snapshots};

pub(crate) use follow::{Follower, Told};
use window::Window;

/// Feeds of one replica.
const FEEDS_MAX: usize = 128;
/// Feeds that read the database at once: the others wait, so that a deploy after which all come back
/// leaves the database to the calls.
const CATCH_UPS_MAX: usize = 4;
/// Changes of one read.
const PAGE: i64 = 256;
/// A feed whose window has not begun yet waits for it so long before it is told to come back.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);

/// One account that changed.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) place: Place,
    /// `issuer:subject`, as the account may be named.
    pub(crate) names: Vec<String>,
    /// The apps of the purchases that it has or had.
    apps: Vec<AppId>,
    pub(crate) state: State,
    /// As readers get it: encoded by the first that tells it, the same for all.
    pub(crate) encoded: OnceLock<Bytes>,
}

/// What an account is now.
#[derive(Debug)]
pub(crate) enum State {
    Living(Arc<View>),
    /// A newer version has written what this one cannot read.
    Unreadable,
    Erased,
    Merged(AccountId),
}

impl Change {
    /// Whether a key of those apps is told. Of who is no more everybody is: they may have been told
    /// of them before.
    fn concerns(&self, scope: &AppScope) -> bool {
        match self.state {
            State::Living(_) | State::Unreadable => {
                scope.is_all() || self.apps.iter().any(|app| scope.allows(app))
            }
            State::Erased | State::Merged(_) => true,
        }
    }
}

/// Why a feed, or a page of the list, is not to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    /// The position is of another history of the database, or ahead of this one: list again.
    #[error("the position is none of this history")]
    Expired,
    #[error("there are too many feeds here")]
    TooMany,
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<StorageError> for FeedError {
    fn from(error: StorageError) -> Self {
        Self::Read(error.into())
    }
}

/// A moment of the database.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    pub(crate) now: Horizon,
    pub(crate) epoch: String,
}

/// A page of the list of all accounts.
pub(crate) struct Listed {
    pub(crate) changes: Vec<Arc<Change>>,
    /// Where the list goes on, or, once it is `complete`, where a feed begins.
    pub(crate) position: Position,
    pub(crate) complete: bool,
}

/// A cheap handle; clones are one set of feeds.
#[derive(Clone)]
pub(crate) struct Feeds(Arc<Inner>);

struct Inner {
    hub: Hub,
    window: RwLock<Window>,
    /// Counts the changes of the window; followers wait on it.
    moved: watch::Sender<u64>,
    /// Somebody waits for the next read.
    wanted: Notify,
    open: Arc<Semaphore>,
    catch_ups: Semaphore,
    /// Whether the task runs that fills the window.
    tailed: std::sync::Mutex<bool>,
}

impl Feeds {
    pub(crate) fn new(hub: Hub) -> Self {
        Self(Arc::new(Inner {
            hub,
            window: RwLock::default(),
            moved: watch::Sender::new(0),
            wanted: Notify::new(),
            open: Arc::new(Semaphore::new(FEEDS_MAX)),
            catch_ups: Semaphore::new(CATCH_UPS_MAX),
            tailed: std::sync::Mutex::new(false),
        }))
    }

    /// What the database is at, and of which history. Asked of it each time: what this replica
    /// believes may be a second old.
    pub(crate) async fn here(&self) -> Result<Here, FeedError> {
        let db = self.0.hub.db();
        let now = feed::horizon(db).await?;
        let epoch = snapshots::epoch(db).await?;
        Ok(Here { now, epoch })
    }

    /// Follows all accounts from a position of that history on.
    pub(crate) fn follow(
        &self,
        from: Position,
        here: Here,
        scope: AppScope,
    ) -> Result<Follower, FeedError> {
        if !from.is_past(&here.now) {
            return Err(FeedError::Expired);
        }
        let permit = Arc::clone(&self.0.open)
            .try_acquire_owned()
            .map_err(|_| FeedError::TooMany)?;
        self.ensure_tailed();
        Ok(Follower::new(self.clone(), permit, from, here, scope))
    }

    /// A page of all accounts, in the order of their last changes, as they were when the list began
    /// or later: what changes meanwhile is a feed's affair.
    pub(crate) async fn list(
        &self,
        from: Position,
        here: &Here,
        scope: &AppScope,
        limit: i64,
    ) -> Result<Listed, FeedError> {
        if !from.is_past(&here.now) {
            return Err(FeedError::Expired);
        }
        let Position { seen, step } = from;
        let (target, after) = match step {
            Some((target, told)) => (target, Some(told)),
            None => (here.now.clone(), None),
        };
        let page = self
            .read(&seen, Some(&target), after, limit, &here.epoch)
            .await?;
        let position = end_of(&seen, &target, &page.changes, page.complete);
        Ok(Listed {
            changes: concerning(page.changes, scope),
            position,
            complete: page.complete,
        })
    }

    /// A page of what somebody is owed, of that epoch.
    async fn read(
        &self,
        seen: &Horizon,
        until: Option<&Horizon>,
        after: Option<Place>,
        limit: i64,
        epoch: &str,
    ) -> Result<Read, FeedError> {
        let db = self.0.hub.db();
        let floor = naive(seen);
        let question = Question {
            seen: floor.as_ref().unwrap_or(seen),
            until,
            after,
            limit,
        };
        let page = feed::read(db, question).await?;
        // Read last: whatever history the page is of, a new one is noticed now.
        if snapshots::epoch(db).await? != epoch {
            return Err(FeedError::Expired);
        }
        let complete = i64::try_from(page.rows.len()).is_ok_and(|rows| rows < limit);
        let epoch: Arc<str> = epoch.into();
        let rows = page.rows.into_iter();
        Ok(Read {
            now: page.now,
            changes: rows.map(|row| self.change(row, &epoch)).collect(),
            complete,
        })
    }

    fn change(&self, row: Row, epoch: &Arc<str>) -> Arc<Change> {
        let state = match row.state {
            RowState::Living(account, stored) => {
                let (revision, snapshot) = (stored.revision, stored.snapshot);
                let epoch = Arc::clone(epoch);
                State::Living(self.0.hub.view(account, epoch, revision, snapshot))
            }
            RowState::Unreadable => State::Unreadable,
            RowState::Erased => State::Erased,
            RowState::Merged(into) => State::Merged(into),
        };
        Arc::new(Change {
            place: row.place,
            names: row.names,
            apps: row.apps,
            state,
            encoded: OnceLock::new(),
        })
    }

    /// What the window says now.
    fn look<T>(&self, at: impl FnOnce(&Window) -> T) -> T {
        at(&self.0.window.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the window; whoever waits for it looks again.
    fn turn<T>(&self, change: impl FnOnce(&mut Window) -> T) -> T {
        let turned = {
            let window = self.0.window.write();
            change(&mut window.unwrap_or_else(PoisonError::into_inner))
        };
        self.0.moved.send_modify(|count| *count += 1);
        turned
    }
}

/// A page as it was read.
struct Read {
    now: Horizon,
    changes: Vec<Arc<Change>>,
    /// Nothing is owed beyond it.
    complete: bool,
}

/// Where a reader stands after a page of the step from `seen` to `target`.
fn end_of(seen: &Horizon, target: &Horizon, told: &[Arc<Change>], complete: bool) -> Position {
    match told.last() {
        Some(last) if !complete => Position {
            seen: seen.clone(),
            step: Some((target.clone(), last.place)),
        },
        Some(_) | None => Position::at(target.clone()),
    }
}

fn concerning(mut changes: Vec<Arc<Change>>, scope: &AppScope) -> Vec<Arc<Change>> {
    changes.retain(|change| change.concerns(scope));
    changes
}

/// What a reader would ask who takes transactions to commit in the order of their numbers.
fn naive(seen: &Horizon) -> Option<Horizon> {
    planted::is(Bug::FeedByNumber).then(|| Horizon::new(seen.next(), Vec::new()))
}

/// One of the feeds of this replica, until it is dropped.
type Slot = OwnedSemaphorePermit;
