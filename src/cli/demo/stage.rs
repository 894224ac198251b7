//! What the demo runs on, and takes away again: a database, a directory, the stack.

use std::path::PathBuf;

use anyhow::Context as _;
use chrono::{DateTime, TimeZone as _, Utc};
use tokio::task::JoinHandle;

use crate::cli::stack::{Stack, StackOptions};
use crate::storage::cluster::{Cluster, ClusterError, DataDir};
use crate::storage::scratch::ScratchDatabase;

/// The database's name in a Postgres of the demo's own.
const DATABASE: &str = "demo";

/// Postgres of the demo's own, or a database of its own on somebody's server.
enum Database {
    Private(Cluster),
    Scratch(Box<ScratchDatabase>),
}

/// Holds each part from the moment it may exist, so that whatever interrupts, [`Stage::clear`]
/// finds it.
pub(super) struct Stage {
    directory: Directory,
    /// Postgres on its way; a task, because an `initdb` cannot be left half done without a trace.
    starting: Option<JoinHandle<Result<Cluster, ClusterError>>>,
    database: Option<Database>,
    stack: Option<Stack>,
}

impl Stage {
    pub(super) fn new() -> Self {
        let name = format!("entitled-demo-{}", uuid::Uuid::new_v4().simple());
        let directory = Directory(std::env::temp_dir().join(name));
        Self {
            directory,
            starting: None,
            database: None,
            stack: None,
        }
    }

    /// Starts database, stores and server.
    pub(super) async fn raise(&mut self) -> anyhow::Result<&Stack> {
        let url = self.raise_database().await?;
        let options = StackOptions::new(self.directory.0.clone(), url, begins());
        let stack = Stack::start(options).await?;
        Ok(self.stack.insert(stack))
    }

    async fn raise_database(&mut self) -> anyhow::Result<String> {
        match std::env::var("DATABASE_URL") {
            Ok(server) if !server.is_empty() => {
                let scratch = Box::new(ScratchDatabase::new(&server, "demo")?);
                self.database = Some(Database::Scratch(scratch.clone()));
                scratch.create().await.context(
                    "DATABASE_URL is set, and no database for the demo can be made there; \
                     unset it to let the demo run a Postgres of its own",
                )?;
                Ok(scratch.url())
            }
            Ok(_) | Err(_) => {
                let cluster = tokio::spawn(Cluster::start(DataDir::Ephemeral));
                let started = self.starting.insert(cluster).await;
                self.starting = None;
                let cluster = started??;
                self.database = Some(Database::Private(cluster.clone()));
                cluster.create_database(DATABASE, None).await?;
                Ok(cluster.url(DATABASE))
            }
        }
    }

    /// Stops what runs and removes what was made.
    pub(super) async fn clear(self) -> anyhow::Result<()> {
        if let Some(stack) = self.stack {
            stack.stop().await;
        }
        if let Some(starting) = self.starting
            && let Ok(cluster) = starting.await?
        {
            cluster.stop().await?;
        }
        match self.database {
            Some(Database::Private(cluster)) => cluster.stop().await?,
            Some(Database::Scratch(scratch)) => scratch.remove().await.context(
                "the demo's own database could not be removed; its name begins with entitled_demo_",
            )?,
            None => {}
        }
        Ok(())
    }
}

/// When the story begins, by business time: the same in every run, as are all ids of the stores.
fn begins() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2027, 1, 10, 9, 0, 0)
        .single()
        .unwrap_or_default()
}

/// Removed with everything in it when dropped.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // It may not have been made yet.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
