//! Pushes that are genuine, and every way in which they are not.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::*;
use crate::providers::google_play::tests::testkit::{
    AUDIENCE, EMAIL, FakeGoogle, RsaKey, SUBSCRIPTION, http, push_claims, unix_now,
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn body() -> Vec<u8> {
    json!({"message": {"data": "e30=", "messageId": "m-1", "message_id": "m-1"},
        "subscription": SUBSCRIPTION})
    .to_string()
    .into_bytes()
}

fn headers(bearer: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        "authorization",
        HeaderValue::from_str(&format!("Bearer {bearer}")).unwrap(),
    );
    headers
}

async fn setup() -> (FakeGoogle, PushVerifier) {
    let google = FakeGoogle::start().await;
    let verifier = PushVerifier::new(&google.push_config(), &http()).unwrap();
    (google, verifier)
}

async fn verify(verifier: &PushVerifier, bearer: &str) -> Result<Authentic, PushError> {
    verifier
        .verify(&headers(bearer), &body(), Moment::now())
        .await
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = push_claims();
    claims[name] = value;
    claims
}

#[tokio::test]
async fn a_genuine_push_is_believed_under_its_message_id() {
    let (google, verifier) = setup().await;
    for issuer in ["https://accounts.google.com", "accounts.google.com"] {
        let bearer = google.push_key.sign(&with("iss", json!(issuer)));
        let authentic = verify(&verifier, &bearer).await.unwrap();
        assert_eq!(authentic.event_id, "m-1");
    }
    assert_eq!(google.count("/certs"), 1, "keys are cached");
    let snake = json!({"message": {"message_id": "m-2"}, "subscription": SUBSCRIPTION}).to_string();
    assert_eq!(
        verifier.verify_body(snake.as_bytes()).unwrap().event_id,
        "m-2"
    );
}

#[tokio::test]
async fn claims_of_anybody_else_are_refused() {
    let (google, verifier) = setup().await;
    let now = unix_now();
    let cases = [
        (
            with("iss", json!("https://accounts.google.com.evil.example")),
            TokenError::Mismatch("issuer"),
        ),
        (with("iss", json!("")), TokenError::Mismatch("issuer")),
        (
            with("aud", json!("https://evil.example")),
            TokenError::Mismatch("audience"),
        ),
        (with("aud", json!([AUDIENCE])), TokenError::Claims),
        (
            with("email", json!("other@example.iam.gserviceaccount.com")),
            TokenError::Mismatch("e-mail address"),
        ),
        (
            with("email", json!(EMAIL.to_uppercase())),
            TokenError::Mismatch("e-mail address"),
        ),
        (with("email", Value::Null), TokenError::Claims),
        (
            with("email_verified", json!(false)),
            TokenError::EmailNotVerified,
        ),
        (with("email_verified", json!("true")), TokenError::Claims),
        (with("exp", json!(now - 61)), TokenError::Claims),
        (json!({"iss": "accounts.google.com"}), TokenError::Claims),
        (
            with("exp", json!((now + 60).to_string())),
            TokenError::Claims,
        ),
        (with("exp", json!(now as f64 + 60.5)), TokenError::Claims),
        (with("exp", json!([now + 60])), TokenError::Claims),
        (with("exp", Value::Null), TokenError::Claims),
        (with("exp", json!(u64::MAX)), TokenError::Claims),
        (with("exp", json!(-1)), TokenError::Claims),
        (with("iat", json!(now + 120)), TokenError::NotYetValid),
        (with("iat", json!("now")), TokenError::Claims),
        (with("nbf", json!(now + 120)), TokenError::NotYetValid),
    ];
    for (claims, expected) in cases {
        let refused = verify(&verifier, &google.push_key.sign(&claims)).await;
        assert_eq!(refused.unwrap_err(), PushError::Token(expected), "{claims}");
    }
    let twice = push_claims()
        .to_string()
        .replacen('{', r#"{"email":"evil@example.com","#, 1);
    let header = r#"{"alg":"RS256","kid":"google-1"}"#;
    let refused = verify(&verifier, &google.push_key.sign_text(header, &twice)).await;
    assert_eq!(refused.unwrap_err(), PushError::Token(TokenError::Claims));
}

#[tokio::test]
async fn tokens_end_a_minute_after_their_time() {
    let (google, verifier) = setup().await;
    let bearer = google.push_key.sign(&push_claims());
    let (headers, body) = (headers(&bearer), body());
    let at = |time| verifier.verify(&headers, &body, Moment::now().after(time));
    assert!(at(HOUR + Duration::from_secs(55)).await.is_ok());
    let expired = at(HOUR + Duration::from_secs(61)).await.unwrap_err();
    assert_eq!(expired, PushError::Token(TokenError::Expired));
}

#[tokio::test]
async fn a_token_chooses_neither_its_key_nor_its_algorithm() {
    let (google, verifier) = setup().await;
    let key = &google.push_key;
    let claims = push_claims().to_string();
    let headers = [
        (
            r#"{"alg":"RS256","kid":"google-1","jku":"https://evil.example"}"#,
            TokenError::HeaderParameter,
        ),
        (
            r#"{"alg":"RS256","kid":"google-1","jwk":{}}"#,
            TokenError::HeaderParameter,
        ),
        (
            r#"{"alg":"RS256","kid":"google-1","x5u":null}"#,
            TokenError::HeaderParameter,
        ),
        (
            r#"{"alg":"RS256","kid":"google-1","crit":["b64"],"b64":false}"#,
            TokenError::HeaderParameter,
        ),
        (
            r#"{"alg":"RS256","kid":"google-1","typ":"logout+jwt"}"#,
            TokenError::HeaderParameter,
        ),
        (r#"{"alg":"RS256","kid":""}"#, TokenError::HeaderParameter),
        (r#"{"alg":"RS256"}"#, TokenError::Malformed),
        (
            r#"{"alg":"RS256","kid":["google-1"]}"#,
            TokenError::Malformed,
        ),
        (
            r#"{"alg":"RS256","alg":"none","kid":"google-1"}"#,
            TokenError::Malformed,
        ),
        (r#"{"alg":"none","kid":"google-1"}"#, TokenError::Algorithm),
        (r#"{"alg":"RS512","kid":"google-1"}"#, TokenError::Algorithm),
        (r#"{"alg":"rs256","kid":"google-1"}"#, TokenError::Algorithm),
        ("[]", TokenError::Malformed),
    ];
    for (header, expected) in headers {
        let refused = verify(&verifier, &key.sign_text(header, &claims))
            .await
            .unwrap_err();
        assert_eq!(refused, PushError::Token(expected), "{header}");
    }
    // The public key as an HMAC secret.
    let signed = key.sign_text(r#"{"alg":"HS256","kid":"google-1"}"#, &claims);
    let (message, _) = signed.rsplit_once('.').unwrap();
    let secret = EncodingKey::from_secret(key.jwk().to_string().as_bytes());
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &secret, Algorithm::HS256).unwrap();
    let refused = verify(&verifier, &format!("{message}.{signature}"))
        .await
        .unwrap_err();
    assert_eq!(refused, PushError::Token(TokenError::Algorithm));
    // Another key under a name that Google publishes, and a claim changed after signing.
    let forged = RsaKey::generate("google-1").sign(&push_claims());
    let good = key.sign(&push_claims());
    let mut parts: Vec<&str> = good.split('.').collect();
    let other = key.sign(&with("sub", json!("2")));
    parts[1] = other.split('.').nth(1).unwrap();
    for bearer in [forged, parts.join(".")] {
        let refused = verify(&verifier, &bearer).await.unwrap_err();
        assert_eq!(refused, PushError::Token(TokenError::Signature));
    }
}

#[tokio::test]
async fn a_push_without_a_readable_token_is_refused() {
    let (google, verifier) = setup().await;
    let good = google.push_key.sign(&push_claims());
    let missing = verifier
        .verify(&HeaderMap::new(), &body(), Moment::now())
        .await;
    assert_eq!(missing.unwrap_err(), PushError::Token(TokenError::Missing));
    let mut basic = HeaderMap::new();
    basic.insert("authorization", HeaderValue::from_static("Basic dTpw"));
    let mut twice = headers(&good);
    twice.append("authorization", HeaderValue::from_static("Bearer x"));
    for headers in [basic, twice] {
        let refused = verifier
            .verify(&headers, &body(), Moment::now())
            .await
            .unwrap_err();
        assert_eq!(refused, PushError::Token(TokenError::Missing));
    }
    let long = "a".repeat(9000);
    for bearer in [
        "a",
        "a.b",
        "..",
        "a.b.c.d",
        &good[..good.len() - 1],
        &format!("{good}="),
        &long,
    ] {
        assert!(
            matches!(verify(&verifier, bearer).await, Err(PushError::Token(_))),
            "{}",
            bearer.len()
        );
    }
}

#[tokio::test]
async fn the_body_must_be_of_the_configured_subscription() {
    let (google, verifier) = setup().await;
    let headers = headers(&google.push_key.sign(&push_claims()));
    let other =
        json!({"message": {"messageId": "1"}, "subscription": "projects/example/subscriptions/x"});
    let nameless = json!({"message": {"data": ""}, "subscription": SUBSCRIPTION});
    let cases = [
        (other.to_string(), PushError::Subscription),
        (nameless.to_string(), PushError::NoMessageId),
        (
            json!({"version": "1.0", "packageName": "com.example.app"}).to_string(),
            PushError::NotAPush,
        ),
        (String::new(), PushError::NotAPush),
        ("x".repeat(BODY_BYTES_MAX + 1), PushError::TooLarge),
    ];
    for (body, expected) in cases {
        let refused = verifier
            .verify(&headers, body.as_bytes(), Moment::now())
            .await
            .unwrap_err();
        assert_eq!(refused, expected);
        assert!(matches!(Rejection::from(refused), Rejection::Forged(_)));
    }
}

#[tokio::test]
async fn a_storm_of_unknown_keys_costs_one_fetch_a_minute() {
    let (google, verifier) = setup().await;
    let genuine = google.push_key.sign(&push_claims());
    verify(&verifier, &genuine).await.unwrap();
    let stranger = RsaKey::generate("nobody").sign(&push_claims());
    let start = Moment::now();
    let storm = |at: Moment| {
        let (verifier, headers, body) = (&verifier, headers(&stranger), body());
        async move {
            let calls = (0..200).map(|_| verifier.verify(&headers, &body, at));
            for refused in futures::future::join_all(calls).await {
                assert_eq!(refused.unwrap_err(), PushError::Key(KeyError::Unknown));
            }
        }
    };
    storm(start).await;
    assert_eq!(
        google.count("/certs"),
        1,
        "the last fetch was within the minute"
    );
    for minute in 1..=3 {
        storm(start.after(MINUTE * minute + Duration::from_secs(1))).await;
        assert_eq!(google.count("/certs"), 1 + minute as usize);
    }
    assert!(verify(&verifier, &genuine).await.is_ok());
}

#[tokio::test]
async fn a_rotated_key_is_found_without_waiting_for_the_cache() {
    let (google, verifier) = setup().await;
    verify(&verifier, &google.push_key.sign(&push_claims()))
        .await
        .unwrap();
    let next = RsaKey::generate("google-2");
    google.script(|script| script.keys.push(next.jwk()));
    let headers = headers(&next.sign(&push_claims()));
    let later = Moment::now().after(MINUTE + Duration::from_secs(1));
    assert!(verifier.verify(&headers, &body(), later).await.is_ok());
}

#[tokio::test]
async fn an_unreachable_key_server_is_our_trouble_not_the_senders() {
    let (google, verifier) = setup().await;
    google.script(|script| script.keys_down = true);
    let genuine = google.push_key.sign(&push_claims());
    let away = verify(&verifier, &genuine).await.unwrap_err();
    assert_eq!(away, PushError::Key(KeyError::Unavailable));
    assert!(matches!(Rejection::from(away), Rejection::Unavailable(_)));

    google.script(|script| script.keys_down = false);
    let start = Moment::now().after(Duration::from_secs(10));
    let headers_now = headers(&genuine);
    assert!(verifier.verify(&headers_now, &body(), start).await.is_ok());

    google.script(|script| script.keys_down = true);
    let at = |hours: u32| {
        // The token must be good at that time; only the keys are old.
        let after = start.after(HOUR * hours);
        let mut claims = push_claims();
        let now = unix_now() + u64::from(hours) * 3600;
        claims["iat"] = json!(now);
        claims["exp"] = json!(now + 3600);
        (headers(&google.push_key.sign(&claims)), after)
    };
    for hours in [2, 23] {
        let (headers, moment) = at(hours);
        assert!(
            verifier.verify(&headers, &body(), moment).await.is_ok(),
            "{hours} h old keys"
        );
    }
    let stranger = headers(&RsaKey::generate("google-3").sign(&push_claims()));
    let refused = verifier
        .verify(&stranger, &body(), start.after(HOUR / 2))
        .await
        .unwrap_err();
    assert_eq!(
        refused,
        PushError::Key(KeyError::Unavailable),
        "it may be a new key"
    );
    let (headers, moment) = at(25);
    let refused = verifier
        .verify(&headers, &body(), moment)
        .await
        .unwrap_err();
    assert_eq!(refused, PushError::Key(KeyError::Unavailable));
}

#[tokio::test]
async fn keys_for_other_uses_are_left_out() {
    let (google, verifier) = setup().await;
    let changes = [
        ("use", "enc"),
        ("alg", "RS512"),
        ("kty", "EC"),
        ("n", "AQAB"),
    ];
    google.script(|script| {
        let good = script.keys.remove(0);
        script.keys = changes
            .iter()
            .map(|(name, value)| {
                let mut key = good.clone();
                key[*name] = json!(value);
                key
            })
            .collect();
    });
    let refused = verify(&verifier, &google.push_key.sign(&push_claims()))
        .await
        .unwrap_err();
    assert_eq!(
        refused,
        PushError::Key(KeyError::Unavailable),
        "a set without one usable key"
    );
}
