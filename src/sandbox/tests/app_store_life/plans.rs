//! Subscribing, subscribing again, and moving within a group.

use super::*;

#[tokio::test]
async fn the_first_purchase_of_a_subscription_says_everything_about_it() {
    let rig = shop_rig().await;
    rig.play(json!([buy_with(
        "alice",
        BASIC,
        json!({"app_account_token": TOKEN})
    )]))
    .await;
    assert_eq!(rig.told(), ["SUBSCRIBED/INITIAL_BUY"]);
    says(
        &rig.last(),
        &[
            ("data.status", json!(1)),
            ("t.type", json!("Auto-Renewable Subscription")),
            ("t.productId", json!(BASIC)),
            ("t.subscriptionGroupIdentifier", json!("premium")),
            ("t.transactionId", json!(rig.id("alice"))),
            ("t.purchaseDate", json!(millis("2026-01-10T12:00:00Z"))),
            ("t.expiresDate", json!(millis("2026-02-10T12:00:00Z"))),
            ("t.quantity", json!(1)),
            ("t.price", json!(4_990)),
            ("t.currency", json!("USD")),
            ("t.storefront", json!("USA")),
            ("t.appAccountToken", json!(TOKEN)),
            ("t.inAppOwnershipType", json!("PURCHASED")),
            ("t.transactionReason", json!("PURCHASE")),
            ("t.billingPlanType", json!("BILLED_UPFRONT")),
            ("t.offerType", Value::Null),
            ("t.revocationDate", Value::Null),
            ("t.isUpgraded", Value::Null),
            ("r.autoRenewStatus", json!(1)),
            ("r.autoRenewProductId", json!(BASIC)),
            ("r.renewalPrice", json!(4_990)),
            ("r.renewalDate", json!(millis("2026-02-10T12:00:00Z"))),
            (
                "r.recentSubscriptionStartDate",
                json!(millis("2026-01-10T12:00:00Z")),
            ),
            ("r.appAccountToken", json!(TOKEN)),
            ("r.renewalBillingPlanType", json!("BILLED_UPFRONT")),
            ("r.priceIncreaseStatus", Value::Null),
            ("r.commitmentInfo", Value::Null),
        ],
    );
    let truth = rig.truth("alice");
    assert_eq!(truth.account.as_deref(), Some(TOKEN));
    assert_eq!((truth.quantity, truth.ownership), (1, Ownership::Purchased));
}

#[tokio::test]
async fn who_comes_back_keeps_the_chain_and_after_a_short_absence_the_start() {
    let rig = shop_rig().await;
    rig.play(json!([
        buy("alice", BASIC),
        {"do": "set_auto_renew", "original_transaction_id": "$alice", "enabled": false},
        {"advance": "P1M"}, {"advance": "P10D"},
    ]))
    .await;
    let chain = rig.id("alice");
    let back = rig.act(&buy("alice", PREMIUM)).await.unwrap();
    assert_eq!(back["original_transaction_id"], chain);
    assert_eq!(rig.told().pop().unwrap(), "SUBSCRIBED/RESUBSCRIBE");
    let start = |date: &str| ("r.recentSubscriptionStartDate", json!(millis(date)));
    says(
        &rig.last(),
        &[
            start("2026-01-10T12:00:00Z"),
            (
                "t.originalPurchaseDate",
                json!(millis("2026-01-10T12:00:00Z")),
            ),
            ("t.productId", json!(PREMIUM)),
        ],
    );
    rig.play(json!([
        {"do": "set_auto_renew", "original_transaction_id": "$alice", "enabled": false},
        {"advance": "P1M"}, {"advance": "P60D"}, buy("alice", PREMIUM),
    ]))
    .await;
    says(&rig.last(), &[start("2026-05-19T12:00:00Z")]);
    assert_eq!(rig.id("alice"), chain);
}

#[tokio::test]
async fn the_rank_and_the_length_decide_whether_a_change_is_now_or_later() {
    for (from, to, subtype) in [
        (BASIC, PREMIUM, "UPGRADE"),
        (BASIC, YEAR, "UPGRADE"),
        (PREMIUM, FAMILY, "UPGRADE"),
        (PREMIUM, YEAR, "DOWNGRADE"),
        (YEAR, PREMIUM, "DOWNGRADE"),
        (PREMIUM, BASIC, "DOWNGRADE"),
    ] {
        let rig = shop_rig().await;
        rig.play(json!([buy("alice", from), {"advance": "P10D"}, buy("alice", to)]))
            .await;
        let told = rig.told_since(1);
        assert_eq!(
            told,
            [format!("DID_CHANGE_RENEWAL_PREF/{subtype}")],
            "{from} {to}"
        );
        let up = subtype == "UPGRADE";
        let current = if up { to } else { from };
        says(
            &rig.last(),
            &[
                ("t.productId", json!(current)),
                ("r.productId", json!(current)),
                ("r.autoRenewProductId", json!(to)),
                ("data.status", json!(1)),
            ],
        );
        assert_eq!(rig.truth("alice").product_id, current);
        let first = payload(
            &rig.sandbox
                .signed_transaction(&rig.id("alice.first"))
                .unwrap(),
        );
        assert_eq!(first["isUpgraded"].as_bool(), up.then_some(true));
        assert!(first["revocationDate"].is_null());
    }
}

#[tokio::test]
async fn an_upgrade_begins_a_new_period_and_a_downgrade_comes_with_the_renewal() {
    let rig = shop_rig().await;
    rig.play(json!([buy("alice", BASIC), {"advance": "P10D"}, buy("alice", PREMIUM)]))
        .await;
    says(
        &rig.last(),
        &[
            ("t.purchaseDate", json!(millis("2026-01-20T12:00:00Z"))),
            ("t.expiresDate", json!(millis("2026-02-20T12:00:00Z"))),
            ("t.transactionReason", json!("PURCHASE")),
        ],
    );
    rig.play(json!([buy("alice", BASIC)])).await;
    says(&rig.last(), &[("r.renewalPrice", json!(4_990))]);
    rig.refused(buy("alice", BASIC)).await;
    rig.play(json!([{"advance": "P1M"}])).await;
    says(
        &rig.last(),
        &[
            ("notificationType", json!("DID_RENEW")),
            ("t.productId", json!(BASIC)),
            ("t.price", json!(4_990)),
            ("t.transactionReason", json!("RENEWAL")),
        ],
    );
}

#[tokio::test]
async fn choosing_the_held_product_again_takes_a_downgrade_or_a_cancellation_back() {
    let rig = shop_rig().await;
    rig.play(json!([
        buy("alice", PREMIUM),
        buy("alice", BASIC),
        buy("alice", PREMIUM),
        {"do": "set_auto_renew", "original_transaction_id": "$alice", "enabled": false},
        buy("alice", PREMIUM),
    ]))
    .await;
    assert_eq!(
        rig.told_since(1),
        [
            "DID_CHANGE_RENEWAL_PREF/DOWNGRADE",
            "DID_CHANGE_RENEWAL_PREF",
            "DID_CHANGE_RENEWAL_STATUS/AUTO_RENEW_DISABLED",
            "DID_CHANGE_RENEWAL_STATUS/AUTO_RENEW_ENABLED",
        ]
    );
    says(
        &rig.last_but(2),
        &[("r.autoRenewProductId", json!(PREMIUM))],
    );
    says(
        &rig.last_but(1),
        &[
            ("r.autoRenewStatus", json!(0)),
            ("r.renewalPrice", Value::Null),
            ("r.renewalDate", Value::Null),
            ("data.status", json!(1)),
        ],
    );
    rig.refused(buy("alice", PREMIUM)).await;
    rig.play(json!([{"advance": "P1M"}])).await;
    says(&rig.last(), &[("t.productId", json!(PREMIUM))]);
}

#[tokio::test]
async fn things_that_do_not_renew_are_charged_once_in_their_quantity() {
    let rig = shop_rig().await;
    for (product, kind, quantity, price) in [
        (LIFETIME, "Non-Consumable", 1, 9_990),
        (COINS, "Consumable", 10, 99_900),
        (SEASON, "Non-Renewing Subscription", 2, 19_980),
    ] {
        let purchase = buy_with("alice", product, json!({"quantity": quantity}));
        rig.play(json!([purchase])).await;
        says(
            &rig.last(),
            &[
                ("notificationType", json!("ONE_TIME_CHARGE")),
                ("subtype", Value::Null),
                ("t.type", json!(kind)),
                ("t.quantity", json!(quantity)),
                ("t.price", json!(price)),
                ("t.expiresDate", Value::Null),
                ("t.subscriptionGroupIdentifier", Value::Null),
                ("t.billingPlanType", Value::Null),
                ("data.status", Value::Null),
                ("data.signedRenewalInfo", Value::Null),
            ],
        );
        assert_eq!(rig.truth("alice").quantity, quantity);
        rig.stands("alice", PurchaseState::Active, true);
    }
    rig.refused(buy("alice", LIFETIME)).await;
    rig.refused(buy_with("alice", COINS, json!({"quantity": 11})))
        .await;
    rig.refused(buy_with("alice", COINS, json!({"quantity": 0})))
        .await;
    rig.refused(buy_with("bob", LIFETIME, json!({"quantity": 2})))
        .await;
    rig.refused(buy_with("bob", BASIC, json!({"quantity": 2})))
        .await;
    let first = rig.id("alice");
    rig.play(json!([buy("alice", COINS)])).await;
    assert_ne!(rig.id("alice"), first);
    rig.play(json!([{"do": "refund", "transaction_id": rig.id("alice")}]))
        .await;
    rig.stands("alice", PurchaseState::Revoked, false);
    assert_eq!(rig.truth("alice").quantity, 0, "as Google's is");
}
