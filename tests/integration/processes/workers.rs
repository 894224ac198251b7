//! Workers that stop, die and compete for one queue.

use entitled::app::Roles;
use entitled::sandbox::{Endpoint, Outage, Store};
use futures::future::join_all;

use super::{buy, came_to, let_time_pass, once, store_token};
use crate::books::Books;
use crate::process::{NOBODY, Process, eventually};
use crate::support::{World, is_active};

/// The doors are here, the work is elsewhere.
pub(super) const DOORS: Roles = Roles {
    serve: true,
    webhooks: true,
    worker: false,
};
const LATE: &str = "entitled_late_answers_total";
const SETTLED: &str = "entitled_decisions_total";

/// Everything that a settle could have written about anybody's purchase.
const WRITTEN: &str = "select to_jsonb(e) from subscription_events e order by id";
const ANSWERS: &str = "select count(*) from store_answers";
const CLAIMS: &str = "select to_jsonb(c) from purchase_chains c order by id";

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_outlived_its_lease_writes_nothing() {
    let world = World::with(|options| options.roles = DOORS).await;
    let_time_pass(&world);
    let mut phone = world.device("alice").await;
    let token = store_token(&world, "alice").await;
    // It has read that the purchase is paid, and then stands still.
    let sleeper = Process::start(&world, "worker", &[("ENTITLED_STOP_AT", "after_fetch")]).await;
    let purchase = buy(&world, Store::GooglePlay, "alice", Some(&token)).await;
    sleeper.stopped().await;
    let books = Books::of(&world).await;
    assert_eq!(
        books.number("select claim_no from purchase_chains").await,
        1
    );

    // Meanwhile the purchase is refunded, and another worker hears of it once the lease is over.
    world
        .stack
        .sandbox
        .refund_google_play(&purchase)
        .await
        .expect("refunded");
    let other = Process::start(&world, "worker", &[]).await;
    phone
        .until("the refund", |snapshot| snapshot.revision > 0)
        .await;
    assert!(!is_active(&phone.latest, "pro_access"));
    world.settled().await;
    let written = (
        books.rows(WRITTEN).await,
        books.rows(CLAIMS).await,
        books.number(ANSWERS).await,
    );
    let claim_no = books.number("select claim_no from purchase_chains").await;
    assert!(claim_no >= 2, "claimed anew");
    drop(other);

    sleeper.signal("CONT");
    eventually("the late answer is dropped", async || {
        sleeper.counter(LATE).await == 1
    })
    .await;
    let now = (
        books.rows(WRITTEN).await,
        books.rows(CLAIMS).await,
        books.number(ANSWERS).await,
    );
    assert_eq!(now, written, "the late answer wrote nothing");
    assert!(phone.is_quiet(std::time::Duration::from_millis(300)).await);

    // It is as good as any other from now on.
    let mut tablet = world.device("bob").await;
    let token = store_token(&world, "bob").await;
    buy(&world, Store::AppStore, "bob", Some(&token)).await;
    tablet.until_active("pro_access").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_workers_purchases_are_taken_over() {
    let both = [Store::AppStore, Store::GooglePlay].map(async |store| {
        let world = World::with(|options| options.roles = DOORS).await;
        let_time_pass(&world);
        let mut phone = world.device("alice").await;
        let token = store_token(&world, "alice").await;
        let sandbox = &world.stack.sandbox;
        sandbox.set_outage(store, Some(Outage::Timeout));
        let mut victim = Process::start(&world, "worker", &[]).await;
        buy(&world, store, "alice", Some(&token)).await;
        // In the middle of a call that is not answered.
        eventually("the store is asked", async || {
            let calls = sandbox.store_calls();
            calls.contains_key(&Endpoint::AppleStatuses)
                || calls.contains_key(&Endpoint::GoogleToken)
        })
        .await;
        victim.signal("KILL");
        victim.ended().await;
        sandbox.set_outage(store, None);
        let _other = Process::start(&world, "worker", &[]).await;
        phone.until_active("pro_access").await;
        came_to(&world, &once(store, 1)).await;
        world.stop().await;
    });
    join_all(both).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_a_queue_without_doing_anything_twice() {
    const EACH: i64 = 15;
    let world = World::with(|options| options.roles = DOORS).await;
    let_time_pass(&world);
    let sandbox = &world.stack.sandbox;
    sandbox.hold_deliveries(true).await.expect("held");
    let mut phones = Vec::new();
    for number in 0..EACH {
        for store in [Store::AppStore, Store::GooglePlay] {
            let customer = format!("{store:?}-{number}");
            let token = store_token(&world, &customer).await;
            buy(&world, store, &customer, Some(&token)).await;
            phones.push(world.device(&customer).await);
        }
    }
    // Neither is so slow that the other takes over from it: nothing may be late.
    let patient = [("ENTITLED__WORKER__LEASE_SECONDS", "60")];
    let one = Process::start(&world, "worker", &patient).await;
    let two = Process::start(&world, "worker", &patient).await;
    sandbox.hold_deliveries(false).await.expect("sent at once");
    join_all(
        phones
            .iter_mut()
            .map(|phone| phone.until_active("pro_access")),
    )
    .await;
    let books = Books::of(&world).await;
    eventually("every acknowledgement is noted", async || {
        books
            .number("select count(*) from duties where done_at is not null")
            .await
            == EACH
    })
    .await;
    world.settled().await;
    for phone in &phones {
        assert_eq!(phone.latest.revision, 1, "one change each");
    }
    let effects = books.effects().await;
    assert_eq!(
        (effects.chains, effects.owners, effects.transactions),
        (2 * EACH, 2 * EACH, 2 * EACH)
    );
    assert_eq!(
        (effects.applied, effects.notifications, effects.unfinished),
        (2 * EACH, 2 * EACH, 0)
    );
    let acknowledged = world.calls(Endpoint::GoogleAcknowledge);
    assert_eq!(i64::try_from(acknowledged), Ok(EACH), "each purchase once");
    let settled = one.counter(SETTLED).await + two.counter(SETTLED).await;
    let events = books
        .number("select count(*) from subscription_events")
        .await;
    assert_eq!(
        i64::try_from(settled),
        Ok(events),
        "every settle is one of theirs"
    );
    assert_eq!(one.counter(LATE).await + two.counter(LATE).await, 0);
    world.stop().await;
}

/// Each role in a process of its own: hints find the streams of another process.
#[tokio::test(flavor = "multi_thread")]
async fn roles_work_apart() {
    let mut world = World::with(|options| options.roles = NOBODY).await;
    let doors = [
        Process::start(&world, "serve", &[]).await,
        Process::start(&world, "webhooks", &[]).await,
        Process::start(&world, "worker", &[]).await,
    ];
    for process in &doors {
        process.serves(&mut world);
    }
    let mut phone = world.device("alice").await;
    let token = store_token(&world, "alice").await;
    let purchase = buy(&world, Store::GooglePlay, "alice", Some(&token)).await;
    phone.until_active("pro_access").await;
    came_to(&world, &once(Store::GooglePlay, 1)).await;
    world
        .stack
        .sandbox
        .refund_google_play(&purchase)
        .await
        .expect("refunded");
    phone.until_inactive("pro_access").await;
    world.stop().await;
}
