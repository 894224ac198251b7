//! A server in a process of its own, ended with this one whatever happens to it.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::machine::{self, Pinning};

const START_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A running server. Its standard input is a pipe from here: closed, it ends by itself.
pub(crate) struct ServerProcess {
    child: Child,
    pid: u32,
    addresses: serde_json::Value,
}

impl ServerProcess {
    /// Runs this binary again with other arguments, on the servers' core.
    pub(crate) async fn spawn<S: AsRef<OsStr>>(
        pinning: Pinning,
        arguments: &[S],
    ) -> anyhow::Result<Self> {
        let mut command = pinning.server(&std::env::current_exe()?);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .context("a server process cannot be started")?;
        let pid = child.id().context("a server process has ended")?;
        let output = child.stdout.take().context("a server without output")?;
        let mut line = String::new();
        let mut output = BufReader::new(output);
        tokio::time::timeout(START_WITHIN, output.read_line(&mut line))
            .await
            .context("a server did not start in time")??;
        let addresses = serde_json::from_str(&line).context("a server did not start; see above")?;
        Ok(Self {
            child,
            pid,
            addresses,
        })
    }

    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        machine::cpu_time(self.pid)
    }

    /// Memory that it holds, in KiB.
    pub(crate) fn resident_kib(&self) -> anyhow::Result<i64> {
        Ok(i64::try_from(machine::resident_kib(self.pid)?)?)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn grpc(&self) -> anyhow::Result<&str> {
        self.addresses["grpc"]
            .as_str()
            .context("this server has no gRPC API")
    }

    pub(crate) fn webhooks(&self) -> anyhow::Result<&str> {
        self.addresses["webhooks"]
            .as_str()
            .context("this server takes no notifications")
    }

    pub(crate) fn admin(&self) -> anyhow::Result<&str> {
        self.addresses["admin"]
            .as_str()
            .context("this server has no operators' listener")
    }

    /// Ends it in good order.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        tokio::time::timeout(STOP_WITHIN, self.child.wait())
            .await
            .context("a server did not end in time and is killed")??;
        Ok(())
    }
}
