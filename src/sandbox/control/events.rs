//! Server-sent events: the clock, the journey and the notifications, as they change.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::Stream;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::Sandbox;
use super::clock::ClockView;
use super::notifications::Summary;

/// A watcher hears at most so often; what happens in between comes together.
const PAUSE: Duration = Duration::from_millis(100);
/// Of what happens in between, at most so many notifications are told, the latest.
const TOLD_MAX: usize = 200;

/// One watcher's place.
struct Watcher {
    sandbox: Sandbox,
    changed: watch::Receiver<()>,
    stop: CancellationToken,
    /// How many changes of notifications it has heard of.
    seen: u64,
    /// Machine time before which it is left in peace.
    rests_until: Instant,
}

/// What has changed since the last event.
#[derive(Serialize)]
struct Changed {
    clock: ClockView,
    /// New and changed notifications, oldest first.
    notifications: Vec<Summary>,
    /// Whether more have changed than are told: read them anew.
    incomplete: bool,
}

/// `event: changed`, the first at once, with the clock and the notifications that changed.
pub(super) async fn stream(
    State(sandbox): State<Sandbox>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut changed = sandbox.inner.changed.subscribe();
    changed.mark_changed();
    let seen = sandbox
        .inner
        .read(|world, _| world.outbox.changes().count());
    let watcher = Watcher {
        changed,
        stop: sandbox.stop.clone(),
        sandbox,
        seen,
        rests_until: Instant::now(),
    };
    let events = futures::stream::unfold(watcher, |mut watcher| async {
        let event = watcher.next().await?;
        Some((Ok(event), watcher))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

impl Watcher {
    /// The next event; none once the simulator stops.
    async fn next(&mut self) -> Option<Event> {
        tokio::time::sleep_until(self.rests_until).await;
        tokio::select! {
            () = self.stop.cancelled() => return None,
            changed = self.changed.changed() => changed.ok()?,
        }
        self.rests_until = Instant::now() + PAUSE;
        let changed = self.collect();
        Event::default().event("changed").json_data(changed).ok()
    }

    fn collect(&mut self) -> Changed {
        let clock = ClockView::of(&self.sandbox);
        let (seen, notifications, incomplete) = self.sandbox.inner.read(|world, _| {
            let changes = world.outbox.changes();
            let news = changes.since(self.seen);
            let skipped = news.numbers.len().saturating_sub(TOLD_MAX);
            let told = news.numbers.iter().skip(skipped);
            let told = told.filter_map(|number| world.outbox.get(*number));
            (
                changes.count(),
                told.map(|found| Summary::of(found, world)).collect(),
                news.incomplete || skipped > 0,
            )
        });
        self.seen = seen;
        Changed {
            clock,
            notifications,
            incomplete,
        }
    }
}
