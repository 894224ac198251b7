//! Whether the certificates of a chain still stand, by Apple's OCSP responder.
//!
//! The way there is plain HTTP and the answer is signed. Only an authentic "revoked" or "unknown"
//! refuses a chain; whatever else may have happened on the way is trouble of the moment.

mod request;
mod response;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use rustls_pki_types::CertificateDer;

use super::chain::Chain;
use crate::http::HttpClient;

/// How long a good answer is good enough, by machine time.
const GOOD_FOR: Duration = Duration::from_secs(15 * 60);
/// More chains than the App Store signs with at any time.
const CHAINS_MAX: usize = 32;

/// Why a chain is not vouched for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OcspError {
    /// Nothing to believe came back: try again later.
    #[error("the certificate's revocation status cannot be learned now: {0}")]
    Unavailable(String),
    /// The issuer says that it is not good, or names nobody to ask.
    #[error("a certificate is not good: {0}")]
    Refused(&'static str),
}

impl OcspError {
    fn unavailable(cause: impl Into<String>) -> Self {
        Self::Unavailable(cause.into())
    }
}

type Known = HashMap<[CertificateDer<'static>; 2], Instant>;

/// Asks Apple's responder and remembers good answers for a while.
pub(crate) struct Ocsp {
    http: HttpClient,
    good: Mutex<Known>,
}

impl Ocsp {
    pub(crate) fn new(http: HttpClient) -> Self {
        Self {
            http,
            good: Mutex::default(),
        }
    }

    /// Intermediate first, then leaf, each with its issuer.
    pub(crate) async fn check(&self, chain: &Chain) -> Result<(), OcspError> {
        let key = [chain.leaf.clone(), chain.intermediate.clone()];
        if self
            .known()
            .get(&key)
            .is_some_and(|at| at.elapsed() < GOOD_FOR)
        {
            return Ok(());
        }
        let asked_at = Instant::now();
        self.ask(&chain.intermediate, &chain.root).await?;
        self.ask(&chain.leaf, &chain.intermediate).await?;
        let mut known = self.known();
        if known.len() >= CHAINS_MAX {
            known.clear();
        }
        known.insert(key, asked_at);
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(
        &self,
        certificate: &CertificateDer<'_>,
        issuer: &CertificateDer<'_>,
    ) -> Result<(), OcspError> {
        let url = request::responder(certificate)?;
        let body = request::body(certificate, issuer)?;
        let headers = HeaderMap::from_iter([(
            CONTENT_TYPE,
            HeaderValue::from_static("application/ocsp-request"),
        )]);
        let answer = self
            .http
            .send(Method::POST, url, headers, Some(body.into()))
            .await
            .map_err(|error| OcspError::unavailable(error.to_string()))?;
        if answer.status != StatusCode::OK {
            return Err(OcspError::unavailable(format!(
                "HTTP {}",
                answer.status.as_u16()
            )));
        }
        response::judge(&answer.body, certificate, issuer, SystemTime::now())
    }
}
