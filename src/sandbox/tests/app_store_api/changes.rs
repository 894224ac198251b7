//! What a server changes: account tokens, renewal dates; and what it says it has delivered.

use super::*;

const ACCOUNT: &str = "2f0a5e0e-8f0e-4d8e-9f60-0d6b2f0f7f11";

#[tokio::test]
async fn an_account_token_is_set_on_the_latest_transaction_and_all_to_come() {
    let rig = shop(Environment::Production).await;
    let bought = rig.buy_apple("alice", MONTHLY).await;
    rig.sandbox.advance(Period::months(1)).await.unwrap();
    let renewed = rig.truth("alice").latest_transaction;
    let original = &bought.original_transaction_id;
    let path = |id: &str| format!("/v1/transactions/{id}/appAccountToken");
    let token = json!({"appAccountToken": ACCOUNT});
    let (status, body) = rig.call(Method::PUT, &path(original), token.clone()).await;
    assert_eq!((status, body), (200, Value::Null));
    let told = async |id: &str| {
        let answer = rig.get(&format!("/v1/transactions/{id}")).await;
        signed(&answer["signedTransactionInfo"])["appAccountToken"].clone()
    };
    assert_eq!(told(original).await, Value::Null);
    assert_eq!(told(&renewed).await, ACCOUNT);
    rig.sandbox.advance(Period::months(1)).await.unwrap();
    assert_eq!(told(&rig.truth("alice").latest_transaction).await, ACCOUNT);

    let shared = rig.buy_apple("alice", FAMILY).await;
    let shared = rig.share(&shared).await.original_transaction_id;
    let app = rig.app_transaction_id(&bought);
    for (id, body, code) in [
        (original, json!({"appAccountToken": "alice"}), 4_000_183),
        (original, json!({"appAccountToken": 1}), 4_000_183),
        (original, json!({}), 4_000_183),
        (&shared, token.clone(), 4_000_185),
        (&renewed, token.clone(), 4_000_187),
        (&app, token.clone(), 4_040_010),
        (&"12345".to_owned(), token.clone(), 4_040_010),
        (&"abc".to_owned(), token.clone(), 4_000_006),
    ] {
        rig.rejects(Method::PUT, &path(id), body, code).await;
    }
}

#[tokio::test]
async fn a_delivered_transaction_is_finished_as_often_as_one_likes() {
    let rig = shop(Environment::Production).await;
    let coins = rig.buy_apple("alice", COINS).await;
    let id = &coins.transaction_id;
    let path = |id: &str| format!("/v1/transactions/{id}/finish");
    for _ in 0..2 {
        let answer = rig.call(Method::POST, &path(id), Value::Null).await;
        assert_eq!(answer, (200, Value::Null));
    }
    let finished = rig.sandbox.inner.read(|world, _| {
        let chain = world.app_store.chain_by_transaction(id).unwrap();
        chain.transaction(id).unwrap().finished
    });
    assert!(finished);
    let app = rig.app_transaction_id(&coins);
    for (id, code) in [
        (app.as_str(), 4_000_048),
        ("1", 4_040_010),
        ("x", 4_000_006),
    ] {
        rig.rejects(Method::POST, &path(id), Value::Null, code)
            .await;
    }
}

fn extension(days: i64) -> Value {
    json!({"extendByDays": days, "extendReasonCode": 3, "requestIdentifier": "outage-1"})
}

#[tokio::test]
async fn one_renewal_date_is_extended_twice_in_a_year_and_no_more() {
    let rig = shop(Environment::Production).await;
    let bought = rig.buy_apple("alice", MONTHLY).await;
    let id = &bought.original_transaction_id;
    let path = format!("/v1/subscriptions/extend/{id}");
    let (status, answer) = rig.call(Method::PUT, &path, extension(7)).await;
    assert_eq!(status, 200);
    assert_eq!(answer["originalTransactionId"], *id);
    assert_eq!(answer["success"], true);
    assert_eq!(answer["effectiveDate"], millis("2026-02-17T12:00:00Z"));
    assert!(answer["webOrderLineItemId"].is_string());
    rig.sandbox.advance_by(TimeDelta::days(1)).await.unwrap();
    assert_eq!(rig.told().pop().unwrap(), "RENEWAL_EXTENDED");
    assert_eq!(rig.call(Method::PUT, &path, extension(90)).await.0, 200);
    rig.rejects(Method::PUT, &path, extension(1), 4_030_005)
        .await;

    let lapsed = rig.buy_apple("bob", FAMILY).await.original_transaction_id;
    rig.sandbox.set_auto_renew(&lapsed, false).await.unwrap();
    rig.sandbox.advance_by(TimeDelta::days(40)).await.unwrap();
    let coins = rig.buy_apple("alice", COINS).await.transaction_id;
    let family = rig.buy_apple("alice", FAMILY).await;
    let member = rig.done(AppStoreAction::Share {
        original_transaction_id: family.original_transaction_id.clone(),
        member: "carol".to_owned(),
    });
    let Outcome::AppStore(member) = member.await else {
        panic!("not shared")
    };
    let member = member.original_transaction_id;
    let good = extension(5);
    let with = |field: &str, value: Value| {
        let mut wish = good.clone();
        wish[field] = value;
        wish
    };
    let own = family.original_transaction_id.as_str();
    for (id, body, code) in [
        ("abc", good.clone(), 4_000_008),
        ("12345", good.clone(), 4_040_005),
        (own, with("extendByDays", json!(0)), 4_000_009),
        (own, with("extendByDays", json!(91)), 4_000_009),
        (own, with("extendByDays", json!("5")), 4_000_009),
        (own, with("extendReasonCode", json!(4)), 4_000_010),
        (own, with("extendReasonCode", Value::Null), 4_000_010),
        (own, with("requestIdentifier", json!("")), 4_000_011),
        (
            own,
            with("requestIdentifier", json!("x".repeat(129))),
            4_000_011,
        ),
        (lapsed.as_str(), good.clone(), 4_030_004),
        (coins.as_str(), good.clone(), 4_030_004),
        (member.as_str(), good.clone(), 4_030_007),
    ] {
        let path = format!("/v1/subscriptions/extend/{id}");
        rig.rejects(Method::PUT, &path, body, code).await;
    }
}

#[tokio::test]
async fn all_subscribers_of_a_product_are_extended_and_counted() {
    let rig = shop(Environment::Production).await;
    for customer in ["alice", "bob", "carol"] {
        rig.buy_apple(customer, MONTHLY).await;
    }
    rig.buy_apple("dave", FAMILY).await;
    let path = "/v1/subscriptions/extend/mass";
    let mut wish = extension(10);
    wish["productId"] = json!(MONTHLY);
    let status = |product: &str, request: &str| format!("{path}/{product}/{request}");
    rig.rejects_get(&status(MONTHLY, "outage-1"), 4_040_009)
        .await;
    let (code, answer) = rig.call(Method::POST, path, wish.clone()).await;
    assert_eq!(
        (code, answer),
        (200, json!({"requestIdentifier": "outage-1"}))
    );
    let told = rig.get(&status(MONTHLY, "outage-1")).await;
    assert_eq!(told["complete"], true);
    assert_eq!(told["completeDate"], start_time().timestamp_millis());
    assert_eq!(
        (&told["succeededCount"], &told["failedCount"]),
        (&json!(3), &json!(0))
    );
    rig.rejects_get(&status(FAMILY, "outage-1"), 4_040_009)
        .await;
    rig.sandbox.advance_by(TimeDelta::seconds(1)).await.unwrap();
    assert_eq!(rig.told().pop().unwrap(), "RENEWAL_EXTENSION/SUMMARY");
    assert_eq!(
        rig.truth("bob").expires_at.unwrap().timestamp_millis(),
        millis("2026-02-20T12:00:00Z")
    );

    for (field, value, code) in [
        ("productId", json!(COINS), 4_000_023),
        ("productId", json!("nothing"), 4_000_023),
        ("extendByDays", json!(-1), 4_000_009),
        ("extendReasonCode", json!("1"), 4_000_010),
        ("requestIdentifier", Value::Null, 4_000_011),
        ("storefrontCountryCodes", json!([]), 4_000_027),
        ("storefrontCountryCodes", json!(["USA", "de"]), 4_000_028),
        ("storefrontCountryCodes", json!("USA"), 4_000_028),
    ] {
        let mut wish = wish.clone();
        wish[field] = value;
        rig.rejects(Method::POST, path, wish, code).await;
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_read_has_no_error_code() {
    let rig = shop(Environment::Production).await;
    let id = rig
        .buy_apple("alice", MONTHLY)
        .await
        .original_transaction_id;
    for (method, path) in [
        (
            Method::PUT,
            format!("/v1/transactions/{id}/appAccountToken"),
        ),
        (Method::PUT, format!("/v1/subscriptions/extend/{id}")),
        (Method::POST, "/v1/subscriptions/extend/mass".to_owned()),
        (Method::POST, "/v1/notifications/history".to_owned()),
        (Method::PUT, format!("/v1/transactions/consumption/{id}")),
        (Method::PUT, format!("/v2/transactions/consumption/{id}")),
    ] {
        let url = format!("{}/apple/inApps{path}", rig.sandbox.base_url());
        let request = rig.http.request(method, url).body("{");
        let request = request.bearer_auth(rig.apple_token(&json!({})));
        let (status, body) = answer_of(request).await;
        assert_eq!(
            (status, &body["errorCode"]),
            (400, &json!(4_000_000)),
            "{path}"
        );
    }
}
