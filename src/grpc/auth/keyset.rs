//! A key set as an issuer publishes it (RFC 7517), reduced to the keys that may verify a token.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::Cause;
use super::strict::{self, Object};
use super::verify::decode;

/// Providers publish two to five keys; more than this is not a key set of theirs.
const KEYS_MAX: usize = 100;

/// A public key (or the development secret) and the one algorithm it is for.
pub(super) struct VerificationKey {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeySetError {
    #[error("the answer is not a JSON Web Key Set")]
    Unreadable,
    #[error("the key set has more than {KEYS_MAX} keys")]
    TooMany,
}

/// The usable keys of one issuer.
pub(super) struct KeySet {
    keys: Vec<Arc<VerificationKey>>,
}

impl KeySet {
    /// Keys that are not for signatures, of an unknown kind, or for an algorithm outside `allowed`
    /// are left out: a set may hold them for others.
    pub(super) fn parse(body: &[u8], allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        let document = strict::object(body).ok_or(KeySetError::Unreadable)?;
        let keys = match document.get("keys") {
            Some(Value::Array(keys)) => keys,
            Some(_) | None => return Err(KeySetError::Unreadable),
        };
        if keys.len() > KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        let keys = keys
            .iter()
            .filter_map(|key| VerificationKey::parse(key.as_object()?, allowed))
            .map(Arc::new)
            .collect();
        Ok(Self { keys })
    }

    pub(super) fn shared_secret(secret: &SecretString) -> Self {
        let key = VerificationKey {
            id: None,
            algorithm: Algorithm::HS256,
            decoding: DecodingKey::from_secret(secret.expose_secret().as_bytes()),
        };
        Self {
            keys: vec![Arc::new(key)],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The one key with this id or, for a token without an id, the one key that fits. The token's
    /// algorithm only has to agree with the key's.
    pub(super) fn select(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<&Arc<VerificationKey>, Cause> {
        let named = |key: &&Arc<VerificationKey>| match id {
            Some(id) => key.id.as_deref() == Some(id),
            None => true,
        };
        if !self.keys.iter().any(|key| named(&key)) {
            return Err(Cause::KeyUnknown);
        }
        let mut fitting = self
            .keys
            .iter()
            .filter(named)
            .filter(|key| key.algorithm == algorithm);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(Cause::KeyAmbiguous),
            (None, _) => Err(Cause::AlgorithmMismatch),
        }
    }
}

impl VerificationKey {
    fn parse(jwk: &Object, allowed: &[Algorithm]) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let id = match jwk.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return None,
        };
        // A private key that was published is everybody's key.
        if !is_for_verifying(jwk) || jwk.contains_key("d") {
            return None;
        }
        let (decoding, suited) = match text("kty")? {
            "RSA" => rsa(text("n")?, text("e")?)?,
            "EC" => elliptic(text("crv")?, text("x")?, text("y")?)?,
            "OKP" if text("crv")? == "Ed25519" => edwards(text("x")?)?,
            _ => return None,
        };
        let algorithm = match jwk.get("alg") {
            Some(named) => {
                let named = named.as_str()?.parse().ok()?;
                (suited.contains(&named) && allowed.contains(&named)).then_some(named)?
            }
            None => *allowed.iter().find(|allowed| suited.contains(allowed))?,
        };
        Some(Self {
            id,
            algorithm,
            decoding,
        })
    }
}

fn is_for_verifying(jwk: &Object) -> bool {
    let by_use = jwk.get("use").is_none_or(|purpose| purpose == "sig");
    let by_operation = jwk.get("key_ops").is_none_or(|operations| {
        operations
            .as_array()
            .is_some_and(|operations| operations.iter().any(|operation| operation == "verify"))
    });
    by_use && by_operation
}

type Suited = (DecodingKey, &'static [Algorithm]);

fn rsa(modulus: &str, exponent: &str) -> Option<Suited> {
    use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
    let (n, e) = (decode(modulus).ok()?, decode(exponent).ok()?);
    // 2048 to 8192 bits; the first byte may be the sign byte some encoders leave.
    let strong = (256..=1025).contains(&n.len());
    let key = DecodingKey::from_rsa_raw_components(&n, &e);
    strong.then_some((key, &[RS256, RS384, RS512, PS256, PS384, PS512]))
}

fn elliptic(curve: &str, x: &str, y: &str) -> Option<Suited> {
    let (bytes, suited): (usize, &'static [Algorithm]) = match curve {
        "P-256" => (32, &[Algorithm::ES256]),
        "P-384" => (48, &[Algorithm::ES384]),
        _ => return None,
    };
    let exact = decode(x).ok()?.len() == bytes && decode(y).ok()?.len() == bytes;
    let key = DecodingKey::from_ec_components(x, y).ok()?;
    exact.then_some((key, suited))
}

fn edwards(x: &str) -> Option<Suited> {
    let key = DecodingKey::from_ed_components(x).ok()?;
    (decode(x).ok()?.len() == 32).then_some((key, &[Algorithm::EdDSA]))
}
