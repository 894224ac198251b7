//! One contract for both buses, against a real Postgres and a real NATS server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::storage::Db;
use crate::storage::cluster::{Cluster, DataDir};

/// Longer than a loaded machine needs for anything here that does come.
const SOON: Duration = Duration::from_secs(60);

/// What carries a bus, to be hurt.
enum Carrier {
    Postgres(Cluster),
    Nats(Nats),
}

/// A server of its own, gone with the test.
struct Nats {
    port: u16,
    child: Child,
}

impl Nats {
    /// `None` where NATS is not installed and nobody insists.
    fn start() -> Option<Self> {
        let installed = ["/usr/sbin/nats-server", "/usr/local/bin/nats-server"];
        let found = installed.into_iter().find(|path| Path::new(path).exists());
        let Some(binary) = found else {
            let must = std::env::var_os("CI").is_some();
            assert!(!must, "NATS is needed: apt install nats-server");
            println!("SKIPPED for NATS: apt install nats-server");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = Self::run(binary, port);
        Some(Self { port, child })
    }

    fn run(binary: &str, port: u16) -> Child {
        Command::new(binary)
            .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
            .args(["--user", "entitled", "--pass", "in-tests-only"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server")
    }
}

fn signal(name: &str, pids: Vec<u32>) {
    for pid in pids {
        let sent = Command::new("kill")
            .args([name, &pid.to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Carrier {
    async fn all() -> Vec<Self> {
        let cluster = Cluster::start(DataDir::Ephemeral).await.expect("Postgres");
        cluster.create_database("hints", None).await.unwrap();
        let mut all = vec![Self::Postgres(cluster)];
        all.extend(Nats::start().map(Self::Nats));
        all
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "Postgres",
            Self::Nats(_) => "NATS",
        }
    }

    fn bus(&self, password: &str) -> Box<dyn HintBus> {
        match self {
            Self::Postgres(cluster) => {
                Box::new(PostgresBus(Db::open(&cluster.url("hints"), 2).unwrap()))
            }
            Self::Nats(nats) => Box::new(NatsBus::new(NatsOptions {
                servers: vec![format!("nats://127.0.0.1:{}", nats.port)],
                subject: "entitled.hints".into(),
                user: Some(("entitled".into(), password.to_owned().into())),
                token: None,
                authorities: None,
                identity: None,
            })),
        }
    }

    /// A bus whose carrier has come up.
    async fn ready(&self) -> Box<dyn HintBus> {
        let bus = self.bus("in-tests-only");
        let up = async {
            while bus.sender().await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, up).await.unwrap();
        bus
    }

    /// It answers nobody any more, and ends no connection.
    fn freeze(&self) {
        signal("-STOP", self.pids());
    }

    fn thaw(&self) {
        signal("-CONT", self.pids());
    }

    fn pids(&self) -> Vec<u32> {
        match self {
            Self::Postgres(cluster) => {
                let postmaster = cluster.pid().expect("running");
                let children = Command::new("ps")
                    .args(["-o", "pid=", "--ppid", &postmaster.to_string()])
                    .output()
                    .unwrap();
                let children = String::from_utf8(children.stdout).unwrap();
                let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
                children.chain([postmaster]).collect()
            }
            Self::Nats(nats) => vec![nats.child.id()],
        }
    }

    /// It dies and comes up again under the same address.
    async fn restart(&mut self) {
        match self {
            Self::Postgres(cluster) => {
                cluster.crash().await.unwrap();
                cluster.resume().await.unwrap();
            }
            Self::Nats(nats) => {
                nats.child.kill().unwrap();
                nats.child.wait().unwrap();
                nats.child = Nats::run("/usr/sbin/nats-server", nats.port);
            }
        }
    }
}

fn hints(count: usize) -> Vec<String> {
    (0..count)
        .map(|n| format!("b1946ac9-1/0198c1de-{n}/{n}"))
        .collect()
}

/// Hears exactly `count` hints.
async fn hear(listener: &mut Attentive, count: usize, max: usize) -> Vec<String> {
    let mut heard = Vec::new();
    while heard.len() < count {
        let batch = timeout(SOON, listener.next_batch(max)).await;
        let batch = batch.expect("in time").expect("no gap");
        assert!(batch.len() <= max && !batch.is_empty(), "{}", batch.len());
        heard.extend(batch);
    }
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_reaches_every_listener_once_and_in_its_order() {
    for carrier in Carrier::all().await {
        println!("{}", carrier.name());
        let bus = carrier.ready().await;
        let mut one = Attentive::new(bus.listener().await.unwrap());
        let mut two = Attentive::new(bus.listener().await.unwrap());
        let mut sender = bus.sender().await.unwrap();
        let sent = hints(1_000);
        for hints in sent.chunks(300) {
            sender.send(hints).await.unwrap();
        }
        assert_eq!(hear(&mut one, 1_000, 7).await, sent, "{}", carrier.name());
        assert_eq!(
            hear(&mut two, 1_000, 5_000).await,
            sent,
            "{}",
            carrier.name()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_bus_is_noticed_though_no_connection_ends() {
    for carrier in Carrier::all().await {
        println!("{}", carrier.name());
        let bus = carrier.ready().await;
        let mut listener = Attentive::new(bus.listener().await.unwrap());
        let mut sender = bus.sender().await.unwrap();
        sender.send(&hints(1)).await.unwrap();
        hear(&mut listener, 1, 10).await;
        carrier.freeze();
        let heard = timeout(SOON, listener.next_batch(10)).await;
        assert!(heard.expect("noticed").is_err(), "{}", carrier.name());
        carrier.thaw();
        let bus = carrier.ready().await;
        let mut listener = Attentive::new(bus.listener().await.unwrap());
        let mut sender = bus.sender().await.unwrap();
        sender.send(&hints(1)).await.unwrap();
        hear(&mut listener, 1, 10).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_lives_is_not_taken_for_a_silent_one() {
    for carrier in Carrier::all().await {
        println!("{}", carrier.name());
        let bus = carrier.ready().await;
        let mut listener = Attentive::new(bus.listener().await.unwrap());
        let quiet = timeout(2 * (PING_EVERY + PING_TIMEOUT), listener.next_batch(10)).await;
        assert!(quiet.is_err(), "{}: {quiet:?}", carrier.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_a_gap_that_listeners_are_told_of() {
    for mut carrier in Carrier::all().await {
        println!("{}", carrier.name());
        let bus = carrier.ready().await;
        let mut listener = Attentive::new(bus.listener().await.unwrap());
        carrier.restart().await;
        let heard = timeout(SOON, listener.next_batch(10)).await;
        assert!(heard.expect("told").is_err(), "{}", carrier.name());
        let bus = carrier.ready().await;
        let mut listener = Attentive::new(bus.listener().await.unwrap());
        let mut sender = bus.sender().await.unwrap();
        sender.send(&hints(2)).await.unwrap();
        assert_eq!(hear(&mut listener, 2, 10).await, hints(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_whose_bus_has_died_says_so() {
    for mut carrier in Carrier::all().await {
        println!("{}", carrier.name());
        let bus = carrier.ready().await;
        let mut sender = bus.sender().await.unwrap();
        sender.send(&hints(1)).await.unwrap();
        carrier.restart().await;
        let refused = async {
            while sender.send(&hints(1)).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, refused).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_refused_without_being_repeated() {
    for carrier in Carrier::all().await {
        println!("{}", carrier.name());
        if let Carrier::Nats(_) = carrier {
            carrier.ready().await;
            let refused = carrier.bus("hunter2-canary").listener().await;
            let error = refused.err().expect("refused").to_string();
            assert!(error.contains("authorization"), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
