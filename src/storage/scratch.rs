//! A database of one run's own on a server that exists already; gone when the run is.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};

use super::StorageError;

/// A server that does not answer for so long is not there.
const PATIENCE: Duration = Duration::from_secs(10);

/// A database that is named, and perhaps made.
#[derive(Clone, Debug)]
pub(crate) struct ScratchDatabase {
    /// Where the statement that makes it is sent.
    server: PgConnectOptions,
    /// Of letters, digits and `_` only: it stands in statements as it is.
    name: String,
}

impl ScratchDatabase {
    /// Names a database on the server of `url`, for `purpose` (a word); nothing is made yet.
    pub(crate) fn new(url: &str, purpose: &'static str) -> Result<Self, StorageError> {
        let server = PgConnectOptions::from_str(url)
            .map_err(|_| StorageError::Other("the database URL cannot be read".into()))?;
        let name = format!("entitled_{purpose}_{}", uuid::Uuid::new_v4().simple());
        Ok(Self { server, name })
    }

    /// How it is reached.
    pub(crate) fn url(&self) -> String {
        self.server
            .clone()
            .database(&self.name)
            .to_url_lossy()
            .into()
    }

    /// Makes it, empty.
    pub(crate) async fn create(&self) -> Result<(), StorageError> {
        self.execute(format!(r#"create database "{}""#, self.name))
            .await
    }

    /// Removes it if it was made, and ends the connections to it.
    pub(crate) async fn remove(&self) -> Result<(), StorageError> {
        self.execute(format!(
            r#"drop database if exists "{}" with (force)"#,
            self.name
        ))
        .await
    }

    async fn execute(&self, statement: String) -> Result<(), StorageError> {
        let done = async {
            let mut connection = PgConnection::connect_with(&self.server).await?;
            sqlx::raw_sql(AssertSqlSafe(statement))
                .execute(&mut connection)
                .await?;
            connection.close().await
        };
        match tokio::time::timeout(PATIENCE, done).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(StorageError::Unavailable(
                "the server does not answer".into(),
            )),
        }
    }
}
