//! LISTEN/NOTIFY as a hint bus: one connection outside the pool, and the relay that feeds it.

use std::time::Duration;

use sqlx::postgres::{PgConnection, PgListener, PgPoolOptions};
use sqlx::{Connection as _, PgPool};

use super::{Db, StorageError};

const CHANNEL: &str = "entitled_hints";
/// A self-ping that has not come back by then means a dead connection, whatever TCP says.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
const PING: &str = "ping";

/// A listening connection. Dropped and opened anew on any doubt.
pub(crate) struct Listener {
    listener: PgListener,
    pinger: PgPool,
    unanswered_ping: Option<tokio::time::Instant>,
    next_ping: tokio::time::Instant,
}

impl Listener {
    pub(crate) async fn connect(db: &Db) -> Result<Self, StorageError> {
        let pinger = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(PING_TIMEOUT)
            .connect_lazy_with(db.connect_options().clone());
        let mut listener = PgListener::connect_with(&pinger).await?;
        // A silent reconnect would lose hints: we want to know, and compare revisions.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(Self {
            listener,
            pinger,
            unanswered_ping: None,
            next_ping: tokio::time::Instant::now() + PING_EVERY,
        })
    }

    /// The next hint. An error means that hints may have been lost: connect again and compare.
    async fn next(&mut self) -> Result<String, StorageError> {
        loop {
            let deadline = match self.unanswered_ping {
                Some(sent) => sent + PING_TIMEOUT,
                None => self.next_ping,
            };
            match tokio::time::timeout_at(deadline, self.listener.try_recv()).await {
                Ok(Ok(Some(hint))) if hint.payload() == PING => self.unanswered_ping = None,
                Ok(Ok(Some(hint))) => return Ok(hint.payload().to_owned()),
                Ok(Ok(None)) => {
                    return Err(StorageError::Unavailable("the listener was cut off".into()));
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) if self.unanswered_ping.is_some() => {
                    return Err(StorageError::Unavailable("the listener is silent".into()));
                }
                Err(_) => self.ping().await?,
            }
        }
    }

    /// The next hint and what has queued up behind it, up to `max`.
    pub(crate) async fn next_batch(&mut self, max: usize) -> Result<Vec<String>, StorageError> {
        let mut hints = vec![self.next().await?];
        while hints.len() < max {
            match self.listener.next_buffered() {
                Some(hint) if hint.payload() == PING => self.unanswered_ping = None,
                Some(hint) => hints.push(hint.payload().to_owned()),
                None => break,
            }
        }
        Ok(hints)
    }

    async fn ping(&mut self) -> Result<(), StorageError> {
        self.unanswered_ping = Some(tokio::time::Instant::now());
        self.next_ping = tokio::time::Instant::now() + PING_EVERY;
        let ping = sqlx::query("select pg_notify($1, $2)")
            .bind(CHANNEL)
            .bind(PING)
            .execute(&self.pinger);
        tokio::time::timeout(PING_TIMEOUT, ping)
            .await
            .map_err(|_| StorageError::Unavailable("the ping timed out".into()))??;
        Ok(())
    }
}

/// The connection that sends hints, one transaction per batch, without waiting for the disk:
/// NOTIFY takes a lock on the whole instance until commit, and a lost hint is healed by the sweep.
pub(crate) struct Notifier(PgConnection);

impl Notifier {
    pub(crate) async fn connect(db: &Db) -> Result<Self, StorageError> {
        let mut connection = PgConnection::connect_with(db.connect_options()).await?;
        sqlx::query("set synchronous_commit = off")
            .execute(&mut connection)
            .await?;
        Ok(Self(connection))
    }

    pub(crate) async fn send(&mut self, hints: &[String]) -> Result<(), StorageError> {
        sqlx::query("select pg_notify($1, hint) from unnest($2::text[]) as t (hint)")
            .bind(CHANNEL)
            .bind(hints)
            .execute(&mut self.0)
            .await?;
        Ok(())
    }
}
