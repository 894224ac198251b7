//! The headers with which Svix proves that a webhook is Superwall's.

use std::sync::{MutexGuard, PoisonError};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::super::delivery::Letter;
use super::super::error::SandboxError;
use super::super::inner::Inner;
use super::super::jws::machine_seconds;
use super::secrets::Secrets;

impl Inner {
    /// The secret in use.
    pub(in crate::sandbox) fn superwall_secret(&self) -> String {
        self.superwall_secrets().current().to_owned()
    }

    pub(in crate::sandbox) fn rotate_superwall_secret(&self) -> Result<(), SandboxError> {
        self.superwall_secrets().rotate(self.dir.as_deref())?;
        self.write_manifest()
    }

    fn superwall_secrets(&self) -> MutexGuard<'_, Secrets> {
        self.superwall_secrets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Signed anew for every attempt: the time of sending is part of what is signed. It is machine
    /// time, as what the receiver compares it with.
    pub(in crate::sandbox) fn superwall_proofs(
        &self,
        letter: &Letter,
    ) -> Result<HeaderMap, SandboxError> {
        let seconds = machine_seconds();
        let signatures = self
            .superwall_secrets()
            .signatures(&letter.id, seconds, &letter.body);
        let headers = [
            (HeaderName::from_static("svix-id"), letter.id.clone()),
            (
                HeaderName::from_static("svix-timestamp"),
                seconds.to_string(),
            ),
            (HeaderName::from_static("svix-signature"), signatures),
        ];
        let headers = headers.map(|(name, value)| {
            let value = HeaderValue::from_str(&value)
                .map_err(|error| SandboxError::Key(error.to_string()))?;
            Ok((name, value))
        });
        headers.into_iter().collect()
    }
}
