//! Replicas that tell each other by NATS: what one commits, another's devices hear; and NATS may go.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use entitled::config::Config;
use entitled::config::hints::NatsConfig;
use futures::StreamExt as _;

use crate::scene::{MONTHLY, READER};
use crate::support::{Device, World};
use crate::watch::{client_of, cut_listeners, toggle};

const BINARY: &str = "/usr/sbin/nats-server";
const SUBJECT: &str = "entitled.hints.story";

/// A server of its own, gone with the test.
struct Nats(Child);

impl Nats {
    async fn start(port: u16) -> Self {
        let child = Command::new(BINARY)
            .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server");
        let nats = Self(child);
        while async_nats::connect(url(port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        nats
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn url(port: u16) -> String {
    format!("nats://127.0.0.1:{port}")
}

fn by_nats(port: u16) -> impl Fn(&mut Config) {
    move |config| {
        config.hints.nats = Some(NatsConfig {
            servers: vec![url(port)],
            subject: SUBJECT.into(),
            user: None,
            password: None,
            token: None,
            authorities: None,
            certificate: None,
            key: None,
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_tell_each_other_by_nats_and_do_without_it() {
    if !std::path::Path::new(BINARY).exists() {
        assert!(
            std::env::var_os("CI").is_none(),
            "NATS is needed: apt install nats-server"
        );
        println!("SKIPPED: apt install nats-server");
        return;
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    drop(taken);
    let nats = Nats::start(port).await;
    let heard = async_nats::connect(url(port)).await.expect("NATS");
    let mut heard = heard.subscribe(SUBJECT).await.expect("subscribed");

    let mut world = World::start().await;
    world.restart(by_nats(port)).await;
    let reader = world.replica(READER, by_nats(port)).await;
    let alice = world.person("alice").await;
    let mut far = Device::open(client_of(&reader, &world, "alice").await).await;
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    far.until_active("pro_access").await;
    let latest = toggle(&world, &alice, &bought.original_transaction_id, 2).await;
    far.until("told", |s| s.revision == latest).await;
    let epoch = alice.now().await.epoch;
    let mark = format!("{epoch}/");
    let mine = format!("/{latest}");
    let hint = async {
        loop {
            let message = heard.next().await.expect("a message");
            let text = String::from_utf8(message.payload.to_vec()).expect("text");
            let is_it = |line: &str| line.starts_with(&mark) && line.ends_with(&mine);
            if text.lines().any(is_it) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), hint)
        .await
        .expect("the hint went over NATS");
    assert_eq!(cut_listeners(&world).await, 0, "nobody listens at Postgres");

    // Without NATS the sweep tells, and with it again everything is as before.
    drop(nats);
    let latest = toggle(&world, &alice, &bought.original_transaction_id, 2).await;
    far.until("healed", |s| s.revision == latest).await;
    let _nats = Nats::start(port).await;
    let latest = toggle(&world, &alice, &bought.original_transaction_id, 2).await;
    far.until("told again", |s| s.revision == latest).await;
    reader.stop().await;
    world.stop().await;
}
