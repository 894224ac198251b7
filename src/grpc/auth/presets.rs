//! What each identity provider promises in its tokens, and where it publishes its keys.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use jsonwebtoken::Algorithm;
use serde_json::Value;

use crate::config::issuers::{IssuerConfig, Preset, SigningAlgorithm, TokenUse};
use crate::domain::account_token;
use crate::domain::api_key::AppScope;
use crate::domain::role::Role;
use crate::http::HttpClient;

use super::keyset::KeySet;
use super::refresh::{Keys, Location};
use super::verify::Token;
use super::{Caller, CallerKind, Cause, SetupError, own};

const FIREBASE_KEYS: &str =
    "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com";
const APPLE_KEYS: &str = "https://appleid.apple.com/auth/keys";
/// Longer subjects exist at no provider; OpenID itself stops at 255.
const SUBJECT_BYTES_MAX: usize = 255;

/// Whether a text can be a subject: short, and nothing that hides.
pub(crate) fn is_subject(text: &str) -> bool {
    (1..=SUBJECT_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control)
}

/// A configured issuer, ready to judge its tokens.
pub(super) struct Issuer {
    pub(super) name: Arc<str>,
    /// The exact `iss`.
    pub(super) value: Arc<str>,
    pub(super) keys: Keys,
    judge: Judge,
    algorithms: Vec<Algorithm>,
}

/// By whose rules tokens are judged.
enum Judge {
    Provider(Box<Rules>),
    /// We signed them.
    Own,
}

impl Issuer {
    pub(super) fn new(config: IssuerConfig, http: &HttpClient) -> Result<Self, SetupError> {
        let value: Arc<str> = match config.issuer_value() {
            Some(value) => value.into(),
            None => return Err(SetupError::IssuerMissing(config.name)),
        };
        let name: Arc<str> = config.name.as_str().into();
        let (keys, algorithms) = match (&config.shared_secret, config.preset) {
            (Some(secret), _) => {
                let keys = Keys::fixed(KeySet::shared_secret(secret));
                (keys, vec![Algorithm::HS256])
            }
            (None, Some(preset)) => {
                let algorithms: Vec<_> = config.algorithms.iter().copied().map(signing).collect();
                let location = match &config.jwks_url {
                    Some(url) => Location::KeySet(url.clone()),
                    None => preset_location(preset, &value),
                };
                let name = Arc::clone(&name);
                let keys = Keys::fetched(name, location, algorithms.clone(), http.clone());
                (keys, algorithms)
            }
            (None, None) => return Err(SetupError::KeysMissing(config.name)),
        };
        Ok(Self {
            name,
            judge: Judge::Provider(Box::new(Rules::new(config, &value))),
            value,
            keys,
            algorithms,
        })
    }

    /// The issuer that is this server.
    pub(super) fn own(name: Arc<str>, value: Arc<str>, keys: Keys) -> Self {
        Self {
            name,
            value,
            keys,
            judge: Judge::Own,
            algorithms: vec![Algorithm::ES256],
        }
    }

    /// The caller named by a token whose signature and times are good.
    pub(super) fn caller(
        &self,
        token: &Token<'_>,
        expires_at: SystemTime,
        now: SystemTime,
    ) -> Result<Caller, Cause> {
        match &self.judge {
            Judge::Provider(rules) => rules.caller(&self.name, token, expires_at, now),
            Judge::Own => own::caller(self, token, expires_at),
        }
    }

    /// The algorithm of this name, if this issuer's tokens may use it.
    pub(super) fn allowed(&self, name: &str) -> Result<Algorithm, Cause> {
        name.parse()
            .ok()
            .filter(|algorithm| self.algorithms.contains(algorithm))
            .ok_or(Cause::AlgorithmRefused)
    }
}

fn preset_location(preset: Preset, issuer: &str) -> Location {
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    match preset {
        Preset::Firebase => Location::KeySet(FIREBASE_KEYS.to_owned()),
        Preset::Apple => Location::KeySet(APPLE_KEYS.to_owned()),
        Preset::Auth0 | Preset::Cognito | Preset::Supabase | Preset::Clerk => {
            Location::KeySet(format!("{base}/.well-known/jwks.json"))
        }
        Preset::Keycloak => Location::KeySet(format!("{base}/protocol/openid-connect/certs")),
        Preset::Oidc => Location::Discovery {
            issuer: issuer.to_owned(),
            url: format!("{base}/.well-known/openid-configuration"),
        },
    }
}

fn signing(algorithm: SigningAlgorithm) -> Algorithm {
    match algorithm {
        SigningAlgorithm::RS256 => Algorithm::RS256,
        SigningAlgorithm::RS384 => Algorithm::RS384,
        SigningAlgorithm::RS512 => Algorithm::RS512,
        SigningAlgorithm::PS256 => Algorithm::PS256,
        SigningAlgorithm::PS384 => Algorithm::PS384,
        SigningAlgorithm::PS512 => Algorithm::PS512,
        SigningAlgorithm::ES256 => Algorithm::ES256,
        SigningAlgorithm::ES384 => Algorithm::ES384,
        SigningAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

/// Which of an issuer's genuine tokens are meant for us, and whom they name.
struct Rules {
    /// None: our own development secret.
    preset: Option<Preset>,
    audience: Vec<String>,
    authorized_parties: Vec<String>,
    token_use: TokenUse,
    subject_claim: String,
    service_scope: Option<String>,
    /// The highest first: who has several has the highest.
    roles: [(Role, Option<String>); 3],
    role_claim: Option<String>,
    store_token_claim: Option<String>,
}

impl Rules {
    fn new(config: IssuerConfig, issuer: &str) -> Self {
        let mut audience = config.audience;
        if audience.is_empty() {
            let project = config.preset.and_then(|it| it.firebase_project(issuer));
            audience.extend(project.map(str::to_owned));
            if config.preset == Some(Preset::Supabase) {
                audience.push("authenticated".to_owned());
            }
        }
        Self {
            preset: config.preset,
            audience,
            authorized_parties: config.authorized_parties,
            token_use: config.token_use.unwrap_or(TokenUse::Access),
            subject_claim: config.subject_claim,
            service_scope: config.service_scope,
            roles: [
                (Role::Admin, config.admin_scope),
                (Role::Support, config.operator_scope),
                (Role::Viewer, config.viewer_scope),
            ],
            role_claim: config.role_claim,
            store_token_claim: config.store_token_claim,
        }
    }

    fn caller(
        &self,
        issuer: &Arc<str>,
        token: &Token<'_>,
        expires_at: SystemTime,
        now: SystemTime,
    ) -> Result<Caller, Cause> {
        self.check(token, now)?;
        Ok(Caller {
            issuer: Arc::clone(issuer),
            subject: self.subject(token)?,
            kind: self.kind(token),
            expires_at,
            anonymous: self.is_anonymous(token),
            own: None,
            store_token: self.store_token(token),
            apps: AppScope::all(),
            ended: None,
            account: OnceLock::new(),
        })
    }

    fn check(&self, token: &Token<'_>, now: SystemTime) -> Result<(), Cause> {
        // A logout token or security event is signed by the same key and names a subject too.
        if token.claims.contains_key("events") {
            return Err(Cause::TokenUse);
        }
        // Without the proof of possession, a bound token in a bearer header is a stolen one.
        if token.claims.contains_key("cnf") {
            return Err(Cause::SenderConstrained);
        }
        match self.preset {
            Some(Preset::Cognito) => self.check_cognito(token),
            Some(Preset::Clerk) => self.check_clerk(token),
            Some(Preset::Keycloak) => self.check_keycloak(token),
            Some(Preset::Firebase) => {
                token.check_begun("auth_time", now)?;
                self.check_audience(token)
            }
            Some(Preset::Auth0 | Preset::Supabase | Preset::Apple | Preset::Oidc) | None => {
                self.check_audience(token)?;
                self.check_party(token)
            }
        }
    }

    /// Access tokens carry `client_id` where identity tokens carry `aud`.
    fn check_cognito(&self, token: &Token<'_>) -> Result<(), Cause> {
        let (kind, client) = match self.token_use {
            TokenUse::Access => ("access", "client_id"),
            TokenUse::Id => ("id", "aud"),
        };
        if token.text("token_use") != Some(kind) {
            return Err(Cause::TokenUse);
        }
        match token.text(client) {
            Some(client) if self.audience.iter().any(|known| known == client) => Ok(()),
            Some(_) | None => Err(Cause::Audience),
        }
    }

    /// A Clerk issuer serves one product. Browsers add their origin as `azp`, native apps none.
    fn check_clerk(&self, token: &Token<'_>) -> Result<(), Cause> {
        if token.text("sts") == Some("pending") {
            return Err(Cause::SignInPending);
        }
        self.check_audience(token)?;
        match token.claims.get("azp") {
            None => Ok(()),
            Some(origin) if self.is_accepted_party(origin) => Ok(()),
            Some(_) => Err(Cause::AuthorizedParty),
        }
    }

    /// `typ` tells access tokens from identity and refresh tokens; `aud` names us only if a mapper
    /// was set up, else it is of no meaning to us.
    fn check_keycloak(&self, token: &Token<'_>) -> Result<(), Cause> {
        if token.text("typ") != Some("Bearer") {
            return Err(Cause::TokenUse);
        }
        if self.audience.is_empty() && self.authorized_parties.is_empty() {
            return Err(Cause::Audience);
        }
        if !self.audience.is_empty() {
            self.check_audience(token)?;
        }
        self.check_party(token)
    }

    /// With no audience configured a token must not name one: it was meant for somebody else.
    fn check_audience(&self, token: &Token<'_>) -> Result<(), Cause> {
        let accepted = |value: &Value| self.audience.iter().any(|known| value == known.as_str());
        let good = match token.claims.get("aud") {
            None => self.audience.is_empty(),
            Some(Value::Array(values)) => {
                values.iter().all(Value::is_string) && values.iter().any(accepted)
            }
            Some(value) => accepted(value),
        };
        good.then_some(()).ok_or(Cause::Audience)
    }

    /// `azp` is OpenID's name for the client, `client_id` that of RFC 9068.
    fn check_party(&self, token: &Token<'_>) -> Result<(), Cause> {
        let client = || token.claims.get("client_id");
        match token.claims.get("azp").or_else(client) {
            _ if self.authorized_parties.is_empty() => Ok(()),
            Some(party) if self.is_accepted_party(party) => Ok(()),
            Some(_) | None => Err(Cause::AuthorizedParty),
        }
    }

    fn is_accepted_party(&self, party: &Value) -> bool {
        self.authorized_parties
            .iter()
            .any(|known| party == known.as_str())
    }

    fn subject(&self, token: &Token<'_>) -> Result<Arc<str>, Cause> {
        let subject = token.text(&self.subject_claim).ok_or(Cause::Subject)?;
        is_subject(subject)
            .then(|| subject.into())
            .ok_or(Cause::Subject)
    }

    fn kind(&self, token: &Token<'_>) -> CallerKind {
        let scopes = ["scope", "scp"].map(|claim| token.claims.get(claim));
        // People have roles; programs have scopes alone.
        let roles = [
            scopes[0],
            scopes[1],
            token.claims.get("roles"),
            claim(token, self.role_claim.as_deref()),
        ];
        let granted = |wanted: &Option<String>, claims: &[Option<&Value>]| {
            wanted
                .as_deref()
                .is_some_and(|wanted| claims.iter().flatten().any(|claim| says(claim, wanted)))
        };
        let role = self.roles.iter().find(|(_, scope)| granted(scope, &roles));
        match role {
            Some((role, _)) => CallerKind::Operator(*role),
            None if granted(&self.service_scope, &scopes) => CallerKind::Service,
            None => CallerKind::User,
        }
    }

    /// What the provider says the stores call the user; what no store can have been told is none.
    fn store_token(&self, token: &Token<'_>) -> Option<Arc<str>> {
        let said = claim(token, self.store_token_claim.as_deref())?.as_str()?;
        account_token::is_sound(said).then(|| said.into())
    }

    fn is_anonymous(&self, token: &Token<'_>) -> bool {
        match self.preset {
            Some(Preset::Firebase) => token
                .claims
                .get("firebase")
                .and_then(|firebase| firebase.get("sign_in_provider"))
                .is_some_and(|provider| provider == "anonymous"),
            Some(Preset::Supabase) | None => {
                token.claims.get("is_anonymous") == Some(&Value::Bool(true))
            }
            Some(
                Preset::Auth0
                | Preset::Cognito
                | Preset::Clerk
                | Preset::Keycloak
                | Preset::Apple
                | Preset::Oidc,
            ) => false,
        }
    }
}

/// A configured claim: by its name, or by a JSON pointer.
fn claim<'t>(token: &'t Token<'_>, name: Option<&str>) -> Option<&'t Value> {
    let name = name?;
    let Some(path) = name.strip_prefix('/') else {
        return token.claims.get(name);
    };
    let mut steps = path.split('/');
    let first = token.claims.get(steps.next()?)?;
    steps.try_fold(first, |value, step| value.get(step))
}

/// Whether a claim, a list or words between spaces, holds the wanted word.
fn says(claim: &Value, wanted: &str) -> bool {
    match claim {
        Value::String(words) => words.split(' ').any(|word| word == wanted),
        Value::Array(words) => words.iter().any(|word| word == wanted),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}
