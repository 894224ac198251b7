//! What was never delivered is found, outages and restores are noticed, silence is told.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use entitled::app::Roles;
use entitled::proto::InactiveReason;
use entitled::sandbox::{AppStoreBuy, Endpoint, Outage, Store};

use crate::process::eventually;
use crate::scene::{EXPORT, MONTHLY, off, pro, webhooks_at};
use crate::support::World;

/// Reads `query` until it gives `wanted`: a store that was away is looked at after thirty seconds.
async fn until(world: &World, query: &'static str, wanted: i64) {
    let what = format!("{query} gives {wanted}");
    eventually(&what, async || world.count(query).await == wanted).await;
}

/// The same where nothing is counted yet.
const LAST_WALKS: &str = "select count(*) from job_cursors where job = 'sweep'
                          and cursor ->> 'covered_until' is not null";
/// Up to when Google has been asked for what it could not tell.
const LOOKED_UNTIL: &str =
    "select extract(epoch from (cursor ->> 'covered_until')::timestamptz)::bigint::text
                            from job_cursors where job = 'sweep' and subject like 'google_play/%'";

impl World {
    /// The stores speak, and nobody is there.
    fn unreachable(&self) {
        let nowhere = webhooks_at("http://127.0.0.1:9");
        self.stores().set_webhooks(nowhere).expect("told");
    }

    fn reachable(&self) {
        let url = self.stack.app.webhooks_url().expect("webhooks");
        self.stores().set_webhooks(webhooks_at(&url)).expect("told");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_that_nobody_told_is_found_by_the_hourly_look() {
    let world = World::start().await;
    let mut phone = world.device("alice").await;
    let account = phone.latest.account.clone().expect("an account");
    let bought = world
        .buy_google("alice", "premium-monthly", Some(&account.store_token))
        .await;
    phone.until_active("pro_access").await;
    world.settled().await;
    until(&world, LAST_WALKS, 2).await;
    world.hold().await;
    world
        .stores()
        .refund_google_play(&bought.purchase_token)
        .await
        .expect("refunded");
    let hours = TimeDelta::hours(2);
    world.stores().advance_by(hours).await.expect("later");
    phone.until_inactive("pro_access").await;
    assert_eq!(pro(&phone.latest), off(InactiveReason::Refunded));
    let found = "select count(*) from raw_notifications where swept";
    assert_eq!(world.count(found).await, 1);
    let story = world.command(&["timeline", "dev:alice"]).await;
    let swept = "found by asking the store, not delivered";
    assert!(story.contains(swept), "{story}");
    // Told at last, and looked at again: nothing happens twice.
    world.stores().hold_deliveries(false).await.expect("told");
    world.settled().await;
    let hours = TimeDelta::hours(2);
    world.stores().advance_by(hours).await.expect("later");
    let hour = world.stores().now() - TimeDelta::hours(1);
    eventually("Google is looked at again", async || {
        let until: i64 = world.row(LOOKED_UNTIL).await.parse().expect("seconds");
        until > hour.timestamp()
    })
    .await;
    assert_eq!(world.count(found).await, 1, "the same void is the same row");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_apple_could_not_tell_is_fetched_from_its_history() {
    let world = World::start().await;
    let mut phone = world.device("alice").await;
    let account = phone.latest.account.clone().expect("an account");
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&account.store_token))
        .await;
    phone.until_active("pro_access").await;
    world.settled().await;
    until(&world, LAST_WALKS, 2).await;
    world.unreachable();
    world
        .stores()
        .refund_app_store(&bought.transaction_id)
        .await
        .expect("refunded");
    let minute = TimeDelta::minutes(1);
    world.stores().advance_by(minute).await.expect("tried");
    let printed = world
        .command(&["backfill", "--since", "2027-01-09T00:00:00Z"])
        .await;
    assert!(printed.contains("1 found, 1 new, done"), "{printed}");
    phone.until_inactive("pro_access").await;
    // Without the filter everything is told, and nothing is new.
    let printed = world
        .command(&["backfill", "--since", "2027-01-09T00:00:00Z", "--all"])
        .await;
    assert!(printed.contains("2 found, 0 new, done"), "{printed}");
    // Apple tries again: the same notification.
    world.reachable();
    let hours = TimeDelta::hours(2);
    world.stores().advance_by(hours).await.expect("later");
    world.settled().await;
    let rows = "select count(*) from raw_notifications where source = 'app_store'";
    assert_eq!(world.count(rows).await, 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_ours_and_a_restore_are_noticed_by_themselves() {
    let mut world = World::start().await;
    until(&world, LAST_WALKS, 2).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    world
        .restart(|config| config.healing.outage_after_seconds = 1)
        .await;
    let outage = "select count(*) from job_cursors where job = 'sweep'
                  and cursor #>> '{last,why}' = 'outage'";
    until(&world, outage, 2).await;
    let pool = world.tables().await;
    sqlx::query("update deployment set epoch = gen_random_uuid()")
        .execute(&pool)
        .await
        .expect("as after a restore");
    pool.close().await;
    world.restart(|_| {}).await;
    let restored = "select count(*) from job_cursors where job = 'sweep'
                    and cursor #>> '{last,why}' = 'restore'";
    until(&world, restored, 2).await;
    let all = "select count(*) from job_cursors where job = 'sweep' and subject like 'app_store%'
               and cursor #>> '{last,only_failures}' = 'false'";
    assert_eq!(
        world.count(all).await,
        1,
        "what had reached us is forgotten"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s13_a_source_that_falls_silent_is_noticed() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    world.buy_google("alice", "premium-monthly", token).await;
    world.settled().await;
    let pool = world.tables().await;
    sqlx::query(
        "insert into source_activity (source, hour, received)
         select 'google_play', hour, 40 from generate_series(
             timestamptz '2026-12-27 00:00+00', timestamptz '2027-01-10 08:00+00',
             interval '1 hour') as hour",
    )
    .execute(&pool)
    .await
    .expect("two weeks of history");
    pool.close().await;
    let doctor = world.command(&["doctor"]).await;
    assert!(!doctor.contains("nothing from"), "{doctor}");
    world.hold().await;
    let hours = TimeDelta::hours(3);
    world.stores().advance_by(hours).await.expect("later");
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_entitled"))
        .args(["doctor", "--json", "--config"])
        .arg(&world.stack.address.config)
        .output()
        .await
        .expect("the program runs");
    assert!(!output.status.success(), "silence is a failure");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        printed.contains("nothing from google_play for 3 h (usually 40 an hour)"),
        "{printed}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_chains_to_be_read_again_hold_up_no_bind() {
    let mut world = World::start().await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    world.hold().await;
    let bought = world.buy_apple("alice", EXPORT, token).await;
    let pool = world.tables().await;
    sqlx::query(
        "with made as (
             insert into purchase_chains (id, provider, app, head_kind, head_value,
                 owner_account_id, owner_since, next_check_at, created_at)
             select gen_random_uuid(), 'app_store', 'example-ios', 'original_transaction_id',
                 (9000000000 + n)::text, $1::uuid, timestamptz '2027-01-01', timestamptz '2027-01-01',
                 timestamptz '2027-01-01' from generate_series(1, 10000) as n
             returning id, provider, app, head_kind, head_value)
         insert into chain_aliases (provider, app, kind, value, chain_id)
         select provider, app, head_kind, head_value, id from made",
    )
    .bind(alice.account.parse::<uuid::Uuid>().expect("an id"))
    .execute(&pool)
    .await
    .expect("chains that are long due");
    pool.close().await;
    let began = Instant::now();
    world
        .restart(|config| config.worker.app_store_calls_per_second = 10)
        .await;
    let alice = world.person("alice").await;
    let calls = |world: &World| -> u64 {
        let apple = [
            Endpoint::AppleStatuses,
            Endpoint::AppleTransaction,
            Endpoint::AppleHistory,
        ];
        apple
            .into_iter()
            .map(|endpoint| world.calls(endpoint))
            .sum()
    };
    // What the bucket held is spent, down to what is left for signals and binds; or this machine is
    // too slow to spend it.
    let spent = "select count(*) from store_budgets where provider = 'app_store' and tokens < 40";
    eventually("the calls are spent", async || {
        calls(&world) > 100 || world.count(spent).await == 1
    })
    .await;
    let (before, bind) = (calls(&world), Instant::now());
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    // It stood behind none of them: at its first try there was a call left for it.
    let meanwhile = calls(&world) - before;
    assert!(meanwhile < 100, "the bind waited for {meanwhile} calls");
    let its_own = "select claim_no from purchase_chains where created_at > '2027-01-02'";
    assert_eq!(world.count(its_own).await, 1, "the bind had to come again");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let made = calls(&world) - before;
    let lasted = bind.elapsed();
    let allowed = 10 * (lasted.as_secs() + 4);
    assert!(made <= allowed, "{made} calls in {lasted:?}");
    // Who finds no call left rests for two seconds at least.
    let spun = "select max(claim_no) from purchase_chains";
    let claims = world.count(spun).await;
    let lasted = began.elapsed();
    assert!(
        claims.unsigned_abs() <= lasted.as_secs() / 2 + 2,
        "a chain was claimed {claims} times for nothing in {lasted:?}"
    );
    world.stop().await;
}

/// Notifications of Apple that nobody got: more than four pages of its history.
const UNDELIVERED: i64 = 90;
const PAGES: i64 = 5;

impl World {
    async fn ninety_purchases_that_nobody_hears_of(&self) {
        self.unreachable();
        for number in 0..UNDELIVERED {
            let buy = AppStoreBuy {
                customer: format!("customer-{number}"),
                product_id: EXPORT.into(),
                ..AppStoreBuy::default()
            };
            self.stores().buy_app_store(&buy).await.expect("bought");
        }
        let minute = TimeDelta::minutes(1);
        self.stores().advance_by(minute).await.expect("tried");
    }

    /// As `backfill` does, without walking itself.
    async fn ask_for_backfill(&self) {
        let pool = self.tables().await;
        sqlx::query(
            "update job_cursors set asked = jsonb_build_object('since', '2027-01-09T00:00:00Z',
                 'only_failures', true, 'why', 'operator')
             where job = 'sweep' and subject like 'app_store/%'",
        )
        .execute(&pool)
        .await
        .expect("asked");
        pool.close().await;
    }

    fn looked(&self) -> u64 {
        self.calls(Endpoint::AppleNotificationHistory)
    }

    /// Waits until the operator's walk through Apple's history is over; its figures.
    async fn walked(&self) -> String {
        let over = async || self.row(WALKED).await.starts_with("operator");
        eventually("the backfill is over", over).await;
        self.row(WALKED).await
    }
}

const SWEPT: &str = "select count(*) from raw_notifications where swept";
const WALKED: &str = "select concat_ws(' ', cursor #>> '{last,why}', cursor #>> '{last,pages}',
                          cursor #>> '{last,found}', cursor #>> '{last,recovered}')
                      from job_cursors where job = 'sweep' and subject like 'app_store/%'";

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_was_interrupted_is_taken_up_by_another_process_where_it_stood() {
    let mut world = World::start().await;
    until(&world, LAST_WALKS, 2).await;
    world.ninety_purchases_that_nobody_hears_of().await;
    world.ask_for_backfill().await;
    let begun = "select coalesce(max((cursor #>> '{run,pages}')::bigint), 0) from job_cursors
                 where job = 'sweep' and cursor #>> '{run,why}' = 'operator'";
    eventually("the walk is begun", async || world.count(begun).await > 0).await;
    let down = Some(Outage::Down503);
    world.stores().set_outage(Store::AppStore, down);
    // A look that has failed leaves nothing behind that another process would have to wait for.
    let looked = world.looked();
    let held = "select count(*) from job_cursors where job = 'sweep'
                and subject like 'app_store/%' and lease_until > clock_timestamp()";
    eventually("the next look has failed", async || {
        world.looked() > looked && world.count(held).await == 0
    })
    .await;
    world.rest().await;
    let stood = world.count(begun).await;
    assert!((1..PAGES).contains(&stood), "interrupted after {stood}");
    assert!(world.count(SWEPT).await < UNDELIVERED);
    world.stores().set_outage(Store::AppStore, None);
    world.restart(|_| {}).await;
    world.unreachable();
    until(&world, SWEPT, UNDELIVERED).await;
    // No page twice: it went on where the first process had been.
    let walked = format!("operator {PAGES} {UNDELIVERED} {UNDELIVERED}");
    assert_eq!(world.walked().await, walked);
    world.settled().await;
    let chains = "select count(*) from purchase_chains";
    assert_eq!(world.count(chains).await, UNDELIVERED);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_on_one_sweep_take_every_page_once() {
    let world = World::start().await;
    until(&world, LAST_WALKS, 2).await;
    let second = world.replica(Roles::ALL, |_| {}).await;
    world.ninety_purchases_that_nobody_hears_of().await;
    let before = world.looked();
    world.ask_for_backfill().await;
    until(&world, SWEPT, UNDELIVERED).await;
    let walked = format!("operator {PAGES} {UNDELIVERED} {UNDELIVERED}");
    assert_eq!(world.walked().await, walked);
    assert_eq!(world.looked() - before, PAGES.unsigned_abs());
    world.settled().await;
    second.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_reads_again_what_the_books_have_lost() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let mut phone = world.client("alice").await;
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    world
        .stores()
        .advance_by(TimeDelta::days(40))
        .await
        .expect("renewed");
    world.settled().await;
    world
        .stores()
        .refund_app_store(&bought.transaction_id)
        .await
        .expect("refunded");
    world.settled().await;
    let refunds = || world.calls(Endpoint::AppleRefunds);
    assert_eq!(refunds(), 0, "the history tells them");
    let money = "select coalesce(string_agg(concat_ws(' ', kind, transaction_id, amount_micros,
                     refund_kind), ', ' order by kind, transaction_id), '') from transactions";
    let before = world.row(money).await;
    assert!(before.contains(" full"), "{before}");
    // As after a restore of some tables only.
    let pool = world.tables().await;
    let lost = sqlx::query("delete from transactions").execute(&pool).await;
    assert_eq!(lost.expect("lost").rows_affected(), 3);
    pool.close().await;
    phone.refresh().await.expect("refreshed");
    world.settled().await;
    assert_ne!(world.row(money).await, before, "a read of the news");
    world.command(&["resync", "dev:alice"]).await;
    world.settled().await;
    assert_eq!(world.row(money).await, before);
    assert_eq!(refunds(), 1);
    world.stop().await;
}
