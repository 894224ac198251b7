//! Send Consumption Information, in both versions.

use super::*;

fn kept(rig: &Rig, id: &str) -> Option<Value> {
    rig.sandbox.inner.read(|world, _| {
        let chain = world.app_store.chain_by_transaction(id).unwrap();
        chain.transaction(id).unwrap().consumption.clone()
    })
}

#[tokio::test]
async fn what_was_consumed_is_taken_for_every_kind_of_product() {
    let rig = shop(Environment::Production).await;
    let answer = json!({
        "customerConsented": true,
        "sampleContentProvided": false,
        "deliveryStatus": "DELIVERED",
        "refundPreference": "DECLINE",
    });
    let path = |id: &str| format!("/v2/transactions/consumption/{id}");
    let mut bought = Vec::new();
    for product in [MONTHLY, LIFETIME, SEASON, COINS] {
        let id = rig.buy_apple("alice", product).await.transaction_id;
        let given = rig.call(Method::PUT, &path(&id), answer.clone()).await;
        assert_eq!(given, (202, Value::Null));
        assert_eq!(kept(&rig, &id), Some(answer.clone()));
        bought.push(id);
    }
    let (monthly, coins) = (&bought[0], &bought[3]);
    let with = |changes: Value| {
        let mut wish = answer.clone();
        for (name, value) in changes.as_object().unwrap() {
            wish[name] = value.clone();
        }
        wish
    };
    for changes in [
        json!({"consumptionPercentage": 100_000}),
        json!({"consumptionPercentage": 50_000, "refundPreference": "GRANT_PRORATED"}),
        json!({"consumptionPercentage": 0, "deliveryStatus": "UNDELIVERED_OTHER"}),
        json!({"refundPreference": null, "deliveryStatus": "UNDELIVERED_WRONG_ITEM"}),
    ] {
        let wish = with(changes);
        assert_eq!(
            rig.call(Method::PUT, &path(coins), wish.clone()).await.0,
            202
        );
        assert_eq!(kept(&rig, coins), Some(wish));
    }
    for (id, changes, code) in [
        (coins, json!({"customerConsented": false}), 4_000_035),
        (coins, json!({"customerConsented": null}), 4_000_035),
        (coins, json!({"deliveryStatus": 0}), 4_000_036),
        (coins, json!({"deliveryStatus": "LOST"}), 4_000_036),
        (coins, json!({"sampleContentProvided": "no"}), 4_000_041),
        (coins, json!({"refundPreference": "GRANT"}), 4_000_044),
        (monthly, json!({"consumptionPercentage": 1}), 4_000_209),
    ] {
        rig.rejects(Method::PUT, &path(id), with(changes), code)
            .await;
    }
    // Apple names these errors, but publishes no number for them.
    for changes in [
        json!({"consumptionPercentage": 100_001}),
        json!({"consumptionPercentage": -1}),
        json!({"consumptionPercentage": 1, "deliveryStatus": "UNDELIVERED_OTHER"}),
    ] {
        rig.rejects(Method::PUT, &path(coins), with(changes), 4_000_000)
            .await;
    }
    let family = rig.buy_apple("alice", FAMILY).await;
    let app = rig.app_transaction_id(&family);
    let member = rig.share(&family).await.transaction_id;
    for (id, code) in [
        (member.as_str(), 4_000_185),
        (app.as_str(), 4_000_048),
        ("12345", 4_040_010),
        ("abc", 4_000_006),
    ] {
        rig.rejects(Method::PUT, &path(id), answer.clone(), code)
            .await;
    }
}

#[tokio::test]
async fn the_old_version_wants_every_field_and_knows_two_kinds() {
    let rig = shop(Environment::Production).await;
    let answer = json!({
        "accountTenure": 7,
        "appAccountToken": "",
        "consumptionStatus": 3,
        "customerConsented": true,
        "deliveryStatus": 5,
        "lifetimeDollarsPurchased": 7,
        "lifetimeDollarsRefunded": 0,
        "platform": 1,
        "playTime": 7,
        "sampleContentProvided": true,
        "userStatus": 4,
        "refundPreference": 3,
    });
    let path = |id: &str| format!("/v1/transactions/consumption/{id}");
    for product in [MONTHLY, COINS] {
        let id = rig.buy_apple("alice", product).await.transaction_id;
        assert_eq!(
            rig.call(Method::PUT, &path(&id), answer.clone()).await.0,
            202
        );
        for (field, value, code) in [
            ("accountTenure", json!(8), 4_000_032),
            ("appAccountToken", json!("alice"), 4_000_033),
            ("consumptionStatus", json!(4), 4_000_034),
            ("customerConsented", json!(false), 4_000_035),
            ("deliveryStatus", json!("DELIVERED"), 4_000_036),
            ("lifetimeDollarsPurchased", json!(8), 4_000_037),
            ("lifetimeDollarsRefunded", json!(-1), 4_000_038),
            ("platform", json!(3), 4_000_039),
            ("playTime", Value::Null, 4_000_040),
            ("sampleContentProvided", json!(1), 4_000_041),
            ("userStatus", json!(5), 4_000_042),
            ("refundPreference", json!(4), 4_000_044),
        ] {
            let mut wish = answer.clone();
            wish[field] = value;
            rig.rejects(Method::PUT, &path(&id), wish, code).await;
        }
    }
    let lifetime = rig.buy_apple("alice", LIFETIME).await.transaction_id;
    rig.rejects(Method::PUT, &path(&lifetime), answer, 4_000_047)
        .await;
}
