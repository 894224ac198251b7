//! What Google is told and asked to do: the right call, the right words, its own words when it
//! refuses.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::testkit::{FakeGoogle, error_body};
use super::*;
use crate::domain::provider::Environment;
use crate::domain::refund_defence::{Delivery as Delivered, Preference, RefundAnswer};

async fn subscribed() -> (FakeGoogle, GooglePlay, StoreState) {
    let (google, store) = setup().await;
    let mut purchase = purchase(None);
    purchase["etag"] = json!("tag-1");
    google.on(&format!("GET {PATH}"), 200, purchase);
    let state = state(&store).await;
    (google, store, state)
}

async fn bought(consumption: &str) -> (FakeGoogle, GooglePlay, StoreState) {
    let (google, store) = setup().await;
    let product = json!({"purchaseStateContext": {"purchaseState": "PURCHASED"},
        "purchaseCompletionTime": "2026-01-10T00:00:00Z", "orderId": "GPA.1",
        "acknowledgementState": "ACKNOWLEDGEMENT_STATE_PENDING",
        "productLineItem": [{"productId": "coins", "productOfferDetails":
            {"consumptionState": consumption}}]});
    google.on(&format!("GET {PRODUCT}"), 200, product);
    let state = state(&store).await;
    (google, store, state)
}

fn last(google: &FakeGoogle) -> String {
    google.script(|script| script.sent.last().cloned().unwrap())
}

async fn perform(
    store: &GooglePlay,
    state: &StoreState,
    transaction_id: &str,
    duty: &Duty,
    answer: Option<&RefundAnswer>,
) -> Result<(), FetchError> {
    let effect = Effect {
        state,
        transaction_id,
        duty,
        answer,
    };
    store.perform(effect, &example()).await
}

#[tokio::test]
async fn an_acknowledgement_names_the_account_where_the_app_could_not() {
    let (google, store, state) = subscribed().await;
    let path = format!("POST /purchases/subscriptions/premium/tokens/{TOKEN}:acknowledge");
    google.on(&path, 204, json!({}));
    for (account_token, body) in [
        (None, json!({})),
        (
            Some("account-1".to_owned()),
            json!({"externalAccountIds": {"obfuscatedAccountId": "account-1"}}),
        ),
    ] {
        let duty = Duty::Acknowledge { account_token };
        perform(&store, &state, TOKEN, &duty, None).await.unwrap();
        assert_eq!(last(&google), format!("{path}? {body}"));
    }
}

#[tokio::test]
async fn consuming_twice_is_consuming_once() {
    let consume = format!("POST /purchases/products/coins/tokens/{TOKEN}:consume");
    let (google, store, state) = bought("CONSUMPTION_STATE_YET_TO_BE_CONSUMED").await;
    google.on(&consume, 204, json!({}));
    perform(&store, &state, TOKEN, &Duty::Consume, None)
        .await
        .unwrap();
    for (said, done) in [("CONSUMED", true), ("YET_TO_BE_CONSUMED", false)] {
        let (google, store, state) = bought(&format!("CONSUMPTION_STATE_{said}")).await;
        google.on(&consume, 400, error_body(400, "productNotOwnedByUser"));
        let told = perform(&store, &state, TOKEN, &Duty::Consume, None).await;
        assert_eq!(told.is_ok(), done, "{said}");
    }
}

#[tokio::test]
async fn a_refund_review_is_answered_in_googles_words() {
    let duty = Duty::ReviewRefund {
        pending_refund_token: "say-so".into(),
    };
    let cases = [
        (Preference::Decline, "DECLINE"),
        (Preference::GrantFull, "APPROVE"),
        (Preference::GrantProrated, "NEUTRAL"),
        (Preference::Neutral, "NEUTRAL"),
    ];
    let answer = |preference| RefundAnswer {
        sample_content_provided: true,
        delivery: Delivered::Delivered,
        consumption_millipercent: Some(25_000),
        preference,
    };
    let path = "POST /orders/GPA.1..0:reviewrefund";
    let (google, store, state) = subscribed().await;
    google.on(path, 204, json!({}));
    for (preference, word) in cases {
        let answer = answer(preference);
        perform(&store, &state, "GPA.1..0", &duty, Some(&answer))
            .await
            .unwrap();
        let call = last(&google);
        let body: Value = serde_json::from_str(call.split_once("? ").unwrap().1).unwrap();
        let expected = json!({"pendingRefundToken": "say-so", "refundPreference": word,
            "sampleContentProvided": true, "consumptionPercentageMilliunits": 25_000});
        assert_eq!(body, expected);
    }
    assert!(
        perform(&store, &state, "GPA.1..0", &duty, None)
            .await
            .is_err()
    );
    // Answered before, by somebody faster: the order no longer waits.
    for (order, done) in [("REFUNDED", true), ("PENDING_REFUND", false)] {
        let (google, store, state) = subscribed().await;
        google.on(path, 400, error_body(400, "invalid"));
        google.on(
            "GET /orders/GPA.1..0",
            200,
            json!({"orderId": "GPA.1..0", "state": order}),
        );
        let answer = answer(Preference::Decline);
        let told = perform(&store, &state, "GPA.1..0", &duty, Some(&answer)).await;
        assert_eq!(told.is_ok(), done, "{order}");
    }
}

#[tokio::test]
async fn operators_speak_to_google() {
    let (google, store, state) = subscribed().await;
    let v2 = format!("POST {PATH}");
    let cases = [
        (
            Command::Refund { order_id: "GPA.1..0".into(), revoke: false },
            "POST /orders/GPA.1..0:refund".to_owned(),
            "?revoke=false {}".to_owned(),
        ),
        (
            Command::Refund { order_id: "GPA.1".into(), revoke: true },
            "POST /orders/GPA.1:refund".to_owned(),
            "?revoke=true {}".to_owned(),
        ),
        (
            Command::Revoke { prorated: true },
            format!("{v2}:revoke"),
            "? {\"revocationContext\":{\"proratedRefund\":{}}}".to_owned(),
        ),
        (
            Command::Revoke { prorated: false },
            format!("{v2}:revoke"),
            "? {\"revocationContext\":{\"fullRefund\":{}}}".to_owned(),
        ),
        (
            Command::Cancel { by_developer: true },
            format!("{v2}:cancel"),
            "? {\"cancellationContext\":{\"cancellationType\":\"DEVELOPER_REQUESTED_STOP_PAYMENTS\"}}".to_owned(),
        ),
        (
            Command::Cancel { by_developer: false },
            format!("{v2}:cancel"),
            "? {\"cancellationContext\":{\"cancellationType\":\"USER_REQUESTED_STOP_RENEWALS\"}}".to_owned(),
        ),
        (
            Command::Extend { days: 30, request_id: "r".into() },
            format!("{v2}:defer"),
            "? {\"deferralContext\":{\"deferDuration\":\"2592000s\",\"etag\":\"tag-1\"}}".to_owned(),
        ),
    ];
    for (command, path, said) in cases {
        google.on(&path, 200, json!({}));
        store.command(&state, &command, &example()).await.unwrap();
        assert_eq!(last(&google), format!("{path}{said}"));
    }
}

#[tokio::test]
async fn a_refusal_is_told_in_googles_words_without_the_token() {
    let (google, store, state) = subscribed().await;
    let body = json!({"error": {"code": 400, "message": format!("No renewal of {TOKEN}."),
        "errors": [{"reason": "subscriptionCannotBeCanceled"}]}});
    google.on(&format!("POST {PATH}:cancel"), 400, body);
    let cancel = Command::Cancel { by_developer: true };
    let refused = store
        .command(&state, &cancel, &example())
        .await
        .unwrap_err();
    let said = refused.to_string();
    assert!(matches!(refused, CommandError::Declined(_)), "{said}");
    assert!(
        said.contains("subscriptionCannotBeCanceled: No renewal of …."),
        "{said}"
    );
    let (_google, store, product) = bought("").await;
    for command in [Command::Revoke { prorated: false }, cancel] {
        let refused = store.command(&product, &command, &example()).await;
        assert!(matches!(refused, Err(CommandError::NotOffered(_))));
    }
}

#[tokio::test]
async fn a_deferral_is_made_of_the_purchase_as_it_is() {
    let (google, store, state) = subscribed().await;
    let mut changed = purchase(None);
    changed["etag"] = json!("tag-2");
    google.on(&format!("GET {PATH}"), 200, changed);
    let path = format!("POST {PATH}:defer");
    google.on(&path, 409, error_body(409, "concurrentUpdate"));
    google.on(&path, 200, json!({}));
    let extend = Command::Extend {
        days: 1,
        request_id: "r".into(),
    };
    store.command(&state, &extend, &example()).await.unwrap();
    assert!(last(&google).contains("tag-2"), "{}", last(&google));
    assert_eq!(google.count(":defer"), 2);
}

/// An answer that is lost may be of something done: to move money or time again is worse than not
/// to know.
#[tokio::test]
async fn what_an_operator_asks_for_is_asked_once() {
    let extend = || Command::Extend {
        days: 7,
        request_id: "r".into(),
    };
    let refund = || Command::Refund {
        order_id: "GPA.1".into(),
        revoke: false,
    };
    let cancel = || Command::Cancel { by_developer: true };
    for (command, path) in [
        (extend(), format!("POST {PATH}:defer")),
        (refund(), "POST /orders/GPA.1:refund".to_owned()),
        (cancel(), format!("POST {PATH}:cancel")),
        (
            Command::Revoke { prorated: false },
            format!("POST {PATH}:revoke"),
        ),
    ] {
        let (google, store, state) = subscribed().await;
        google.on(&format!("GET {PATH}"), 200, purchase(None));
        google.on(&path, 503, json!({}));
        google.on(&path, 409, error_body(409, "concurrentUpdate"));
        google.on(&path, 200, json!({}));
        let lost = store.command(&state, &command, &example()).await;
        let undecided = matches!(
            lost,
            Err(CommandError::Store(FetchError::Away {
                untouched: false,
                ..
            }))
        );
        assert!(undecided, "{path}");
        assert_eq!(google.count(path.rsplit(':').next().unwrap()), 1, "{path}");
    }
    // Who was told to come back later has done nothing.
    let (google, store, state) = subscribed().await;
    let path = "POST /orders/GPA.1:refund";
    google.on(path, 429, json!({}));
    google.on(path, 204, json!({}));
    store.command(&state, &refund(), &example()).await.unwrap();
}

#[tokio::test]
async fn a_sweep_gives_rows_that_are_read_like_notifications() {
    let (google, store) = setup().await;
    let row = |order: &str| {
        json!({"purchaseToken": TOKEN, "orderId": order,
        "voidedTimeMillis": "1760000000123", "voidedReason": 7})
    };
    let path = "GET /purchases/voidedpurchases";
    let first = json!({"voidedPurchases": [row("GPA.1"), row("GPA.1..0")],
        "tokenPagination": {"nextPageToken": "more"}});
    google.on(path, 200, first);
    google.on(path, 200, json!({}));
    google.on(path, 400, error_body(400, "invalid"));
    let catalog = example();
    let app = catalog.app(&AppId("example-android".into())).unwrap();
    let request = |cursor| SweepRequest {
        app,
        environment: Environment::Production,
        since: now() - TimeDelta::days(90),
        until: now(),
        only_failures: false,
        cursor,
    };
    let page = store.sweep(request(None)).await.unwrap();
    assert_eq!(page.next.as_deref(), Some("more"));
    let ids: Vec<_> = page
        .found
        .iter()
        .map(|found| found.event_id.as_str())
        .collect();
    assert_eq!(
        ids,
        [
            "voided/GPA.1/1760000000123",
            "voided/GPA.1..0/1760000000123"
        ]
    );
    for found in &page.found {
        assert!(matches!(
            store.read(&found.body, &catalog),
            Reading::Chain(_)
        ));
    }
    let call = last(&google);
    for part in [
        "type=1",
        "includeQuantityBasedPartialRefund=true",
        "startTime=1766275200000",
    ] {
        assert!(call.contains(part), "{call}");
    }
    let end = store.sweep(request(page.next.as_deref())).await.unwrap();
    assert!(last(&google).contains("token=more"));
    assert_eq!((end.found.len(), end.next), (0, None));
    assert!(matches!(
        store.sweep(request(Some("old"))).await,
        Err(FetchError::Refused(_))
    ));
    let sandbox = SweepRequest {
        environment: Environment::Sandbox,
        ..request(None)
    };
    assert_eq!(store.sweep(sandbox).await.unwrap().found.len(), 0);
}
