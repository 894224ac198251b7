//! What was true then, and what is told page by page.

use chrono::{DateTime, Utc};
use entitled::proto::{
    ExplainEntitlementRequest, GetEntitlementsRequest, ListTransactionsRequest, ReplayRequest,
    TimelineLayer,
};
use prost_types::Timestamp;
use sqlx::postgres::PgPoolOptions;
use tonic::Code;

use super::{Operator, token};
use crate::process::eventually;
use crate::scene::{MONTHLY, period};
use crate::support::{World, assert_refused, is_active, start};

fn at(at: DateTime<Utc>) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: at.timestamp(),
        nanos: 0,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_true_at_a_past_moment_is_told_as_it_was() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    world.stores().advance(period("P10D")).await.expect("time");
    world
        .stores()
        .refund_app_store(&bought.transaction_id)
        .await
        .expect("refunded");
    world.stores().advance(period("P2D")).await.expect("time");
    world.settled().await;

    let mut backend = world.client_with_token(&world.service_token()).await.inner;
    let mut read = async |moment| {
        let request = GetEntitlementsRequest {
            account: "dev:alice".into(),
            as_of: moment,
            ..Default::default()
        };
        backend.get_entitlements(request).await
    };
    let before = start() - chrono::TimeDelta::days(1);
    let during = start() + chrono::TimeDelta::days(5);
    let after = start() + chrono::TimeDelta::days(11);
    for (moment, active) in [(before, false), (during, true), (after, false)] {
        let told = read(at(moment)).await.expect("a past").into_inner();
        assert_eq!(
            is_active(&told.snapshot.expect("a snapshot"), "pro_access"),
            active,
            "{moment}"
        );
        assert_eq!(told.as_of, at(moment));
    }
    let future = read(at(start() + chrono::TimeDelta::days(40))).await;
    assert_refused(
        &future.expect_err("not yet"),
        Code::InvalidArgument,
        "REQUEST_INVALID",
    );

    // The reasons of then, too.
    let mut sue = Operator::of(&world).await;
    let request = ExplainEntitlementRequest {
        account: "dev:alice".into(),
        entitlement: "pro_access".into(),
        at: at(during),
    };
    let why = sue.support.explain_entitlement(request).await;
    let why = why.expect("an explanation").into_inner();
    assert_eq!(
        (why.active, why.reason.as_str()),
        (true, "subscription"),
        "{}",
        why.sentence
    );

    // Once retention has taken the beginning, nobody guesses.
    let pool = world.tables().await;
    sqlx::query("delete from snapshot_history where revision = 1")
        .execute(&pool)
        .await
        .expect("trimmed");
    pool.close().await;
    let trimmed = read(at(before)).await;
    assert_refused(
        &trimmed.expect_err("not kept"),
        Code::OutOfRange,
        "AS_OF_UNAVAILABLE",
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_cover_everything_once_and_a_device_sees_no_ids_of_the_store() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let bought = world.buy_apple("alice", MONTHLY, None).await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    world.stores().advance(period("P5M")).await.expect("time");
    world.settled().await;

    let mut sue = Operator::of(&world).await;
    let story = sue.story("dev:alice", &[]).await;
    let times: Vec<(i64, i32)> = story
        .iter()
        .map(|entry| entry.at.expect("a time"))
        .map(|at| (at.seconds, at.nanos))
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    for layer in [
        TimelineLayer::Notification,
        TimelineLayer::Claim,
        TimelineLayer::Answer,
        TimelineLayer::Decision,
        TimelineLayer::Owner,
        TimelineLayer::Snapshot,
        TimelineLayer::Transaction,
    ] {
        assert!(
            story.iter().any(|entry| entry.layer() == layer),
            "{layer:?}: {story:?}"
        );
        let only = sue.story("dev:alice", &[layer]).await;
        let expected = story.iter().filter(|entry| entry.layer() == layer);
        assert_eq!(only.len(), expected.count(), "{layer:?}");
    }

    let device = world.token("alice");
    let mut device = Operator::with(&world, &device).await.purchases;
    let mut seen = 0;
    let mut page_token = String::new();
    loop {
        let request = ListTransactionsRequest {
            page_size: 2,
            page_token: page_token.clone(),
            ..Default::default()
        };
        let page = device.list_transactions(request).await.expect("a page");
        let page = page.into_inner();
        for row in &page.transactions {
            let amount = row.amount.clone().expect("an amount");
            assert!(
                amount.micros > 0 && amount.currency_code == "USD",
                "{row:?}"
            );
            assert_eq!(
                (
                    row.store_transaction_id.as_str(),
                    row.account_id.as_str(),
                    row.purchase_id.as_str()
                ),
                ("", "", "")
            );
        }
        seen += page.transactions.len();
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    assert_eq!(seen, 6, "one purchase, five renewals");
    // A token of one question is none of another's.
    let request = ListTransactionsRequest {
        page_size: 2,
        page_token,
        since: at(start()),
        ..Default::default()
    };
    let refused = device.list_transactions(request).await;
    assert_refused(
        &refused.expect_err("another question"),
        Code::InvalidArgument,
        "REQUEST_INVALID",
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_reads_again_what_an_older_version_could_not_and_repeats_no_effect() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    world.settled().await;
    // As an older version would have left it.
    let pool = world.tables().await;
    sqlx::query(
        "update raw_notifications set status = 'failed', kind = null, chain_id = null,
                resolved_seq = null, detail = 'unknown to that version'",
    )
    .execute(&pool)
    .await
    .expect("an older version");
    pool.close().await;

    let effects =
        "select (select count(*) from transactions) || ' ' || (select count(*) from duties)
                   || ' ' || (select count(*) from ingress_keys)";
    let before = world.row(effects).await;
    let mut sue = Operator::with(&world, &token(&world, "sue", "entitled.operator")).await;
    let mut replay = async |apply: bool| {
        let mut differences = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ReplayRequest {
                source: "app_store".into(),
                apply,
                page_size: 1,
                page_token,
                ..Default::default()
            };
            let page = sue.support.replay(request).await.expect("a page");
            let page = page.into_inner();
            differences.extend(page.differences);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return differences;
            }
        }
    };
    let dry = replay(false).await;
    assert!(!dry.is_empty());
    assert!(dry.iter().all(|difference| !difference.applied));
    assert!(dry[0].what.contains("unknown to that version"), "{dry:?}");
    let failed = "select count(*) from raw_notifications where status = 'failed'";
    assert!(world.count(failed).await > 0, "a dry run changes nothing");

    let applied = replay(true).await;
    assert_eq!(applied.len(), dry.len());
    assert!(applied.iter().all(|difference| difference.applied));
    world.settled().await;
    assert_eq!(world.count(failed).await, 0);
    assert!(replay(false).await.is_empty(), "nothing is left to do");
    assert_eq!(world.row(effects).await, before);
    world.stop().await;
}

/// Rows of `transactions` that statements have read so far, and how often one read them all.
async fn read_so_far(world: &mut World, pool: &sqlx::PgPool) -> (i64, i64) {
    // What a connection has read it tells at its end at the latest: another server takes over.
    let servers: Vec<i32> = sqlx::query_scalar(
        "select pid from pg_stat_activity where datname = current_database()
             and backend_type = 'client backend' and pid <> pg_backend_pid()",
    )
    .fetch_all(pool)
    .await
    .expect("connections");
    world.rest().await;
    eventually("their connections have ended", async || {
        let left = "select not exists (select 1 from pg_stat_activity where pid = any($1))";
        let left = sqlx::query_scalar(left).bind(&servers).fetch_one(pool);
        left.await.expect("connections")
    })
    .await;
    // Our own tells it when asked to.
    sqlx::query("select pg_stat_force_next_flush()")
        .execute(pool)
        .await
        .expect("told");
    sqlx::query_as(
        "select coalesce(idx_tup_fetch, 0) + seq_tup_read, seq_scan
         from pg_stat_user_tables where relname = 'transactions'",
    )
    .fetch_one(pool)
    .await
    .expect("statistics")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_charges_reads_no_more_rows_than_it_tells() {
    let mut world = World::start().await;
    let alice = world.person("alice").await;
    let bought = world.buy_apple("alice", MONTHLY, None).await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    world.settled().await;
    world.hold().await;
    // One connection, so that what it has read itself is told before it asks.
    let only = PgPoolOptions::new().max_connections(1);
    let pool = only.connect(&world.database_url).await.expect("connected");
    for statement in [
        "insert into purchase_chains (id, provider, app, head_kind, head_value, created_at)
         select gen_random_uuid(), provider, app, head_kind, 'other-' || n, created_at
         from purchase_chains, generate_series(1, 1000) as n",
        "insert into transactions (chain_id, transaction_id, product_id, environment, purchased_at,
             account_id)
         select c.id, 'other-' || n, product_id, environment,
                purchased_at + n * interval '1 second', gen_random_uuid()
         from purchase_chains c, transactions t, generate_series(1, 50) as n
         where c.id <> t.chain_id",
        "analyze purchase_chains",
        "analyze transactions",
    ] {
        sqlx::query(statement)
            .execute(&pool)
            .await
            .expect("many more");
    }
    let before = read_so_far(&mut world, &pool).await;
    let mut device = Operator::with(&world, &world.token("alice")).await;
    let told = device
        .purchases
        .list_transactions(ListTransactionsRequest::default())
        .await
        .expect("hers")
        .into_inner();
    assert_eq!(told.transactions.len(), 1);
    let after = read_so_far(&mut world, &pool).await;
    pool.close().await;
    assert_eq!(after.1, before.1, "no statement may read all charges");
    assert!(after.0 - before.0 < 20, "{before:?} {after:?}");
    world.stop().await;
}
