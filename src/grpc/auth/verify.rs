//! One token: strict reading, signature, times.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::keyset::VerificationKey;
use super::strict::{self, Object};
use super::{Cause, LEEWAY};

/// Genuine tokens are one or two KiB; nothing longer is even looked at.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Key ids are compared, never interpreted; this only bounds them.
const KEY_ID_BYTES_MAX: usize = 512;
/// The last second of the year 9999: later is a unit mistake or an attack.
const SECONDS_MAX: u64 = 253_402_300_799;

/// Parameters that bring a key, change what is signed, or wrap another token. All of them let the
/// sender choose how the token is checked.
const REFUSED_PARAMETERS: [&str; 9] = [
    "jku", "jwk", "x5u", "x5c", "crit", "b64", "cty", "enc", "zip",
];

/// The one token of a `Bearer` header.
pub(super) fn bearer(authorization: Option<&str>) -> Result<&str, Cause> {
    let header = authorization.ok_or(Cause::HeaderMissing)?;
    let (scheme, rest) = header.split_once(' ').ok_or(Cause::NotBearer)?;
    let token = rest.trim_start_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(Cause::NotBearer);
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Cause::TooLarge);
    }
    if token.contains(|c: char| c.is_whitespace() || c == ',') {
        return Err(Cause::NotBearer);
    }
    Ok(token)
}

/// A token that has been read but not believed: nothing in it counts before
/// [`check_signature`](Self::check_signature).
pub(super) struct Token<'t> {
    signed: &'t str,
    signature: &'t str,
    pub(super) algorithm: String,
    pub(super) key_id: Option<String>,
    /// The header's `typ`, in lower case and without `application/`.
    pub(super) kind: Option<String>,
    pub(super) claims: Object,
}

impl<'t> Token<'t> {
    pub(super) fn parse(encoded: &'t str) -> Result<Self, Cause> {
        let (signed, signature) = encoded.rsplit_once('.').ok_or(Cause::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Cause::Malformed)?;
        let (header, claims) = (decode(header)?, decode(claims)?);
        decode(signature)?;
        let header = strict::object(&header).ok_or(Cause::HeaderUnreadable)?;
        let (algorithm, key_id) = read_header(&header)?;
        let kind = header.get("typ").and_then(Value::as_str).map(|kind| {
            let kind = kind.to_ascii_lowercase();
            kind.strip_prefix("application/")
                .map(str::to_owned)
                .unwrap_or(kind)
        });
        Ok(Self {
            signed,
            signature,
            algorithm,
            key_id,
            kind,
            claims: strict::object(&claims).ok_or(Cause::ClaimsUnreadable)?,
        })
    }

    pub(super) fn issuer(&self) -> Result<&str, Cause> {
        self.text("iss").ok_or(Cause::IssuerMissing)
    }

    /// A claim that is a string.
    pub(super) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }

    /// A claim that is seconds since 1970 as a whole number; strings, fractions, exponents, null
    /// and numbers beyond the calendar are errors, never "absent".
    pub(super) fn seconds(&self, claim: &str) -> Result<Option<u64>, Cause> {
        self.claims
            .get(claim)
            .map(|value| match value.as_u64() {
                Some(seconds) if seconds <= SECONDS_MAX => Ok(seconds),
                Some(_) | None => Err(Cause::TimeMalformed),
            })
            .transpose()
    }

    pub(super) fn check_signature(&self, key: &VerificationKey) -> Result<(), Cause> {
        let signed = self.signed.as_bytes();
        match jsonwebtoken::crypto::verify(self.signature, signed, &key.decoding, key.algorithm) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Cause::SignatureInvalid),
        }
    }

    /// When the token expires, if its times allow it to be used at `now`.
    pub(super) fn check_times(&self, now: SystemTime) -> Result<SystemTime, Cause> {
        let expiry = self.seconds("exp")?.ok_or(Cause::ExpiryMissing)?;
        let starts = [self.seconds("nbf")?, self.seconds("iat")?];
        if starts.iter().flatten().any(|&start| start > expiry) {
            return Err(Cause::TimeMalformed);
        }
        if unix(now) >= expiry + LEEWAY.as_secs() {
            return Err(Cause::Expired);
        }
        self.check_begun("nbf", now)?;
        self.check_begun("iat", now)?;
        Ok(UNIX_EPOCH + Duration::from_secs(expiry))
    }

    /// Whether the moment of this claim, if there is one, is not ahead of `now`.
    pub(super) fn check_begun(&self, claim: &str, now: SystemTime) -> Result<(), Cause> {
        match self.seconds(claim)? {
            Some(start) if start > unix(now) + LEEWAY.as_secs() => Err(Cause::NotYetValid),
            Some(_) | None => Ok(()),
        }
    }
}

fn unix(time: SystemTime) -> u64 {
    // A machine that lives before 1970 finds every token from the future.
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// Unpadded base64url in its only spelling: no padding, no stray bits, no foreign characters.
pub(super) fn decode(part: &str) -> Result<Vec<u8>, Cause> {
    match URL_SAFE_NO_PAD.decode(part) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        Ok(_) | Err(_) => Err(Cause::Malformed),
    }
}

fn read_header(header: &Object) -> Result<(String, Option<String>), Cause> {
    if REFUSED_PARAMETERS
        .iter()
        .any(|name| header.contains_key(*name))
    {
        return Err(Cause::HeaderParameter);
    }
    match header.get("typ") {
        None => {}
        Some(Value::String(kind)) if is_access_token(kind) => {}
        Some(_) => return Err(Cause::TokenType),
    }
    let algorithm = header.get("alg").and_then(Value::as_str);
    let algorithm = algorithm.ok_or(Cause::AlgorithmRefused)?.to_owned();
    let key_id = match header.get("kid") {
        None => None,
        Some(Value::String(id)) if id.len() <= KEY_ID_BYTES_MAX => Some(id.clone()),
        Some(_) => return Err(Cause::HeaderParameter),
    };
    Ok((algorithm, key_id))
}

/// Other types (logout tokens, proofs of possession, security events) are no credentials.
fn is_access_token(kind: &str) -> bool {
    ["JWT", "at+jwt", "application/at+jwt"]
        .iter()
        .any(|accepted| kind.eq_ignore_ascii_case(accepted))
}
