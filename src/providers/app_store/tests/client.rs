//! Fetching a chain from a store on loopback: which calls, with which token, and what failure means.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::support::{
    APP_APPLE_ID, BUNDLE, Loopback, NOW_MS, Signer, catalog, now, ok, refusal, renewal,
    transaction, with,
};
use crate::domain::chain::AppId;
use crate::domain::reconcile::Answer;
use crate::domain::subscription::store_state::StoreState;
use crate::providers::app_store::{AppStore, binding};
use crate::providers::contract::{FetchError, FetchRequest, Store, StoreAnswer};

const ID: &str = "2000000000000001";

async fn fetch(store: &AppStore) -> Result<Vec<StoreAnswer>, FetchError> {
    read(store, None, false).await
}

async fn read(
    store: &AppStore,
    last: Option<&StoreState>,
    thorough: bool,
) -> Result<Vec<StoreAnswer>, FetchError> {
    let head = binding::alias(AppId("example-ios".into()), ID.into());
    let catalog = catalog();
    let request = FetchRequest {
        head: &head,
        evidence: &[],
        known: &[],
        last,
        thorough,
        catalog: &catalog,
    };
    store.fetch(request).await
}

fn normalized(store: &AppStore, answers: &[StoreAnswer]) -> Answer {
    let head = binding::alias(AppId("example-ios".into()), ID.into());
    store.normalize(&head, answers, &catalog(), now()).unwrap()
}

fn statuses(signer: &Signer, environment: &str) -> Value {
    let there = json!({"environment": environment});
    json!({
        "environment": environment, "bundleId": BUNDLE, "appAppleId": APP_APPLE_ID,
        "data": [{"lastTransactions": [{
            "status": 1, "originalTransactionId": ID,
            "signedTransactionInfo": signer.sign(&with(transaction(), there.clone())),
            "signedRenewalInfo": signer.sign(&with(renewal(), there)),
        }]}],
    })
}

fn calls(answers: &[StoreAnswer]) -> Vec<&str> {
    answers.iter().map(|answer| answer.call.as_str()).collect()
}

#[tokio::test]
async fn a_renewable_is_its_statuses_and_all_pages_of_its_history() {
    let signer = Signer::genuine();
    let body = statuses(&signer, "Production");
    let server = Loopback::start(move |path| match path {
        "/production/inApps/v1/subscriptions/2000000000000001" => ok(body.clone()),
        "/production/inApps/v2/history/2000000000000001?productType=AUTO_RENEWABLE" => {
            ok(json!({"signedTransactions": [], "revision": "a&b", "hasMore": true}))
        }
        "/production/inApps/v2/history/2000000000000001?productType=AUTO_RENEWABLE&revision=a%26b" => {
            ok(json!({"signedTransactions": [], "revision": "c", "hasMore": false}))
        }
        _ => refusal(4_000_000),
    })
    .await;
    let store = signer.store(&server.base);
    let answers = fetch(&store).await.unwrap();
    assert_eq!(
        calls(&answers),
        [
            "production/subscriptions",
            "production/history/1",
            "production/history/2"
        ]
    );
    assert!(matches!(normalized(&store, &answers), Answer::Store(_)));
}

#[tokio::test]
async fn who_doubts_the_books_has_all_of_it_read_and_the_refunds_by_themselves() {
    let signer = Signer::genuine();
    let body = statuses(&signer, "Production");
    let older = json!({"transactionId": "2000000000000000", "signedDate": NOW_MS});
    let charged = signer.sign(&with(transaction(), older.clone()));
    let refund = json!({"revocationDate": NOW_MS, "revocationReason": 0,
        "revocationType": "REFUND_FULL", "signedDate": NOW_MS + 1});
    let refunded = signer.sign(&with(with(transaction(), older), refund));
    let another = json!({"originalTransactionId": "9", "transactionId": "9"});
    let others = signer.sign(&with(transaction(), another));
    let history = "/production/inApps/v2/history/2000000000000001?productType=AUTO_RENEWABLE";
    let refunds = "/production/inApps/v2/refund/lookup/2000000000000001";
    let server = Loopback::start(move |path| match path {
        "/production/inApps/v1/subscriptions/2000000000000001" => ok(body.clone()),
        path if path == history => {
            ok(json!({"signedTransactions": [charged], "revision": "h", "hasMore": false}))
        }
        path if path == format!("{history}&revision=h") => {
            ok(json!({"signedTransactions": [], "revision": "h", "hasMore": false}))
        }
        path if path == refunds => {
            ok(json!({"signedTransactions": [others], "revision": "r", "hasMore": true}))
        }
        path if path == format!("{refunds}?revision=r") => {
            ok(json!({"signedTransactions": [refunded], "revision": "s", "hasMore": false}))
        }
        _ => refusal(4_000_000),
    })
    .await;
    let store = signer.store(&server.base);
    let Answer::Store(known) = normalized(&store, &fetch(&store).await.unwrap()) else {
        panic!("a state")
    };
    let routine = read(&store, Some(&known), false).await.unwrap();
    let routine = calls(&routine).join(" ");
    assert_eq!(routine, "production/subscriptions production/history/1");

    let answers = read(&store, Some(&known), true).await.unwrap();
    let thorough = calls(&answers).join(" ");
    assert_eq!(
        thorough,
        "production/subscriptions production/history/1 production/refunds/1 production/refunds/2"
    );
    let Answer::Store(state) = normalized(&store, &answers) else {
        panic!("a state")
    };
    let charges: Vec<_> = state
        .transactions
        .iter()
        .map(|charge| (charge.transaction_id.as_str(), charge.refund.is_some()))
        .collect();
    assert_eq!(charges.len(), 2, "nobody else's: {charges:?}");
    assert!(charges.contains(&("2000000000000000", true)), "{charges:?}");
    assert_eq!(state.bookmark.as_deref(), Some("h"), "of the history");
}

#[tokio::test]
async fn what_production_does_not_know_is_asked_in_sandbox() {
    let signer = Signer::genuine();
    let body = statuses(&signer, "Sandbox");
    let server = Loopback::start(move |path| match path {
        "/sandbox/inApps/v1/subscriptions/2000000000000001" => ok(body.clone()),
        "/sandbox/inApps/v2/history/2000000000000001?productType=AUTO_RENEWABLE" => {
            ok(json!({"signedTransactions": [], "hasMore": false}))
        }
        _ => refusal(4_040_010),
    })
    .await;
    let store = signer.store(&server.base);
    let answers = fetch(&store).await.unwrap();
    assert!(calls(&answers).contains(&"sandbox/subscriptions"));
    assert!(matches!(normalized(&store, &answers), Answer::Store(_)));
}

#[tokio::test]
async fn a_customers_other_subscription_is_no_answer() {
    let signer = Signer::genuine();
    let mut body = statuses(&signer, "Production");
    body["data"][0]["lastTransactions"][0]["originalTransactionId"] = json!("9");
    let lasting = with(
        transaction(),
        json!({"type": "Non-Consumable", "expiresDate": null}),
    );
    let info = json!({"signedTransactionInfo": signer.sign(&lasting)});
    let server = Loopback::start(move |path| {
        if path.contains("subscriptions") {
            ok(body.clone())
        } else {
            ok(info.clone())
        }
    })
    .await;
    let store = signer.store(&server.base);
    let answers = fetch(&store).await.unwrap();
    assert_eq!(
        calls(&answers),
        ["production/subscriptions", "production/transaction"]
    );
    let Answer::Store(state) = normalized(&store, &answers) else {
        panic!("a state")
    };
    assert_eq!(state.items[0].key, "purchase");
}

#[tokio::test]
async fn the_store_not_knowing_it_anywhere_is_an_answer() {
    let signer = Signer::genuine();
    let server = Loopback::start(|_| refusal(4_040_005)).await;
    let store = signer.store(&server.base);
    let answers = fetch(&store).await.unwrap();
    assert_eq!(answers.len(), 4);
    assert_eq!(normalized(&store, &answers), Answer::NotFound);
}

#[tokio::test]
async fn only_retryable_failures_are_tried_again_and_never_in_another_environment() {
    let signer = Signer::genuine();
    for (code, tries) in [
        (4_040_006, 3),
        (5_000_001, 3),
        (5_000_000, 3),
        (4_000_000, 1),
    ] {
        let server = Loopback::start(move |_| refusal(code)).await;
        let result = fetch(&signer.store(&server.base)).await;
        assert_eq!(
            matches!(result, Err(FetchError::Away { .. })),
            tries == 3,
            "{code}"
        );
        assert_eq!(server.paths().len(), tries, "{code}");
        assert!(
            server
                .paths()
                .iter()
                .all(|path| path.starts_with("/production/"))
        );
    }
    let count = Arc::new(AtomicUsize::new(0));
    let server = Loopback::start(move |_| {
        let n = count.fetch_add(1, Ordering::Relaxed);
        if n < 2 {
            refusal(5_000_001)
        } else {
            refusal(4_040_010)
        }
    })
    .await;
    assert!(fetch(&signer.store(&server.base)).await.is_ok());
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_back() {
    let signer = Signer::genuine();
    let server = Loopback::start(|_| {
        let soon = SystemTime::now() + Duration::from_secs(90);
        let millis = soon.duration_since(UNIX_EPOCH).unwrap().as_millis();
        (
            429,
            vec![("retry-after", millis.to_string())],
            json!({"errorCode": 4_290_000}),
        )
    })
    .await;
    let Err(FetchError::Away {
        retry_after: Some(wait),
        ..
    }) = fetch(&signer.store(&server.base)).await
    else {
        panic!("a pause")
    };
    assert!((80..=90).contains(&wait.as_secs()));
    assert_eq!(server.paths().len(), 1);
}

#[tokio::test]
async fn refused_credentials_a_redirect_and_nobody_there_are_told_apart() {
    let signer = Signer::genuine();
    let unauthorized = Loopback::start(|_| (401, Vec::new(), json!(null))).await;
    let result = fetch(&signer.store(&unauthorized.base)).await;
    assert!(matches!(result, Err(FetchError::Refused(_))));
    let redirect = Loopback::start(|_| {
        (
            302,
            vec![("location", "http://127.0.0.1:9/".to_owned())],
            json!(null),
        )
    })
    .await;
    let result = fetch(&signer.store(&redirect.base)).await;
    assert!(matches!(result, Err(FetchError::Unreadable(_))));
    let result = fetch(&signer.store("http://127.0.0.1:9")).await;
    assert!(matches!(result, Err(FetchError::Away { .. })));
}

#[tokio::test]
async fn a_history_that_turns_in_circles_is_not_believed() {
    let signer = Signer::genuine();
    let body = statuses(&signer, "Production");
    let server = Loopback::start(move |path| {
        if path.contains("subscriptions") {
            ok(body.clone())
        } else {
            ok(json!({"signedTransactions": [], "revision": "same", "hasMore": true}))
        }
    })
    .await;
    let result = fetch(&signer.store(&server.base)).await;
    assert!(matches!(result, Err(FetchError::Unreadable(_))));
    assert_eq!(server.paths().len(), 3);
}

#[tokio::test]
async fn calls_carry_one_short_lived_token_of_the_bundle() {
    let signer = Signer::genuine();
    let server = Loopback::start(|_| refusal(4_040_010)).await;
    fetch(&signer.store(&server.base)).await.unwrap();
    let tokens: Vec<String> = server
        .calls
        .lock()
        .unwrap()
        .iter()
        .map(|call| call.1.clone())
        .collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    let jwt = tokens[0].strip_prefix("Bearer ").unwrap();
    let part = |n: usize| -> Value {
        let text = jwt.split('.').nth(n).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
    };
    assert_eq!(part(0), json!({"alg": "ES256", "kid": "key", "typ": "JWT"}));
    let claims = part(1);
    assert_eq!(claims["aud"], "appstoreconnect-v1");
    assert_eq!(claims["bid"], BUNDLE);
    assert_eq!(claims["iss"], "issuer");
    let machine = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(claims["iat"].as_u64().unwrap().abs_diff(machine) < 60);
    assert_eq!(
        claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
        300
    );
}
