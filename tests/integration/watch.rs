//! I6 and I7: revisions, and watchers that end on the latest one over replicas, lost hints and
//! reconnects.

use entitled::app::App;
use entitled::cli::client::Client;
use entitled::proto::watch_entitlements_response::Event;
use entitled::proto::{RevisionToken, WatchEntitlementsRequest, WatchEntitlementsResponse};
use sqlx::Row as _;

use crate::scene::{MONTHLY, Person, READER, YEARLY, at_least, period};
use crate::support::{Device, World, entitlement, is_active};

pub(crate) async fn client_of(app: &App, world: &World, name: &str) -> Client {
    Client::connect(&app.grpc_url().expect("gRPC"), &world.token(name))
        .await
        .expect("a client")
}

/// Makes `changes` revisions of an account and returns the last.
pub(crate) async fn toggle(world: &World, person: &Person, purchase: &str, changes: usize) -> i64 {
    for change in 0..changes {
        world
            .stores()
            .set_auto_renew(purchase, change % 2 == 1)
            .await
            .expect("toggled");
    }
    world.settled().await;
    person.now().await.revision
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_revisions_strictly_increase_and_no_reader_goes_back() {
    let world = World::start().await;
    let reader = world.replica(READER, |_| {}).await;
    let alice = world.person("alice").await;
    let far = client_of(&reader, &world, "alice").await;
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    let mut seen = alice.now().await;
    for round in 0..10 {
        // The other replica has a copy that a default read may answer from.
        far.clone().get().await.expect("a warm copy");
        cut_notifiers(&world).await;
        world
            .stores()
            .set_auto_renew(&bought.original_transaction_id, round % 2 == 1)
            .await
            .expect("toggled");
        let here = alice.now().await;
        assert_eq!(here.revision, seen.revision + 1, "one change, one revision");
        let there = at_least(&far, &here.epoch, here.revision).await;
        assert_eq!(there.epoch, here.epoch);
        assert!(
            there.revision >= here.revision,
            "{} after {}",
            there.revision,
            here.revision
        );
        seen = here;
    }
    // A revision that was never reached, or of another history, gets what is true now.
    assert_eq!(
        at_least(&far, &seen.epoch, seen.revision + 1_000)
            .await
            .revision,
        seen.revision
    );
    assert_eq!(at_least(&far, "another", 1).await.revision, seen.revision);
    let unordered = "select count(*) from (
        select revision <= lag(revision) over (partition by account_id order by id) as back
        from subscription_events where revision is not null) e where back";
    assert_eq!(world.count(unordered).await, 0);
    reader.stop().await;
    world.stop().await;
}

/// The next message that is not a heartbeat.
async fn next(
    stream: &mut tonic::Streaming<WatchEntitlementsResponse>,
) -> WatchEntitlementsResponse {
    loop {
        let message = stream
            .message()
            .await
            .expect("a stream")
            .expect("a message");
        if !matches!(message.event, Some(Event::Heartbeat(_))) {
            return message;
        }
    }
}

fn revision_of(message: &WatchEntitlementsResponse) -> Option<i64> {
    match &message.event {
        Some(Event::Snapshot(snapshot)) => Some(snapshot.revision),
        Some(Event::Unchanged(_) | Event::Heartbeat(_)) | None => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_returning_watcher_gets_what_it_missed_or_unchanged() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    world.settled().await;
    let mut client = alice.client.clone();
    let mut stream = client.watch().await.expect("a stream");
    let first = next(&mut stream).await;
    drop(stream);
    let Some(Event::Snapshot(snapshot)) = &first.event else {
        panic!("{first:?}")
    };
    let known = |revision: i64| WatchEntitlementsRequest {
        known: Some(RevisionToken {
            epoch: snapshot.epoch.clone(),
            revision,
        }),
        known_as_of: first.as_of,
        ..Default::default()
    };

    let mut back = client
        .inner
        .watch_entitlements(known(snapshot.revision))
        .await
        .expect("a stream")
        .into_inner();
    let unchanged = next(&mut back).await;
    assert!(
        matches!(unchanged.event, Some(Event::Unchanged(_))),
        "{unchanged:?}"
    );
    // The same stream goes on with what is new.
    let latest = toggle(&world, &alice, &bought.original_transaction_id, 1).await;
    assert_eq!(revision_of(&next(&mut back).await), Some(latest));
    drop(back);

    let latest = toggle(&world, &alice, &bought.original_transaction_id, 2).await;
    let missed = [
        known(snapshot.revision),
        known(latest + 50),
        WatchEntitlementsRequest {
            known_as_of: None,
            ..known(latest)
        },
        WatchEntitlementsRequest {
            known: Some(RevisionToken {
                epoch: "another".into(),
                revision: latest,
            }),
            ..known(latest)
        },
    ];
    for request in missed {
        let mut back = client
            .inner
            .watch_entitlements(request.clone())
            .await
            .expect("a stream")
            .into_inner();
        assert_eq!(
            revision_of(&next(&mut back).await),
            Some(latest),
            "{request:?}"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_unchanged_is_never_said_over_an_end_of_access() {
    let world = World::with(|options| options.roles = READER).await;
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
    let mut client = alice.client.clone();
    let mut stream = client.watch().await.expect("a stream");
    let first = next(&mut stream).await;
    drop(stream);
    let Some(Event::Snapshot(snapshot)) = &first.event else {
        panic!("{first:?}")
    };
    assert!(is_active(snapshot, "pro_access"));
    // No job runs: the revision stays, and yet the client's copy says something else by now.
    world.stores().advance(period("P2M")).await.expect("over");
    let request = WatchEntitlementsRequest {
        known: Some(RevisionToken {
            epoch: snapshot.epoch.clone(),
            revision: snapshot.revision,
        }),
        known_as_of: first.as_of,
        ..Default::default()
    };
    let mut back = client
        .inner
        .watch_entitlements(request)
        .await
        .expect("a stream")
        .into_inner();
    let told = next(&mut back).await;
    let Some(Event::Snapshot(now)) = &told.event else {
        panic!("{told:?}")
    };
    assert_eq!(now.revision, snapshot.revision);
    assert!(!is_active(now, "pro_access"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_slow_reader_ends_on_the_latest_revision() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    let mut slow = Device::open(alice.client.clone()).await;
    let mut quick = Device::open(alice.client.clone()).await;
    let latest = toggle(&world, &alice, &bought.original_transaction_id, 60).await;
    // It has not read once; `until` also sees to it that revisions never go back.
    slow.until("the latest", |s| s.revision == latest).await;
    quick.until("the latest", |s| s.revision == latest).await;
    assert_eq!(slow.latest, quick.latest);
    assert!(entitlement(&slow.latest, "pro_access").will_renew);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_bind_on_one_replica_reaches_the_watchers_of_another() {
    let world = World::start().await;
    let reader = world.replica(READER, |_| {}).await;
    let alice = world.person("alice").await;
    let mut far = Device::open(client_of(&reader, &world, "alice").await).await;
    let mut near = Device::open(alice.client.clone()).await;
    world.hold().await;
    let bought = world.buy_apple("alice", MONTHLY, None).await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound here");
    far.until_active("pro_access").await;
    near.until_active("pro_access").await;
    assert_eq!(far.latest, near.latest);

    // And the other way round: the replica that has no worker binds by itself.
    let google = world.buy_google("alice", "export", None).await;
    let mut app = client_of(&reader, &world, "alice").await;
    app.bind_google_play(crate::scene::PACKAGE, &google.purchase_token)
        .await
        .expect("bound there");
    near.until_active("export").await;
    far.until_active("export").await;
    reader.stop().await;
    world.stop().await;
}

/// Ends the connections that hints are sent through: what they carry next is lost.
pub(crate) async fn cut_notifiers(world: &World) -> i64 {
    terminate(
        world,
        "query ilike '%pg_notify($1, hint)%' or query ilike 'set synchronous_commit%'",
    )
    .await
}

/// Ends the connections that hints are heard through.
pub(crate) async fn cut_listeners(world: &World) -> i64 {
    terminate(world, "query ilike 'listen %'").await
}

async fn terminate(world: &World, which: &str) -> i64 {
    let pool = world.tables().await;
    let query = format!(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid() and ({which})"
    );
    let ended = sqlx::query(sqlx::AssertSqlSafe(query))
        .fetch_one(&pool)
        .await
        .expect("asked")
        .get(0);
    pool.close().await;
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_the_sweep_heals_a_lost_hint() {
    let world = World::start().await;
    let reader = world.replica(READER, |_| {}).await;
    let alice = world.person("alice").await;
    let mut far = Device::open(client_of(&reader, &world, "alice").await).await;
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    far.until_active("pro_access").await;
    for round in 0..2 {
        // The listener stays and hears nothing: only a sweep can tell.
        assert!(
            cut_notifiers(&world).await >= 1,
            "a hint has been sent before"
        );
        let latest = toggle(&world, &alice, &bought.original_transaction_id, 1 + round).await;
        far.until("healed", |s| s.revision == latest).await;
        // A hint that goes through again, so that there is a connection to cut.
        let latest = toggle(&world, &alice, &bought.original_transaction_id, 2).await;
        far.until("told", |s| s.revision == latest).await;
    }
    reader.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_listener_that_was_cut_off_catches_up() {
    let world = World::start().await;
    let reader = world.replica(READER, |_| {}).await;
    let alice = world.person("alice").await;
    let mut far = Device::open(client_of(&reader, &world, "alice").await).await;
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    far.until_active("pro_access").await;
    for _ in 0..3 {
        // After the last cut it takes a moment until somebody listens again.
        while cut_listeners(&world).await == 0 {
            tokio::task::yield_now().await;
        }
        let latest = toggle(&world, &alice, &bought.original_transaction_id, 2).await;
        far.until("caught up", |s| s.revision == latest).await;
    }
    reader.stop().await;
    world.stop().await;
}
