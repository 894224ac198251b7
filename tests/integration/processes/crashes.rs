//! A process that dies at each step of the pipeline, and one that carries on.

use entitled::proto::{BindOutcome, ClientAction};
use entitled::sandbox::{DeliveryState, Endpoint, Store};
use futures::future::join_all;
use tonic::Code;

use super::{Effects, buy, came_to, doomed_at, once, replaced, store_token};
use crate::support::{World, assert_refused};

const PACKAGE: &str = "com.example.app";

/// A purchase is told to a server that dies at `place`. Returns once all came to what it should.
async fn a_notification_survives(place: &str, store: Store) -> World {
    let (mut world, mut doomed) = doomed_at(place).await;
    let token = store_token(&world, "alice").await;
    buy(&world, store, "alice", Some(&token)).await;
    let healthy = replaced(&mut world, &mut doomed).await;
    let mut phone = world.device("alice").await;
    phone.until_active("pro_access").await;
    assert_eq!(phone.latest.revision, 1);
    // Told again, as the stores do: it changes nothing.
    for notification in world.stack.sandbox.notifications() {
        let told = world
            .stack
            .sandbox
            .deliver(&notification.id)
            .await
            .expect("told again");
        assert_eq!(told.state, DeliveryState::Delivered, "{:?}", told.attempts);
    }
    came_to(&world, &once(store, 1)).await;
    assert_eq!(phone.latest.revision, 1);
    drop(healthy);
    world
}

fn acknowledgements(world: &World) -> u64 {
    world.calls(Endpoint::GoogleAcknowledge)
}

macro_rules! survives {
    ($($name:ident = $place:literal, $store:ident;)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                a_notification_survives($place, Store::$store).await.stop().await;
            }
        )+
    };
}

survives! {
    after_the_raw_row_apple = "after_raw_insert", AppStore;
    after_the_raw_row_google = "after_raw_insert", GooglePlay;
    before_the_store_is_answered_apple = "before_ack", AppStore;
    before_the_store_is_answered_google = "before_ack", GooglePlay;
    after_the_store_was_answered_apple = "after_ack", AppStore;
    after_the_store_was_answered_google = "after_ack", GooglePlay;
    after_the_devices_were_told_apple = "after_notify", AppStore;
    after_the_devices_were_told_google = "after_notify", GooglePlay;
    before_the_rows_are_resolved_apple = "before_resolve_commit", AppStore;
    before_the_rows_are_resolved_google = "before_resolve_commit", GooglePlay;
    with_the_chain_claimed_apple = "after_claim", AppStore;
    with_the_chain_claimed_google = "after_claim", GooglePlay;
    with_the_answer_in_hand_apple = "after_fetch", AppStore;
    with_the_answer_in_hand_google = "after_fetch", GooglePlay;
    before_the_settle_commits_apple = "before_commit", AppStore;
    before_the_settle_commits_google = "before_commit", GooglePlay;
    after_the_settle_committed_apple = "after_commit", AppStore;
    after_the_settle_committed_google = "after_commit", GooglePlay;
}

/// The row was durable before the store was answered: it needs no second delivery.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_notification_needs_no_redelivery() {
    let (mut world, mut doomed) = doomed_at("after_raw_insert").await;
    let token = store_token(&world, "alice").await;
    buy(&world, Store::AppStore, "alice", Some(&token)).await;
    let _healthy = replaced(&mut world, &mut doomed).await;
    let told = world.stack.sandbox.notifications().remove(0);
    assert_eq!(told.attempts.len(), 1, "Apple comes back in an hour");
    assert_eq!(
        told.attempts[0].status, None,
        "the server died before it answered"
    );
    let mut phone = world.device("alice").await;
    phone.until_active("pro_access").await;
    came_to(&world, &once(Store::AppStore, 1)).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_was_not_sent_is_sent() {
    let world = a_notification_survives("before_acknowledge", Store::GooglePlay).await;
    assert_eq!(acknowledgements(&world), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_was_sent_but_not_noted_is_harmless() {
    let world = a_notification_survives("after_acknowledge", Store::GooglePlay).await;
    assert_eq!(acknowledgements(&world), 2, "at least once");
    world.stop().await;
}

/// Only the claim knows of it: no hint in the purchase, no notification, no second bind.
#[tokio::test(flavor = "multi_thread")]
async fn a_wish_outlives_the_process_that_took_it() {
    let wishes = [Store::AppStore, Store::GooglePlay].map(async |store| {
        let (mut world, mut doomed) = doomed_at("after_claim_opened").await;
        world
            .stack
            .sandbox
            .hold_deliveries(true)
            .await
            .expect("held");
        let proof = buy(&world, store, "alice", None).await;
        let mut app = world.client("alice").await;
        match store {
            Store::AppStore => app.bind_app_store(&proof).await,
            Store::GooglePlay => app.bind_google_play(PACKAGE, &proof).await,
        }
        .expect_err("the server died");
        let _healthy = replaced(&mut world, &mut doomed).await;
        let mut phone = world.device("alice").await;
        phone.until_active("pro_access").await;
        // Acknowledged at one store, given its owner's name at the other.
        let told = Effects {
            duties_done: 1,
            ..once(store, 0)
        };
        came_to(&world, &told).await;
        world.stop().await;
    });
    join_all(wishes).await;
}

/// The process dies around the commit of a link: there is one account or there are two, and the same
/// call makes it one.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_made_whole_or_not_at_all() {
    use crate::accounts::{Phone, linking::link};
    use entitled::proto::LinkOutcome;
    for (place, outcome) in [
        ("before_link_commit", LinkOutcome::Linked),
        ("after_link_commit", LinkOutcome::AlreadyLinked),
    ] {
        let (mut world, mut doomed) = doomed_at(place).await;
        let phone = Phone::first_start(&world).await;
        let token = Some(phone.person.store_token.as_str());
        buy(&world, Store::AppStore, "alice", token).await;
        let mut device = crate::support::Device::open(phone.person.client.clone()).await;
        device.until_active("pro_access").await;
        let (user, anonymous) = (world.token("alice"), &phone.credentials.access_token);
        link(&world, &user, anonymous)
            .await
            .expect_err("the server died");
        let _healthy = replaced(&mut world, &mut doomed).await;
        let linked = link(&world, &user, anonymous).await.expect("linked");
        assert_eq!(linked.outcome(), outcome, "{place}");
        let mut device = world.device("alice").await;
        device.until_active("pro_access").await;
        assert_eq!(
            world
                .count("select count(*) from ownership_changes where reason = 'linked'")
                .await,
            1,
            "{place}"
        );
        world.stop().await;
    }
}

/// The process dies around the commit of a refresh: the token that was sent is good once more, and
/// leads to one line of tokens.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_nobody_heard_of_is_asked_for_again() {
    use crate::accounts::{Phone, refresh};
    for place in ["before_refresh_commit", "after_refresh_commit"] {
        let (mut world, mut doomed) = doomed_at(place).await;
        let phone = Phone::first_start(&world).await;
        let first = phone.credentials.refresh_token.as_str();
        let died = refresh(&world, first).await;
        died.expect_err("the server died");
        let _healthy = replaced(&mut world, &mut doomed).await;
        let next = refresh(&world, first).await.expect("good once more");
        let again = refresh(&world, first).await.expect("the same");
        assert_eq!(next.refresh_token, again.refresh_token, "{place}");
        let last = refresh(&world, &next.refresh_token)
            .await
            .expect("it goes on");
        // Whoever still has the first one is not who went on.
        for used_up in [first, &last.refresh_token] {
            let refused = refresh(&world, used_up).await.expect_err("used up");
            assert_refused(&refused, Code::Unauthenticated, "REFRESH_TOKEN_INVALID");
        }
        world.stop().await;
    }
}

/// The app hears nothing of a bind that was written; it asks again and may finish.
#[tokio::test(flavor = "multi_thread")]
async fn a_bind_that_was_written_but_not_answered_is_repeated_safely() {
    let (mut world, mut doomed) = doomed_at("after_commit").await;
    world
        .stack
        .sandbox
        .hold_deliveries(true)
        .await
        .expect("held");
    let proof = buy(&world, Store::AppStore, "alice", None).await;
    world
        .client("alice")
        .await
        .bind_app_store(&proof)
        .await
        .expect_err("the server died");
    let _healthy = replaced(&mut world, &mut doomed).await;
    let again = world
        .client("alice")
        .await
        .bind_app_store(&proof)
        .await
        .expect("bound");
    assert_eq!(again.outcome(), BindOutcome::AlreadyYours);
    assert_eq!(again.client_action(), ClientAction::Finish);
    // Nameless at the store, it is given its owner's name there.
    let named = Effects {
        duties_done: 1,
        ..once(Store::AppStore, 0)
    };
    came_to(&world, &named).await;
    world.stop().await;
}
