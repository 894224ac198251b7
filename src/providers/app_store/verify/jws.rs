//! A compact JWS taken apart strictly. Nothing in it is trusted until chain and signature hold.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};

use super::error::VerifyError;
use crate::domain::time::Instant;

/// Beyond every genuine notification with its two inner documents (about 30 KiB).
pub(crate) const JWS_BYTES_MAX: usize = 256 * 1024;
/// r and s of ES256, 32 bytes each; never DER.
const SIGNATURE_BYTES: usize = 64;

/// The three parts, still encoded.
pub(super) struct Parts<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    /// What was signed: header, dot, payload, as sent.
    pub(super) signed: &'a str,
}

/// The header with every name that decides something.
#[derive(Deserialize)]
pub(super) struct Header {
    alg: String,
    x5c: Vec<String>,
    #[serde(default)]
    jwk: Presence,
    #[serde(default)]
    jku: Presence,
    #[serde(default)]
    x5u: Presence,
    #[serde(default)]
    crit: Presence,
    #[serde(default)]
    b64: Presence,
}

/// Whether a name occurs, whatever its value: `null` counts.
#[derive(Clone, Copy, Default)]
struct Presence(bool);

impl<'de> Deserialize<'de> for Presence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stamp {
    signed_date: i64,
}

impl<'a> Parts<'a> {
    pub(super) fn split(jws: &'a str) -> Result<Self, VerifyError> {
        if jws.len() > JWS_BYTES_MAX {
            return Err(VerifyError::TooLarge);
        }
        let (signed, signature) = jws.rsplit_once('.').ok_or(VerifyError::NotCompact)?;
        let (header, payload) = signed.split_once('.').ok_or(VerifyError::NotCompact)?;
        if payload.contains('.') {
            return Err(VerifyError::NotCompact);
        }
        Ok(Self {
            header,
            payload,
            signature,
            signed,
        })
    }

    pub(super) fn header(&self) -> Result<Header, VerifyError> {
        let json = decode("header", self.header)?;
        serde_json::from_slice(&json).map_err(|_| VerifyError::Header)
    }

    pub(super) fn payload(&self) -> Result<Vec<u8>, VerifyError> {
        decode("payload", self.payload)
    }

    pub(super) fn signature(&self) -> Result<[u8; SIGNATURE_BYTES], VerifyError> {
        let bytes = decode("signature", self.signature)?;
        bytes.try_into().map_err(|_| VerifyError::SignatureLength)
    }
}

impl Header {
    /// The literal `ES256`; no other spelling, no list.
    pub(super) fn check_algorithm(&self) -> Result<(), VerifyError> {
        if self.alg == "ES256" {
            Ok(())
        } else {
            Err(VerifyError::Algorithm)
        }
    }

    /// Names that bring keys of their own or change what is signed.
    pub(super) fn check_names(&self) -> Result<(), VerifyError> {
        let forbidden = [
            ("jwk", self.jwk),
            ("jku", self.jku),
            ("x5u", self.x5u),
            ("crit", self.crit),
            ("b64", self.b64),
        ];
        match forbidden.into_iter().find(|(_, presence)| presence.0) {
            Some((name, _)) => Err(VerifyError::ForbiddenHeader(name)),
            None => Ok(()),
        }
    }

    /// The one certificate of a document that nothing stands behind.
    pub(super) fn only_certificate(&self) -> Option<&str> {
        match self.x5c.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Leaf and intermediate. The root in third place is ignored: roots are pinned.
    pub(super) fn certificates(&self) -> Result<[&str; 2], VerifyError> {
        match self.x5c.as_slice() {
            [leaf, intermediate, _root] => Ok([leaf, intermediate]),
            other => Err(VerifyError::ChainLength(other.len())),
        }
    }
}

/// When the document says that it was signed.
pub(super) fn signed_at(payload: &[u8]) -> Result<Instant, VerifyError> {
    let stamp: Stamp = serde_json::from_slice(payload).map_err(|_| VerifyError::SignedDate)?;
    Instant::from_timestamp_millis(stamp.signed_date).ok_or(VerifyError::SignedDate)
}

fn decode(part: &'static str, text: &str) -> Result<Vec<u8>, VerifyError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| VerifyError::NotBase64Url(part))
}
