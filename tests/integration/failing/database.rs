//! Postgres gone for ten seconds: doors say so, readers and streams go on, nothing is lost.

use std::time::Duration;

use chrono::TimeDelta;
use entitled::cli::client::Client;
use entitled::proto::consistency::Requirement;
use entitled::proto::{Consistency, GetEntitlementsRequest, GetEntitlementsResponse};
use entitled::sandbox::{DeliveryState, NotificationRecord};
use entitled::storage::cluster::{Cluster, DataDir};
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::forged::buy_yearly;
use super::stores::buy_premium;
use crate::books::Books;
use crate::process::eventually;
use crate::support::{Device, World, assert_refused, client_action, is_active};

const GONE_FOR: Duration = Duration::from_secs(10);
/// Default reads count as confirmed for this long after the last sweep.
const CACHE_AGE_MAX: Duration = Duration::from_secs(5);

#[track_caller]
fn assert_database_away(status: &Status) {
    assert_refused(status, Code::Unavailable, "DATABASE_UNAVAILABLE");
    let retry = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay);
    assert!(
        retry.is_some_and(|delay| delay >= Duration::from_secs(1)),
        "{status:?}"
    );
}

async fn read_now(client: &mut Client) -> Result<GetEntitlementsResponse, Status> {
    let consistency = Some(Consistency {
        requirement: Some(Requirement::FullyConsistent(true)),
    });
    let request = GetEntitlementsRequest {
        as_of: None,
        consistency,
        account: String::new(),
    };
    Ok(client.inner.get_entitlements(request).await?.into_inner())
}

fn undelivered(world: &World) -> Vec<NotificationRecord> {
    let all = world.stack.sandbox.notifications();
    all.into_iter()
        .filter(|record| record.state != DeliveryState::Delivered)
        .collect()
}

fn store_token(device: &Device) -> String {
    device.latest.account.clone().expect("account").store_token
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_seconds_without_postgres_lose_nothing() {
    let cluster = Cluster::start(DataDir::Ephemeral)
        .await
        .expect("a cluster of its own");
    cluster
        .create_database("outage", None)
        .await
        .expect("database");
    let url = cluster.url("outage");
    let world = World::with(|options| options.database_url.clone_from(&url)).await;
    let sandbox = &world.stack.sandbox;

    let mut alice = world.device("alice").await;
    let mut bob = world.device("bob").await;
    let apple = buy_yearly(&world, "alice", Some(&store_token(&alice))).await;
    let google = buy_premium(&world, "bob", Some(&store_token(&bob))).await;
    alice.until_active("pro_access").await;
    bob.until_active("pro_access").await;
    world.settled().await;
    // Its credential and its account are known from before.
    let mut warm = world.client("alice").await;
    warm.get().await.expect("warm");

    cluster.pause().await.expect("paused");
    let gone = Instant::now();
    // The stores do not wait for a server that cannot work.
    sandbox.set_idle_hook(|| Box::pin(std::future::ready(())));
    let refunds = async {
        sandbox
            .refund_app_store(&apple.transaction_id)
            .await
            .expect("refunded");
        sandbox.refund_google_play(&google).await.expect("refunded");
    };
    tokio::join!(refunds, reads_during_the_outage(&world, &mut warm, gone));
    let refused = undelivered(&world);
    assert_eq!(
        refused.len(),
        3,
        "Apple's refund, Google's revocation and void"
    );
    for record in &refused {
        assert!(
            record.attempts.iter().all(|a| a.status == Some(503)),
            "{:?}",
            record.attempts
        );
    }
    let bind = world
        .client("alice")
        .await
        .bind_app_store(&apple.signed_transaction)
        .await;
    let status = bind.expect_err("nowhere to keep it");
    assert_database_away(&status);
    assert_eq!(client_action(&status), "KEEP_AND_RETRY");
    sleep_until(gone + GONE_FOR).await;
    cluster.resume().await.expect("resumed");

    // Pub/Sub comes back within seconds, Apple in an hour; neither needs to be asked.
    sandbox
        .advance_by(TimeDelta::minutes(61))
        .await
        .expect("an hour passes");
    alice.until_inactive("pro_access").await;
    bob.until_inactive("pro_access").await;
    assert_eq!(
        undelivered(&world),
        [],
        "every notification was taken in the end"
    );
    world.settled().await;
    let books = Books::open(&url).await;
    // The hourly look at Google may be on its way, too.
    let worked_in = async || books.effects().await.unfinished == 0;
    eventually("every notification is worked in", worked_in).await;
    let told = i64::try_from(sandbox.notifications().len()).expect("a count");
    let effects = books.effects().await;
    // It finds the void by itself, perhaps before it is told.
    let found = books.number("select count(*) from raw_notifications where swept");
    assert_eq!(
        (effects.notifications - found.await, effects.unfinished),
        (told, 0),
        "nothing is lost"
    );
    let mut app = world.client("alice").await;
    assert!(!read_now(&mut app).await.expect("as before").degraded);
    assert!(!app.get().await.expect("as before").degraded);
    world.stop().await;
    drop(books);
    cluster.stop().await.expect("stopped");
}

/// Default reads go on, marked once they cannot be confirmed; stricter ones are told so.
async fn reads_during_the_outage(world: &World, app: &mut Client, gone: Instant) {
    let status = read_now(app).await.expect_err("certainty cannot be had");
    assert_database_away(&status);
    let early = app.get().await.expect("from the cache");
    assert!(is_active(&early.snapshot.expect("snapshot"), "pro_access"));
    sleep_until(gone + CACHE_AGE_MAX + Duration::from_secs(1)).await;
    for _ in 0..20 {
        let asked = Instant::now();
        let read = app.get().await.expect("from the cache");
        assert!(read.degraded, "it cannot be confirmed");
        assert!(is_active(&read.snapshot.expect("snapshot"), "pro_access"));
        // Had it waited for a connection, this were three seconds.
        assert!(
            asked.elapsed() < Duration::from_millis(500),
            "{:?} for a warm read",
            asked.elapsed()
        );
    }
    // Nobody could take back what were signed now.
    let lease = entitled::proto::IssueLeaseRequest {
        terms: Some(entitled::proto::LeaseTerms {
            app: "example-ios".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let unsigned = app.inner.issue_lease(lease).await;
    assert_database_away(&unsigned.expect_err("it cannot be confirmed"));
    let status = world
        .client("carol")
        .await
        .get()
        .await
        .expect_err("never read before");
    assert_database_away(&status);
}
