//! Lets time pass: every due event in its order, what it has to tell delivered before the next, or
//! window by window.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Datelike as _, Utc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::agenda::Due;
use super::error::SandboxError;
use super::inner::Inner;
use super::state::Turn;

/// Pause before events are tried again that could not be played (a full disk, for instance).
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// RFC 3339 writes no later year.
const YEAR_MAX: i32 = 9_999;

/// Refuses moments that documents cannot carry.
pub(super) fn check_calendar(target: DateTime<Utc>) -> Result<(), SandboxError> {
    match target.year() > YEAR_MAX {
        true => Err(SandboxError::BeyondCalendar),
        false => Ok(()),
    }
}

impl Inner {
    /// A change made from outside, and everything that it causes at this moment.
    pub(super) async fn act<T>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Turn<'_>) -> Result<T, SandboxError>,
    ) -> Result<T, SandboxError> {
        let _playing = self.playing.lock().await;
        let value = self.change(change)?;
        let now = self.clock.now();
        match self.pace().window(now) {
            None => {
                self.play_until(now).await?;
                self.settle().await;
            }
            // Thousands of acts may fall into one window: its end settles them all.
            Some((_, parallel)) => self.play_window(now, parallel).await?,
        }
        self.save_if_small()?;
        Ok(value)
    }

    /// Moves the clock to `target` through every event on the way. What the server under test
    /// still has to do is done before the first.
    pub(super) async fn advance_to(
        self: &Arc<Self>,
        target: DateTime<Utc>,
    ) -> Result<(), SandboxError> {
        check_calendar(target)?;
        let _playing = self.playing.lock().await;
        self.played(|progress| progress.target = Some(target));
        self.settle().await;
        let arrived = self.play_until(target).await;
        if arrived.is_ok() {
            self.clock.advance_to(target);
            self.settle().await;
        }
        self.played(|progress| progress.target = None);
        arrived?;
        self.save_if_small()
    }

    /// Plays what falls due while the clock runs, until told to stop. The clock does not run past
    /// an event before it has been played: a fast clock waits where it must.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep_up()).await;
        self.clock.set_limit(None);
    }

    async fn keep_up(self: &Arc<Self>) {
        loop {
            let planned = self.planned.notified();
            let next = self.read(|world, _| world.agenda.next());
            if self.clock.reading().limit != next {
                self.clock.set_limit(next);
            }
            let due = async {
                match next {
                    Some(at) => self.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = planned => continue,
                () = due => {}
            }
            let playing = self.playing.lock().await;
            let played = self.play_until(self.clock.now()).await;
            drop(playing);
            if let Err(error) = played {
                tracing::error!(%error, "the simulator cannot play its events");
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
    }

    async fn play_until(self: &Arc<Self>, target: DateTime<Utc>) -> Result<(), SandboxError> {
        while let Some((at, due)) = self.read(|world, _| world.agenda.first_due(target)) {
            match self.pace().window(at) {
                None => self.play_one(at, due).await?,
                Some((end, parallel)) => {
                    self.play_window(end.min(target), parallel).await?;
                    self.settle().await;
                }
            }
        }
        Ok(())
    }

    /// Something happens at a store by itself.
    fn happen(&self, due: Due) -> Result<(), SandboxError> {
        self.change(|turn| turn.play(due))?;
        self.played(|progress| progress.events += 1);
        Ok(())
    }

    /// One event; the server settles unless there is more to tell it first.
    async fn play_one(&self, at: DateTime<Utc>, due: Due) -> Result<(), SandboxError> {
        self.clock.advance_to(at);
        match due {
            Due::Delivery(number) => self.attempt(number, false).await?,
            Due::AppStore(_) | Due::GooglePlay(_) => self.happen(due)?,
        }
        if !self.read(|world, now| world.agenda.delivers_next(now)) {
            self.settle().await;
        }
        Ok(())
    }

    /// All events until `end`, with several notifications under way at a time.
    async fn play_window(
        self: &Arc<Self>,
        end: DateTime<Utc>,
        parallel: usize,
    ) -> Result<(), SandboxError> {
        let mut flight = Flight::new(Arc::clone(self));
        loop {
            match self.read(|world, _| world.agenda.first_due(end)) {
                Some((at, Due::Delivery(number))) => {
                    self.clock.advance_to(at);
                    if flight.under_way.len() >= parallel {
                        flight.land_one().await?;
                    }
                    flight.start(number);
                }
                Some((at, due)) => {
                    self.clock.advance_to(at);
                    self.happen(due)?;
                }
                None if flight.under_way.is_empty() => return Ok(()),
                // Whoever lands may have more to do in this window.
                None => flight.land_one().await?,
            }
        }
    }
}

/// Deliveries under way at the same time. Off the agenda meanwhile; those that do not land return
/// to it.
struct Flight {
    inner: Arc<Inner>,
    under_way: JoinSet<(u64, Result<(), SandboxError>)>,
    numbers: BTreeSet<u64>,
}

impl Flight {
    fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            under_way: JoinSet::new(),
            numbers: BTreeSet::new(),
        }
    }

    fn start(&mut self, number: u64) {
        self.inner.plan(number, None);
        self.numbers.insert(number);
        let inner = Arc::clone(&self.inner);
        self.under_way
            .spawn(async move { (number, inner.attempt(number, false).await) });
    }

    async fn land_one(&mut self) -> Result<(), SandboxError> {
        let Some(Ok((number, landed))) = self.under_way.join_next().await else {
            return Ok(());
        };
        if landed.is_ok() {
            self.numbers.remove(&number);
        }
        landed
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        for number in &self.numbers {
            let due = |at: Option<DateTime<Utc>>| self.inner.plan(*number, at);
            due(self.inner.read(|world, _| {
                let notification = world.outbox.get(*number)?;
                notification.next_attempt
            }));
        }
    }
}

impl Turn<'_> {
    fn play(&mut self, event: Due) -> Result<(), SandboxError> {
        self.world.agenda.set(event.clone(), None);
        match event {
            Due::AppStore(id) => self.app_store_play(&id),
            Due::GooglePlay(token) => {
                self.google_play_play(&token);
                Ok(())
            }
            Due::Delivery(_) => Ok(()),
        }
    }
}
