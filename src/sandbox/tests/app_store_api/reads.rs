//! What is told of one transaction, of a customer's subscriptions, of an order; and limits.

use super::*;

#[tokio::test]
async fn ids_of_the_wrong_kind_have_errors_of_their_own() {
    let rig = shop(Environment::Production).await;
    let bought = rig.buy_apple("alice", MONTHLY).await;
    let app = rig.app_transaction_id(&bought);
    for (path, code) in [
        ("/v1/transactions/12345".to_owned(), 4_040_010),
        ("/v1/transactions/abc".to_owned(), 4_000_006),
        (format!("/v1/transactions/{app}"), 4_000_048),
        ("/v1/transactions/appTransactions/x".to_owned(), 4_000_006),
        ("/v1/transactions/appTransactions/1".to_owned(), 4_040_010),
        ("/v1/subscriptions/12345".to_owned(), 4_040_010),
        ("/v1/subscriptions/abc".to_owned(), 4_000_006),
        (format!("/v1/subscriptions/{app}?status=0"), 4_000_031),
        (format!("/v1/subscriptions/{app}?status=x"), 4_000_031),
        ("/v1/history/abc".to_owned(), 4_000_006),
        ("/v2/history/12345".to_owned(), 4_040_010),
        ("/v2/refund/lookup/abc".to_owned(), 4_000_006),
        ("/v2/refund/lookup/12345".to_owned(), 4_040_010),
        (format!("/v2/refund/lookup/{app}?revision=x"), 4_000_005),
    ] {
        rig.rejects_get(&path, code).await;
    }
}

#[tokio::test]
async fn the_app_transaction_of_a_customer_is_found_by_any_id() {
    let rig = shop(Environment::Production).await;
    let bought = rig.buy_apple("alice", MONTHLY).await;
    let app = rig.app_transaction_id(&bought);
    for id in [&bought.transaction_id, &app] {
        let path = format!("/v1/transactions/appTransactions/{id}?");
        let told = signed(&rig.get(&path).await["signedAppTransactionInfo"]);
        assert_eq!(told["appTransactionId"], app);
        assert_eq!(told["receiptType"], "Production");
        assert_eq!(told["bundleId"], "com.example.app");
    }
}

#[tokio::test]
async fn statuses_are_grouped_filtered_and_those_of_one_customer() {
    let rig = shop(Environment::Production).await;
    let first = rig.buy_apple("alice", MONTHLY).await;
    let second = rig.buy_apple("alice", FAMILY).await;
    rig.buy_apple("bob", MONTHLY).await;
    let id = &second.original_transaction_id;
    rig.sandbox.set_auto_renew(id, false).await.unwrap();
    rig.sandbox.advance_by(TimeDelta::days(40)).await.unwrap();
    let app = rig.app_transaction_id(&first);
    let answer = rig.get(&format!("/v1/subscriptions/{app}")).await;
    let data = answer["data"].as_array().unwrap();
    assert_eq!(data.len(), 2);
    let path = format!("/v1/subscriptions/{app}?status=2&status=5");
    let expired = rig.get(&path).await;
    let item = &expired["data"][0]["lastTransactions"][0];
    assert_eq!(expired["data"].as_array().unwrap().len(), 1);
    assert_eq!(item["originalTransactionId"], *id);
    assert_eq!(item["status"], 2);
    let renewal = signed(&item["signedRenewalInfo"]);
    assert_eq!(renewal["originalTransactionId"], *id);
}

#[tokio::test]
async fn an_order_is_looked_up_in_production_alone() {
    for (environment, found) in [(Environment::Production, 1), (Environment::Sandbox, 0)] {
        let rig = shop(environment).await;
        let bought = rig.buy_apple("alice", COINS).await;
        let order = rig.sandbox.inner.read(|world, _| {
            let chain = world.app_store.chain_by_transaction(&bought.transaction_id);
            chain.unwrap().latest().unwrap().order_id.clone().unwrap()
        });
        let answer = rig.get(&format!("/v1/lookup/{order}")).await;
        assert_eq!(ids(&answer).len(), found);
        assert_eq!(answer["status"], 1 - found);
        let unknown = rig.get("/v1/lookup/MXXXXXXX").await;
        assert_eq!((&unknown["status"], ids(&unknown).len()), (&json!(1), 0));
    }
}

#[tokio::test]
async fn errors_are_json_and_nothing_else() {
    let rig = shop(Environment::Production).await;
    let url = format!("{}/apple/inApps/v1/transactions/1?", rig.sandbox.base_url());
    let request = rig.http.get(&url).bearer_auth(rig.apple_token(&json!({})));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 404);
    // Apple's Python library reads the code of no other content type.
    assert_eq!(answer.headers()["content-type"], "application/json");
    rig.sandbox
        .set_outage(Store::AppStore, Some(Outage::RateLimited));
    let request = rig.http.get(&url).bearer_auth(rig.apple_token(&json!({})));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 429);
    let at: i64 = answer.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((0..=2_000).contains(&(at - machine_seconds() * 1_000)));
}

#[tokio::test]
async fn calls_are_limited_per_endpoint_where_limits_are_enforced() {
    let rig = shop(Environment::Sandbox).await;
    let control = format!("{}/control/rate-limits", rig.sandbox.base_url());
    let told = answer_of(rig.http.get(&control)).await;
    assert_eq!(told, (200, json!({"enforced": false})));
    let wish = rig.http.post(&control).json(&json!({"enforced": true}));
    assert_eq!(answer_of(wish).await.0, 204);
    let token = rig.apple_token(&json!({}));
    let call = async |path: &str| {
        let url = format!("{}/apple/inApps{path}", rig.sandbox.base_url());
        rig.http.get(url).bearer_auth(&token).send().await.unwrap()
    };
    // In the sandbox a tenth of one call in a second, counted over an hour.
    for _ in 0..360 {
        let answer = call("/v1/notifications/test/x").await;
        assert_eq!(answer.status(), 400);
    }
    let refused = call("/v1/notifications/test/x").await;
    let at: i64 = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(refused.status(), 429);
    let wait = at / 1_000 - machine_seconds();
    assert!((3_000..=3_601).contains(&wait), "{wait}");
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["errorCode"], 4_290_000);
    assert_eq!(call("/v1/transactions/1").await.status(), 404);
    rig.sandbox.enforce_rate_limits(false);
    assert_eq!(call("/v1/notifications/test/x").await.status(), 400);
}
