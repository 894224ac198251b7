//! Offers of every kind and payment, for new, present and former subscribers.

use super::*;

fn offer(kind: &str, payment: &str, more: Value) -> Value {
    let mut offer = json!({"kind": kind, "payment": payment, "period": "P1M"});
    for (name, value) in more.as_object().unwrap() {
        offer[name] = value.clone();
    }
    offer
}

#[tokio::test]
async fn each_kind_of_offer_is_named_in_the_transaction_it_was_bought_with() {
    for (kind, code, id) in [
        ("introductory", 1, Value::Null),
        ("promotional", 2, json!("spring")),
        ("offer_code", 3, json!("spring")),
        ("win_back", 4, json!("spring")),
    ] {
        let rig = shop_rig().await;
        let chosen = offer(kind, "free_trial", json!({"id": "spring", "period": "P1W"}));
        rig.play(json!([buy_with("alice", BASIC, json!({"offer": chosen}))]))
            .await;
        says(
            &rig.last(),
            &[
                ("t.offerType", json!(code)),
                ("t.offerIdentifier", id),
                ("t.offerDiscountType", json!("FREE_TRIAL")),
                ("t.offerPeriod", json!("P1W")),
                ("t.price", json!(0)),
                ("t.expiresDate", json!(millis("2026-01-17T12:00:00Z"))),
                ("r.offerType", Value::Null),
                ("r.renewalPrice", json!(4_990)),
            ],
        );
        assert_eq!(rig.truth("alice").offer.as_deref(), Some(kind));
        rig.play(json!([{"advance": "P1W"}])).await;
        says(
            &rig.last(),
            &[
                ("notificationType", json!("DID_RENEW")),
                ("t.offerType", Value::Null),
                ("t.price", json!(4_990)),
            ],
        );
        assert_eq!(rig.truth("alice").offer, None);
    }
}

#[tokio::test]
async fn an_offer_is_paid_as_you_go_or_up_front() {
    let rig = shop_rig().await;
    let terms = json!({"periods": 3, "price_milliunits": 990});
    let chosen = offer("introductory", "pay_as_you_go", terms);
    rig.play(json!([buy_with("alice", BASIC, json!({"offer": chosen}))]))
        .await;
    says(
        &rig.last(),
        &[
            ("t.offerDiscountType", json!("PAY_AS_YOU_GO")),
            ("t.offerPeriod", json!("P1M")),
            ("t.price", json!(990)),
            ("r.offerType", json!(1)),
            ("r.offerDiscountType", json!("PAY_AS_YOU_GO")),
            ("r.renewalPrice", json!(990)),
        ],
    );
    rig.play(json!([{"advance": "P2M"}])).await;
    says(
        &rig.last(),
        &[
            ("t.price", json!(990)),
            ("t.offerType", json!(1)),
            ("r.offerType", Value::Null),
            ("r.renewalPrice", json!(4_990)),
        ],
    );
    rig.play(json!([{"advance": "P1M"}])).await;
    says(
        &rig.last(),
        &[("t.price", json!(4_990)), ("t.offerType", Value::Null)],
    );

    let terms = json!({"periods": 3, "price_milliunits": 1_990});
    let chosen = offer("introductory", "pay_up_front", terms);
    rig.play(json!([buy_with("bob", BASIC, json!({"offer": chosen}))]))
        .await;
    says(
        &rig.last(),
        &[
            ("t.offerDiscountType", json!("PAY_UP_FRONT")),
            ("t.offerPeriod", json!("P3M")),
            ("t.price", json!(1_990)),
            ("t.expiresDate", json!(millis("2026-07-10T12:00:00Z"))),
            ("r.renewalPrice", json!(4_990)),
        ],
    );
}

#[tokio::test]
async fn redeemed_on_a_running_subscription_it_waits_for_the_renewal_unless_it_upgrades() {
    for (held, product, subtype, now) in [
        (BASIC, None, None, false),
        (BASIC, Some(PREMIUM), Some("UPGRADE"), true),
        (PREMIUM, Some(BASIC), Some("DOWNGRADE"), false),
    ] {
        let rig = shop_rig().await;
        let chosen = offer(
            "promotional",
            "pay_up_front",
            json!({"price_milliunits": 990}),
        );
        rig.play(json!([
            buy_with("alice", held, json!({"app_account_token": TOKEN})),
            {"advance": "P10D"},
            {"do": "redeem_offer", "original_transaction_id": "$alice", "offer": chosen,
             "product_id": product},
        ]))
        .await;
        let after = product.unwrap_or(held);
        let notification = rig.last();
        says(
            &notification,
            &[
                ("notificationType", json!("OFFER_REDEEMED")),
                ("subtype", json!(subtype)),
                ("t.productId", json!(if now { after } else { held })),
                ("r.autoRenewProductId", json!(after)),
            ],
        );
        let said_now = ("t.offerType", json!(now.then_some(2)));
        let said_of_next = ("r.offerType", json!((!now).then_some(2)));
        says(&notification, &[said_now, said_of_next]);
        if !now {
            says(
                &notification,
                &[
                    ("r.renewalPrice", json!(990)),
                    ("r.offerIdentifier", json!("promotional")),
                ],
            );
            rig.play(json!([{"advance": "P1M"}])).await;
            says(
                &rig.last(),
                &[
                    ("notificationType", json!("DID_RENEW")),
                    ("t.productId", json!(after)),
                    ("t.offerType", json!(2)),
                    ("t.price", json!(990)),
                    ("t.appAccountToken", json!(TOKEN)),
                ],
            );
        }
    }
}

#[tokio::test]
async fn who_has_left_is_won_back_and_a_code_redeemed_outside_the_app_names_no_account() {
    let rig = shop_rig().await;
    let win_back = offer("win_back", "pay_as_you_go", json!({"id": "come-back"}));
    let redeem = json!({"do": "redeem_offer", "original_transaction_id": "$alice",
        "offer": win_back});
    rig.play(json!([buy_with(
        "alice",
        BASIC,
        json!({"app_account_token": TOKEN})
    )]))
    .await;
    rig.refused(redeem.clone()).await;
    rig.play(json!([
        {"do": "set_auto_renew", "original_transaction_id": "$alice", "enabled": false},
        {"advance": "P2M"},
    ]))
    .await;
    says(
        &rig.last(),
        &[("r.eligibleWinBackOfferIds", json!(["come-back"]))],
    );
    rig.play(json!([redeem])).await;
    says(
        &rig.last(),
        &[
            ("notificationType", json!("SUBSCRIBED")),
            ("subtype", json!("RESUBSCRIBE")),
            ("t.offerType", json!(4)),
            ("t.offerIdentifier", json!("come-back")),
            ("t.appAccountToken", json!(TOKEN)),
            ("r.eligibleWinBackOfferIds", Value::Null),
        ],
    );
    let code = offer("offer_code", "free_trial", json!({"id": "SUMMER"}));
    rig.play(json!([
        {"do": "set_auto_renew", "original_transaction_id": "$alice", "enabled": false},
        {"advance": "P2M"},
        buy_with("alice", BASIC,
            json!({"app_account_token": TOKEN, "outside_app": true, "offer": code})),
    ]))
    .await;
    says(
        &rig.last(),
        &[
            ("t.offerType", json!(3)),
            ("t.offerIdentifier", json!("SUMMER")),
            ("t.appAccountToken", Value::Null),
        ],
    );
    assert_eq!(rig.truth("alice").account, None);
    let first = payload(
        &rig.sandbox
            .signed_transaction(&rig.id("alice.first"))
            .unwrap(),
    );
    assert_eq!(first["appAccountToken"], TOKEN);
}

#[tokio::test]
async fn a_code_may_make_something_cheaper_that_does_not_renew() {
    let rig = shop_rig().await;
    let code = json!({"kind": "offer_code", "payment": "one_time", "price_milliunits": 990});
    let purchase = json!({"offer": code, "quantity": 2});
    rig.play(json!([buy_with("alice", COINS, purchase)])).await;
    says(
        &rig.last(),
        &[
            ("t.offerType", json!(3)),
            ("t.offerDiscountType", json!("ONE_TIME")),
            ("t.offerPeriod", Value::Null),
            ("t.price", json!(1_980)),
        ],
    );
    rig.refused(buy_with("bob", BASIC, json!({"offer": code})))
        .await;
    let trial = offer("introductory", "free_trial", json!({}));
    rig.refused(buy_with("bob", COINS, json!({"offer": trial})))
        .await;
    rig.refused(buy_with(
        "bob",
        BASIC,
        json!({"offer": trial, "trial": "P1W"}),
    ))
    .await;
}
