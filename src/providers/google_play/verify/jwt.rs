//! The OIDC token on a push: read strictly, believed only after its signature.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

/// Genuine tokens have about 1 KiB; nothing longer is even looked at.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
const KEY_ID_BYTES_MAX: usize = 256;
/// How far Google's clock and ours may be apart.
pub(super) const TOLERANCE: Duration = Duration::from_secs(60);
/// Google's tokens live for an hour; a longer life is not of its making.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Parameters that bring a key or change what is signed: the sender would choose how it is checked.
const REFUSED_PARAMETERS: [&str; 9] = [
    "jku", "jwk", "x5u", "x5c", "crit", "b64", "cty", "enc", "zip",
];

/// Why a token is not believed. Never holds any part of the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("there is no bearer token")]
    Missing,
    #[error("the token is malformed")]
    Malformed,
    #[error("the token's header has a parameter that is refused")]
    HeaderParameter,
    #[error("the token is not signed with RS256")]
    Algorithm,
    #[error("the token's claims are not those of a Google identity token")]
    Claims,
    #[error("the signature does not verify")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("the token's {0} is not the configured one")]
    Mismatch(&'static str),
    #[error("the token's e-mail address is not verified")]
    EmailNotVerified,
}

/// Typed strictly: a time as text, fraction or null is an error, and so is a claim given twice.
#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) aud: String,
    pub(super) email: String,
    pub(super) email_verified: bool,
    pub(super) exp: u64,
    pub(super) iat: u64,
    #[serde(default)]
    pub(super) nbf: u64,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    typ: Option<String>,
    #[serde(flatten)]
    others: BTreeMap<String, IgnoredAny>,
}

/// A token that has been read but not believed.
pub(super) struct Token<'t> {
    signed: &'t str,
    signature: &'t str,
    pub(super) key_id: String,
    claims: &'t str,
}

/// The one token of the `Authorization` header.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, TokenError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(TokenError::Missing);
    };
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .ok_or(TokenError::Missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(TokenError::Missing);
    }
    Ok(token)
}

impl<'t> Token<'t> {
    pub(super) fn parse(encoded: &'t str) -> Result<Self, TokenError> {
        if encoded.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = encoded.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        decode(signature)?;
        let header: Header = json(&decode(header)?).ok_or(TokenError::Malformed)?;
        if REFUSED_PARAMETERS
            .iter()
            .any(|name| header.others.contains_key(*name))
        {
            return Err(TokenError::HeaderParameter);
        }
        // Google's keys are for RS256; the header only has to agree.
        if header.alg != "RS256" {
            return Err(TokenError::Algorithm);
        }
        let typed = header.typ.is_none_or(|typ| typ.eq_ignore_ascii_case("JWT"));
        if !typed || header.kid.is_empty() || header.kid.len() > KEY_ID_BYTES_MAX {
            return Err(TokenError::HeaderParameter);
        }
        Ok(Self {
            signed,
            signature,
            key_id: header.kid,
            claims,
        })
    }

    /// The claims, if `key` signed them.
    pub(super) fn believe(&self, key: &DecodingKey) -> Result<Claims, TokenError> {
        let signed = self.signed.as_bytes();
        match jsonwebtoken::crypto::verify(self.signature, signed, key, Algorithm::RS256) {
            Ok(true) => json(&decode(self.claims)?).ok_or(TokenError::Claims),
            Ok(false) | Err(_) => Err(TokenError::Signature),
        }
    }
}

impl Claims {
    /// Machine time: credentials are never judged by a clock that tests can move.
    pub(super) fn check_times(&self, now: SystemTime) -> Result<(), TokenError> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let tolerance = TOLERANCE.as_secs();
        if self.iat > self.exp || self.exp - self.iat > LIFETIME_MAX.as_secs() {
            return Err(TokenError::Claims);
        }
        if now >= self.exp.saturating_add(tolerance) {
            return Err(TokenError::Expired);
        }
        if self.iat.max(self.nbf) > now + tolerance {
            return Err(TokenError::NotYetValid);
        }
        Ok(())
    }
}

/// Unpadded base64url in its only spelling.
fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    match URL_SAFE_NO_PAD.decode(part) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        Ok(_) | Err(_) => Err(TokenError::Malformed),
    }
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}
