//! The provider against a Google on loopback: proofs, reads, acknowledgements, access tokens.

#![allow(clippy::unwrap_used, clippy::panic)]

mod effects;
mod orders;
pub(super) mod testkit;

use serde_json::{Value, json};

use self::testkit::{FakeGoogle, error_body, http, push_claims};
use super::*;
use crate::domain::catalog::tests::example;
use crate::domain::chain::AliasKind;
use crate::domain::chain::AppId;
use crate::domain::duty::Duty;
use crate::domain::subscription::store_state::{Evidence, VoidCause};

pub(in crate::providers::google_play) const TOKEN: &str =
    "abcdefghijklmnopqrstuvwx.AO-J1Oyz_the-head";
pub(in crate::providers::google_play) const PATH: &str =
    "/purchases/subscriptionsv2/tokens/abcdefghijklmnopqrstuvwx.AO-J1Oyz_the-head";
const PRODUCT: &str = "/purchases/productsv2/tokens/abcdefghijklmnopqrstuvwx.AO-J1Oyz_the-head";

fn now() -> Instant {
    "2026-01-20T00:00:00Z".parse().unwrap()
}

fn alias(token: &str) -> Alias {
    read::token_alias(AppId("example-android".into()), token.into())
}

pub(in crate::providers::google_play) async fn setup() -> (FakeGoogle, GooglePlay) {
    let google = FakeGoogle::start().await;
    let store = GooglePlay::new(&google.config(), &http()).unwrap();
    (google, store)
}

async fn fetch_with(
    store: &GooglePlay,
    evidence: &[Evidence],
    known: &[Alias],
) -> Result<Vec<StoreAnswer>, FetchError> {
    let (head, catalog) = (alias(TOKEN), example());
    let request = FetchRequest {
        thorough: false,
        head: &head,
        evidence,
        known,
        last: None,
        catalog: &catalog,
    };
    store.fetch(request).await
}

pub(in crate::providers::google_play) async fn fetch(
    store: &GooglePlay,
) -> Result<Vec<StoreAnswer>, FetchError> {
    fetch_with(store, &[], &[]).await
}

fn calls(answers: &[StoreAnswer]) -> Vec<(&str, u16)> {
    answers
        .iter()
        .map(|answer| (answer.call.as_str(), answer.status))
        .collect()
}

pub(in crate::providers::google_play) fn purchase(linked: Option<&str>) -> Value {
    json!({"subscriptionState": "SUBSCRIPTION_STATE_ACTIVE", "startTime": "2026-01-10T00:00:00Z",
        "linkedPurchaseToken": linked, "lineItems": [{"productId": "premium",
        "expiryTime": "2026-02-10T00:00:00Z", "offerDetails": {"basePlanId": "premium-yearly"}}]})
}

fn linked_path(token: &str) -> String {
    format!("GET /purchases/subscriptionsv2/tokens/{token}")
}

#[tokio::test]
async fn a_proof_is_checked_without_a_call() {
    let (google, store) = setup().await;
    let verify = async |package: &str, token: &str| {
        let (package_name, token) = (package.to_owned(), token.to_owned());
        let proof = Proof::GooglePlayToken {
            package_name,
            token,
        };
        store.verify_proof(&proof, &example(), now()).await
    };
    let proven = verify("com.example.app", TOKEN).await.unwrap();
    assert_eq!(proven.alias, alias(TOKEN));
    assert!(proven.stand_in.is_none() && proven.account_token.is_none());
    assert_eq!(
        verify("com.example.other", TOKEN).await.unwrap_err(),
        ProofError::UnknownApp
    );
    for junk in [
        "",
        "123456789012345",
        "abcdefghijklmnopqrstuvwx",
        "../../../../../../etc/passwd",
    ] {
        let refused = verify("com.example.app", junk).await.unwrap_err();
        assert!(matches!(refused, ProofError::Invalid(_)), "{refused}");
    }
    let apple = Proof::AppStoreTransaction("a.b.c".into());
    let refused = store
        .verify_proof(&apple, &example(), now())
        .await
        .unwrap_err();
    assert!(matches!(refused, ProofError::Invalid(_)));
    assert_eq!(google.count(""), 0);
}

#[tokio::test]
async fn a_subscription_takes_one_call() {
    let (google, store) = setup().await;
    google.on(&format!("GET {PATH}"), 200, purchase(None));
    let answers = fetch(&store).await.unwrap();
    assert_eq!(calls(&answers), [("subscriptions", 200)]);
    assert_eq!(
        google.script(|script| script.bearers.clone()),
        ["Bearer access-1"]
    );
    let answer = store
        .normalize(&alias(TOKEN), &answers, &example(), now())
        .unwrap();
    assert!(matches!(answer, Answer::Store(_)));
}

#[tokio::test]
async fn a_token_that_is_no_subscription_is_asked_for_as_a_product() {
    let (google, store) = setup().await;
    google.on(
        &format!("GET {PRODUCT}"),
        200,
        json!({"productLineItem": []}),
    );
    assert_eq!(
        calls(&fetch(&store).await.unwrap()),
        [("subscriptions", 404), ("products", 200)]
    );
    let (google, store) = setup().await;
    google.on(
        &format!("GET {PATH}"),
        410,
        error_body(410, "purchaseTokenNoLongerValid"),
    );
    let answers = fetch(&store).await.unwrap();
    let answer = store
        .normalize(&alias(TOKEN), &answers, &example(), now())
        .unwrap();
    assert_eq!(
        (calls(&answers), answer),
        (vec![("subscriptions", 410)], Answer::Gone)
    );
    let (_google, store) = setup().await;
    let answers = fetch(&store).await.unwrap();
    let answer = store
        .normalize(&alias(TOKEN), &answers, &example(), now())
        .unwrap();
    assert_eq!(answer, Answer::NotFound);
}

#[tokio::test]
async fn the_walk_over_linked_tokens_ends() {
    let (google, store) = setup().await;
    google.on(&format!("GET {PATH}"), 200, purchase(Some("t1")));
    google.on(&linked_path("t1"), 200, purchase(Some("t2")));
    google.on(&linked_path("t2"), 200, purchase(Some("t3")));
    google.on(
        &linked_path("t3"),
        410,
        error_body(410, "purchaseTokenNoLongerValid"),
    );
    let answers = fetch(&store).await.unwrap();
    let all = [
        ("subscriptions", 200),
        ("linked/1", 200),
        ("linked/2", 200),
        ("linked/3", 410),
    ];
    assert_eq!(calls(&answers), all);
    let answer = store
        .normalize(&alias(TOKEN), &answers, &example(), now())
        .unwrap();
    let Answer::Store(state) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(
        state.predecessors,
        vec![alias("t1"), alias("t2"), alias("t3")]
    );

    let known = fetch_with(&store, &[], &[alias("t2")]).await.unwrap();
    assert_eq!(calls(&known), all[..2]);
    let known = fetch_with(&store, &[], &[alias("t1")]).await.unwrap();
    assert_eq!(calls(&known), all[..1]);

    let (google, store) = setup().await;
    google.on(&format!("GET {PATH}"), 200, purchase(Some("loop")));
    google.on(&linked_path("loop"), 200, purchase(Some(TOKEN)));
    assert_eq!(fetch(&store).await.unwrap().len(), 2);
    let (google, store) = setup().await;
    google.on(&format!("GET {PATH}"), 200, purchase(Some("n0")));
    for n in 0..20 {
        google.on(
            &linked_path(&format!("n{n}")),
            200,
            purchase(Some(&format!("n{}", n + 1))),
        );
    }
    assert_eq!(fetch(&store).await.unwrap().len(), 11, "ten hops");
}

#[tokio::test]
async fn orders_of_voids_are_read_and_never_hold_up_the_rest() {
    let (google, store) = setup().await;
    google.on(&format!("GET {PATH}"), 200, purchase(None));
    let order = json!({"orderId": "GPA.1", "buyerAddress": {"street": "S"}, "state": "REFUNDED"});
    google.on("GET /orders/GPA.1", 200, order);
    google.on(
        "GET /orders/GPA.1..0",
        403,
        error_body(403, "permissionDenied"),
    );
    let void = |id: &str| Evidence::Void {
        order_id: id.into(),
        at: now(),
        partial: false,
        cause: VoidCause::Other,
    };
    let evidence = [void("GPA.1"), void("GPA.1..0"), void("GPA.2"), void("..")];
    let answers = fetch_with(&store, &evidence, &[]).await.unwrap();
    let expected = [
        ("subscriptions", 200),
        ("orders/GPA.1", 200),
        ("orders/GPA.2", 404),
        ("bookmark", 200),
    ];
    assert_eq!(calls(&answers), expected);
    let kept = String::from_utf8(answers[1].body.to_vec()).unwrap();
    assert!(
        kept.contains("REFUNDED") && !kept.contains("buyerAddress"),
        "{kept}"
    );
}

#[tokio::test]
async fn only_apps_of_the_catalog_are_asked_for() {
    let (google, store) = setup().await;
    let catalog = example();
    let foreign = read::token_alias(AppId("example-ios".into()), TOKEN.into());
    let apple = Alias {
        kind: AliasKind::OriginalTransactionId,
        ..alias("1")
    };
    for head in [foreign, apple] {
        let request = FetchRequest {
            thorough: false,
            head: &head,
            evidence: &[],
            known: &[],
            last: None,
            catalog: &catalog,
        };
        assert!(store.fetch(request).await.is_err());
    }
    let slash = alias("a/../../../evil?x=1#y");
    let request = FetchRequest {
        thorough: false,
        head: &slash,
        evidence: &[],
        known: &[],
        last: None,
        catalog: &catalog,
    };
    store.fetch(request).await.unwrap();
    let call = google.script(|script| script.calls[1].clone());
    assert!(
        call.ends_with("/subscriptionsv2/tokens/a%2F..%2F..%2F..%2Fevil%3Fx=1%23y"),
        "{call}"
    );
}

async fn state(store: &GooglePlay) -> StoreState {
    let answers = fetch(store).await.unwrap();
    let read = store
        .normalize(&alias(TOKEN), &answers, &example(), now())
        .unwrap();
    let Answer::Store(state) = read else {
        panic!("{read:?}")
    };
    state
}

#[tokio::test]
async fn purchases_are_acknowledged_by_kind_and_more_than_once() {
    let (google, store) = setup().await;
    google.on(&format!("GET {PATH}"), 200, purchase(None));
    let path = format!("POST /purchases/subscriptions/premium/tokens/{TOKEN}:acknowledge");
    google.on(&path, 204, json!({}));
    let subscription = state(&store).await;
    for _ in 0..2 {
        acknowledge(&store, &subscription).await.unwrap();
    }
    let (google, store) = setup().await;
    let product = json!({"purchaseStateContext": {"purchaseState": "PURCHASED"},
        "purchaseCompletionTime": "2026-01-10T00:00:00Z",
        "acknowledgementState": "ACKNOWLEDGEMENT_STATE_PENDING",
        "productLineItem": [{"productId": "lifetime"}]});
    google.on(&format!("GET {PRODUCT}"), 200, product);
    google.on(
        &format!("POST /purchases/products/lifetime/tokens/{TOKEN}:acknowledge"),
        200,
        json!({}),
    );
    let lifetime = state(&store).await;
    acknowledge(&store, &lifetime).await.unwrap();
    assert_eq!(google.count(":acknowledge"), 1);
}

#[tokio::test]
async fn a_refused_acknowledgement_counts_only_if_it_was_done_before() {
    for (said, done) in [("ACKNOWLEDGED", true), ("PENDING", false)] {
        let (google, store) = setup().await;
        let mut purchase = purchase(None);
        purchase["acknowledgementState"] = json!(format!("ACKNOWLEDGEMENT_STATE_{said}"));
        google.on(&format!("GET {PATH}"), 200, purchase);
        let path = format!("POST /purchases/subscriptions/premium/tokens/{TOKEN}:acknowledge");
        google.on(&path, 400, error_body(400, "invalid"));
        let state = state(&store).await;
        assert_eq!(acknowledge(&store, &state).await.is_ok(), done, "{said}");
    }
}

#[tokio::test]
async fn inspect_explains_a_push_and_a_bare_notification() {
    use base64::Engine;
    let google = FakeGoogle::start().await;
    let push = google.push_config();
    let notification = json!({"packageName": "com.example.app", "eventTimeMillis": "1760000000000",
        "voidedPurchaseNotification": {"purchaseToken": TOKEN, "orderId": "GPA.1", "refundType": 1}});
    let notification = notification.to_string();
    let data = base64::engine::general_purpose::STANDARD.encode(&notification);
    let body = json!({"message": {"data": data, "messageId": "m-1"},
        "subscription": push.subscription});
    let (body, catalog) = (body.to_string(), example());
    let bearer = format!("Bearer {}", google.push_key.sign(&push_claims()));
    let run = async |body: &str, bearer: Option<&str>| {
        inspect::rtdn(
            Some(&push),
            &http(),
            Some(&catalog),
            body.as_bytes(),
            bearer,
        )
        .await
        .unwrap()
    };
    let whole = run(&body, Some(&bearer)).await;
    assert!(whole.is_ok(), "{whole}");
    assert!(
        whole.to_string().contains("order GPA.1 was voided"),
        "{whole}"
    );
    assert!(!whole.to_string().contains(TOKEN));
    let bare = run(&notification, None).await;
    assert!(
        bare.is_ok() && bare.to_string().contains("skipped token"),
        "{bare}"
    );
    let forged = run(&body, Some("Bearer a.b.c")).await;
    assert!(
        !forged.is_ok() && forged.to_string().contains("failed  token"),
        "{forged}"
    );
    let foreign = run(
        &notification.replace("com.example.app", "com.example.x"),
        None,
    )
    .await;
    assert!(!foreign.is_ok());
    assert!(!run("{}", None).await.is_ok());
}

async fn acknowledge(store: &GooglePlay, state: &StoreState) -> Result<(), FetchError> {
    let effect = Effect {
        state,
        transaction_id: &state.head.value,
        duty: &Duty::Acknowledge {
            account_token: None,
        },
        answer: None,
    };
    store.perform(effect, &example()).await
}
