//! The primary dies in the middle of work and a synchronous standby takes its place: another history
//! begins, everybody is told, and nothing that was acknowledged is missing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use entitled::config::Config;
use entitled::proto::{BindOutcome, EntitlementSnapshot};
use entitled::sandbox::DeliveryState;
use entitled::storage::cluster::{Cluster, DataDir};
use futures::{StreamExt as _, stream};

use crate::balancer::Balancer;
use crate::books::Books;
use crate::process::eventually;
use crate::scene::{MONTHLY, READER};
use crate::support::{Device, World, client_action};
use crate::watch::client_of;

const PEOPLE: usize = 40;
/// The primary dies after so many binds.
const BEFORE: usize = 15;

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_standby_has_all_that_was_acknowledged_and_everybody_is_told() {
    let primary = Cluster::start(DataDir::Ephemeral).await.expect("a primary");
    let created = primary.create_database("failover", None).await;
    created.expect("database");
    let standby = Cluster::start(DataDir::StandbyOf(primary.port()))
        .await
        .expect("a standby");
    primary.wait_for_standby().await.expect("synchronous");
    // As a virtual address or a service name does, the same one leads to whoever is the primary.
    let balancer = Balancer::start(vec![at(primary.port())]).await;
    let url = primary.url("failover").replace(
        &format!(":{}/", primary.port()),
        &format!(":{}/", balancer.address.port()),
    );
    let mut world = World::with(|options| options.database_url.clone_from(&url)).await;
    world.database_url = url;
    // A worker that lost its database keeps a purchase to itself until its lease ends.
    let short = |config: &mut Config| config.worker.lease_seconds = 2;
    world.restart(short).await;
    let sandbox = &world.stack.sandbox;
    // The stores do not wait for a server that cannot work.
    sandbox.set_idle_hook(|| Box::pin(std::future::ready(())));
    let reader = world.replica(READER, short).await;

    let people = world.people("payer", PEOPLE).await;
    let mut devices = Vec::new();
    for (number, person) in people.iter().enumerate() {
        // Half of them are connected to each replica.
        let client = match number % 2 {
            0 => person.client.clone(),
            _ => client_of(&reader, &world, &person.name).await,
        };
        devices.push(Device::open(client).await);
    }
    let before = devices[0].latest.epoch.clone();

    // They buy and bind, four at a time; in the middle of it the primary dies.
    let acknowledged = AtomicUsize::new(0);
    let buying = stream::iter(&people)
        .map(async |person| {
            let token = Some(person.store_token.as_str());
            let bought = world.buy_apple(&person.name, MONTHLY, token).await;
            let bound = person.bind_apple(&bought.signed_transaction).await;
            let is_bound = bound.is_ok_and(|answer| answer.outcome() != BindOutcome::Pending);
            if is_bound {
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            (is_bound, bought.signed_transaction)
        })
        .buffered(4)
        .collect::<Vec<_>>();
    let failing_over = async {
        while acknowledged.load(Ordering::Relaxed) < BEFORE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        primary.crash().await.expect("dead");
        // What it has not sent by now is lost with it.
        standby.promote().await.expect("promoted");
        balancer.turn_to(vec![at(standby.port())]);
    };
    let (bought, ()) = tokio::join!(buying, failing_over);
    let taken: BTreeSet<_> = sandbox
        .notifications()
        .into_iter()
        .filter(|record| record.state == DeliveryState::Delivered)
        .map(|record| record.id)
        .collect();
    assert!(!taken.is_empty());

    // Another history: every stream that was open says so, with all that its account had.
    let anew = |s: &EntitlementSnapshot| s.epoch != before;
    let timeline = |epoch: &str| epoch.rsplit('-').next().map(str::to_owned);
    for (device, (is_bound, _)) in devices.iter_mut().zip(&bought) {
        device.until("the new history", anew).await;
        let epoch = &device.latest.epoch;
        assert_eq!(timeline(epoch).as_deref(), Some("00000002"), "{epoch}");
        if *is_bound {
            device.until_active("pro_access").await;
        }
    }
    // What was acknowledged is there before anything is repaired: the stores are not asked for it.
    let books = Books::open(&world.database_url).await;
    let kept = books
        .rows("select to_jsonb(event_id) from ingress_keys")
        .await;
    let kept: BTreeSet<_> = kept
        .iter()
        .filter_map(|key| key.as_str().map(str::to_owned))
        .collect();
    let lost: Vec<_> = taken.iter().filter(|id| !kept.contains(*id)).collect();
    assert!(lost.is_empty(), "{lost:?} of {kept:?}");

    // Whoever was refused tries again, and the stores send again what was not taken.
    for (number, (is_bound, signed_transaction)) in bought.iter().enumerate() {
        if !is_bound {
            let again = people[number].bind_apple(signed_transaction).await;
            if let Err(status) = again {
                assert_eq!(client_action(&status), "KEEP_AND_RETRY", "{status:?}");
            }
        }
        devices[number].until_active("pro_access").await;
    }
    let passed = sandbox.advance_by(TimeDelta::minutes(61)).await;
    passed.expect("an hour passes");
    eventually("every notification is worked in", async || {
        books.effects().await.unfinished == 0
    })
    .await;
    let told = i64::try_from(sandbox.notifications().len()).expect("a count");
    // Delivered again, or found in Apple's history, which is read anew in a new epoch.
    assert_eq!(books.effects().await.notifications, told, "each once");
    drop(books);
    reader.stop().await;
    world.stop().await;
    standby.stop().await.expect("stopped");
    primary.stop().await.expect("stopped");
}
