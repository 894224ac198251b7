//! Accounts come to a new version: each once, whoever dies, whoever is being settled, whatever cannot
//! be read.

use sqlx::Row as _;

use super::{EXAMPLE, without, without_export};
use crate::process::{NOBODY, Process, eventually};
use crate::scene::YEARLY;
use crate::support::{Device, World, is_active};

/// Accounts that once had something, as many as a worker needs a while for.
const CROWD: &str = "
    with made as (
        insert into accounts (id, created_at)
        select gen_random_uuid(), now() from generate_series(1, 400) returning id
    ), named as (
        insert into store_tokens (token, account_id, created_at)
        select gen_random_uuid()::text, id, now() from made
    )
    insert into entitlement_snapshots (account_id, revision, body, catalog_version)
    select id, 0, '{\"entitlements\": [], \"subscriptions\": [], \"next_transition_at\": null}', 1
    from made";

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_together_are_no_faster_than_the_pace() {
    let world = World::with(|options| options.roles = NOBODY).await;
    let pool = world.tables().await;
    sqlx::query(CROWD).execute(&pool).await.expect("a crowd");
    let more = world.write("more.toml", &format!("{EXAMPLE}\n[entitlements.more]"));
    world.catalog(&["apply", &more]).await.expect("applied");
    let rate = [("ENTITLED__WORKER__CATALOG_ACCOUNTS_PER_SECOND", "20")];
    let (one, two) = tokio::join!(
        Process::start(&world, "worker", &rate),
        Process::start(&world, "worker", &rate),
    );
    eventually("some are done", async || {
        let told = "select count(*) from subscription_events where reason = 'catalog_changed'";
        world.count(told).await >= 40
    })
    .await;
    drop((one, two));
    // Twenty a second, two saved up, and one that each of them may have had in hand for long.
    let fastest = "select max(so_many) from (
        select count(*) over (order by recorded_at
            range between current row and interval '1 second' following) as so_many
        from subscription_events where reason = 'catalog_changed') as seconds";
    assert!(world.count(fastest).await <= 24);
    pool.close().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_in_between_leaves_the_rest_to_any_other() {
    let world = World::with(|options| options.roles = NOBODY).await;
    let pool = world.tables().await;
    sqlx::query(CROWD).execute(&pool).await.expect("a crowd");
    let more = world.write("more.toml", &format!("{EXAMPLE}\n[entitlements.more]"));
    world.catalog(&["apply", &more]).await.expect("applied");
    assert_eq!(world.versions().await[0]["behind"], 400);

    // Dies with a batch under way: none of it is there.
    let rate = ("ENTITLED__WORKER__CATALOG_ACCOUNTS_PER_SECOND", "200");
    let doomed = [rate, ("ENTITLED_CRASH_AT", "catalog_batch")];
    let mut doomed = Process::start(&world, "worker", &doomed).await;
    doomed.ended().await;
    assert_eq!(world.versions().await[0]["behind"], 400);
    // Killed while it works.
    let behind = async || {
        let behind = "select count(*) from entitlement_snapshots where catalog_version < 2";
        world.count(behind).await
    };
    let mut killed = Process::start(&world, "worker", &[rate]).await;
    eventually("some are done", async || behind().await < 400).await;
    killed.signal("KILL");
    killed.ended().await;
    let left = behind().await;
    assert!(left > 0, "it was not faster than its rate");
    let listed = world.catalog(&["history"]).await.expect("listed");
    assert!(listed.contains(&format!("{left} of 400 to go")), "{listed}");

    let rate = [rate];
    let (one, two) = tokio::join!(
        Process::start(&world, "worker", &rate),
        Process::start(&world, "worker", &rate),
    );
    world.catalog(&["history", "--wait"]).await.expect("all");
    drop((one, two));
    let row = sqlx::query(
        "select min(revision), max(revision), count(*),
                (select count(*) from subscription_events where reason = 'catalog_changed')
         from entitlement_snapshots where catalog_version = 2",
    );
    let row = row.fetch_one(&pool).await.expect("counted");
    let counted: [i64; 2] = [row.get(2), row.get(3)];
    assert_eq!(
        (row.get::<i64, _>(0), row.get::<i64, _>(1)),
        (1, 1),
        "each once"
    );
    assert_eq!(counted, [400, 400]);
    assert!(world.versions().await[0]["finished_at"].is_string());
    pool.close().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_being_settled_is_passed_over_and_reached_once() {
    let world = World::start().await;
    let pool = world.tables().await;
    sqlx::query(CROWD).execute(&pool).await.expect("a crowd");
    let alice = world.person("alice").await;
    let yearly = world.buy_apple("alice", YEARLY, None).await;
    alice
        .bind_apple(&yearly.signed_transaction)
        .await
        .expect("bound");
    let monthly = world.buy_google("alice", "premium-monthly", None).await;
    world.settled().await;
    let mut held = pool.begin().await.expect("a transaction");
    sqlx::query("select from accounts where id = $1::uuid for update")
        .bind(&alice.account)
        .execute(&mut *held)
        .await
        .expect("held");

    let more = world.write("more.toml", &format!("{EXAMPLE}\n[entitlements.more]"));
    world.catalog(&["apply", &more]).await.expect("applied");
    let behind = async || {
        let behind = "select count(*) from entitlement_snapshots where catalog_version < 2";
        world.count(behind).await
    };
    eventually("all others are reached", async || behind().await == 1).await;
    let unfinished = &world.versions().await[0];
    assert_eq!(unfinished["behind"], 1);
    assert!(unfinished["finished_at"].is_null(), "{unfinished}");

    // A purchase of theirs is settled as soon as it can, and the change comes at the same time.
    let (bound, released) = tokio::join!(alice.bind_google(&monthly.purchase_token), held.commit());
    bound.expect("bound");
    released.expect("released");
    world
        .catalog(&["history", "--wait"])
        .await
        .expect("all have come");
    let twice = "select count(*) from (select account_id from subscription_events
        where reason = 'catalog_changed' group by 1 having count(*) > 1) as twice";
    assert_eq!(world.count(twice).await, 0);
    let one_by_one = "select count(*) from snapshot_history h join entitlement_snapshots s
        using (account_id) where h.revision > s.revision";
    assert_eq!(world.count(one_by_one).await, 0);
    pool.close().await;
    // Each revision is told by one event.
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_be_read_is_derived_anew() {
    let world = World::with(|options| options.roles = NOBODY).await;
    let pool = world.tables().await;
    sqlx::query(CROWD).execute(&pool).await.expect("a crowd");
    let broken = "update entitlement_snapshots set body = '{\"entitlements\": 7}'
        where account_id = (select max(account_id::text)::uuid from entitlement_snapshots)";
    sqlx::query(broken).execute(&pool).await.expect("broken");
    let more = world.write("more.toml", &format!("{EXAMPLE}\n[entitlements.more]"));
    world.catalog(&["apply", &more]).await.expect("applied");
    let worker = Process::start(&world, "worker", &[]).await;
    world.catalog(&["history", "--wait"]).await.expect("all");
    drop(worker);
    let bodies = "select count(distinct body) from entitlement_snapshots";
    assert_eq!(world.count(bodies).await, 1, "all have nothing");
    pool.close().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_short_lived_version_decided_is_looked_at_again() {
    let mut world = World::start().await;
    let pool = world.tables().await;
    sqlx::query(CROWD).execute(&pool).await.expect("a crowd");
    // So slow that the version is replaced before all have come to it.
    world
        .restart(|config| config.worker.catalog_accounts_per_second = 1)
        .await;
    let alice = world.person("alice").await;
    let coins = world.buy_google("alice", "coins_100", None).await;
    let mistake = world.write("mistake.toml", &without(&["coins_100"]));
    world.catalog(&["apply", &mistake]).await.expect("applied");
    alice
        .bind_google(&coins.purchase_token)
        .await
        .expect("kept");
    assert_eq!(
        alice
            .now()
            .await
            .credits
            .iter()
            .map(|of| of.balance)
            .sum::<i64>(),
        0
    );
    assert!(world.versions().await[0]["finished_at"].is_null());
    world.catalog(&["rollback", "1"]).await.expect("taken back");
    world.restart(|_| {}).await;
    world.settled().await;
    let alice = world.person("alice").await;
    assert_eq!(alice.now().await.credits[0].balance, 100);
    assert_eq!(world.versions().await[0]["looked_again"], 1);
    pool.close().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_is_told_by_the_walk_itself() {
    let mut world = World::with(|options| options.roles = NOBODY).await;
    world
        .stores()
        .set_idle_hook(|| Box::pin(std::future::ready(())));
    // No hint and no sweep heals what is not published.
    let deaf = ("ENTITLED_PLANTED", "lost_hints_are_not_missed");
    let server = Process::start(&world, "start", &[deaf]).await;
    server.serves(&mut world);
    let alice = world.person("alice").await;
    let yearly = world.buy_apple("alice", YEARLY, None).await;
    let bound = alice.bind_apple(&yearly.signed_transaction).await;
    bound.expect("bound");
    let mut phone = Device::open(alice.client.clone()).await;
    assert!(is_active(&phone.latest, "export"));
    let less = world.write("less.toml", &without_export());
    let agreed = ["--replaces", "1", "--confirm-loss", "1"];
    let apply = [&["apply", &less][..], &agreed].concat();
    let applied = world.catalog(&apply);
    applied.await.expect("applied");
    phone.until_inactive("export").await;
    world.stop().await;
}
