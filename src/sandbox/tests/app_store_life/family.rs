//! Family Sharing: what members get, follow and lose.

use super::*;

fn share(member: &str) -> Value {
    json!({"do": "share", "original_transaction_id": "$alice", "member": member})
}

fn unshare(member: &str) -> Value {
    json!({"do": "unshare", "original_transaction_id": "$alice", "member": member})
}

#[tokio::test]
async fn a_member_has_a_chain_of_their_own_without_account_and_price() {
    let rig = shop_rig().await;
    rig.play(json!([buy_with(
        "alice",
        BASIC,
        json!({"app_account_token": TOKEN})
    )]))
    .await;
    let bought = rig.last();
    let shared = rig.act(&share("bob")).await.unwrap();
    assert_eq!(shared["transaction_id"], rig.id("bob"));
    assert_ne!(rig.id("bob"), rig.id("alice"));
    let last = rig.last();
    says(
        &last,
        &[
            ("notificationType", json!("SUBSCRIBED")),
            ("subtype", json!("INITIAL_BUY")),
            ("data.status", json!(1)),
            ("t.inAppOwnershipType", json!("FAMILY_SHARED")),
            ("t.appAccountToken", Value::Null),
            ("t.originalTransactionId", json!(rig.id("bob"))),
            ("t.productId", json!(BASIC)),
            ("t.expiresDate", json!(millis("2026-02-10T12:00:00Z"))),
            ("t.price", Value::Null),
            ("t.currency", Value::Null),
            ("r.appAccountToken", Value::Null),
            ("r.originalTransactionId", json!(rig.id("bob"))),
        ],
    );
    let app = |told: &Value| told["data"]["signedTransactionInfo"]["appTransactionId"].clone();
    assert_ne!(app(&last), app(&bought));
    let truth = rig.truth("bob");
    assert_eq!(
        (truth.ownership, truth.entitled),
        (Ownership::FamilyShared, true)
    );
    assert_eq!(truth.account, None);
    rig.refused(share("bob")).await;
    rig.refused(share("alice")).await;
}

#[tokio::test]
async fn a_member_follows_renewals_upgrades_extensions_failures_and_the_end() {
    let rig = shop_rig().await;
    rig.play(json!([buy("alice", BASIC), {"advance": "P1M"}, share("bob")]))
        .await;
    let before = rig.told().len();
    rig.play(json!([
        {"advance": "P1M"},
        buy("alice", PREMIUM),
        {"do": "extend", "original_transaction_id": "$alice", "days": 5},
    ]))
    .await;
    let expected = [
        "DID_RENEW",
        "DID_RENEW",
        "DID_CHANGE_RENEWAL_PREF/UPGRADE",
        "DID_CHANGE_RENEWAL_PREF/UPGRADE",
        "RENEWAL_EXTENDED",
        "RENEWAL_EXTENDED",
    ];
    assert_eq!(rig.told_since(before), expected);
    let (alice, bob) = (rig.truth("alice"), rig.truth("bob"));
    assert_eq!(
        (bob.product_id.as_str(), bob.expires_at),
        (PREMIUM, alice.expires_at)
    );
    rig.play(json!([
        {"do": "set_billing", "original_transaction_id": "$alice", "billing": "fails"},
        {"advance": "P1M"}, {"advance": "P10D"},
    ]))
    .await;
    rig.stands("bob", PurchaseState::InGracePeriod, true);
    rig.play(json!([{"advance": "P20D"}])).await;
    rig.stands("bob", PurchaseState::OnHold, false);
    rig.play(json!([{"advance": "P3M"}])).await;
    rig.stands("bob", PurchaseState::Expired, false);
    let told = rig.told_since(before + expected.len());
    assert_eq!(
        told,
        [
            "DID_FAIL_TO_RENEW/GRACE_PERIOD",
            "DID_FAIL_TO_RENEW/GRACE_PERIOD",
            "GRACE_PERIOD_EXPIRED",
            "GRACE_PERIOD_EXPIRED",
            "EXPIRED/BILLING_RETRY",
            "EXPIRED/BILLING_RETRY",
        ]
    );
    says(
        &rig.last(),
        &[("t.originalTransactionId", json!(rig.id("bob")))],
    );
    rig.play(json!([buy("alice", BASIC)])).await;
    assert_eq!(
        rig.told_since(before + 12),
        ["SUBSCRIBED/RESUBSCRIBE", "SUBSCRIBED/RESUBSCRIBE"]
    );
    rig.stands("bob", PurchaseState::Active, true);
    rig.refused(json!({"do": "extend", "original_transaction_id": "$bob", "days": 5}))
        .await;
}

#[tokio::test]
async fn a_member_who_is_removed_loses_access_and_gets_it_back() {
    let rig = shop_rig().await;
    rig.play(
        json!([buy("alice", BASIC), share("bob"), share("carol"), {"advance": "P5D"},
        unshare("bob")]),
    )
    .await;
    says(
        &rig.last(),
        &[
            ("notificationType", json!("REVOKE")),
            ("data.status", json!(5)),
            ("t.originalTransactionId", json!(rig.id("bob"))),
            ("t.revocationType", json!("FAMILY_REVOKE")),
            ("t.revocationReason", json!(0)),
            ("t.revocationDate", json!(millis("2026-01-15T12:00:00Z"))),
            ("t.revocationPercentage", Value::Null),
        ],
    );
    rig.stands("bob", PurchaseState::Revoked, false);
    rig.stands("carol", PurchaseState::Active, true);
    rig.refused(unshare("bob")).await;
    rig.play(json!([{"advance": "P1M"}])).await;
    rig.stands("bob", PurchaseState::Revoked, false);
    let chain = rig.id("bob");
    rig.play(json!([share("bob")])).await;
    assert_eq!(rig.told().pop().unwrap(), "SUBSCRIBED/RESUBSCRIBE");
    assert_eq!(rig.id("bob"), chain);
    rig.stands("bob", PurchaseState::Active, true);
}

#[tokio::test]
async fn a_refund_of_the_purchaser_revokes_the_members_until_it_is_reversed() {
    for (product, again) in [
        (BASIC, "SUBSCRIBED/RESUBSCRIBE"),
        (LIFETIME, "ONE_TIME_CHARGE"),
    ] {
        let rig = shop_rig().await;
        rig.play(json!([buy("alice", product), share("bob"),
            {"do": "refund", "transaction_id": "$alice.latest"}]))
            .await;
        assert_eq!(rig.told_since(2), ["REFUND", "REVOKE"]);
        says(
            &rig.last(),
            &[
                ("t.revocationType", json!("FAMILY_REVOKE")),
                ("t.originalTransactionId", json!(rig.id("bob"))),
            ],
        );
        rig.stands("bob", PurchaseState::Revoked, false);
        rig.play(json!([{"do": "reverse_refund", "transaction_id": "$alice.latest"}]))
            .await;
        assert_eq!(rig.told_since(4), ["REFUND_REVERSED", again]);
        assert!(rig.truth("bob").entitled);
        rig.refused(json!({"do": "refund", "transaction_id": "$bob.latest"}))
            .await;
    }
}

#[tokio::test]
async fn only_what_lasts_can_be_shared_and_only_by_its_purchaser() {
    let rig = shop_rig().await;
    for product in [COINS, SEASON] {
        rig.play(json!([buy("alice", product)])).await;
        rig.refused(share("bob")).await;
    }
    rig.play(json!([buy("alice", LIFETIME), share("bob")]))
        .await;
    assert_eq!(rig.told().pop().unwrap(), "ONE_TIME_CHARGE");
    for step in [
        json!({"do": "set_auto_renew", "original_transaction_id": "$bob", "enabled": false}),
        json!({"do": "set_billing", "original_transaction_id": "$bob", "billing": "fails"}),
    ] {
        rig.refused(step).await;
    }
    let onward = json!({"do": "share", "original_transaction_id": "$bob", "member": "carol"});
    rig.refused(onward).await;
    rig.play(json!([buy("bob", LIFETIME)])).await;
    assert_eq!(rig.sandbox.purchases("bob").len(), 2);
}
