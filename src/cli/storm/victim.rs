//! A server in a process of its own, to be killed without warning.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A loaded machine is slow; a server that is not ready by then never will be.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a purchase is kept by a worker that died: short, so that a run sees it end.
const LEASE_SECONDS: &str = "2";
const BACKOFF_SECONDS: &str = "1";

/// Where a server listens, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Doors {
    pub(super) grpc: String,
    pub(super) webhooks: String,
}

/// A running `entitled start`; it does not outlive this handle.
#[derive(Debug)]
pub(super) struct Victim {
    child: Child,
    pub(super) doors: Doors,
}

impl Victim {
    /// Starts `program` and returns once it listens.
    pub(super) async fn start(program: &Path, config: &Path, log: PathBuf) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .args(["start", "--config"])
            .arg(config)
            .env("ENTITLED__WORKER__LEASE_SECONDS", LEASE_SECONDS)
            .env("ENTITLED__WORKER__BACKOFF_MAX_SECONDS", BACKOFF_SECONDS)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).with_context(|| format!("{}", log.display()))?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} does not run", program.display()))?;
        let output = child.stdout.take().context("no output")?;
        let mut lines = BufReader::new(output).lines();
        let line = tokio::time::timeout(READY_WITHIN, lines.next_line()).await;
        let told = line.ok().and_then(Result::ok).flatten();
        let doors = told.and_then(|line| serde_json::from_str(&line).ok());
        let doors = doors.ok_or_else(|| {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            anyhow!("the server did not start:\n{said}")
        })?;
        Ok(Self { child, doors })
    }

    /// SIGKILL, and returns once the process is reaped.
    pub(super) async fn kill(mut self) -> anyhow::Result<()> {
        self.child
            .kill()
            .await
            .context("the server cannot be killed")
    }
}
