//! Notifications about the app rather than about a purchase.

use super::*;

#[tokio::test]
async fn a_parent_rescinds_the_consent_to_a_minors_use_of_the_app() {
    let rig = shop_rig().await;
    rig.play(json!([buy("alice", COINS), {"do": "rescind_consent", "customer": "alice"}]))
        .await;
    let last = rig.last();
    says(
        &last,
        &[
            ("notificationType", json!("RESCIND_CONSENT")),
            ("data", Value::Null),
            ("appData.appAppleId", json!(1_234_567_890)),
            ("appData.bundleId", json!("com.example.app")),
            ("appData.environment", json!("Production")),
        ],
    );
    let app = signed(&last["appData"]["signedAppTransactionInfo"]);
    assert_eq!(app["receiptType"], "Production");
    assert_eq!(app["bundleId"], "com.example.app");
    assert_eq!(app["appAppleId"], 1_234_567_890);
    assert_eq!(app["originalPlatform"], "iOS");
    assert_eq!(app["originalPurchaseDate"], millis("2026-01-10T12:00:00Z"));
    let coins = rig.last_but(1);
    assert_eq!(
        app["appTransactionId"],
        coins["data"]["signedTransactionInfo"]["appTransactionId"]
    );
}

#[tokio::test]
async fn tokens_for_purchases_elsewhere_are_told_about() {
    for (environment, sandboxed) in [
        (Environment::Production, false),
        (Environment::Sandbox, true),
    ] {
        let rig = Rig::with(environment, None).await;
        let created = json!({"do": "external_purchase", "kind": "created"});
        let token = rig.act(&created).await.unwrap()["external_purchase_id"].clone();
        let id = token.as_str().unwrap();
        assert_eq!(id.starts_with("SANDBOX"), sandboxed);
        rig.play(json!([{"advance": "P1M"}])).await;
        for (kind, subtype) in [
            ("reminder", "ACTIVE_TOKEN_REMINDER"),
            ("unreported", "UNREPORTED"),
        ] {
            let step = json!({"do": "external_purchase", "kind": kind,
                "external_purchase_id": token});
            rig.play(json!([step])).await;
            says(
                &rig.last(),
                &[
                    ("notificationType", json!("EXTERNAL_PURCHASE_TOKEN")),
                    ("subtype", json!(subtype)),
                    ("data", Value::Null),
                    ("externalPurchaseToken.externalPurchaseId", token.clone()),
                    (
                        "externalPurchaseToken.tokenCreationDate",
                        json!(millis("2026-01-10T12:00:00Z")),
                    ),
                    ("externalPurchaseToken.bundleId", json!("com.example.app")),
                ],
            );
        }
        assert_eq!(rig.told()[0], "EXTERNAL_PURCHASE_TOKEN/CREATED");
    }
}
