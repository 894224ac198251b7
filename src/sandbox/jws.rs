//! Signing keys and compact JWS of the simulator's own making: it shares none of the server's code.

use std::time::SystemTime;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, Ed25519KeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
    UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::RSAPublicKey;

use super::ecdsa::{Curve, EcKey};
use super::error::SandboxError;

/// Seconds since 1970 by the machine: credentials never run on business time.
pub(super) fn machine_seconds() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
}

/// A signature algorithm of the tokens that the simulator issues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    #[default]
    #[serde(rename = "ES256")]
    Es256,
    /// RSA PKCS#1 v1.5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// The name in a JWS header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::EdDsa => "EdDSA",
        }
    }
}

enum Pair {
    Es256(EcKey),
    Rs256(RsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

/// A private key with the id that its public half is published under.
pub(super) struct SigningKey {
    pub(super) kid: String,
    pkcs8: Vec<u8>,
    pair: Pair,
}

/// How a key is kept on disk.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct StoredKey {
    kid: String,
    algorithm: Algorithm,
    pkcs8: String,
}

impl SigningKey {
    pub(super) fn generate(algorithm: Algorithm, kid: String) -> Result<Self, SandboxError> {
        let pkcs8 = match algorithm {
            Algorithm::Es256 => return Ok(Self::es256(kid, EcKey::random(Curve::P256)?)),
            Algorithm::Rs256 => RsaKeyPair::generate(KeySize::Rsa2048)?
                .as_der()?
                .as_ref()
                .to_vec(),
            Algorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())?
                .as_ref()
                .to_vec(),
        };
        Self::from_pkcs8(algorithm, kid, pkcs8)
    }

    /// A key on P-256, whatever it was made from.
    pub(super) fn es256(kid: String, key: EcKey) -> Self {
        Self {
            kid,
            pkcs8: key.pkcs8().to_vec(),
            pair: Pair::Es256(key),
        }
    }

    pub(super) fn from_pkcs8(
        algorithm: Algorithm,
        kid: String,
        pkcs8: Vec<u8>,
    ) -> Result<Self, SandboxError> {
        let pair = match algorithm {
            Algorithm::Es256 => Pair::Es256(EcKey::from_pkcs8(Curve::P256, pkcs8.clone())?),
            Algorithm::Rs256 => Pair::Rs256(RsaKeyPair::from_pkcs8(&pkcs8)?),
            Algorithm::EdDsa => Pair::EdDsa(Ed25519KeyPair::from_pkcs8(&pkcs8)?),
        };
        Ok(Self { kid, pkcs8, pair })
    }

    pub(super) fn store(&self) -> StoredKey {
        StoredKey {
            kid: self.kid.clone(),
            algorithm: self.algorithm(),
            pkcs8: STANDARD.encode(&self.pkcs8),
        }
    }

    pub(super) fn load(stored: StoredKey) -> Result<Self, SandboxError> {
        let pkcs8 = STANDARD
            .decode(&stored.pkcs8)
            .map_err(|error| SandboxError::Key(error.to_string()))?;
        Self::from_pkcs8(stored.algorithm, stored.kid, pkcs8)
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        match self.pair {
            Pair::Es256(_) => Algorithm::Es256,
            Pair::Rs256(_) => Algorithm::Rs256,
            Pair::EdDsa(_) => Algorithm::EdDsa,
        }
    }

    /// The private key as the stores hand it out: PKCS#8 in PEM.
    pub(super) fn private_pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8)
    }

    /// The private key, PKCS#8 in DER.
    pub(super) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Raw signature bytes in the form that JWS wants.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SandboxError> {
        match &self.pair {
            Pair::Es256(key) => key.sign(message),
            Pair::Rs256(pair) => {
                let mut bytes = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut bytes)?;
                Ok(bytes)
            }
            Pair::EdDsa(pair) => Ok(pair.try_sign(message)?.as_ref().to_vec()),
        }
    }

    /// Whether this key made that signature.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn signature::VerificationAlgorithm = match &self.pair {
            Pair::Es256(key) => return key.verify(message, signature),
            Pair::Rs256(_) => &RSA_PKCS1_2048_8192_SHA256,
            Pair::EdDsa(_) => &signature::ED25519,
        };
        UnparsedPublicKey::new(algorithm, self.public_bytes())
            .verify(message, signature)
            .is_ok()
    }

    /// The public key as the algorithm writes it: an EC point, a PKCS#1 key, 32 bytes.
    pub(super) fn public_bytes(&self) -> &[u8] {
        match &self.pair {
            Pair::Es256(key) => key.public(),
            Pair::Rs256(pair) => pair.public_key().as_ref(),
            Pair::EdDsa(pair) => pair.public_key().as_ref(),
        }
    }

    /// A compact JWS with this key's algorithm and id in the header.
    pub(super) fn token(&self, claims: &Value) -> Result<String, SandboxError> {
        let header = json!({"alg": self.algorithm().as_str(), "kid": self.kid, "typ": "JWT"});
        compact(&header, claims, |message| self.sign(message))
    }

    /// The public half as a JWK.
    pub(super) fn jwk(&self) -> Value {
        let bytes = self.public_bytes();
        let mut jwk = match self.algorithm() {
            Algorithm::Es256 => {
                // An uncompressed point: 04, x, y.
                let (x, y) = bytes.get(1..65).unwrap_or(&[0; 64]).split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)})
            }
            Algorithm::Rs256 => {
                let (n, e) = RSAPublicKey::from_der(bytes)
                    .map_or((&[][..], &[][..]), |(_, key)| (key.modulus, key.exponent));
                json!({"kty": "RSA", "n": encode(unsigned(n)), "e": encode(unsigned(e))})
            }
            Algorithm::EdDsa => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(bytes)}),
        };
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.algorithm().as_str());
        jwk
    }
}

/// DER writes a leading zero before a set top bit; a JWK does not.
fn unsigned(bytes: &[u8]) -> &[u8] {
    match bytes {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    }
}

/// DER as text, the way files carry it.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// base64url without padding.
pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// `header.payload.signature`; the signature is over exactly what precedes it.
pub(super) fn compact(
    header: &Value,
    payload: &Value,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, SandboxError>,
) -> Result<String, SandboxError> {
    under(&encode(header.to_string()), payload, sign)
}

/// The same under a header that is encoded already.
pub(super) fn under(
    header: &str,
    payload: &Value,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, SandboxError>,
) -> Result<String, SandboxError> {
    let mut text = format!("{header}.");
    text.push_str(&encode(payload.to_string()));
    let signature = sign(text.as_bytes())?;
    text.push('.');
    text.push_str(&encode(signature));
    Ok(text)
}

/// A compact JWS taken apart; nothing in it is verified yet.
pub(super) struct Opened<'a> {
    pub(super) header: Value,
    pub(super) claims: Value,
    message: &'a [u8],
    signature: Vec<u8>,
}

impl<'a> Opened<'a> {
    pub(super) fn parse(token: &'a str) -> Option<Self> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let json = |part: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        Some(Self {
            header: json(header)?,
            claims: json(claims)?,
            message: message.as_bytes(),
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// Whether `key` signed it with the algorithm that the key is for.
    pub(super) fn signed_by(&self, key: &SigningKey) -> bool {
        self.header["alg"] == key.algorithm().as_str() && key.verify(self.message, &self.signature)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_algorithm_signs_what_it_verifies_and_survives_storage() {
        for algorithm in [Algorithm::Es256, Algorithm::Rs256, Algorithm::EdDsa] {
            let key = SigningKey::generate(algorithm, "k1".to_owned()).unwrap();
            let token = key.token(&json!({"sub": "a"})).unwrap();
            let again = SigningKey::load(key.store()).unwrap();
            assert!(Opened::parse(&token).unwrap().signed_by(&again));
            let other = SigningKey::generate(algorithm, "k1".to_owned()).unwrap();
            assert!(!Opened::parse(&token).unwrap().signed_by(&other));
            assert_eq!(again.jwk(), key.jwk());
        }
    }
}
