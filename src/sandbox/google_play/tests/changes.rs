//! Changes of plan: replacement modes, linked tokens, prepaid plans, installments.

use chrono::TimeDelta;

use super::shop::order;
use super::*;

fn change(old: &str, product: &str, plan: &str, mode: ReplacementMode) -> GooglePlayBuy {
    GooglePlayBuy {
        replaces: Some(old.to_owned()),
        replacement_mode: Some(mode),
        ..order(product, plan)
    }
}

fn usd(micros: i64) -> Value {
    let mut money = json!({"currencyCode": "USD"});
    if micros / 1_000_000 != 0 {
        money["units"] = json!((micros / 1_000_000).to_string());
    }
    if micros % 1_000_000 != 0 {
        money["nanos"] = json!(micros % 1_000_000 * 1_000);
    }
    money
}

/// Fifteen and a half of thirty-one days are left: half of 9.99 is 4.995.
#[tokio::test]
async fn each_replacement_mode_has_its_price_and_its_time() {
    let proration = json!({"prorationPeriod": {}});
    let of_base = json!({"prorationPeriod": {"originalOfferPhaseType": "BASE"}});
    for (mode, name, charged, expiry, phase) in [
        // 4.995 of 19.99 for 31 days (of 26 January to 26 February) is 7 d 17 h 54 min 25 s.
        (
            ReplacementMode::WithTimeProration,
            "WITH_TIME_PRORATION",
            0,
            "2026-02-02T17:54:25.032Z",
            &proration,
        ),
        (
            ReplacementMode::ChargeProratedPrice,
            "CHARGE_PRORATED_PRICE",
            5_000_000,
            "2026-02-10T12:00:00.000Z",
            &proration,
        ),
        (
            ReplacementMode::WithoutProration,
            "WITHOUT_PRORATION",
            0,
            "2026-02-10T12:00:00.000Z",
            &proration,
        ),
        (
            ReplacementMode::ChargeFullPrice,
            "CHARGE_FULL_PRICE",
            19_990_000,
            "2026-03-05T17:54:25.032Z",
            &of_base,
        ),
    ] {
        let shop = Shop::open().await;
        let old = shop.subscribe("basic", "monthly").await;
        shop.until("2026-01-26T00:00:00Z").await;
        let new = shop.buy(change(&old, "pro", "monthly", mode)).await;
        shop.acknowledge(&new);
        assert_eq!(shop.told(), ["PURCHASED", "PURCHASED"], "{name}");
        let shown = shop.show(&new);
        let replaced = json!({
            "productId": "basic",
            "basePlanId": "monthly",
            "replacementMode": name,
        });
        assert_shows(
            &shown,
            &[
                (STATE, state("ACTIVE")),
                ("/linkedPurchaseToken", json!(old)),
                (EXPIRY, json!(expiry)),
                (PHASE, phase.clone()),
                ("/lineItems/0/itemReplacement", replaced),
                (
                    "/lineItems/0/autoRenewingPlan/recurringPrice",
                    usd(19_990_000),
                ),
            ],
        );
        assert_eq!(shop.orders(&new)[0]["total"], usd(charged), "{name}");
        assert_shows(
            &shop.show(&old),
            &[
                (STATE, state("EXPIRED")),
                (EXPIRY, json!("2026-01-26T00:00:00.000Z")),
                ("/canceledStateContext/replacementCancellation", json!({})),
            ],
        );
        shop.wait(TimeDelta::seconds(3)).await;
        assert_eq!(shop.told(), ["EXPIRED"], "{name}");
        // The next renewal is a full one at the full price.
        shop.until(expiry).await;
        assert_eq!(shop.told(), ["RENEWED"], "{name}");
        assert_eq!(shop.orders(&new)[1]["total"], usd(19_990_000), "{name}");
        assert_eq!(
            shop.show(&new)["lineItems"][0]["offerPhase"],
            json!({"basePrice": {}})
        );
        // What was replaced is shown for sixty days.
        shop.until("2026-04-01T00:00:00Z").await;
        assert!(shop.show(&new)["lineItems"][0]["itemReplacement"].is_null());
    }
}

#[tokio::test]
async fn a_deferred_change_waits_in_the_new_token() {
    let shop = Shop::open().await;
    let old = shop.subscribe("pro", "monthly").await;
    shop.until("2026-01-26T00:00:00Z").await;
    let downgrade = change(&old, "basic", "monthly", ReplacementMode::Deferred);
    let new = shop.buy(downgrade).await;
    shop.acknowledge(&new);
    shop.wait(TimeDelta::seconds(3)).await;
    assert_eq!(shop.told(), ["PURCHASED", "PURCHASED", "EXPIRED"]);
    assert_shows(
        &shop.show(&new),
        &[
            (STATE, state("ACTIVE")),
            ("/linkedPurchaseToken", json!(old)),
            ("/lineItems/0/productId", json!("pro")),
            (EXPIRY, json!("2026-02-10T12:00:00.000Z")),
            (RENEWS, Value::Null),
            (
                "/lineItems/0/deferredItemReplacement",
                json!({"productId": "basic"}),
            ),
            ("/lineItems/1/productId", json!("basic")),
            ("/lineItems/1/expiryTime", Value::Null),
            ("/lineItems/1/latestSuccessfulOrderId", Value::Null),
            (
                "/lineItems/1/autoRenewingPlan/autoRenewEnabled",
                json!(true),
            ),
            (
                "/lineItems/1/itemReplacement/replacementMode",
                json!("DEFERRED"),
            ),
        ],
    );
    let owned: Vec<_> = shop.truth(&new).into_iter().map(|t| t.product_id).collect();
    assert_eq!(owned, ["pro"]);
    shop.until("2026-02-10T12:00:00Z").await;
    assert_eq!(shop.told(), ["RENEWED"]);
    assert_shows(
        &shop.show(&new),
        &[
            (STATE, state("ACTIVE")),
            ("/lineItems/0/productId", json!("basic")),
            (EXPIRY, json!("2026-03-10T12:00:00.000Z")),
            ("/lineItems/1", Value::Null),
        ],
    );
    assert_eq!(shop.orders(&new)[1]["total"], usd(9_990_000));

    // Cancelled while it waits: the old one runs out, the new one never begins.
    let last = change(&new, "pro", "monthly", ReplacementMode::Deferred);
    let last = shop.buy(last).await;
    shop.acknowledge(&last);
    let cancel = GooglePlayAction::Cancel {
        purchase_token: last.clone(),
        survey: None,
    };
    shop.act(cancel).await.unwrap();
    shop.until("2026-03-11T00:00:00Z").await;
    assert_eq!(shop.told(), ["PURCHASED", "CANCELED", "EXPIRED", "EXPIRED"]);
    assert_eq!(shop.show(&last)["subscriptionState"], state("EXPIRED"));
}

#[tokio::test]
async fn a_deferred_change_that_cannot_be_paid_keeps_the_old_item_through_grace() {
    let shop = Shop::open().await;
    let old = shop.subscribe("pro", "monthly").await;
    let new = shop
        .buy(change(&old, "basic", "monthly", ReplacementMode::Deferred))
        .await;
    shop.acknowledge(&new);
    let billing = |billing| GooglePlayAction::SetBilling {
        purchase_token: new.clone(),
        billing,
    };
    shop.act(billing(Billing::Fails)).await.unwrap();
    shop.until("2026-02-12T12:00:00Z").await;
    assert_shows(
        &shop.show(&new),
        &[
            (STATE, state("IN_GRACE_PERIOD")),
            (EXPIRY, json!("2026-02-17T12:00:00.000Z")),
            ("/lineItems/1/expiryTime", Value::Null),
        ],
    );
    shop.act(billing(Billing::Works)).await.unwrap();
    assert_shows(
        &shop.show(&new),
        &[
            (STATE, state("ACTIVE")),
            ("/lineItems/0/productId", json!("basic")),
            (EXPIRY, json!("2026-03-10T12:00:00.000Z")),
        ],
    );
}

#[tokio::test]
async fn what_the_store_does_not_change() {
    let shop = Shop::open().await;
    let held = shop.subscribe("pro", "monthly").await;
    let refusals = [
        (
            change(
                &held,
                "basic",
                "monthly",
                ReplacementMode::ChargeProratedPrice,
            ),
            "only an upgrade can be charged the difference",
        ),
        (
            change(&held, "ticket", "month", ReplacementMode::WithTimeProration),
            "a change to a prepaid plan is charged in full",
        ),
        (
            change(&held, "basic", "monthly", ReplacementMode::KeepExisting),
            "only the same plan can be kept",
        ),
        (order("pro", "monthly"), "already owned"),
    ];
    for (buy, reason) in refusals {
        assert_eq!(shop.refusal(GooglePlayAction::Buy(buy)).await, reason);
    }
    assert_eq!(shop.told(), ["PURCHASED"]);
}

#[tokio::test]
async fn a_cancelled_subscription_that_is_bought_again_before_its_end_is_linked() {
    let shop = Shop::open().await;
    let old = shop.subscribe("basic", "monthly").await;
    let cancel = GooglePlayAction::Cancel {
        purchase_token: old.clone(),
        survey: None,
    };
    shop.act(cancel).await.unwrap();
    shop.until("2026-01-26T00:00:00Z").await;
    let again = shop.buy(order("basic", "monthly")).await;
    assert_shows(
        &shop.show(&again),
        &[
            ("/linkedPurchaseToken", json!(old)),
            // What is left of the old period is worth the same time of the new one.
            (EXPIRY, json!("2026-02-10T12:00:00.000Z")),
        ],
    );
}

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
