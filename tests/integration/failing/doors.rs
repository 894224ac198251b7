//! Strangers at the webhooks: who is not the store is turned away, and nothing of it is kept.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entitled::sandbox::{Endpoint, IdentityToken, PushToken, Store, forge};
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::forged::{buy_yearly, payload};
use super::stores::buy_premium;
use crate::books::Books;
use crate::support::World;

/// A sender that may be anybody.
pub(super) struct Sender {
    http: reqwest::Client,
    base: String,
}

impl Sender {
    pub(super) fn to(world: &World) -> Self {
        let base = world.stack.app.webhooks_url().expect("webhooks");
        Self {
            http: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client"),
            base,
        }
    }

    pub(super) async fn apple(&self, body: impl Into<reqwest::Body>) -> u16 {
        let request = self
            .http
            .post(format!("{}/webhooks/app-store", self.base))
            .body(body);
        request.send().await.expect("an answer").status().as_u16()
    }

    /// With each of `credentials` as a header of its own.
    pub(super) async fn google(
        &self,
        body: impl Into<reqwest::Body>,
        credentials: &[String],
    ) -> u16 {
        let mut request = self
            .http
            .post(format!("{}/webhooks/google-play", self.base))
            .body(body);
        for credential in credentials {
            request = request.header(AUTHORIZATION, credential);
        }
        request.send().await.expect("an answer").status().as_u16()
    }
}

/// The body of the latest notification of a store, which nobody has heard yet.
pub(super) fn unheard(world: &World, store: Store) -> String {
    let all = world.stack.sandbox.notifications();
    all.into_iter()
        .rfind(|record| record.source == store)
        .expect("a notification")
        .body
}

pub(super) fn push_token(world: &World, claims: &Value) -> String {
    let claims = claims.as_object().expect("claims").clone();
    world
        .stack
        .sandbox
        .push_token(&PushToken {
            claims,
            by_stranger: false,
        })
        .expect("a token")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_forged_app_store_notification_is_taken() {
    let world = World::still().await;
    world
        .stack
        .sandbox
        .hold_deliveries(true)
        .await
        .expect("held");
    buy_yearly(&world, "alice", None).await;
    let books = Books::of(&world).await;
    let before = books.kept().await;
    let sender = Sender::to(&world);
    let genuine = unheard(&world, Store::AppStore);
    let body: Value = serde_json::from_str(&genuine).expect("JSON");
    let claims = payload(body["signedPayload"].as_str().expect("a document"));
    for forgery in forge::apple_variants(&world.stack.sandbox, &claims).expect("forged") {
        let body = json!({ "signedPayload": forgery.jws }).to_string();
        assert_eq!(sender.apple(body).await, 401, "{}", forgery.name);
    }
    let inner = claims["data"]["signedTransactionInfo"].clone();
    let strange = [
        String::new(),
        "{}".to_owned(),
        "null".to_owned(),
        "not json".to_owned(),
        json!({ "signedPayload": 1 }).to_string(),
        json!([genuine]).to_string(),
        format!("\u{feff}{genuine}"),
        format!("{genuine}{genuine}"),
        // Twice the same name: whoever reads the first and whoever reads the last would differ.
        format!("{{\"signedPayload\":\"x\",{}", &genuine[1..]),
        // Signed by Apple, and no notification.
        json!({ "signedPayload": inner }).to_string(),
    ];
    for body in strange {
        let start: String = body.chars().take(30).collect();
        assert_eq!(sender.apple(body).await, 401, "{start}");
    }
    assert_eq!(books.kept().await, before, "nothing of it was kept");
    assert_eq!(sender.apple(genuine).await, 200);
    world.settled().await;
    let effects = books.effects().await;
    assert_eq!((effects.notifications, effects.unfinished), (1, 0));
    world.stop().await;
}

/// Bearer tokens that are wrong in one way each.
fn forged_tokens(world: &World) -> Vec<(&'static str, String)> {
    let with = |claims: Value| push_token(world, &claims);
    let sandbox = &world.stack.sandbox;
    let good = with(json!({}));
    let (message, signature) = good.rsplit_once('.').expect("a token");
    let (head, claims) = message.split_once('.').expect("a token");
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT","kid":"x"}"#);
    let stranger = PushToken {
        by_stranger: true,
        ..PushToken::default()
    };
    let now = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now()).timestamp();
    vec![
        (
            "another audience",
            with(json!({ "aud": "https://elsewhere.example" })),
        ),
        (
            "a list of audiences",
            with(json!({ "aud": [sandbox.manifest().push.audience] })),
        ),
        (
            "another e-mail",
            with(json!({ "email": "mallory@evil.iam.gserviceaccount.com" })),
        ),
        ("no e-mail", with(json!({ "email": null }))),
        (
            "e-mail not verified",
            with(json!({ "email_verified": false })),
        ),
        (
            "e-mail verified in words",
            with(json!({ "email_verified": "true" })),
        ),
        (
            "e-mail not said to be verified",
            with(json!({ "email_verified": null })),
        ),
        (
            "another issuer",
            with(json!({ "iss": "https://accounts.evil.example" })),
        ),
        ("no issuer", with(json!({ "iss": null }))),
        (
            "expired",
            with(json!({ "iat": now - 7200, "exp": now - 3600 })),
        ),
        (
            "not valid yet",
            with(json!({ "iat": now + 3600, "exp": now + 7200 })),
        ),
        ("no end", with(json!({ "exp": null }))),
        (
            "end in words",
            with(json!({ "exp": (now + 3600).to_string() })),
        ),
        (
            "a stranger's key",
            sandbox.push_token(&stranger).expect("a token"),
        ),
        (
            "the app's identity provider",
            sandbox
                .identity_token(&IdentityToken::of("bob"))
                .expect("a token"),
        ),
        ("algorithm none", format!("{none}.{claims}.")),
        ("no signature", format!("{head}.{claims}.")),
        (
            "signature of another message",
            format!("{head}.{head}.{signature}"),
        ),
        ("nothing", String::new()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_forged_push_is_taken() {
    let world = World::still().await;
    world
        .stack
        .sandbox
        .hold_deliveries(true)
        .await
        .expect("held");
    buy_premium(&world, "bob", None).await;
    let books = Books::of(&world).await;
    let before = books.kept().await;
    let sender = Sender::to(&world);
    let genuine = unheard(&world, Store::GooglePlay);
    for (what, token) in forged_tokens(&world) {
        let status = sender
            .google(genuine.clone(), &[format!("Bearer {token}")])
            .await;
        assert_eq!(status, 401, "{what}");
    }
    let good = push_token(&world, &json!({}));
    let bearer = format!("Bearer {good}");
    assert_eq!(sender.google(genuine.clone(), &[]).await, 401, "no header");
    assert_eq!(
        sender
            .google(genuine.clone(), &[format!("Basic {good}")])
            .await,
        401,
        "basic"
    );
    let twice = [bearer.clone(), bearer.clone()];
    assert_eq!(
        sender.google(genuine.clone(), &twice).await,
        401,
        "two headers"
    );
    // Google's own token, but what it came with is of another subscription, or no push at all.
    let mut elsewhere: Value = serde_json::from_str(&genuine).expect("JSON");
    elsewhere["subscription"] = json!("projects/evil/subscriptions/x");
    for body in [
        elsewhere.to_string(),
        "{}".to_owned(),
        String::new(),
        "[]".to_owned(),
    ] {
        assert_eq!(
            sender.google(body, std::slice::from_ref(&bearer)).await,
            401
        );
    }
    assert_eq!(books.kept().await, before, "nothing of it was kept");
    assert_eq!(sender.google(genuine, &[bearer]).await, 200);
    world.settled().await;
    assert_eq!(books.effects().await.notifications, 1);
    world.stop().await;
}

/// Unknown key ids must not become calls to the key set.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_unknown_keys_is_not_passed_on() {
    let world = World::start().await;
    let sandbox = &world.stack.sandbox;
    let sender = Sender::to(&world);
    sandbox
        .send_test_notification(Store::GooglePlay)
        .await
        .expect("sent");
    let fetched = || {
        sandbox
            .store_calls()
            .get(&Endpoint::GoogleKeys)
            .copied()
            .unwrap_or_default()
    };
    let before = fetched();
    let body = unheard(&world, Store::GooglePlay);
    let claims = URL_SAFE_NO_PAD.encode("{}");
    for number in 0..60 {
        let head = json!({ "alg": "RS256", "typ": "JWT", "kid": format!("unknown-{number}") });
        let head = URL_SAFE_NO_PAD.encode(head.to_string());
        let token = format!(
            "Bearer {head}.{claims}.{}",
            URL_SAFE_NO_PAD.encode([1; 256])
        );
        assert_eq!(sender.google(body.clone(), &[token]).await, 401);
    }
    assert!(fetched() <= before + 1, "{} fetches", fetched() - before);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_and_oversized_bodies_are_refused() {
    let world = World::still().await;
    world
        .stack
        .sandbox
        .hold_deliveries(true)
        .await
        .expect("held");
    buy_yearly(&world, "alice", None).await;
    let books = Books::of(&world).await;
    let before = books.kept().await;
    let sender = Sender::to(&world);
    let genuine = unheard(&world, Store::AppStore);
    let large = vec![b' '; 257 * 1024];
    for path in ["app-store", "google-play"] {
        let url = format!("{}/webhooks/{path}", sender.base);
        for encoding in ["gzip", "zstd", "identity, gzip"] {
            let request = sender.http.post(&url).header(CONTENT_ENCODING, encoding);
            let answer = request
                .body(genuine.clone())
                .send()
                .await
                .expect("an answer");
            assert_eq!(answer.status(), 415, "{path} {encoding}");
        }
        let answer = sender
            .http
            .post(&url)
            .body(large.clone())
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 413, "{path}");
        let first = in_chunks(&sender.base, path, &large).await;
        assert!(
            first.starts_with("HTTP/1.1 413"),
            "{path} in chunks: {first}"
        );
        assert_eq!(
            sender
                .http
                .get(&url)
                .send()
                .await
                .expect("an answer")
                .status(),
            405
        );
    }
    assert_eq!(books.kept().await, before, "nothing of it was kept");
    assert_eq!(sender.apple(genuine).await, 200);
    world.settled().await;
    world.stop().await;
}

/// The first line of the answer to a body whose length is not told beforehand.
async fn in_chunks(base: &str, path: &str, body: &[u8]) -> String {
    let address = base.trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).await.expect("a connection");
    let head = format!(
        "POST /webhooks/{path} HTTP/1.1\r\nhost: {address}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.expect("sent");
    for chunk in body.chunks(16 * 1024) {
        let framed = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
        // The server may have seen enough and hung up.
        if socket.write_all(&framed).await.is_err() {
            break;
        }
    }
    let mut line = String::new();
    BufReader::new(socket)
        .read_line(&mut line)
        .await
        .expect("an answer");
    line
}
