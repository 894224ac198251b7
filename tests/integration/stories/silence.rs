//! Stories of connections and sources that fall silent without a word.

use entitled::proto::EntitlementSnapshot;
use entitled::sandbox::Store;

use crate::process::eventually;
use crate::scene::{MONTHLY, READER, WORKER, period};
use crate::support::{Device, World, entitlement, is_active};
use crate::watch::{cut_listeners, cut_notifiers};

/// Hours in which a source was heard.
const LEARNED: &str = "select count(*) from source_activity where source = 'google_play'";
/// Sources whose silence has been said.
const SILENT: &str = "select count(*) from job_cursors
    where job = 'silence' and subject = 'google_play' and cursor ->> 'silent_since' is not null";

/// S14: the connection that hints are heard through dies silently; watchers do not stay stale.
#[tokio::test(flavor = "multi_thread")]
async fn s14_the_listeners_connection_dies_silently() {
    let world = World::start().await;
    let reader = world.replica(READER, |_| {}).await;
    let alice = world.person("alice").await;
    let url = reader.grpc_url().expect("gRPC");
    let far = entitled::cli::client::Client::connect(&url, &world.token("alice")).await;
    let mut far = Device::open(far.expect("a client")).await;
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    far.until_active("pro_access").await;
    let renews = |snapshot: &EntitlementSnapshot| entitlement(snapshot, "pro_access").will_renew;
    for wanted in [false, true, false] {
        // Both ends: what is said now is heard by nobody.
        cut_listeners(&world).await;
        cut_notifiers(&world).await;
        world
            .stores()
            .set_auto_renew(&bought.original_transaction_id, wanted)
            .await
            .expect("turned");
        far.until("the change", |snapshot| renews(snapshot) == wanted)
            .await;
    }
    reader.stop().await;
    world.stop().await;
}

/// S13: a source that used to speak says nothing for two weeks. It is noticed, and what it should
/// have told is found without it.
#[tokio::test(flavor = "multi_thread")]
async fn s13_a_source_goes_silent_for_two_weeks() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let stores = world.stores();
    let bought = world
        .buy_google("alice", "premium-yearly", Some(&alice.store_token))
        .await
        .purchase_token;
    // A week of what is usual.
    for _ in 0..7 {
        for _ in 0..6 {
            stores
                .send_test_notification(Store::GooglePlay)
                .await
                .expect("sent");
        }
        stores.advance(period("P1D")).await.expect("a day");
    }
    world.settled().await;
    assert!(is_active(&alice.now().await, "pro_access"));
    // A worker looks at its sources when it starts, and twice a minute.
    let looked = world.replica(WORKER, |_| {}).await;
    eventually("it has learned what is usual", async || {
        world.count(LEARNED).await >= 7
    })
    .await;
    looked.stop().await;
    assert_eq!(world.count(SILENT).await, 0, "it speaks");
    // From now on nothing arrives, and there is something to tell.
    world.hold().await;
    stores.refund_google_play(&bought).await.expect("refunded");
    for _ in 0..14 {
        stores.advance(period("P1D")).await.expect("a day");
    }
    let noticing = world.replica(WORKER, |_| {}).await;
    eventually("the silence is noticed", async || {
        world.count(SILENT).await == 1
    })
    .await;
    world.settled().await;
    assert!(
        !is_active(&alice.now().await, "pro_access"),
        "found without being told"
    );
    // It speaks again.
    stores.hold_deliveries(false).await.expect("sent");
    world.settled().await;
    noticing.stop().await;
    let noticing = world.replica(WORKER, |_| {}).await;
    eventually("it is heard again", async || world.count(SILENT).await == 0).await;
    noticing.stop().await;
    world.stop().await;
}
