//! Documents that one pinned certificate signs by itself: StoreKit testing in Xcode.
//!
//! The signature is checked as Apple's is: ES256, by the one certificate that was pinned. What
//! Xcode writes otherwise than Apple does is put right here: fractions of milliseconds, and ids
//! that begin at 0 for every project and after every deletion.

use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::chain::Chain;
use super::error::VerifyError;
use super::jws::{self, Parts};
use super::roots;
use super::{Verified, check_not_future};
use crate::domain::planted::{self, Bug};
use crate::domain::time::Instant;
use crate::providers::app_store::wire::Transaction;

/// What the ids of these documents begin with; an id of Apple's is digits alone.
pub(crate) const SPACE: &str = "xcode/";
const ENVIRONMENT: &str = "Xcode";
const KIND: &str = "transaction of StoreKit testing in Xcode";
/// Bytes of the certificate's digest that name it.
const NAME_BYTES: usize = 4;

/// One certificate, and nothing behind it.
pub(crate) struct Pinned {
    chain: Arc<Chain>,
    /// Tells the ids of one certificate from those of another.
    name: String,
}

impl Pinned {
    /// Reads a certificate, DER or PEM, as Xcode saves it.
    pub(crate) fn new(file: Vec<u8>) -> Result<Self, VerifyError> {
        let certificate = roots::certificate(file)?;
        let digest = digest(&SHA256, &certificate);
        let mut name = String::new();
        for byte in &digest.as_ref()[..NAME_BYTES] {
            let _ = write!(name, "{byte:02x}");
        }
        Ok(Self {
            chain: Arc::new(Chain::alone(certificate)?),
            name,
        })
    }

    /// Whether a document says that a single certificate signed it; no document of Apple's does.
    pub(crate) fn is_meant(jws: &str) -> bool {
        let header = Parts::split(jws).and_then(|parts| parts.header());
        header.is_ok_and(|header| header.only_certificate().is_some())
    }

    /// Believes a transaction that the pinned certificate signed no later than `now`.
    pub(in crate::providers::app_store) fn verify(
        &self,
        jws: &str,
        now: Instant,
    ) -> Result<Verified<Transaction>, VerifyError> {
        let parts = Parts::split(jws)?;
        let header = parts.header()?;
        header.check_algorithm()?;
        header.check_names()?;
        let named = header.only_certificate().ok_or(VerifyError::NotPinned)?;
        let named = STANDARD.decode(named).map_err(|_| VerifyError::NotPinned)?;
        let signer = match named == self.chain.leaf.as_ref() {
            true => Arc::clone(&self.chain),
            false if planted::is(Bug::AnyXcode) => Arc::new(Chain::alone(named.into())?),
            false => return Err(VerifyError::NotPinned),
        };
        signer.check_signature(parts.signed.as_bytes(), &parts.signature()?)?;
        let payload = self.put_right(&parts.payload()?)?;
        let signed_at = jws::signed_at(&payload)?;
        self.chain.check_time(signed_at)?;
        check_not_future(signed_at, now)?;
        let payload = serde_json::from_slice(&payload).map_err(|_| VerifyError::Payload(KIND))?;
        Ok(Verified {
            payload,
            signed_at,
            chain: Arc::clone(&self.chain),
        })
    }

    /// The payload as Apple would write it, with ids that nothing else has.
    fn put_right(&self, payload: &[u8]) -> Result<Vec<u8>, VerifyError> {
        let not_one = || VerifyError::Payload(KIND);
        let mut payload: Map<String, Value> =
            serde_json::from_slice(payload).map_err(|_| not_one())?;
        if payload.get("environment").and_then(Value::as_str) != Some(ENVIRONMENT) {
            return Err(not_one());
        }
        for value in payload.values_mut() {
            whole(value);
        }
        let millis = |name: &str| payload.get(name).and_then(Value::as_i64);
        let bought = millis("purchaseDate").ok_or_else(not_one)?;
        let first = millis("originalPurchaseDate").unwrap_or(bought);
        for (name, at) in [("transactionId", bought), ("originalTransactionId", first)] {
            let id = payload.get(name).and_then(Value::as_str);
            let id = id.filter(|id| !id.is_empty() && id.bytes().all(|it| it.is_ascii_digit()));
            let id = format!("{SPACE}{}/{}/{at}", self.name, id.ok_or_else(not_one)?);
            payload.insert(name.to_owned(), id.into());
        }
        serde_json::to_vec(&payload).map_err(|_| not_one())
    }
}

/// Milliseconds with a fraction lose it, as in Apple's own libraries.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the fraction is what is dropped, and the range is checked"
)]
fn whole(value: &mut Value) {
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    let number = value.as_f64().filter(|_| value.as_i64().is_none());
    if let Some(number) = number.filter(|number| number.abs() <= LARGEST) {
        *value = (number.trunc() as i64).into();
    }
}
