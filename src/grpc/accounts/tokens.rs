//! What the configuration says of our own tokens, ready to use.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use secrecy::SecretString;

use crate::config::tokens::{AnonymousAccounts, TokensConfig};
use crate::grpc::auth::{KeyError, Own, SignError, Signer};

/// Signing keys and lifetimes.
pub(crate) struct Tokens {
    signer: Signer,
    access: Duration,
    refresh: Duration,
    pub(super) anonymous: AnonymousAccounts,
    pub(super) per_address_per_minute: u32,
    pub(super) per_second: f64,
    namespaces: Vec<String>,
}

impl Tokens {
    /// Reads the keys.
    pub(crate) fn load(config: &TokensConfig) -> Result<Self, KeyError> {
        const DAY: u64 = 24 * 60 * 60;
        Ok(Self {
            signer: Signer::load(config)?,
            access: Duration::from_secs(u64::from(config.access_token_minutes) * 60),
            refresh: Duration::from_secs(u64::from(config.refresh_token_days) * DAY),
            anonymous: config.anonymous_accounts,
            per_address_per_minute: config.anonymous_per_address_per_minute,
            per_second: f64::from(config.anonymous_per_minute) / 60.0,
            namespaces: config.namespaces.clone(),
        })
    }

    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }

    pub(crate) fn namespaces(&self) -> Vec<String> {
        self.namespaces.clone()
    }

    /// The published key set.
    pub(crate) fn key_set(&self) -> Bytes {
        self.signer.key_set()
    }

    /// How long a session lasts unused.
    pub(super) fn refresh_lifetime(&self) -> Duration {
        self.refresh
    }

    /// A session's access token, and its end.
    pub(super) fn access(
        &self,
        account: uuid::Uuid,
        session: uuid::Uuid,
        now: SystemTime,
    ) -> Result<(SecretString, SystemTime), SignError> {
        let own = Own {
            account,
            session: Some(session),
        };
        self.signer.sign(own, self.access, now)
    }

    /// A token of no session: it ends by its time alone, or with its account.
    pub(super) fn minted(
        &self,
        account: uuid::Uuid,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<(SecretString, SystemTime), SignError> {
        let own = Own {
            account,
            session: None,
        };
        self.signer.sign(own, ttl, now)
    }
}
