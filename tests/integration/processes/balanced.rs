//! Three server processes behind a TCP balancer are one service: what one is told, every other knows.

use std::net::SocketAddr;

use entitled::cli::client::Client;
use entitled::proto::EntitlementSnapshot;
use entitled::proto::watch_entitlements_response::Event;
use tokio::time::{Instant, timeout_at};

use super::let_time_pass;
use crate::balancer::Balancer;
use crate::process::{NOBODY, Process};
use crate::scene::{MONTHLY, at_least, webhooks_at};
use crate::support::{Device, PATIENCE, World, is_active};

const REPLICAS: usize = 3;
const ROUNDS: usize = 6;

/// The address in `http://ADDRESS`.
fn place(url: &str) -> SocketAddr {
    url.trim_start_matches("http://")
        .parse()
        .expect("an address")
}

/// A phone that connects again when its stream ends, wherever the balancer leads it.
struct Phone {
    client: Client,
    device: Device,
    again: usize,
}

impl Phone {
    async fn open(client: Client) -> Self {
        let device = Device::open(client.clone()).await;
        Self {
            client,
            device,
            again: 0,
        }
    }

    async fn until(&mut self, reached: &EntitlementSnapshot) {
        let deadline = Instant::now() + PATIENCE;
        while self.device.latest.revision < reached.revision {
            let next = timeout_at(deadline, self.device.stream.message()).await;
            let Ok(Ok(Some(message))) = next else {
                assert!(Instant::now() < deadline, "not told of {reached:?}");
                let mut client = self.client.clone();
                // The connection may go to the dead one first.
                if let Ok(stream) = client.watch().await {
                    self.device.stream = stream;
                    self.again += 1;
                }
                continue;
            };
            if let Some(Event::Snapshot(next)) = message.event {
                assert_eq!(next.epoch, self.device.latest.epoch);
                assert!(
                    next.revision >= self.device.latest.revision,
                    "a replica went back from {} to {}",
                    self.device.latest.revision,
                    next.revision
                );
                self.device.latest = next;
            }
        }
        assert_eq!(self.device.latest.revision, reached.revision);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_behind_a_balancer_are_one_service() {
    let mut world = World::with(|options| options.roles = NOBODY).await;
    let_time_pass(&world);
    let mut processes = Vec::new();
    for _ in 0..REPLICAS {
        processes.push(Process::start(&world, "start", &[]).await);
    }
    let api = Balancer::start(processes.iter().map(|p| place(p.grpc())).collect()).await;
    let webhooks = processes.iter().map(|p| place(p.webhooks_at()));
    let webhooks = Balancer::start(webhooks.collect()).await;
    world.stack.address.server = format!("http://{}", api.address);
    let places = webhooks_at(&format!("http://{}", webhooks.address));
    world.stores().set_webhooks(places).expect("told");

    let alice = world.person("alice").await;
    // As many connections as replicas, in turn: one to each.
    let mut phones = Vec::new();
    let mut readers = Vec::new();
    for _ in 0..REPLICAS {
        phones.push(Phone::open(world.client("alice").await).await);
        readers.push(world.client("alice").await);
    }
    let token = Some(alice.store_token.as_str());
    let bought = world.buy_apple("alice", MONTHLY, token).await;
    let bound = alice.bind_apple(&bought.signed_transaction).await;
    let mut seen = bound.expect("bound").snapshot.expect("a snapshot");
    assert!(is_active(&seen, "pro_access"));
    for round in 0..ROUNDS {
        for (number, reader) in readers.iter().enumerate() {
            let read = at_least(reader, &seen.epoch, seen.revision).await;
            assert!(read.revision >= seen.revision, "{number}: {read:?}");
        }
        for phone in &mut phones {
            phone.until(&seen).await;
        }
        if round == ROUNDS / 2 {
            // One dies with its streams; the balancer sends their devices to the others.
            let mut watched = 0;
            while processes[watched].counter("entitled_streams").await == 0 {
                watched += 1;
            }
            drop(processes.remove(watched));
            readers.clear();
            for _ in 0..REPLICAS {
                readers.push(world.client("alice").await);
            }
        }
        // A notification that one of them takes, by turns, and another may work in.
        let renews = round % 2 == 1;
        let id = &bought.original_transaction_id;
        let switched = world.stores().set_auto_renew(id, renews).await;
        switched.expect("switched");
        let changed = |s: &EntitlementSnapshot| s.revision > seen.revision;
        let mut witness = Device::open(alice.client.clone()).await;
        witness.until("the change", changed).await;
        seen = witness.latest;
    }
    let again: usize = phones.iter().map(|phone| phone.again).sum();
    assert!(again >= 1, "somebody was connected to the one that died");
    world.stop().await;
}
