//! Tokens of our own: ES256 JWTs that name an account by its id.
//!
//! They are checked like any other issuer's, against the key set that is published, only that it
//! need not be fetched.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::cache::digest;
use super::keyset::KeySet;
use super::presets::Issuer;
use super::refresh::Keys;
use super::verify::Token;
use super::{Caller, CallerKind, Cause};
use crate::config::issuers::OWN_NAME;
use crate::config::tokens::TokensConfig;
use crate::domain::api_key::AppScope;

/// RFC 9068. What else is signed with these keys has another type: it is no credential.
const TOKEN_TYPE: &str = "at+jwt";

/// Why the configured keys cannot sign.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("tokens: {0} cannot be read: {1}")]
    Unreadable(String, std::io::Error),
    #[error(
        "tokens: {0}: no P-256 private key in PKCS#8 PEM; `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes one"
    )]
    NotAKey(String),
    #[error("tokens: a key is configured twice")]
    Twice,
}

/// Signing failed: a mistake of ours.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a token could not be signed")]
pub(crate) struct SignError;

/// Whom a token of ours names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) account: Uuid,
    /// The session that it came from; minted tokens have none.
    pub(crate) session: Option<Uuid>,
}

/// The keys that sign our tokens; the first of them does.
pub(crate) struct Signer {
    issuer: Arc<str>,
    first: SigningKey,
    published: Bytes,
}

struct SigningKey {
    id: String,
    encoding: EncodingKey,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: Uuid,
    iat: u64,
    exp: u64,
    jti: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<Uuid>,
}

impl Signer {
    /// Reads the configured keys.
    pub(crate) fn load(config: &TokensConfig) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for file in &config.key_files {
            keys.extend(read(file)?);
        }
        if let Some(text) = &config.keys {
            keys.extend(blocks("keys", text.expose_secret().as_bytes())?);
        }
        let published: Vec<Value> = keys.iter().map(|(_, public)| public.clone()).collect();
        let mut ids: Vec<&str> = keys.iter().map(|(key, _)| key.id.as_str()).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(KeyError::Twice);
        }
        let mut keys = keys.into_iter().map(|(key, _)| key);
        let first = keys
            .next()
            .ok_or_else(|| KeyError::NotAKey("keys".into()))?;
        Ok(Self {
            issuer: config.issuer.as_str().into(),
            first,
            published: json!({ "keys": published }).to_string().into(),
        })
    }

    /// The key set (RFC 7517) by which anybody can check what these keys have signed.
    pub(crate) fn key_set(&self) -> Bytes {
        self.published.clone()
    }

    /// A token that names an account for `lifetime`; and when it ends.
    pub(crate) fn sign(
        &self,
        own: Own,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<(SecretString, SystemTime), SignError> {
        let now = now
            .duration_since(UNIX_EPOCH)
            .map_err(|_| SignError)?
            .as_secs();
        let exp = now + lifetime.as_secs();
        let claims = Claims {
            iss: &self.issuer,
            aud: &self.issuer,
            sub: own.account,
            iat: now,
            exp,
            jti: Uuid::new_v4(),
            sid: own.session,
        };
        let token = self.sign_as(TOKEN_TYPE, &claims)?;
        Ok((token.into(), UNIX_EPOCH + Duration::from_secs(exp)))
    }

    /// Whatever is to be believed by the published keys; `kind` tells it from all else that they sign.
    pub(crate) fn sign_as(&self, kind: &str, claims: &impl Serialize) -> Result<String, SignError> {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(kind.to_owned());
        header.kid = Some(self.first.id.clone());
        jsonwebtoken::encode(&header, claims, &self.first.encoding).map_err(|_| SignError)
    }

    /// The `iss` of what these keys sign.
    pub(crate) fn name(&self) -> &str {
        &self.issuer
    }

    /// Our own place among the issuers.
    pub(super) fn issuer(&self) -> Result<Issuer, KeyError> {
        let keys = KeySet::parse(&self.published, &[Algorithm::ES256])
            .map_err(|_| KeyError::NotAKey("keys".into()))?;
        Ok(Issuer::own(
            OWN_NAME.into(),
            Arc::clone(&self.issuer),
            Keys::Own(keys),
        ))
    }
}

fn read(file: &Path) -> Result<Vec<(SigningKey, Value)>, KeyError> {
    let name = file.display().to_string();
    let pem = std::fs::read(file).map_err(|error| KeyError::Unreadable(name.clone(), error))?;
    blocks(&name, &pem)
}

/// Every private key of a PEM text, with its public half as a JWK.
fn blocks(name: &str, pem: &[u8]) -> Result<Vec<(SigningKey, Value)>, KeyError> {
    let refused = || KeyError::NotAKey(name.to_owned());
    let mut keys = Vec::new();
    for der in PrivatePkcs8KeyDer::pem_slice_iter(pem) {
        let der = der.map_err(|_| refused())?;
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der())
                .map_err(|_| refused())?;
        // Uncompressed: 4, x, y.
        let point = pair.public_key().as_ref();
        let (Some(x), Some(y)) = (point.get(1..33), point.get(33..65)) else {
            return Err(refused());
        };
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let id = thumbprint(&x, &y);
        let public = json!({
            "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": id, "use": "sig", "alg": "ES256",
        });
        let encoding = EncodingKey::from_ec_der(der.secret_pkcs8_der());
        keys.push((SigningKey { id, encoding }, public));
    }
    if keys.is_empty() {
        return Err(refused());
    }
    Ok(keys)
}

/// RFC 7638: the key's own name, the same wherever it is configured.
fn thumbprint(x: &str, y: &str) -> String {
    let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    URL_SAFE_NO_PAD.encode(digest(canonical))
}

/// The caller that one of our own tokens names. It is never a service or an operator.
pub(super) fn caller(
    issuer: &Issuer,
    token: &Token<'_>,
    expires_at: SystemTime,
) -> Result<Caller, Cause> {
    if token.kind.as_deref() != Some(TOKEN_TYPE) {
        return Err(Cause::TokenType);
    }
    if token.text("aud") != Some(&*issuer.value) {
        return Err(Cause::Audience);
    }
    let subject = token.text("sub").ok_or(Cause::Subject)?;
    let account = Uuid::parse_str(subject).map_err(|_| Cause::Subject)?;
    let session = match token.claims.get("sid") {
        None => None,
        Some(Value::String(id)) => Some(Uuid::parse_str(id).map_err(|_| Cause::Subject)?),
        Some(_) => return Err(Cause::Subject),
    };
    Ok(Caller {
        issuer: Arc::clone(&issuer.name),
        subject: subject.into(),
        kind: CallerKind::User,
        expires_at,
        anonymous: session.is_some(),
        own: Some(Own { account, session }),
        store_token: None,
        apps: AppScope::all(),
        ended: None,
        account: OnceLock::new(),
    })
}
