//! Superwall: a source of hints about purchases at the App Store and Google Play, never of proof.
//!
//! What it says about accounts, prices and states is not read: a message names a purchase, and its
//! store is asked.

mod read;
mod verify;
mod wire;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::SystemTime;

use secrecy::ExposeSecret as _;

use self::verify::{SecretError, Verifier};
use super::contract::{Authentic, Delivery, Reading, Rejection};
use crate::config::superwall::SuperwallConfig;
use crate::domain::catalog::Catalog;

/// Why Superwall's webhooks cannot be taken. Never holds any part of a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error("superwall: {} cannot be read: {source}", path.display())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("superwall: {0}")]
    Secret(#[from] SecretError),
}

/// Superwall's webhooks, with the secrets that sign them.
pub(crate) struct Superwall {
    verifier: Verifier,
}

impl Superwall {
    /// Reads the secrets; calls nobody.
    pub(crate) fn new(config: &SuperwallConfig) -> Result<Self, SetupError> {
        let mut text = String::new();
        if let Some(path) = &config.signing_secret_file {
            text = std::fs::read_to_string(path).map_err(|source| SetupError::File {
                path: path.clone(),
                source,
            })?;
        }
        if let Some(secret) = &config.signing_secret {
            text.push(' ');
            text.push_str(secret.expose_secret());
        }
        Ok(Self {
            verifier: Verifier::new(&text)?,
        })
    }

    /// Authenticates a delivery from its raw bytes. Its time of sending is machine time.
    pub(crate) fn authenticate(&self, delivery: &Delivery<'_>) -> Result<Authentic, Rejection> {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let event_id = self
            .verifier
            .verify(delivery.headers, delivery.body, now)
            .map_err(|why| Rejection::Forged(why.to_string()))?;
        Ok(Authentic { event_id })
    }

    /// Reads an authentic body: which purchase it is about.
    pub(crate) fn read(&self, body: &[u8], catalog: &Catalog) -> Reading {
        read::read(body, catalog)
    }

    /// The body without what it says of people; nothing of that is needed, ever.
    pub(crate) fn redact<'a>(&self, body: &'a [u8]) -> Cow<'a, [u8]> {
        wire::redact(body)
    }
}
