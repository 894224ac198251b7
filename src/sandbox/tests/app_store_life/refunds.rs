//! Refunds: asked for, declined, given, prorated, reversed, and of something older.

use super::*;

fn refund(name: &str, percent: u8) -> Value {
    json!({"do": "refund", "transaction_id": name, "percent": percent})
}

fn reverse(name: &str) -> Value {
    json!({"do": "reverse_refund", "transaction_id": name})
}

#[tokio::test]
async fn apple_asks_about_the_consumption_with_the_customers_reason() {
    for (reason, name) in [
        ("unintended_purchase", "UNINTENDED_PURCHASE"),
        ("fulfillment_issue", "FULFILLMENT_ISSUE"),
        ("unsatisfied_with_purchase", "UNSATISFIED_WITH_PURCHASE"),
        ("legal", "LEGAL"),
        ("other", "OTHER"),
    ] {
        for product in [BASIC, LIFETIME, COINS, SEASON] {
            let rig = shop_rig().await;
            let ask = json!({"do": "request_refund", "transaction_id": "$alice.latest",
                "reason": reason});
            rig.play(json!([buy("alice", product), ask])).await;
            says(
                &rig.last(),
                &[
                    ("notificationType", json!("CONSUMPTION_REQUEST")),
                    ("subtype", Value::Null),
                    ("data.consumptionRequestReason", json!(name)),
                    ("t.productId", json!(product)),
                    ("t.revocationDate", Value::Null),
                ],
            );
            assert!(rig.truth("alice").entitled);
        }
    }
}

#[tokio::test]
async fn a_declined_refund_changes_nothing() {
    let rig = shop_rig().await;
    let decline = json!({"do": "decline_refund", "transaction_id": "$alice.latest"});
    rig.play(json!([buy("alice", BASIC)])).await;
    rig.refused(decline.clone()).await;
    rig.play(json!([{"do": "request_refund", "transaction_id": "$alice.latest"}, decline]))
        .await;
    says(
        &rig.last(),
        &[
            ("notificationType", json!("REFUND_DECLINED")),
            ("data.consumptionRequestReason", Value::Null),
            ("data.status", json!(1)),
        ],
    );
    rig.stands("alice", PurchaseState::Active, true);
    rig.refused(json!({"do": "decline_refund", "transaction_id": "$alice.latest"}))
        .await;
}

#[tokio::test]
async fn a_refund_is_full_or_prorated_and_ends_access() {
    for (percent, kind, share) in [
        (100, "REFUND_FULL", 100_000),
        (40, "REFUND_PRORATED", 40_000),
    ] {
        for product in [BASIC, LIFETIME] {
            let rig = shop_rig().await;
            rig.play(json!([
                buy("alice", product),
                {"do": "request_refund", "transaction_id": "$alice.latest",
                 "reason": "fulfillment_issue"},
                {"advance": "P10D"},
                refund("$alice.latest", percent),
            ]))
            .await;
            let last = rig.last();
            says(
                &last,
                &[
                    ("notificationType", json!("REFUND")),
                    ("t.revocationDate", json!(millis("2026-01-20T12:00:00Z"))),
                    ("t.revocationReason", json!(1)),
                    ("t.revocationType", json!(kind)),
                    ("t.revocationPercentage", json!(share)),
                ],
            );
            if product == BASIC {
                says(
                    &last,
                    &[("data.status", json!(5)), ("r.autoRenewStatus", json!(0))],
                );
            }
            rig.stands("alice", PurchaseState::Revoked, false);
            rig.refused(refund("$alice.latest", 100)).await;
        }
    }
}

#[tokio::test]
async fn the_refund_of_an_older_period_shows_the_subscription_that_is_held_now() {
    let rig = shop_rig().await;
    rig.play(json!([
        buy("alice", BASIC), {"advance": "P10D"}, buy("alice", PREMIUM),
        {"do": "request_refund", "transaction_id": "$alice.first", "reason": "other"},
        refund("$alice.first", 60),
    ]))
    .await;
    for told in [rig.last_but(1), rig.last()] {
        says(
            &told,
            &[
                ("data.status", json!(1)),
                ("t.productId", json!(BASIC)),
                ("t.isUpgraded", json!(true)),
                ("r.productId", json!(PREMIUM)),
                ("r.autoRenewStatus", json!(1)),
            ],
        );
    }
    rig.stands("alice", PurchaseState::Active, true);
    rig.play(json!([reverse("$alice.first")])).await;
    says(
        &rig.last(),
        &[("t.revocationDate", Value::Null), ("data.status", json!(1))],
    );
    rig.stands("alice", PurchaseState::Active, true);
}

#[tokio::test]
async fn a_reversed_refund_gives_back_what_still_runs() {
    let rig = shop_rig().await;
    rig.play(json!([buy("alice", BASIC)])).await;
    rig.refused(reverse("$alice.latest")).await;
    rig.play(json!([refund("$alice.latest", 100), {"advance": "P5D"}, reverse("$alice.latest")]))
        .await;
    says(
        &rig.last(),
        &[
            ("notificationType", json!("REFUND_REVERSED")),
            ("data.status", json!(1)),
            ("t.revocationDate", Value::Null),
            ("t.revocationReason", Value::Null),
            ("t.revocationType", Value::Null),
            ("t.revocationPercentage", Value::Null),
            ("t.expiresDate", json!(millis("2026-02-10T12:00:00Z"))),
        ],
    );
    rig.stands("alice", PurchaseState::Canceled, true);
    rig.play(json!([{"advance": "P1M"}])).await;
    assert_eq!(rig.told().pop().unwrap(), "EXPIRED/VOLUNTARY");

    rig.play(json!([
        buy("bob", BASIC), refund("$bob.latest", 100), {"advance": "P2M"}, reverse("$bob.latest"),
    ]))
    .await;
    says(&rig.last(), &[("data.status", json!(2))]);
    rig.stands("bob", PurchaseState::Expired, false);

    rig.play(json!([
        buy("carol", LIFETIME),
        refund("$carol.latest", 100),
        reverse("$carol.latest"),
    ]))
    .await;
    rig.stands("carol", PurchaseState::Active, true);
}

#[tokio::test]
async fn who_was_refunded_can_subscribe_again() {
    let rig = shop_rig().await;
    rig.play(
        json!([buy("alice", BASIC), refund("$alice.latest", 100), {"advance": "P1D"},
        buy("alice", BASIC)]),
    )
    .await;
    assert_eq!(rig.told().pop().unwrap(), "SUBSCRIBED/RESUBSCRIBE");
    rig.stands("alice", PurchaseState::Active, true);
    rig.play(json!([reverse("$alice.first")])).await;
    rig.stands("alice", PurchaseState::Active, true);
}
