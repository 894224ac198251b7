//! A year paid month by month.

use super::*;

fn committed(customer: &str) -> Value {
    buy_with(customer, YEAR, json!({"billing_plan": "monthly"}))
}

fn stop() -> Value {
    json!({"do": "set_auto_renew", "original_transaction_id": "$alice", "enabled": false})
}

fn card(billing: &str) -> Value {
    json!({"do": "set_billing", "original_transaction_id": "$alice", "billing": billing})
}

#[tokio::test]
async fn a_cancelled_commitment_is_charged_to_its_end() {
    let rig = shop_rig().await;
    rig.play(json!([committed("alice")])).await;
    let ends = json!(millis("2027-01-10T12:00:00Z"));
    says(
        &rig.last(),
        &[
            ("notificationType", json!("SUBSCRIBED")),
            ("t.billingPlanType", json!("MONTHLY")),
            ("t.price", json!(5_990)),
            ("t.expiresDate", json!(millis("2026-02-10T12:00:00Z"))),
            ("r.renewalPrice", json!(5_990)),
            ("r.renewalBillingPlanType", json!("MONTHLY")),
        ],
    );
    let info = rig.last()["data"]["signedTransactionInfo"]["commitmentInfo"].clone();
    assert_eq!(
        info,
        json!({"billingPeriodNumber": 1, "totalBillingPeriods": 12,
            "commitmentExpiresDate": ends, "commitmentPrice": 71_880})
    );
    let renewal = rig.last()["data"]["signedRenewalInfo"]["commitmentInfo"].clone();
    assert_eq!(
        renewal,
        json!({"commitmentAutoRenewProductId": YEAR, "commitmentAutoRenewStatus": 1,
            "commitmentRenewalBillingPlanType": "MONTHLY", "commitmentRenewalDate": ends,
            "commitmentRenewalPrice": 71_880})
    );
    rig.play(json!([stop()])).await;
    let told = rig.last();
    says(
        &told,
        &[
            ("subtype", json!("AUTO_RENEW_DISABLED")),
            ("r.autoRenewStatus", json!(1)),
            ("r.renewalPrice", json!(5_990)),
        ],
    );
    let renewal = &told["data"]["signedRenewalInfo"]["commitmentInfo"];
    assert_eq!(renewal["commitmentAutoRenewStatus"], 0);
    assert!(renewal["commitmentRenewalDate"].is_null());
    rig.stands("alice", PurchaseState::Active, true);
    rig.play(json!([{"advance": "P11M"}])).await;
    assert_eq!(rig.told_since(2), vec!["DID_RENEW"; 11]);
    let told = rig.last();
    let info = &told["data"]["signedTransactionInfo"]["commitmentInfo"];
    assert_eq!(info["billingPeriodNumber"], 12);
    assert_eq!(info["commitmentExpiresDate"], ends);
    says(
        &told,
        &[("r.autoRenewStatus", json!(0)), ("t.expiresDate", ends)],
    );
    rig.stands("alice", PurchaseState::Canceled, true);
    rig.play(json!([{"advance": "P1M"}, {"advance": "P1D"}]))
        .await;
    assert_eq!(rig.told().pop().unwrap(), "EXPIRED/VOLUNTARY");
    rig.stands("alice", PurchaseState::Expired, false);
}

#[tokio::test]
async fn after_twelve_months_a_new_commitment_begins() {
    let rig = shop_rig().await;
    rig.play(json!([committed("alice"), {"advance": "P1Y"}]))
        .await;
    assert_eq!(rig.told_since(1), vec!["DID_RENEW"; 12]);
    let told = rig.last();
    let info = &told["data"]["signedTransactionInfo"]["commitmentInfo"];
    assert_eq!(info["billingPeriodNumber"], 1);
    assert_eq!(
        info["commitmentExpiresDate"],
        millis("2028-01-10T12:00:00Z")
    );
}

#[tokio::test]
async fn an_unpaid_month_has_no_grace_and_its_recovery_moves_the_end() {
    let rig = shop_rig().await;
    rig.play(json!([committed("alice"), card("fails"), {"advance": "P1M"}]))
        .await;
    says(
        &rig.last(),
        &[
            ("notificationType", json!("DID_FAIL_TO_RENEW")),
            ("subtype", Value::Null),
            ("data.status", json!(3)),
        ],
    );
    rig.stands("alice", PurchaseState::OnHold, false);
    rig.play(json!([stop(), {"advance": "P10D"}, card("works")]))
        .await;
    let told = rig.last();
    says(&told, &[("subtype", json!("BILLING_RECOVERY"))]);
    let info = &told["data"]["signedTransactionInfo"]["commitmentInfo"];
    assert_eq!(info["billingPeriodNumber"], 2);
    assert_eq!(
        info["commitmentExpiresDate"],
        millis("2027-01-20T12:00:00Z")
    );
    rig.play(json!([card("fails"), {"advance": "P1M"}, {"advance": "P89D"}]))
        .await;
    rig.stands("alice", PurchaseState::OnHold, false);
    rig.play(json!([{"advance": "P2D"}])).await;
    assert_eq!(rig.told().pop().unwrap(), "EXPIRED/BILLING_RETRY");
}

#[tokio::test]
async fn the_refund_of_the_current_month_ends_the_commitment_and_that_of_another_does_not() {
    let rig = shop_rig().await;
    rig.play(json!([committed("alice"), {"advance": "P1M"},
        {"do": "refund", "transaction_id": "$alice.first"}]))
        .await;
    says(
        &rig.last(),
        &[("data.status", json!(1)), ("r.autoRenewStatus", json!(1))],
    );
    rig.play(json!([{"do": "refund", "transaction_id": "$alice.latest"}]))
        .await;
    says(
        &rig.last(),
        &[("data.status", json!(5)), ("r.autoRenewStatus", json!(0))],
    );
    rig.play(json!([{"advance": "P3M"}])).await;
    assert_eq!(rig.told().pop().unwrap(), "REFUND");
}

#[tokio::test]
async fn a_move_to_another_product_waits_for_the_end_of_the_commitment() {
    let rig = shop_rig().await;
    rig.refused(buy_with("bob", BASIC, json!({"billing_plan": "monthly"})))
        .await;
    rig.play(json!([committed("alice")])).await;
    rig.refused(committed("alice")).await;
    let offer = json!({"kind": "promotional", "payment": "free_trial", "period": "P1M"});
    rig.refused(json!({"do": "redeem_offer", "original_transaction_id": "$alice", "offer": offer}))
        .await;
    rig.play(json!([buy("alice", BASIC)])).await;
    let told = rig.last();
    says(&told, &[("r.autoRenewProductId", json!(YEAR))]);
    let renewal = &told["data"]["signedRenewalInfo"]["commitmentInfo"];
    assert_eq!(renewal["commitmentAutoRenewProductId"], BASIC);
    rig.play(json!([{"advance": "P11M"}])).await;
    assert_eq!(rig.truth("alice").product_id, YEAR);
    rig.play(json!([{"advance": "P1M"}])).await;
    says(
        &rig.last(),
        &[
            ("t.productId", json!(BASIC)),
            ("t.billingPlanType", json!("BILLED_UPFRONT")),
            ("t.commitmentInfo", Value::Null),
            ("r.commitmentInfo", Value::Null),
        ],
    );
}
