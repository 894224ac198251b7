//! How a run goes: the clock's rate, the pace of events, and what goes wrong on the network.

use tokio::sync::watch;

use super::agenda::Due;
use super::delivery::{OrderedSin, Source, Store};
use super::server::checked;
use super::{CallSin, DeliverySin, Pace, Progress, Sandbox, SandboxError, Sins};
use crate::clock::ClockReading;

/// Time.
impl Sandbox {
    /// Lets the clock run `rate` business seconds in a second of the machine's; 0 stops it. Where
    /// events cannot be played as fast as that, the clock waits for them.
    pub fn set_rate(&self, rate: f64) {
        self.inner.clock.set_rate(rate);
        self.inner.planned.notify_one();
        self.inner.changed.send_replace(());
    }

    /// What the clock shows, for a server that follows it.
    pub fn clock(&self) -> ClockReading {
        self.inner.clock.reading()
    }

    /// How events follow each other while time passes, from now on.
    pub fn set_pace(&self, pace: Pace) {
        *self
            .inner
            .pace
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = pace;
    }

    /// How events follow each other while time passes.
    pub fn pace(&self) -> Pace {
        self.inner.pace()
    }

    /// Where a server in another process answers 200 once it is idle; asked between events as
    /// `Options::idle_url` says.
    pub fn set_idle_url(&self, url: Option<String>) {
        *self
            .inner
            .idle_url
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = url;
    }

    /// Returns once the server under test has settled, if it can be asked.
    pub async fn settle(&self) {
        let _playing = self.inner.playing.lock().await;
        self.inner.settle().await;
    }

    /// What has been played so far, as it goes on.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.inner.progress.subscribe()
    }
}

/// The network's sins.
impl Sandbox {
    /// How likely what goes wrong from now on; it stays so in a state directory.
    ///
    /// # Errors
    /// A chance is not a number from 0 to 1.
    pub fn set_sins(&self, sins: Sins) -> Result<(), SandboxError> {
        let sins = checked(sins)?;
        self.inner.traffic.set_sins(sins.calls);
        self.inner.change(|turn| {
            turn.world.sins = sins;
            Ok(())
        })
    }

    /// How likely what goes wrong is.
    pub fn sins(&self) -> Sins {
        self.inner.read(|world, _| world.sins)
    }

    /// The next `count` notifications suffer this: those of one source, or of any.
    ///
    /// # Errors
    /// The state cannot be saved.
    pub fn sin_next_deliveries(
        &self,
        source: Option<Source>,
        sin: DeliverySin,
        count: u32,
    ) -> Result<(), SandboxError> {
        self.inner.change(|turn| {
            let order = OrderedSin { source, sin, count };
            turn.world.outbox.ordered.push(order);
            Ok(())
        })
    }

    /// The next `count` calls to a store's API, or to any store's, suffer this.
    pub fn sin_next_calls(&self, store: Option<Store>, sin: CallSin, count: u32) {
        self.inner.traffic.order(store, sin, count);
    }

    /// Sends every notification that is still to be sent (late, overtaken, repeated or tried
    /// again) now, in the order in which they are due.
    ///
    /// # Errors
    /// The state cannot be saved.
    pub async fn flush_deliveries(&self) -> Result<(), SandboxError> {
        self.inner
            .act(|turn| {
                let now = turn.now;
                for number in turn.world.outbox.hasten(now) {
                    turn.world.agenda.set(Due::Delivery(number), Some(now));
                }
                Ok(())
            })
            .await
    }
}
