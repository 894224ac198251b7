//! One device's stream: what it is told, and when.

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream::unfold;

use super::hub::Subscription;
use super::view::View;
use crate::clock::Clock;
use crate::domain::ids::Revision;
use crate::domain::planted::{self, Bug};
use crate::domain::time::Instant;

/// Silence that proxies and mobile networks tolerate.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(20);
/// How long the due job has to commit a passed transition before the stream says it in place.
const TRANSITION_PATIENCE: Duration = Duration::from_secs(2);

/// What a client says it has.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) epoch: String,
    pub(crate) revision: Revision,
    pub(crate) as_of: Option<Instant>,
}

/// One message of a stream.
#[derive(Clone, Debug)]
pub(crate) enum WatchEvent {
    Snapshot(Arc<View>),
    /// What the caller has is what there is: this.
    Unchanged(Arc<View>),
    Heartbeat(Revision),
    /// The account or the session takes no credential any more; nothing follows.
    Ended,
}

struct State {
    subscription: Subscription,
    clock: Clock,
    seen: Option<Seen>,
    /// The channel's view as it came, before it was evaluated at a later moment.
    raw: Option<Arc<View>>,
    /// What was told last: revision and the transition that it was evaluated before.
    told: Option<Arc<View>>,
}

/// The stream of an account: the current snapshot (or "unchanged") first, then each newer one.
/// It never ends by itself; the door bounds its life.
pub(crate) fn watch(
    subscription: Subscription,
    seen: Option<Seen>,
    clock: Clock,
) -> impl Stream<Item = WatchEvent> + Send {
    let state = State {
        subscription,
        clock,
        seen,
        raw: None,
        told: None,
    };
    unfold(state, |mut state| async move {
        let event = state.next().await?;
        Some((event, state))
    })
}

impl State {
    /// `None` only when the hub is gone.
    async fn next(&mut self) -> Option<WatchEvent> {
        if self.subscription.has_ended() {
            return Some(WatchEvent::Ended);
        }
        if self.told.is_none() {
            return self.first();
        }
        let heartbeat = tokio::time::sleep(HEARTBEAT_EVERY);
        tokio::pin!(heartbeat);
        loop {
            let transition = self
                .told
                .as_ref()
                .and_then(|view| view.snapshot.next_transition_at);
            tokio::select! {
                changed = self.subscription.changed() => {
                    changed?;
                    if self.subscription.has_ended() {
                        return Some(WatchEvent::Ended);
                    }
                    let view = self.latest()?;
                    if self.is_news(&view) {
                        self.told = Some(Arc::clone(&view));
                        return Some(WatchEvent::Snapshot(view));
                    }
                }
                () = passed(&self.clock, transition) => {
                    let view = self.latest()?;
                    self.told = Some(Arc::clone(&view));
                    return Some(WatchEvent::Snapshot(view));
                }
                () = &mut heartbeat => {
                    let revision = self.told.as_ref().map_or(Revision::ZERO, |view| view.revision);
                    return Some(WatchEvent::Heartbeat(revision));
                }
            }
        }
    }

    fn first(&mut self) -> Option<WatchEvent> {
        let view = self.latest()?;
        self.told = Some(Arc::clone(&view));
        let now = self.clock.now();
        let unchanged = self.seen.take().is_some_and(|seen| {
            let same = seen.epoch == *view.epoch && seen.revision == view.revision;
            let holds = seen
                .as_of
                .is_some_and(|as_of| nothing_ended(&self.raw, as_of, now));
            same && (holds || planted::is(Bug::UnchangedOverAnEnd))
        });
        Some(if unchanged {
            WatchEvent::Unchanged(view)
        } else {
            WatchEvent::Snapshot(view)
        })
    }

    /// The channel's view as it reads now.
    fn latest(&mut self) -> Option<Arc<View>> {
        let view = self.subscription.latest()?;
        self.raw = Some(Arc::clone(&view));
        Some(view.at(self.clock.now(), self.subscription.hub().encoder()))
    }

    fn is_news(&self, view: &View) -> bool {
        self.told
            .as_ref()
            .is_none_or(|told| told.epoch != view.epoch || told.revision < view.revision)
    }
}

/// The client's copy says the same now as when it was made.
fn nothing_ended(view: &Option<Arc<View>>, as_of: Instant, now: Instant) -> bool {
    let sources = view.iter().flat_map(|view| &view.snapshot.entitlements);
    let mut ends = sources
        .flat_map(|entitlement| &entitlement.sources)
        .filter_map(|source| source.access.until());
    as_of <= now && !ends.any(|end| as_of < end && end <= now)
}

/// A while after `transition`, unless the due job's revision comes first.
async fn passed(clock: &Clock, transition: Option<Instant>) {
    match transition {
        Some(at) => {
            clock.sleep_until(at).await;
            tokio::time::sleep(TRANSITION_PATIENCE).await;
        }
        None => std::future::pending().await,
    }
}
