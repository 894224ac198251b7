//! One ticket each: "it says I have no access", and why.

use entitled::proto::{ListTransactionsRequest, TimelineLayer, TransactionKind};
use entitled::sandbox::{Billing, Environment};

use super::Operator;
use crate::scene::{MONTHLY, YEARLY, period};
use crate::support::World;

const EXAMPLE: &str = entitled::cli::stack::EXAMPLE_CATALOG;

#[tokio::test(flavor = "multi_thread")]
async fn refunded() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    world.settled().await;
    let mut sue = Operator::of(&world).await;
    let before = sue.why("dev:alice").await;
    assert!(before.active, "{}", before.sentence);
    assert_eq!(before.reason, "subscription");
    assert!(
        before.sentence.starts_with("on until 10 Jan 2028"),
        "{}",
        before.sentence
    );

    world
        .stores()
        .refund_app_store(&bought.transaction_id)
        .await
        .expect("refunded");
    world.settled().await;
    let why = sue.why("dev:alice").await;
    let tail = &bought.transaction_id[bought.transaction_id.len() - 4..];
    assert_eq!(
        why.sentence,
        format!(
            "off since 10 Jan 09:00 UTC: App Store refunded transaction …{tail}; on again if the \
             account resubscribes"
        )
    );
    assert_eq!(why.reason, "refunded");
    let decided = why.decided_by.expect("an event");
    assert_eq!(
        (decided.source.as_str(), decided.signal.as_str()),
        ("notification", "REFUND")
    );
    assert_eq!(
        (decided.decision.as_str(), decided.reason.as_str()),
        ("apply", "refunded")
    );
    assert!(!why.purchase_id.is_empty());

    // The money says the same, with the store's own ids.
    let request = ListTransactionsRequest {
        account: "dev:alice".into(),
        ..Default::default()
    };
    let listed = sue.purchases.list_transactions(request).await;
    let listed = listed.expect("transactions").into_inner().transactions;
    let kinds: Vec<TransactionKind> = listed.iter().map(|row| row.kind()).collect();
    assert!(kinds.contains(&TransactionKind::Purchase), "{listed:?}");
    assert!(kinds.contains(&TransactionKind::Refund), "{listed:?}");
    for row in &listed {
        assert_eq!(row.store_transaction_id, bought.transaction_id);
        assert_eq!(row.purchase_id, why.purchase_id);
        assert_eq!(row.account_id, alice.account);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn billing_retry() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    world
        .stores()
        .set_app_store_billing(&bought.original_transaction_id, Billing::Fails)
        .await
        .expect("told");
    let mut sue = Operator::of(&world).await;
    let mut reasons = Vec::new();
    for _ in 0..12 {
        world
            .stores()
            .advance(period("P5D"))
            .await
            .expect("time passes");
        world.settled().await;
        let why = sue.why("dev:alice").await;
        if reasons.last() != Some(&why.reason) {
            reasons.push(why.reason.clone());
        }
        if why.reason == "on_hold" {
            assert!(
                why.sentence.contains("App Store could not charge"),
                "{}",
                why.sentence
            );
            assert!(why.advice.contains("payment method"), "{}", why.advice);
            break;
        }
    }
    assert_eq!(reasons.first().map(String::as_str), Some("subscription"));
    assert_eq!(reasons.last().map(String::as_str), Some("on_hold"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_owns_it() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let bought = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    bob.bind_apple(&bought.signed_transaction)
        .await
        .expect_err("another's");
    world.settled().await;
    let mut sue = Operator::of(&world).await;
    let why = sue.why("dev:bob").await;
    assert_eq!(why.reason, "not_theirs", "{}", why.sentence);
    assert!(
        why.sentence.contains("belongs to another account"),
        "{}",
        why.sentence
    );
    let story = sue.story("dev:bob", &[]).await;
    assert!(
        story
            .iter()
            .any(|entry| entry.story.ends_with("it belongs to another account")),
        "{story:?}"
    );
    // The refused learn nothing of the owner.
    let told = format!("{why:?}{story:?}");
    for secret in [&alice.account, &alice.store_token] {
        assert!(!told.contains(secret.as_str()), "{secret}: {told}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_product() {
    let mut world = World::start().await;
    let (head, rest) = EXAMPLE
        .split_once("[products.pro_monthly]")
        .expect("monthly");
    let (_, rest) = rest.split_once("[products.pro_yearly]").expect("yearly");
    // The store sells it; the catalog has not heard of it.
    let smaller = format!("{head}[products.pro_yearly]{rest}");
    let smaller = world.catalog_file("smaller.toml", &smaller);
    world.restart_with_catalog(&smaller).await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("kept");
    world.settled().await;
    let mut sue = Operator::of(&world).await;
    let why = sue.why("dev:alice").await;
    assert_eq!(why.reason, "unmapped", "{}", why.sentence);
    assert!(why.sentence.contains(MONTHLY), "{}", why.sentence);
    assert!(
        why.advice.contains("Add the store's product"),
        "{}",
        why.advice
    );
    assert_eq!(
        why.decided_by.map(|decided| decided.reason).as_deref(),
        Some("unmapped_product")
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_purchase() {
    let world = World::with(|options| {
        options.environment = Environment::Sandbox;
        options.catalog = format!("sandbox_access = \"nobody\"\n{EXAMPLE}");
    })
    .await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_google("alice", "premium-monthly", Some(&alice.store_token))
        .await;
    alice
        .bind_google(&bought.purchase_token)
        .await
        .expect("kept");
    world.settled().await;
    let mut sue = Operator::of(&world).await;
    let why = sue.why("dev:alice").await;
    assert_eq!(why.reason, "environment_not_accepted", "{}", why.sentence);
    assert!(
        why.sentence
            .contains("Google Play's sandbox, and sandbox purchases serve nobody here"),
        "{}",
        why.sentence
    );
    // A purchase token is a secret, and the story is read by many.
    let story = sue.story("dev:alice", &[]).await;
    assert!(!format!("{story:?}").contains(&bought.purchase_token));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn never_arrived() {
    let world = World::start().await;
    world.person("alice").await;
    let mut sue = Operator::of(&world).await;
    let why = sue.why("dev:alice").await;
    assert_eq!(why.reason, "never", "{}", why.sentence);
    assert!(
        why.sentence.contains("has arrived here"),
        "{}",
        why.sentence
    );
    assert!(why.decided_by.is_none());
    assert!(
        sue.story("dev:alice", &[TimelineLayer::Notification])
            .await
            .is_empty()
    );
    world.stop().await;
}
