//! How replicas tell each other that an account has changed: hints over Postgres or NATS.
//!
//! A hint may come late, twice, or never: the sweep of each replica heals what a bus loses. So a bus
//! need not be reliable, but it must not be silent: whoever listens has to learn that something may
//! have been missed.

mod nats;
mod postgres;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;

pub(crate) use nats::{NatsBus, NatsOptions};
pub(crate) use postgres::PostgresBus;

/// A ping that has not come back by then means a dead connection, whatever TCP says.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
const PING: &str = "ping";

/// Hints did not go out, or may have been missed: connect again, and compare.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BusError(pub(crate) String);

/// Carries short texts from every replica to every replica, the sender among them. Texts are in
/// ASCII, of at most 200 bytes, without line breaks.
#[tonic::async_trait]
pub(crate) trait HintBus: Send + Sync {
    /// A connection of its own to send over.
    async fn sender(&self) -> Result<Box<dyn HintSender>, BusError>;
    /// A connection of its own that hears everything sent after this returns.
    async fn listener(&self) -> Result<Box<dyn HintListener>, BusError>;
}

/// The sending end; dropped and opened anew after any error.
#[tonic::async_trait]
pub(crate) trait HintSender: Send {
    /// Returns once the bus has them all; after an error some may have gone out.
    async fn send(&mut self, hints: &[String]) -> Result<(), BusError>;
}

/// The hearing end; dropped and opened anew after any error.
#[tonic::async_trait]
pub(crate) trait HintListener: Send {
    /// The next hint and what has queued up behind it, at most `max`. Dropping the call loses
    /// nothing.
    async fn receive(&mut self, max: usize) -> Result<Vec<String>, BusError>;
    /// Sends `hint` to all listeners, this one among them, by another way than it listens.
    async fn echo(&mut self, hint: &str) -> Result<(), BusError>;
}

/// A listener that notices when the bus has fallen silent.
pub(super) struct Attentive {
    listener: Box<dyn HintListener>,
    unanswered_ping: Option<Instant>,
    next_ping: Instant,
}

impl Attentive {
    pub(super) fn new(listener: Box<dyn HintListener>) -> Self {
        Self {
            listener,
            unanswered_ping: None,
            next_ping: Instant::now() + PING_EVERY,
        }
    }

    /// The next hints, at most `max`. An error means that hints may have been lost.
    pub(super) async fn next_batch(&mut self, max: usize) -> Result<Vec<String>, BusError> {
        loop {
            let deadline = match self.unanswered_ping {
                Some(sent) => sent + PING_TIMEOUT,
                None => self.next_ping,
            };
            match tokio::time::timeout_at(deadline, self.listener.receive(max)).await {
                Ok(hints) => {
                    let mut hints = hints?;
                    let received = hints.len();
                    hints.retain(|hint| hint != PING);
                    // Anybody's ping shows that the bus carries.
                    if hints.len() < received {
                        self.unanswered_ping = None;
                    }
                    if !hints.is_empty() {
                        return Ok(hints);
                    }
                }
                Err(_) if self.unanswered_ping.is_some() => {
                    return Err(BusError("the hint bus is silent".into()));
                }
                Err(_) => self.ping().await?,
            }
        }
    }

    async fn ping(&mut self) -> Result<(), BusError> {
        self.unanswered_ping = Some(Instant::now());
        self.next_ping = Instant::now() + PING_EVERY;
        tokio::time::timeout(PING_TIMEOUT, self.listener.echo(PING))
            .await
            .map_err(|_| BusError("the ping of the hint bus timed out".into()))?
    }
}
