//! Stories of signals that come late, twice, in the wrong order, or against the truth.

use std::time::Duration;

use entitled::proto::{AccessReason, InactiveReason};
use entitled::sandbox::{Billing, Endpoint, NotificationRecord, Store, forge};

use crate::process::{NOBODY, Process, eventually};
use crate::scene::{MONTHLY, YEARLY, access_until, google_buy, off, on, payload_of, period, pro};
use crate::support::{Device, World, is_active};

/// What was said of a purchase and not yet heard.
fn said_of(world: &World, purchase: &str) -> Vec<NotificationRecord> {
    let all = world.stores().notifications();
    all.into_iter()
        .filter(|said| said.purchase.as_deref() == Some(purchase))
        .collect()
}

/// S5: the end of the old period is told after the renewal that followed it.
#[tokio::test(flavor = "multi_thread")]
async fn s5_an_expiration_that_arrives_after_the_renewal() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    world.hold().await;
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    let id = &bought.original_transaction_id;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    let stores = world.stores();
    stores.set_auto_renew(id, false).await.expect("turned off");
    stores.advance(period("P32D")).await.expect("it ends");
    world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    let said = said_of(&world, id);
    let expired: Vec<_> = said
        .iter()
        .filter(|one| one.notification_type == "EXPIRED")
        .collect();
    assert_eq!(expired.len(), 1, "the end was told");
    for one in said.iter().rev() {
        if one.notification_type != "EXPIRED" {
            world.deliver(&one.id).await;
        }
    }
    world.settled().await;
    let mut phone = Device::open(alice.client.clone()).await;
    assert!(is_active(&phone.latest, "pro_access"));
    let before = phone.latest.revision;
    world.deliver(&expired[0].id).await;
    world.deliver(&expired[0].id).await;
    world.settled().await;
    assert!(
        phone.is_quiet(Duration::from_millis(300)).await,
        "nobody was told of an end"
    );
    let now = alice.now().await;
    assert_eq!(pro(&now), on(AccessReason::Subscription, true));
    assert_eq!(now.revision, before);
    world.stop().await;
}

/// S6: Google tells that a token has expired which an upgrade had replaced.
#[tokio::test(flavor = "multi_thread")]
async fn s6_a_late_end_of_a_replaced_token() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    world.hold().await;
    let old = world
        .buy_google("alice", "premium-monthly", Some(&alice.store_token))
        .await
        .purchase_token;
    alice.bind_google(&old).await.expect("bound");
    // Google refuses to change a plan that is not acknowledged.
    world.settled().await;
    let mut upgrade = google_buy("alice", "premium-yearly", Some(&alice.store_token));
    upgrade.replaces = Some(old.clone());
    let new = world
        .stores()
        .buy_google_play(&upgrade)
        .await
        .expect("upgraded")
        .purchase_token;
    for one in said_of(&world, &new) {
        world.deliver(&one.id).await;
    }
    world.settled().await;
    assert!(is_active(&alice.now().await, "export"), "the year");
    world
        .stores()
        .advance(period("P2M"))
        .await
        .expect("the month is long over");
    let late = said_of(&world, &old);
    assert!(
        late.iter()
            .any(|one| one.notification_type.contains("EXPIRED")),
        "{:?}",
        late.iter()
            .map(|one| &one.notification_type)
            .collect::<Vec<_>>()
    );
    for one in late.iter().chain(late.iter().rev()) {
        world.deliver(&one.id).await;
    }
    world.settled().await;
    let now = alice.now().await;
    assert_eq!(pro(&now), on(AccessReason::Subscription, true));
    assert!(is_active(&now, "export"));
    world.stop().await;
}

/// S7: an old word of renewal turned off is heard while the payment is in grace: it ends nothing.
/// When renewal is really turned off, the store says what becomes of the grace.
#[tokio::test(flavor = "multi_thread")]
async fn s7_a_cancellation_during_grace() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    let id = &bought.original_transaction_id;
    let stores = world.stores();
    world.settled().await;
    world.hold().await;
    let before = world.said().len();
    stores.set_auto_renew(id, false).await.expect("turned off");
    stores.set_auto_renew(id, true).await.expect("and on again");
    let old = world.said().split_off(before);
    stores
        .set_app_store_billing(id, Billing::Fails)
        .await
        .expect("the card fails");
    stores.advance(period("P32D")).await.expect("into grace");
    for one in said_of(&world, id).iter().rev() {
        world.deliver(&one.id).await;
    }
    world.settled().await;
    assert_eq!(pro(&alice.now().await).1, AccessReason::GracePeriod);
    let until = access_until(&alice.now().await);
    for _ in 0..2 {
        // The one that turned it off comes last.
        for id in old.iter().rev() {
            world.deliver(id).await;
        }
    }
    world.settled().await;
    let now = alice.now().await;
    assert_eq!(pro(&now), on(AccessReason::GracePeriod, true));
    assert_eq!(access_until(&now), until, "to the end of grace");
    // At Apple grace ends with the will to renew.
    stores.set_auto_renew(id, false).await.expect("turned off");
    for one in said_of(&world, id) {
        world.deliver(&one.id).await;
    }
    world.settled().await;
    let truth = &stores.purchases("alice")[0];
    assert_eq!(is_active(&alice.now().await, "pro_access"), truth.entitled);
    world.stop().await;
}

/// S8: money for a period that is over goes back while a later one runs.
#[tokio::test(flavor = "multi_thread")]
async fn s8_a_refund_of_an_old_period() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let apple = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    world
        .stores()
        .advance(period("P2M"))
        .await
        .expect("renewed twice");
    world.settled().await;
    world.hold().await;
    world
        .stores()
        .refund_app_store(&apple.transaction_id)
        .await
        .expect("the first month is refunded");
    let said = world.said();
    for id in said.iter().rev().take(1).cycle().take(3) {
        world.deliver(id).await;
    }
    world.settled().await;
    assert_eq!(
        pro(&alice.now().await),
        on(AccessReason::Subscription, true)
    );
    let revoked = "select count(*) from transactions where revoked_at is not null";
    assert_eq!(
        world.count(revoked).await,
        1,
        "it is booked, for that month alone"
    );
    // The current one is another matter.
    let latest = world.stores().purchases("alice")[0]
        .latest_transaction
        .clone();
    world
        .stores()
        .refund_app_store(&latest)
        .await
        .expect("refunded");
    for id in world.said() {
        world.deliver(&id).await;
    }
    world.settled().await;
    assert_eq!(pro(&alice.now().await), off(InactiveReason::Refunded));
    world.stop().await;
}

/// S10: the answer takes longer than the sender waits, so the same is sent again, and again.
#[tokio::test(flavor = "multi_thread")]
async fn s10_a_slow_answer_makes_the_sender_repeat_itself() {
    let mut world = World::with(|options| options.roles = NOBODY).await;
    world
        .stores()
        .set_idle_hook(|| Box::pin(std::future::ready(())));
    // Keeps the row, and stands still before it answers.
    let slow = Process::start(&world, "start", &[("ENTITLED_STOP_AT", "after_raw_insert")]).await;
    slow.serves(&mut world);
    let alice = world.person("alice").await;
    world.hold().await;
    world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    let body = world.stores().notifications()[0].body.clone();
    let hurried = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_millis(700))
        .build()
        .expect("a client");
    let url = slow.webhooks("app-store");
    for _ in 0..3 {
        let sent = hurried.post(&url).body(body.clone()).send().await;
        assert!(sent.is_err(), "no answer in time");
        // On a busy machine it takes a moment until it stands.
        slow.stopped().await;
    }
    slow.signal("CONT");
    eventually("it answers again", async || {
        let sent = hurried.post(&url).body(body.clone()).send().await;
        sent.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    let mut phone = Device::open(alice.client.clone()).await;
    phone.until_active("pro_access").await;
    assert_eq!(phone.latest.revision, 1, "applied once");
    assert_eq!(
        world.count("select count(*) from raw_notifications").await,
        1
    );
    let applied = "select count(*) from subscription_events where decision = 'apply'";
    assert_eq!(world.count(applied).await, 1);
    world.stop().await;
}

/// S11: the certificate that signed a document has expired by the time it is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn s11_the_leaf_certificate_expired_after_it_signed() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    world.hold().await;
    let bought = world.buy_apple("alice", YEARLY, None).await;
    let genuine = payload_of(&bought.signed_transaction);
    let corpus =
        forge::apple_corpus(world.stores(), &genuine, "http://127.0.0.1:9", 0).expect("signed");
    let old = corpus
        .iter()
        .find(|one| one.name == "leaf that has expired since it signed")
        .expect("one of them");
    alice.bind_apple(&old.jws).await.expect("it was good then");
    assert!(is_active(&alice.now().await, "pro_access"));
    let never = corpus
        .iter()
        .find(|one| one.name == "leaf that had expired when it signed")
        .expect("one of them");
    alice
        .bind_apple(&never.jws)
        .await
        .expect_err("it never was");
    world.stop().await;
}

/// S12: nobody acknowledges a purchase, and the store takes it back.
#[tokio::test(flavor = "multi_thread")]
async fn s12_a_purchase_that_is_never_acknowledged() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let stores = world.stores();
    // Alice's purchase becomes hers; whose the other one is, nobody says.
    let hers = world
        .buy_google("alice", "premium-monthly", Some(&alice.store_token))
        .await
        .purchase_token;
    let nobodys = world
        .buy_google("bob", "premium-monthly", None)
        .await
        .purchase_token;
    world.settled().await;
    eventually("acknowledged by the server", async || {
        stores.is_acknowledged(&hers) == Some(true)
    })
    .await;
    let acknowledged = stores
        .store_calls()
        .get(&Endpoint::GoogleAcknowledge)
        .copied();
    assert_eq!(
        acknowledged,
        Some(1),
        "what gives nobody access is left to the store"
    );
    stores
        .advance(period("P4D"))
        .await
        .expect("the store's patience ends");
    world.settled().await;
    assert!(is_active(&alice.now().await, "pro_access"));
    assert!(
        !stores.purchases("bob")[0].entitled,
        "refunded by the store"
    );
    // Bound too late: it gives nothing, and nobody acknowledges what is refunded.
    let _ = bob.bind_google(&nobodys).await;
    world.settled().await;
    assert!(!is_active(&bob.now().await, "pro_access"));
    assert_eq!(world.asked(Store::AppStore), 0);
    world.stop().await;
}
