//! Who is calling: turns an `authorization` header into a verified [`Caller`], or refuses.
//!
//! The token's own header decides nothing: the issuer names the configured rules and key set, and
//! the key names the algorithm. Everything here runs on machine time.

mod cache;
mod examine;
mod keyset;
mod own;
mod presets;
mod refresh;
mod strict;
#[cfg(test)]
mod tests;
mod verify;

pub(crate) use self::own::{KeyError, Own, SignError, Signer};
pub(crate) use self::presets::is_subject;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;
use tonic::Code;
use uuid::Uuid;

use crate::config::issuers::{IssuerConfig, KEY_ISSUER, OWN_NAME};
use crate::domain::api_key::{self, AppScope, KeyKind};
use crate::domain::role::Role;
use crate::flows::api_keys::{CheckError, KeyRing};
use crate::http::HttpClient;

use cache::{Verified, VerifiedTokens};
use presets::Issuer;
use verify::Token;

/// How far the clocks of an issuer and of this machine may be apart.
const LEEWAY: Duration = Duration::from_secs(60);

/// How a token is presented.
const SCHEME: &[u8] = b"Bearer ";

/// Stands for the end of a key that has none; streams are renewed long before.
const NO_EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);

/// A verified caller, shared by all requests that carry the same token.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Short name of the issuer; with `subject` the key of the account.
    pub(crate) issuer: Arc<str>,
    pub(crate) subject: Arc<str>,
    pub(crate) kind: CallerKind,
    /// The token's `exp`, without tolerance: streams end here.
    pub(crate) expires_at: SystemTime,
    /// The issuer says that nobody has signed in: the identity ends with the installation.
    pub(crate) anonymous: bool,
    /// The account that the token names by its id: one of our own tokens.
    pub(crate) own: Option<Own>,
    /// What the provider says the stores call the user (`store_token_claim`).
    pub(crate) store_token: Option<Arc<str>>,
    /// The apps whose purchases it may act on: fewer than all for some API keys.
    pub(crate) apps: AppScope,
    /// Cancelled if the credential ends before its time: an API key that was revoked.
    pub(crate) ended: Option<CancellationToken>,
    /// Where the account is remembered once it has been looked up; lives as long as the token.
    pub(crate) account: OnceLock<Uuid>,
}

impl Caller {
    /// The session of ours that the token came from.
    pub(crate) fn session(&self) -> Option<Uuid> {
        self.own.and_then(|own| own.session)
    }

    /// Who works on the database host, by the name that they give.
    pub(crate) fn host(actor: &str) -> Self {
        Self {
            issuer: "".into(),
            subject: actor.into(),
            kind: CallerKind::Operator(Role::Admin),
            expires_at: SystemTime::now() + NO_EXPIRY,
            anonymous: false,
            apps: AppScope::all(),
            own: None,
            store_token: None,
            ended: None,
            account: OnceLock::new(),
        }
    }

    /// The name that events carry.
    pub(crate) fn actor(&self) -> String {
        if self.issuer.is_empty() {
            self.subject.to_string()
        } else {
            format!("{}:{}", self.issuer, self.subject)
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallerKind {
    User,
    /// Holds the issuer's configured service scope and may name accounts.
    Service,
    /// A person: reads any account, and acts under their own name as far as their role goes.
    Operator(Role),
}

/// A refused credential. What it prints is for the caller and the same for every bad token; the
/// exact [`Cause`] is for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub(crate) struct AuthError(Cause);

/// Why a credential was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cause {
    #[error("no authorization header")]
    HeaderMissing,
    #[error("the authorization header is not one bearer token")]
    NotBearer,
    #[error("the token is longer than accepted")]
    TooLarge,
    #[error("not three parts of canonical base64url")]
    Malformed,
    #[error("the header is no JSON object, or repeats a name")]
    HeaderUnreadable,
    #[error("the claims are no JSON object, or repeat a name")]
    ClaimsUnreadable,
    #[error("a header parameter that is never accepted")]
    HeaderParameter,
    #[error("the header names another kind of token")]
    TokenType,
    #[error("the algorithm is missing or not allowed for this issuer")]
    AlgorithmRefused,
    #[error("the algorithm is not the key's")]
    AlgorithmMismatch,
    #[error("iss is missing or not a string")]
    IssuerMissing,
    #[error("no such issuer is configured")]
    IssuerUnknown,
    #[error("the issuer has no such key")]
    KeyUnknown,
    #[error("several keys fit")]
    KeyAmbiguous,
    #[error("the issuer's keys cannot be had")]
    KeysUnavailable,
    #[error("the signature is wrong")]
    SignatureInvalid,
    #[error("exp is missing")]
    ExpiryMissing,
    #[error(
        "exp, nbf, iat or auth_time is not a whole number of seconds, or contradicts the others"
    )]
    TimeMalformed,
    #[error("expired")]
    Expired,
    #[error("not valid yet")]
    NotYetValid,
    #[error("meant for another audience")]
    Audience,
    #[error("issued to a client that is not accepted")]
    AuthorizedParty,
    #[error("not the kind of token this issuer's apps send")]
    TokenUse,
    #[error("the issuer has not finished this sign-in")]
    SignInPending,
    #[error("the token is bound to a key and cannot be a bearer token")]
    SenderConstrained,
    #[error("the subject is missing, empty, too long or holds control characters")]
    Subject,
    #[error("begins as an API key and is none")]
    KeyMalformed,
    #[error("no live API key")]
    KeyNotLive,
    #[error("the live API keys cannot be had")]
    ApiKeysUnavailable,
}

impl From<Cause> for AuthError {
    fn from(cause: Cause) -> Self {
        Self(cause)
    }
}

impl AuthError {
    /// For logs only.
    pub(crate) fn cause(self) -> Cause {
        self.0
    }

    /// The stable reason told to callers.
    pub(crate) fn reason(self) -> &'static str {
        match self.0 {
            Cause::HeaderMissing | Cause::NotBearer => "UNAUTHENTICATED_MISSING_TOKEN",
            Cause::Expired => "TOKEN_EXPIRED",
            Cause::IssuerUnknown => "ISSUER_UNKNOWN",
            Cause::KeysUnavailable | Cause::ApiKeysUnavailable => "KEYS_UNAVAILABLE",
            Cause::KeyMalformed | Cause::KeyNotLive => "KEY_INVALID",
            Cause::TooLarge
            | Cause::Malformed
            | Cause::HeaderUnreadable
            | Cause::ClaimsUnreadable
            | Cause::HeaderParameter
            | Cause::TokenType
            | Cause::AlgorithmRefused
            | Cause::AlgorithmMismatch
            | Cause::IssuerMissing
            | Cause::KeyUnknown
            | Cause::KeyAmbiguous
            | Cause::SignatureInvalid
            | Cause::ExpiryMissing
            | Cause::TimeMalformed
            | Cause::NotYetValid
            | Cause::Audience
            | Cause::AuthorizedParty
            | Cause::TokenUse
            | Cause::SignInPending
            | Cause::SenderConstrained
            | Cause::Subject => "TOKEN_INVALID",
        }
    }

    /// Only missing keys are our fault and worth a retry with the same token.
    pub(crate) fn code(self) -> Code {
        if self.is_ours() {
            Code::Unavailable
        } else {
            Code::Unauthenticated
        }
    }

    fn is_ours(self) -> bool {
        matches!(self.0, Cause::KeysUnavailable | Cause::ApiKeysUnavailable)
    }

    fn message(self) -> &'static str {
        if self.is_ours() {
            "credentials cannot be checked at the moment"
        } else {
            "the credential is not accepted"
        }
    }
}

/// Every reason that a refused credential is told; `docs/errors.md` explains each.
#[cfg(test)]
pub(crate) const REASONS: &[&str] = &[
    "UNAUTHENTICATED_MISSING_TOKEN",
    "TOKEN_EXPIRED",
    "ISSUER_UNKNOWN",
    "KEYS_UNAVAILABLE",
    "KEY_INVALID",
    "TOKEN_INVALID",
];

/// Why the configured issuers cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error("issuer `{0}` has no issuer value")]
    IssuerMissing(String),
    #[error("issuer `{0}` has neither a preset nor a shared secret")]
    KeysMissing(String),
    #[error("`{0}` is configured twice")]
    Twice(String),
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// One moment on both of the machine's clocks: what tokens say is wall time, ages are steady time.
#[derive(Clone, Copy, Debug)]
struct Moment {
    wall: SystemTime,
    steady: Instant,
}

impl Moment {
    fn now() -> Self {
        Self {
            wall: SystemTime::now(),
            steady: Instant::now(),
        }
    }
}

/// Checks the credentials of all callers.
pub(crate) struct Authenticator {
    issuers: HashMap<Arc<str>, Arc<Issuer>>,
    /// Short names under which services name users who have no issuer's token.
    namespaces: Vec<String>,
    verified: VerifiedTokens,
    api_keys: Option<Arc<KeyRing>>,
}

impl Authenticator {
    /// `configs` have passed `validate`; `http` fetches their key sets.
    pub(crate) fn new(configs: Vec<IssuerConfig>, http: HttpClient) -> Result<Self, SetupError> {
        let mut issuers = HashMap::with_capacity(configs.len());
        for config in configs {
            let issuer = Issuer::new(config, &http)?;
            if let Some(other) = issuers.insert(Arc::clone(&issuer.value), Arc::new(issuer)) {
                return Err(SetupError::Twice(other.value.to_string()));
            }
        }
        Ok(Self {
            issuers,
            namespaces: Vec::new(),
            verified: VerifiedTokens::new(),
            api_keys: None,
        })
    }

    /// The same, and API keys.
    pub(crate) fn with_api_keys(self, ring: Arc<KeyRing>) -> Self {
        Self {
            api_keys: Some(ring),
            ..self
        }
    }

    /// The same that takes our own tokens, too, and users of `namespaces`.
    pub(crate) fn with_own(
        mut self,
        signer: &Signer,
        namespaces: Vec<String>,
    ) -> Result<Self, SetupError> {
        let issuer = signer.issuer()?;
        if let Some(other) = self
            .issuers
            .insert(Arc::clone(&issuer.value), Arc::new(issuer))
        {
            return Err(SetupError::Twice(other.value.to_string()));
        }
        self.namespaces = namespaces;
        Ok(self)
    }

    /// Whether a service may name users under that short name. Not under our own: its subjects are
    /// accounts that exist.
    pub(crate) fn knows_issuer(&self, name: &str) -> bool {
        let mut issuers = self.issuers.values();
        let known = issuers.any(|issuer| *issuer.name == *name)
            || self.namespaces.iter().any(|namespace| namespace == name);
        known && name != OWN_NAME
    }

    /// Fetches all key sets, so that the first caller need not wait; a set that cannot be had is
    /// logged and tried again when it is needed.
    pub(crate) async fn preload(&self) {
        let now = Moment::now();
        let fetches = self.issuers.values().map(|issuer| issuer.keys.preload(now));
        futures::future::join_all(fetches).await;
    }

    /// Verifies the one `authorization` header of a request.
    pub(crate) async fn authenticate(
        &self,
        authorization: Option<&str>,
    ) -> Result<Arc<Caller>, AuthError> {
        self.authenticate_at(authorization, Moment::now())
            .await
            .map_err(AuthError)
    }

    /// The caller of a token that has been verified already; nothing is waited for. None says
    /// nothing about the credential.
    pub(crate) fn recognised(&self, authorization: &[u8]) -> Option<Arc<Caller>> {
        let (scheme, token) = authorization.split_at_checked(SCHEME.len())?;
        // Whatever else is not as it should be has another digest than any verified token.
        scheme
            .eq_ignore_ascii_case(SCHEME)
            .then(|| self.verified.caller(&cache::digest(token), Moment::now()))
            .flatten()
    }

    async fn authenticate_at(
        &self,
        authorization: Option<&str>,
        now: Moment,
    ) -> Result<Arc<Caller>, Cause> {
        let encoded = verify::bearer(authorization)?;
        if encoded.starts_with(api_key::PREFIX) {
            return self.api_key(encoded, now.wall).await.map(Arc::new);
        }
        let digest = cache::digest(encoded);
        if let Some(caller) = self.verified.caller(&digest, now) {
            return Ok(caller);
        }
        let token = Token::parse(encoded)?;
        let issuer = self
            .issuers
            .get(token.issuer()?)
            .ok_or(Cause::IssuerUnknown)?;
        let algorithm = issuer.allowed(&token.algorithm)?;
        let found = issuer
            .keys
            .find(token.key_id.as_deref(), algorithm, now)
            .await?;
        token.check_signature(&found.key)?;
        let expires_at = token.check_times(now.wall)?;
        let caller = issuer.caller(&token, expires_at, now.wall)?;
        let caller = Arc::new(caller);
        let verified = Verified::new(&caller, issuer, found.generation, now);
        self.verified.insert(digest, verified, now);
        Ok(caller)
    }

    /// The caller whose API key this is.
    async fn api_key(&self, text: &str, now: SystemTime) -> Result<Caller, Cause> {
        let ring = self.api_keys.as_ref().ok_or(Cause::KeyNotLive)?;
        let key = ring.check(text).await.map_err(|error| match error {
            CheckError::Malformed => Cause::KeyMalformed,
            CheckError::NotLive => Cause::KeyNotLive,
            CheckError::Unavailable => Cause::ApiKeysUnavailable,
        })?;
        Ok(Caller {
            issuer: KEY_ISSUER.into(),
            subject: Arc::clone(&key.name),
            kind: match key.powers.kind {
                KeyKind::Service => CallerKind::Service,
                KeyKind::Operator(role) => CallerKind::Operator(role),
            },
            expires_at: key.expires_at.unwrap_or(now + NO_EXPIRY),
            anonymous: false,
            own: None,
            store_token: None,
            apps: key.powers.apps.clone(),
            ended: Some(key.ended.clone()),
            account: OnceLock::new(),
        })
    }
}
