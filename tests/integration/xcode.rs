//! `dev --xcode-cert` and `dev --lan`: what StoreKit testing in Xcode signs becomes access.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use entitled::config::{Config, Mode};
use entitled::proto::Environment;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    date_time_ymd,
};
use serde_json::{Value, json};
use tonic::Code;

use crate::scene::{YEARLY, period};
use crate::support::{World, assert_refused, entitlement, is_active, start};

/// An Xcode with a StoreKit configuration open.
struct Xcode {
    certificate: Vec<u8>,
    key: KeyPair,
}

impl Xcode {
    fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let mut params = CertificateParams::default();
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "StoreKit Testing in Xcode");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2029, 1, 1);
        let certificate = params.self_signed(&key).expect("signs").der().to_vec();
        Self { certificate, key }
    }

    fn sign(&self, payload: &Value) -> String {
        let header = json!({
            "kid": "Apple_Xcode_Key", "typ": "JWT", "alg": "ES256",
            "x5c": [STANDARD.encode(&self.certificate)],
        });
        let part = |it: &Value| URL_SAFE_NO_PAD.encode(it.to_string());
        let signed = format!("{}.{}", part(&header), part(payload));
        let key = self.key.serialize_der();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key).expect("a key");
        let signature = key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .expect("signs");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The `number`th transaction of a subscription, as Xcode writes it.
    fn transaction(&self, number: u32, from: DateTime<Utc>, revoked: bool) -> String {
        let millis = |at: DateTime<Utc>| {
            let fraction = at.timestamp_millis().to_string() + ".7297";
            fraction.parse::<f64>().expect("a number")
        };
        let mut payload = json!({
            "bundleId": "com.example.app", "productId": YEARLY, "environment": "Xcode",
            "transactionId": number.to_string(), "originalTransactionId": "0",
            "webOrderLineItemId": "0", "type": "Auto-Renewable Subscription",
            "purchaseDate": millis(from), "originalPurchaseDate": millis(start()),
            "expiresDate": millis(from + TimeDelta::days(365)), "signedDate": millis(from),
            "quantity": 1, "inAppOwnershipType": "PURCHASED", "isUpgraded": false,
            "storefront": "USA", "storefrontId": "143441",
        });
        if revoked {
            payload["revocationDate"] = millis(from + TimeDelta::seconds(1)).into();
            payload["signedDate"] = millis(from + TimeDelta::seconds(2)).into();
        }
        self.sign(&payload)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_xcode_signs_becomes_access_and_ends_with_its_refund() {
    let xcode = Xcode::new();
    let file = std::env::temp_dir().join(format!("xcode-{}.cer", uuid::Uuid::new_v4()));
    std::fs::write(&file, &xcode.certificate).expect("writes");
    let world = World::with(|options| {
        options.xcode_certificate = Some(file.clone());
        options.lan = true;
    })
    .await;
    let server = &world.stack.address.server;
    assert!(server.starts_with("http://127.0.0.1:"), "{server}");
    let listens = Config::load(Some(&world.stack.address.config)).expect("reads");
    assert!(listens.grpc.listen.ip().is_unspecified(), "the network's");
    for private in [listens.webhooks.listen, listens.admin.listen] {
        assert!(private.ip().is_loopback(), "{private}");
    }
    let strangers = listens.tokens.expect("tokens").anonymous_per_minute;
    assert_eq!(strangers, 600, "the usual limit");

    let alice = world.person("alice").await;
    let stranger = Xcode::new().transaction(0, start(), false);
    let refused = alice.bind_apple(&stranger).await.expect_err("refused");
    assert_refused(&refused, Code::InvalidArgument, "PROOF_INVALID");
    assert!(
        refused.message().contains("Save Public Certificate"),
        "{refused:?}"
    );

    let bound = alice
        .bind_apple(&xcode.transaction(0, start(), false))
        .await;
    let snapshot = bound.expect("bound").snapshot.expect("a snapshot");
    let pro = entitlement(&snapshot, "pro_access");
    assert!(pro.active);
    assert_eq!(
        pro.environment(),
        Environment::Sandbox,
        "flagged, never money"
    );
    let first = pro.expires_at.expect("an end").seconds;

    let renewed = start() + TimeDelta::hours(12);
    world.stores().advance(period("P1D")).await.expect("a day");
    let bound = alice
        .bind_apple(&xcode.transaction(1, renewed, false))
        .await;
    let snapshot = bound.expect("bound").snapshot.expect("a snapshot");
    let second = entitlement(&snapshot, "pro_access")
        .expires_at
        .expect("an end")
        .seconds;
    assert!(second > first, "{second} after {first}");

    // Somebody else's account gains nothing by the same document.
    let bob = world.person("bob").await;
    let taken = bob.bind_apple(&xcode.transaction(1, renewed, false)).await;
    let taken = taken.expect_err("refused");
    let reason = "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT";
    assert_refused(&taken, Code::FailedPrecondition, reason);

    alice
        .bind_apple(&xcode.transaction(1, renewed, true))
        .await
        .expect("bound");
    assert!(!is_active(&alice.now().await, "pro_access"));

    let mut config = Config::load(Some(&world.stack.address.config)).expect("reads");
    config.mode = Mode::Production;
    let problems = config.validate().join("\n");
    assert!(problems.contains("app_store: xcode"), "{problems}");
    world.stop().await;
    let _ = std::fs::remove_file(file);
}
