//! Signed transactions and bare ids as proofs of purchase.

use serde_json::{Value, json};

use super::support::{
    BUNDLE, DAY_MS, Loopback, NOW_MS, Signer, at, catalog, now, ok, refusal, renewal, transaction,
    with,
};
use crate::config::app_store::AppStoreEnvironment;
use crate::domain::provider::Environment;
use crate::domain::subscription::state::{ItemState, Renewal};
use crate::providers::app_store::AppStore;
use crate::providers::contract::{Proof, ProofError, Proven, Store};

async fn prove(store: &AppStore, jws: String) -> Result<Proven, ProofError> {
    store
        .verify_proof(&Proof::AppStoreTransaction(jws), &catalog(), now())
        .await
}

async fn prove_id(store: &AppStore, app: Option<&str>, id: &str) -> Result<Proven, ProofError> {
    let proof = Proof::AppStoreTransactionId {
        app: app.map(str::to_owned),
        transaction_id: id.to_owned(),
    };
    store.verify_proof(&proof, &catalog(), now()).await
}

#[tokio::test]
async fn a_signed_transaction_proves_its_chain_and_may_stand_in() {
    let signer = Signer::genuine();
    let store = signer.store("http://127.0.0.1:9");
    let proven = prove(&store, signer.sign(&transaction())).await.unwrap();
    assert_eq!(proven.alias.value, "2000000000000001");
    assert_eq!(proven.alias.app.0, "example-ios");
    assert_eq!(
        proven.account_token.as_deref(),
        Some("0f0e0d0c-0b0a-4908-8706-050403020100")
    );
    let state = proven.stand_in.unwrap();
    assert_eq!(state.environment, Environment::Production);
    assert_eq!(state.stamp, now());
    let end = at(NOW_MS + 30 * DAY_MS);
    assert_eq!(
        state.items[0].state,
        ItemState::Active {
            expires_at: end,
            renewal: Renewal::Off
        }
    );
}

#[tokio::test]
async fn what_does_not_grant_or_is_old_proves_but_does_not_stand_in() {
    let signer = Signer::genuine();
    let store = signer.store("http://127.0.0.1:9");
    let lasting = json!({"type": "Non-Consumable", "expiresDate": null});
    let cases = [
        (json!({"revocationDate": NOW_MS}), false),
        (json!({"isUpgraded": true}), false),
        (json!({"expiresDate": NOW_MS - 1}), false),
        (json!({"signedDate": NOW_MS - DAY_MS - 1}), false),
        (json!({"type": "Consumable"}), false),
        (json!({"type": "Non-Renewing Subscription"}), true),
        (json!({"inAppOwnershipType": "ASSIGNED"}), false),
        (json!({"type": "Something"}), false),
        (json!({"signedDate": NOW_MS - DAY_MS}), true),
        (lasting, true),
    ];
    for (changes, stands_in) in cases {
        let proven = prove(&store, signer.sign(&with(transaction(), changes.clone())))
            .await
            .unwrap();
        assert_eq!(proven.stand_in.is_some(), stands_in, "{changes}");
    }
}

#[tokio::test]
async fn foreign_and_forged_transactions_are_refused() {
    let signer = Signer::genuine();
    let store = signer.store("http://127.0.0.1:9");
    let cases = [
        (json!({"bundleId": "com.stranger"}), ProofError::UnknownApp),
        (
            json!({"bundleId": "COM.EXAMPLE.APP"}),
            ProofError::UnknownApp,
        ),
        // Its app_apple_id is not in the catalog: sandbox only.
        (
            json!({"bundleId": "com.example.other"}),
            ProofError::UnknownApp,
        ),
        (
            json!({"environment": "Xcode"}),
            ProofError::EnvironmentNotAccepted,
        ),
        (
            json!({"environment": "LocalTesting"}),
            ProofError::EnvironmentNotAccepted,
        ),
        (
            json!({"environment": "production"}),
            ProofError::EnvironmentNotAccepted,
        ),
    ];
    for (changes, expected) in cases {
        let result = prove(&store, signer.sign(&with(transaction(), changes.clone()))).await;
        assert_eq!(result.map(|_| ()), Err(expected), "{changes}");
    }
    let invalid = [
        Signer::genuine().sign(&transaction()),
        signer.sign(&renewal()),
        signer.sign(&with(
            transaction(),
            json!({"originalTransactionId": "1/../2"}),
        )),
        signer.sign(&with(transaction(), json!({"originalTransactionId": ""}))),
        signer.sign(&with(transaction(), json!({"signedDate": NOW_MS + DAY_MS}))),
        String::new(),
    ];
    for jws in invalid {
        assert!(matches!(
            prove(&store, jws).await,
            Err(ProofError::Invalid(_))
        ));
    }
    let production_only =
        signer.store_for("http://127.0.0.1:9", &[AppStoreEnvironment::Production]);
    let sandbox = signer.sign(&with(transaction(), json!({"environment": "Sandbox"})));
    let result = prove(&production_only, sandbox.clone()).await.map(|_| ());
    assert_eq!(result, Err(ProofError::EnvironmentNotAccepted));
    assert!(prove(&store, sandbox).await.is_ok());
}

fn info(signer: &Signer, changes: Value) -> Value {
    json!({"signedTransactionInfo": signer.sign(&with(transaction(), changes))})
}

#[tokio::test]
async fn a_bare_id_is_looked_up_in_the_stores_record() {
    let signer = Signer::genuine();
    let record = info(
        &signer,
        json!({"transactionId": "77", "environment": "Sandbox"}),
    );
    let server = Loopback::start(move |path| {
        if path == "/sandbox/inApps/v1/transactions/77" {
            ok(record.clone())
        } else {
            refusal(4_040_010)
        }
    })
    .await;
    let store = signer.store(&server.base);
    let proven = prove_id(&store, Some("example-ios"), "77").await.unwrap();
    assert_eq!(proven.alias.value, "2000000000000001");
    assert!(proven.stand_in.is_none());
    assert!(proven.account_token.is_some());
    assert_eq!(
        server.paths(),
        [
            "/production/inApps/v1/transactions/77",
            "/sandbox/inApps/v1/transactions/77"
        ]
    );
    assert_eq!(
        prove_id(&store, None, "78").await.map(|_| ()),
        Err(ProofError::Insufficient)
    );
    let nobody = prove_id(&store, Some("example-android"), "77")
        .await
        .map(|_| ());
    assert_eq!(nobody, Err(ProofError::UnknownApp));
    let calls = server.paths().len();
    for id in ["", "abc", "../77", "7 7", &"7".repeat(33)] {
        let result = prove_id(&store, None, id).await.map(|_| ());
        assert_eq!(result, Err(ProofError::Insufficient), "{id}");
    }
    assert_eq!(server.paths().len(), calls, "junk costs no call");
}

#[tokio::test]
async fn a_record_of_something_else_proves_nothing() {
    let signer = Signer::genuine();
    let app = Some("com.example.app");
    for (changes, expected) in [
        (json!({"transactionId": "78"}), ProofError::Insufficient),
        (
            json!({"bundleId": "com.example.other"}),
            ProofError::Insufficient,
        ),
        (json!({"environment": "Sandbox"}), ProofError::Insufficient),
        (json!({"signedDate": "x"}), ProofError::Unavailable),
    ] {
        let record = info(
            &signer,
            with(json!({"transactionId": "77"}), changes.clone()),
        );
        let server = Loopback::start(move |_| ok(record.clone())).await;
        let result = prove_id(&signer.store(&server.base), app, "77")
            .await
            .map(|_| ());
        assert_eq!(result, Err(expected), "{changes}");
    }
    let away = Loopback::start(|_| refusal(5_000_000)).await;
    let result = prove_id(&signer.store(&away.base), app, "77")
        .await
        .map(|_| ());
    assert_eq!(result, Err(ProofError::Unavailable));
}

#[tokio::test]
async fn an_app_receipt_is_refused_with_the_way_to_the_signed_transaction() {
    let signer = Signer::genuine();
    let store = signer.store("http://127.0.0.1:9");
    for receipt in ["MIITtgYJKoZIhvcNAQcCoIITpzCCE6MCAQEx", "  MIIUVQ\nYJKoZI=="] {
        let refused = prove(&store, receipt.to_owned()).await.unwrap_err();
        assert_eq!(refused, ProofError::ReceiptUnsupported);
        assert!(refused.to_string().contains("jwsRepresentation"));
    }
}

#[tokio::test]
async fn other_documents_of_apples_are_no_purchase_and_say_what_is() {
    let signer = Signer::genuine();
    let store = signer.store("http://127.0.0.1:9");
    let cases = [
        (
            json!({"receiptType": "Production", "bundleId": BUNDLE, "receiptCreationDate": NOW_MS}),
            "AppTransaction",
        ),
        (renewal(), "RenewalInfo"),
        (
            json!({"notificationType": "TEST", "notificationUUID": "1", "signedDate": NOW_MS}),
            "notification",
        ),
        (json!({"signedDate": NOW_MS}), "not a transaction"),
    ];
    for (payload, expected) in cases {
        let Err(ProofError::Invalid(why)) = prove(&store, signer.sign(&payload)).await else {
            panic!("{expected}")
        };
        assert!(why.contains(expected), "{why}");
    }
}
