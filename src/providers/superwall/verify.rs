//! Svix' signatures (Standard Webhooks, symmetric): HMAC-SHA256 over `{id}.{timestamp}.{raw body}`.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

const PREFIX: &str = "whsec_";
const VERSION: &str = "v1,";
/// How far the time of sending may lie from ours, either way.
const TOLERANCE_SECONDS: u64 = 300;
/// During a rotation there are two signatures; a header full of them is work for nothing.
const SIGNATURES_MAX: usize = 16;
/// The webhook of each Superwall project has its own, and two while it is replaced.
const SECRETS_MAX: usize = 8;
/// Svix' own have 24 bytes.
const SECRET_BYTES_MIN: usize = 16;
/// Svix' own have 31.
const ID_BYTES_MAX: usize = 256;

/// What is wrong with the configured secrets. Never holds any part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("no signing secret is configured")]
    None,
    #[error("more than {SECRETS_MAX} signing secrets")]
    TooMany,
    #[error("a signing secret is not as Superwall shows it: whsec_ and base64")]
    Shape,
}

/// Why a delivery is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Untrue {
    #[error("the headers of a signed webhook are missing, or given twice")]
    Headers,
    #[error("the id is not one")]
    Id,
    #[error("the timestamp is not a number of seconds")]
    Timestamp,
    #[error("it was sent too long ago, or later than now")]
    Moment,
    #[error("no signature is by a secret that is configured")]
    Signature,
}

/// The secrets that may have signed.
pub(super) struct Verifier(Vec<hmac::Key>);

impl Verifier {
    /// `text`: one secret or several, separated by space; all hold.
    pub(super) fn new(text: &str) -> Result<Self, SecretError> {
        let keys: Vec<hmac::Key> = text
            .split_whitespace()
            .map(|secret| {
                let encoded = secret.strip_prefix(PREFIX).unwrap_or(secret);
                let bytes = STANDARD.decode(encoded).map_err(|_| SecretError::Shape)?;
                match bytes.len() >= SECRET_BYTES_MIN {
                    true => Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes)),
                    false => Err(SecretError::Shape),
                }
            })
            .collect::<Result<_, _>>()?;
        match keys.len() {
            0 => Err(SecretError::None),
            1..=SECRETS_MAX => Ok(Self(keys)),
            _ => Err(SecretError::TooMany),
        }
    }

    /// The id of a delivery that was signed, and sent about now (`now`: seconds since 1970).
    pub(super) fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: u64,
    ) -> Result<String, Untrue> {
        let [id, timestamp, signatures] = signed_headers(headers)?;
        if id.is_empty() || id.len() > ID_BYTES_MAX || id.contains('.') {
            // A full stop would let id and timestamp be cut elsewhere.
            return Err(Untrue::Id);
        }
        let digits = !timestamp.is_empty() && timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let sent: u64 = match digits {
            true => timestamp.parse().map_err(|_| Untrue::Timestamp)?,
            false => return Err(Untrue::Timestamp),
        };
        if now.abs_diff(sent) > TOLERANCE_SECONDS {
            return Err(Untrue::Moment);
        }
        let message = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
        let candidates: Vec<Vec<u8>> = signatures
            .split(' ')
            .take(SIGNATURES_MAX)
            .filter_map(|signature| STANDARD.decode(signature.strip_prefix(VERSION)?).ok())
            .collect();
        let by = |key: &hmac::Key| {
            let tag = hmac::sign(key, &message);
            let mut candidates = candidates.iter();
            candidates.any(|signature| verify_slices_are_equal(signature, tag.as_ref()).is_ok())
        };
        match self.0.iter().any(by) {
            true => Ok(id.to_owned()),
            false => Err(Untrue::Signature),
        }
    }
}

/// Id, timestamp and signatures, under Svix' names or the standard's.
fn signed_headers(headers: &HeaderMap) -> Result<[&str; 3], Untrue> {
    let sets = [
        ["svix-id", "svix-timestamp", "svix-signature"],
        ["webhook-id", "webhook-timestamp", "webhook-signature"],
    ];
    let read = |names: [&str; 3]| {
        let [id, timestamp, signatures] = names.map(|name| once(headers, name));
        Some([id?, timestamp?, signatures?])
    };
    sets.into_iter().find_map(read).ok_or(Untrue::Headers)
}

fn once<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}
