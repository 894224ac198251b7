//! What scenarios are played on: a Postgres for all, and for each a database, stores and a server.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use super::catalog;
use super::play::{Play, Played};
use super::server::Server;
use crate::cli::stack::{Stack, StackOptions, webhooks_of};
use crate::clock::VirtualClock;
use crate::sandbox::Sandbox;
use crate::sandbox::scenario::{Placed, Scenario};
use crate::storage::cluster::{Cluster, DataDir};
use crate::storage::scratch::ScratchDatabase;

/// A Postgres of this run's own, or databases on somebody's.
pub(super) enum Ground {
    Private(Cluster),
    Server(String),
}

/// One scenario's database.
struct Database {
    url: String,
    scratch: Option<Box<ScratchDatabase>>,
}

impl Ground {
    pub(super) async fn raise() -> anyhow::Result<Self> {
        match std::env::var("DATABASE_URL") {
            Ok(server) if !server.is_empty() => Ok(Self::Server(server)),
            Ok(_) | Err(_) => Ok(Self::Private(Cluster::start(DataDir::Ephemeral).await?)),
        }
    }

    pub(super) async fn clear(self) -> anyhow::Result<()> {
        if let Self::Private(cluster) = self {
            cluster.stop().await?;
        }
        Ok(())
    }

    async fn database(&self) -> anyhow::Result<Database> {
        match self {
            Self::Private(cluster) => {
                let name = format!("scenario_{}", uuid::Uuid::new_v4().simple());
                cluster.create_database(&name, None).await?;
                Ok(Database {
                    url: cluster.url(&name),
                    scratch: None,
                })
            }
            Self::Server(server) => {
                let scratch = Box::new(ScratchDatabase::new(server, "scenario")?);
                scratch.create().await.context(
                    "no database can be made at DATABASE_URL; unset it to use a private Postgres",
                )?;
                Ok(Database {
                    url: scratch.url(),
                    scratch: Some(scratch),
                })
            }
        }
    }

    /// Plays a scenario with stores, a server and a database of its own.
    pub(super) async fn play(
        &self,
        scenario: &Scenario,
        narrate: &(dyn Fn(&Placed, &Sandbox) + Sync),
    ) -> anyhow::Result<Played> {
        let database = self.database().await?;
        let played = play_fresh(scenario, &database.url, narrate).await;
        if let Some(scratch) = database.scratch {
            scratch.remove().await?;
        }
        played
    }
}

/// Plays a scenario on an empty database with stores and a server of its own.
pub(super) async fn play_fresh(
    scenario: &Scenario,
    database_url: &str,
    narrate: &(dyn Fn(&Placed, &Sandbox) + Sync),
) -> anyhow::Result<Played> {
    let name = format!("entitled-scenario-{}", uuid::Uuid::new_v4().simple());
    let directory = Directory(std::env::temp_dir().join(name));
    let options = StackOptions {
        catalog: catalog::of(scenario)?,
        setup: Some(scenario.store_setup()),
        environment: scenario.environment,
        clock: VirtualClock::stopped(scenario.start),
        seed: scenario.seed,
        ..StackOptions::new(directory.0.clone(), database_url.to_owned(), scenario.start)
    };
    let stack = Stack::start(options).await?;
    let told_at = scenario.webhooks(webhooks_of(&stack.app));
    stack.sandbox.set_webhooks(told_at)?;
    let played = play_on(&stack, scenario, narrate).await;
    stack.stop().await;
    played
}

async fn play_on(
    stack: &Stack,
    scenario: &Scenario,
    narrate: &(dyn Fn(&Placed, &Sandbox) + Sync),
) -> anyhow::Result<Played> {
    let address = &stack.address.server;
    let server = Server::sign_in(address, &stack.sandbox, scenario, "").await?;
    let play = Play {
        scenario,
        sandbox: stack.sandbox.clone(),
        server,
        patience: Duration::ZERO,
        narrate,
    };
    play.run().await
}

/// Removed with everything in it when dropped.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // It may not have been made yet.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
