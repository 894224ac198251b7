//! Google Play: a year of renewals, hold, forfeit, plan changes, and every endpoint.

use super::*;

#[tokio::test]
async fn a_year_of_renewals_then_a_cancellation_taken_back_and_made_again() {
    let rig = Rig::start().await;
    let bought = rig.buy_google("alice", "premium").await;
    assert!(bought.purchase_token.len() > 100);
    assert!(bought.order_id.starts_with("GPA."));
    let resource = rig.subscription(&bought).await;
    assert_eq!(resource["subscriptionState"], "SUBSCRIPTION_STATE_ACTIVE");
    assert_eq!(
        resource["acknowledgementState"],
        "ACKNOWLEDGEMENT_STATE_PENDING"
    );
    let accounts = &resource["externalAccountIdentifiers"];
    assert_eq!(accounts["obfuscatedExternalAccountId"], "account-of-alice");
    assert!(resource["testPurchase"].is_null());
    let item = &resource["lineItems"][0];
    assert_eq!(item["expiryTime"], "2026-02-10T12:00:00.000Z");
    assert_eq!(item["offerDetails"]["basePlanId"], "monthly");
    assert_eq!(item["autoRenewingPlan"]["autoRenewEnabled"], true);
    let price = json!({"currencyCode": "USD", "units": "9", "nanos": 990_000_000});
    assert_eq!(item["autoRenewingPlan"]["recurringPrice"], price);
    rig.acknowledge(&bought).await;
    assert_eq!(
        rig.sandbox.is_acknowledged(&bought.purchase_token),
        Some(true)
    );

    rig.sandbox.advance(Period::years(1)).await.unwrap();
    let told = rig.told();
    assert_eq!(told[0], "SUBSCRIPTION_PURCHASED");
    assert_eq!(told[1..], vec!["SUBSCRIPTION_RENEWED"; 12]);
    let renewed = google_notification(&rig.sandbox.notifications()[1]);
    assert_eq!(renewed["subscriptionNotification"]["notificationType"], 2);
    assert_eq!(renewed["packageName"], "com.example.android");
    assert!(renewed["eventTimeMillis"].is_string());
    let latest = rig.subscription(&bought).await["latestOrderId"].clone();
    assert_eq!(latest, format!("{}..11", bought.order_id));

    let token = &bought.purchase_token;
    rig.sandbox.cancel_google_play(token).await.unwrap();
    assert_eq!(rig.truth("alice").state, PurchaseState::Canceled);
    rig.sandbox.restore_google_play(token).await.unwrap();
    rig.sandbox.cancel_google_play(token).await.unwrap();
    rig.sandbox.advance(Period::months(2)).await.unwrap();
    assert_eq!(
        rig.told_since(13),
        [
            "SUBSCRIPTION_CANCELED",
            "SUBSCRIPTION_RESTARTED",
            "SUBSCRIPTION_CANCELED",
            "SUBSCRIPTION_EXPIRED"
        ]
    );
    let resource = rig.subscription(&bought).await;
    assert_eq!(resource["subscriptionState"], "SUBSCRIPTION_STATE_EXPIRED");
    assert!(resource["canceledStateContext"]["userInitiatedCancellation"].is_object());
    rig.sandbox.advance(Period::months(2)).await.unwrap();
    let path = format!("purchases/subscriptionsv2/tokens/{token}");
    assert_eq!(rig.google_get(&path).await.0, 410);
}

#[tokio::test]
async fn a_failed_payment_goes_through_grace_and_hold_to_recovery_or_the_end() {
    let rig = Rig::start().await;
    let bought = rig.buy_google("alice", "premium").await;
    rig.acknowledge(&bought).await;
    let token = &bought.purchase_token;
    let fails = |billing| rig.sandbox.set_google_play_billing(token, billing);
    fails(Billing::Fails).await.unwrap();
    rig.sandbox.advance_by(TimeDelta::days(33)).await.unwrap();
    let resource = rig.subscription(&bought).await;
    assert_eq!(
        resource["subscriptionState"],
        "SUBSCRIPTION_STATE_IN_GRACE_PERIOD"
    );
    assert_eq!(
        resource["lineItems"][0]["expiryTime"],
        "2026-02-17T12:00:00.000Z"
    );
    assert_eq!(resource["latestOrderId"], format!("{}..0", bought.order_id));
    assert_eq!(
        resource["lineItems"][0]["latestSuccessfulOrderId"],
        bought.order_id
    );
    assert!(rig.truth("alice").entitled);
    rig.sandbox.advance_by(TimeDelta::days(7)).await.unwrap();
    let truth = rig.truth("alice");
    assert_eq!(
        (truth.state, truth.entitled),
        (PurchaseState::OnHold, false)
    );
    fails(Billing::Works).await.unwrap();
    assert!(rig.truth("alice").entitled);
    fails(Billing::Fails).await.unwrap();
    rig.sandbox.advance(Period::months(4)).await.unwrap();
    assert_eq!(
        rig.told_since(1),
        [
            "SUBSCRIPTION_IN_GRACE_PERIOD",
            "SUBSCRIPTION_ON_HOLD",
            "SUBSCRIPTION_RECOVERED",
            "SUBSCRIPTION_IN_GRACE_PERIOD",
            "SUBSCRIPTION_ON_HOLD",
            "SUBSCRIPTION_CANCELED",
            "SUBSCRIPTION_EXPIRED"
        ]
    );
    assert_eq!(rig.truth("alice").state, PurchaseState::Expired);
}

#[tokio::test]
async fn without_grace_the_store_keeps_silent_for_a_day_and_cancelling_in_hold_ends_at_once() {
    let rig = Rig::start().await;
    let mut buy = google_buy("alice", "premium");
    buy.base_plan_id = Some("yearly".to_owned());
    let bought = rig.sandbox.buy_google_play(&buy).await.unwrap();
    rig.acknowledge(&bought).await;
    let token = &bought.purchase_token;
    rig.sandbox
        .set_google_play_billing(token, Billing::Fails)
        .await
        .unwrap();
    rig.sandbox.advance(Period::years(1)).await.unwrap();
    assert_eq!(rig.told().len(), 1);
    assert_eq!(
        rig.subscription(&bought).await["subscriptionState"],
        "SUBSCRIPTION_STATE_ACTIVE"
    );
    rig.sandbox.advance(Period::days(1)).await.unwrap();
    rig.sandbox.cancel_google_play(token).await.unwrap();
    rig.sandbox.advance(Period::days(1)).await.unwrap();
    assert_eq!(
        rig.told_since(1),
        [
            "SUBSCRIPTION_ON_HOLD",
            "SUBSCRIPTION_CANCELED",
            "SUBSCRIPTION_EXPIRED"
        ]
    );
}

#[tokio::test]
async fn an_unacknowledged_purchase_is_refunded_after_three_days() {
    let rig = Rig::start().await;
    let forgotten = rig.buy_google("alice", "premium").await;
    rig.buy_google("bob", "lifetime").await;
    rig.sandbox.advance_by(TimeDelta::hours(71)).await.unwrap();
    assert!(rig.truth("alice").entitled && rig.truth("bob").entitled);
    rig.sandbox.advance_by(TimeDelta::hours(2)).await.unwrap();
    let mut told = rig.told_since(2);
    told.sort();
    assert_eq!(
        told,
        ["SUBSCRIPTION_REVOKED", "VOIDED_PURCHASE", "VOIDED_PURCHASE"]
    );
    assert_eq!(rig.truth("alice").state, PurchaseState::Revoked);
    assert!(!rig.truth("bob").entitled);
    let resource = rig.subscription(&forgotten).await;
    assert!(resource["canceledStateContext"]["systemInitiatedCancellation"].is_object());
}

#[tokio::test]
async fn a_refund_revokes_and_voids() {
    let rig = Rig::start().await;
    let bought = rig.buy_google("alice", "premium").await;
    rig.acknowledge(&bought).await;
    rig.sandbox
        .refund_google_play(&bought.purchase_token)
        .await
        .unwrap();
    assert_eq!(
        rig.told_since(1),
        ["SUBSCRIPTION_REVOKED", "VOIDED_PURCHASE"]
    );
    let voided = google_notification(rig.sandbox.notifications().last().unwrap());
    let voided = &voided["voidedPurchaseNotification"];
    assert_eq!(voided["orderId"], bought.order_id);
    assert_eq!(
        (&voided["productType"], &voided["refundType"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        rig.subscription(&bought).await["subscriptionState"],
        "SUBSCRIPTION_STATE_EXPIRED"
    );
    let (_, order) = rig.google_get(&format!("orders/{}", bought.order_id)).await;
    assert_eq!(order["state"], "REFUNDED");
    assert!(
        rig.sandbox
            .refund_google_play(&bought.purchase_token)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_plan_change_links_the_old_token_whose_end_is_told_late() {
    let rig = Rig::start().await;
    let old = rig.buy_google("alice", "premium").await;
    let mut buy = google_buy("alice", "premium");
    buy.base_plan_id = Some("yearly".to_owned());
    assert!(
        rig.sandbox.buy_google_play(&buy).await.is_err(),
        "already owned"
    );
    buy.replaces = Some(old.purchase_token.clone());
    assert!(
        rig.sandbox.buy_google_play(&buy).await.is_err(),
        "not acknowledged"
    );
    rig.acknowledge(&old).await;
    let new = rig.sandbox.buy_google_play(&buy).await.unwrap();
    assert_eq!(
        rig.subscription(&new).await["linkedPurchaseToken"],
        old.purchase_token
    );
    let replaced = rig.subscription(&old).await;
    assert_eq!(replaced["subscriptionState"], "SUBSCRIPTION_STATE_EXPIRED");
    assert!(replaced["canceledStateContext"]["replacementCancellation"].is_object());
    assert_eq!(rig.told_since(1), ["SUBSCRIPTION_PURCHASED"]);
    rig.sandbox.advance_by(TimeDelta::seconds(5)).await.unwrap();
    let late = google_notification(rig.sandbox.notifications().last().unwrap());
    assert_eq!(late["subscriptionNotification"]["notificationType"], 13);
    assert_eq!(
        late["subscriptionNotification"]["purchaseToken"],
        old.purchase_token
    );
}

#[tokio::test]
async fn a_purchase_outside_the_app_shows_its_context_until_it_is_acknowledged() {
    let rig = Rig::start().await;
    let old = rig.buy_google("alice", "premium").await;
    rig.acknowledge(&old).await;
    rig.sandbox
        .cancel_google_play(&old.purchase_token)
        .await
        .unwrap();
    rig.sandbox.advance(Period::months(2)).await.unwrap();
    let mut buy = google_buy("alice", "premium");
    buy.out_of_app = true;
    let new = rig.sandbox.buy_google_play(&buy).await.unwrap();
    let resource = rig.subscription(&new).await;
    let context = &resource["outOfAppPurchaseContext"];
    assert_eq!(context["expiredPurchaseToken"], old.purchase_token);
    let expired = &context["expiredExternalAccountIdentifiers"];
    assert_eq!(expired["obfuscatedExternalAccountId"], "account-of-alice");
    assert!(resource["externalAccountIdentifiers"].is_null());
    assert!(resource["linkedPurchaseToken"].is_null());
    let path = format!(
        "purchases/subscriptions/premium/tokens/{}:acknowledge",
        new.purchase_token
    );
    let body = json!({"externalAccountIds": {"obfuscatedAccountId": "told"}});
    assert_eq!(rig.google_post(&path, &body).await.0, 204);
    let resource = rig.subscription(&new).await;
    assert!(resource["outOfAppPurchaseContext"].is_null());
    let accounts = &resource["externalAccountIdentifiers"];
    assert_eq!(accounts["obfuscatedExternalAccountId"], "told");
}

#[tokio::test]
async fn one_time_products_are_acknowledged_consumed_and_bought_again() {
    let rig = Rig::with(Environment::Sandbox, None).await;
    let coins = rig.buy_google("alice", "coins").await;
    let told = google_notification(&rig.sandbox.notifications()[0]);
    assert_eq!(told["oneTimeProductNotification"]["sku"], "coins");
    let path = format!("purchases/productsv2/tokens/{}", coins.purchase_token);
    let (_, resource) = rig.google_get(&path).await;
    assert_eq!(
        resource["purchaseStateContext"]["purchaseState"],
        "PURCHASED"
    );
    assert_eq!(resource["testPurchaseContext"]["fopType"], "TEST");
    assert_eq!(resource["obfuscatedExternalAccountId"], "account-of-alice");
    assert!(
        rig.sandbox
            .buy_google_play(&google_buy("alice", "coins"))
            .await
            .is_err()
    );
    let verb = |verb: &str| {
        format!(
            "purchases/products/coins/tokens/{}:{verb}",
            coins.purchase_token
        )
    };
    assert_eq!(
        rig.google_post(&verb("acknowledge"), &Value::Null).await.0,
        204
    );
    assert_eq!(rig.google_post(&verb("consume"), &Value::Null).await.0, 204);
    let (_, resource) = rig.google_get(&path).await;
    assert_eq!(
        resource["acknowledgementState"],
        "ACKNOWLEDGEMENT_STATE_ACKNOWLEDGED"
    );
    let offer = &resource["productLineItem"][0]["productOfferDetails"];
    assert_eq!(offer["consumptionState"], "CONSUMPTION_STATE_CONSUMED");
    rig.buy_google("alice", "coins").await;
}

#[tokio::test]
async fn a_trial_is_free_and_converts() {
    let rig = Rig::with(Environment::Sandbox, None).await;
    let mut buy = google_buy("alice", "premium");
    buy.trial = Some(Period::days(3));
    let bought = rig.sandbox.buy_google_play(&buy).await.unwrap();
    rig.acknowledge(&bought).await;
    let resource = rig.subscription(&bought).await;
    assert!(resource["lineItems"][0]["offerPhase"]["freeTrial"].is_object());
    assert!(resource["testPurchase"].is_object());
    rig.sandbox.advance(Period::days(3)).await.unwrap();
    let resource = rig.subscription(&bought).await;
    assert!(resource["lineItems"][0]["offerPhase"]["basePrice"].is_object());
    let (_, order) = rig
        .google_get(&format!("orders/{}..0", bought.order_id))
        .await;
    assert_eq!(order["total"]["units"], "9");
    assert_eq!(
        order["lineItems"][0]["subscriptionDetails"]["basePlanId"],
        "monthly"
    );
}

#[tokio::test]
async fn errors_are_googles() {
    let rig = Rig::start().await;
    let bought = rig.buy_google("alice", "premium").await;
    let token = &bought.purchase_token;
    let unknown = "a".repeat(144);
    for (path, status, reason) in [
        (
            format!("purchases/subscriptionsv2/tokens/{unknown}"),
            404,
            "purchaseTokenNotFound",
        ),
        (
            "purchases/subscriptionsv2/tokens/short".to_owned(),
            400,
            "invalid",
        ),
        (
            format!("purchases/productsv2/tokens/{token}"),
            404,
            "purchaseTokenNotFound",
        ),
        ("orders/GPA.0000".to_owned(), 404, "notFound"),
    ] {
        let (got, body) = rig.google_get(&path).await;
        assert_eq!(got, status, "{path}");
        assert_eq!(body["error"]["errors"][0]["reason"], reason, "{path}");
    }
    let url = rig.google_url(&format!("purchases/subscriptionsv2/tokens/{token}"));
    let (status, body) = answer_of(rig.http.get(&url)).await;
    assert_eq!(
        (status, &body["error"]["status"]),
        (401, &json!("UNAUTHENTICATED"))
    );
    let bearer = rig.google_token().await;
    assert_eq!(
        answer_of(rig.http.get(&url).bearer_auth(&bearer)).await.0,
        200
    );
    let foreign = url.replace("com.example.android", "com.example.other");
    assert_eq!(
        answer_of(rig.http.get(&foreign).bearer_auth(&bearer))
            .await
            .0,
        400
    );
    rig.sandbox.revoke_google_access_tokens();
    assert_eq!(
        answer_of(rig.http.get(&url).bearer_auth(&bearer)).await.0,
        401
    );
}

#[tokio::test]
async fn a_token_is_read_through_a_long_pause_and_sixty_days_after_the_end() {
    let rig = Rig::start().await;
    let bought = rig.buy_google("alice", "premium").await;
    rig.acknowledge(&bought).await;
    let path = format!("purchases/subscriptionsv2/tokens/{}", bought.purchase_token);
    let pause = GooglePlayAction::Pause {
        purchase_token: bought.purchase_token.clone(),
        period: Period::months(3),
    };
    rig.sandbox.google_play(pause).await.unwrap();
    // A month was paid for; the pause ends in the fourth.
    rig.sandbox.advance_by(TimeDelta::days(115)).await.unwrap();
    let (status, resource) = rig.google_get(&path).await;
    assert_eq!(status, 200);
    assert_eq!(resource["subscriptionState"], "SUBSCRIPTION_STATE_PAUSED");
    rig.sandbox
        .cancel_google_play(&bought.purchase_token)
        .await
        .unwrap();
    rig.sandbox.advance_by(TimeDelta::days(59)).await.unwrap();
    assert_eq!(rig.google_get(&path).await.0, 200);
    rig.sandbox.advance_by(TimeDelta::days(2)).await.unwrap();
    assert_eq!(rig.google_get(&path).await.0, 410);
}
