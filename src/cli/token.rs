//! Development tokens: HS256 with a stack's shared secret. A production configuration refuses it.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header};

use super::stack::DEV_ISSUER;

/// How long a development token is good for.
pub(crate) const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// A token of the `dev` issuer for the user `subject`.
pub(crate) fn mint(
    secret: &str,
    subject: &str,
    ttl: std::time::Duration,
) -> anyhow::Result<String> {
    mint_as(secret, subject, As::default(), ttl)
}

/// Who else a development token may be of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct As<'a> {
    /// What the `dev` stack calls a service or an operator.
    pub(crate) scope: &'a str,
    /// Nobody has signed in.
    pub(crate) anonymous: bool,
}

/// The same with a scope, or of somebody who has not signed in.
pub(crate) fn mint_as(
    secret: &str,
    subject: &str,
    of: As<'_>,
    ttl: std::time::Duration,
) -> anyhow::Result<String> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?;
    let claims = serde_json::json!({
        "iss": DEV_ISSUER, "aud": "entitled", "sub": subject, "scope": of.scope,
        "is_anonymous": of.anonymous,
        "iat": now.as_secs(), "exp": (now + ttl).as_secs(),
    });
    let key = EncodingKey::from_secret(secret.as_bytes());
    Ok(jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &claims,
        &key,
    )?)
}
