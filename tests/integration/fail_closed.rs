//! I9: what is not known or not accepted grants nothing, is kept, and can be seen.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use entitled::proto::{BindOutcome, InactiveReason};
use entitled::sandbox::{Environment, Store};
use serde_json::Value;
use tonic::Code;

use crate::scene::{EXPORT, MONTHLY, PACKAGE, YEARLY, payload_of};
use crate::support::{World, assert_refused, entitlement, is_active};

const EXAMPLE: &str = entitled::cli::stack::EXAMPLE_CATALOG;

/// The example catalog without its monthly plan and its one-time product.
fn smaller_catalog() -> String {
    let (head, rest) = EXAMPLE
        .split_once("[products.pro_monthly]")
        .expect("monthly");
    let (_, rest) = rest.split_once("[products.pro_yearly]").expect("yearly");
    let (yearly, _) = rest
        .split_once("[products.export_forever]")
        .expect("export");
    format!("{head}[products.pro_yearly]{yearly}")
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_unknown_products_grant_nothing_are_kept_and_heal_when_the_catalog_learns_them() {
    let mut world = World::start().await;
    let smaller = world.catalog_file("smaller.toml", &smaller_catalog());
    world.restart_with_catalog(&smaller).await;
    let [apple, google, once] = ["apple", "google", "once"].map(str::to_owned);
    let (apple, google, once) = (
        world.person(&apple).await,
        world.person(&google).await,
        world.person(&once).await,
    );

    let monthly = world.buy_apple("apple", MONTHLY, None).await;
    let base_plan = world.buy_google("google", "premium-monthly", None).await;
    let export = world.buy_apple("once", EXPORT, None).await;
    let outcomes = [
        apple
            .bind_apple(&monthly.signed_transaction)
            .await
            .expect("kept")
            .outcome(),
        google
            .bind_google(&base_plan.purchase_token)
            .await
            .expect("kept")
            .outcome(),
        once.bind_apple(&export.signed_transaction)
            .await
            .expect("kept")
            .outcome(),
    ];
    assert_eq!(outcomes, [BindOutcome::BoundWithoutAccess; 3]);
    world.settled().await;
    for (person, entitled) in [
        (&apple, "pro_access"),
        (&google, "pro_access"),
        (&once, "export"),
    ] {
        assert!(!is_active(&person.now().await, entitled), "{}", person.name);
    }
    // Seen by its owner, by the operator and by the alarm; not acknowledged, so that Google
    // gives the money back if nobody mends the catalog.
    let seen = apple.now().await.subscriptions;
    assert_eq!(
        (seen[0].plan.as_str(), seen[0].product_id.as_str()),
        ("", MONTHLY)
    );
    let events = "select count(distinct chain_id) from subscription_events where reason = 'unmapped_product'";
    assert_eq!(world.count(events).await, 3);
    let metrics = reqwest::get(format!("{}/metrics", world.stack.app.admin_url()))
        .await
        .expect("metrics");
    assert!(
        metrics
            .text()
            .await
            .expect("text")
            .contains("unmapped_product")
    );
    assert_eq!(
        world.stores().is_acknowledged(&base_plan.purchase_token),
        Some(false)
    );

    let full = world.catalog_file("full.toml", &format!("{EXAMPLE}\n# All of it.\n"));
    world.restart_with_catalog(&full).await;
    for (person, entitled) in [
        (&apple, "pro_access"),
        (&google, "pro_access"),
        (&once, "export"),
    ] {
        world
            .device(&person.name)
            .await
            .until_active(entitled)
            .await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_purchases_of_an_unknown_app_grant_nothing() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    world.hold().await;
    let bought = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    let google = world
        .buy_google("alice", "premium-yearly", Some(&alice.store_token))
        .await;

    let mut foreign = payload_of(&bought.signed_transaction);
    foreign["bundleId"] = "com.example.other".into();
    let signed = world.stores().sign_apple(&foreign).expect("signed");
    let refused = alice.bind_apple(&signed).await.expect_err("another app's");
    assert_refused(&refused, Code::FailedPrecondition, "APP_UNKNOWN");
    let token = google.purchase_token.clone();
    let refused = alice
        .client
        .clone()
        .bind_google_play("com.example.other", &token)
        .await;
    assert_refused(
        &refused.expect_err("another app's"),
        Code::FailedPrecondition,
        "APP_UNKNOWN",
    );

    // Authentic notifications of another app are kept, marked, and change nothing.
    let said = world.stores().notifications();
    let apple: Value = serde_json::from_str(&said[0].body).expect("JSON");
    let mut notification = payload_of(apple["signedPayload"].as_str().expect("a JWS"));
    notification["data"]["bundleId"] = "com.example.other".into();
    notification["data"]["signedTransactionInfo"] = signed.into();
    let signed = world.stores().sign_apple(&notification).expect("signed");
    let body = serde_json::json!({ "signedPayload": signed }).to_string();
    assert_eq!(world.post(Store::AppStore, body).await, 200);
    let mut push: Value = serde_json::from_str(&said[1].body).expect("JSON");
    let data = STANDARD
        .decode(push["message"]["data"].as_str().expect("data"))
        .expect("base64");
    let data = String::from_utf8(data)
        .expect("text")
        .replace(PACKAGE, "com.example.other");
    push["message"]["data"] = STANDARD.encode(data).into();
    assert_eq!(world.post(Store::GooglePlay, push.to_string()).await, 200);
    world.settled().await;
    let kept = "select count(*) from raw_notifications where status in ('ignored', 'failed') and detail <> ''";
    assert_eq!(world.count(kept).await, 2);
    assert_eq!(world.count("select count(*) from purchase_chains").await, 0);
    assert_eq!(
        world
            .count("select count(*) from entitlement_snapshots")
            .await,
        0
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_an_environment_that_is_not_accepted_grants_nothing() {
    let mut world = World::with(|options| {
        options.environment = Environment::Sandbox;
        options.catalog = format!("sandbox_access = \"nobody\"\n{EXAMPLE}");
    })
    .await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    let google = world
        .buy_google("alice", "premium-monthly", Some(&alice.store_token))
        .await;
    let bound = alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("kept");
    assert_eq!(bound.outcome(), BindOutcome::BoundWithoutAccess);
    alice
        .bind_google(&google.purchase_token)
        .await
        .expect("kept");
    world.settled().await;
    let told = alice.now().await;
    let pro = entitlement(&told, "pro_access");
    assert!(!pro.active);
    assert_eq!(
        pro.inactive_reason(),
        InactiveReason::EnvironmentNotAccepted
    );
    let events = "select count(distinct chain_id) from subscription_events
        where reason = 'environment_not_accepted'";
    assert_eq!(world.count(events).await, 2);

    // A deployment that looks at production only does not even read it.
    world
        .restart(|config| {
            let app_store = config.app_store.as_mut().expect("configured");
            app_store.environments =
                vec![entitled::config::app_store::AppStoreEnvironment::Production];
        })
        .await;
    let bob = world.person("bob").await;
    let bought = world.buy_apple("bob", YEARLY, Some(&bob.store_token)).await;
    let refused = bob
        .bind_apple(&bought.signed_transaction)
        .await
        .expect_err("sandbox");
    assert_refused(
        &refused,
        Code::FailedPrecondition,
        "ENVIRONMENT_NOT_ACCEPTED",
    );
    world.settled().await;
    let ignored = "select count(*) from raw_notifications where status = 'ignored'";
    assert_eq!(world.count(ignored).await, 1, "kept, and not acted on");
    assert_eq!(bob.now().await.revision, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_sandbox_is_flagged_where_it_is_accepted() {
    let world = World::with(|options| options.environment = Environment::Sandbox).await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    let told = alice.now().await;
    let pro = entitlement(&told, "pro_access");
    assert!(pro.active);
    assert_eq!(pro.environment(), entitled::proto::Environment::Sandbox);
    world.stop().await;
}
