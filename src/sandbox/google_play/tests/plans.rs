//! Prepaid plans, installments, offers, purchases outside the app, promotion codes; actions as JSON.

use chrono::TimeDelta;

use super::*;

#[tokio::test]
async fn a_prepaid_plan_runs_out_unless_it_is_topped_up() {
    let shop = Shop::open().await;
    let token = shop.subscribe("ticket", "month").await;
    assert_shows(
        &shop.show(&token),
        &[
            (STATE, state("ACTIVE")),
            (
                "/lineItems/0/prepaidPlan/allowExtendAfterTime",
                json!("2026-01-10T12:00:00.000Z"),
            ),
            ("/lineItems/0/autoRenewingPlan", Value::Null),
        ],
    );
    let top_up = |token: &str| GooglePlayAction::TopUp {
        purchase_token: token.to_owned(),
    };
    shop.until("2026-02-01T00:00:00Z").await;
    let more = shop
        .act(top_up(&token))
        .await
        .unwrap()
        .google_play()
        .unwrap();
    let more = more.purchase_token;
    assert_shows(
        &shop.show(&more),
        &[
            ("/linkedPurchaseToken", json!(token)),
            (EXPIRY, json!("2026-03-10T12:00:00.000Z")),
            (
                "/acknowledgementState",
                json!("ACKNOWLEDGEMENT_STATE_PENDING"),
            ),
            (
                "/lineItems/0/itemReplacement/replacementMode",
                json!("CHARGE_FULL_PRICE"),
            ),
        ],
    );
    shop.acknowledge(&more);
    assert_eq!(shop.refusal(top_up(&more)).await, "too early to top up");
    shop.until("2026-03-11T00:00:00Z").await;
    assert_eq!(
        shop.told(),
        ["PURCHASED", "PURCHASED", "EXPIRED", "EXPIRED"]
    );
    assert_shows(
        &shop.show(&more),
        &[
            (STATE, state("EXPIRED")),
            ("/canceledStateContext", Value::Null),
            ("/lineItems/0/prepaidPlan", json!({})),
        ],
    );
    for nothing in [
        GooglePlayAction::Cancel {
            purchase_token: more.clone(),
            survey: None,
        },
        top_up(&more),
    ] {
        assert!(shop.act(nothing).await.is_err());
    }
}

#[tokio::test]
async fn a_top_up_that_is_not_acknowledged_takes_everything_back() {
    let shop = Shop::open().await;
    let token = shop.subscribe("ticket", "month").await;
    shop.until("2026-02-01T00:00:00Z").await;
    let top_up = GooglePlayAction::TopUp {
        purchase_token: token.clone(),
    };
    let more = shop.act(top_up).await.unwrap().google_play().unwrap();
    shop.until("2026-02-04T00:00:00Z").await;
    assert_eq!(
        shop.truth(&more.purchase_token)[0].state,
        PurchaseState::Revoked
    );
    assert!(!shop.truth(&token)[0].entitled);
}

#[tokio::test]
async fn prepaid_and_renewing_plans_turn_into_each_other() {
    let shop = Shop::open().await;
    let prepaid = shop.subscribe("ticket", "month").await;
    shop.until("2026-01-26T00:00:00Z").await;
    let renewing = change(
        &prepaid,
        "basic",
        "monthly",
        ReplacementMode::WithTimeProration,
    );
    let renewing = shop.buy(renewing).await;
    shop.acknowledge(&renewing);
    assert_shows(
        &shop.show(&renewing),
        &[
            ("/linkedPurchaseToken", json!(prepaid)),
            (EXPIRY, json!("2026-02-10T12:00:00.000Z")),
            (RENEWS, json!(true)),
        ],
    );
    let back = change(
        &renewing,
        "ticket",
        "month",
        ReplacementMode::ChargeFullPrice,
    );
    let back = shop.buy(back).await;
    assert_shows(
        &shop.show(&back),
        &[
            ("/linkedPurchaseToken", json!(renewing)),
            (EXPIRY, json!("2026-03-13T12:00:00.000Z")),
            ("/lineItems/0/autoRenewingPlan", Value::Null),
        ],
    );
}

#[tokio::test]
async fn installments_are_paid_to_the_end_of_the_commitment() {
    let shop = Shop::open().await;
    let token = shop.subscribe("course", "half-year").await;
    let details = "/lineItems/0/autoRenewingPlan/installmentDetails";
    assert_shows(
        &shop.show(&token),
        &[(
            details,
            json!({"initialCommittedPaymentsCount": 3, "remainingCommittedPaymentsCount": 2}),
        )],
    );
    let cancel = GooglePlayAction::Cancel {
        purchase_token: token.clone(),
        survey: None,
    };
    shop.act(cancel.clone()).await.unwrap();
    assert_eq!(shop.told(), ["PURCHASED", "CANCELLATION_SCHEDULED"]);
    assert_shows(
        &shop.show(&token),
        &[
            (STATE, state("ACTIVE")),
            (&format!("{details}/pendingCancellation"), json!({})),
        ],
    );
    let restore = GooglePlayAction::Restore {
        purchase_token: token.clone(),
    };
    shop.act(restore).await.unwrap();
    shop.act(cancel.clone()).await.unwrap();
    assert_eq!(shop.refusal(cancel).await, "nothing renews");
    assert_eq!(shop.told(), ["RESTARTED", "CANCELLATION_SCHEDULED"]);
    shop.until("2026-04-10T12:00:00Z").await;
    assert_eq!(shop.told(), ["RENEWED", "RENEWED", "CANCELED"]);
    shop.wait(TimeDelta::seconds(3)).await;
    assert_eq!(shop.told(), ["EXPIRED"]);
    assert_shows(
        &shop.show(&token),
        &[
            (STATE, state("EXPIRED")),
            (
                "/canceledStateContext/userInitiatedCancellation/cancelTime",
                json!("2026-01-10T12:00:00.000Z"),
            ),
        ],
    );
    assert_eq!(shop.orders(&token).len(), 3);
}

#[tokio::test]
async fn after_one_commitment_an_installment_plan_renews_like_any_other() {
    let shop = Shop::open().await;
    let token = shop.subscribe("course", "half-year").await;
    shop.until("2026-04-10T12:00:00Z").await;
    let details = "/lineItems/0/autoRenewingPlan/installmentDetails";
    assert_shows(&shop.show(&token), &[(details, Value::Null)]);
    let cancel = GooglePlayAction::Cancel {
        purchase_token: token.clone(),
        survey: None,
    };
    shop.act(cancel).await.unwrap();
    assert_shows(&shop.show(&token), &[(STATE, state("CANCELED"))]);
}

#[tokio::test]
async fn trial_then_introductory_price_then_the_full_one() {
    let shop = Shop::open().await;
    let buy = GooglePlayBuy {
        trial: Some(Period::weeks(1)),
        offer: Some(Offer {
            id: "welcome".to_owned(),
            price_micros: 1_990_000,
            period: Period::months(1),
            periods: 2,
        }),
        ..order("basic", "monthly")
    };
    let token = shop.buy(buy).await;
    shop.acknowledge(&token);
    for (phase, details, expiry, total) in [
        (
            "freeTrial",
            "freeTrialDetails",
            "2026-01-17T12:00:00.000Z",
            0,
        ),
        (
            "introductoryPrice",
            "introductoryPriceDetails",
            "2026-02-17T12:00:00.000Z",
            1_990_000,
        ),
        (
            "introductoryPrice",
            "introductoryPriceDetails",
            "2026-03-17T12:00:00.000Z",
            1_990_000,
        ),
        (
            "basePrice",
            "baseDetails",
            "2026-04-17T12:00:00.000Z",
            9_990_000,
        ),
    ] {
        assert_shows(
            &shop.show(&token),
            &[
                (EXPIRY, json!(expiry)),
                (PHASE, json!({phase: {}})),
                ("/lineItems/0/offerDetails/offerId", json!("welcome")),
            ],
        );
        assert_shows(
            shop.orders(&token).last().unwrap(),
            &[
                ("/total", usd(total)),
                (
                    &format!("/lineItems/0/subscriptionDetails/offerPhaseDetails/{details}"),
                    json!({}),
                ),
                (
                    "/lineItems/0/subscriptionDetails/servicePeriodEndTime",
                    json!(expiry),
                ),
            ],
        );
        shop.until(expiry).await;
    }
}

#[tokio::test]
async fn a_purchase_outside_the_app_is_for_what_has_lapsed_and_its_order_says_so() {
    let shop = Shop::open().await;
    let old = shop.subscribe("basic", "monthly").await;
    let cancel = GooglePlayAction::Cancel {
        purchase_token: old.clone(),
        survey: None,
    };
    shop.act(cancel).await.unwrap();
    let outside = GooglePlayBuy {
        out_of_app: true,
        ..order("basic", "monthly")
    };
    let early = GooglePlayAction::Buy(outside.clone());
    assert_eq!(shop.refusal(early).await, "the subscription has not lapsed");
    shop.until("2026-03-01T00:00:00Z").await;
    let new = shop.buy(outside).await;
    let context = "/outOfAppPurchaseContext/expiredPurchaseToken";
    assert_shows(
        &shop.show(&new),
        &[(context, json!(old)), ("/linkedPurchaseToken", Value::Null)],
    );
    shop.acknowledge(&new);
    assert_shows(&shop.show(&new), &[(context, Value::Null)]);
    assert_eq!(shop.orders(&new)[0]["salesChannel"], "PLAY_STORE");
}

#[tokio::test]
async fn promotion_codes_show_and_what_they_give_away_has_no_order() {
    let shop = Shop::open().await;
    let buy = GooglePlayBuy {
        promotion: Some(Promotion::VanityCode("SPRING".to_owned())),
        trial: Some(Period::months(1)),
        ..order("basic", "monthly")
    };
    let token = shop.buy(buy).await;
    let code = json!({"vanityCode": {"promotionCode": "SPRING"}});
    assert_shows(
        &shop.show(&token),
        &[("/lineItems/0/signupPromotion", code)],
    );
    let gift = GooglePlayBuy {
        customer: "bob".to_owned(),
        product_id: "coins".to_owned(),
        promotion: Some(Promotion::OneTimeCode),
        ..GooglePlayBuy::default()
    };
    let gift = shop.buy(gift).await;
    let shown = shop.show(&gift);
    assert!(shown["orderId"].is_null());
    let older = shop.look(|purchase, _| product_v1::of(purchase, &shown), &gift);
    assert_eq!(older["purchaseType"], 1);
}

#[test]
fn the_same_actions_are_read_from_json() {
    for (text, expected) in [
        (
            r#"{"do": "refund", "purchase_token": "t"}"#,
            GooglePlayAction::Refund {
                purchase_token: "t".to_owned(),
                order_id: None,
                revoke: true,
                quantity: None,
                source: VoidSource::Developer,
                reason: VoidReason::Other,
            },
        ),
        (
            r#"{"do": "buy", "customer": "alice", "product_id": "basic", "base_plan_id": "monthly",
                "obfuscated_account_id": "account", "replacement_mode": "charge_full_price",
                "offer": {"id": "o", "price_micros": 1, "period": "P1M"}}"#,
            GooglePlayAction::Buy(GooglePlayBuy {
                replacement_mode: Some(ReplacementMode::ChargeFullPrice),
                offer: Some(Offer {
                    id: "o".to_owned(),
                    price_micros: 1,
                    period: Period::months(1),
                    periods: 1,
                }),
                ..order("basic", "monthly")
            }),
        ),
        (
            r#"{"do": "pause", "purchase_token": "t", "period": "P2W"}"#,
            GooglePlayAction::Pause {
                purchase_token: "t".to_owned(),
                period: Period::weeks(2),
            },
        ),
    ] {
        let read: GooglePlayAction = serde_json::from_str(text).unwrap();
        assert_eq!(read, expected);
    }
    let wrong = r#"{"do": "pause", "purchase_token": "t", "length": "P2W"}"#;
    assert!(serde_json::from_str::<GooglePlayAction>(wrong).is_err());
}
