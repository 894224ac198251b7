//! Bugs planted in a server's shell: the checks that the suite lives by must see each of them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use entitled::proto::watch_entitlements_response::Event;
use entitled::proto::{RevisionToken, WatchEntitlementsRequest};
use entitled::sandbox::Store;
use futures::future::{LocalBoxFuture, join_all};
use serde_json::Value;

use super::{buy, let_time_pass, store_token};
use crate::books::Books;
use crate::process::{NOBODY, Process, eventually};
use crate::scene::{now, payload_of, period};
use crate::support::{HTTP, World, is_active};

/// A world whose only server has this bug.
async fn with(bug: &str) -> (World, Process, String) {
    with_role("start", bug).await
}

async fn with_role(role: &str, bug: &str) -> (World, Process, String) {
    let mut world = World::with(|options| options.roles = NOBODY).await;
    let_time_pass(&world);
    let server = Process::start(&world, role, &[(PLANTED, bug)]).await;
    server.serves(&mut world);
    let token = store_token(&world, "alice").await;
    (world, server, token)
}

const PLANTED: &str = "ENTITLED_PLANTED";

const ROWS: &str = "select count(*)::bigint from raw_notifications";

/// The bugs that take a database, a network or time to be seen. Each assertion is the one that a
/// sound server passes, turned round.
#[tokio::test(flavor = "multi_thread")]
async fn planted_bugs_of_the_shell_are_found() {
    let bugs: [LocalBoxFuture<'_, ()>; _] = [
        Box::pin(skip_dedupe()),
        Box::pin(lost_signals()),
        Box::pin(acknowledge_before_commit()),
    ];
    join_all(bugs).await;
}

/// The same for what is told: of decisions, of revisions, to watchers, by replay.
#[tokio::test(flavor = "multi_thread")]
async fn planted_bugs_of_what_is_told_are_found() {
    let bugs: [LocalBoxFuture<'_, ()>; _] = [
        Box::pin(skipped_leaves_no_trace()),
        Box::pin(revision_is_reused()),
        Box::pin(lost_hints_are_not_missed()),
        Box::pin(unchanged_over_an_end()),
        Box::pin(replay_ignores_evidence()),
    ];
    join_all(bugs).await;
}

/// A repeated delivery is kept again.
async fn skip_dedupe() {
    let (world, _server, token) = with("skip_dedupe").await;
    buy(&world, Store::AppStore, "alice", Some(&token)).await;
    let told = world.stack.sandbox.notifications().remove(0);
    let again = world.stack.sandbox.deliver(&told.id).await;
    again.expect("told again");
    let books = Books::of(&world).await;
    assert_eq!(books.number(ROWS).await, 2, "the bug is seen: kept twice");
    world.stop().await;
}

/// A purchase that was told of is not looked at.
async fn lost_signals() {
    let (world, _server, token) = with("lost_signals").await;
    buy(&world, Store::AppStore, "alice", Some(&token)).await;
    let books = Books::of(&world).await;
    eventually("the notification is read", async || {
        let unread =
            "select count(*)::bigint from raw_notifications where status in ('received', 'sealed')";
        books.number(ROWS).await == 1 && books.number(unread).await == 0
    })
    .await;
    let known = "select count(*)::bigint from store_subscription_state";
    // A server without the bug would owe a look from the same commit on.
    world.settled().await;
    assert_eq!(
        books.number(known).await,
        0,
        "the bug is seen: nobody asked"
    );
    world.stop().await;
}

/// While nothing can be written, a webhook is answered 2xx all the same.
async fn acknowledge_before_commit() {
    let (world, server, token) = with("acknowledge_before_commit").await;
    world
        .stack
        .sandbox
        .hold_deliveries(true)
        .await
        .expect("held");
    buy(&world, Store::AppStore, "alice", Some(&token)).await;
    let body = world.stack.sandbox.notifications().remove(0).body;
    let pool = world.tables().await;
    let mut blocker = pool.begin().await.expect("a transaction");
    sqlx::query("lock table raw_notifications in access exclusive mode")
        .execute(&mut *blocker)
        .await
        .expect("locked");
    let answer = HTTP
        .post(server.webhooks("app-store"))
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        answer.status(),
        200,
        "the bug is seen: told before it is kept"
    );
    server.signal("KILL");
    drop(blocker);
    let books = Books::of(&world).await;
    assert_eq!(books.number(ROWS).await, 0, "and lost");
    world.stop().await;
}

/// A claim that is refused leaves nothing behind (I5).
async fn skipped_leaves_no_trace() {
    let (world, _server, token) = with("skipped_leaves_no_trace").await;
    let proof = buy(&world, Store::AppStore, "alice", Some(&token)).await;
    let mut alice = world.client("alice").await;
    alice.bind_app_store(&proof).await.expect("bound");
    let mut bob = world.client("bob").await;
    bob.bind_app_store(&proof).await.expect_err("alice's");
    let books = Books::of(&world).await;
    let refused = "select count(*) from subscription_events where reason = 'owned_by_another'";
    assert_eq!(books.number(refused).await, 0, "the bug is seen: no trace");
    let others = "select count(*) from subscription_events where decision = 'apply'";
    assert!(
        books.number(others).await >= 1,
        "what is applied leaves one"
    );
    world.stop().await;
}

/// A refund changes the snapshot, and not its revision (I6).
async fn revision_is_reused() {
    let (world, _server, token) = with("revision_is_reused").await;
    let proof = buy(&world, Store::AppStore, "alice", Some(&token)).await;
    let mut alice = world.client("alice").await;
    alice.bind_app_store(&proof).await.expect("bound");
    let before = now(&alice).await;
    assert!(is_active(&before, "pro_access"));
    let payload = payload_of(&proof);
    let id = payload["transactionId"].as_str().expect("an id");
    let refunded = world.stack.sandbox.refund_app_store(id).await;
    refunded.expect("refunded");
    eventually("access ends", async || {
        !is_active(&now(&alice).await, "pro_access")
    })
    .await;
    let after = now(&alice).await;
    assert_eq!(
        after.revision, before.revision,
        "the bug is seen: one name for two snapshots"
    );
    world.stop().await;
}

/// A device at one replica is not told what another one has committed (I7).
async fn lost_hints_are_not_missed() {
    let bug = "lost_hints_are_not_missed";
    let (mut world, _server, token) = with(bug).await;
    let other = Process::start(&world, "serve", &[(PLANTED, bug)]).await;
    other.serves(&mut world);
    let mut far = world.device("alice").await;
    buy(&world, Store::AppStore, "alice", Some(&token)).await;
    let books = Books::of(&world).await;
    let revision = "select coalesce(max(revision), 0) from entitlement_snapshots";
    eventually("it is committed", async || {
        books.number(revision).await == 1
    })
    .await;
    // A replica sweeps every second.
    assert!(
        far.is_quiet(Duration::from_secs(3)).await,
        "the bug is seen: never told"
    );
    assert!(!is_active(&far.latest, "pro_access"));
    world.stop().await;
}

/// A watcher that comes back after the end of its access is told that nothing has changed (I7).
async fn unchanged_over_an_end() {
    let (world, _server, _) = with_role("serve", "unchanged_over_an_end").await;
    let proof = buy(&world, Store::AppStore, "alice", None).await;
    let mut alice = world.client("alice").await;
    alice.bind_app_store(&proof).await.expect("bound");
    let mut stream = alice.watch().await.expect("a stream");
    let first = stream.message().await.expect("told").expect("a message");
    drop(stream);
    let Some(Event::Snapshot(snapshot)) = first.event else {
        panic!("{first:?}")
    };
    assert!(is_active(&snapshot, "pro_access"));
    // No job runs: the revision stays.
    let later = world.stack.sandbox.advance(period("P2Y")).await;
    later.expect("over");
    eventually("access is over", async || {
        !is_active(&now(&alice).await, "pro_access")
    })
    .await;
    let request = WatchEntitlementsRequest {
        known: Some(RevisionToken {
            epoch: snapshot.epoch,
            revision: snapshot.revision,
        }),
        known_as_of: first.as_of,
        ..Default::default()
    };
    let back = alice.inner.watch_entitlements(request).await;
    let mut back = back.expect("a stream").into_inner();
    let told = back.message().await.expect("told").expect("a message");
    assert!(
        matches!(told.event, Some(Event::Unchanged(_))),
        "the bug is seen: {told:?}"
    );
    world.stop().await;
}

/// What a notification alone told of a refund is missing when the purchase is decided again (I10).
async fn replay_ignores_evidence() {
    let world = World::start().await;
    let token = store_token(&world, "alice").await;
    let bought = world.buy_google("alice", "premium-yearly", Some(&token));
    let bought = bought.await;
    world.settled().await;
    // Google says that the order is void; its record of the purchase still says active.
    let told = world.stores().notifications().remove(0);
    let mut body: Value = serde_json::from_str(&told.body).expect("JSON");
    let data = body["message"]["data"].as_str().expect("data");
    let data = STANDARD.decode(data).expect("base64");
    let mut data: Value = serde_json::from_slice(&data).expect("JSON");
    let fields = data.as_object_mut().expect("an object");
    fields.remove("subscriptionNotification").expect("bought");
    let void = serde_json::json!({
        "purchaseToken": bought.purchase_token, "orderId": bought.order_id,
        "productType": 1, "refundType": 1,
    });
    fields.insert("voidedPurchaseNotification".into(), void);
    body["message"]["data"] = STANDARD.encode(data.to_string()).into();
    body["message"]["messageId"] = "a-void".into();
    let taken = world.post(Store::GooglePlay, body.to_string()).await;
    assert_eq!(taken, 200);
    world.settled().await;
    for (bug, sound) in [("none", true), ("replay_ignores_evidence", false)] {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_entitled"))
            .args(["replay", "dev:alice", "--dry-run", "--json", "--config"])
            .arg(&world.stack.address.config)
            .env(PLANTED, bug)
            .output()
            .await
            .expect("the program runs");
        let replayed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let chain = &replayed["purchases"][0];
        assert!(chain["steps"].as_u64() >= Some(2), "{replayed}");
        let same = chain["differences"] == Value::Array(Vec::new());
        assert_eq!(same, sound, "{bug}: {replayed}");
    }
    world.stop().await;
}
