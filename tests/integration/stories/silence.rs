//! Stories of connections and sources that fall silent without a word.

use entitled::proto::EntitlementSnapshot;

use crate::scene::{MONTHLY, READER};
use crate::support::{Device, World, entitlement};
use crate::watch::{cut_listeners, cut_notifiers};

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
