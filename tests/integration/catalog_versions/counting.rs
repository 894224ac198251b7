//! Who loses is counted when it counts: as the version is written, and with those who come back.

use chrono::TimeDelta;
use entitled::sandbox::{Billing, GooglePlayBuy};

use super::{without, without_export};
use crate::process::eventually;
use crate::scene::{MONTHLY, YEARLY, google_buy};
use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn who_pays_between_the_counting_and_the_writing_is_counted() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let monthly = world.buy_apple("alice", MONTHLY, None).await;
    let bound = alice.bind_apple(&monthly.signed_transaction).await;
    bound.expect("bound");
    let bob = world.person("bob").await;
    let yearly = world.buy_apple("bob", YEARLY, None).await;
    let less = world.write("less.toml", &without_export());
    let pool = world.tables().await;
    let mut held = pool.begin().await.expect("a transaction");
    sqlx::query("lock table catalog_versions in share mode")
        .execute(&mut *held)
        .await
        .expect("held");
    // Everybody is counted, and nobody loses, when bob's purchase comes.
    let meanwhile = async {
        eventually("it is about to be written", async || {
            let waiting = "select count(*) from pg_locks
                where relation = 'catalog_versions'::regclass and not granted";
            world.count(waiting).await == 1
        })
        .await;
        let bound = bob.bind_apple(&yearly.signed_transaction).await;
        bound.expect("bound");
        held.commit().await.expect("released");
    };
    let arguments = ["apply", less.as_str()];
    let (applied, ()) = tokio::join!(world.catalog(&arguments), meanwhile);
    pool.close().await;
    let refused = applied.expect_err("bob would lose");
    assert!(
        refused.contains("1 paying accounts would lose something; nothing was changed"),
        "{refused}"
    );
    assert_eq!(world.versions().await.len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pays_again_later_counts_as_losing() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let monthly = world.buy_apple("alice", MONTHLY, None).await;
    let bound = alice.bind_apple(&monthly.signed_transaction).await;
    bound.expect("bound");
    let end = world.stores().purchases("alice")[0].expires_at;
    let failing = world
        .stores()
        .set_app_store_billing(&monthly.original_transaction_id, Billing::Fails);
    failing.await.expect("fails");
    let on_hold = end.expect("an end") + TimeDelta::days(17);
    let later = world.stores().advance_to(on_hold);
    later.await.expect("on hold");
    for (name, product) in [("bob", "premium-monthly"), ("carol", "coins_100")] {
        let person = world.person(name).await;
        let pending = GooglePlayBuy {
            pending: true,
            ..google_buy(name, product, None)
        };
        let pending = world.stores().buy_google_play(&pending);
        let pending = pending.await.expect("ordered");
        let bound = person.bind_google(&pending.purchase_token).await;
        bound.expect("bound");
    }
    world.settled().await;
    let gone = world.write("gone.toml", &without(&["pro_monthly", "coins_100"]));
    let refused = world.catalog(&["apply", &gone]).await;
    let refused = refused.expect_err("they come back");
    for expected in [
        "nobody gains or loses anything",
        "3 of them pay with real money and lose something",
        "3 of these lose nothing today: they have it on hold, paused or not paid yet",
        "repeat with --replaces 1 --confirm-loss 3",
    ] {
        assert!(refused.contains(expected), "{expected}: {refused}");
    }
    // What they wait for is sold as before: they lose nothing.
    let other = world.write("other.toml", &without(&["pro_yearly"]));
    let planned = world.catalog(&["apply", &other, "--dry-run"]).await;
    let planned = planned.expect("counted");
    assert!(!planned.contains("lose something"), "{planned}");
    world.stop().await;
}
