//! Every identity provider's own rules: what its apps really send, and what must not pass for it.

use serde_json::{Value, json};

use super::super::presets::Issuer;
use super::super::refresh::{Keys, Location};
use super::super::{Caller, Cause};
use super::support::{KEYS, Site, Time, authenticator, present, token, with};
use crate::config::issuers::Issuers;
use crate::http::HttpClient;

const NOW: u64 = Time::NOW;

/// One provider: its configuration, a genuine token, and what each change to that token gives.
struct Row {
    config: &'static str,
    genuine: Value,
    accepted: Vec<Value>,
    refused: Vec<(Value, Cause)>,
    anonymous: Vec<Value>,
}

async fn check(row: Row) {
    let site = Site::with_keys(vec![KEYS.rs256.jwk("k")]).await;
    let config = row.config.replace("SITE", &site.base);
    let toml = format!(
        "[[issuers]]\nname = \"app\"\njwks_url = \"{}/keys\"\n{config}",
        site.base
    );
    let auth = authenticator(&toml);
    let genuine = row.genuine.to_string().replace("SITE", &site.base);
    let times = json!({ "exp": NOW + 3600, "iat": NOW });
    let genuine = with(&serde_json::from_str(&genuine).unwrap(), times);
    let header = json!({ "alg": "RS256", "kid": "k", "typ": "JWT" });
    let ask = async |changes: &Value| {
        let token = token(&header, &with(&genuine, changes.clone()), &KEYS.rs256);
        present(&auth, &token, Time::start()).await
    };
    let anonymous = |caller: std::sync::Arc<Caller>| caller.anonymous;
    for changes in [json!({})].iter().chain(&row.accepted) {
        assert_eq!(
            ask(changes).await.map(anonymous),
            Ok(false),
            "{config}\n{changes}"
        );
    }
    for changes in &row.anonymous {
        assert_eq!(
            ask(changes).await.map(anonymous),
            Ok(true),
            "{config}\n{changes}"
        );
    }
    for (changes, cause) in row.refused {
        assert_eq!(
            ask(&changes).await.err(),
            Some(cause),
            "{config}\n{changes}"
        );
    }
    let stranger = with(&header, json!({ "alg": "ES256" }));
    let forged = token(&stranger, &genuine, &KEYS.stranger);
    assert_eq!(
        present(&auth, &forged, Time::start()).await.err(),
        Some(Cause::AlgorithmMismatch)
    );
}

#[tokio::test]
async fn firebase() {
    let provider = |provider: &str| json!({ "firebase": { "sign_in_provider": provider } });
    check(Row {
        config: r#"preset = "firebase"
                   issuer = "https://securetoken.google.com/my-project""#,
        genuine: json!({
            "iss": "https://securetoken.google.com/my-project", "aud": "my-project",
            "sub": "uid1", "user_id": "uid1", "auth_time": NOW - 100,
            "firebase": { "identities": {}, "sign_in_provider": "google.com" },
        }),
        accepted: vec![provider("custom"), json!({ "firebase": null })],
        anonymous: vec![provider("anonymous")],
        refused: vec![
            (json!({ "aud": "other-project" }), Cause::Audience),
            (
                json!({ "iss": "https://securetoken.google.com/other" }),
                Cause::IssuerUnknown,
            ),
            (
                json!({ "iss": "https://session.firebase.google.com/my-project" }),
                Cause::IssuerUnknown,
            ),
            (json!({ "auth_time": NOW + 61 }), Cause::NotYetValid),
            (json!({ "auth_time": "yesterday" }), Cause::TimeMalformed),
            (json!({ "sub": "" }), Cause::Subject),
        ],
    })
    .await;
}

#[tokio::test]
async fn auth0() {
    check(Row {
        config: r#"preset = "auth0"
                   issuer = "https://tenant.eu.auth0.com/"
                   audience = ["https://api.example.com"]
                   authorized_parties = ["native-app"]"#,
        genuine: json!({
            "iss": "https://tenant.eu.auth0.com/", "sub": "auth0|123", "azp": "native-app",
            "aud": ["https://api.example.com", "https://tenant.eu.auth0.com/userinfo"],
            "scope": "openid profile",
        }),
        accepted: vec![json!({ "aud": "https://api.example.com" })],
        anonymous: vec![],
        refused: vec![
            (json!({ "aud": "native-app" }), Cause::Audience),
            (
                json!({ "aud": ["https://tenant.eu.auth0.com/userinfo"] }),
                Cause::Audience,
            ),
            (json!({ "azp": "another-app" }), Cause::AuthorizedParty),
            (json!({ "azp": null }), Cause::AuthorizedParty),
            (json!({ "azp": ["native-app"] }), Cause::AuthorizedParty),
            (
                json!({ "iss": "https://tenant.eu.auth0.com" }),
                Cause::IssuerUnknown,
            ),
        ],
    })
    .await;
}

#[tokio::test]
async fn cognito_access_tokens() {
    check(Row {
        config: r#"preset = "cognito"
                   issuer = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Pool"
                   audience = ["client-ios", "client-android"]"#,
        genuine: json!({
            "iss": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Pool", "sub": "uuid",
            "client_id": "client-ios", "token_use": "access", "scope": "openid",
        }),
        accepted: vec![
            json!({ "client_id": "client-android" }),
            json!({ "aud": "https://bound-resource.example" }),
        ],
        anonymous: vec![],
        refused: vec![
            (json!({ "client_id": "other" }), Cause::Audience),
            (
                json!({ "client_id": null, "aud": "client-ios" }),
                Cause::Audience,
            ),
            (json!({ "client_id": ["client-ios"] }), Cause::Audience),
            (
                json!({ "token_use": "id", "aud": "client-ios" }),
                Cause::TokenUse,
            ),
            (json!({ "token_use": null }), Cause::TokenUse),
        ],
    })
    .await;
}

#[tokio::test]
async fn cognito_identity_tokens() {
    check(Row {
        config: r#"preset = "cognito"
                   issuer = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Pool"
                   audience = ["client-ios"]
                   token_use = "id""#,
        genuine: json!({
            "iss": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Pool", "sub": "uuid",
            "aud": "client-ios", "token_use": "id",
        }),
        accepted: vec![],
        anonymous: vec![],
        refused: vec![
            (json!({ "aud": "other" }), Cause::Audience),
            (
                json!({ "aud": null, "client_id": "client-ios" }),
                Cause::Audience,
            ),
            (
                json!({ "token_use": "access", "client_id": "client-ios" }),
                Cause::TokenUse,
            ),
        ],
    })
    .await;
}

#[tokio::test]
async fn supabase() {
    check(Row {
        config: r#"preset = "supabase"
                   issuer = "https://ref.supabase.co/auth/v1""#,
        genuine: json!({
            "iss": "https://ref.supabase.co/auth/v1", "aud": "authenticated", "role": "authenticated",
            "sub": "123e4567-e89b-12d3-a456-426614174000", "is_anonymous": false,
        }),
        accepted: vec![json!({ "is_anonymous": null }), json!({ "is_anonymous": "true" })],
        anonymous: vec![json!({ "is_anonymous": true })],
        refused: vec![
            (json!({ "aud": "anon" }), Cause::Audience),
            (json!({ "aud": null, "role": "service_role" }), Cause::Audience),
            (json!({ "iss": "supabase" }), Cause::IssuerUnknown),
        ],
    })
    .await;
}

#[tokio::test]
async fn clerk() {
    check(Row {
        config: r#"preset = "clerk"
                   issuer = "https://clerk.example.com"
                   authorized_parties = ["https://app.example.com"]"#,
        genuine: json!({
            "iss": "https://clerk.example.com", "sub": "user_2abc", "sid": "sess_1", "nbf": NOW - 5,
            "azp": "https://app.example.com",
        }),
        accepted: vec![json!({ "azp": null }), json!({ "sts": "active" })],
        anonymous: vec![],
        refused: vec![
            (
                json!({ "azp": "https://evil.example.com" }),
                Cause::AuthorizedParty,
            ),
            (
                json!({ "azp": "https://app.example.com.evil" }),
                Cause::AuthorizedParty,
            ),
            (
                json!({ "azp": ["https://app.example.com"] }),
                Cause::AuthorizedParty,
            ),
            (json!({ "azp": "" }), Cause::AuthorizedParty),
            (
                json!({ "aud": "template-for-another-service" }),
                Cause::Audience,
            ),
            (json!({ "sts": "pending" }), Cause::SignInPending),
        ],
    })
    .await;
}

#[tokio::test]
async fn keycloak() {
    let genuine = json!({
        "iss": "https://id.example.com/realms/shop", "sub": "f:1:user", "aud": "account",
        "azp": "mobile", "typ": "Bearer", "scope": "openid",
    });
    check(Row {
        config: r#"preset = "keycloak"
                   issuer = "https://id.example.com/realms/shop"
                   authorized_parties = ["mobile"]"#,
        genuine: genuine.clone(),
        accepted: vec![
            json!({ "aud": null }),
            json!({ "azp": null, "client_id": "mobile" }),
        ],
        anonymous: vec![],
        refused: vec![
            (json!({ "azp": "admin-cli" }), Cause::AuthorizedParty),
            (
                json!({ "azp": "admin-cli", "client_id": "mobile" }),
                Cause::AuthorizedParty,
            ),
            (json!({ "azp": null }), Cause::AuthorizedParty),
            (json!({ "typ": "ID" }), Cause::TokenUse),
            (json!({ "typ": "Refresh" }), Cause::TokenUse),
            (json!({ "typ": "Offline" }), Cause::TokenUse),
            (json!({ "typ": "Logout" }), Cause::TokenUse),
            (json!({ "typ": null }), Cause::TokenUse),
            (
                json!({ "iss": "https://id.example.com/realms/other" }),
                Cause::IssuerUnknown,
            ),
        ],
    })
    .await;
    check(Row {
        config: r#"preset = "keycloak"
                   issuer = "https://id.example.com/realms/shop"
                   audience = ["entitled"]"#,
        genuine: with(&genuine, json!({ "aud": ["account", "entitled"] })),
        accepted: vec![json!({ "azp": "anything" })],
        anonymous: vec![],
        refused: vec![(json!({ "aud": "account" }), Cause::Audience)],
    })
    .await;
}

#[tokio::test]
async fn apple() {
    check(Row {
        config: r#"preset = "apple"
                   audience = ["com.example.app"]"#,
        genuine: json!({
            "iss": "https://appleid.apple.com", "aud": "com.example.app", "sub": "000001.abc.0001",
            "nonce_supported": true, "email_verified": "true", "auth_time": NOW,
        }),
        accepted: vec![],
        anonymous: vec![],
        refused: vec![
            (json!({ "aud": "com.example.other" }), Cause::Audience),
            (
                json!({ "events": "{\"type\":\"consent-revoked\"}" }),
                Cause::TokenUse,
            ),
        ],
    })
    .await;
}

#[tokio::test]
async fn generic_oidc() {
    check(Row {
        config: r#"preset = "oidc"
                   issuer = "SITE"
                   audience = ["api"]
                   authorized_parties = ["ios", "android"]
                   subject_claim = "oid""#,
        genuine: json!({ "iss": "SITE", "aud": "api", "client_id": "ios", "oid": "u", "sub": "pairwise" }),
        accepted: vec![json!({ "azp": "android", "client_id": null })],
        anonymous: vec![],
        refused: vec![
            (json!({ "client_id": "web" }), Cause::AuthorizedParty),
            (json!({ "azp": "web" }), Cause::AuthorizedParty),
            (json!({ "oid": null }), Cause::Subject),
            (json!({ "aud": null }), Cause::Audience),
        ],
    })
    .await;
}

#[test]
fn key_sets_are_where_the_provider_says() {
    let issuer = |toml: &str| {
        let toml = format!("[[issuers]]\nname = \"app\"\n{toml}");
        let config: std::collections::HashMap<String, Issuers> = toml::from_str(&toml).unwrap();
        let config = config["issuers"].0[0].clone();
        let http = HttpClient::new(std::time::Duration::from_secs(1)).unwrap();
        match Issuer::new(config, &http).unwrap().keys {
            Keys::Fetched(keys) => keys.location().clone(),
            Keys::Fixed(_) | Keys::Own(_) => panic!("fetched"),
        }
    };
    let at = |url: &str| Location::KeySet(url.to_owned());
    let cases = [
        (
            "preset = \"firebase\"\nissuer = \"https://securetoken.google.com/p\"",
            at(
                "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com",
            ),
        ),
        (
            "preset = \"auth0\"\nissuer = \"https://t.auth0.com/\"",
            at("https://t.auth0.com/.well-known/jwks.json"),
        ),
        (
            "preset = \"cognito\"\nissuer = \"https://cognito-idp.eu.amazonaws.com/P\"",
            at("https://cognito-idp.eu.amazonaws.com/P/.well-known/jwks.json"),
        ),
        (
            "preset = \"supabase\"\nissuer = \"https://r.supabase.co/auth/v1\"",
            at("https://r.supabase.co/auth/v1/.well-known/jwks.json"),
        ),
        (
            "preset = \"clerk\"\nissuer = \"https://clerk.example.com\"",
            at("https://clerk.example.com/.well-known/jwks.json"),
        ),
        (
            "preset = \"keycloak\"\nissuer = \"https://h/realms/r\"",
            at("https://h/realms/r/protocol/openid-connect/certs"),
        ),
        (
            "preset = \"apple\"",
            at("https://appleid.apple.com/auth/keys"),
        ),
        (
            "preset = \"oidc\"\nissuer = \"https://h/x/\"",
            Location::Discovery {
                issuer: "https://h/x/".to_owned(),
                url: "https://h/x/.well-known/openid-configuration".to_owned(),
            },
        ),
        (
            "preset = \"apple\"\njwks_url = \"https://mirror.example/keys\"",
            at("https://mirror.example/keys"),
        ),
    ];
    for (toml, expected) in cases {
        assert_eq!(issuer(toml), expected);
    }
}
