//! What one program cannot read: a version that a newer one has applied, an account whose books are
//! spoilt, a decision that was still under way.

use chrono::TimeDelta;

use super::{EXAMPLE, without};
use crate::process::{NOBODY, Process, eventually};
use crate::scene::{EXPORT, YEARLY};
use crate::support::{World, is_active};

#[tokio::test(flavor = "multi_thread")]
async fn a_version_of_a_newer_program_is_named_and_decided_behind() {
    let mut world = World::with(|options| options.roles = NOBODY).await;
    world
        .stores()
        .set_idle_hook(|| Box::pin(std::future::ready(())));
    let create = [
        "key", "create", "ann", "--kind", "operator", "--role", "admin",
    ];
    let admin = world.command(&create).await.trim().to_owned();
    let old = Process::start(&world, "start", &[]).await;
    old.serves(&mut world);
    let alice = world.person("alice").await;
    let pool = world.tables().await;
    let newer = "insert into catalog_versions (body, applied_at, origin)
        select body || E'\\n[lotteries]\\nfirst = 1\\n', applied_at, 'apply' from catalog_versions";
    sqlx::query(newer).execute(&pool).await.expect("applied");

    // Whoever buys is answered, by what this program can read.
    for product in [YEARLY, EXPORT] {
        let bought = world.buy_apple("alice", product, None).await;
        let bound = alice.bind_apple(&bought.signed_transaction).await;
        bound.expect("bound");
    }
    assert!(is_active(&alice.now().await, "export"));
    let decided = "select count(*) from subscription_events where catalog_version > 1";
    assert_eq!(world.count(decided).await, 0);
    let soon = "select count(*) from purchase_chains where next_check_at <= $1";
    let soon = sqlx::query_scalar::<_, i64>(soon)
        .bind(world.stack.clock.now() + TimeDelta::minutes(5))
        .fetch_one(&pool);
    assert_eq!(soon.await.expect("counted"), 2, "and looked at again soon");
    let metrics = old.metrics().await;
    assert!(
        metrics.contains("\nentitled_catalog_unreadable 1"),
        "{metrics}"
    );
    let log = old.whole_log();
    let told = log.matches("a newer catalog cannot be read by this program");
    assert_eq!(told.count(), 1, "once, not for each purchase: {log}");

    // It is that version's fault, not the new file's, here and over the API.
    let more = world.write("more.toml", &format!("{EXAMPLE}\n[entitlements.more]"));
    let apply = ["catalog", "apply", &more];
    for refused in [
        world.try_command(&apply).await,
        world.over_api(&admin, &apply).await,
        world
            .try_command(&["grant", "dev:alice", "export", "--reason", "why"])
            .await,
    ] {
        let refused = refused.expect_err("refused");
        assert!(
            refused.contains("version 2 is active and this program cannot read it"),
            "{refused}"
        );
    }
    let shown = world.catalog(&["show"]).await.expect("shown");
    assert!(shown.contains("[lotteries]"), "{shown}");
    let over = [&apply[..], &["--over-unreadable", "--replaces", "2"]].concat();
    let planned = world
        .try_command(&[&over[..], &["--dry-run"]].concat())
        .await;
    let planned = planned.expect("planned");
    assert!(
        planned.contains("version 2 is active and cannot be read"),
        "{planned}"
    );
    let applied = world.over_api(&admin, &over).await.expect("applied");
    assert!(applied.contains("version 3 is active"), "{applied}");

    // By then there is a program that can read what is active.
    let later = world.stores().advance_by(TimeDelta::minutes(6));
    later.await.expect("later");
    eventually("all are decided by what is active", async || {
        let decided = "select count(distinct chain_id) from subscription_events
            where catalog_version = 3";
        world.count(decided).await == 2
    })
    .await;
    pool.close().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_cannot_be_derived_holds_up_no_version() {
    let mut world = World::with(|options| options.roles = NOBODY).await;
    world
        .stores()
        .set_idle_hook(|| Box::pin(std::future::ready(())));
    let server = Process::start(&world, "start", &[]).await;
    server.serves(&mut world);
    let pool = world.tables().await;
    for name in ["alice", "bob"] {
        let person = world.person(name).await;
        let yearly = world.buy_apple(name, YEARLY, None).await;
        let bound = person.bind_apple(&yearly.signed_transaction).await;
        bound.expect("bound");
    }
    let alice = world.person("alice").await;
    let of_hers = "(select id from purchase_chains where owner_account_id = $1::uuid)";
    let spoil = format!(
        "update store_subscription_state set known = jsonb_build_object('kept', known)
         where chain_id in {of_hers}"
    );
    let run = async |statement: &str| {
        let statement = sqlx::query(sqlx::AssertSqlSafe(statement.to_owned()));
        let done = statement.bind(&alice.account).execute(&pool).await;
        assert_eq!(done.expect("done").rows_affected(), 1);
    };
    run(&spoil).await;

    let more = world.write("more.toml", &format!("{EXAMPLE}\n[entitlements.more]"));
    let agreed = ["--replaces", "1", "--confirm-loss", "1", "--wait"];
    let apply = [&["apply", &more][..], &agreed].concat();
    let left = world.catalog(&apply).await.expect_err("one is left");
    let expected = format!(
        "1 accounts cannot be derived by version 2 and keep what they had; `entitled explain \
         ACCOUNT` and the workers' log tell why: {}",
        alice.account
    );
    assert!(left.contains(&expected), "{left}");
    let active = &world.versions().await[0];
    assert_eq!(
        (&active["version"], &active["behind"], &active["underived"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert!(active["finished_at"].is_string(), "{active}");
    let listed = world.catalog(&["history"]).await.expect("listed");
    assert!(
        listed.contains("all but 1 that cannot be derived"),
        "{listed}"
    );
    // Bob's next purchase, and everything between, is no reason to try hers again.
    let bob = world.person("bob").await;
    let export = world.buy_apple("bob", EXPORT, None).await;
    let bound = bob.bind_apple(&export.signed_transaction).await;
    bound.expect("bound");
    let log = server.whole_log();
    let tried = log.matches("an account cannot come to the newest catalog");
    assert_eq!(tried.count(), 1, "{log}");

    // Mended, and it is time: she comes, too.
    let mend = format!(
        "update store_subscription_state set known = known -> 'kept' where chain_id in {of_hers}"
    );
    run(&mend).await;
    run("update entitlement_snapshots set underived_until = now() where account_id = $1::uuid")
        .await;
    eventually("she has come", async || {
        world.versions().await[0]["behind"] == 0
    })
    .await;
    let all = world.catalog(&["history", "--wait"]).await;
    all.expect("nobody is left");
    pool.close().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_decided_by_the_former_version_is_not_passed_over() {
    let mut world = World::with(|options| options.roles = NOBODY).await;
    world
        .stores()
        .set_idle_hook(|| Box::pin(std::future::ready(())));
    let small = world.write("small.toml", &without(&["coins_100"]));
    world.catalog(&["apply", &small]).await.expect("applied");
    let slow = Process::start(&world, "start", &[("ENTITLED_STOP_AT", "before_commit")]).await;
    slow.serves(&mut world);
    let alice = world.person("alice").await;
    world.hold().await;
    let coins = world.buy_google("alice", "coins_100", None).await;
    // Decided by a version that knows no coins, and not committed.
    let binding = tokio::spawn({
        let alice = alice.clone();
        async move { alice.bind_google(&coins.purchase_token).await }
    });
    slow.stopped().await;
    let full = world.write("full.toml", &format!("{EXAMPLE}\n# All of it.\n"));
    world.catalog(&["apply", &full]).await.expect("applied");
    let worker = Process::start(&world, "worker", &[]).await;
    for _ in 0..5 {
        let active = &world.versions().await[0];
        assert!(active["finished_at"].is_null(), "{active}");
    }
    slow.signal("CONT");
    let bound = binding.await.expect("joined");
    bound.expect("bound");
    world.catalog(&["history", "--wait"]).await.expect("all");
    eventually("the coins are booked", async || {
        let now = alice.now().await;
        now.credits.iter().map(|of| of.balance).sum::<i64>() == 100
    })
    .await;
    assert_eq!(world.versions().await[0]["looked_again"], 1);
    drop((slow, worker));
    world.stop().await;
}
