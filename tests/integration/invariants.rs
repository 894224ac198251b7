//! The promises about truth: proof first (I1), one effect (I2), a trace of everything (I5), replay
//! (I10). The others have files of their own.

use entitled::proto::AccessReason;
use entitled::sandbox::{Outage, Store, forge};
use serde_json::Value;
use tonic::Code;

use crate::scene::{EFFECTS, EXPORT, MONTHLY, YEARLY, google_buy, payload_of, period};
use crate::support::{World, assert_refused, entitlement, is_active, reason};

#[tokio::test(flavor = "multi_thread")]
async fn i1_nothing_is_active_without_a_verified_purchase_or_a_grant() {
    let world = World::start().await;
    let mallory = world.person("mallory").await;
    world.hold().await;
    let bought = world.buy_apple("buyer", YEARLY, None).await;
    let genuine = payload_of(&bought.signed_transaction);

    for forgery in forge::apple_variants(world.stores(), &genuine).expect("forgeries") {
        let refused = mallory
            .bind_apple(&forgery.jws)
            .await
            .expect_err(&forgery.name);
        let expected = if forgery.jws.is_empty() {
            "REQUEST_INVALID"
        } else {
            "PROOF_INVALID"
        };
        assert_eq!(reason(&refused), expected, "{}", forgery.name);
        let body = serde_json::json!({ "signedPayload": forgery.jws }).to_string();
        assert_eq!(
            world.post(Store::AppStore, body).await,
            401,
            "{}",
            forgery.name
        );
    }
    let invented = mallory
        .bind_google("abcdefghijklmnopqrstuvwx.AO-J1Oinvented")
        .await
        .expect_err("invented");
    assert_refused(&invented, Code::NotFound, "PURCHASE_NOT_FOUND");
    let bare = mallory
        .bind_bare_id(&bought.transaction_id)
        .await
        .expect_err("a bare id");
    assert_refused(&bare, Code::FailedPrecondition, "PROOF_INSUFFICIENT");

    // A genuine purchase that nobody has claimed is known, and nobody's.
    world
        .stores()
        .hold_deliveries(false)
        .await
        .expect("released");
    world.settled().await;
    assert_eq!(
        world
            .count("select count(*) from raw_notifications where status = 'processed'")
            .await,
        1
    );
    assert_eq!(
        world
            .count("select count(*) from entitlement_snapshots")
            .await,
        0
    );
    assert!(!is_active(&mallory.now().await, "pro_access"));

    let alice = world.person("alice").await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    assert!(is_active(&alice.now().await, "pro_access"));
    world
        .command(&[
            "grant",
            "dev:mallory",
            "export",
            "--reason",
            "kindness",
            "--actor",
            "sam",
        ])
        .await;
    let granted = mallory.now().await;
    assert_eq!(
        entitlement(&granted, "export").reason(),
        AccessReason::Grant
    );
    assert!(!is_active(&granted, "pro_access"));
    assert_eq!(
        world.count("select count(*) from subscription_events where actor = 'sam' and reason = 'granted'").await,
        1
    );
    // Whatever is active has a store's own answer behind it.
    let unproven = "select count(*) from purchase_chains c where owner_account_id is not null
        and not exists (select 1 from store_answers a where a.chain_id = c.id)";
    assert_eq!(world.count(unproven).await, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_repeated_delivery_has_one_effect() {
    let world = World::still().await;
    let alice = world.person("alice").await;
    let apple = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    let google = world
        .buy_google("alice", "premium-monthly", Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("bound");
    alice
        .bind_google(&google.purchase_token)
        .await
        .expect("bound");
    world
        .stores()
        .advance(period("P1M"))
        .await
        .expect("a renewal at Google");
    world
        .stores()
        .refund_google_play(&google.purchase_token)
        .await
        .expect("refunded");
    world.nothing_due().await;
    let said = world.said();
    assert!(
        said.len() >= 5,
        "two purchases, a renewal, a revocation and its void"
    );
    let before = world.row(EFFECTS).await;

    for id in said.iter().rev().chain(&said) {
        world.deliver(id).await;
    }
    for _ in 0..2 {
        alice
            .bind_apple(&apple.signed_transaction)
            .await
            .expect("bound already");
    }
    world.settled().await;
    assert_eq!(world.row(EFFECTS).await, before);
    // What a look at the store found, nobody delivered.
    let thrice = "select count(*) from ingress_keys where deliveries = 3";
    let otherwise = "select count(*) from ingress_keys where deliveries not in (0, 3)";
    assert_eq!(
        (world.count(thrice).await, world.count(otherwise).await),
        (said.len().try_into().expect("few"), 0),
        "each repetition was received, and counted"
    );
    let acknowledged =
        world.stores().store_calls()[&entitled::sandbox::Endpoint::GoogleAcknowledge];
    assert_eq!(acknowledged, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_deliveries_at_the_same_moment_are_one() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    world.hold().await;
    world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    let body = world.stores().notifications()[0].body.clone();
    let posts = (0..20).map(|_| world.post(Store::AppStore, body.clone()));
    let answers = futures::future::join_all(posts).await;
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    world.settled().await;
    assert_eq!(
        world.count("select count(*) from raw_notifications").await,
        1
    );
    assert_eq!(
        world
            .count("select deliveries::bigint from ingress_keys")
            .await,
        20
    );
    assert_eq!(
        world
            .count("select count(*) from subscription_events")
            .await,
        1
    );
    assert_eq!(alice.now().await.revision, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_every_signal_leaves_an_event_that_nobody_can_change() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    bob.bind_apple(&bought.signed_transaction)
        .await
        .expect_err("alice's");
    alice.client.clone().refresh().await.expect("refreshed");
    world
        .stores()
        .advance(period("P2D"))
        .await
        .expect("rechecked");
    world
        .command(&[
            "grant",
            "dev:bob",
            "export",
            "--until",
            "2027-01-12T21:00:00Z",
            "--reason",
            "r",
        ])
        .await;
    world
        .stores()
        .set_auto_renew(&bought.original_transaction_id, false)
        .await
        .expect("turned off");
    world
        .stores()
        .advance(period("P1D"))
        .await
        .expect("the grant ends");
    world.settled().await;

    let sources =
        "select string_agg(distinct source, ' ' order by source) from subscription_events";
    assert_eq!(
        world.row(sources).await,
        "notification operator proof refresh schedule time"
    );
    let unexplained = "select count(*) from subscription_events
        where decision not in ('apply', 'merge_only', 'skip') or reason = ''";
    assert_eq!(world.count(unexplained).await, 0);
    // Each notification was worked in, and its chain has an event that was written after it came.
    let traceless = "select count(*) from raw_notifications r where status <> 'processed' or not exists
        (select 1 from subscription_events e where e.chain_id = r.chain_id and e.at >= r.received_at)";
    assert_eq!(world.count(traceless).await, 0);
    // The refused claim is told on both accounts, and bob's event does not lead to alice's purchase.
    let refused = "select count(*) from subscription_events where reason = 'owned_by_another'";
    assert_eq!(world.count(refused).await, 2);
    let leaked =
        "select count(*) from subscription_events e join account_identities i using (account_id)
        where i.subject = 'bob' and chain_id is not null";
    assert_eq!(world.count(leaked).await, 0);

    for statement in [
        "update subscription_events set reason = 'expired'",
        "delete from subscription_events",
        "update store_answers set fetched_at = fetched_at",
        "delete from store_answers",
    ] {
        let why = world.refuses(statement).await;
        assert!(why.contains("append-only"), "{statement}: {why}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_replay_of_every_chain_arrives_at_the_stored_state() {
    let mut world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    // A story with renewals, an upgrade, refunds, an outage, a transfer and a claim that was refused.
    let apple = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("bound");
    bob.bind_apple(&apple.signed_transaction)
        .await
        .expect_err("alice's");
    let monthly = world.buy_google("bob", "premium-monthly", None).await;
    bob.bind_google(&monthly.purchase_token)
        .await
        .expect("bound");
    world.settled().await;
    let mut upgrade = google_buy("bob", "premium-yearly", Some(&bob.store_token));
    upgrade.replaces = Some(monthly.purchase_token);
    let yearly = world
        .stores()
        .buy_google_play(&upgrade)
        .await
        .expect("upgraded");
    world
        .stores()
        .advance(period("P2M"))
        .await
        .expect("renewals");
    world
        .stores()
        .set_outage(Store::AppStore, Some(Outage::Down503));
    let once = world
        .buy_apple("alice", EXPORT, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&once.signed_transaction)
        .await
        .expect("a signed proof stands in");
    world.stores().set_outage(Store::AppStore, None);
    let mut phone = world.device("alice").await;
    phone
        .until("confirmed", |s| {
            entitlement(s, "export")
                .sources
                .iter()
                .all(|source| !source.unconfirmed)
        })
        .await;
    let chain = world
        .row("select id::text from purchase_chains order by created_at desc limit 1")
        .await;
    world
        .command(&[
            "transfer",
            &chain,
            "dev:bob",
            "--reason",
            "she asked",
            "--actor",
            "sam",
        ])
        .await;
    let latest = world.stores().purchases("alice")[0]
        .latest_transaction
        .clone();
    world
        .stores()
        .refund_app_store(&latest)
        .await
        .expect("refunded");
    world
        .stores()
        .refund_google_play(&yearly.purchase_token)
        .await
        .expect("refunded");
    world.settled().await;

    // Whatever is written or asked from now on is replay's doing.
    world.rest().await;
    let before = world.row(EFFECTS).await;
    let calls = world.stores().store_calls();
    for (account, chains) in [("dev:alice", 1), ("dev:bob", 2)] {
        let printed = world
            .command(&["replay", account, "--dry-run", "--json"])
            .await;
        let replayed: Value = serde_json::from_str(&printed).expect("JSON");
        assert_eq!(
            replayed["differences"],
            Value::Array(Vec::new()),
            "{printed}"
        );
        let replayed = replayed["purchases"].as_array().expect("purchases");
        assert!(replayed.len() >= chains, "{printed}");
        for chain in replayed {
            assert!(chain["steps"].as_u64() >= Some(2), "{printed}");
            assert_eq!(chain["differences"], Value::Array(Vec::new()), "{printed}");
        }
    }
    assert_eq!(world.row(EFFECTS).await, before, "replay writes nothing");
    assert_eq!(world.stores().store_calls(), calls, "replay asks nobody");
    world.stop().await;
}
