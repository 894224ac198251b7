//! How subscriptions fail, are extended, become dearer, and end.

use super::*;

/// Products, what happens to them, what is told, and fields of the last notification.
type Ending = (
    &'static str,
    Value,
    Vec<&'static str>,
    Vec<(&'static str, Value)>,
);

fn stop() -> Value {
    json!({"do": "set_auto_renew", "original_transaction_id": "$alice", "enabled": false})
}

fn card(billing: &str) -> Value {
    json!({"do": "set_billing", "original_transaction_id": "$alice", "billing": billing})
}

fn raise(price: i64, consent: bool) -> Value {
    json!({"do": "raise_price", "product_id": BASIC, "price_milliunits": price, "consent": consent})
}

fn answer(accept: bool) -> Value {
    json!({"do": "answer_price", "original_transaction_id": "$alice", "accept": accept})
}

#[tokio::test]
async fn every_end_has_its_reason() {
    let withdraw = json!({"do": "withdraw_product", "product_id": BASIC});
    let month = json!({"advance": "P1M"});
    let long = json!({"advance": "P4M"});
    let endings: Vec<Ending> = vec![
        (
            "the customer wants no more",
            json!([stop(), month, {"advance": "P1D"}]),
            vec![
                "DID_CHANGE_RENEWAL_STATUS/AUTO_RENEW_DISABLED",
                "EXPIRED/VOLUNTARY",
            ],
            vec![("r.expirationIntent", json!(1))],
        ),
        (
            "the card never works again",
            json!([card("fails"), long]),
            vec![
                "DID_FAIL_TO_RENEW/GRACE_PERIOD",
                "GRACE_PERIOD_EXPIRED",
                "EXPIRED/BILLING_RETRY",
            ],
            vec![
                ("r.expirationIntent", json!(2)),
                ("r.isInBillingRetryPeriod", json!(false)),
                ("r.gracePeriodExpiresDate", Value::Null),
            ],
        ),
        (
            "the customer leaves during grace",
            json!([card("fails"), month, {"advance": "P1D"}, stop()]),
            vec![
                "DID_FAIL_TO_RENEW/GRACE_PERIOD",
                "DID_CHANGE_RENEWAL_STATUS/AUTO_RENEW_DISABLED",
                "EXPIRED/VOLUNTARY",
            ],
            vec![("r.expirationIntent", json!(1))],
        ),
        (
            "the customer says nothing to a higher price",
            json!([raise(6_990, true), month, {"advance": "P1D"}]),
            vec!["PRICE_INCREASE/PENDING", "EXPIRED/PRICE_INCREASE"],
            vec![
                ("r.expirationIntent", json!(3)),
                ("r.priceIncreaseStatus", json!(0)),
            ],
        ),
        (
            "the customer says no to a higher price",
            json!([raise(6_990, true), answer(false), month, {"advance": "P1D"}]),
            vec!["PRICE_INCREASE/PENDING", "EXPIRED/PRICE_INCREASE"],
            vec![("r.expirationIntent", json!(3))],
        ),
        (
            "the product is gone",
            json!([withdraw, month, {"advance": "P1D"}]),
            vec!["EXPIRED/PRODUCT_NOT_FOR_SALE"],
            vec![("r.expirationIntent", json!(4))],
        ),
    ];
    for (name, steps, told, fields) in endings {
        let rig = shop_rig().await;
        rig.play(json!([buy("alice", BASIC)])).await;
        rig.play(steps).await;
        assert_eq!(rig.told_since(1), told, "{name}");
        let last = rig.last();
        says(&last, &fields);
        says(
            &last,
            &[
                ("data.status", json!(2)),
                ("r.autoRenewStatus", json!(0)),
                ("r.renewalPrice", Value::Null),
            ],
        );
        rig.stands("alice", PurchaseState::Expired, false);
    }
}

#[tokio::test]
async fn access_lasts_to_the_end_of_the_period_whatever_comes_after() {
    for steps in [
        json!([{"do": "withdraw_product", "product_id": BASIC}]),
        json!([raise(6_990, true)]),
        json!([stop()]),
    ] {
        let rig = shop_rig().await;
        rig.play(json!([buy("alice", BASIC)])).await;
        rig.play(steps).await;
        let end = "2026-02-10T12:00:00Z".parse::<DateTime<Utc>>().unwrap();
        let second = TimeDelta::seconds(1);
        rig.sandbox.advance_to(end - second).await.unwrap();
        assert!(rig.truth("alice").entitled);
        rig.sandbox.advance_to(end + second).await.unwrap();
        rig.stands("alice", PurchaseState::Expired, false);
        rig.refused(json!({"do": "extend", "original_transaction_id": "$alice", "days": 5}))
            .await;
    }
}

#[tokio::test]
async fn failed_payments_are_recovered_within_grace_or_in_retry() {
    let rig = shop_rig().await;
    rig.play(json!([buy("alice", BASIC), card("fails"), {"advance": "P1M"}]))
        .await;
    says(
        &rig.last(),
        &[
            ("notificationType", json!("DID_FAIL_TO_RENEW")),
            ("subtype", json!("GRACE_PERIOD")),
            ("data.status", json!(4)),
            ("r.expirationIntent", json!(2)),
            ("r.isInBillingRetryPeriod", json!(true)),
            (
                "r.gracePeriodExpiresDate",
                json!(millis("2026-02-26T12:00:00Z")),
            ),
            ("t.expiresDate", json!(millis("2026-02-10T12:00:00Z"))),
        ],
    );
    rig.stands("alice", PurchaseState::InGracePeriod, true);
    rig.play(json!([{"advance": "P20D"}])).await;
    says(
        &rig.last(),
        &[
            ("notificationType", json!("GRACE_PERIOD_EXPIRED")),
            ("data.status", json!(3)),
            ("r.gracePeriodExpiresDate", Value::Null),
            ("r.isInBillingRetryPeriod", json!(true)),
        ],
    );
    rig.stands("alice", PurchaseState::OnHold, false);
    rig.play(json!([card("works")])).await;
    says(
        &rig.last(),
        &[
            ("notificationType", json!("DID_RENEW")),
            ("subtype", json!("BILLING_RECOVERY")),
            ("data.status", json!(1)),
            ("t.purchaseDate", json!(millis("2026-03-02T12:00:00Z"))),
            ("r.isInBillingRetryPeriod", Value::Null),
        ],
    );
}

#[tokio::test]
async fn grace_is_never_longer_than_a_weekly_period_and_absent_without_the_setting() {
    let rig = shop_rig().await;
    rig.play(json!([buy("alice", WEEK), card("fails"), {"advance": "P1W"}]))
        .await;
    says(
        &rig.last(),
        &[(
            "r.gracePeriodExpiresDate",
            json!(millis("2026-01-24T12:00:00Z")),
        )],
    );
    let mut options = options(Environment::Production);
    options.setup = setup(Environment::Production);
    let rig = Rig::of(options).await;
    rig.play(json!([buy("alice", YEARLY), card("fails"), {"advance": "P1Y"}]))
        .await;
    says(
        &rig.last(),
        &[
            ("notificationType", json!("DID_FAIL_TO_RENEW")),
            ("subtype", Value::Null),
            ("data.status", json!(3)),
        ],
    );
}

#[tokio::test]
async fn grace_may_be_kept_for_those_who_have_paid() {
    let mut options = options(Environment::Production);
    options.setup = shop();
    options.setup.app_store[0].grace_after_paid_only = true;
    let rig = Rig::of(options).await;
    rig.play(json!([
        buy_with("alice", BASIC, json!({"trial": "P1W"})),
        buy("bob", BASIC),
        {"do": "set_billing", "original_transaction_id": "$bob", "billing": "fails"},
        card("fails"),
        {"advance": "P1M"},
    ]))
    .await;
    rig.stands("alice", PurchaseState::OnHold, false);
    rig.stands("bob", PurchaseState::InGracePeriod, true);
}

#[tokio::test]
async fn a_higher_price_is_charged_once_accepted() {
    for (steps, told) in [
        (
            json!([raise(6_990, true), answer(false), answer(true)]),
            vec!["PRICE_INCREASE/PENDING", "PRICE_INCREASE/ACCEPTED"],
        ),
        (
            json!([raise(6_990, false)]),
            vec!["PRICE_INCREASE/ACCEPTED"],
        ),
    ] {
        let rig = shop_rig().await;
        rig.play(json!([buy("alice", BASIC), buy("bob", PREMIUM)]))
            .await;
        rig.play(steps).await;
        assert_eq!(rig.told_since(2), told);
        says(
            &rig.last(),
            &[
                ("r.priceIncreaseStatus", json!(1)),
                ("r.renewalPrice", json!(6_990)),
                ("t.price", json!(4_990)),
                ("data.status", json!(1)),
            ],
        );
        rig.refused(answer(true)).await;
        rig.refused(raise(6_990, false)).await;
        rig.play(json!([{"advance": "P1M"}])).await;
        let renewals = [rig.last(), rig.last_but(1)];
        let renewal = renewals
            .iter()
            .find(|told| told["data"]["signedTransactionInfo"]["productId"] == BASIC);
        says(
            renewal.unwrap(),
            &[
                ("notificationType", json!("DID_RENEW")),
                ("t.price", json!(6_990)),
                ("r.priceIncreaseStatus", Value::Null),
            ],
        );
        rig.play(json!([buy("carol", BASIC)])).await;
        says(&rig.last(), &[("t.price", json!(6_990))]);
    }
}

#[tokio::test]
async fn a_period_is_extended_twice_a_year_while_it_is_paid() {
    let rig = shop_rig().await;
    let extend = |days: u8| {
        json!({"do": "extend", "original_transaction_id": "$alice", "days": days,
            "reason": "service_issue_or_outage"})
    };
    rig.play(json!([buy_with("alice", BASIC, json!({"trial": "P1W"}))]))
        .await;
    rig.refused(extend(10)).await;
    rig.play(json!([{"advance": "P1W"}])).await;
    for days in [0, 91] {
        rig.refused(extend(days)).await;
    }
    let outcome = rig.act(&extend(10)).await.unwrap();
    assert_eq!(outcome["effective_date"], "2026-02-27T12:00:00Z");
    says(
        &rig.last(),
        &[
            ("notificationType", json!("RENEWAL_EXTENDED")),
            ("subtype", Value::Null),
            ("t.expiresDate", json!(millis("2026-02-27T12:00:00Z"))),
            (
                "t.webOrderLineItemId",
                outcome["web_order_line_item_id"].clone(),
            ),
            ("r.renewalDate", json!(millis("2026-02-27T12:00:00Z"))),
        ],
    );
    rig.play(json!([extend(90)])).await;
    rig.refused(extend(1)).await;
    rig.play(json!([{"advance": "P1Y"}, extend(1), card("fails"), {"advance": "P2M"}]))
        .await;
    rig.refused(extend(1)).await;
}

#[tokio::test]
async fn during_grace_an_extension_makes_the_period_run_again() {
    let rig = shop_rig().await;
    rig.play(json!([
        buy("alice", BASIC), card("fails"), {"advance": "P1M"}, {"advance": "P2D"},
        {"do": "extend", "original_transaction_id": "$alice", "days": 10},
    ]))
    .await;
    says(&rig.last(), &[("data.status", json!(1))]);
    rig.stands("alice", PurchaseState::Active, true);
    rig.play(json!([{"advance": "P20D"}])).await;
    rig.stands("alice", PurchaseState::InGracePeriod, true);
}
