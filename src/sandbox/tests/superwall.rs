//! Superwall's webhooks: what is told of which store event, to whom it belongs, how it is signed
//! and delivered.

use aws_lc_rs::hmac;

use super::*;

impl Rig {
    /// A rig that Superwall sends to as well.
    async fn with_superwall(environment: Environment, rules: SuperwallRules) -> Self {
        let mut options = options(environment);
        options.setup.superwall = rules;
        let mut rig = Self::of(options).await;
        let url = rig.webhooks.app_store.as_ref().unwrap();
        rig.webhooks.superwall = Some(url.replace("/apple", "/superwall"));
        rig.sandbox.set_webhooks(rig.webhooks.clone()).unwrap();
        rig
    }

    /// The `data` of everything that Superwall has told.
    fn relayed(&self) -> Vec<Value> {
        let told = self.sandbox.notifications().into_iter();
        told.filter(|record| record.source == Source::Superwall)
            .map(|record| {
                let body: Value = serde_json::from_str(&record.body).unwrap();
                assert_eq!(
                    (&body["object"], &body["type"]),
                    (&json!("event"), &body["data"]["name"])
                );
                body["data"].clone()
            })
            .collect()
    }

    /// Names and reasons of what has been told since `count` events ago were all.
    fn relayed_since(&self, count: usize) -> Vec<String> {
        let told = self.relayed().split_off(count).into_iter();
        told.map(|data| {
            let name = data["name"].as_str().unwrap();
            let reason = data["cancelReason"]
                .as_str()
                .or(data["expirationReason"].as_str());
            reason.map_or(name.to_owned(), |reason| format!("{name}/{reason}"))
        })
        .collect()
    }

    /// The latest message of Superwall's.
    fn latest_relayed(&self) -> NotificationRecord {
        let mut records = self.sandbox.notifications().into_iter();
        records.rfind(|r| r.source == Source::Superwall).unwrap()
    }

    async fn apple_act(&self, action: Value) {
        let action: AppStoreAction = serde_json::from_value(action).unwrap();
        self.sandbox.app_store(action).await.unwrap();
    }

    async fn google_do(&self, action: Value) -> Option<GooglePlayPurchase> {
        let action: GooglePlayAction = serde_json::from_value(action).unwrap();
        self.sandbox
            .google_play(action)
            .await
            .unwrap()
            .google_play()
    }
}

fn legacy() -> SuperwallRules {
    SuperwallRules {
        version: SuperwallVersion::Legacy,
        ..SuperwallRules::default()
    }
}

#[tokio::test]
async fn a_trial_at_apple_converts_renews_and_is_refunded() {
    let rig = Rig::with_superwall(Environment::Production, legacy()).await;
    let buy = AppStoreBuy {
        customer: "alice".to_owned(),
        product_id: MONTHLY.to_owned(),
        trial: Some(Period::days(7)),
        ..AppStoreBuy::default()
    };
    let bought = rig.sandbox.buy_app_store(&buy).await.unwrap();
    let first = rig.relayed().pop().unwrap();
    let id = first["id"].as_str().unwrap().to_owned();
    assert!(id.ends_with(":initial_purchase"));
    assert_eq!(
        first,
        json!({
            "id": id,
            "name": "initial_purchase",
            "store": "APP_STORE",
            "environment": "PRODUCTION",
            "originalTransactionId": bought.original_transaction_id,
            "transactionId": bought.transaction_id,
            "originalAppUserId": "alice",
            "productId": MONTHLY,
            "newProductId": null,
            "bundleId": "com.example.app",
            "periodType": "TRIAL",
            "purchasedAt": start_time().timestamp_millis(),
            "expirationAt": millis("2026-01-17T12:00:00Z"),
            "ts": start_time().timestamp_millis(),
            "price": 0.0,
            "proceeds": 0.0,
            "priceInPurchasedCurrency": 0.0,
            "currencyCode": "USD",
            "exchangeRate": 1.0,
            "taxPercentage": 0,
            "commissionPercentage": 0.3,
            "takehomePercentage": 0.7,
            "isSmallBusiness": false,
            "countryCode": "US",
            "offerCode": null,
            "isFamilyShare": false,
            "isTrialConversion": false,
            "cancelReason": null,
        })
    );
    rig.sandbox.advance_by(TimeDelta::days(7)).await.unwrap();
    rig.sandbox.advance(Period::months(1)).await.unwrap();
    let renewals = rig.relayed().split_off(1);
    assert_eq!(renewals.len(), 2);
    for (renewal, conversion) in renewals.iter().zip([true, false]) {
        assert_eq!(renewal["name"], "renewal");
        assert_eq!(renewal["isTrialConversion"], conversion);
        assert_eq!(renewal["periodType"], "NORMAL");
        assert_eq!(
            (&renewal["price"], &renewal["proceeds"]),
            (&json!(9.99), &json!(6.99))
        );
    }
    let paid = renewals[0]["transactionId"].as_str().unwrap();
    rig.sandbox.refund_app_store(paid).await.unwrap();
    let refund = rig.relayed().pop().unwrap();
    assert_eq!(
        (&refund["name"], &refund["cancelReason"]),
        (&json!("cancellation"), &json!("CUSTOMER_SUPPORT"))
    );
    assert_eq!(
        (&refund["transactionId"], &refund["price"]),
        (&json!(paid), &json!(-9.99))
    );
}

#[tokio::test]
async fn what_a_customer_does_at_apple_is_relayed() {
    let rig = Rig::with_superwall(Environment::Production, legacy()).await;
    let bought = rig.buy_apple("alice", MONTHLY).await;
    let chain = &bought.original_transaction_id;
    rig.sandbox.set_auto_renew(chain, false).await.unwrap();
    rig.sandbox.set_auto_renew(chain, true).await.unwrap();
    rig.buy_apple("alice", YEARLY).await;
    rig.buy_apple("alice", MONTHLY).await;
    assert_eq!(
        rig.relayed_since(1),
        [
            "cancellation/UNSUBSCRIBE",
            "uncancellation",
            "product_change",
            "product_change"
        ]
    );
    let changes = rig.relayed().split_off(3);
    for (change, (from, to, price)) in changes
        .iter()
        .zip([(MONTHLY, YEARLY, 9.99), (YEARLY, MONTHLY, 0.0)])
    {
        assert_eq!(
            (&change["productId"], &change["newProductId"]),
            (&json!(from), &json!(to))
        );
        assert_eq!(change["price"], price);
    }
    rig.sandbox
        .set_app_store_billing(chain, Billing::Fails)
        .await
        .unwrap();
    rig.sandbox.advance(Period::months(16)).await.unwrap();
    assert_eq!(
        rig.relayed_since(5),
        ["billing_issue", "expiration/BILLING_ERROR"]
    );
    rig.buy_apple("bob", COINS).await;
    let coins = rig.relayed().pop().unwrap();
    assert_eq!(
        (&coins["name"], &coins["expirationAt"]),
        (&json!("non_renewing_purchase"), &Value::Null)
    );
    let before = rig.relayed().len();
    rig.apple_act(json!({"do": "request_refund", "transaction_id": coins["transactionId"], "reason": "other"})).await;
    assert_eq!(rig.relayed().len(), before, "no event of Superwall's");
}

#[tokio::test]
async fn what_a_customer_does_at_google_is_relayed_with_order_ids() {
    let rig = Rig::with_superwall(Environment::Production, SuperwallRules::default()).await;
    let buy = json!({"do": "buy", "customer": "alice", "product_id": "premium", "trial": "P7D"});
    let bought = rig.google_do(buy).await.unwrap();
    rig.acknowledge(&bought).await;
    rig.sandbox.advance_by(TimeDelta::days(8)).await.unwrap();
    let told = rig.relayed();
    let [first, second] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(first["store"], "PLAY_STORE");
    assert_eq!(first["bundleId"], "com.example.android");
    assert_eq!(
        (&first["periodType"], &second["periodType"]),
        (&json!("TRIAL"), &json!("NORMAL"))
    );
    assert!(
        first["productId"]
            .as_str()
            .unwrap()
            .starts_with("premium:monthly")
    );
    assert_eq!(second["isTrialConversion"], true);
    for event in [first, second] {
        assert_eq!(event["originalTransactionId"], bought.order_id);
    }
    assert_eq!(second["transactionId"], format!("{}..0", bought.order_id));

    let token = &bought.purchase_token;
    rig.sandbox.cancel_google_play(token).await.unwrap();
    rig.sandbox.restore_google_play(token).await.unwrap();
    let change = json!({"do": "buy", "customer": "alice", "product_id": "premium",
        "base_plan_id": "yearly", "replaces": token, "replacement_mode": "charge_full_price"});
    let yearly = rig.google_do(change).await.unwrap();
    rig.acknowledge(&yearly).await;
    rig.sandbox.advance_by(TimeDelta::minutes(1)).await.unwrap();
    assert_eq!(
        rig.relayed_since(2),
        [
            "cancellation/UNSUBSCRIBE",
            "uncancellation",
            "product_change",
            "initial_purchase"
        ]
    );
    let change = &rig.relayed()[4];
    assert_eq!(change["originalTransactionId"], bought.order_id);
    assert_eq!(change["newProductId"], "premium:yearly");
    let monthly = rig
        .google_do(json!({"do": "buy", "customer": "bob", "product_id": "premium"}))
        .await
        .unwrap();
    rig.acknowledge(&monthly).await;
    let token = &monthly.purchase_token;
    rig.google_do(json!({"do": "pause", "purchase_token": token, "period": "P1M"}))
        .await;
    rig.sandbox.advance(Period::months(2)).await.unwrap();
    rig.sandbox
        .set_google_play_billing(token, Billing::Fails)
        .await
        .unwrap();
    rig.sandbox.advance(Period::months(3)).await.unwrap();
    assert_eq!(
        rig.relayed_since(7),
        [
            "subscription_paused",
            "renewal",
            "billing_issue",
            "billing_issue",
            "cancellation/BILLING_ERROR",
            "expiration/BILLING_ERROR"
        ]
    );
    rig.sandbox
        .refund_google_play(&yearly.purchase_token)
        .await
        .unwrap();
    let refund = rig.relayed().pop().unwrap();
    assert_eq!(
        (&refund["cancelReason"], &refund["price"]),
        (&json!("CUSTOMER_SUPPORT"), &json!(-9.99))
    );
}

#[tokio::test]
async fn identity_is_a_setting_and_the_second_version_adds_what_superwall_knows() {
    let rig = Rig::with_superwall(Environment::Production, SuperwallRules::default()).await;
    rig.sandbox.set_superwall_user("alice", "user-17").unwrap();
    rig.buy_apple("alice", MONTHLY).await;
    let data = rig.relayed().pop().unwrap();
    assert_eq!(data["originalAppUserId"], "user-17");
    assert_eq!(data["aliases"][0], "user-17");
    assert!(
        data["aliases"][1]
            .as_str()
            .unwrap()
            .starts_with("$SuperwallAlias:")
    );
    assert_eq!(data["userAttributes"], json!({"customer": "alice"}));
    assert_eq!(data["subscription"]["state"], "ACTIVE");
    assert_eq!(data["subscription"]["willRenew"], true);
    for (identity, prefix) in [
        (SuperwallIdentity::Alias, Some("$SuperwallAlias:")),
        (SuperwallIdentity::None, None),
    ] {
        let rules = SuperwallRules {
            identity,
            ..SuperwallRules::default()
        };
        let rig = Rig::with_superwall(Environment::Production, rules).await;
        rig.buy_google("alice", "premium").await;
        let data = rig.relayed().pop().unwrap();
        let user = data["originalAppUserId"].as_str();
        assert_eq!(user.is_some(), prefix.is_some());
        assert!(user.is_none_or(|user| user.starts_with(prefix.unwrap())));
        assert_eq!(data["userAttributes"].is_null(), prefix.is_none());
    }
    let rig = Rig::with_superwall(Environment::Sandbox, SuperwallRules::default()).await;
    rig.buy_google("alice", "premium").await;
    rig.buy_apple("alice", MONTHLY).await;
    let told = rig.relayed();
    assert!(told[0]["originalAppUserId"].is_null() && told[0]["userAttributes"].is_null());
    assert_eq!(told[0]["environment"], "SANDBOX");
    assert_eq!(told[1]["originalAppUserId"], "alice");
}

/// Whether a signature in the header is by this secret.
fn signed_by(secret: &str, headers: &HeaderMap, body: &str) -> bool {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let sent: i64 = header("svix-timestamp").parse().unwrap();
    assert!((machine_seconds() - sent).abs() < 60, "machine time");
    let key = STANDARD
        .decode(secret.strip_prefix("whsec_").unwrap())
        .unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let message = format!("{}.{}.{body}", header("svix-id"), header("svix-timestamp"));
    header("svix-signature").split(' ').any(|signature| {
        let tag = STANDARD
            .decode(signature.strip_prefix("v1,").unwrap())
            .unwrap();
        hmac::verify(&key, message.as_bytes(), &tag).is_ok()
    })
}

#[tokio::test]
async fn every_delivery_is_signed_also_after_a_rotation() {
    let rig = Rig::with_superwall(Environment::Production, SuperwallRules::default()).await;
    let old = rig.sandbox.manifest().superwall.secret;
    rig.buy_apple("alice", COINS).await;
    rig.sandbox.rotate_superwall_secret().unwrap();
    let new = rig.sandbox.manifest().superwall.secret;
    assert_ne!(old, new);
    rig.buy_apple("bob", COINS).await;
    let arrived = rig.received.lock().unwrap().clone();
    let arrived: Vec<_> = arrived
        .into_iter()
        .filter(|(to, ..)| to == "superwall")
        .collect();
    let records = rig.sandbox.notifications().into_iter();
    let records: Vec<_> = records.filter(|r| r.source == Source::Superwall).collect();
    assert_eq!((arrived.len(), records.len()), (2, 2));
    for ((_, headers, _), record) in arrived.iter().zip(&records) {
        assert_eq!(headers["svix-id"], record.id.as_str());
        assert!(record.id.starts_with("msg_"));
        assert!(signed_by(&old, headers, &record.body));
        assert!(!signed_by(
            &old,
            headers,
            &record
                .body
                .replace("alice", "mallory")
                .replace("bob", "mallory")
        ));
    }
    assert!(!signed_by(&new, &arrived[0].1, &records[0].body));
    assert!(signed_by(&new, &arrived[1].1, &records[1].body));
}

#[tokio::test]
async fn svix_tries_eight_times() {
    let rig = Rig::with_superwall(Environment::Production, SuperwallRules::default()).await;
    *rig.answer.lock().unwrap() = StatusCode::INTERNAL_SERVER_ERROR;
    rig.buy_apple("alice", COINS).await;
    rig.sandbox.advance_by(TimeDelta::days(3)).await.unwrap();
    let record = rig.latest_relayed();
    let waits: Vec<_> = record
        .attempts
        .iter()
        .map(|attempt| (attempt.at - start_time()).num_seconds())
        .collect();
    let hour = 3_600;
    assert_eq!(
        waits,
        [
            0,
            5,
            305,
            2_105,
            2_105 + 2 * hour,
            2_105 + 7 * hour,
            2_105 + 17 * hour,
            2_105 + 27 * hour
        ]
    );
    assert_eq!(record.state, DeliveryState::Failed);
}

#[tokio::test]
async fn an_endpoint_ends_the_attempts_of_a_message_with_a_header() {
    let rig = Rig::with_superwall(Environment::Production, SuperwallRules::default()).await;
    let abort = async || {
        let headers = [("webhook-delivery", "abort-message")];
        (StatusCode::INTERNAL_SERVER_ERROR, headers)
    };
    let router = axum::Router::new().route("/", post(abort));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let webhooks = Webhooks {
        superwall: Some(format!("http://{address}/")),
        ..rig.webhooks.clone()
    };
    rig.sandbox.set_webhooks(webhooks).unwrap();
    rig.buy_apple("alice", COINS).await;
    rig.sandbox.advance_by(TimeDelta::days(3)).await.unwrap();
    let record = rig.latest_relayed();
    assert_eq!(record.attempts.len(), 1);
    assert_eq!(record.state, DeliveryState::Failed);
}

#[tokio::test]
async fn an_endpoint_that_fails_for_five_days_is_shut_off_until_it_is_set_again() {
    let rig = Rig::with_superwall(Environment::Production, SuperwallRules::default()).await;
    *rig.answer.lock().unwrap() = StatusCode::INTERNAL_SERVER_ERROR;
    for day in 0..7 {
        rig.buy_apple(&format!("customer-{day}"), COINS).await;
        rig.sandbox.advance_by(TimeDelta::days(1)).await.unwrap();
    }
    *rig.answer.lock().unwrap() = StatusCode::OK;
    let told = rig.relayed().len();
    assert!((5..7).contains(&told), "{told}");
    rig.buy_apple("alice", COINS).await;
    assert_eq!(rig.relayed().len(), told);
    rig.sandbox.set_webhooks(rig.webhooks.clone()).unwrap();
    rig.buy_apple("bob", COINS).await;
    assert_eq!(rig.latest_relayed().state, DeliveryState::Delivered);
}

#[tokio::test]
async fn what_the_stores_say_is_the_same_without_superwall() {
    let quiet = Rig::start().await;
    let relayed = Rig::with_superwall(Environment::Production, SuperwallRules::default()).await;
    let mut told = Vec::new();
    for rig in [&quiet, &relayed] {
        rig.buy_google("alice", "premium").await;
        rig.buy_apple("bob", COINS).await;
        rig.sandbox.advance(Period::months(2)).await.unwrap();
        let stores = rig.sandbox.notifications().into_iter();
        let stores = stores.filter(|record| record.source != Source::Superwall);
        told.push(
            stores
                .map(|record| (record.id, record.created_at))
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(told[0], told[1]);
}
