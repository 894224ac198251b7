//! The pool, the transaction, and what a failure means to whoever waits for it.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Acquire as _, PgPool, Postgres, Transaction};

use super::keyring::Keyring;

/// A transaction of ours. READ COMMITTED: settle locks what it decides by.
pub(crate) type Tx<'a> = Transaction<'a, Postgres>;

/// Why the database did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    /// It cannot be reached, or is shutting down: the same call may work in a moment.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// A statement ran into the limit of its time, or an administrator ended it.
    #[error("a statement was ended before its answer: {0}")]
    Slow(String),
    /// A deadlock or serialisation failure: the whole transaction is to be run again.
    #[error("the transaction lost to another one: {0}")]
    Conflict(String),
    /// A text that it cannot hold (U+0000): whoever sent it is to send another.
    #[error("a text cannot be kept: {0}")]
    Unstorable(String),
    /// A row holds what this version cannot read.
    #[error("unreadable row: {0}")]
    Corrupt(String),
    /// A mistake of ours.
    #[error("database error: {0}")]
    Other(String),
}

impl From<sqlx::Error> for StorageError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the driver's enum is open")]
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error.to_string()),
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default();
                match code.as_ref() {
                    "40001" | "40P01" | "55P03" => Self::Conflict(database.to_string()),
                    "57014" => Self::Slow(database.to_string()),
                    // What it refers to was deleted in this moment: looked up anew, it is not there.
                    "23503" => Self::Conflict(database.to_string()),
                    // Shutdown, crash recovery, start-up; no disk, memory or
                    // connection left; a primary that has become a standby.
                    code if code.starts_with("57")
                        || code.starts_with("08")
                        || code.starts_with("53")
                        || code == "25006" =>
                    {
                        Self::Unavailable(database.to_string())
                    }
                    "22021" => Self::Unstorable(database.to_string()),
                    _ => Self::Other(database.to_string()),
                }
            }
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                Self::Corrupt(error.to_string())
            }
            _ => Self::Other(error.to_string()),
        }
    }
}

/// A part of a transaction that can be undone by itself; dropped, it is undone.
pub(crate) async fn savepoint<'a>(tx: &'a mut Tx<'_>) -> Result<Tx<'a>, StorageError> {
    Ok(tx.begin().await?)
}

fn options(url: &str) -> Result<PgConnectOptions, StorageError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| StorageError::Other("the database URL cannot be read".into()))?;
    Ok(options.application_name("entitled"))
}

/// A cheap handle on the pool.
#[derive(Clone, Debug)]
pub(crate) struct Db {
    pool: PgPool,
    options: PgConnectOptions,
    /// Some managed servers do not tell their timeline.
    hides_timeline: Arc<AtomicBool>,
    keyring: Keyring,
}

impl Db {
    /// Opens a pool; connections are made when first needed.
    pub(crate) fn open(url: &str, connections_max: u32) -> Result<Self, StorageError> {
        Ok(Self::with_options(options(url)?, connections_max))
    }

    /// The same for whoever only looks: the database ends each statement that takes longer than
    /// `statement_max`.
    pub(crate) fn open_to_look(
        url: &str,
        connections_max: u32,
        statement_max: Duration,
    ) -> Result<Self, StorageError> {
        let limit = format!("{}ms", statement_max.as_millis());
        let options = options(url)?.options([("statement_timeout", limit)]);
        Ok(Self::with_options(options, connections_max))
    }

    fn with_options(options: PgConnectOptions, connections_max: u32) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(Duration::from_secs(3))
            .connect_lazy_with(options.clone());
        Self {
            pool,
            options,
            hides_timeline: Arc::default(),
            keyring: Keyring::none(),
        }
    }

    /// The same pool with the keys that documents are sealed under.
    pub(crate) fn with_keyring(self, keyring: Keyring) -> Self {
        Self { keyring, ..self }
    }

    pub(crate) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// One connection, for several statements outside a transaction.
    pub(crate) async fn connection(&self) -> Result<PoolConnection<Postgres>, StorageError> {
        Ok(self.pool.acquire().await?)
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(super) fn hides_timeline(&self) -> bool {
        self.hides_timeline.load(Ordering::Relaxed)
    }

    pub(super) fn timeline_is_hidden(&self) {
        self.hides_timeline.store(true, Ordering::Relaxed);
    }

    /// For the one connection that listens, outside the pool.
    pub(crate) fn connect_options(&self) -> &PgConnectOptions {
        &self.options
    }

    pub(crate) async fn begin(&self) -> Result<Tx<'static>, StorageError> {
        Ok(self.pool.begin().await?)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the driver's enum is open")]
    pub(crate) async fn migrate(&self) -> Result<(), StorageError> {
        sqlx::migrate!()
            .run(&self.pool)
            .await
            .map_err(|error| match error {
                sqlx::migrate::MigrateError::Execute(error) => error.into(),
                other => StorageError::Other(other.to_string()),
            })
    }

    /// Whether the schema is there and as new as this binary.
    pub(crate) async fn is_migrated(&self) -> Result<bool, StorageError> {
        let newest = sqlx::migrate!()
            .iter()
            .map(|migration| migration.version)
            .max();
        let applied: Result<Option<i64>, _> =
            sqlx::query_scalar("select max(version) from _sqlx_migrations where success")
                .fetch_one(&self.pool)
                .await;
        match applied {
            Ok(applied) => Ok(applied >= newest),
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}
