//! Stories of purchases that change hands, or do not say whose they are.

use entitled::app::Roles;
use entitled::proto::{AccessReason, BindOutcome, InactiveReason};
use tonic::Code;

use crate::scene::{MONTHLY, READER, YEARLY, at_least, off, on, period, pro};
use crate::support::{Device, World, assert_refused, is_active};

/// S2: after a transfer the new owner has it, and the old one no more.
#[tokio::test(flavor = "multi_thread")]
async fn s2_both_accounts_stay_entitled_after_a_transfer() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let mut phone = Device::open(alice.client.clone()).await;
    let mut tablet = Device::open(bob.client.clone()).await;
    let bought = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    phone.until_active("pro_access").await;
    world.settled().await;
    let chain = world.row("select id::text from purchase_chains").await;
    let transfer = [
        "transfer", &chain, "dev:bob", "--reason", "asked", "--actor", "sam",
    ];
    world.command(&transfer).await;
    phone.until_inactive("pro_access").await;
    tablet.until_active("pro_access").await;
    // Whatever comes later, of the store or of the old owner's phone, brings nothing back.
    for id in world.said() {
        world.deliver(&id).await;
    }
    let refused = alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect_err("bob's now");
    assert_refused(
        &refused,
        Code::FailedPrecondition,
        "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT",
    );
    world
        .stores()
        .advance(period("P1Y"))
        .await
        .expect("renewed");
    world.settled().await;
    assert_eq!(pro(&alice.now().await), off(InactiveReason::Transferred));
    assert_eq!(pro(&bob.now().await), on(AccessReason::Subscription, true));
    world.stop().await;
}

/// S3: who reads right after a purchase, anywhere, sees it.
#[tokio::test(flavor = "multi_thread")]
async fn s3_the_first_read_after_a_purchase() {
    let world = World::start().await;
    let reader = world.replica(READER, |_| {}).await;
    world.hold().await;
    for number in 0..8 {
        let name = format!("customer{number}");
        let person = world.person(&name).await;
        let elsewhere = reader.grpc_url().expect("gRPC");
        let elsewhere =
            entitled::cli::client::Client::connect(&elsewhere, &world.token(&name)).await;
        let elsewhere = elsewhere.expect("a client");
        // Both have an old answer to remember.
        let _ = (
            person.client.clone().get().await,
            elsewhere.clone().get().await,
        );
        let bought = world.buy_apple(&name, YEARLY, None).await;
        let bound = person
            .bind_apple(&bought.signed_transaction)
            .await
            .expect("bound");
        let told = bound.snapshot.expect("a snapshot");
        assert!(is_active(&told, "pro_access"), "the answer itself says so");
        let read = at_least(&elsewhere, &told.epoch, told.revision).await;
        assert!(read.revision >= told.revision && is_active(&read, "pro_access"));
        let again = person.client.clone().get().await.expect("read").snapshot;
        assert!(
            is_active(&again.expect("a snapshot"), "pro_access"),
            "without asking for it"
        );
    }
    reader.stop().await;
    world.stop().await;
}

/// S4: an answer that was remembered is not given beyond the end that it names.
#[tokio::test(flavor = "multi_thread")]
async fn s4_a_cache_that_outlives_an_expiry() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    world
        .stores()
        .set_auto_renew(&bought.original_transaction_id, false)
        .await
        .expect("turned off");
    world.settled().await;
    // Nobody works any more; whoever answers has only what it remembers.
    let idle = Roles {
        worker: false,
        ..READER
    };
    let reader = world.replica(idle, |_| {}).await;
    let url = reader.grpc_url().expect("gRPC");
    let client = entitled::cli::client::Client::connect(&url, &world.token("alice")).await;
    let mut client = client.expect("a client");
    let before = client
        .get()
        .await
        .expect("read")
        .snapshot
        .expect("a snapshot");
    assert!(is_active(&before, "pro_access"));
    world.hold().await;
    world
        .stores()
        .set_idle_hook(|| Box::pin(std::future::ready(())));
    world
        .stores()
        .advance(period("P40D"))
        .await
        .expect("past the end");
    for _ in 0..20 {
        let now = client
            .get()
            .await
            .expect("read")
            .snapshot
            .expect("a snapshot");
        assert!(!is_active(&now, "pro_access"), "not one answer more");
    }
    reader.stop().await;
    world.stop().await;
}

/// S9: the first message names no account, or one that nobody has.
#[tokio::test(flavor = "multi_thread")]
async fn s9_a_first_message_without_identity_or_with_a_wrong_one() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let foreign = "11111111-2222-4333-8444-555555555555";
    for (number, token) in [None, Some(foreign)].into_iter().enumerate() {
        let apple = world
            .buy_apple(
                &format!("alice's phone {number}"),
                [MONTHLY, YEARLY][number],
                token,
            )
            .await;
        // Google sells nobody the same twice.
        let buyer = format!("alice's phone {number}");
        let google = world
            .buy_google(&buyer, "premium-monthly", token)
            .await
            .purchase_token;
        world.settled().await;
        assert!(!is_active(&bob.now().await, "pro_access"));
        let owned = "select count(*) from purchase_chains where owner_account_id is not null";
        if number == 0 {
            assert_eq!(world.count(owned).await, 0, "known, and nobody's");
        }
        let bound = alice
            .bind_apple(&apple.signed_transaction)
            .await
            .expect("alice proves it");
        assert!([BindOutcome::Bound, BindOutcome::AlreadyYours].contains(&bound.outcome()));
        alice.bind_google(&google).await.expect("alice proves it");
        assert_eq!(
            pro(&alice.now().await),
            on(AccessReason::Subscription, true)
        );
    }
    // It names somebody else who lives here: the store's record counts, not possession.
    let named = world
        .buy_google("bob's phone", "premium-yearly", Some(&bob.store_token))
        .await;
    world.settled().await;
    let refused = alice
        .bind_google(&named.purchase_token)
        .await
        .expect_err("bob's");
    assert_refused(
        &refused,
        Code::FailedPrecondition,
        "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT",
    );
    assert!(is_active(&bob.now().await, "export"));
    world.stop().await;
}

/// S1: of two transfers the first is told last. Each names whom it takes from, and is repeated by
/// its sender until it has been heard; the last owner is the same in every order.
#[tokio::test(flavor = "multi_thread")]
async fn s1_transfers_arriving_in_the_wrong_order() {
    // Numbers of the transfers, in the order of their arrival.
    const ORDERS: [&[usize]; 5] = [
        &[0, 1],
        &[1, 0, 1],
        &[0, 1, 0],
        &[0, 0, 1, 1, 0],
        &[1, 1, 0, 0, 1, 0],
    ];
    let world = World::start().await;
    let stories = ORDERS.iter().enumerate().map(|(number, order)| {
        let world = &world;
        async move {
            let first = world.person(&format!("first{number}")).await;
            let second = world.person(&format!("second{number}")).await;
            let third = world.person(&format!("third{number}")).await;
            let bought = world
                .buy_apple(&first.name, YEARLY, Some(&first.store_token))
                .await;
            first
                .bind_apple(&bought.signed_transaction)
                .await
                .expect("bound");
            let chain = world.chain_of(&bought.original_transaction_id).await;
            let hops = [(&first, &second), (&second, &third)];
            for hop in *order {
                let (from, to) = hops[*hop];
                let (from, to) = (format!("dev:{}", from.name), format!("dev:{}", to.name));
                let id = format!("story-{number}-{hop}");
                let told = world
                    .try_command(&[
                        "transfer",
                        &chain,
                        &to,
                        "--from",
                        &from,
                        "--operation-id",
                        &id,
                        "--reason",
                        "asked",
                        "--actor",
                        "sam",
                    ])
                    .await;
                if let Err(why) = told {
                    assert!(why.contains("not the account's"), "{why}");
                }
            }
            world.settled().await;
            // One more with an old idea of whose it is does nothing either.
            let (from, to) = (
                format!("dev:{}", first.name),
                format!("dev:{}", second.name),
            );
            let stale = [
                "transfer", &chain, &to, "--from", &from, "--reason", "late", "--actor", "sam",
            ];
            world.try_command(&stale).await.expect_err("stale");
            for (person, owns) in [(&first, false), (&second, false), (&third, true)] {
                let has = is_active(&person.now().await, "pro_access");
                assert_eq!(has, owns, "{} after {order:?}", person.name);
            }
        }
    });
    futures::future::join_all(stories).await;
    world.stop().await;
}
