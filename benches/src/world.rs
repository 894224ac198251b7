//! What both benches stand on: a private Postgres, simulated stores in this process, servers in
//! processes of their own.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::Utc;
use entitled::app::Roles;
use entitled::cli::stack::{Stack, StackOptions};
use entitled::storage::cluster::{Cluster, DataDir};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

use crate::child::ServerProcess;
use crate::machine::Pinning;
use crate::servers::Part;

const DATABASE: &str = "bench";
const NO_ROLES: Roles = Roles {
    serve: false,
    webhooks: false,
    worker: false,
};

/// Stores and database; ends with everything it started.
pub(crate) struct World {
    /// Simulated stores and their configuration; the server in it plays no role.
    pub(crate) stack: Stack,
    pub(crate) pinning: Pinning,
    cluster: Cluster,
    dir: TempDir,
    /// Where a durable Postgres keeps its data.
    _data: Option<TempDir>,
}

impl World {
    /// The example app on the machine's clock, as in production.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut StackOptions)) -> anyhow::Result<Self> {
        Self::on(DataDir::Ephemeral, change).await
    }

    /// The same on a Postgres that forces every commit to the disk.
    pub(crate) async fn durable() -> anyhow::Result<Self> {
        let data = std::env::temp_dir().join(format!("entitled-bench-data-{}", std::process::id()));
        let gone = TempDir(data.clone());
        let mut world = Self::on(DataDir::Persistent(data), |_| {}).await?;
        world._data = Some(gone);
        Ok(world)
    }

    async fn on(data: DataDir, change: impl FnOnce(&mut StackOptions)) -> anyhow::Result<Self> {
        let pinning = Pinning::detect();
        pinning.unpin()?;
        let cluster = Cluster::start(data).await?;
        record_commit_times(&cluster).await?;
        cluster.create_database(DATABASE, None).await?;
        pinning.pin_load()?;
        let dir = std::env::temp_dir().join(format!("entitled-bench-{}", std::process::id()));
        let dir = TempDir(dir);
        let mut options = StackOptions {
            roles: NO_ROLES,
            ..StackOptions::new(dir.0.clone(), cluster.url(DATABASE), Utc::now())
        };
        change(&mut options);
        let stack = Stack::start(options).await?;
        // The stores must not wait for the server between two changes.
        stack
            .sandbox
            .set_idle_hook(|| Box::pin(std::future::ready(())));
        Ok(Self {
            stack,
            pinning,
            cluster,
            dir,
            _data: None,
        })
    }

    /// A server process with these roles, on the machine's clock.
    pub(crate) async fn serve(&self, part: Part) -> anyhow::Result<ServerProcess> {
        self.spawn(part, &[]).await
    }

    /// A server process with these roles, on the stores' clock.
    pub(crate) async fn follow(&self, part: Part) -> anyhow::Result<ServerProcess> {
        self.spawn(part, &["--follow"]).await
    }

    async fn spawn(&self, part: Part, more: &[&str]) -> anyhow::Result<ServerProcess> {
        self.spawn_with(&self.stack.address.config, part, more)
            .await
    }

    async fn spawn_with(
        &self,
        config: &Path,
        part: Part,
        more: &[&str],
    ) -> anyhow::Result<ServerProcess> {
        let config = config.to_str().context("a readable path")?.to_owned();
        let mut arguments: Vec<String> = vec![
            "server-ours".into(),
            "--roles".into(),
            part.name(),
            "--config".into(),
            config,
        ];
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        ServerProcess::spawn(self.pinning, &arguments).await
    }

    /// A server process with these roles, on the machine's clock, its configuration changed.
    pub(crate) async fn serve_changed(
        &self,
        name: &str,
        part: Part,
        change: impl FnOnce(&mut toml::Table),
    ) -> anyhow::Result<ServerProcess> {
        let text = std::fs::read_to_string(&self.stack.address.config)?;
        let mut config: toml::Table = text.parse()?;
        change(&mut config);
        // Beside the other, which names files beside itself.
        let file = self
            .stack
            .address
            .config
            .with_file_name(format!("{name}.toml"));
        std::fs::write(&file, config.to_string())?;
        self.spawn_with(&file, part, &[]).await
    }

    /// Where the servers' database is.
    pub(crate) fn database_url(&self) -> String {
        self.cluster.url(DATABASE)
    }

    /// A file of the run, gone with it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.0.join(name)
    }

    /// A connection of the bench's own, beside the server's.
    pub(crate) async fn database(&self) -> anyhow::Result<PgConnection> {
        let options: PgConnectOptions = self.cluster.url(DATABASE).parse()?;
        // Making a crowd takes long, and that is no news.
        let options = options.disable_statement_logging();
        Ok(PgConnection::connect_with(&options).await?)
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.stack.stop().await;
        self.cluster.stop().await?;
        Ok(())
    }
}

/// Postgres then knows when each transaction was committed; takes effect with a restart.
async fn record_commit_times(cluster: &Cluster) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(&cluster.url("postgres")).await?;
    sqlx::raw_sql("alter system set track_commit_timestamp = on")
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    cluster.pause().await?;
    cluster.resume().await?;
    Ok(())
}

struct TempDir(PathBuf);

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
