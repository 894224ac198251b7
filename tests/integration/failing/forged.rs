//! Proofs that are none: forged, tampered, of another app, of another account.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entitled::proto::{
    AppStoreProof, BindOutcome, BindPurchaseRequest, ClientAction, GooglePlayProof, PurchaseProof,
    purchase_proof::Proof,
};
use entitled::sandbox::{AppStoreBuy, AppStorePurchase, forge};
use serde_json::{Value, json};
use tonic::Code;

use super::stores::{PACKAGE, buy_premium};
use crate::books::Books;
use crate::support::{World, assert_refused, client_action, is_active};

/// The yearly subscription, bought at the App Store.
pub(super) async fn buy_yearly(
    world: &World,
    customer: &str,
    account_token: Option<&str>,
) -> AppStorePurchase {
    let buy = AppStoreBuy {
        customer: customer.into(),
        product_id: "com.example.premium.yearly".into(),
        app_account_token: account_token.map(|token| token.parse().expect("a UUID")),
        ..AppStoreBuy::default()
    };
    world
        .stack
        .sandbox
        .buy_app_store(&buy)
        .await
        .expect("bought")
}

/// The claims of a compact JWS.
pub(super) fn payload(jws: &str) -> Value {
    let part = jws.split('.').nth(1).expect("a payload");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_forged_transaction_binds() {
    let world = World::still().await;
    let sandbox = &world.stack.sandbox;
    sandbox.hold_deliveries(true).await.expect("held");
    let bought = buy_yearly(&world, "alice", None).await;
    let books = Books::of(&world).await;
    let mut app = world.client("alice").await;
    app.get().await.expect("an account");
    let (before, calls) = (
        books.kept().await,
        crate::scene::asked_about_purchases(sandbox),
    );
    let genuine = payload(&bought.signed_transaction);
    let forgeries = forge::apple_variants(sandbox, &genuine).expect("forged");
    assert!(forgeries.len() > 35);
    for forgery in forgeries {
        let status = app
            .bind_app_store(&forgery.jws)
            .await
            .expect_err(&forgery.name);
        let reason = if forgery.jws.is_empty() {
            "REQUEST_INVALID"
        } else {
            "PROOF_INVALID"
        };
        assert_refused(&status, Code::InvalidArgument, reason);
        assert_eq!(
            client_action(&status),
            "CONTACT_SUPPORT",
            "{}",
            forgery.name
        );
        let said = status.message();
        let repeats = forgery
            .jws
            .split('.')
            .any(|part| part.len() > 8 && said.contains(part));
        assert!(!repeats, "{}: {said}", &forgery.name);
    }
    assert_eq!(books.kept().await, before, "nothing of it was kept");
    assert_eq!(
        crate::scene::asked_about_purchases(sandbox),
        calls,
        "nobody was asked"
    );
    let bound = app
        .bind_app_store(&bought.signed_transaction)
        .await
        .expect("the genuine one");
    assert_eq!(bound.outcome(), BindOutcome::Bound);
    assert_eq!(bound.client_action(), ClientAction::Finish);
    world.stop().await;
}

/// Apple has signed them, but they are no proof of a purchase in this app.
#[tokio::test(flavor = "multi_thread")]
async fn a_genuine_document_that_is_no_proof_here_binds_nothing() {
    let world = World::still().await;
    let sandbox = &world.stack.sandbox;
    sandbox.hold_deliveries(true).await.expect("held");
    let bought = buy_yearly(&world, "alice", None).await;
    let genuine = payload(&bought.signed_transaction);
    let with = |field: &str, value: Value| {
        let mut claims = genuine.clone();
        claims[field] = value;
        sandbox.sign_apple(&claims).expect("signed")
    };
    let notification: Value = serde_json::from_str(&sandbox.notifications()[0].body).expect("JSON");
    let notification = notification["signedPayload"]
        .as_str()
        .expect("a document")
        .to_owned();
    let renewal = payload(&notification)["data"]["signedRenewalInfo"]
        .as_str()
        .expect("inner")
        .to_owned();
    let in_an_hour = (sandbox.now() + chrono::TimeDelta::hours(1)).timestamp_millis();
    let foreign = [
        (with("bundleId", json!("com.example.other")), "APP_UNKNOWN"),
        (with("bundleId", json!("")), "APP_UNKNOWN"),
        (
            with("environment", json!("Xcode")),
            "ENVIRONMENT_NOT_ACCEPTED",
        ),
        (
            with("environment", json!("LocalTesting")),
            "ENVIRONMENT_NOT_ACCEPTED",
        ),
    ];
    let unsound = [
        with("signedDate", json!(in_an_hour)),
        with("signedDate", Value::Null),
        with("signedDate", json!("1799571600000")),
        with("signedDate", json!(1.5)),
        with("signedDate", json!(-1)),
        with("originalTransactionId", json!("../1")),
        with("originalTransactionId", json!(7)),
        with("transactionId", Value::Null),
        with("purchaseDate", json!("yesterday")),
        notification,
        renewal,
    ];
    let foreign = foreign
        .into_iter()
        .map(|(jws, reason)| (jws, Code::FailedPrecondition, reason));
    let unsound = unsound
        .into_iter()
        .map(|jws| (jws, Code::InvalidArgument, "PROOF_INVALID"));
    let books = Books::of(&world).await;
    let mut app = world.client("alice").await;
    app.get().await.expect("an account");
    let (before, calls) = (
        books.kept().await,
        crate::scene::asked_about_purchases(sandbox),
    );
    for (number, (jws, code, reason)) in foreign.chain(unsound).enumerate() {
        let status = app
            .bind_app_store(&jws)
            .await
            .expect_err(&format!("case {number}"));
        assert_refused(&status, code, reason);
        assert_eq!(client_action(&status), "CONTACT_SUPPORT");
    }
    assert_eq!(books.kept().await, before, "nothing of it was kept");
    assert_eq!(
        crate::scene::asked_about_purchases(sandbox),
        calls,
        "nobody was asked"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_readable_proof_is_refused() {
    let world = World::start().await;
    let mut app = world.client("alice").await;
    for proof in [None, Some(PurchaseProof { proof: None })] {
        let request = BindPurchaseRequest {
            proof,
            account: String::new(),
        };
        let status = app
            .inner
            .bind_purchase(request)
            .await
            .expect_err("nothing to bind");
        assert_refused(&status, Code::InvalidArgument, "REQUEST_INVALID");
    }
    let token = "x".repeat(144);
    for proof in [
        Proof::AppStore(AppStoreProof { proof: None }),
        Proof::GooglePlay(GooglePlayProof::default()),
        Proof::GooglePlay(GooglePlayProof {
            purchase_token: token.clone(),
            ..Default::default()
        }),
    ] {
        let status = app.bind(proof).await.expect_err("nothing to bind");
        assert_refused(&status, Code::InvalidArgument, "REQUEST_INVALID");
    }
    let status = app
        .bind_google_play("com.example.other", &token)
        .await
        .expect_err("no app of ours");
    assert_refused(&status, Code::FailedPrecondition, "APP_UNKNOWN");
    let status = app
        .bind_app_store(&"a".repeat(100 * 1024))
        .await
        .expect_err("too large");
    assert!(
        matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted),
        "{status:?}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_purchase_is_refused_without_a_word_about_its_owner() {
    let world = World::start().await;
    let mut alice = world.device("alice").await;
    let mut mallory = world.device("mallory").await;
    let account = alice.latest.account.clone().expect("account");
    let bought = buy_yearly(&world, "alice", Some(&account.store_token)).await;
    let google = buy_premium(&world, "alice", Some(&account.store_token)).await;
    alice.until_active("pro_access").await;
    world.settled().await;

    let mut thief = world.client("mallory").await;
    let by_transaction = thief.bind_app_store(&bought.signed_transaction).await;
    let by_token = thief.bind_google_play(PACKAGE, &google).await;
    for refused in [by_transaction, by_token] {
        let status = refused.expect_err("another's");
        assert_refused(
            &status,
            Code::FailedPrecondition,
            "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT",
        );
        assert_eq!(client_action(&status), "CONTACT_SUPPORT");
        let said = format!("{status:?}{}", String::from_utf8_lossy(status.details()));
        for secret in [account.id.as_str(), account.store_token.as_str(), "alice"] {
            assert!(!said.contains(secret), "{said}");
        }
    }
    world.settled().await;
    assert_eq!(
        thief
            .get()
            .await
            .expect("read")
            .snapshot
            .expect("snapshot")
            .revision,
        0
    );
    assert!(mallory.is_quiet(Duration::from_millis(300)).await);
    let books = Books::of(&world).await;
    let told = "select count(distinct account_id) from subscription_events where reason = 'owned_by_another'";
    assert_eq!(books.number(told).await, 2, "an event on both accounts");
    assert_eq!(
        books.number("select count(*) from ownership_changes").await,
        2,
        "nothing moved"
    );
    let snapshot = world
        .client("alice")
        .await
        .get()
        .await
        .expect("read")
        .snapshot
        .expect("snapshot");
    assert!(is_active(&snapshot, "pro_access"));
    world.stop().await;
}
