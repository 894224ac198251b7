//! Separate processes of the server on a stack's configuration. None outlives its test.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use entitled::app::Roles;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead};
use tokio::time::{Instant, sleep};

use crate::scene::webhooks_at;
use crate::support::{HTTP, PATIENCE, World};

/// A process is ready within a second where the machine is not loaded.
const READY_WITHIN: Duration = PATIENCE;
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long a purchase is kept by a worker that died: short, so that tests see it end.
const LEASE_SECONDS: &str = "2";

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// No role of the server runs in the test's own process.
pub(crate) const NOBODY: Roles = Roles {
    serve: false,
    webhooks: false,
    worker: false,
};

/// Where a process listens; it says so in one line of JSON.
#[derive(Debug, Deserialize)]
struct Address {
    grpc: Option<String>,
    webhooks: Option<String>,
    admin: String,
}

/// A running `entitled`.
pub(crate) struct Process {
    child: Child,
    keeper: Keeper,
    address: Address,
    log: PathBuf,
}

impl Process {
    /// Starts `entitled ROLE` with some environment variables, and returns once it listens.
    pub(crate) async fn start(world: &World, role: &str, variables: &[(&str, &str)]) -> Self {
        let config = &world.stack.address.config;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let log = config.with_file_name(format!("{role}-{number}.log"));
        let mut child = Command::new(env!("CARGO_BIN_EXE_entitled"))
            .args([role, "--config"])
            .arg(config)
            .env("ENTITLED__WORKER__LEASE_SECONDS", LEASE_SECONDS)
            .env("ENTITLED__WORKER__BACKOFF_MAX_SECONDS", "1")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a log"))
            .spawn()
            .expect("the binary runs");
        let keeper = Keeper::of(child.id());
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let line = tokio::task::spawn_blocking(move || output.lines().next());
        let line = tokio::time::timeout(READY_WITHIN, line).await;
        let line = line
            .ok()
            .and_then(|line| line.expect("reads"))
            .and_then(Result::ok);
        let address = line.and_then(|line| serde_json::from_str(&line).ok());
        let mut process = Self {
            child,
            keeper,
            address: Address {
                grpc: None,
                webhooks: None,
                admin: String::new(),
            },
            log,
        };
        match address {
            Some(address) => process.address = address,
            None => panic!("`entitled {role}` is not ready:\n{}", process.log()),
        }
        process
    }

    /// Sends the world's clients and stores to the doors that this process has.
    pub(crate) fn serves(&self, world: &mut World) {
        if let Some(grpc) = &self.address.grpc {
            world.stack.address.server.clone_from(grpc);
        }
        if let Some(url) = &self.address.webhooks {
            let places = webhooks_at(url);
            world.stack.sandbox.set_webhooks(places).expect("set");
        }
    }

    /// Where its API is.
    pub(crate) fn grpc(&self) -> &str {
        self.address.grpc.as_deref().expect("an API")
    }

    /// Where it takes notifications, without path.
    pub(crate) fn webhooks_at(&self) -> &str {
        self.address.webhooks.as_deref().expect("webhooks")
    }

    /// Where it takes the notifications of a store.
    pub(crate) fn webhooks(&self, store: &str) -> String {
        format!("{}/webhooks/{store}", self.webhooks_at())
    }

    /// Waits until the process has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                self.keeper.release();
                return status;
            }
            assert!(Instant::now() < deadline, "still running:\n{}", self.log());
            sleep(LOOK_AGAIN).await;
        }
    }

    /// `STOP`, `CONT`, `KILL` or `TERM`, to this process alone.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.expect("kill runs").success(), "no process {pid}");
    }

    /// Waits until the process stands still.
    pub(crate) async fn stopped(&self) {
        let pid = self.child.id().to_string();
        eventually("the process stops", async || {
            let state = Command::new("ps")
                .args(["-o", "state=", "-p", &pid])
                .output()
                .expect("ps runs");
            state.stdout.first() == Some(&b'T')
        })
        .await;
    }

    /// The sum of a counter over all its labels; 0 before it was first counted.
    pub(crate) async fn counter(&self, name: &str) -> u64 {
        let answer = HTTP
            .get(format!("{}/metrics", self.address.admin))
            .send()
            .await
            .expect("an answer");
        let text = answer.text().await.expect("text");
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            (labels.is_empty() || labels.starts_with('{'))
                .then(|| value.parse::<u64>().expect("a count"))
        });
        values.sum()
    }

    /// Everything that the admin listener counts.
    pub(crate) async fn metrics(&self) -> String {
        let url = format!("{}/metrics", self.address.admin);
        let answer = HTTP.get(url).send().await.expect("metrics");
        answer.text().await.expect("text")
    }

    /// Everything that it has logged.
    pub(crate) fn whole_log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }

    /// The end of what it logged.
    fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.keeper.release();
        // Ends stopped processes too; one that has ended already is only reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills a process if the test's own ends without doing so: its end of a pipe closes then.
pub(crate) struct Keeper {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Keeper {
    pub(crate) fn of(pid: u32) -> Self {
        let mut shell = Command::new("/bin/sh")
            .args([
                "-c",
                r#"read word || kill -KILL "$1""#,
                "keeper",
                &pid.to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let pipe = shell.stdin.take();
        Self { shell, pipe }
    }

    /// The process is reaped by us: its number may soon be another's.
    pub(crate) fn release(&mut self) {
        use std::io::Write as _;
        if let Some(mut pipe) = self.pipe.take() {
            let _ = pipe.write_all(b"released\n");
            let _ = self.shell.wait();
        }
    }
}

/// A command that keeps running, and what it prints.
pub(crate) struct Terminal {
    child: tokio::process::Child,
    keeper: Keeper,
    printed: Arc<Mutex<String>>,
}

impl Terminal {
    /// Starts it; its output is kept.
    pub(crate) fn open(mut command: tokio::process::Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it runs");
        let printed = Arc::default();
        collect(child.stdout.take().expect("piped"), &printed);
        collect(child.stderr.take().expect("piped"), &printed);
        let keeper = Keeper::of(child.id().expect("it runs"));
        Self {
            child,
            keeper,
            printed,
        }
    }

    pub(crate) fn printed(&self) -> String {
        self.printed.lock().expect("not poisoned").clone()
    }

    /// `TERM`, `INT` or another, to this process alone.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.expect("kill runs").success(), "no process {pid}");
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let Ok(status) = status else {
            panic!("still running:\n{}", self.printed());
        };
        self.keeper.release();
        status.expect("a child")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        self.keeper.release();
    }
}

fn collect(from: impl AsyncRead + Unpin + Send + 'static, into: &Arc<Mutex<String>>) {
    let into = Arc::clone(into);
    tokio::spawn(async move {
        let mut lines = tokio::io::BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut printed = into.lock().expect("not poisoned");
            printed.push_str(&line);
            printed.push('\n');
        }
    });
}

/// So many free ports in a row, the first of them; held as long as the listeners are.
pub(crate) fn free_ports(count: u16) -> (u16, Vec<TcpListener>) {
    let bind = |port| TcpListener::bind(("127.0.0.1", port));
    for _ in 0..100 {
        let first = bind(0).expect("a port");
        let port = first.local_addr().expect("an address").port();
        if port > 65_000 {
            continue;
        }
        let others: Result<Vec<_>, _> = (1..count).map(|next| bind(port + next)).collect();
        if let Ok(mut held) = others {
            held.push(first);
            return (port, held);
        }
    }
    panic!("no {count} free ports in a row");
}

/// Waits for what can only be seen by looking again.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(LOOK_AGAIN).await;
    }
}
