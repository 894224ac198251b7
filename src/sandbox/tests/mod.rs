//! The simulator under test: a rig with a receiver for its notifications and callers for its APIs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod app_store;
mod app_store_api;
mod app_store_life;
mod attacks;
mod control;
mod control_api;
mod deliveries;
mod google_api;
mod google_play;
mod ocsp;
mod persistence;
mod rules;
mod sins;
mod superwall;
mod walk;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::jws::machine_seconds;
use super::*;
use crate::clock::VirtualClock;

const MONTHLY: &str = "com.example.premium.monthly";
const YEARLY: &str = "com.example.premium.yearly";
const LIFETIME: &str = "com.example.lifetime";
const COINS: &str = "com.example.coins";

fn start_time() -> DateTime<Utc> {
    "2026-01-10T12:00:00Z".parse().unwrap()
}

fn setup(environment: Environment) -> StoreSetup {
    let mut yearly = AppStoreProduct::subscription(YEARLY, Period::years(1), "premium");
    let mut monthly = AppStoreProduct::subscription(MONTHLY, Period::months(1), "premium");
    let rank = |product: &mut AppStoreProduct, to: u32, days: u16| {
        if let AppStoreKind::AutoRenewable {
            rank, grace_days, ..
        } = &mut product.kind
        {
            (*rank, *grace_days) = (to, days);
        }
    };
    rank(&mut yearly, 1, 0);
    rank(&mut monthly, 2, 16);
    let mut lenient = GooglePlayProduct::subscription("premium", "monthly", Period::months(1));
    if let GooglePlayKind::AutoRenewable { grace_days, .. } = &mut lenient.kind {
        *grace_days = 7;
    }
    StoreSetup {
        bundle_id: "com.example.app".to_owned(),
        app_apple_id: 1_234_567_890,
        package_name: "com.example.android".to_owned(),
        environment,
        app_store: vec![
            monthly,
            yearly,
            AppStoreProduct::non_consumable(LIFETIME),
            AppStoreProduct::consumable(COINS),
        ],
        google_play: vec![
            lenient,
            GooglePlayProduct::subscription("premium", "yearly", Period::years(1)),
            GooglePlayProduct::non_consumable("lifetime"),
            GooglePlayProduct::consumable("coins"),
        ],
        timing: Timing::default(),
        deliveries: DeliveryRules::default(),
        superwall: SuperwallRules::default(),
    }
}

fn options(environment: Environment) -> Options {
    Options::new(setup(environment), VirtualClock::stopped(start_time()))
}

/// What arrived at the receiver: which store's webhook, headers, body.
type Received = Arc<Mutex<Vec<(String, HeaderMap, Value)>>>;

struct Rig {
    sandbox: Sandbox,
    received: Received,
    /// The status that the receiver answers with.
    answer: Arc<Mutex<StatusCode>>,
    webhooks: Webhooks,
    http: reqwest::Client,
}

async fn receiver() -> (String, Received, Arc<Mutex<StatusCode>>) {
    let received = Received::default();
    let answer = Arc::new(Mutex::new(StatusCode::OK));
    let state = (Arc::clone(&received), Arc::clone(&answer));
    let router = axum::Router::new()
        .route(
            "/{store}",
            post(
                |State((received, answer)): State<(Received, Arc<Mutex<StatusCode>>)>,
                 Path(store): Path<String>,
                 headers: HeaderMap,
                 axum::Json(body): axum::Json<Value>| async move {
                    received.lock().unwrap().push((store, headers, body));
                    *answer.lock().unwrap()
                },
            ),
        )
        .with_state(state);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}"), received, answer)
}

impl Rig {
    async fn start() -> Self {
        Self::with(Environment::Production, None).await
    }

    async fn with(environment: Environment, dir: Option<std::path::PathBuf>) -> Self {
        let mut options = options(environment);
        options.dir = dir;
        Self::of(options).await
    }

    /// One whose keys and ids are others.
    async fn seeded(seed: u64) -> Self {
        let mut options = options(Environment::Production);
        options.seed = seed;
        Self::of(options).await
    }

    async fn of(options: Options) -> Self {
        let sandbox = Sandbox::start(options).await.unwrap();
        let (url, received, answer) = receiver().await;
        let webhooks = Webhooks {
            app_store: Some(format!("{url}/apple")),
            google_play: Some(format!("{url}/google")),
            superwall: None,
        };
        sandbox.set_webhooks(webhooks.clone()).unwrap();
        Self {
            sandbox,
            received,
            answer,
            webhooks,
            http: reqwest::Client::new(),
        }
    }

    /// The types of all notifications so far, Apple's with their subtypes.
    fn told(&self) -> Vec<String> {
        let told = self.sandbox.notifications().into_iter();
        told.map(|record| match record.subtype {
            Some(subtype) => format!("{}/{subtype}", record.notification_type),
            None => record.notification_type,
        })
        .collect()
    }

    /// What has been told since `count` notifications ago were all.
    fn told_since(&self, count: usize) -> Vec<String> {
        self.told().split_off(count)
    }

    fn received(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    async fn buy_apple(&self, customer: &str, product: &str) -> AppStorePurchase {
        let buy = AppStoreBuy {
            customer: customer.to_owned(),
            product_id: product.to_owned(),
            ..AppStoreBuy::default()
        };
        self.sandbox.buy_app_store(&buy).await.unwrap()
    }

    async fn buy_google(&self, customer: &str, product: &str) -> GooglePlayPurchase {
        let buy = google_buy(customer, product);
        self.sandbox.buy_google_play(&buy).await.unwrap()
    }

    /// A call of the App Store Server API with a genuine token.
    async fn apple(&self, path: &str) -> (u16, Value) {
        let token = self.apple_token(&json!({}));
        let request = self
            .http
            .get(format!("{}/apple{path}", self.sandbox.base_url()));
        answer_of(request.bearer_auth(token)).await
    }

    fn apple_token(&self, changes: &Value) -> String {
        let keys = &self.sandbox.inner.keys;
        let mut claims = json!({
            "iss": keys.apple_issuer_id,
            "aud": "appstoreconnect-v1",
            "bid": "com.example.app",
            "iat": machine_seconds(),
            "exp": machine_seconds() + 300,
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        keys.apple_api.token(&claims).unwrap()
    }

    /// A bearer token for the Developer API, got as a server gets it.
    async fn google_token(&self) -> String {
        let manifest = self.sandbox.manifest();
        let account: Value = serde_json::from_str(&manifest.google_service_account_json).unwrap();
        let claims = json!({
            "iss": account["client_email"],
            "scope": "https://www.googleapis.com/auth/androidpublisher",
            "aud": "https://oauth2.googleapis.com/token",
            "iat": machine_seconds(),
            "exp": machine_seconds() + 3_600,
        });
        let assertion = self
            .sandbox
            .inner
            .keys
            .service_account
            .token(&claims)
            .unwrap();
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", &assertion),
        ];
        let request = self
            .http
            .post(account["token_uri"].as_str().unwrap())
            .form(&form);
        let (status, body) = answer_of(request).await;
        assert_eq!((status, &body["token_type"]), (200, &json!("Bearer")));
        body["access_token"].as_str().unwrap().to_owned()
    }

    fn google_url(&self, path: &str) -> String {
        let base = self.sandbox.base_url();
        format!("{base}/google/androidpublisher/v3/applications/com.example.android/{path}")
    }

    async fn google_get(&self, path: &str) -> (u16, Value) {
        let request = self.http.get(self.google_url(path));
        answer_of(request.bearer_auth(self.google_token().await)).await
    }

    async fn google_post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(self.google_url(path)).json(body);
        answer_of(request.bearer_auth(self.google_token().await)).await
    }

    async fn acknowledge(&self, purchase: &GooglePlayPurchase) {
        let token = &purchase.purchase_token;
        let path = format!("purchases/subscriptions/-/tokens/{token}:acknowledge");
        assert_eq!(self.google_post(&path, &json!({})).await.0, 204);
    }

    async fn subscription(&self, purchase: &GooglePlayPurchase) -> Value {
        let path = format!(
            "purchases/subscriptionsv2/tokens/{}",
            purchase.purchase_token
        );
        let (status, body) = self.google_get(&path).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    fn truth(&self, customer: &str) -> PurchaseTruth {
        self.sandbox.purchases(customer).pop().unwrap()
    }
}

fn google_buy(customer: &str, product: &str) -> GooglePlayBuy {
    GooglePlayBuy {
        customer: customer.to_owned(),
        product_id: product.to_owned(),
        obfuscated_account_id: Some(format!("account-of-{customer}")),
        ..GooglePlayBuy::default()
    }
}

async fn answer_of(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// The payload of a signed document, unverified.
fn payload(jws: &str) -> Value {
    let part = jws.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn signed(value: &Value) -> Value {
    payload(value.as_str().unwrap())
}

/// Apple's notification in a record, its inner documents opened.
fn apple_notification(record: &NotificationRecord) -> Value {
    let body: Value = serde_json::from_str(&record.body).unwrap();
    let mut notification = signed(&body["signedPayload"]);
    for name in ["signedTransactionInfo", "signedRenewalInfo"] {
        if !notification["data"][name].is_null() {
            notification["data"][name] = signed(&notification["data"][name]);
        }
    }
    notification
}

/// Google's notification in a record.
fn google_notification(record: &NotificationRecord) -> Value {
    let body: Value = serde_json::from_str(&record.body).unwrap();
    let data = STANDARD
        .decode(body["message"]["data"].as_str().unwrap())
        .unwrap();
    serde_json::from_slice(&data).unwrap()
}

fn millis(text: &str) -> i64 {
    text.parse::<DateTime<Utc>>().unwrap().timestamp_millis()
}
