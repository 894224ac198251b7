//! Whether a push is Google's: its token's signature, and that it is for this very subscription.

mod jwt;
mod keys;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::HeaderMap;

use self::jwt::{Token, TokenError};
use self::keys::{KeyError, KeySet};
use super::SetupError;
use super::wire::PushEnvelope;
use crate::config::google_play::PushConfig;
use crate::http::HttpClient;
use crate::providers::contract::{Authentic, Rejection};

/// Pub/Sub messages may be larger; notifications have a few hundred bytes.
pub(super) const BODY_BYTES_MAX: usize = 256 * 1024;
/// Google writes its issuer in both ways.
const GOOGLE_ISSUERS: [&str; 2] = ["https://accounts.google.com", "accounts.google.com"];

/// Why a push is turned away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PushError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the body is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the body is not a Pub/Sub push (payload unwrapping must be off)")]
    NotAPush,
    #[error("the push is of another subscription than the configured one")]
    Subscription,
    #[error("the message has no id")]
    NoMessageId,
}

impl From<PushError> for Rejection {
    fn from(error: PushError) -> Self {
        let said = error.to_string();
        match error {
            PushError::Key(KeyError::Unavailable) => Self::Unavailable(said),
            PushError::Key(KeyError::Unknown)
            | PushError::Token(_)
            | PushError::TooLarge
            | PushError::NotAPush
            | PushError::Subscription
            | PushError::NoMessageId => Self::Forged(said),
        }
    }
}

/// Machine time at which credentials and key age are judged.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    wall: SystemTime,
    steady: Instant,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self {
            wall: SystemTime::now(),
            steady: Instant::now(),
        }
    }

    #[cfg(test)]
    pub(super) fn after(self, time: std::time::Duration) -> Self {
        Self {
            wall: self.wall + time,
            steady: self.steady + time,
        }
    }
}

/// Believes one push subscription.
pub(super) struct PushVerifier {
    keys: Arc<KeySet>,
    issuer: Option<String>,
    audience: String,
    email: String,
    subscription: String,
}

impl PushVerifier {
    pub(super) fn new(config: &PushConfig, http: &HttpClient) -> Result<Self, SetupError> {
        let keys_url = super::url("push.jwks_url", &config.jwks_url)?;
        Ok(Self {
            keys: Arc::new(KeySet::new(http.clone(), keys_url)),
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            email: config.email.clone(),
            subscription: config.subscription.clone(),
        })
    }

    pub(super) async fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: Moment,
    ) -> Result<Authentic, PushError> {
        if body.len() > BODY_BYTES_MAX {
            return Err(PushError::TooLarge);
        }
        self.verify_bearer(jwt::bearer(headers)?, now).await?;
        self.verify_body(body)
    }

    /// The sender: Google says that it is the configured service account, to this audience.
    pub(super) async fn verify_bearer(&self, bearer: &str, now: Moment) -> Result<(), PushError> {
        let token = Token::parse(bearer)?;
        let key = self.keys.find(&token.key_id, now.steady).await?;
        let claims = token.believe(&key)?;
        let issued = match &self.issuer {
            Some(issuer) => claims.iss == *issuer,
            None => GOOGLE_ISSUERS.contains(&claims.iss.as_str()),
        };
        claims.check_times(now.wall)?;
        let checks = [
            ("issuer", issued),
            ("audience", claims.aud == self.audience),
            ("e-mail address", claims.email == self.email),
        ];
        if let Some((name, _)) = checks.iter().find(|(_, fits)| !fits) {
            return Err(TokenError::Mismatch(name).into());
        }
        if !claims.email_verified {
            return Err(TokenError::EmailNotVerified.into());
        }
        Ok(())
    }

    /// The message: of the configured subscription, with the id that redeliveries repeat.
    pub(super) fn verify_body(&self, body: &[u8]) -> Result<Authentic, PushError> {
        let push: PushEnvelope = serde_json::from_slice(body).map_err(|_| PushError::NotAPush)?;
        if push.subscription != self.subscription {
            return Err(PushError::Subscription);
        }
        let event_id = push.message.id().ok_or(PushError::NoMessageId)?.to_owned();
        Ok(Authentic { event_id })
    }
}

#[cfg(test)]
mod tests;
