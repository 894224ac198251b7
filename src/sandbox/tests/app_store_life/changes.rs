//! What the developer changes over the API, as operations of the store.

use super::*;
use crate::sandbox::app_store::extension::MassExtension;

fn request(storefronts: &[&str]) -> MassExtension {
    MassExtension {
        request_identifier: "outage-1".to_owned(),
        product_id: BASIC.to_owned(),
        days: 7,
        reason: ExtendReason::ServiceIssueOrOutage,
        storefronts: storefronts.iter().map(|code| (*code).to_owned()).collect(),
    }
}

#[tokio::test]
async fn all_subscribers_are_extended_and_the_failures_are_told() {
    let rig = shop_rig().await;
    rig.play(json!([
        buy("alice", BASIC),
        buy_with("bob", BASIC, json!({"trial": "P1M"})),
        buy("carol", PREMIUM),
    ]))
    .await;
    for _ in 0..2 {
        let extension = request(&[]);
        rig.sandbox
            .inner
            .act(|turn| turn.app_store_extend_mass(extension))
            .await
            .unwrap();
    }
    let mut told = rig.told_since(3);
    assert_eq!(told.pop().unwrap(), "RENEWAL_EXTENSION/SUMMARY");
    told.sort();
    assert_eq!(told, ["RENEWAL_EXTENDED", "RENEWAL_EXTENSION/FAILURE"]);
    says(
        &rig.last(),
        &[
            ("data", Value::Null),
            ("summary.requestIdentifier", json!("outage-1")),
            ("summary.productId", json!(BASIC)),
            ("summary.environment", json!("Production")),
            ("summary.appAppleId", json!(1_234_567_890)),
            ("summary.bundleId", json!("com.example.app")),
            ("summary.succeededCount", json!(1)),
            ("summary.failedCount", json!(1)),
            ("summary.storefrontCountryCodes", Value::Null),
        ],
    );
    rig.sandbox.inner.read(|world, _| {
        let result = world.app_store.mass_extension("outage-1").unwrap();
        assert_eq!((result.succeeded, result.failed), (1, 1));
    });
    let extended = rig.truth("alice").expires_at.unwrap();
    assert_eq!(extended.to_rfc3339(), "2026-02-17T12:00:00+00:00");
}

#[tokio::test]
async fn an_extension_may_be_for_chosen_storefronts() {
    let rig = shop_rig().await;
    rig.play(json!([buy("alice", BASIC)])).await;
    let extension = request(&["DEU"]);
    rig.sandbox
        .inner
        .act(|turn| turn.app_store_extend_mass(extension))
        .await
        .unwrap();
    says(
        &rig.last(),
        &[
            ("summary.succeededCount", json!(0)),
            ("summary.storefrontCountryCodes", json!(["DEU"])),
        ],
    );
}

#[tokio::test]
async fn an_account_set_by_the_developer_shows_from_the_latest_transaction_on() {
    let rig = shop_rig().await;
    rig.play(json!([buy("alice", BASIC), {"advance": "P1M"},
        {"do": "share", "original_transaction_id": "$alice", "member": "bob"}]))
        .await;
    let chain = rig.id("alice");
    let before = revision(&rig, "alice.latest");
    rig.sandbox
        .inner
        .act(|turn| turn.app_store_set_account_token(&chain, TOKEN.parse().unwrap()))
        .await
        .unwrap();
    assert!(revision(&rig, "alice.latest") > before);
    rig.play(json!([{"advance": "P1M"}])).await;
    let carried = rig.sandbox.inner.read(|world, _| {
        let chain = &world.app_store.chains[&chain];
        let tokens = chain
            .transactions
            .iter()
            .map(|t| t.app_account_token.is_some());
        tokens.collect::<Vec<_>>()
    });
    assert_eq!(carried, [false, true, true]);
    assert_eq!(rig.truth("bob").account, None);
}

fn revision(rig: &Rig, name: &str) -> u64 {
    let id = rig.id(name);
    rig.sandbox.inner.read(|world, _| {
        let chain = world.app_store.chain_by_transaction(&id).unwrap();
        chain.transaction(&id).unwrap().revision
    })
}

#[tokio::test]
async fn what_the_developer_says_about_delivery_is_noted_and_changes_no_document() {
    let rig = shop_rig().await;
    rig.play(json!([buy("alice", COINS)])).await;
    let id = rig.id("alice.latest");
    let before = revision(&rig, "alice.latest");
    rig.sandbox
        .inner
        .act(|turn| {
            turn.app_store_finish(&id)?;
            turn.app_store_record_consumption(&id, json!({"customerConsented": true}))
        })
        .await
        .unwrap();
    rig.sandbox.inner.read(|world, _| {
        let chain = world.app_store.chain_by_transaction(&id).unwrap();
        let transaction = chain.transaction(&id).unwrap();
        assert!(transaction.finished);
        assert_eq!(
            transaction.consumption,
            Some(json!({"customerConsented": true}))
        );
        assert_eq!(transaction.revision, before);
    });
}

#[tokio::test]
async fn orders_and_customers_are_found_by_their_ids() {
    let rig = shop_rig().await;
    rig.play(json!([buy("alice", BASIC), {"advance": "P1M"}]))
        .await;
    let chain_id = rig.id("alice");
    rig.sandbox.inner.read(|world, _| {
        let store = &world.app_store;
        let chain = &store.chains[&chain_id];
        for transaction in &chain.transactions {
            let order = transaction.order_id.as_deref().unwrap();
            let of_order = store.transactions_of_order(order);
            assert_eq!(of_order, std::slice::from_ref(&transaction.id));
        }
        let app = store.customer("alice").unwrap().app_transaction_id.clone();
        assert!(store.is_app_transaction(&app));
        assert_eq!(store.customer_by_any(&app), Some("alice"));
        assert!(store.transactions_of_order("M0").is_empty());
    });
}
