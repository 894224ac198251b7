//! Price changes, and consent to a step up.

use super::*;

const CHANGE: &str = "/lineItems/0/autoRenewingPlan/priceChangeDetails";
const PRICE: &str = "/lineItems/0/autoRenewingPlan/recurringPrice";
const CONSENT: &str = "/lineItems/0/autoRenewingPlan/priceStepUpConsentDetails";

fn change(price_micros: i64, mode: PriceChangeMode) -> GooglePlayAction {
    GooglePlayAction::ChangePrice {
        product_id: "basic".to_owned(),
        base_plan_id: Some("monthly".to_owned()),
        price_micros,
        mode,
    }
}

fn answer(token: &str, accept: bool) -> GooglePlayAction {
    GooglePlayAction::AnswerPrice {
        purchase_token: token.to_owned(),
        accept,
    }
}

fn twelve() -> Value {
    json!({"currencyCode": "USD", "units": "12"})
}

#[tokio::test]
async fn an_increase_that_is_accepted_is_charged_after_37_days() {
    let shop = Shop::open().await;
    let token = shop.subscribe("basic", "monthly").await;
    shop.act(change(12_000_000, PriceChangeMode::Increase))
        .await
        .unwrap();
    assert_eq!(shop.told(), ["PURCHASED", "PRICE_CHANGE_UPDATED"]);
    let details = |state: &str| {
        json!({
            "newPrice": twelve(),
            "priceChangeMode": "PRICE_INCREASE",
            "priceChangeState": state,
            "expectedNewPriceChargeTime": "2026-03-10T12:00:00.000Z",
        })
    };
    assert_shows(&shop.show(&token), &[(CHANGE, details("OUTSTANDING"))]);
    shop.act(answer(&token, true)).await.unwrap();
    assert_eq!(shop.told(), ["PRICE_CHANGE_UPDATED"]);
    assert_shows(&shop.show(&token), &[(CHANGE, details("CONFIRMED"))]);
    // The first renewal comes before the 37 days are over.
    shop.until("2026-02-10T12:00:00Z").await;
    assert_shows(&shop.show(&token), &[(CHANGE, details("CONFIRMED"))]);
    shop.until("2026-03-10T12:00:00Z").await;
    assert_eq!(shop.told(), ["RENEWED", "RENEWED"]);
    assert_shows(
        &shop.show(&token),
        &[
            (PRICE, twelve()),
            (&format!("{CHANGE}/priceChangeState"), json!("APPLIED")),
            (&format!("{CHANGE}/expectedNewPriceChargeTime"), Value::Null),
        ],
    );
    assert_eq!(shop.orders(&token)[2]["total"], twelve());
}

#[tokio::test]
async fn an_increase_that_is_not_accepted_is_not_charged_after_a_pause_or_a_hold_either() {
    for paused in [true, false] {
        let shop = Shop::open().await;
        let token = shop.subscribe("basic", "monthly").await;
        let purchase_token = token.clone();
        let action = match paused {
            true => GooglePlayAction::Pause {
                purchase_token,
                period: Period::months(2),
            },
            false => GooglePlayAction::SetBilling {
                purchase_token,
                billing: Billing::Fails,
            },
        };
        shop.act(action).await.unwrap();
        shop.act(change(12_000_000, PriceChangeMode::Increase))
            .await
            .unwrap();
        // 37 days and more after the increase was announced.
        shop.until("2026-03-10T12:00:00Z").await;
        let purchase_token = token.clone();
        shop.told();
        let action = match paused {
            true => GooglePlayAction::Resume { purchase_token },
            false => GooglePlayAction::SetBilling {
                purchase_token,
                billing: Billing::Works,
            },
        };
        shop.act(action).await.unwrap();
        assert_eq!(shop.told(), ["CANCELED"]);
        assert_shows(&shop.show(&token), &[(STATE, state("EXPIRED"))]);
        assert!(!shop.truth(&token)[0].entitled);
    }
}

#[tokio::test]
async fn an_increase_that_is_not_accepted_ends_the_subscription() {
    for refused in [false, true] {
        let shop = Shop::open().await;
        let token = shop.subscribe("basic", "monthly").await;
        shop.act(change(12_000_000, PriceChangeMode::Increase))
            .await
            .unwrap();
        if refused {
            shop.act(answer(&token, false)).await.unwrap();
            assert_eq!(shop.show(&token)["subscriptionState"], state("CANCELED"));
        }
        shop.until("2026-03-10T12:01:00Z").await;
        let told = shop.told();
        let expected: &[&str] = match refused {
            false => &[
                "PURCHASED",
                "PRICE_CHANGE_UPDATED",
                "RENEWED",
                "CANCELED",
                "EXPIRED",
            ],
            true => &[
                "PURCHASED",
                "PRICE_CHANGE_UPDATED",
                "PRICE_CHANGE_UPDATED",
                "CANCELED",
                "EXPIRED",
            ],
        };
        assert_eq!(told, expected);
        assert_shows(
            &shop.show(&token),
            &[
                (STATE, state("EXPIRED")),
                (&format!("{CHANGE}/priceChangeState"), json!("CANCELED")),
            ],
        );
    }
}

#[tokio::test]
async fn decreases_and_opt_out_increases_need_no_answer() {
    for (mode, micros, name, renewals) in [
        (PriceChangeMode::Decrease, 5_000_000, "PRICE_DECREASE", 1),
        (
            PriceChangeMode::OptOutIncrease,
            12_000_000,
            "OPT_OUT_PRICE_INCREASE",
            1,
        ),
    ] {
        let shop = Shop::open().await;
        let token = shop.subscribe("basic", "monthly").await;
        shop.act(change(micros, mode)).await.unwrap();
        assert_shows(
            &shop.show(&token),
            &[
                (&format!("{CHANGE}/priceChangeMode"), json!(name)),
                (&format!("{CHANGE}/priceChangeState"), json!("CONFIRMED")),
            ],
        );
        shop.until("2026-02-10T12:00:00Z").await;
        let units = (micros / 1_000_000).to_string();
        assert_eq!(shop.orders(&token)[renewals]["total"]["units"], units);
        // Who buys now pays the new price.
        let mut later = order("basic", "monthly");
        later.customer = "bob".to_owned();
        let later = shop.buy(later).await;
        assert_eq!(shop.orders(&later)[0]["total"]["units"], units);
    }
    let shop = Shop::open().await;
    let reason = shop
        .refusal(change(12_000_000, PriceChangeMode::Decrease))
        .await;
    assert_eq!(reason, "the price does not go that way");
    let reason = shop.refusal(change(0, PriceChangeMode::Decrease)).await;
    assert_eq!(reason, "a price is above nought");
}

#[tokio::test]
async fn the_end_of_a_korean_trial_needs_consent() {
    for (consents, told, last) in [
        (
            true,
            &["PRICE_STEP_UP_CONSENT_UPDATED", "RENEWED"][..],
            "ACTIVE",
        ),
        (false, &["CANCELED", "EXPIRED"][..], "EXPIRED"),
    ] {
        let shop = Shop::open().await;
        let buy = GooglePlayBuy {
            trial: Some(Period::weeks(2)),
            ..order("korean", "monthly")
        };
        let token = shop.buy(buy).await;
        shop.acknowledge(&token);
        assert_eq!(shop.told(), ["PURCHASED", "PRICE_STEP_UP_CONSENT_UPDATED"]);
        assert_shows(
            &shop.show(&token),
            &[
                ("/regionCode", json!("KR")),
                (
                    CONSENT,
                    json!({
                        "state": "PENDING",
                        "consentDeadlineTime": "2026-01-24T12:00:00.000Z",
                        "newPrice": {"currencyCode": "KRW", "units": "9900"},
                    }),
                ),
            ],
        );
        let answer = GooglePlayAction::StepUpConsent {
            purchase_token: token.clone(),
            accept: true,
        };
        if consents {
            shop.act(answer).await.unwrap();
            assert_shows(
                &shop.show(&token),
                &[(&format!("{CONSENT}/state"), json!("CONFIRMED"))],
            );
        }
        shop.until("2026-01-24T12:01:00Z").await;
        assert_eq!(shop.told(), told);
        assert_eq!(shop.show(&token)["subscriptionState"], state(last));
        if consents {
            assert_shows(
                &shop.show(&token),
                &[(&format!("{CONSENT}/state"), json!("COMPLETED"))],
            );
        }
    }
}

#[tokio::test]
async fn consent_to_the_end_of_a_long_trial_is_asked_a_month_ahead() {
    let shop = Shop::open().await;
    let buy = GooglePlayBuy {
        trial: Some(Period::days(60)),
        ..order("korean", "monthly")
    };
    let token = shop.buy(buy).await;
    shop.acknowledge(&token);
    assert_shows(&shop.show(&token), &[(CONSENT, Value::Null)]);
    shop.until("2026-02-09T12:00:00Z").await;
    assert_eq!(shop.told(), ["PURCHASED", "PRICE_STEP_UP_CONSENT_UPDATED"]);
    assert_shows(
        &shop.show(&token),
        &[(&format!("{CONSENT}/state"), json!("PENDING"))],
    );
}
