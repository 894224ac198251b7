//! Bugs planted in a server's shell: the checks that the suite lives by must see each of them.

use std::time::Duration;

use entitled::sandbox::Store;

use super::{buy, let_time_pass, store_token};
use crate::books::Books;
use crate::process::{NOBODY, Process, eventually};
use crate::support::World;

/// A world whose only server has this bug.
async fn with(bug: &str) -> (World, Process, String) {
    let mut world = World::with(|options| options.roles = NOBODY).await;
    let_time_pass(&world);
    let server = Process::start(&world, "start", &[("ENTITLED_PLANTED", bug)]).await;
    server.serves(&mut world);
    let token = store_token(&world, "alice").await;
    (world, server, token)
}

const ROWS: &str = "select count(*)::bigint from raw_notifications";

/// One test: the three bugs that take a database, a network or time to be seen. Each assertion is
/// the one that a sound server passes, turned round.
#[tokio::test(flavor = "multi_thread")]
async fn planted_bugs_of_the_shell_are_found() {
    skip_dedupe().await;
    lost_signals().await;
    acknowledge_before_commit().await;
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
        let unread = "select count(*)::bigint from raw_notifications where status = 'received'";
        books.number(ROWS).await == 1 && books.number(unread).await == 0
    })
    .await;
    let known = "select count(*)::bigint from store_subscription_state";
    tokio::time::sleep(Duration::from_millis(500)).await;
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
    let answer = reqwest::Client::new()
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
