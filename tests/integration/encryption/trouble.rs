//! Keys that are gone, lost, contested or half rotated: one document harms no other, nothing is
//! acknowledged that could not be opened, and a lost key stops nobody for ever.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use entitled::sandbox::DeliveryState;

use super::keys;
use crate::privacy::erase;
use crate::process::{Keeper, NOBODY, eventually};
use crate::scene::{MONTHLY, READER, period};
use crate::support::{World, is_active};

const CURRENT: &str = "select id::text from root_keys where retired_at is null";
const ROOTS: &str = "select count(*) from root_keys";

fn section(files: &[&Path]) -> String {
    let lines = files
        .iter()
        .map(|file| format!("[[keys]]\nfile = {:?}\n", file.to_str().expect("a path")));
    lines.collect()
}

impl World {
    async fn new_key(&self, name: &str) -> PathBuf {
        let file = self.beside(name);
        let out = file.to_str().expect("a path");
        let made = Command::new(env!("CARGO_BIN_EXE_entitled"))
            .args(["encryption", "new-key", "--out", out])
            .stdout(Stdio::null())
            .status();
        assert!(made.expect("the program runs").success());
        file
    }

    async fn alter(&self, statements: &'static str) {
        let pool = self.tables().await;
        let altered = sqlx::raw_sql(statements).execute(&pool).await;
        altered.expect("altered");
        pool.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_whose_key_is_gone_stops_no_other() {
    let world = World::start().await;
    for name in ["alice", "bob"] {
        world.buys_monthly(name).await;
    }
    // One waits under a root key that has no row, one under a purchase's key that does not open.
    world
        .alter(
            "update chain_keys set wrapped = '\\x0102' where id =
                 (select chain_key_id from raw_notifications order by id desc limit 1);
             update raw_notifications set status = 'sealed'
             where id = (select id from raw_notifications order by id desc limit 1);
             update raw_notifications
             set status = 'sealed', chain_key_id = null, root_id = gen_random_uuid()
             where id = (select id from raw_notifications order by id limit 1);",
        )
        .await;
    world.settled().await;
    let told = "select string_agg(detail, '; ' order by id) from raw_notifications
        where status = 'failed'";
    let told = world.row(told).await;
    assert!(
        told.contains("the root key that it hangs on is gone")
            && told.contains("not sealed in a way"),
        "{told}"
    );
    world.buys_monthly("carol").await;
    let carol = world.person("carol").await;
    assert!(is_active(&carol.now().await, "pro_access"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_hang_on_a_key_that_is_gone_is_not_taken() {
    let world = World::still().await;
    world.hold().await;
    world.buy_apple("alice", MONTHLY, None).await;
    let id = world.said().pop().expect("a notification");
    world
        .alter("create table spare as table root_keys; delete from root_keys;")
        .await;
    let _ = world.stores().deliver(&id).await;
    let kept =
        "select (select count(*) from raw_notifications) + (select count(*) from ingress_keys)";
    assert_eq!(world.count(kept).await, 0);
    let record = world
        .stores()
        .notifications()
        .pop()
        .expect("a notification");
    assert_ne!(
        record.state,
        DeliveryState::Delivered,
        "its store sends it again"
    );
    world
        .alter("insert into root_keys table spare; drop table spare;")
        .await;
    world.deliver(&id).await;
    world.settled().await;
    assert_eq!(world.count(kept).await, 2);
    let read = "select count(*) from raw_notifications where status = 'processed'";
    assert_eq!(world.count(read).await, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_start_at_once_make_one_root_key() {
    let world = World::with(|options| options.roles = NOBODY).await;
    for _ in 0..3 {
        world.alter("delete from root_keys").await;
        let start = || world.replica(READER, |_| {});
        let started = futures::join!(start(), start(), start(), start());
        assert_eq!(world.count(ROOTS).await, 1);
        futures::join!(
            started.0.stop(),
            started.1.stop(),
            started.2.stop(),
            started.3.stop()
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_go_one_after_another_and_each_new_key_has_a_root_of_its_own() {
    let mut world = World::start().await;
    world.buys_monthly("alice").await;
    let held = sqlx::PgPool::connect(&world.database_url).await;
    let held = held.expect("the test's database");
    let mut other = held.begin().await.expect("a transaction");
    sqlx::query("select pg_advisory_xact_lock(7308907241391094066)")
        .execute(&mut *other)
        .await
        .expect("as a rotation holds it");
    let refused = world.try_command(&["encryption", "rotate"]).await;
    assert!(
        refused
            .as_ref()
            .is_err_and(|told| told.contains("another rotation is under way")),
        "{refused:?}"
    );
    other.rollback().await.expect("over");
    held.close().await;

    // A key that a slow server left behind under the root key before.
    world
        .alter("create table lagging as select id, root_id, wrapped from chain_keys")
        .await;
    world.command(&["encryption", "rotate"]).await;
    assert_eq!(world.count(ROOTS).await, 2);
    world
        .alter(
            "update chain_keys c set root_id = l.root_id, wrapped = l.wrapped
             from lagging l where l.id = c.id; drop table lagging;",
        )
        .await;

    // That is no reason to hang everything on a root key that the old key outside has wrapped.
    let before = world.row(CURRENT).await;
    let (old, new) = (
        world.beside("encryption.key"),
        world.new_key("new.key").await,
    );
    world
        .restart(|config| config.encryption = keys(&[&new, &old]))
        .await;
    world.configure_keys(&section(&[&new, &old]));
    let rotated = world.command(&["encryption", "rotate"]).await;
    assert!(!rotated.contains("interrupted"), "{rotated}");
    assert_ne!(world.row(CURRENT).await, before, "a root key of its own");
    let lagging = "select count(*) from chain_keys
        where wrapped is not null and root_id <> (select id from root_keys where retired_at is null)";
    assert_eq!(world.count(lagging).await, 0);
    world.replays_alike().await;

    // One that died on the way is finished with the root key that it had made.
    world
        .alter("update root_keys set rotation_to = kek where retired_at is null")
        .await;
    let before = world.row(CURRENT).await;
    let rotated = world.command(&["encryption", "rotate"]).await;
    assert!(rotated.contains("interrupted"), "{rotated}");
    assert_eq!(world.row(CURRENT).await, before);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_is_given_up_and_purchases_go_on() {
    let mut world = World::start().await;
    for name in ["alice", "bob"] {
        world.buys_monthly(name).await;
    }
    let lost = world.row("select kek from root_keys").await;
    let abandon = ["encryption", "abandon", &lost];
    let refused = world.try_command(&abandon).await.expect_err("configured");
    assert!(refused.contains("is configured"), "{refused}");
    let new = world.new_key("new.key").await;
    world.configure_keys(&section(&[&new]));
    let refused = world.try_command(&["encryption", "status"]).await;
    let refused = refused.expect_err("the key is missing");
    assert!(
        refused.contains(&format!("abandon {lost} --yes")),
        "{refused}"
    );
    let refused = world
        .try_command(&abandon)
        .await
        .expect_err("not agreed to");
    assert!(refused.contains("nothing was done"), "{refused}");
    let unknown = ["encryption", "abandon", "file:0", "--yes"];
    let refused = world.try_command(&unknown).await.expect_err("no such key");
    assert!(
        refused.contains(&lost),
        "it names what is needed: {refused}"
    );

    let abandon = ["encryption", "abandon", &lost, "--yes"];
    let told = world.command(&abandon).await;
    assert!(told.contains("2 purchases"), "{told}");
    world
        .restart(|config| config.encryption = keys(&[&new]))
        .await;
    world.replays_alike().await;
    let alice = world.person("alice").await;
    assert!(is_active(&alice.now().await, "pro_access"));
    world.buys_monthly("carol").await;
    world
        .stores()
        .advance(period("P1M"))
        .await
        .expect("a month");
    world.settled().await;
    assert!(is_active(&alice.now().await, "pro_access"), "renewed");
    let unread = "select count(*) from raw_notifications where status in ('sealed', 'failed')";
    assert_eq!(world.count(unread).await, 0);
    let told = world.command(&["encryption", "status"]).await;
    assert!(told.contains("only the newest key is needed"), "{told}");
    world.stop().await;
}

/// A command that stops at a named place. None outlives its test.
struct Stopped {
    child: Child,
    keeper: Keeper,
}

impl Stopped {
    async fn at(world: &World, place: &str, arguments: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_entitled"))
            .args(arguments)
            .arg("--config")
            .arg(&world.stack.address.config)
            .env("ENTITLED_STOP_AT", place)
            .stdout(Stdio::null())
            .spawn()
            .expect("the program runs");
        let keeper = Keeper::of(child.id());
        let pid = child.id().to_string();
        eventually("the command stops", async || {
            let state = Command::new("ps")
                .args(["-o", "state=", "-p", &pid])
                .output()
                .expect("ps runs");
            state.stdout.first() == Some(&b'T')
        })
        .await;
        Self { child, keeper }
    }

    fn goes_on(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-CONT", &pid]).status();
        assert!(sent.expect("kill runs").success());
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.keeper.release();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Who seals what was plain makes a key for it, which an erasure that came meanwhile must not miss.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_destroys_what_is_being_sealed() {
    let mut world = World::start().await;
    let key = world.beside("encryption.key");
    world
        .restart(|config| config.encryption.enabled = Some(false))
        .await;
    world.buys_monthly("alice").await;
    world
        .restart(|config| config.encryption = keys(&[&key]))
        .await;
    let sealing = Stopped::at(&world, "before_seal_commit", &["encryption", "seal"]).await;
    let token = world.token("alice");
    let erased = erase(&world, &token, "", "");
    let (erased, ()) = futures::join!(erased, async {
        eventually("the erasure waits for the row", async || {
            world
                .count("select count(*) from pg_locks where not granted")
                .await
                > 0
        })
        .await;
        sealing.goes_on();
    });
    erased.expect("erased");
    let mut sealing = sealing;
    let ended = tokio::task::spawn_blocking(move || sealing.child.wait());
    assert!(ended.await.expect("joined").expect("ended").success());
    let readable = "select (select count(*) from chain_keys where wrapped is not null)
        + (select count(*) from raw_notifications where chain_key_id is null and body <> '')
        + (select count(*) from store_answers where chain_key_id is null and bodies <> '{}')";
    assert_eq!(world.count(readable).await, 0);
    world.stop().await;
}
