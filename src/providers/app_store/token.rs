//! The JWT that every call to the Server API carries: ES256, one bundle, five minutes.
//!
//! Machine time: Apple judges `exp` by the real clock, whatever business time it is here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

const AUDIENCE: &str = "appstoreconnect-v1";
const LIFETIME: Duration = Duration::from_secs(300);
/// A token is used until it has this long to live, so that none expires on its way.
const SPARE: Duration = Duration::from_secs(120);

/// The key cannot sign.
#[derive(Debug, thiserror::Error)]
#[error("the App Store private key cannot be used: it must be an EC P-256 key in PKCS#8 PEM")]
pub(crate) struct KeyError;

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    iat: u64,
    exp: u64,
    aud: &'static str,
    bid: &'a str,
}

struct Minted {
    authorization: HeaderValue,
    at: Instant,
}

/// Makes and keeps request tokens, one per bundle.
pub(super) struct RequestTokens {
    issuer_id: String,
    key_id: String,
    key: EncodingKey,
    minted: Mutex<HashMap<String, Minted>>,
}

impl RequestTokens {
    pub(super) fn new(issuer_id: &str, key_id: &str, pem: &str) -> Result<Self, KeyError> {
        let tokens = Self {
            issuer_id: issuer_id.to_owned(),
            key_id: key_id.to_owned(),
            key: EncodingKey::from_ec_pem(pem.as_bytes()).map_err(|_| KeyError)?,
            minted: Mutex::default(),
        };
        tokens.mint("probe").map(|_| tokens)
    }

    /// The `Authorization` value for calls about `bundle_id`.
    pub(super) fn authorization(&self, bundle_id: &str) -> Result<HeaderValue, KeyError> {
        let mut minted = self.minted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = minted.get(bundle_id)
            && token.at.elapsed() < LIFETIME - SPARE
        {
            return Ok(token.authorization.clone());
        }
        let at = Instant::now();
        let authorization = self.mint(bundle_id)?;
        minted.insert(
            bundle_id.to_owned(),
            Minted {
                authorization: authorization.clone(),
                at,
            },
        );
        Ok(authorization)
    }

    /// Forgets a token that was refused, so that the next call does not repeat it.
    pub(super) fn forget(&self, bundle_id: &str) {
        self.minted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(bundle_id);
    }

    fn mint(&self, bundle_id: &str) -> Result<HeaderValue, KeyError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let claims = Claims {
            iss: &self.issuer_id,
            iat: now.as_secs(),
            exp: (now + LIFETIME).as_secs(),
            aud: AUDIENCE,
            bid: bundle_id,
        };
        let header = Header {
            kid: Some(self.key_id.clone()),
            ..Header::new(Algorithm::ES256)
        };
        let jwt = jsonwebtoken::encode(&header, &claims, &self.key).map_err(|_| KeyError)?;
        let mut value = HeaderValue::try_from(format!("Bearer {jwt}")).map_err(|_| KeyError)?;
        value.set_sensitive(true);
        Ok(value)
    }
}
