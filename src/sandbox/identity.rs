//! The identity provider of the app's users, and the tokens that Google signs its pushes with.
//! Credentials run on machine time: a virtual clock makes none of them older or younger.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::SandboxError;
use super::inner::Inner;
use super::jws::{Algorithm, SigningKey, machine_seconds};
use super::keys;
use super::traffic::Endpoint;

/// Audience of identity tokens unless told otherwise.
pub(super) const AUDIENCE: &str = "entitled-sandbox-app";
/// Who Google says it is.
pub(super) const PUSH_ISSUER: &str = "https://accounts.google.com";
/// Audience configured for the pushes.
pub(super) const PUSH_AUDIENCE: &str = "https://entitled.sandbox/google-play-notifications";
/// The service account whose name the pushes carry.
pub(super) const PUSH_EMAIL: &str = "pusher@entitled-sandbox.iam.gserviceaccount.com";
const LIFETIME_SECONDS: i64 = 3_600;

/// A user's token to be issued.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityToken {
    /// The user.
    pub subject: String,
    /// Seconds of machine time that it is valid for; negative makes one that has expired.
    pub ttl_seconds: i64,
    /// How it is signed.
    pub algorithm: Algorithm,
    /// Claims added or replaced; `null` takes one away.
    pub claims: Map<String, Value>,
}

impl Default for IdentityToken {
    fn default() -> Self {
        Self {
            subject: String::new(),
            ttl_seconds: LIFETIME_SECONDS,
            algorithm: Algorithm::default(),
            claims: Map::new(),
        }
    }
}

impl IdentityToken {
    /// An hour's token for this user.
    pub fn of(subject: &str) -> Self {
        Self {
            subject: subject.to_owned(),
            ..Self::default()
        }
    }
}

/// A push token to be made, genuine unless changed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PushToken {
    /// Claims added or replaced; `null` takes one away.
    pub claims: Map<String, Value>,
    /// Signed by a key that is not Google's but claims its id.
    pub by_stranger: bool,
}

fn override_claims(claims: &mut Value, overrides: &Map<String, Value>) {
    let Some(claims) = claims.as_object_mut() else {
        return;
    };
    for (name, value) in overrides {
        if value.is_null() {
            claims.remove(name);
        } else {
            claims.insert(name.clone(), value.clone());
        }
    }
}

impl Inner {
    pub(super) fn issuer(&self) -> String {
        format!("{}/identity", self.base_url)
    }

    pub(super) fn identity_token(&self, token: &IdentityToken) -> Result<String, SandboxError> {
        let now = machine_seconds();
        let mut claims = json!({
            "iss": self.issuer(),
            "aud": AUDIENCE,
            "sub": token.subject,
            // An expired token was issued before it expired.
            "iat": now.min(now + token.ttl_seconds - 1),
            "exp": now + token.ttl_seconds,
        });
        override_claims(&mut claims, &token.claims);
        self.identity().signer(token.algorithm)?.token(&claims)
    }

    pub(super) fn rotate_identity_keys(&self) -> Result<(), SandboxError> {
        let mut identity = self.identity();
        identity.rotate()?;
        keys::save(self.dir.as_deref(), &self.keys, &identity)
    }

    pub(super) fn push_token(&self, token: &PushToken) -> Result<String, SandboxError> {
        let now = machine_seconds();
        let mut claims = json!({
            "iss": PUSH_ISSUER,
            "aud": PUSH_AUDIENCE,
            "azp": "113774264463038321964",
            "sub": "113774264463038321964",
            "email": PUSH_EMAIL,
            "email_verified": true,
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
        });
        override_claims(&mut claims, &token.claims);
        let genuine = &self.keys.push;
        if !token.by_stranger {
            return genuine.token(&claims);
        }
        SigningKey::generate(genuine.algorithm(), genuine.kid.clone())?.token(&claims)
    }
}

pub(super) fn routes() -> Router<Arc<Inner>> {
    Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/.well-known/jwks.json", get(jwks))
}

async fn discovery(State(inner): State<Arc<Inner>>) -> Json<Value> {
    let issuer = inner.issuer();
    Json(json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256", "RS256", "EdDSA"],
    }))
}

async fn jwks(State(inner): State<Arc<Inner>>) -> Json<Value> {
    // A key set has no outage here; the call is counted all the same.
    let _ = inner.traffic.admit(Endpoint::IdentityKeys).await;
    Json(json!({"keys": inner.identity().jwks()}))
}
