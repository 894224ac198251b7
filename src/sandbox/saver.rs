//! When the state is written to disk: at once while it is small, seldom enough once it is large.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Between two saves so many times the time that a save takes: a tenth of all time at most.
const PAUSE_PER_COST: u32 = 9;
/// A save that takes longer does not happen at the end of an action, but when it is due.
const SMALL: Duration = Duration::from_millis(20);

/// Keeps account of what is not yet saved.
#[derive(Default)]
pub(super) struct Saver {
    account: Mutex<Account>,
    /// Told when something becomes unsaved.
    soiled: Notify,
}

#[derive(Clone, Copy, Default)]
struct Account {
    dirty: bool,
    /// The state is somebody else's from now on.
    closed: bool,
    /// When the last save ended, and how long it took.
    last: Option<(Instant, Duration)>,
}

impl Account {
    /// How long a save has to wait.
    fn pause(&self) -> Duration {
        self.last.map_or(Duration::ZERO, |(ended, cost)| {
            (cost * PAUSE_PER_COST).saturating_sub(ended.elapsed())
        })
    }
}

impl Saver {
    /// Something has changed; true if it should be saved at once.
    pub(super) fn soil(&self) -> bool {
        let mut account = self.account();
        account.dirty = true;
        let (closed, at_once) = (account.closed, account.pause().is_zero());
        drop(account);
        if closed {
            return false;
        }
        if !at_once {
            self.soiled.notify_one();
        }
        at_once
    }

    /// Whether something is unsaved that an explicit act should not leave so.
    pub(super) fn owes_little(&self) -> bool {
        let account = self.account();
        !account.closed && account.dirty && account.last.is_none_or(|(_, cost)| cost < SMALL)
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.account().dirty
    }

    /// Nothing is saved by itself any more; true if something is unsaved.
    pub(super) fn close(&self) -> bool {
        let mut account = self.account();
        account.closed = true;
        account.dirty
    }

    /// A save that was begun at `began` has succeeded.
    pub(super) fn saved(&self, began: Instant) {
        let ended = Instant::now();
        let mut account = self.account();
        account.dirty = false;
        account.last = Some((ended, ended.duration_since(began)));
    }

    /// Returns once there is something unsaved and its time has come.
    pub(super) async fn due(&self) {
        loop {
            self.soiled.notified().await;
            let pause = self.account().pause();
            tokio::time::sleep(pause).await;
            let account = *self.account();
            if account.dirty && account.pause().is_zero() {
                return;
            }
            if account.dirty {
                self.soiled.notify_one();
            }
        }
    }

    fn account(&self) -> std::sync::MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_costly_save_is_not_repeated_soon() {
        let saver = Saver::default();
        assert!(saver.soil() && saver.owes_little());
        let Some(began) = Instant::now().checked_sub(Duration::from_secs(1)) else {
            return;
        };
        saver.saved(began);
        assert!(!saver.is_dirty());
        assert!(!saver.soil(), "a second's save is not repeated at once");
        assert!(saver.is_dirty() && !saver.owes_little());
        saver.saved(Instant::now());
        std::thread::sleep(Duration::from_millis(2));
        assert!(saver.soil(), "a cheap one is");
        assert!(saver.close(), "something is unsaved");
        saver.saved(Instant::now());
        std::thread::sleep(Duration::from_millis(2));
        assert!(!saver.soil() && !saver.owes_little(), "none after the last");
    }
}
