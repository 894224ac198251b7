//! For tests only: a Google on loopback that signs, publishes keys, grants tokens and answers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::StatusCode;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::config::google_play::{GooglePlayConfig, PushConfig};
use crate::http::HttpClient;

pub(crate) const AUDIENCE: &str = "https://entitled.example.com/webhooks/google-play";
pub(crate) const EMAIL: &str = "push@example.iam.gserviceaccount.com";
pub(crate) const SUBSCRIPTION: &str = "projects/example/subscriptions/play";
pub(crate) const API: &str = "/androidpublisher/v3/applications/com.example.app";

/// A fresh RSA key.
pub(crate) struct RsaKey {
    pub(crate) kid: String,
    pub(crate) pem: String,
    pub(crate) encoding: EncodingKey,
}

impl RsaKey {
    pub(crate) fn generate(kid: &str) -> Self {
        Self::named(kid, generate_pem())
    }

    fn named(kid: &str, pem: String) -> Self {
        let encoding = EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
        Self {
            kid: kid.to_owned(),
            pem,
            encoding,
        }
    }

    pub(crate) fn jwk(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.encoding, Algorithm::RS256).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!("RS256");
        jwk
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "RS256", "kid": self.kid, "typ": "JWT"});
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let (header, claims) = (
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims),
        );
        let signed = format!("{header}.{claims}");
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &self.encoding, Algorithm::RS256)
                .unwrap();
        format!("{signed}.{signature}")
    }
}

/// Every fake Google has the same two: making a key takes a while.
static ACCOUNT_PEM: LazyLock<String> = LazyLock::new(generate_pem);
static PUSH_PEM: LazyLock<String> = LazyLock::new(generate_pem);

fn generate_pem() -> String {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let body = STANDARD.encode(der.as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
}

pub(crate) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// The claims that Google puts on a push to us.
pub(crate) fn push_claims() -> Value {
    let now = unix_now();
    json!({
        "iss": "https://accounts.google.com", "aud": AUDIENCE, "azp": "1", "sub": "1",
        "email": EMAIL, "email_verified": true, "iat": now, "exp": now + 3600,
    })
}

/// What Google would say, and what it was asked.
#[derive(Default)]
pub(crate) struct Script {
    /// Every call with its query and body, below the application.
    pub(crate) sent: Vec<String>,
    /// By `METHOD path`; the last answer of a queue repeats.
    pub(crate) answers: HashMap<String, VecDeque<(StatusCode, Value)>>,
    pub(crate) keys: Vec<Value>,
    pub(crate) keys_down: bool,
    pub(crate) token_seconds: Option<u64>,
    pub(crate) token_status: Option<StatusCode>,
    pub(crate) retry_after: Option<u64>,
    /// `METHOD path`, in order.
    pub(crate) calls: Vec<String>,
    pub(crate) bearers: Vec<String>,
    pub(crate) assertions: Vec<String>,
}

pub(crate) struct FakeGoogle {
    pub(crate) url: String,
    script: Arc<Mutex<Script>>,
    pub(crate) account: RsaKey,
    pub(crate) push_key: RsaKey,
}

impl FakeGoogle {
    pub(crate) async fn start() -> Self {
        let push_key = RsaKey::named("google-1", PUSH_PEM.clone());
        let script = Script {
            keys: vec![push_key.jwk()],
            ..Script::default()
        };
        let script = Arc::new(Mutex::new(script));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&script));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let account = RsaKey::named("account-1", ACCOUNT_PEM.clone());
        Self {
            url,
            script,
            account,
            push_key,
        }
    }

    pub(crate) fn script<T>(&self, act: impl FnOnce(&mut Script) -> T) -> T {
        act(&mut self.script.lock().unwrap())
    }

    /// Answers `METHOD` on a path below the application.
    pub(crate) fn on(&self, call: &str, status: u16, body: Value) {
        let (method, path) = call.split_once(' ').unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        let call = format!("{method} {API}{path}");
        self.script(|script| {
            script
                .answers
                .entry(call)
                .or_default()
                .push_back((status, body))
        });
    }

    /// Calls whose path contains `part`.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.script(|script| {
            script
                .calls
                .iter()
                .filter(|call| call.contains(part))
                .count()
        })
    }

    pub(crate) fn config(&self) -> GooglePlayConfig {
        let account = json!({
            "type": "service_account", "client_email": "server@example.iam.gserviceaccount.com",
            "private_key": self.account.pem, "private_key_id": self.account.kid,
            "token_uri": format!("{}/token", self.url),
        });
        GooglePlayConfig {
            service_account_file: None,
            service_account: Some(account.to_string().into()),
            base_url: self.url.clone(),
            token_uri: None,
            push: Some(self.push_config()),
        }
    }

    pub(crate) fn push_config(&self) -> PushConfig {
        PushConfig {
            audience: AUDIENCE.to_owned(),
            email: EMAIL.to_owned(),
            subscription: SUBSCRIPTION.to_owned(),
            jwks_url: format!("{}/certs", self.url),
            issuer: None,
        }
    }
}

pub(crate) fn http() -> HttpClient {
    HttpClient::new(Duration::from_secs(2)).unwrap()
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response {
    let call = format!("{} {}", request.method(), request.uri().path());
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let bearer = head
        .headers
        .get("authorization")
        .map(|value| value.to_str().unwrap().to_owned());
    if call == "POST /token" {
        // Long enough for others to queue up behind it.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut script = script.lock().unwrap();
    script.calls.push(call.clone());
    let query = head.uri.query().unwrap_or_default();
    let said = String::from_utf8_lossy(&body);
    script
        .sent
        .push(format!("{call}?{query} {said}").replace(API, ""));
    script.bearers.extend(bearer);
    match call.as_str() {
        "GET /certs" if script.keys_down => StatusCode::BAD_GATEWAY.into_response(),
        "GET /certs" => {
            let keys = json!({"keys": script.keys}).to_string();
            ([("cache-control", "public, max-age=3600")], keys).into_response()
        }
        "POST /token" => grant(&mut script, &body),
        _ => scripted(&mut script, &call),
    }
}

fn grant(script: &mut Script, form: &Bytes) -> Response {
    let form = String::from_utf8(form.to_vec()).unwrap();
    let (grant_type, assertion) = form.split_once("&assertion=").unwrap();
    assert_eq!(
        grant_type,
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer"
    );
    script.assertions.push(assertion.to_owned());
    if let Some(status) = script.token_status {
        return (status, json!({"error": "invalid_grant"}).to_string()).into_response();
    }
    let token = format!("access-{}", script.assertions.len());
    let seconds = script.token_seconds.unwrap_or(3599);
    json!({"access_token": token, "expires_in": seconds, "token_type": "Bearer"})
        .to_string()
        .into_response()
}

fn scripted(script: &mut Script, call: &str) -> Response {
    let Some(queue) = script.answers.get_mut(call) else {
        return error(404, "purchaseTokenNotFound").into_response();
    };
    let (status, body) = if queue.len() > 1 {
        queue.pop_front().unwrap()
    } else {
        queue[0].clone()
    };
    let mut response = (status, body.to_string()).into_response();
    if let Some(seconds) = script.retry_after {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}

fn error(code: u16, reason: &str) -> (StatusCode, String) {
    (
        StatusCode::from_u16(code).unwrap(),
        error_body(code, reason).to_string(),
    )
}

pub(crate) fn error_body(code: u16, reason: &str) -> Value {
    json!({"error": {"code": code, "message": "said with the token in it", "status": "S",
        "errors": [{"domain": "androidpublisher", "reason": reason, "message": "m"}]}})
}
