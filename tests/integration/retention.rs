//! What is no longer needed goes; what decides stays.

use crate::scene::MONTHLY;
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
