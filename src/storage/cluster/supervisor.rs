//! The shell child that runs the server and outlives this process just long enough to stop it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tokio::sync::mpsc;

use super::binaries::Binaries;
use super::place::Place;
use super::{ClusterError, DataDir};

const SCRIPT: &str = include_str!("supervisor.sh");

/// Loopback only, no socket file to find a place for, and room for a test run's pools.
const OPTIONS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=400",
    "timezone=UTC",
    "log_timezone=UTC",
    "jit=off",
];

/// No waiting for a disk that nobody will read after a crash. `synchronous_commit` stays on: what
/// depends on the order of commits must be tested as it is deployed.
const EPHEMERAL_OPTIONS: &[&str] = &["fsync=off", "full_page_writes=off", "max_wal_size=2GB"];

/// What the supervisor says about its server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The server's process exists; it may not answer yet.
    Started(u32),
    /// The server's process is gone.
    Stopped,
}

/// The pipe that keeps the server alive. Plain blocking ends and a thread, so that a handle made in
/// one async runtime works in another.
#[derive(Debug)]
pub(super) struct Supervisor {
    orders: Option<ChildStdin>,
    /// Closed once the supervisor has ended.
    reports: mpsc::UnboundedReceiver<Report>,
}

impl Supervisor {
    /// Starts the supervisor. It prepares the data directory if there is none, then waits for orders.
    pub(super) fn spawn(
        binaries: &Binaries,
        place: Place,
        data: &DataDir,
    ) -> Result<Self, ClusterError> {
        let origin = match data {
            DataDir::Ephemeral | DataDir::Persistent(_) => "new".to_owned(),
            DataDir::StandbyOf(port) => port.to_string(),
        };
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SCRIPT, "entitled-postgres"])
            .arg(&binaries.directory)
            .arg(&place.root)
            .arg(if place.keep {
                "persistent"
            } else {
                "ephemeral"
            })
            .arg(origin);
        let durability = if place.keep { &[] } else { EPHEMERAL_OPTIONS };
        for option in OPTIONS.iter().chain(durability) {
            command.args(["-c", option]);
        }
        clear_postgres_variables(&mut command);
        command
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .current_dir("/")
            // Out of reach of the terminal's Ctrl-C, which would stop the server under its users.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(place.log);
        if let Some(user) = place.user {
            command.uid(user.uid).gid(user.gid);
        }
        let mut child = command
            .spawn()
            .map_err(ClusterError::io("cannot run /bin/sh"))?;
        let orders = child.stdin.take();
        let (sender, reports) = mpsc::unbounded_channel();
        if let Some(output) = child.stdout.take() {
            std::thread::Builder::new()
                .name("postgres".to_owned())
                .spawn(move || forward(child, output, &sender))
                .map_err(ClusterError::io("cannot start a thread"))?;
        }
        Ok(Self { orders, reports })
    }

    /// Sends one order; see the script for what it understands.
    pub(super) fn order(&mut self, order: &str) -> Result<(), ClusterError> {
        let orders = self.orders.as_mut().ok_or(ClusterError::Stopped)?;
        // A few bytes into an empty pipe: never blocks. An error means the reader is gone.
        orders
            .write_all(format!("{order}\n").as_bytes())
            .map_err(|_| ClusterError::Stopped)
    }

    /// The next report. Safe to cancel.
    pub(super) async fn report(&mut self) -> Result<Report, ClusterError> {
        self.reports.recv().await.ok_or(ClusterError::Stopped)
    }

    /// Whether orders can still be given.
    pub(super) fn check(&self) -> Result<(), ClusterError> {
        if self.orders.is_some() && !self.reports.is_closed() {
            Ok(())
        } else {
            Err(ClusterError::Stopped)
        }
    }

    /// Closes the pipe and returns once server and supervisor are gone.
    pub(super) async fn finish(&mut self) {
        self.orders = None;
        while self.reports.recv().await.is_some() {}
    }
}

/// Passes reports on until the supervisor ends, then reaps it. Dropping the sender is the last step,
/// so a closed channel means that nothing is left.
fn forward(mut child: Child, output: ChildStdout, sender: &mpsc::UnboundedSender<Report>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let report = match line.strip_prefix("started ") {
            Some(pid) => pid.parse().ok().map(Report::Started),
            None => (line == "stopped").then_some(Report::Stopped),
        };
        if let Some(report) = report {
            // Nobody listens any more once the handle is dropped; the child is reaped all the same.
            drop(sender.send(report));
        }
    }
    drop(child.wait());
}

/// The caller's `PGDATA`, `PGOPTIONS` and the like are meant for another server.
fn clear_postgres_variables(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
}
