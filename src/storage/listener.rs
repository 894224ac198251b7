//! LISTEN/NOTIFY as a hint bus: a listening connection outside the pool, and the one that feeds it.

use std::time::Duration;

use sqlx::postgres::{PgConnection, PgListener, PgPoolOptions};
use sqlx::{Connection as _, PgPool};

use super::{Db, StorageError};

const CHANNEL: &str = "entitled_hints";
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// A listening connection. Dropped and opened anew on any doubt.
pub(crate) struct Listener {
    listener: PgListener,
    /// For the listener itself, and for what it sends to itself.
    pool: PgPool,
}

impl Listener {
    pub(crate) async fn connect(db: &Db) -> Result<Self, StorageError> {
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(db.connect_options().clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        // A silent reconnect would lose hints: we want to know, and compare revisions.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(Self { listener, pool })
    }

    /// The next hint and what has queued up behind it, up to `max`. An error means that hints may
    /// have been lost: connect again and compare.
    pub(crate) async fn next_batch(&mut self, max: usize) -> Result<Vec<String>, StorageError> {
        let Some(first) = self.listener.try_recv().await? else {
            return Err(StorageError::Unavailable("the listener was cut off".into()));
        };
        let mut hints = vec![first.payload().to_owned()];
        while hints.len() < max
            && let Some(hint) = self.listener.next_buffered()
        {
            hints.push(hint.payload().to_owned());
        }
        Ok(hints)
    }

    /// Sends a hint to every listener, this one among them, over another connection.
    pub(crate) async fn notify(&self, hint: &str) -> Result<(), StorageError> {
        sqlx::query("select pg_notify($1, $2)")
            .bind(CHANNEL)
            .bind(hint)
            .execute(&self.pool)
            .await?;
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

    pub(crate) async fn notify(&mut self, hints: &[String]) -> Result<(), StorageError> {
        sqlx::query("select pg_notify($1, hint) from unnest($2::text[]) as t (hint)")
            .bind(CHANNEL)
            .bind(hints)
            .execute(&mut self.0)
            .await?;
        Ok(())
    }
}
