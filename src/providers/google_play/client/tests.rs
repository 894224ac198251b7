//! Statuses, retries, the service account and its access tokens, against a Google on loopback.

#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::{Value, json};

use super::super::tests::testkit::{FakeGoogle, error_body, http, unix_now};
use super::super::tests::{PATH, TOKEN, fetch, purchase, setup};
use crate::providers::contract::FetchError;
use crate::providers::google_play::{GooglePlay, SetupError};

#[tokio::test]
async fn statuses_mean_what_google_says() {
    let cases = [
        (401, "authError", "refuses our credentials", 2),
        (
            403,
            "userInsufficientPermission",
            "refuses our credentials",
            1,
        ),
        (409, "concurrentUpdate", "cannot be asked now", 3),
        (429, "rateLimitExceeded", "cannot be asked now", 3),
        (500, "backendError", "cannot be asked now", 3),
        (503, "backendError", "cannot be asked now", 3),
        (302, "", "cannot be read", 1),
        (418, "", "cannot be read", 1),
    ];
    for (status, reason, expected, tries) in cases {
        let (google, store) = setup().await;
        google.on(&format!("GET {PATH}"), status, error_body(status, reason));
        let error = fetch(&store).await.err().unwrap().to_string();
        assert!(error.contains(expected), "{status}: {error}");
        assert!(
            !error.contains("token in it") && !error.contains(TOKEN),
            "{error}"
        );
        assert_eq!(google.count("subscriptionsv2"), tries, "{status}");
    }
}

#[tokio::test]
async fn a_hiccup_is_retried_and_a_long_pause_is_left_to_the_caller() {
    let (google, store) = setup().await;
    google.on(&format!("GET {PATH}"), 503, json!({}));
    google.on(&format!("GET {PATH}"), 429, json!({}));
    google.on(&format!("GET {PATH}"), 200, purchase(None));
    assert_eq!(fetch(&store).await.unwrap().len(), 1);
    let (google, store) = setup().await;
    google.on(&format!("GET {PATH}"), 429, json!({}));
    google.script(|script| script.retry_after = Some(30));
    let error = fetch(&store).await.err().unwrap();
    let FetchError::Away { retry_after, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(retry_after, Some(std::time::Duration::from_secs(30)));
    assert_eq!(google.count("subscriptionsv2"), 1);
}

#[tokio::test]
async fn the_assertion_is_googles_and_its_token_is_shared() {
    let (google, store) = setup().await;
    google.on(&format!("GET {PATH}"), 200, purchase(None));
    let all = futures::future::join_all((0..20).map(|_| fetch(&store))).await;
    assert!(all.iter().all(Result::is_ok));
    let assertions = google.script(|script| script.assertions.clone());
    assert_eq!(assertions.len(), 1, "one flight for all");
    let jwk = serde_json::from_value(google.account.jwk()).unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    validation.set_audience(&["https://oauth2.googleapis.com/token"]);
    let decoded = jsonwebtoken::decode::<Value>(&assertions[0], &key, &validation).unwrap();
    assert_eq!(decoded.header.kid.as_deref(), Some("account-1"));
    assert_eq!(
        decoded.claims["iss"],
        "server@example.iam.gserviceaccount.com"
    );
    assert_eq!(
        decoded.claims["scope"],
        "https://www.googleapis.com/auth/androidpublisher"
    );
    let (issued, ends) = (&decoded.claims["iat"], &decoded.claims["exp"]);
    assert_eq!(ends.as_u64().unwrap() - issued.as_u64().unwrap(), 3600);
    assert!(issued.as_u64().unwrap() <= unix_now());
}

#[tokio::test]
async fn a_token_about_to_end_is_renewed() {
    for (seconds, asked) in [(3599, 1), (301, 1), (300, 2), (5, 2)] {
        let (google, store) = setup().await;
        google.on(&format!("GET {PATH}"), 200, purchase(None));
        google.script(|script| script.token_seconds = Some(seconds));
        fetch(&store).await.unwrap();
        fetch(&store).await.unwrap();
        assert_eq!(
            google.script(|script| script.assertions.len()),
            asked,
            "{seconds}"
        );
    }
}

#[tokio::test]
async fn a_refused_access_token_is_renewed_once() {
    let (google, store) = setup().await;
    google.on(&format!("GET {PATH}"), 401, error_body(401, "authError"));
    google.on(&format!("GET {PATH}"), 200, purchase(None));
    assert!(fetch(&store).await.is_ok());
    let bearers = google.script(|script| script.bearers.clone());
    assert_eq!(bearers, ["Bearer access-1", "Bearer access-2"]);
}

#[tokio::test]
async fn a_refusing_token_endpoint_is_a_matter_of_credentials() {
    let (google, store) = setup().await;
    google.script(|script| script.token_status = Some(http::StatusCode::BAD_REQUEST));
    let error = fetch(&store).await.err().unwrap();
    assert!(
        matches!(&error, FetchError::Refused(said) if said.contains("invalid_grant")),
        "{error}"
    );
    google.script(|script| script.token_status = Some(http::StatusCode::SERVICE_UNAVAILABLE));
    assert!(matches!(
        fetch(&store).await.err().unwrap(),
        FetchError::Away { .. }
    ));
    assert_eq!(google.count("subscriptionsv2"), 0);
}

#[tokio::test]
async fn a_broken_service_account_is_named_and_never_shown() {
    let google = FakeGoogle::start().await;
    let with = |text: &str| {
        let mut config = google.config();
        config.service_account = Some(text.to_owned().into());
        GooglePlay::new(&config, &http())
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let keyless = r#"{"client_email":"e","private_key":"secret","private_key_id":"k","token_uri":"https://t"}"#;
    assert!(with("secret").contains("JSON") && with(keyless).contains("PEM"));
    assert!(!with("secret").contains("secret") && !with(keyless).contains("secret"));
    let mut config = google.config();
    config.service_account = None;
    assert!(matches!(
        GooglePlay::new(&config, &http()),
        Err(SetupError::NoServiceAccount)
    ));
    config.service_account_file = Some("/nowhere/play.json".into());
    let error = GooglePlay::new(&config, &http()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("/nowhere/play.json"));
}
