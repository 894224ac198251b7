//! What happens to a purchase over time, whatever is heard of it.

use chrono::TimeDelta;
use entitled::proto::watch_entitlements_response::Event;
use entitled::proto::{BindOutcome, InactiveReason};
use entitled::sandbox::Outage;
use tokio::time::{Instant, timeout_at};

use super::{Product, Shop, contract, pro, truth};
use crate::support::{World, expires, is_active};

contract! {
    out_of_order_is_harmless
    refund_closes
    expiry_closes_without_a_word
    an_outage_at_renewal_cuts_no_payer_off
}

/// Seconds until which the store says that it is paid.
fn paid_until(world: &World, customer: &str) -> i64 {
    truth(world, customer)
        .expires_at
        .expect("a period")
        .timestamp()
}

async fn out_of_order_is_harmless<S: Shop>() {
    let world = World::start().await;
    let sandbox = &world.stack.sandbox;
    sandbox.hold_deliveries(true).await.expect("held");
    let mut phone = world.device("alice").await;
    let bought = S::buy(&world, "alice", None, Product::Monthly).await;
    S::bind(&world, "alice", &bought.proof)
        .await
        .expect("bound");
    // The store is told of its owner before three days pass in a moment.
    world.settled().await;
    sandbox
        .advance("P3M".parse().expect("a period"))
        .await
        .expect("three months pass");
    S::cancel(&world, &bought).await;
    let told = sandbox.notifications();
    assert!(told.len() >= 4, "bought, renewed and canceled");
    for notification in told.iter().rev() {
        sandbox.deliver(&notification.id).await.expect("taken");
    }
    // The oldest one comes last, and comes again.
    sandbox.deliver(&told[0].id).await.expect("taken");
    world.settled().await;
    let end = paid_until(&world, "alice");
    phone
        .until("the end that was paid for", |s| {
            expires(s, "pro_access") == end && !pro(s).will_renew
        })
        .await;
    assert!(is_active(&phone.latest, "pro_access"));
    world.stop().await;
}

async fn refund_closes<S: Shop>() {
    let world = World::start().await;
    let mut phone = world.device("alice").await;
    let bought = S::buy(&world, "alice", None, Product::Yearly).await;
    S::bind(&world, "alice", &bought.proof)
        .await
        .expect("bound");
    phone.until_active("pro_access").await;
    S::refund(&world, &bought).await;
    phone.until_inactive("pro_access").await;
    assert!(
        !is_active(&phone.latest, "export"),
        "with everything that came of it"
    );
    // The proof is as genuine as before; it opens nothing any more.
    let again = S::bind(&world, "alice", &bought.proof)
        .await
        .expect("still hers");
    assert_eq!(again.outcome(), BindOutcome::BoundWithoutAccess);
    for notification in world.stack.sandbox.notifications() {
        world
            .stack
            .sandbox
            .deliver(&notification.id)
            .await
            .expect("told again");
    }
    world
        .stack
        .sandbox
        .advance("P2M".parse().expect("a period"))
        .await
        .expect("time passes");
    world.settled().await;
    let snapshot = world
        .client("alice")
        .await
        .get()
        .await
        .expect("read")
        .snapshot
        .expect("snapshot");
    assert!(!is_active(&snapshot, "pro_access"));
    world.stop().await;
}

async fn expiry_closes_without_a_word<S: Shop>() {
    let world = World::start().await;
    let mut phone = world.device("alice").await;
    let bought = S::buy(&world, "alice", None, Product::Monthly).await;
    S::bind(&world, "alice", &bought.proof)
        .await
        .expect("bound");
    phone.until_active("pro_access").await;
    S::cancel(&world, &bought).await;
    phone
        .until("canceled", |snapshot| !pro(snapshot).will_renew)
        .await;
    assert!(
        is_active(&phone.latest, "pro_access"),
        "what is paid is paid"
    );
    let sandbox = &world.stack.sandbox;
    sandbox
        .hold_deliveries(true)
        .await
        .expect("nothing is heard from now on");
    world.settled().await;
    let end = truth(&world, "alice").expires_at.expect("a period");
    sandbox
        .advance_to(end - TimeDelta::seconds(90))
        .await
        .expect("almost");
    let snapshot = world
        .client("alice")
        .await
        .get()
        .await
        .expect("read")
        .snapshot
        .expect("snapshot");
    assert!(is_active(&snapshot, "pro_access"), "to the last minute");
    sandbox.advance_to(end).await.expect("now");
    phone.until_inactive("pro_access").await;
    assert_eq!(
        pro(&phone.latest).inactive_reason(),
        InactiveReason::Expired
    );
    assert_eq!(expires(&phone.latest, "pro_access"), end.timestamp());
    world.stop().await;
}

async fn an_outage_at_renewal_cuts_no_payer_off<S: Shop>() {
    let world = World::start().await;
    let sandbox = &world.stack.sandbox;
    let mut phone = world.device("alice").await;
    let bought = S::buy(&world, "alice", None, Product::Monthly).await;
    S::bind(&world, "alice", &bought.proof)
        .await
        .expect("bound");
    phone.until_active("pro_access").await;
    world.settled().await;
    let end = paid_until(&world, "alice");
    sandbox.hold_deliveries(true).await.expect("held");
    sandbox.set_idle_hook(|| Box::pin(std::future::ready(())));
    sandbox.set_outage(S::STORE, Some(Outage::Down503));
    let end_at = truth(&world, "alice").expires_at.expect("a period");
    sandbox
        .advance_to(end_at + TimeDelta::minutes(1))
        .await
        .expect("the period ends");
    // The usual hour for late renewals becomes a day: nobody can say that it was not renewed.
    let prolonged = |seconds: i64| end + 23 * 3600 < seconds && seconds <= end + 24 * 3600;
    phone
        .until("prolonged", |s| {
            pro(s)
                .access_until
                .is_some_and(|until| prolonged(until.seconds))
        })
        .await;
    sandbox
        .advance_to(end_at + TimeDelta::hours(3))
        .await
        .expect("three hours pass");
    let snapshot = world
        .client("alice")
        .await
        .get()
        .await
        .expect("read")
        .snapshot
        .expect("snapshot");
    assert!(is_active(&snapshot, "pro_access"));

    sandbox.set_outage(S::STORE, None);
    let renewed = paid_until(&world, "alice");
    assert!(renewed > end, "the store has charged");
    let patience = Instant::now() + std::time::Duration::from_secs(30);
    while expires(&phone.latest, "pro_access") != renewed {
        let message = timeout_at(patience, phone.stream.message())
            .await
            .expect("told of the renewal");
        if let Some(Event::Snapshot(snapshot)) = message.expect("open").expect("open").event {
            assert!(is_active(&snapshot, "pro_access"), "never cut off");
            phone.latest = snapshot;
        }
    }
    world.stop().await;
}
