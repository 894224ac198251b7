//! What an erasure reaches of purchases that are somebody else's by now, and what it leaves to them.

use entitled::sandbox::Store;
use tonic::Code;

use crate::accounts::{Phone, linking::link, store_tokens::register};
use crate::privacy::{dump, erase, export, nothing_is_left};
use crate::scene::{MONTHLY, Person, period};
use crate::support::{World, is_active};

async fn replays_alike(world: &World) {
    let replay = ["replay", "--since", "2000-01-01T00:00:00Z", "--json"];
    let told: serde_json::Value =
        serde_json::from_str(&world.command(&replay).await).expect("JSON");
    assert_eq!(told["differences"], serde_json::json!([]), "{told}");
    assert_eq!(told["purchases"][0]["erased"], 0, "nothing of it: {told}");
}

/// The store's records name the first owner, and go on naming them; the purchase is the second's.
async fn is_anothers(world: &World, first: &Person, token: &str, second: &Person) {
    world.settled().await;
    let before = dump(world).await;
    assert!(before.contains(&first.store_token), "planted");
    erase(world, token, "", "").await.expect("erased");
    nothing_is_left(world, &first.account, &[&first.store_token]).await;
    assert!(
        is_active(&second.now().await, "pro_access"),
        "the other has it"
    );
    replays_alike(world).await;
    world
        .stores()
        .advance(period("P1M"))
        .await
        .expect("a month");
    world.settled().await;
    assert!(is_active(&second.now().await, "pro_access"), "renewed");
    nothing_is_left(world, &first.account, &[&first.store_token]).await;
    replays_alike(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_that_was_moved_forgets_who_had_it() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let token = Some(alice.store_token.as_str());
    let bought = world.buy_apple("alice", MONTHLY, token).await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    // Bob shows what names Alice, and is refused.
    bob.bind_apple(&bought.signed_transaction)
        .await
        .expect_err("alice's");
    world.settled().await;
    let chain = world.row("select id::text from purchase_chains").await;
    let transfer = [
        "transfer", &chain, "dev:bob", "--reason", "asked", "--actor", "sam",
    ];
    world.command(&transfer).await;
    // What the version before kept of claims: the store's document, decided and not.
    let pool = world.tables().await;
    let kept = sqlx::query(
        "with shown as (select known->'state' as state from store_subscription_state)
         insert into ownership_claims (id, chain_id, account_id, stand_in, opened_at, opened_seq,
                                       verdict, decided_at)
         select gen_random_uuid(), c.id, c.owner_account_id, state, now(), 0, verdict,
                case when verdict is not null then now() end
         from purchase_chains c, shown, (values ('won'), (null)) as claims (verdict)",
    );
    kept.execute(&pool).await.expect("kept");
    pool.close().await;
    let planted = "select count(*) from ownership_claims
        where verdict is not null and stand_in ->> 'account_token' <> ''";
    assert_eq!(world.count(planted).await, 1, "a decided one of Bob's");
    is_anothers(&world, &alice, &world.token("alice"), &bob).await;
    world.stop().await;
}

/// What a present owner is told of a purchase begins where it became theirs.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_says_nothing_of_the_owner_before() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let token = Some(alice.store_token.as_str());
    let apple = world.buy_apple("alice", MONTHLY, token).await;
    let google = world.buy_google("alice", "premium-monthly", token).await;
    alice
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("bound");
    alice
        .bind_google(&google.purchase_token)
        .await
        .expect("bound");
    world.settled().await;
    world.stores().advance(period("P1D")).await.expect("later");
    let moved = world.stack.clock.now();
    for id in [&apple.transaction_id, &google.purchase_token] {
        let chain = world.chain_of(id).await;
        let transfer = [
            "transfer", &chain, "dev:bob", "--reason", "asked", "--actor", "sam",
        ];
        world.command(&transfer).await;
    }
    world
        .stores()
        .advance(period("P1M"))
        .await
        .expect("a month");
    world.settled().await;
    let hers = export(&world, &world.token("alice")).await.to_string();
    assert!(hers.contains(&alice.store_token), "it is in her own");
    let document = export(&world, &world.token("bob")).await;
    assert!(!document.to_string().contains(&alice.store_token));
    let tables = &document["tables"];
    for (table, time) in [
        ("raw_notifications", "received_at"),
        ("store_answers", "fetched_at"),
    ] {
        let rows = tables[table].as_array().expect("rows");
        assert!(rows.len() > 1, "{table}: of both purchases");
        for row in rows {
            let at: chrono::DateTime<chrono::Utc> = row[time]
                .as_str()
                .and_then(|at| at.parse().ok())
                .expect("a time");
            assert!(at >= moved, "{table}: {row}");
        }
    }
    let said = document.to_string();
    assert!(
        said.contains("\"originalTransactionId\""),
        "signed documents are read"
    );
    drop(bob);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reinstall_keeps_what_the_installation_before_leaves() {
    let world = World::start().await;
    let before = world.nobody("install-1").await;
    let token = Some(before.store_token.as_str());
    let google = world.buy_google("phone", "premium-monthly", token).await;
    before
        .bind_google(&google.purchase_token)
        .await
        .expect("bound");
    world.settled().await;
    let after = world.nobody("install-2").await;
    after
        .bind_google(&google.purchase_token)
        .await
        .expect("a live token");
    let asked = world.asked(Store::GooglePlay);
    let token = world.anonymous_token("install-1");
    is_anothers(&world, &before, &token, &after).await;
    assert!(
        world.asked(Store::GooglePlay) > asked,
        "it named them again"
    );
    world.stop().await;
}

/// A command that lost to another transaction is given again, as an operator does.
async fn moves(world: &World, transfer: &[&str]) -> Result<String, String> {
    for _ in 0..20 {
        match world.try_command(transfer).await {
            Err(lost) if lost.contains("lost to another") => {}
            told => return told,
        }
    }
    Err("it always lost".into())
}

/// An erasure beside everything else that writes to the account and its purchases, in any order.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_else_happens_at_once_nothing_is_left() {
    let world = World::start().await;
    world.person("bob").await;
    for round in 0..2 {
        let name = format!("alice{round}");
        let alice = world.person(&name).await;
        let token = Some(alice.store_token.as_str());
        let apple = world.buy_apple(&name, MONTHLY, token).await;
        alice
            .bind_apple(&apple.signed_transaction)
            .await
            .expect("bound");
        let google = world.buy_google(&name, "premium-monthly", token).await;
        alice
            .bind_google(&google.purchase_token)
            .await
            .expect("bound");
        let chain = world.chain_of(&apple.transaction_id).await;
        let phone = Phone::first_start(&world).await;
        let hers = world.token(&name);
        let transfer = [
            "transfer", &chain, "dev:bob", "--reason", "asked", "--actor", "sam",
        ];
        let notifications = world.said();
        let old = format!("6d2a1b52-7c1f-4a5b-9d36-0f6c2b9e4a1{round}");
        let (erased, linked, registered, moved, rotated, ()) = futures::join!(
            erase(&world, &hers, "", ""),
            link(&world, &hers, &phone.credentials.access_token),
            register(&world, &alice.account, &old),
            moves(&world, &transfer),
            world.try_command(&["encryption", "rotate"]),
            async {
                for id in &notifications {
                    world.deliver(id).await;
                }
            },
        );
        erased.expect("an outcome");
        rotated.expect("rotated");
        for refused in linked.err().into_iter().chain(registered.err()) {
            assert_ne!(refused.code(), Code::Internal, "{refused:?}");
        }
        moved.expect("whoever had it");
        world.settled().await;
        let names = [alice.store_token.as_str(), old.as_str()];
        // A call of hers that came after it made somebody new: the one before is meant.
        nothing_is_left(&world, &alice.account, &names).await;
        world
            .stores()
            .advance(period("P1M"))
            .await
            .expect("a month");
        world.settled().await;
        nothing_is_left(&world, &alice.account, &names).await;
    }
    let replay = ["replay", "--since", "2000-01-01T00:00:00Z", "--json"];
    let told: serde_json::Value =
        serde_json::from_str(&world.command(&replay).await).expect("JSON");
    assert_eq!(told["differences"], serde_json::json!([]), "{told}");
    world.stop().await;
}
