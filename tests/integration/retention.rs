//! What is no longer needed goes; what decides stays.

use std::time::Duration;

use crate::process::eventually;
use crate::scene::{MONTHLY, READER, WORKER};
use crate::support::World;

const AGED: [&str; 4] = [
    "update raw_notifications set received_at = received_at - interval '500 days'",
    "update ingress_keys set last_received_at = last_received_at - interval '500 days',
         first_received_at = first_received_at - interval '500 days'",
    "update ownership_claims set decided_at = decided_at - interval '500 days'",
    "update source_activity set hour = hour - interval '500 days'",
];

const KEPT: &str = "select jsonb_build_array(
    (select count(*) from subscription_events), (select count(*) from transactions),
    (select count(*) from entitlement_snapshots), (select count(*) from purchase_chains))::text";
const TRIMMED: &str = "select (select count(*) from raw_notifications)
    + (select count(*) from ingress_keys) + (select count(*) from ownership_claims)";

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_go_by_their_settings_and_replay_still_agrees() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    let bought = world.buy_apple("alice", MONTHLY, token).await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    world.settled().await;
    world.command(&["resync", "dev:alice"]).await;
    world.settled().await;

    let refused = world.refuses("delete from store_answers").await;
    assert!(refused.contains("append-only"), "{refused}");
    let fresh = world.count(TRIMMED).await;
    world.command(&["retention"]).await;
    assert_eq!(world.count(TRIMMED).await, fresh, "nothing is old");

    let pool = world.tables().await;
    for statement in AGED {
        sqlx::query(statement)
            .execute(&pool)
            .await
            .expect(statement);
    }
    // An answer is never changed: as if all but the newest had come long ago.
    sqlx::query("alter table store_answers disable trigger all")
        .execute(&pool)
        .await
        .expect("for the test");
    sqlx::query(
        "update store_answers set fetched_at = fetched_at - interval '500 days'
         where id < (select max(id) from store_answers)",
    )
    .execute(&pool)
    .await
    .expect("aged");
    sqlx::query("alter table store_answers enable trigger all")
        .execute(&pool)
        .await
        .expect("as it was");
    pool.close().await;
    let answers = world.count("select count(*) from store_answers").await;
    assert!(answers >= 2, "asked again");

    let (kept, old) = (world.row(KEPT).await, world.count(TRIMMED).await);
    let dry = world.command(&["retention", "--dry-run"]).await;
    assert!(dry.contains("would go"), "{dry}");
    assert_eq!(world.count(TRIMMED).await, old, "a dry run deletes nothing");

    world.command(&["retention"]).await;
    assert_eq!(world.count(TRIMMED).await, 0);
    let left = "select count(*) from store_answers";
    assert_eq!(world.count(left).await, 1, "the newest stays");
    assert_eq!(world.row(KEPT).await, kept);
    let replayed = world.command(&["replay", "dev:alice", "--dry-run"]).await;
    assert!(replayed.contains("0 differences"), "{replayed}");
    assert!(replayed.contains("trimmed"), "{replayed}");
    world.stop().await;
}

/// Old rows of two purchases and of one account, the last of each to stay; and very many more.
const FILLED: &str = "
    set session_replication_role = replica;
    insert into store_answers (chain_id, fetched_at, calls, statuses, bodies)
        select ('00000000-0000-0000-0000-00000000000' || n % 2)::uuid, now() - interval '900 days',
               '{}', '{}', '{}' from generate_series(1, 6) n;
    insert into snapshot_history (account_id, revision, at, catalog_version, body)
        select '00000000-0000-0000-0000-000000000003', n, now() - interval '900 days', 1, '{}'
        from generate_series(1, 4) n;
    insert into source_activity (source, hour, received)
        select 'app_store', now() - interval '900 days' - n * interval '1 hour', 1
        from generate_series(1, 300) n;
    set session_replication_role = default;
    delete from job_cursors where job = 'retention'";
const LEFT: &str = "select concat_ws(' ', (select count(*) from store_answers),
    (select string_agg(revision::text, ' ') from snapshot_history
     where account_id = '00000000-0000-0000-0000-000000000003'))";
const ACTIVITY: &str =
    "select count(*) from source_activity where hour < now() - interval '899 days'";
const HELD: &str = "select lease_until::text from job_cursors where job = 'retention'";
const ANOTHERS: &str = "update job_cursors set lease_until = clock_timestamp() + interval '1 hour'
    where job = 'retention'";

#[tokio::test(flavor = "multi_thread")]
async fn a_long_round_goes_on_in_small_steps_as_long_as_it_is_this_replicas_turn() {
    let world = World::with(|options| options.roles = READER).await;
    let pool = world.tables().await;
    let filled = sqlx::raw_sql(FILLED).execute(&pool).await;
    filled.expect("filled");
    let replica = world
        .replica(WORKER, |config| {
            config.retention.batch_rows = 1;
            config.retention.pause_milliseconds = 50;
        })
        .await;
    eventually("the round has come so far", async || {
        world.count(ACTIVITY).await < 290
    })
    .await;
    assert_eq!(world.row(LEFT).await, "2 4", "the newest of each");
    let held = world.row(HELD).await;
    let further = world.count(ACTIVITY).await - 5;
    eventually("the round goes on", async || {
        world.count(ACTIVITY).await < further
    })
    .await;
    assert_ne!(world.row(HELD).await, held, "renewed");

    sqlx::query(ANOTHERS)
        .execute(&pool)
        .await
        .expect("another replica's turn");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let left = world.count(ACTIVITY).await;
    assert!(left > 0);
    let held = world.row(HELD).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.count(ACTIVITY).await, left, "left to the other");
    assert_eq!(world.row(HELD).await, held);
    replica.stop().await;
    pool.close().await;
    world.stop().await;
}
