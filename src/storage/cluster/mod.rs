//! A private Postgres: found on this machine, started for a run, and gone when the run is.
//!
//! For `dev`, `demo` and tests; a deployment names its own server in `DATABASE_URL`. The server
//! listens on a loopback port chosen at start and trusts whoever connects there: it is for data
//! that anyone with an account on the machine may read.
//!
//! The server is the child of a small shell supervisor, which holds one end of a pipe and this
//! process the other. Whatever ends this process, SIGKILL included, closes the pipe, and the
//! supervisor then stops the server and removes what was temporary.

mod binaries;
#[cfg(feature = "pg-download")]
mod download;
mod place;
mod supervisor;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use supervisor::{Report, Supervisor};

/// How long a server may take to answer, `initdb` and crash recovery included.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How long a server may take to stop before the wait for it is given up.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);
/// Ports tried when another process takes the chosen one first.
const PORTS_TRIED: u32 = 5;

/// Where a cluster keeps its data, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataDir {
    /// A new directory under the system's temporary one, removed when the cluster stops. Commits
    /// are real, but nothing is forced to the disk: a crash of the machine loses the data.
    Ephemeral,
    /// The sub-directory `postgres` of this directory, made if missing, kept, and as durable as
    /// Postgres' defaults. When root runs this and the server's user cannot reach the directory,
    /// a directory under `/var/lib/entitled` stands in: see [`Cluster::directory`].
    Persistent(PathBuf),
    /// As [`DataDir::Ephemeral`], with a copy of the running cluster at this port, which it then
    /// follows by streaming replication, answering reads, until [`Cluster::promote`].
    StandbyOf(u16),
}

/// Why a cluster could not be started or used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No directory with `initdb` and `postgres` was found.
    #[error(
        "PostgreSQL is needed: `apt install postgresql`, `brew install postgresql@17`, \
         or set DATABASE_URL to a running server,\n\
         or build with `--features pg-download`, which fetches it once\n\
         looked for `initdb` and `postgres` in {0}"
    )]
    NotInstalled(String),
    /// Postgres refuses to run as root, and there is no other user to run it as.
    #[error(
        "PostgreSQL does not run as root, and neither `postgres` nor `nobody` is in /etc/passwd: \
         run as another user or set DATABASE_URL"
    )]
    NoServerUser,
    /// Another run holds the data directory.
    #[error("{} is in use by another running cluster; stop that one first", .0.display())]
    InUse(PathBuf),
    /// The server ended, or never answered; with the last lines of its log.
    #[error("PostgreSQL did not start in {}:\n{log}", directory.display())]
    NotStarted {
        /// Where its data and its log are.
        directory: PathBuf,
        /// The end of its log, a few lines.
        log: String,
    },
    /// The server did not stop in the time allowed.
    #[error("PostgreSQL did not stop within {} s", STOPPED_WITHIN.as_secs())]
    NotStopped,
    /// The cluster was stopped, or its supervisor was killed.
    #[error("the PostgreSQL cluster is stopped")]
    Stopped,
    /// A database name outside `[a-z_][a-z0-9_]*` or above 63 characters.
    #[error("`{0}` cannot name a database: a to z, 0 to 9 and _, at most 63, no digit first")]
    Name(String),
    /// The server refused a statement.
    #[error("PostgreSQL refused: {0}")]
    Sql(#[from] sqlx::Error),
    /// A file, directory or process could not be made.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted, with the path it was attempted on.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl ClusterError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// A handle to a running server. Clones share it; the server stops when [`Cluster::stop`] is
/// called, when the last clone is dropped, or when the process ends.
#[derive(Clone, Debug)]
pub struct Cluster(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    port: u16,
    /// The server's process; 0 while there is none.
    pid: AtomicU32,
    supervisor: Mutex<Supervisor>,
}

impl Cluster {
    /// Starts a server on `data` and returns once it answers. Ephemeral directories that killed
    /// runs left behind are removed on the way.
    ///
    /// # Errors
    /// [`ClusterError::NotInstalled`] without binaries, [`ClusterError::InUse`] when another run
    /// holds a persistent directory, [`ClusterError::NotStarted`] when Postgres gives up.
    pub async fn start(data: DataDir) -> Result<Self, ClusterError> {
        let user = place::server_user()?;
        let binaries = find_or_fetch(user.as_ref()).await?;
        let prepared = tokio::task::spawn_blocking(move || {
            let place = place::prepare(&data, user)?;
            let root = place.root.clone();
            Supervisor::spawn(&binaries, place, &data).map(|supervisor| (root, supervisor))
        });
        let (root, mut supervisor) = prepared.await.map_err(|_| ClusterError::Stopped)??;

        let mut tried = 1;
        loop {
            let port = free_port()?;
            match bring_up(&mut supervisor, &root, port).await {
                Ok(pid) => return Ok(Self::running(root, port, pid, supervisor)),
                Err(ClusterError::NotStarted { log, .. })
                    if tried < PORTS_TRIED && log.contains("could not bind") =>
                {
                    tried += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn running(root: PathBuf, port: u16, pid: u32, supervisor: Supervisor) -> Self {
        Self(Arc::new(Inner {
            root,
            port,
            pid: AtomicU32::new(pid),
            supervisor: Mutex::new(supervisor),
        }))
    }

    /// The connection URL of `database`, as the superuser `postgres`. Carries a query
    /// (`?sslmode=disable`), so further options are appended with `&`.
    pub fn url(&self, database: &str) -> String {
        url(self.0.port, database)
    }

    /// The loopback port, the same across [`Cluster::pause`] and [`Cluster::resume`].
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// The server's process id, or `None` while it is paused or stopped.
    pub fn pid(&self) -> Option<u32> {
        Some(self.0.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    /// The directory that holds `data` and `server.log`.
    pub fn directory(&self) -> &Path {
        &self.0.root
    }

    /// Creates a database, as a copy of `template` if one is named (nobody may be connected to it).
    ///
    /// # Errors
    /// [`ClusterError::Name`] for a name that would need quoting, [`ClusterError::Sql`] if the
    /// database exists already or the template is missing or in use.
    pub async fn create_database(
        &self,
        name: &str,
        template: Option<&str>,
    ) -> Result<(), ClusterError> {
        let template = template.unwrap_or("template1");
        let (name, template) = (checked(name)?, checked(template)?);
        self.execute(format!(r#"CREATE DATABASE "{name}" TEMPLATE "{template}""#))
            .await
    }

    /// From now on every commit waits until a standby has it on its disk, and stands still without
    /// one.
    ///
    /// # Errors
    /// [`ClusterError::Sql`] if the server refuses.
    pub async fn wait_for_standby(&self) -> Result<(), ClusterError> {
        self.execute("ALTER SYSTEM SET synchronous_standby_names = '*'".to_owned())
            .await?;
        self.execute("SELECT pg_reload_conf()".to_owned()).await
    }

    /// Makes a standby the primary of a new timeline; returns once it takes writes. The old primary
    /// must be gone.
    ///
    /// # Errors
    /// [`ClusterError::Sql`] if it is no standby, or does not become one in a minute.
    pub async fn promote(&self) -> Result<(), ClusterError> {
        self.execute("SELECT pg_promote(true, 60)".to_owned()).await
    }

    /// Whether a database of that name exists.
    ///
    /// # Errors
    /// [`ClusterError::Sql`] if the server cannot be asked.
    pub async fn has_database(&self, name: &str) -> Result<bool, ClusterError> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        let exists =
            sqlx::query_scalar("SELECT exists (SELECT 1 FROM pg_database WHERE datname = $1)")
                .bind(name)
                .fetch_one(&mut connection)
                .await;
        Ok(exists?)
    }

    /// Drops a database if it exists, and ends the connections to it.
    ///
    /// # Errors
    /// [`ClusterError::Name`] or [`ClusterError::Sql`], as for [`Cluster::create_database`].
    pub async fn drop_database(&self, name: &str) -> Result<(), ClusterError> {
        let name = checked(name)?;
        self.execute(format!(r#"DROP DATABASE IF EXISTS "{name}" WITH (FORCE)"#))
            .await
    }

    /// Stops the server as a crash would (immediate shutdown), keeping data and port.
    ///
    /// # Errors
    /// [`ClusterError::Stopped`] after [`Cluster::stop`], [`ClusterError::NotStopped`] if it hangs.
    pub async fn pause(&self) -> Result<(), ClusterError> {
        self.end("pause").await
    }

    /// Kills the server and every process it started (SIGKILL) and returns once all are gone.
    /// Data, port and the stale lock file stay, for [`Cluster::resume`].
    ///
    /// # Errors
    /// As for [`Cluster::pause`].
    pub async fn crash(&self) -> Result<(), ClusterError> {
        self.end("crash").await
    }

    async fn end(&self, order: &str) -> Result<(), ClusterError> {
        let mut supervisor = self.0.supervisor.lock().await;
        supervisor.check()?;
        if self.pid().is_none() {
            return Ok(());
        }
        supervisor.order(order)?;
        timeout(STOPPED_WITHIN, supervisor.report())
            .await
            .map_err(|_| ClusterError::NotStopped)??;
        self.0.pid.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Starts a paused server on its old data and port, and returns once it answers.
    ///
    /// # Errors
    /// [`ClusterError::Stopped`] after [`Cluster::stop`], [`ClusterError::NotStarted`] if Postgres
    /// gives up, for instance because the port was taken meanwhile.
    pub async fn resume(&self) -> Result<(), ClusterError> {
        let mut supervisor = self.0.supervisor.lock().await;
        supervisor.check()?;
        if self.pid().is_some() {
            return Ok(());
        }
        let pid = bring_up(&mut supervisor, &self.0.root, self.0.port).await?;
        self.0.pid.store(pid, Ordering::Relaxed);
        Ok(())
    }

    /// Stops the server for all clones of this handle, and removes an ephemeral directory.
    ///
    /// # Errors
    /// [`ClusterError::NotStopped`] if it does not end in the time allowed.
    pub async fn stop(self) -> Result<(), ClusterError> {
        let mut supervisor = self.0.supervisor.lock().await;
        let ended = timeout(STOPPED_WITHIN, supervisor.finish()).await;
        self.0.pid.store(0, Ordering::Relaxed);
        ended.map_err(|_| ClusterError::NotStopped)
    }

    async fn execute(&self, statement: String) -> Result<(), ClusterError> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        // Names in the statement have passed `checked`.
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await?;
        Ok(connection.close().await?)
    }
}

#[cfg(not(feature = "pg-download"))]
async fn find_or_fetch(user: Option<&place::User>) -> Result<binaries::Binaries, ClusterError> {
    binaries::find(user)
}

#[cfg(feature = "pg-download")]
async fn find_or_fetch(user: Option<&place::User>) -> Result<binaries::Binaries, ClusterError> {
    match binaries::find(user) {
        Err(ClusterError::NotInstalled(_)) => download::fetch(user).await,
        found => found,
    }
}

/// Has the supervisor start a server on `port`, and waits until it answers.
async fn bring_up(
    supervisor: &mut Supervisor,
    root: &Path,
    port: u16,
) -> Result<u32, ClusterError> {
    let not_started = || ClusterError::NotStarted {
        directory: root.to_owned(),
        log: place::log_tail(root),
    };
    let attempt = async {
        supervisor.order(&format!("start {port}"))?;
        let Report::Started(pid) = supervisor.report().await? else {
            return Err(not_started());
        };
        tokio::select! {
            _ = supervisor.report() => Err(not_started()),
            () = answering(port) => Ok(pid),
        }
    };
    match timeout(READY_WITHIN, attempt).await {
        // The supervisor ends by itself when `initdb` fails: the log says why.
        Ok(Err(ClusterError::Stopped)) | Err(_) => Err(not_started()),
        Ok(outcome) => outcome,
    }
}

async fn answering(port: u16) {
    let url = url(port, "postgres");
    loop {
        if let Ok(connection) = PgConnection::connect(&url).await {
            // It answered, which is all that was asked.
            drop(connection.close().await);
            return;
        }
        sleep(Duration::from_millis(15)).await;
    }
}

fn url(port: u16, database: &str) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/{database}?sslmode=disable")
}

/// A port free at this moment; the server may still lose it to another process.
fn free_port() -> Result<u16, ClusterError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(ClusterError::io("cannot choose a loopback port"))
}

/// A name that means the same quoted and unquoted.
fn checked(name: &str) -> Result<&str, ClusterError> {
    let valid = (1..=63).contains(&name.len())
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    if valid {
        Ok(name)
    } else {
        Err(ClusterError::Name(name.to_owned()))
    }
}
