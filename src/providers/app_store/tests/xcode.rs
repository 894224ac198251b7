//! Transactions of StoreKit testing in Xcode: documents of the shape of those in the resources of
//! Apple's own libraries, made here, signed by a certificate of that shape (one, for itself, P-256).

use serde_json::{Value, json};

use super::support::{BUNDLE, Certified, DAY_MS, NOW_MS, Profile, Signer, at, catalog, now, with};
use crate::config::app_store::XcodeConfig;
use crate::domain::planted::{self, Bug};
use crate::domain::provider::Environment;
use crate::domain::reconcile::Answer;
use crate::domain::subscription::state::{ItemState, Renewal};
use crate::domain::subscription::store_state::StoreState;
use crate::domain::time::Instant;
use crate::providers::app_store::AppStore;
use crate::providers::app_store::xcode::Xcode;
use crate::providers::contract::{FetchRequest, Proof, ProofError, Proven, Store};
use rcgen::{BasicConstraints, IsCa};

/// Xcode, and a folder of a server that has pinned its certificate.
struct World {
    xcode: Signer,
    store: AppStore,
    folder: std::path::PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn certificate() -> Certified {
    Certified::self_signed(&Profile {
        name: "StoreKit Testing in Xcode",
        ca: IsCa::Ca(BasicConstraints::Constrained(0)),
        marker: None,
        ..Profile::leaf()
    })
}

fn signer() -> Signer {
    Signer {
        leaf: certificate(),
        ..Signer::genuine()
    }
}

impl World {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("xcode-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        let xcode = signer();
        let certificate = folder.join("xcode.cer");
        std::fs::write(&certificate, &xcode.leaf.der).unwrap();
        let config = XcodeConfig {
            certificate,
            documents: folder.join("documents"),
        };
        // Nobody listens there: a call to the store would fail.
        let mut store = Signer::genuine().store("http://127.0.0.1:9");
        store.xcode = Some(Xcode::new(&config).unwrap());
        Self {
            xcode,
            store,
            folder,
        }
    }

    fn sign(&self, payload: &Value) -> String {
        sign(&self.xcode, payload)
    }

    async fn prove(&self, jws: &str) -> Result<Proven, ProofError> {
        let proof = Proof::AppStoreTransaction(jws.to_owned());
        self.store.verify_proof(&proof, &catalog(), now()).await
    }

    async fn state(&self, proven: &Proven, at: Instant) -> StoreState {
        let catalog = catalog();
        let request = FetchRequest {
            head: &proven.alias,
            evidence: &[],
            known: &[],
            last: None,
            thorough: false,
            catalog: &catalog,
        };
        let answers = self.store.fetch(request).await.unwrap();
        let answer = self.store.normalize(&proven.alias, &answers, &catalog, at);
        let Answer::Store(state) = answer.unwrap() else {
            panic!("not the store's answer");
        };
        state
    }
}

fn sign(signer: &Signer, payload: &Value) -> String {
    use base64::Engine as _;
    let certificate = base64::engine::general_purpose::STANDARD.encode(&signer.leaf.der);
    let header = json!({
        "kid": "Apple_Xcode_Key", "typ": "JWT", "alg": "ES256", "x5c": [certificate],
    });
    signer.sign_header(&header, payload)
}

#[expect(clippy::cast_precision_loss, reason = "as Xcode writes moments")]
fn fraction(millis: i64) -> f64 {
    millis as f64 + 0.7297
}

fn bought() -> Value {
    json!({
        "bundleId": BUNDLE, "productId": "yearly", "environment": "Xcode",
        "transactionId": "0", "originalTransactionId": "0", "webOrderLineItemId": "0",
        "type": "Auto-Renewable Subscription", "subscriptionGroupIdentifier": "6F3A93AB",
        "purchaseDate": fraction(NOW_MS - 1_000), "originalPurchaseDate": fraction(NOW_MS - 1_000),
        "expiresDate": fraction(NOW_MS + DAY_MS), "signedDate": fraction(NOW_MS - 900),
        "quantity": 1, "inAppOwnershipType": "PURCHASED", "isUpgraded": false, "offerType": 1,
        "transactionReason": "PURCHASE", "storefront": "USA", "storefrontId": "143441",
        "deviceVerification": "c0ffee", "deviceVerificationNonce": "7edea87d",
    })
}

#[tokio::test]
async fn what_the_pinned_xcode_signs_is_believed_and_no_store_is_asked() {
    let world = World::new();
    let proven = world.prove(&world.sign(&bought())).await.unwrap();
    let id = &proven.alias.value;
    assert!(
        id.starts_with("xcode/") && id.ends_with(&format!("/0/{}", NOW_MS - 1_000)),
        "{id}"
    );
    let state = world.state(&proven, now()).await;
    assert_eq!(state.environment, Environment::Sandbox, "never money");
    let expires_at = at(NOW_MS + DAY_MS);
    let active = ItemState::Active {
        expires_at,
        renewal: Renewal::Off,
    };
    assert_eq!(state.items[0].state, active);
    let later = world.state(&proven, at(NOW_MS + 2 * DAY_MS)).await;
    assert!(matches!(later.items[0].state, ItemState::Expired { at, .. } if at == expires_at));
}

#[tokio::test]
async fn the_newest_period_decides_in_whatever_order_they_are_shown() {
    let world = World::new();
    let renewed = with(
        bought(),
        json!({
            "transactionId": "1", "purchaseDate": fraction(NOW_MS - 500),
            "expiresDate": fraction(NOW_MS + 2 * DAY_MS), "transactionReason": "RENEWAL",
            "signedDate": fraction(NOW_MS - 400),
        }),
    );
    let refunded = with(
        renewed.clone(),
        json!({
            "revocationDate": fraction(NOW_MS - 100), "revocationReason": 0,
            "signedDate": fraction(NOW_MS - 50),
        }),
    );
    let first = world.sign(&bought());
    let renewed = world.sign(&renewed);
    let proven = world.prove(&renewed).await.unwrap();
    assert_eq!(proven.alias, world.prove(&first).await.unwrap().alias);
    let state = world.state(&proven, now()).await;
    assert_eq!(state.transactions.len(), 2);
    let end = at(NOW_MS + 2 * DAY_MS);
    assert!(
        matches!(state.items[0].state, ItemState::Active { expires_at, .. } if expires_at == end)
    );
    world.prove(&world.sign(&refunded)).await.unwrap();
    // What was signed before the refund says nothing any more.
    world.prove(&renewed).await.unwrap();
    let state = world.state(&proven, now()).await;
    assert!(matches!(state.items[0].state, ItemState::Revoked { .. }));
}

#[tokio::test]
async fn ids_that_begin_anew_are_of_another_purchase() {
    let world = World::new();
    let again = json!({
        "purchaseDate": fraction(NOW_MS - 10), "originalPurchaseDate": fraction(NOW_MS - 10),
    });
    let first = world.prove(&world.sign(&bought())).await.unwrap();
    let second = world
        .prove(&world.sign(&with(bought(), again)))
        .await
        .unwrap();
    assert_ne!(first.alias, second.alias);
}

#[tokio::test]
async fn whatever_else_is_refused() {
    let world = World::new();
    let genuine = world.sign(&bought());
    let (head, tail) = genuine.split_at(genuine.find('.').unwrap() + 10);
    let altered = format!(
        "{head}{}{}",
        if tail.starts_with('A') { 'B' } else { 'A' },
        &tail[1..]
    );
    let table = [
        ("another Xcode", sign(&signer(), &bought())),
        ("altered", altered),
        (
            "says production",
            world.sign(&with(bought(), json!({"environment": "Production"}))),
        ),
        (
            "says sandbox",
            world.sign(&with(bought(), json!({"environment": "Sandbox"}))),
        ),
        (
            "an id that is none",
            world.sign(&with(bought(), json!({"transactionId": "../0"}))),
        ),
        (
            "signed tomorrow",
            world.sign(&with(bought(), json!({"signedDate": NOW_MS + DAY_MS}))),
        ),
        (
            "signed before the certificate was",
            world.sign(&with(
                bought(),
                json!({"signedDate": 1_600_000_000_000_i64}),
            )),
        ),
        ("of Apple's shape", world.xcode.sign(&bought())),
    ];
    for (what, jws) in table {
        let refused = world.prove(&jws).await;
        assert!(matches!(refused, Err(ProofError::Invalid(_))), "{what}");
    }
    let foreign = world.sign(&with(bought(), json!({"bundleId": "com.example.nobody"})));
    assert!(matches!(
        world.prove(&foreign).await,
        Err(ProofError::UnknownApp)
    ));
}

#[tokio::test]
async fn a_server_that_believes_any_xcode_is_found() {
    let world = World::new();
    let stranger = sign(&signer(), &bought());
    assert!(world.prove(&stranger).await.is_err());
    planted::plant(Some(Bug::AnyXcode));
    let believed = world.prove(&stranger).await;
    planted::plant(None);
    assert!(believed.is_ok(), "the bug is seen");
}

#[tokio::test]
async fn who_has_pinned_nothing_believes_nothing() {
    let mut world = World::new();
    let jws = world.sign(&bought());
    world.store.xcode = None;
    let refused = world.prove(&jws).await;
    let Err(ProofError::Invalid(why)) = refused else {
        panic!("believed");
    };
    assert!(why.contains("Xcode"), "{why}");
}
