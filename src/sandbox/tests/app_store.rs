//! The App Store: a year of renewals, failed payments, refunds, and every endpoint.

use super::*;

#[tokio::test]
async fn a_year_of_renewals_then_a_cancellation() {
    let rig = Rig::start().await;
    let account = "2f0a5e0e-8f0e-4d8e-9f60-0d6b2f0f7f11".parse().unwrap();
    let buy = AppStoreBuy {
        customer: "alice".to_owned(),
        product_id: MONTHLY.to_owned(),
        app_account_token: Some(account),
        ..AppStoreBuy::default()
    };
    let bought = rig.sandbox.buy_app_store(&buy).await.unwrap();
    let transaction = payload(&bought.signed_transaction);
    assert_eq!(transaction["transactionId"], bought.transaction_id);
    assert_eq!(transaction["originalTransactionId"], bought.transaction_id);
    assert_eq!(transaction["appAccountToken"], account.to_string());
    assert_eq!(transaction["price"], 9_990);
    assert_eq!(transaction["type"], "Auto-Renewable Subscription");
    assert_eq!(transaction["expiresDate"], millis("2026-02-10T12:00:00Z"));

    rig.sandbox.advance(Period::years(1)).await.unwrap();
    let told = rig.told();
    assert_eq!(told[0], "SUBSCRIBED/INITIAL_BUY");
    assert_eq!(told[1..], vec!["DID_RENEW"; 12]);
    let records = rig.sandbox.notifications();
    let renewal = apple_notification(&records[1]);
    assert_eq!(renewal["signedDate"], millis("2026-02-10T11:59:30Z"));
    assert_eq!(renewal["data"]["status"], 1);
    let inner = &renewal["data"]["signedTransactionInfo"];
    assert_eq!(inner["purchaseDate"], millis("2026-02-10T12:00:00Z"));
    assert_eq!(inner["transactionReason"], "RENEWAL");
    assert_eq!(
        inner["originalTransactionId"],
        bought.original_transaction_id
    );
    assert_eq!(renewal["data"]["signedRenewalInfo"]["autoRenewStatus"], 1);

    let id = &bought.original_transaction_id;
    rig.sandbox.set_auto_renew(id, false).await.unwrap();
    assert_eq!(rig.truth("alice").state, PurchaseState::Canceled);
    rig.sandbox.advance(Period::months(2)).await.unwrap();
    assert_eq!(
        rig.told_since(13),
        [
            "DID_CHANGE_RENEWAL_STATUS/AUTO_RENEW_DISABLED",
            "EXPIRED/VOLUNTARY"
        ]
    );
    let truth = rig.truth("alice");
    assert_eq!(
        (truth.state, truth.entitled),
        (PurchaseState::Expired, false)
    );
    let again = rig.buy_apple("alice", MONTHLY).await;
    assert_eq!(
        again.original_transaction_id,
        bought.original_transaction_id
    );
    assert_eq!(rig.told().pop().unwrap(), "SUBSCRIBED/RESUBSCRIBE");
    assert_eq!(rig.received(), rig.told().len());
}

#[tokio::test]
async fn a_failed_payment_goes_through_grace_and_retry_to_its_end_or_recovery() {
    let rig = Rig::start().await;
    let bought = rig.buy_apple("alice", MONTHLY).await;
    let id = &bought.original_transaction_id;
    rig.sandbox
        .set_app_store_billing(id, Billing::Fails)
        .await
        .unwrap();
    rig.sandbox.advance_by(TimeDelta::days(32)).await.unwrap();
    let truth = rig.truth("alice");
    assert_eq!(
        (truth.state, truth.entitled),
        (PurchaseState::InGracePeriod, true)
    );
    let failed = apple_notification(rig.sandbox.notifications().last().unwrap());
    assert_eq!(failed["data"]["status"], 4);
    let renewal = &failed["data"]["signedRenewalInfo"];
    assert_eq!(
        renewal["gracePeriodExpiresDate"],
        millis("2026-02-26T12:00:00Z")
    );
    assert_eq!(renewal["isInBillingRetryPeriod"], true);
    rig.sandbox
        .set_app_store_billing(id, Billing::Works)
        .await
        .unwrap();
    // Recovered within grace: the billing date stays.
    assert_eq!(
        rig.truth("alice").expires_at.unwrap().to_rfc3339(),
        "2026-03-10T12:00:00+00:00"
    );

    rig.sandbox
        .set_app_store_billing(id, Billing::Fails)
        .await
        .unwrap();
    rig.sandbox.advance_by(TimeDelta::days(50)).await.unwrap();
    assert_eq!(rig.truth("alice").state, PurchaseState::OnHold);
    rig.sandbox
        .set_app_store_billing(id, Billing::Works)
        .await
        .unwrap();
    assert_eq!(rig.truth("alice").state, PurchaseState::Active);
    rig.sandbox
        .set_app_store_billing(id, Billing::Fails)
        .await
        .unwrap();
    rig.sandbox.advance(Period::months(5)).await.unwrap();
    assert_eq!(
        rig.told_since(1),
        [
            "DID_FAIL_TO_RENEW/GRACE_PERIOD",
            "DID_RENEW/BILLING_RECOVERY",
            "DID_FAIL_TO_RENEW/GRACE_PERIOD",
            "GRACE_PERIOD_EXPIRED",
            "DID_RENEW/BILLING_RECOVERY",
            "DID_FAIL_TO_RENEW/GRACE_PERIOD",
            "GRACE_PERIOD_EXPIRED",
            "EXPIRED/BILLING_RETRY",
        ]
    );
    let ended = apple_notification(rig.sandbox.notifications().last().unwrap());
    assert_eq!(ended["data"]["status"], 2);
    assert_eq!(ended["data"]["signedRenewalInfo"]["expirationIntent"], 2);
}

#[tokio::test]
async fn a_trial_converts_and_plans_change_by_rank() {
    let rig = Rig::start().await;
    let buy = AppStoreBuy {
        customer: "alice".to_owned(),
        product_id: MONTHLY.to_owned(),
        trial: Some(Period::weeks(1)),
        app_account_token: None,
        ..AppStoreBuy::default()
    };
    let bought = rig.sandbox.buy_app_store(&buy).await.unwrap();
    let trial = payload(&bought.signed_transaction);
    assert_eq!(
        (&trial["price"], &trial["offerType"]),
        (&json!(0), &json!(1))
    );
    assert_eq!(trial["offerDiscountType"], "FREE_TRIAL");
    rig.sandbox.advance(Period::weeks(1)).await.unwrap();
    let converted = apple_notification(&rig.sandbox.notifications()[1]);
    assert_eq!(converted["data"]["signedTransactionInfo"]["price"], 9_990);

    let upgraded = rig.buy_apple("alice", YEARLY).await;
    assert_ne!(upgraded.transaction_id, bought.transaction_id);
    rig.buy_apple("alice", MONTHLY).await;
    assert_eq!(
        rig.told_since(2),
        [
            "DID_CHANGE_RENEWAL_PREF/UPGRADE",
            "DID_CHANGE_RENEWAL_PREF/DOWNGRADE"
        ]
    );
    assert_eq!(rig.truth("alice").product_id, YEARLY);
    rig.sandbox.advance(Period::years(1)).await.unwrap();
    assert_eq!(rig.truth("alice").product_id, MONTHLY);
    assert!(rig.sandbox.buy_app_store(&buy).await.is_err());
}

#[tokio::test]
async fn a_refund_ends_the_latest_period_and_only_that() {
    let rig = Rig::start().await;
    let bought = rig.buy_apple("alice", MONTHLY).await;
    rig.sandbox.advance(Period::months(1)).await.unwrap();
    rig.sandbox
        .refund_app_store(&bought.transaction_id)
        .await
        .unwrap();
    let first = apple_notification(rig.sandbox.notifications().last().unwrap());
    assert_eq!(first["notificationType"], "REFUND");
    assert_eq!(first["data"]["status"], 1);
    let inner = &first["data"]["signedTransactionInfo"];
    assert_eq!(inner["transactionId"], bought.transaction_id);
    assert_eq!(inner["revocationType"], "REFUND_FULL");
    assert!(rig.truth("alice").entitled);

    let latest = rig.truth("alice").latest_transaction;
    rig.sandbox.refund_app_store(&latest).await.unwrap();
    let second = apple_notification(rig.sandbox.notifications().last().unwrap());
    assert_eq!(second["data"]["status"], 5);
    assert!(second["signedDate"].as_i64() > first["signedDate"].as_i64());
    let truth = rig.truth("alice");
    assert_eq!(
        (truth.state, truth.entitled),
        (PurchaseState::Revoked, false)
    );
    assert!(rig.sandbox.refund_app_store(&latest).await.is_err());

    let lifetime = rig.buy_apple("bob", LIFETIME).await;
    assert_eq!(rig.told().pop().unwrap(), "ONE_TIME_CHARGE");
    assert!(rig.truth("bob").entitled);
    rig.sandbox
        .refund_app_store(&lifetime.transaction_id)
        .await
        .unwrap();
    assert!(!rig.truth("bob").entitled);
    let refund = apple_notification(rig.sandbox.notifications().last().unwrap());
    assert!(refund["data"]["status"].is_null());
}

#[tokio::test]
async fn the_api_answers_with_signed_documents_and_apples_error_codes() {
    let rig = Rig::start().await;
    let bought = rig.buy_apple("alice", MONTHLY).await;
    let id = bought.transaction_id.as_str();
    rig.buy_apple("alice", COINS).await;
    let (status, body) = rig.apple(&format!("/inApps/v1/transactions/{id}")).await;
    assert_eq!(status, 200);
    assert_eq!(signed(&body["signedTransactionInfo"])["transactionId"], id);

    let (_, body) = rig.apple(&format!("/inApps/v1/subscriptions/{id}?")).await;
    assert_eq!(body["environment"], "Production");
    assert_eq!(body["appAppleId"], 1_234_567_890);
    let item = &body["data"][0]["lastTransactions"][0];
    assert_eq!(body["data"][0]["subscriptionGroupIdentifier"], "premium");
    assert_eq!(
        (&item["status"], &item["originalTransactionId"]),
        (&json!(1), &json!(id))
    );
    assert_eq!(
        signed(&item["signedRenewalInfo"])["autoRenewProductId"],
        MONTHLY
    );
    let filtered = format!("/inApps/v1/subscriptions/{id}?status=2&status=5");
    assert_eq!(rig.apple(&filtered).await.1["data"], json!([]));

    for (path, code) in [
        ("/inApps/v1/transactions/12345".to_owned(), 4_040_010),
        ("/inApps/v1/transactions/abc".to_owned(), 4_000_006),
        ("/inApps/v1/subscriptions/12345".to_owned(), 4_040_010),
        (format!("/inApps/v1/subscriptions/{id}?status=6"), 4_000_031),
        ("/inApps/v2/refund/lookup/12345".to_owned(), 4_040_010),
        (
            format!("/inApps/v2/refund/lookup/{id}?revision=x"),
            4_000_005,
        ),
        ("/inApps/v1/notifications/test/x".to_owned(), 4_000_020),
        ("/inApps/v1/notifications/test/x_1".to_owned(), 4_040_008),
    ] {
        let (status, body) = rig.apple(&path).await;
        assert_eq!(body["errorCode"], code, "{path}");
        assert_eq!(u32::from(status), code / 10_000, "{path}");
    }
    let calls = rig.sandbox.store_calls();
    assert_eq!(calls[&Endpoint::AppleTransaction], 3);
    assert_eq!(calls[&Endpoint::AppleStatuses], 4);
}

#[tokio::test]
async fn refund_history_is_paged() {
    let rig = Rig::start().await;
    let mut first = String::new();
    for _ in 0..25 {
        let coins = rig.buy_apple("alice", COINS).await;
        rig.sandbox
            .refund_app_store(&coins.transaction_id)
            .await
            .unwrap();
        first = coins.transaction_id;
    }
    let path = format!("/inApps/v2/refund/lookup/{first}");
    let (_, page) = rig.apple(&path).await;
    assert_eq!(page["signedTransactions"].as_array().unwrap().len(), 20);
    assert_eq!(page["hasMore"], true);
    let revision = page["revision"].as_str().unwrap();
    let (_, page) = rig.apple(&format!("{path}?revision={revision}")).await;
    assert_eq!(page["signedTransactions"].as_array().unwrap().len(), 5);
    assert_eq!(page["hasMore"], false);
}

#[tokio::test]
async fn requests_without_a_good_token_are_refused_without_a_body() {
    let rig = Rig::start().await;
    let url = format!("{}/apple/inApps/v1/transactions/1", rig.sandbox.base_url());
    let now = machine_seconds();
    let none = rig.http.get(&url).send().await.unwrap();
    assert_eq!(none.status(), 401);
    assert!(none.bytes().await.unwrap().is_empty());
    for changes in [
        json!({"bid": "com.example.other"}),
        json!({"iss": "somebody"}),
        json!({"aud": "elsewhere"}),
        json!({"exp": now - 1}),
        json!({"exp": now + 4_000}),
    ] {
        let request = rig.http.get(&url).bearer_auth(rig.apple_token(&changes));
        assert_eq!(answer_of(request).await, (401, Value::Null), "{changes}");
    }
    let without_iat = rig.apple_token(&json!({"iat": null}));
    let request = rig.http.get(&url).bearer_auth(without_iat);
    assert_eq!(answer_of(request).await.0, 404);
}

#[tokio::test]
async fn a_test_notification_is_sent_and_its_attempts_are_told() {
    let rig = Rig::start().await;
    let url = format!(
        "{}/apple/inApps/v1/notifications/test",
        rig.sandbox.base_url()
    );
    let ask = || rig.http.post(&url).bearer_auth(rig.apple_token(&json!({})));
    let (status, body) = answer_of(ask()).await;
    assert_eq!(status, 200);
    let token = body["testNotificationToken"].as_str().unwrap();
    // It is sent by the background, which the next operation waits for.
    rig.sandbox.advance_by(TimeDelta::seconds(1)).await.unwrap();
    let (_, body) = rig
        .apple(&format!("/inApps/v1/notifications/test/{token}"))
        .await;
    assert_eq!(body["sendAttempts"][0]["sendAttemptResult"], "SUCCESS");
    let notification = signed(&body["signedPayload"]);
    assert_eq!(notification["notificationType"], "TEST");
    assert!(notification["data"]["signedTransactionInfo"].is_null());
    rig.sandbox.set_webhooks(Webhooks::default()).unwrap();
    assert_eq!(answer_of(ask()).await.1["errorCode"], 4_040_007);
}
