//! What single calls promise beside the invariants: repeats, limits, lists, and who may ask for whom.

use entitled::proto::{
    BindOutcome, BindPurchaseRequest, GetEntitlementsRequest, InactiveReason, ListProductsRequest,
    ProductKind,
};
use entitled::sandbox::Store;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::scene::{YEARLY, google_token, off, period, pro, proof, seconds};
use crate::support::{World, assert_refused, expires, is_active};

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_bind_of_a_chain_in_sync_asks_no_store() {
    let world = World::still().await;
    let alice = world.person("alice").await;
    let apple = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    let google = world.buy_google("alice", "premium-monthly", None).await;
    assert_eq!(
        alice
            .bind_google(&google.purchase_token)
            .await
            .expect("bound")
            .outcome(),
        BindOutcome::Bound
    );
    alice
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("bound");
    world.settled().await;
    let calls = crate::scene::asked_about_purchases(world.stores());
    let revision = alice.now().await.revision;
    for _ in 0..3 {
        for answer in [
            alice
                .bind_apple(&apple.signed_transaction)
                .await
                .expect("bound"),
            alice
                .bind_google(&google.purchase_token)
                .await
                .expect("bound"),
        ] {
            assert_eq!(answer.outcome(), BindOutcome::AlreadyYours);
            assert_eq!(answer.snapshot.expect("a snapshot").revision, revision);
        }
    }
    assert_eq!(crate::scene::asked_about_purchases(world.stores()), calls);

    // A transaction that is news does ask: the notification of this renewal was lost.
    world.hold().await;
    world
        .stores()
        .advance(period("P1Y"))
        .await
        .expect("renewed");
    let latest = world.stores().purchases("alice")[0]
        .latest_transaction
        .clone();
    let proof = world.stores().signed_transaction(&latest).expect("signed");
    let renewed = alice
        .bind_apple(&proof)
        .await
        .expect("bound")
        .snapshot
        .expect("a snapshot");
    let until = world.stores().purchases("alice")[0].expires_at.map(seconds);
    assert_eq!(Some(expires(&renewed, "pro_access")), until);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_finds_what_no_notification_told_and_is_limited() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let apple = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    let google = world
        .buy_google("alice", "export", Some(&alice.store_token))
        .await;
    world.settled().await;
    world.hold().await;
    world
        .stores()
        .refund_app_store(&apple.transaction_id)
        .await
        .expect("refunded");
    world
        .stores()
        .refund_google_play(&google.purchase_token)
        .await
        .expect("refunded");
    assert!(
        is_active(&alice.now().await, "pro_access"),
        "nobody has told"
    );
    let mut app = alice.client.clone();
    let refreshed = app.refresh().await.expect("refreshed");
    assert_eq!(refreshed.pending, 0);
    let told = refreshed.snapshot.expect("a snapshot");
    assert_eq!(pro(&told), off(InactiveReason::Refunded));
    assert!(!is_active(&told, "export"));

    let asked = world.asked(Store::AppStore);
    let began = std::time::Instant::now();
    let mut refused = 0;
    for _ in 0..30 {
        if let Err(status) = app.refresh().await {
            assert_refused(&status, Code::ResourceExhausted, "RATE_LIMITED");
            assert!(
                status
                    .get_details_retry_info()
                    .is_some_and(|info| info.retry_delay.is_some())
            );
            refused += 1;
        }
    }
    // Ten at once, and one more for every six seconds.
    let served = 10 + began.elapsed().as_secs() / 6;
    assert!(refused + served >= 30, "{refused} of 30 were refused");
    assert!(
        world.asked(Store::AppStore) - asked <= 2 * served,
        "a few calls for each refresh"
    );
    world
        .person("bob")
        .await
        .client
        .refresh()
        .await
        .expect("another account has its own limit");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn products_are_listed_by_store() {
    let world = World::start().await;
    let mut alice = world.person("alice").await;
    let all = alice.client.products().await.expect("listed");
    let ids: Vec<&str> = all
        .products
        .iter()
        .map(|product| product.id.as_str())
        .collect();
    assert_eq!(
        ids,
        [
            "coins_100",
            "export_forever",
            "pro_monthly",
            "pro_yearly",
            "season_pass"
        ]
    );
    assert_eq!(all.catalog_version, 1);
    let yearly = &all.products[3];
    assert_eq!(
        (yearly.kind(), yearly.period.as_str()),
        (ProductKind::Subscription, "P1Y")
    );
    assert_eq!(yearly.entitlements, ["pro_access", "export"]);
    let plans: Vec<&str> = yearly
        .store_products
        .iter()
        .map(|sold| sold.base_plan_id.as_str())
        .collect();
    assert_eq!(plans, ["", "premium-yearly"]);
    let at_google = ListProductsRequest {
        store: entitled::proto::Store::GooglePlay.into(),
        ..Default::default()
    };
    let at_google = alice
        .client
        .inner
        .list_products(at_google)
        .await
        .expect("listed")
        .into_inner();
    assert_eq!(at_google.products.len(), 5);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_name_accounts_and_users_do_not() {
    let world = World::start().await;
    let service = world.service_token();
    let mut service = world.client_with_token(&service).await;
    let alice = world.person("alice").await;
    world.hold().await;
    let bought = world.buy_google("alice", "premium-monthly", None).await;

    let about = |account: &str| GetEntitlementsRequest {
        as_of: None,
        consistency: None,
        account: account.into(),
    };
    // Nobody has seen bob: everything is off, and asking does not make him known.
    let nothing = service
        .inner
        .get_entitlements(about("dev:bob"))
        .await
        .expect("an answer")
        .into_inner();
    assert!(!is_active(
        &nothing.snapshot.expect("a snapshot"),
        "pro_access"
    ));
    let bob = "select count(*) from account_identities where subject = 'bob'";
    assert_eq!(world.count(bob).await, 0);
    let bind = |account: &str| BindPurchaseRequest {
        proof: proof(google_token(&bought.purchase_token)),
        account: account.into(),
    };
    let bound = service
        .inner
        .bind_purchase(bind("dev:alice"))
        .await
        .expect("bound")
        .into_inner();
    assert_eq!(bound.outcome(), BindOutcome::Bound);
    let snapshot = bound.snapshot.expect("a snapshot");
    assert_eq!(
        snapshot.account.clone().expect("an account").id,
        alice.account
    );
    for name in ["dev:alice", &alice.account] {
        let told = service
            .inner
            .get_entitlements(about(name))
            .await
            .expect("an answer")
            .into_inner();
        assert!(
            is_active(&told.snapshot.expect("a snapshot"), "pro_access"),
            "{name}"
        );
    }
    let nameless = service
        .inner
        .get_entitlements(about(""))
        .await
        .expect_err("whose?");
    assert_refused(&nameless, Code::InvalidArgument, "REQUEST_INVALID");
    for unknown in ["strangers:bob", "00000000-0000-4000-8000-000000000000"] {
        let refused = service
            .inner
            .bind_purchase(bind(unknown))
            .await
            .expect_err(unknown);
        assert_refused(&refused, Code::NotFound, "ACCOUNT_NOT_FOUND");
    }

    let mut mallory = world.person("mallory").await;
    let allowed = "ACCOUNT_NOT_ALLOWED";
    let refused = mallory
        .client
        .inner
        .get_entitlements(about("dev:alice"))
        .await
        .expect_err("not a service");
    assert_refused(&refused, Code::PermissionDenied, allowed);
    let refused = mallory
        .client
        .inner
        .bind_purchase(bind("dev:mallory"))
        .await
        .expect_err("not a service");
    assert_refused(&refused, Code::PermissionDenied, allowed);
    let watch = entitled::proto::WatchEntitlementsRequest {
        account: alice.account.clone(),
        ..Default::default()
    };
    let refused = mallory
        .client
        .inner
        .watch_entitlements(watch)
        .await
        .expect_err("not a service");
    assert_refused(&refused, Code::PermissionDenied, allowed);
    let refresh = entitled::proto::RefreshSubscriptionRequest {
        account: alice.account.clone(),
    };
    let refused = mallory
        .client
        .inner
        .refresh_subscription(refresh)
        .await
        .expect_err("not a service");
    assert_refused(&refused, Code::PermissionDenied, allowed);
    world.stop().await;
}
