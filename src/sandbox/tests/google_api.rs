//! The Developer API's methods over HTTP: what each does, answers and refuses.

use super::*;

impl Rig {
    async fn google_act(&self, action: Value) -> Result<GooglePlayPurchase, SandboxError> {
        let action: GooglePlayAction = serde_json::from_value(action).unwrap();
        let outcome = self.sandbox.google_play(action).await?;
        Ok(outcome.google_play().unwrap_or(GooglePlayPurchase {
            purchase_token: String::new(),
            order_id: String::new(),
        }))
    }

    /// A monthly subscription, acknowledged.
    async fn subscribed(&self, customer: &str) -> GooglePlayPurchase {
        let bought = self.buy_google(customer, "premium").await;
        self.acknowledge(&bought).await;
        bought
    }
}

fn reason(answer: &Value) -> &str {
    answer["error"]["errors"][0]["reason"].as_str().unwrap()
}

fn v2(bought: &GooglePlayPurchase, verb: &str) -> String {
    let token = &bought.purchase_token;
    format!("purchases/subscriptionsv2/tokens/{token}:{verb}")
}

#[tokio::test]
async fn the_developer_cancels_for_the_customer_or_for_good() {
    let rig = Rig::start().await;
    for (kind, restorable) in [
        ("USER_REQUESTED_STOP_RENEWALS", true),
        ("DEVELOPER_REQUESTED_STOP_PAYMENTS", false),
    ] {
        let bought = rig.subscribed(kind).await;
        let body = json!({"cancellationContext": {"cancellationType": kind}});
        let answer = rig.google_post(&v2(&bought, "cancel"), &body).await;
        assert_eq!(answer, (200, json!({})), "{kind}");
        let resource = rig.subscription(&bought).await;
        assert_eq!(resource["subscriptionState"], "SUBSCRIPTION_STATE_CANCELED");
        let token = &bought.purchase_token;
        let restored = rig.sandbox.restore_google_play(token).await;
        assert_eq!(restored.is_ok(), restorable, "{kind}");
    }
    let bought = rig.subscribed("carol").await;
    for body in [
        json!({}),
        json!({"cancellationContext": {"cancellationType": "CANCELLATION_TYPE_UNSPECIFIED"}}),
        json!({"cancellationContext": {}, "surprise": 1}),
    ] {
        let (status, answer) = rig.google_post(&v2(&bought, "cancel"), &body).await;
        assert_eq!((status, reason(&answer)), (400, "invalidValue"), "{body}");
    }
    let path = format!(
        "purchases/subscriptions/-/tokens/{}:cancel",
        bought.purchase_token
    );
    assert_eq!(rig.google_post(&path, &Value::Null).await.0, 204);
    assert_eq!(rig.truth("carol").state, PurchaseState::Canceled);
    let (status, answer) = rig.google_post(&path, &Value::Null).await;
    assert_eq!((status, reason(&answer)), (400, "invalid"), "already");
}

#[tokio::test]
async fn the_developer_defers_a_renewal_with_the_latest_entity_tag() {
    let rig = Rig::start().await;
    let bought = rig.subscribed("alice").await;
    let etag = rig.subscription(&bought).await["etag"].clone();
    let defer = |etag: &Value, duration: &str, validate: bool| {
        json!({"deferralContext":
            {"etag": etag, "deferDuration": duration, "validateOnly": validate}})
    };
    let path = v2(&bought, "defer");
    let expiry = "2026-02-12T12:00:00.000Z";
    let deferred = json!({"itemExpiryTimeDetails":
        [{"productId": "premium", "expiryTime": expiry}]});
    let dry = rig.google_post(&path, &defer(&etag, "172800s", true)).await;
    assert_eq!(dry, (200, deferred.clone()));
    let before = rig.subscription(&bought).await;
    assert_eq!(
        before["lineItems"][0]["expiryTime"],
        "2026-02-10T12:00:00.000Z"
    );
    let done = rig
        .google_post(&path, &defer(&etag, "172800s", false))
        .await;
    assert_eq!(done, (200, deferred));
    let after = rig.subscription(&bought).await;
    assert_eq!(after["lineItems"][0]["expiryTime"], expiry);
    assert_eq!(rig.told().last().unwrap(), "SUBSCRIPTION_DEFERRED");
    let (status, answer) = rig
        .google_post(&path, &defer(&etag, "172800s", false))
        .await;
    assert_eq!((status, reason(&answer)), (409, "concurrentUpdate"));
    for duration in ["3600s", "31622401s", "P1D"] {
        let body = defer(&after["etag"], duration, false);
        assert_eq!(rig.google_post(&path, &body).await.0, 400, "{duration}");
    }

    let path = format!(
        "purchases/subscriptions/premium/tokens/{}:defer",
        bought.purchase_token
    );
    let info = |expected: &str| {
        json!({"deferralInfo": {
            "expectedExpiryTimeMillis": millis(expected).to_string(),
            "desiredExpiryTimeMillis": millis("2026-02-20T12:00:00Z").to_string(),
        }})
    };
    let (status, _) = rig.google_post(&path, &info("2026-02-10T12:00:00Z")).await;
    assert_eq!(status, 409);
    let (status, answer) = rig.google_post(&path, &info(expiry)).await;
    let desired = millis("2026-02-20T12:00:00Z").to_string();
    assert_eq!(
        (status, answer),
        (200, json!({"newExpiryTimeMillis": desired}))
    );
}

#[tokio::test]
async fn a_revocation_gives_all_or_the_unused_part_back() {
    let rig = Rig::start().await;
    for (kind, state, refunded) in [
        ("fullRefund", "REFUNDED", "refundEvent"),
        (
            "proratedRefund",
            "PARTIALLY_REFUNDED",
            "partialRefundEvents",
        ),
    ] {
        let bought = rig.subscribed(kind).await;
        rig.sandbox.advance_by(TimeDelta::days(7)).await.unwrap();
        let body = json!({"revocationContext": {kind: {}}});
        let answer = rig.google_post(&v2(&bought, "revoke"), &body).await;
        assert_eq!(answer, (200, json!({})), "{kind}");
        assert!(!rig.truth(kind).entitled);
        let (_, order) = rig.google_get(&format!("orders/{}", bought.order_id)).await;
        assert_eq!(order["state"], state);
        assert!(!order["orderHistory"][refunded].is_null(), "{order}");
    }
    let bought = rig.subscribed("carol").await;
    for context in [json!({}), json!({"fullRefund": {}, "proratedRefund": {}})] {
        let body = json!({"revocationContext": context});
        let (status, answer) = rig.google_post(&v2(&bought, "revoke"), &body).await;
        assert_eq!((status, reason(&answer)), (400, "invalidValue"));
    }
    assert!(rig.truth("carol").entitled);
}

#[tokio::test]
async fn one_time_products_in_the_older_shape() {
    let rig = Rig::with(Environment::Sandbox, None).await;
    let coins = json!({"do": "buy", "customer": "alice", "product_id": "coins", "quantity": 3,
        "obfuscated_account_id": "account", "obfuscated_profile_id": "profile"});
    let bought = rig.google_act(coins).await.unwrap();
    let path = |verb: &str| {
        let token = &bought.purchase_token;
        format!("purchases/products/coins/tokens/{token}{verb}")
    };
    let (status, resource) = rig.google_get(&path("?alt=json")).await;
    assert_eq!(status, 200);
    assert_eq!(
        resource,
        json!({
            "kind": "androidpublisher#productPurchase",
            "purchaseTimeMillis": start_time().timestamp_millis().to_string(),
            "purchaseState": 0,
            "consumptionState": 0,
            "acknowledgementState": 0,
            "purchaseType": 0,
            "purchaseToken": bought.purchase_token,
            "productId": "coins",
            "orderId": bought.order_id,
            "quantity": 3,
            "refundableQuantity": 3,
            "regionCode": "US",
            "obfuscatedExternalAccountId": "account",
            "obfuscatedExternalProfileId": "profile",
        })
    );
    let payload = json!({"developerPayload": "order 17"});
    assert_eq!(
        rig.google_post(&path(":acknowledge"), &payload).await.0,
        204
    );
    let again = json!({"developerPayload": "order 18"});
    assert_eq!(rig.google_post(&path(":acknowledge"), &again).await.0, 204);
    assert_eq!(
        rig.google_post(&path(":consume"), &Value::Null).await.0,
        204
    );
    let (_, resource) = rig.google_get(&path("")).await;
    let states = (
        &resource["acknowledgementState"],
        &resource["consumptionState"],
    );
    assert_eq!(states, (&json!(1), &json!(1)));
    assert_eq!(resource["developerPayload"], "order 17");
    let other = path("").replace("/coins/", "/lifetime/");
    let (status, answer) = rig.google_get(&other).await;
    assert_eq!((status, reason(&answer)), (400, "purchaseTokenMismatch"));
    assert_eq!(answer["error"]["errors"][0]["location"], "token");
}

#[tokio::test]
async fn a_pending_purchase_is_neither_acknowledged_nor_consumed() {
    let rig = Rig::start().await;
    let coins = json!({"do": "buy", "customer": "alice", "product_id": "coins", "pending": true});
    let bought = rig.google_act(coins).await.unwrap();
    let path = format!("purchases/products/coins/tokens/{}", bought.purchase_token);
    assert_eq!(rig.google_get(&path).await.1["purchaseState"], 2);
    for verb in ["acknowledge", "consume"] {
        let (status, _) = rig.google_post(&format!("{path}:{verb}"), &json!({})).await;
        assert_eq!(status, 400, "{verb}");
    }
}

#[tokio::test]
async fn orders_come_alone_or_in_batches_and_are_refunded() {
    let rig = Rig::start().await;
    let first = rig.subscribed("alice").await;
    let second = rig.subscribed("bob").await;
    rig.sandbox.advance(Period::months(1)).await.unwrap();
    let (a, b) = (&first.order_id, &second.order_id);
    let batch = format!("orders:batchGet?orderIds={b}&orderIds={a}..0&alt=json");
    let (status, answer) = rig.google_get(&batch).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["orders"][0]["orderId"], *b);
    assert_eq!(answer["orders"][1]["orderId"], format!("{a}..0"));
    assert_eq!(answer["orders"][1]["purchaseToken"], first.purchase_token);
    for (query, status, why) in [
        (format!("orderIds={a}&orderIds=GPA.0000"), 404, "notFound"),
        (format!("orderIds={a}&orderIds={a}"), 400, "invalidValue"),
        (String::new(), 400, "invalidValue"),
        ("orderIds=GPA.0&".repeat(1_001), 400, "invalidValue"),
    ] {
        let (got, answer) = rig.google_get(&format!("orders:batchGet?{query}")).await;
        assert_eq!((got, reason(&answer)), (status, why));
    }

    // The money of an old order goes back; access and the latest order stay.
    let path = format!("orders/{a}:refund");
    assert_eq!(rig.google_post(&path, &Value::Null).await.0, 204);
    assert_eq!(
        rig.google_get(&format!("orders/{a}")).await.1["state"],
        "REFUNDED"
    );
    assert!(rig.truth("alice").entitled);
    let (status, answer) = rig.google_post(&path, &Value::Null).await;
    assert_eq!((status, reason(&answer)), (400, "invalid"), "already");
    let path = format!("orders/{b}..0:refund?revoke=true");
    assert_eq!(rig.google_post(&path, &Value::Null).await.0, 204);
    assert!(!rig.truth("bob").entitled);
    let path = "orders/GPA.0000:refund?revoke=maybe";
    assert_eq!(rig.google_post(path, &Value::Null).await.0, 404);
    let path = format!("orders/{a}..0:refund?revoke=maybe");
    assert_eq!(rig.google_post(&path, &Value::Null).await.0, 400);
}

#[tokio::test]
async fn the_developer_has_a_word_on_a_charge_back() {
    let rig = Rig::start().await;
    let mut reviews = Vec::new();
    for customer in ["alice", "bob"] {
        let bought = rig.subscribed(customer).await;
        let action = json!({"do": "charge_back", "purchase_token": bought.purchase_token});
        rig.google_act(action).await.unwrap();
        let told = google_notification(rig.sandbox.notifications().last().unwrap());
        let review = told["pendingRefundReviewNotification"].clone();
        assert_eq!(
            (&review["refundReason"], &review["orderId"]),
            (&json!(7), &json!(bought.order_id))
        );
        reviews.push((bought, review["pendingRefundToken"].clone()));
    }
    let body = |token: &Value, preference: &str| {
        json!({
            "pendingRefundToken": token,
            "refundPreference": preference,
            "sampleContentProvided": false,
            "consumptionPercentageMilliunits": 45_200,
            "consumptionUsageEvents": [{
                "consumptionItemDescription": "an episode",
                "consumptionTime": "2026-01-10T12:00:00Z",
                "ipAddress": "192.0.2.1",
                "location": {"regionCode": "CH"},
            }],
        })
    };
    let path = |bought: &GooglePlayPurchase| format!("orders/{}:reviewrefund", bought.order_id);
    let (alices, token) = &reviews[0];
    let mut wrong = body(token, "DECLINE");
    wrong["consumptionPercentageMilliunits"] = json!(100_001);
    assert_eq!(rig.google_post(&path(alices), &wrong).await.0, 400);
    wrong = body(token, "DECLINE");
    wrong
        .as_object_mut()
        .unwrap()
        .remove("sampleContentProvided");
    assert_eq!(rig.google_post(&path(alices), &wrong).await.0, 400);
    wrong = body(token, "DECLINE");
    wrong["consumptionUsageEvents"] = json!(vec![json!({}); 1_001]);
    assert_eq!(rig.google_post(&path(alices), &wrong).await.0, 400);
    let stranger = json!("somebody-elses-token");
    assert_eq!(
        rig.google_post(&path(alices), &body(&stranger, "DECLINE"))
            .await
            .0,
        400
    );

    assert_eq!(
        rig.google_post(&path(alices), &body(token, "DECLINE"))
            .await
            .0,
        204
    );
    assert!(rig.truth("alice").entitled);
    let (bobs, token) = &reviews[1];
    assert_eq!(
        rig.google_post(&path(bobs), &body(token, "APPROVE"))
            .await
            .0,
        204
    );
    assert!(!rig.truth("bob").entitled);
    let (_, listed) = rig.google_get("purchases/voidedpurchases?type=1").await;
    let row = &listed["voidedPurchases"][0];
    assert_eq!(row["orderId"], bobs.order_id);
    assert_eq!(
        (&row["voidedReason"], &row["voidedSource"]),
        (&json!(7), &json!(2))
    );
}

#[tokio::test]
async fn the_voided_list_is_paged_and_reaches_back_thirty_days() {
    let rig = Rig::start().await;
    let list = async |query: &str| {
        let path = format!("purchases/voidedpurchases?{query}");
        rig.google_get(&path).await
    };
    assert_eq!(list("").await, (200, json!({})));
    let mut voided = Vec::new();
    for customer in ["a", "b", "c"] {
        rig.sandbox.advance_by(TimeDelta::days(1)).await.unwrap();
        let bought = rig.subscribed(customer).await;
        rig.sandbox
            .refund_google_play(&bought.purchase_token)
            .await
            .unwrap();
        voided.push(bought.order_id);
    }
    let coins = json!({"do": "buy", "customer": "d", "product_id": "coins", "quantity": 3});
    let coins = rig.google_act(coins).await.unwrap();
    let path = format!(
        "purchases/products/coins/tokens/{}:acknowledge",
        coins.purchase_token
    );
    assert_eq!(rig.google_post(&path, &json!({})).await.0, 204);
    let some = json!({"do": "refund", "purchase_token": coins.purchase_token, "quantity": 1});
    rig.google_act(some).await.unwrap();
    let life = rig.buy_google("e", "lifetime").await;
    rig.sandbox
        .refund_google_play(&life.purchase_token)
        .await
        .unwrap();

    let (_, one_time) = list("").await;
    let rows = one_time["voidedPurchases"].as_array().unwrap();
    assert_eq!(
        (rows.len(), &rows[0]["orderId"]),
        (1, &json!(life.order_id))
    );
    assert_eq!(rows[0]["kind"], "androidpublisher#voidedPurchase");
    assert!(rows[0]["voidedTimeMillis"].is_string());
    let (_, partial) = list("includeQuantityBasedPartialRefund=true").await;
    let rows = partial["voidedPurchases"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["voidedQuantity"]), (2, &json!(1)));

    let mut seen = Vec::new();
    let mut query = "type=1&maxResults=2".to_owned();
    loop {
        let (status, page) = list(&query).await;
        assert_eq!(status, 200);
        for row in page["voidedPurchases"].as_array().unwrap() {
            seen.push(row["orderId"].as_str().unwrap().to_owned());
        }
        let Some(token) = page["tokenPagination"]["nextPageToken"].as_str() else {
            break;
        };
        // With a page token the times do not count.
        query = format!("maxResults=2&startTime=0&token={token}");
    }
    voided.push(life.order_id.clone());
    assert_eq!(seen, voided, "oldest first");

    let since = (start_time() + TimeDelta::days(3)).timestamp_millis();
    let (_, late) = list(&format!("type=1&startTime={since}")).await;
    assert_eq!(late["voidedPurchases"].as_array().unwrap().len(), 2);
    let until = (start_time() + TimeDelta::days(1)).timestamp_millis();
    let (_, early) = list(&format!("type=1&endTime={until}")).await;
    assert_eq!(early["voidedPurchases"].as_array().unwrap().len(), 1);
    for wrong in [
        "startTime=0",
        "endTime=99999999999999",
        "type=2",
        "token=x",
        "maxResults=-1",
    ] {
        let (status, answer) = list(wrong).await;
        assert_eq!((status, reason(&answer)), (400, "invalidValue"), "{wrong}");
    }
    rig.sandbox.advance_by(TimeDelta::days(29)).await.unwrap();
    let (_, rest) = list("type=1").await;
    assert_eq!(rest["voidedPurchases"].as_array().unwrap().len(), 3);
    rig.sandbox.advance_by(TimeDelta::days(2)).await.unwrap();
    assert_eq!(list("type=1").await, (200, json!({})));
}

#[tokio::test]
async fn a_subscription_is_forgotten_sixty_days_after_its_end_not_after_its_expiry() {
    let rig = Rig::start().await;
    let paused = rig.subscribed("alice").await;
    let held = rig.subscribed("bob").await;
    let token = &paused.purchase_token;
    let pause = json!({"do": "pause", "purchase_token": token, "period": "P3M"});
    rig.google_act(pause).await.unwrap();
    let token = &held.purchase_token;
    let fails = rig.sandbox.set_google_play_billing(token, Billing::Fails);
    fails.await.unwrap();
    // A month, seven days of grace, thirty of hold: the end comes 68 days after the start.
    rig.sandbox
        .advance_by(TimeDelta::days(31 + 80))
        .await
        .unwrap();
    let state = |resource: Value| resource["subscriptionState"].clone();
    assert_eq!(
        state(rig.subscription(&paused).await),
        "SUBSCRIPTION_STATE_PAUSED"
    );
    assert_eq!(
        state(rig.subscription(&held).await),
        "SUBSCRIPTION_STATE_EXPIRED"
    );
    rig.sandbox.advance_by(TimeDelta::days(30)).await.unwrap();
    let path = format!("purchases/subscriptionsv2/tokens/{token}");
    let (status, answer) = rig.google_get(&path).await;
    assert_eq!(
        (status, reason(&answer)),
        (410, "subscriptionPurchaseNoLongerAvailable")
    );
}

#[tokio::test]
async fn the_service_account_does_what_the_console_grants() {
    let rig = Rig::start().await;
    let bought = rig.buy_google("alice", "premium").await;
    let read = format!("purchases/subscriptionsv2/tokens/{}", bought.purchase_token);
    let write = format!(
        "purchases/subscriptions/-/tokens/{}:acknowledge",
        bought.purchase_token
    );
    rig.sandbox.set_google_access(ConsoleAccess::ViewOnly);
    assert_eq!(rig.google_get(&read).await.0, 200);
    let (status, answer) = rig.google_post(&write, &json!({})).await;
    assert_eq!(
        (status, reason(&answer)),
        (403, "userInsufficientPermission")
    );
    rig.sandbox.set_google_access(ConsoleAccess::None);
    let (status, answer) = rig.google_get(&read).await;
    assert_eq!((status, reason(&answer)), (403, "permissionDenied"));
    assert_eq!(answer["error"]["status"], "PERMISSION_DENIED");
    rig.sandbox.set_google_access(ConsoleAccess::Full);
    assert_eq!(rig.google_post(&write, &json!({})).await.0, 204);
}

#[tokio::test]
async fn quotas_are_kept_where_a_run_asks_for_them() {
    let rig = Rig::start().await;
    let bearer = rig.google_token().await;
    let list = async || {
        let request = rig.http.get(rig.google_url("purchases/voidedpurchases"));
        answer_of(request.bearer_auth(&bearer)).await
    };
    for _ in 0..31 {
        assert_eq!(list().await.0, 200);
    }
    rig.sandbox.enforce_rate_limits(true);
    for _ in 0..30 {
        assert_eq!(list().await.0, 200);
    }
    let (status, answer) = list().await;
    assert_eq!((status, reason(&answer)), (429, "rateLimitExceeded"));
    assert_eq!(answer["error"]["status"], "RESOURCE_EXHAUSTED");
    rig.sandbox.enforce_rate_limits(false);
    assert_eq!(list().await.0, 200);
}

#[tokio::test]
async fn paths_that_lead_nowhere_are_answered_as_googles() {
    let rig = Rig::start().await;
    let bought = rig.buy_google("alice", "premium").await;
    let token = &bought.purchase_token;
    for path in [
        format!("purchases/subscriptions/premium/tokens/{token}:revoke"),
        format!("purchases/subscriptionsv2/tokens/{token}:unheardof"),
        format!("orders/{}:unheardof", bought.order_id),
        "purchases/unheardof".to_owned(),
    ] {
        let (status, answer) = rig.google_post(&path, &json!({})).await;
        assert_eq!((status, reason(&answer)), (404, "notFound"), "{path}");
    }
}

#[tokio::test]
async fn push_keys_are_published_as_keys_and_in_certificates() {
    let rig = Rig::start().await;
    let base = rig.sandbox.base_url();
    let (_, keys) = answer_of(rig.http.get(format!("{base}/google/oauth2/v3/certs"))).await;
    let kid = keys["keys"][0]["kid"].as_str().unwrap().to_owned();
    let (status, map) = answer_of(rig.http.get(format!("{base}/google/oauth2/v1/certs"))).await;
    assert_eq!(status, 200);
    let pem = map[&kid].as_str().unwrap();
    let body: String = pem
        .lines()
        .filter(|line| !line.starts_with("---"))
        .collect();
    let der = STANDARD.decode(body).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    let x509_parser::public_key::PublicKey::RSA(key) = certificate.public_key().parsed().unwrap()
    else {
        panic!("not an RSA key")
    };
    let modulus = URL_SAFE_NO_PAD
        .decode(keys["keys"][0]["n"].as_str().unwrap())
        .unwrap();
    assert_eq!(
        key.modulus.strip_prefix(&[0]).unwrap_or(key.modulus),
        modulus
    );
}

#[tokio::test]
async fn what_is_sold_is_listed_page_by_page() {
    let rig = Rig::start().await;
    let (status, all) = rig.google_get("subscriptions?pageSize=1000").await;
    assert_eq!(status, 200);
    let subscriptions = all["subscriptions"].as_array().unwrap();
    assert!(all.get("nextPageToken").is_none());
    let premium = subscriptions
        .iter()
        .find(|one| one["productId"] == "premium")
        .unwrap();
    let plan = &premium["basePlans"][0];
    assert_eq!(plan["state"], "ACTIVE");
    assert!(plan["basePlanId"].is_string());
    let (_, once) = rig.google_get("oneTimeProducts").await;
    let count = once["oneTimeProducts"].as_array().unwrap().len();
    let (mut seen, mut next) = (0, String::new());
    loop {
        let path = format!("oneTimeProducts?pageSize=1{next}");
        let (_, page) = rig.google_get(&path).await;
        seen += page["oneTimeProducts"].as_array().map_or(0, Vec::len);
        match page["nextPageToken"].as_str() {
            Some(token) => next = format!("&pageToken={token}"),
            None => break,
        }
    }
    assert_eq!(seen, count);
    let (status, refused) = rig.google_get("subscriptions?pageToken=x").await;
    assert_eq!((status, reason(&refused)), (400, "invalidValue"));
    rig.sandbox.set_google_access(ConsoleAccess::None);
    assert_eq!(rig.google_get("subscriptions").await.0, 403);
}
