//! Certificate chains of every shape, documents signed by them, and a store on loopback.

use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, date_time_ymd,
};
use serde_json::{Value, json};

use crate::config::app_store::AppStoreEnvironment;
use crate::domain::catalog::{Catalog, CatalogFile};
use crate::domain::ids::CatalogVersion;
use crate::domain::time::Instant;
use crate::http::HttpClient;
use crate::providers::app_store::AppStore;
use crate::providers::app_store::binding::Accepted;
use crate::providers::app_store::client::Client;
use crate::providers::app_store::promotion::PromotionSigner;
use crate::providers::app_store::token::RequestTokens;
use crate::providers::app_store::verify::{Roots, Verifier};

pub(crate) const LEAF_OID: &[u64] = &[1, 2, 840, 113_635, 100, 6, 11, 1];
pub(crate) const INTERMEDIATE_OID: &[u64] = &[1, 2, 840, 113_635, 100, 6, 2, 1];
pub(crate) const DEVELOPER_OID: &[u64] = &[1, 2, 840, 113_635, 100, 6, 1, 2];
pub(crate) const BUNDLE: &str = "com.example.app";
pub(crate) const APP_APPLE_ID: i64 = 1_234_567_890;

/// Milliseconds of the tests' present: 2026-09-21.
pub(crate) const NOW_MS: i64 = 1_790_000_000_000;
pub(crate) const DAY_MS: i64 = 86_400_000;

pub(crate) fn at(millis: i64) -> Instant {
    Instant::from_timestamp_millis(millis).unwrap()
}

pub(crate) fn now() -> Instant {
    at(NOW_MS)
}

/// What is written into a certificate.
#[derive(Clone)]
pub(crate) struct Profile {
    pub(crate) name: &'static str,
    pub(crate) ca: IsCa,
    pub(crate) marker: Option<&'static [u64]>,
    pub(crate) marker_value: Vec<u8>,
    pub(crate) years: (i32, i32),
    pub(crate) usages: Vec<KeyUsagePurpose>,
    pub(crate) p384: bool,
}

impl Profile {
    pub(crate) fn root() -> Self {
        Self {
            name: "Root",
            ca: IsCa::Ca(BasicConstraints::Unconstrained),
            marker: None,
            marker_value: vec![5, 0],
            years: (2014, 2039),
            usages: vec![KeyUsagePurpose::KeyCertSign],
            p384: true,
        }
    }

    pub(crate) fn intermediate() -> Self {
        Self {
            name: "Intermediate",
            ca: IsCa::Ca(BasicConstraints::Constrained(0)),
            marker: Some(INTERMEDIATE_OID),
            years: (2021, 2036),
            ..Self::root()
        }
    }

    pub(crate) fn leaf() -> Self {
        Self {
            name: "Leaf",
            ca: IsCa::ExplicitNoCa,
            marker: Some(LEAF_OID),
            years: (2025, 2027),
            usages: vec![KeyUsagePurpose::DigitalSignature],
            p384: false,
            ..Self::root()
        }
    }

    pub(crate) fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, self.name);
        params.is_ca = self.ca;
        params.not_before = date_time_ymd(self.years.0, 1, 1);
        params.not_after = date_time_ymd(self.years.1, 1, 1);
        params.key_usages.clone_from(&self.usages);
        params.use_authority_key_identifier_extension = true;
        params.custom_extensions = self
            .marker
            .iter()
            .map(|oid| CustomExtension::from_oid_content(oid, self.marker_value.clone()))
            .collect();
        params
    }

    fn key(&self) -> KeyPair {
        let algorithm = if self.p384 {
            &PKCS_ECDSA_P384_SHA384
        } else {
            &PKCS_ECDSA_P256_SHA256
        };
        KeyPair::generate_for(algorithm).unwrap()
    }
}

/// A certificate and its key, able to issue others whatever it says it is.
pub(crate) struct Certified {
    pub(crate) der: Vec<u8>,
    pub(crate) issuer: Issuer<'static, KeyPair>,
}

impl Certified {
    pub(crate) fn self_signed(profile: &Profile) -> Self {
        let (params, key) = (profile.params(), profile.key());
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self {
            der,
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn issue(&self, profile: &Profile) -> Self {
        self.issue_params(profile.params(), profile.key())
    }

    pub(crate) fn issue_params(&self, params: CertificateParams, key: KeyPair) -> Self {
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Self {
            der,
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn key(&self) -> &KeyPair {
        self.issuer.key()
    }
}

/// A chain that signs documents.
pub(crate) struct Signer {
    pub(crate) root: Certified,
    pub(crate) intermediate: Certified,
    pub(crate) leaf: Certified,
}

impl Signer {
    pub(crate) fn genuine() -> Self {
        Self::shaped(&Profile::intermediate(), &Profile::leaf())
    }

    pub(crate) fn shaped(intermediate: &Profile, leaf: &Profile) -> Self {
        let root = Certified::self_signed(&Profile::root());
        let intermediate = root.issue(intermediate);
        let leaf = intermediate.issue(leaf);
        Self {
            root,
            intermediate,
            leaf,
        }
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::pinned(vec![self.root.der.clone()]).unwrap()
    }

    pub(crate) fn verifier(&self) -> Verifier {
        Verifier::new(self.roots())
    }

    pub(crate) fn x5c(&self) -> Vec<String> {
        [&self.leaf, &self.intermediate, &self.root]
            .map(|certificate| STANDARD.encode(&certificate.der))
            .to_vec()
    }

    pub(crate) fn header(&self) -> Value {
        json!({"alg": "ES256", "x5c": self.x5c()})
    }

    pub(crate) fn sign(&self, payload: &Value) -> String {
        self.sign_header(&self.header(), payload)
    }

    pub(crate) fn sign_header(&self, header: &Value, payload: &Value) -> String {
        self.sign_text(&header.to_string(), &payload.to_string())
    }

    pub(crate) fn sign_text(&self, header: &str, payload: &str) -> String {
        let signed = unsigned(header, payload);
        let signature = self.es256(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub(crate) fn es256(&self, message: &[u8]) -> Vec<u8> {
        let pkcs8 = self.leaf.key().serialize_der();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).unwrap();
        key.sign(&SystemRandom::new(), message)
            .unwrap()
            .as_ref()
            .to_vec()
    }

    /// A provider that trusts this chain and calls `base` for both environments.
    pub(crate) fn store(&self, base: &str) -> AppStore {
        self.store_for(
            base,
            &[
                AppStoreEnvironment::Production,
                AppStoreEnvironment::Sandbox,
            ],
        )
    }

    pub(crate) fn store_for(&self, base: &str, accepted: &[AppStoreEnvironment]) -> AppStore {
        let pem = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .unwrap()
            .serialize_pem();
        let tokens = RequestTokens::new("issuer", "key", &pem).unwrap();
        let http = HttpClient::new(std::time::Duration::from_secs(2)).unwrap();
        let url = |name: &str| format!("{base}/{name}/").parse().unwrap();
        AppStore {
            verifier: self.verifier(),
            accepted: Accepted::new(accepted),
            client: Client::new(http, tokens, url("production"), url("sandbox")),
            promotions: PromotionSigner::new("key", &pem).unwrap(),
            ocsp: None,
            xcode: None,
        }
    }
}

pub(crate) fn unsigned(header: &str, payload: &str) -> String {
    format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    )
}

/// Two apps of the App Store; only the first may sell in production.
pub(crate) fn catalog() -> Catalog {
    let file: CatalogFile = toml::from_str(
        r#"
        [[apps]]
        id = "example-ios"
        bundle_id = "com.example.app"
        app_apple_id = 1234567890
        [[apps]]
        id = "other-ios"
        bundle_id = "com.example.other"
        [entitlements.pro]
        [products.yearly]
        kind = "subscription"
        period = "P1Y"
        grants = ["pro"]
        app_store = { product_id = "yearly" }
        "#,
    )
    .unwrap();
    Catalog::build(file, CatalogVersion(1)).unwrap()
}

/// `base` with the fields of `changes`; a null takes a field away.
pub(crate) fn with(mut base: Value, changes: Value) -> Value {
    let object = base.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.clone(), value.clone());
        }
    }
    base
}

/// A month of a subscription, bought an hour ago.
pub(crate) fn transaction() -> Value {
    json!({
        "transactionId": "2000000000000001", "originalTransactionId": "2000000000000001",
        "webOrderLineItemId": "2000000000000009", "bundleId": BUNDLE, "productId": "monthly",
        "subscriptionGroupIdentifier": "1", "type": "Auto-Renewable Subscription",
        "purchaseDate": NOW_MS - 3_600_000, "originalPurchaseDate": NOW_MS - 3_600_000,
        "expiresDate": NOW_MS + 30 * DAY_MS, "quantity": 1, "inAppOwnershipType": "PURCHASED",
        "signedDate": NOW_MS, "environment": "Production", "transactionReason": "PURCHASE",
        "storefront": "USA", "storefrontId": "143441", "price": 9990, "currency": "USD",
        "appAccountToken": "0f0e0d0c-0b0a-4908-8706-050403020100",
    })
}

pub(crate) fn renewal() -> Value {
    json!({
        "originalTransactionId": "2000000000000001", "productId": "monthly",
        "autoRenewProductId": "monthly", "autoRenewStatus": 1, "signedDate": NOW_MS,
        "environment": "Production", "renewalDate": NOW_MS + 30 * DAY_MS,
    })
}

/// What a call was answered with: status, extra headers, body.
pub(crate) type Reply = (u16, Vec<(&'static str, String)>, Value);

pub(crate) fn ok(body: Value) -> Reply {
    (200, Vec::new(), body)
}

pub(crate) fn refusal(code: i64) -> Reply {
    let status = u16::try_from(code / 10_000).unwrap();
    (
        status,
        Vec::new(),
        json!({"errorCode": code, "errorMessage": "no"}),
    )
}

/// A store on loopback that answers by path and query and keeps what it was asked.
pub(crate) struct Loopback {
    pub(crate) base: String,
    pub(crate) calls: Arc<Mutex<Vec<(String, String)>>>,
    /// Method and body of each call.
    pub(crate) said: Arc<Mutex<Vec<(http::Method, Value)>>>,
}

impl Loopback {
    pub(crate) async fn start(
        answer: impl Fn(&str) -> Reply + Clone + Send + Sync + 'static,
    ) -> Self {
        let calls: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let log = Arc::clone(&calls);
        let said: Arc<Mutex<Vec<(http::Method, Value)>>> = Arc::default();
        let heard = Arc::clone(&said);
        let handler = move |method: http::Method,
                            uri: http::Uri,
                            headers: http::HeaderMap,
                            body: axum::body::Bytes| {
            let body = serde_json::from_slice(&body).unwrap_or_default();
            heard.lock().unwrap().push((method, body));
            let path = uri.to_string();
            let authorization = headers
                .get("authorization")
                .map(|value| value.to_str().unwrap().to_owned())
                .unwrap_or_default();
            log.lock().unwrap().push((path.clone(), authorization));
            let (status, extra, body) = answer(&path);
            async move {
                let mut response = http::Response::builder().status(status);
                for (name, value) in extra {
                    response = response.header(name, value);
                }
                response
                    .body(axum::body::Body::from(body.to_string()))
                    .unwrap()
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(handler);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { base, calls, said }
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.calls
            .lock()
            .unwrap()
            .iter()
            .map(|call| call.0.clone())
            .collect()
    }
}
