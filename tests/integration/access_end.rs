//! I8: access ends at its time by itself, and no payer is cut off before the leniency has passed.

use chrono::{DateTime, TimeDelta, Utc};
use entitled::app::Roles;
use entitled::proto::{EntitlementSnapshot, InactiveReason};
use entitled::sandbox::{Outage, Store};

use crate::scene::{MONTHLY, access_until, off, period, pro, seconds};
use crate::support::{World, entitlement, expires, is_active};

/// The moment at which the account's access ends by what it was told.
fn end_of(snapshot: &EntitlementSnapshot) -> DateTime<Utc> {
    DateTime::from_timestamp(access_until(snapshot), 0).expect("a moment")
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_access_ends_at_its_time_without_any_signal() {
    let world = World::start().await;
    let mut phone = world.device("alice").await;
    let token = phone
        .latest
        .account
        .clone()
        .expect("an account")
        .store_token;
    let bought = world.buy_apple("alice", MONTHLY, Some(&token)).await;
    phone.until_active("pro_access").await;
    world
        .stores()
        .set_auto_renew(&bought.original_transaction_id, false)
        .await
        .expect("canceled");
    phone
        .until("canceled", |s| !entitlement(s, "pro_access").will_renew)
        .await;
    let end = end_of(&phone.latest);

    world.hold().await;
    world
        .stores()
        .set_outage(Store::AppStore, Some(Outage::Down503));
    world
        .stores()
        .advance_to(end - TimeDelta::seconds(30))
        .await
        .expect("almost");
    assert!(is_active(
        &world
            .client("alice")
            .await
            .get()
            .await
            .expect("read")
            .snapshot
            .expect("one"),
        "pro_access"
    ));
    world
        .stores()
        .advance_to(end + TimeDelta::seconds(1))
        .await
        .expect("over");
    phone.until_inactive("pro_access").await;
    assert_eq!(pro(&phone.latest), off(InactiveReason::Expired));
    let committed =
        "select count(*) from subscription_events where source = 'time' and reason = 'time_passed'";
    assert_eq!(world.count(committed).await, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_access_ends_even_if_every_job_is_down() {
    let world = World::with(|options| {
        options.roles = Roles {
            serve: true,
            webhooks: false,
            worker: false,
        };
    })
    .await;
    // Nobody works anything off: waiting for that would wait for ever.
    world.stores().set_idle_hook(|| Box::pin(async {}));
    let alice = world.person("alice").await;
    world.hold().await;
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    let mut phone = crate::support::Device::open(alice.client.clone()).await;
    phone.until_active("pro_access").await;
    let end = end_of(&phone.latest);
    assert_eq!(
        seconds(end),
        expires(&phone.latest, "pro_access") + 3_600,
        "an hour for a late renewal"
    );
    world
        .stores()
        .advance_to(end + TimeDelta::seconds(1))
        .await
        .expect("over");
    let read = alice
        .client
        .clone()
        .get()
        .await
        .expect("read")
        .snapshot
        .expect("a snapshot");
    assert!(
        !is_active(&read, "pro_access"),
        "a cached copy is judged by the time it is read at"
    );
    assert!(!is_active(&alice.now().await, "pro_access"));
    phone.until_inactive("pro_access").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_renewal_that_nobody_told_cuts_no_payer_off() {
    let world = World::start().await;
    for (name, apple) in [("alice", true), ("bob", false)] {
        let mut phone = world.device(name).await;
        let token = phone
            .latest
            .account
            .clone()
            .expect("an account")
            .store_token;
        if apple {
            world.buy_apple(name, MONTHLY, Some(&token)).await;
        } else {
            world
                .buy_google(name, "premium-monthly", Some(&token))
                .await;
        }
        phone.until_active("pro_access").await;
        world.settled().await;
        let before = expires(&phone.latest, "pro_access");
        world.hold().await;
        world
            .stores()
            .advance(period("P1M"))
            .await
            .expect("renewed, untold");
        phone
            .until("renewed", |s| {
                assert!(is_active(s, "pro_access"), "{name} was cut off");
                expires(s, "pro_access") > before
            })
            .await;
        world
            .stores()
            .hold_deliveries(false)
            .await
            .expect("released");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_an_outage_at_the_end_of_the_period_is_bridged_and_not_for_ever() {
    let world = World::start().await;
    let mut phone = world.device("alice").await;
    let token = phone
        .latest
        .account
        .clone()
        .expect("an account")
        .store_token;
    world.buy_apple("alice", MONTHLY, Some(&token)).await;
    phone.until_active("pro_access").await;
    let paid = DateTime::from_timestamp(expires(&phone.latest, "pro_access"), 0).expect("a moment");

    world.hold().await;
    world
        .stores()
        .set_outage(Store::AppStore, Some(Outage::Down503));
    world
        .stores()
        .advance_to(paid + TimeDelta::minutes(5))
        .await
        .expect("the period ends");
    phone
        .until("bridged", |s| {
            assert!(
                is_active(s, "pro_access"),
                "cut off while the store cannot be asked"
            );
            access_until(s) == seconds(paid + TimeDelta::hours(24))
        })
        .await;
    world
        .stores()
        .advance_to(paid + TimeDelta::hours(23))
        .await
        .expect("a long outage");
    assert!(is_active(
        &world
            .client("alice")
            .await
            .get()
            .await
            .expect("read")
            .snapshot
            .expect("one"),
        "pro_access"
    ));
    world
        .stores()
        .advance_to(paid + TimeDelta::hours(24) + TimeDelta::seconds(1))
        .await
        .expect("too long");
    phone.until_inactive("pro_access").await;

    // The store is back, and had renewed all along.
    world.stores().set_outage(Store::AppStore, None);
    phone
        .until("healed", |s| {
            is_active(s, "pro_access") && expires(s, "pro_access") > seconds(paid)
        })
        .await;
    world.stop().await;
}
