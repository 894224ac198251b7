//! Signature → proof: a signed document of the App Store becomes a value that only this can make.
//!
//! `alg` is ES256, the chain is leaf → intermediate → pinned root with both of Apple's markers,
//! all of it valid when the document says it was signed, so that a stored document stays
//! verifiable after its leaf has expired. No setting and no payload turns any of it off.

mod cache;
mod chain;
mod error;
pub(super) mod inspect;
mod jws;
pub(super) mod ocsp;
pub(super) mod pinned;
mod roots;

use std::sync::Arc;

use chrono::TimeDelta;
use serde::de::DeserializeOwned;

use crate::domain::time::Instant;

use cache::ChainCache;
use chain::Candidate;
pub(crate) use chain::Chain;
pub(crate) use error::VerifyError;
use jws::{Header, Parts};
pub(crate) use roots::Roots;

/// How far Apple's clock may be ahead of ours.
const CLOCK_SKEW_MAX: TimeDelta = TimeDelta::minutes(5);

/// A kind of payload, and what people call it.
pub(crate) trait Document: DeserializeOwned {
    const NAME: &'static str;
}

/// A payload whose signature and chain hold. Made by [`Verifier::verify`] alone.
pub(crate) struct Verified<T> {
    payload: T,
    signed_at: Instant,
    chain: Arc<Chain>,
}

impl<T> Verified<T> {
    pub(crate) fn payload(&self) -> &T {
        &self.payload
    }

    pub(crate) fn signed_at(&self) -> Instant {
        self.signed_at
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.chain
    }
}

/// Verifies signed documents against pinned roots; remembers the chains that held.
pub(crate) struct Verifier {
    roots: Roots,
    chains: ChainCache,
}

impl Verifier {
    pub(crate) fn new(roots: Roots) -> Self {
        Self {
            roots,
            chains: ChainCache::default(),
        }
    }

    /// Believes a document that was signed no later than `now` (and a little).
    pub(crate) fn verify<T: Document>(
        &self,
        jws: &str,
        now: Instant,
    ) -> Result<Verified<T>, VerifyError> {
        let parts = Parts::split(jws)?;
        let header = parts.header()?;
        header.check_algorithm()?;
        header.check_names()?;
        let payload = parts.payload()?;
        let signed_at = jws::signed_at(&payload)?;
        let chain = self.chain(&header, signed_at)?;
        chain.check_signature(parts.signed.as_bytes(), &parts.signature()?)?;
        check_not_future(signed_at, now)?;
        let payload =
            serde_json::from_slice(&payload).map_err(|_| VerifyError::Payload(T::NAME))?;
        Ok(Verified {
            payload,
            signed_at,
            chain,
        })
    }

    fn chain(&self, header: &Header, at: Instant) -> Result<Arc<Chain>, VerifyError> {
        let certificates = header.certificates()?;
        if let Some(chain) = self.chains.get(certificates) {
            chain.check_time(at)?;
            return Ok(chain);
        }
        let chain = Arc::new(Candidate::decode(certificates)?.verify(&self.roots, at)?);
        self.chains.put(certificates, Arc::clone(&chain));
        Ok(chain)
    }
}

fn check_not_future(signed_at: Instant, now: Instant) -> Result<(), VerifyError> {
    if signed_at - now > CLOCK_SKEW_MAX {
        Err(VerifyError::SignedInFuture)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
