//! Who may vouch for callers: the identity providers whose tokens the server accepts.

use std::collections::{HashMap, HashSet};

use http::Uri;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// The issuer of every Sign in with Apple identity token.
const APPLE_ISSUER: &str = "https://appleid.apple.com";
/// What a Firebase issuer starts with; the project id follows.
const FIREBASE_ISSUER_PREFIX: &str = "https://securetoken.google.com/";
/// A shorter HMAC key than the hash's output can be guessed off-line from one token.
const SHARED_SECRET_BYTES_MIN: usize = 32;
/// Stands where an issuer's name stands, for callers who have an API key.
pub(crate) const KEY_ISSUER: &str = "key";
/// The name is stored with every account, so it stays short.
const NAME_BYTES_MAX: usize = 32;
/// The short name of our own tokens' issuer.
pub const OWN_NAME: &str = "entitled";

/// The `[[issuers]]` tables of the configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Issuers(pub Vec<IssuerConfig>);

/// One identity provider: `[[issuers]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// Short name, 1 to 32 of `a-z 0-9 _ -`. It is part of every account's key: never rename it.
    pub name: String,
    /// Which provider this is; it brings the provider's own rules. Left out only with
    /// `shared_secret`.
    #[serde(default)]
    pub preset: Option<Preset>,
    /// The exact `iss` of its tokens. May be left out for Apple (there is one) and with
    /// `shared_secret` (then it is `name`).
    #[serde(default)]
    pub issuer: Option<String>,
    /// Where the key set is, if not where the preset has it.
    #[serde(default)]
    pub jwks_url: Option<String>,
    /// Accepted audiences: API identifiers, bundle ids; for Cognito the app client ids. Firebase
    /// and Supabase have a default.
    #[serde(default)]
    pub audience: Vec<String>,
    /// Accepted `azp` (or `client_id`) values; for Clerk the allowed origins.
    #[serde(default)]
    pub authorized_parties: Vec<String>,
    /// Cognito only: which of its two tokens the apps send; default `access`.
    #[serde(default)]
    pub token_use: Option<TokenUse>,
    /// The claim that names the user at this issuer; default `sub`.
    #[serde(default = "subject_claim")]
    pub subject_claim: String,
    /// Accepted signature algorithms. A key without `alg` is used with the first that fits it.
    #[serde(default = "algorithms")]
    pub algorithms: Vec<SigningAlgorithm>,
    /// The scope that makes a caller a service instead of a user; default none.
    #[serde(default)]
    pub service_scope: Option<String>,
    /// The scope or role that makes a caller an operator of the role `support`: one of the people
    /// who answer tickets. Looked for in the claims `scope`, `scp`, `roles` and the one that
    /// `role_claim` names; default none.
    #[serde(default)]
    pub operator_scope: Option<String>,
    /// The same for the role `viewer`, which reads and changes nothing.
    #[serde(default)]
    pub viewer_scope: Option<String>,
    /// The same for the role `admin`, which runs the deployment: keys, catalog, erasure.
    #[serde(default)]
    pub admin_scope: Option<String>,
    /// A further claim in which the scopes of operators are looked for: its name
    /// (`cognito:groups`), or a path from the top that begins with a slash
    /// (`/realm_access/roles`); default none.
    #[serde(default)]
    pub role_claim: Option<String>,
    /// The claim in which the provider says by which name the stores know the user from before this
    /// server: what the app has passed as `appAccountToken` (a UUID) or obfuscated account id. Its
    /// name, or a path that begins with a slash. Only a claim that users cannot set themselves;
    /// default none.
    #[serde(default)]
    pub store_token_claim: Option<String>,
    /// HS256 secret, at least 32 bytes, for development only: whoever can check a token can also
    /// make one.
    #[serde(default)]
    pub shared_secret: Option<SecretString>,
}

/// The identity providers whose rules are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Firebase Authentication and Google Identity Platform.
    Firebase,
    /// Auth0.
    Auth0,
    /// Amazon Cognito user pools.
    Cognito,
    /// Supabase Auth.
    Supabase,
    /// Clerk.
    Clerk,
    /// Keycloak.
    Keycloak,
    /// Sign in with Apple identity tokens.
    Apple,
    /// Any other OpenID provider, found through its discovery document.
    Oidc,
}

/// Which kind of Cognito token is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenUse {
    /// The access token: its `client_id` is checked.
    Access,
    /// The identity token: its `aud` is checked.
    Id,
}

/// Signature algorithms of published keys (RFC 7518, RFC 8037). None of them is symmetric: a public
/// key must never serve as an HMAC secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum SigningAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

fn subject_claim() -> String {
    "sub".to_owned()
}

fn algorithms() -> Vec<SigningAlgorithm> {
    use SigningAlgorithm::{ES256, EdDSA, RS256};
    vec![RS256, ES256, EdDSA]
}

impl Issuers {
    /// What is wrong with the section, a sentence each; empty if nothing is.
    pub fn validate(&self, production: bool) -> Vec<String> {
        let mut problems: Vec<String> = self
            .0
            .iter()
            .flat_map(|issuer| issuer.validate(production))
            .collect();
        let (mut names, mut values) = (HashSet::new(), HashSet::new());
        for config in &self.0 {
            if !names.insert(config.name.as_str()) {
                problems.push(format!(
                    "issuers: the name `{}` is used twice; accounts could not be told apart.",
                    config.name
                ));
            }
            if let Some(value) = config.issuer_value()
                && !values.insert(value)
            {
                problems.push(format!(
                    "issuers: `{value}` is configured twice; a token must belong to one issuer."
                ));
            }
        }
        problems
    }
}

impl IssuerConfig {
    /// The exact `iss` this issuer's tokens carry.
    pub fn issuer_value(&self) -> Option<&str> {
        match (&self.issuer, self.preset) {
            (Some(issuer), _) => Some(issuer),
            (None, Some(Preset::Apple)) => Some(APPLE_ISSUER),
            (None, _) if self.shared_secret.is_some() => Some(&self.name),
            (None, _) => None,
        }
    }

    /// What is wrong with this issuer, a sentence each; empty if nothing is.
    pub fn validate(&self, production: bool) -> Vec<String> {
        let mut problems = Vec::new();
        self.check_general(&mut problems);
        match &self.shared_secret {
            Some(secret) => self.check_shared_secret(secret, production, &mut problems),
            None => {
                self.check_issuer(&mut problems);
                self.check_audience_rule(&mut problems);
                if production {
                    self.check_https(&mut problems);
                }
            }
        }
        let name = &self.name;
        problems
            .into_iter()
            .map(|problem| format!("issuers: `{name}`: {problem}"))
            .collect()
    }

    /// Whoever holds a loopback port must not be able to vouch for users.
    fn check_https(&self, problems: &mut Vec<String>) {
        let plain = |url: Option<&str>| url.is_some_and(|url| url.starts_with("http://"));
        if plain(self.issuer_value()) || plain(self.jwks_url.as_deref()) {
            problems.push("http is for development; production issuers use https.".to_owned());
        }
    }

    fn check_general(&self, problems: &mut Vec<String>) {
        if !is_name(&self.name) {
            problems.push(format!(
                "name must be 1 to {NAME_BYTES_MAX} of a-z, 0-9, `_` and `-`."
            ));
        }
        if self.name == OWN_NAME {
            problems.push("that name is our own tokens'; give it another.".to_owned());
        }
        if self.subject_claim.is_empty() {
            problems.push("subject_claim is empty; leave it out for `sub`.".to_owned());
        }
        if self.algorithms.is_empty() {
            problems.push("algorithms is empty; no token could be accepted.".to_owned());
        }
        self.check_scopes(problems);
        let mut values = self.audience.iter().chain(&self.authorized_parties);
        if values.any(String::is_empty) {
            problems.push("audience and authorized_parties must not hold empty values.".to_owned());
        }
        if self.token_use.is_some() && self.preset != Some(Preset::Cognito) {
            problems.push("token_use is for preset `cognito` only.".to_owned());
        }
        if let Some(url) = &self.jwks_url {
            problems.extend(check_url("jwks_url", url));
        }
    }

    fn check_scopes(&self, problems: &mut Vec<String>) {
        let scopes = [
            ("service_scope", &self.service_scope),
            ("viewer_scope", &self.viewer_scope),
            ("operator_scope", &self.operator_scope),
            ("admin_scope", &self.admin_scope),
        ];
        let mut taken: HashMap<&str, &str> = HashMap::new();
        for (setting, scope) in scopes {
            let Some(scope) = scope.as_deref() else {
                continue;
            };
            if scope.is_empty() || scope.contains(char::is_whitespace) {
                problems.push(format!("{setting} must be one scope, without spaces."));
            }
            if let Some(other) = taken.insert(scope, setting) {
                problems.push(format!("{setting} and {other} must differ."));
            }
        }
        for (setting, claim) in [
            ("role_claim", &self.role_claim),
            ("store_token_claim", &self.store_token_claim),
        ] {
            let claim = claim.as_deref();
            if claim.is_some_and(|claim| claim.trim_matches('/').is_empty()) {
                problems.push(format!("{setting} is empty; leave it out."));
            }
        }
        if self.name == KEY_ISSUER {
            problems.push("the name `key` is taken: what API keys do is told under it.".to_owned());
        }
    }

    fn check_shared_secret(
        &self,
        secret: &SecretString,
        production: bool,
        problems: &mut Vec<String>,
    ) {
        if production {
            problems.push(
                "shared_secret is for development only; use an issuer with published keys."
                    .to_owned(),
            );
        }
        if secret.expose_secret().len() < SHARED_SECRET_BYTES_MIN {
            problems.push(format!(
                "shared_secret must have at least {SHARED_SECRET_BYTES_MIN} bytes."
            ));
        }
        if self.jwks_url.is_some() {
            problems.push("shared_secret and jwks_url exclude each other.".to_owned());
        }
        if !matches!(self.preset, None | Some(Preset::Supabase)) {
            problems.push(
                "shared_secret goes with no preset or with `supabase`; the others publish keys."
                    .to_owned(),
            );
        }
    }

    fn check_issuer(&self, problems: &mut Vec<String>) {
        let Some(preset) = self.preset else {
            problems.push("preset is missing (`oidc` fits any OpenID provider).".to_owned());
            return;
        };
        let Some(issuer) = self.issuer_value() else {
            problems.push("issuer is missing: the exact `iss` of the tokens.".to_owned());
            return;
        };
        if let Some(problem) = check_url("issuer", issuer) {
            problems.push(problem);
            return;
        }
        if let Some(expected) = preset.issuer_mismatch(issuer) {
            problems.push(format!("issuer must be {expected}."));
        }
    }

    fn check_audience_rule(&self, problems: &mut Vec<String>) {
        let has_audience = !self.audience.is_empty();
        let has_parties = !self.authorized_parties.is_empty();
        let missing = match self.preset {
            None | Some(Preset::Firebase | Preset::Supabase | Preset::Clerk) => None,
            Some(Preset::Auth0 | Preset::Oidc) if !has_audience => {
                Some("audience is missing: the identifier of your API at this issuer.")
            }
            Some(Preset::Apple) if !has_audience => {
                Some("audience is missing: your bundle ids or service ids.")
            }
            Some(Preset::Cognito) if !has_audience => {
                Some("audience is missing: the ids of your app clients.")
            }
            Some(Preset::Keycloak) if !has_audience && !has_parties => {
                Some("audience or authorized_parties (client ids) is missing.")
            }
            Some(Preset::Cognito) if has_parties => {
                Some("authorized_parties is not used with Cognito; list client ids in audience.")
            }
            Some(
                Preset::Auth0 | Preset::Oidc | Preset::Apple | Preset::Cognito | Preset::Keycloak,
            ) => None,
        };
        problems.extend(missing.map(str::to_owned));
    }
}

impl Preset {
    /// What the issuer should look like, if `issuer` does not.
    fn issuer_mismatch(self, issuer: &str) -> Option<&'static str> {
        let bare = !issuer.ends_with('/');
        let (fits, expected) = match self {
            Self::Firebase => (
                self.firebase_project(issuer).is_some(),
                "`https://securetoken.google.com/` and your project id",
            ),
            Self::Auth0 => (!bare, "`https://TENANT/`, with the slash at its end"),
            Self::Cognito => (
                bare && issuer.matches('/').count() == 3,
                "`https://cognito-idp.REGION.amazonaws.com/POOL_ID`",
            ),
            Self::Supabase => (
                issuer.ends_with("/auth/v1"),
                "`https://REF.supabase.co/auth/v1`",
            ),
            Self::Clerk => (bare, "your Clerk front-end API, without a slash at its end"),
            Self::Keycloak => (
                bare && issuer.contains("/realms/"),
                "`https://HOST/realms/REALM`",
            ),
            Self::Apple => (issuer == APPLE_ISSUER, "`https://appleid.apple.com`"),
            Self::Oidc => (true, ""),
        };
        (!fits).then_some(expected)
    }

    /// The project id inside a Firebase issuer, which is also the audience of its tokens.
    pub fn firebase_project(self, issuer: &str) -> Option<&str> {
        let project = issuer.strip_prefix(FIREBASE_ISSUER_PREFIX)?;
        (self == Self::Firebase && !project.is_empty() && !project.contains('/')).then_some(project)
    }
}

/// Whether a text can be an issuer's short name.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}

fn check_url(field: &str, url: &str) -> Option<String> {
    let parsed: Option<Uri> = url.parse().ok();
    let parts = parsed
        .as_ref()
        .and_then(|uri| Some((uri.scheme_str()?, uri.authority()?)));
    let problem = match parts {
        None => "is not an absolute URL",
        Some((_, authority)) if authority.as_str().contains('@') => "must not hold a user name",
        Some(_) if url.contains('#') => "must not have a fragment",
        Some(("https", _)) => return None,
        Some(("http", authority))
            if matches!(authority.host(), "localhost" | "127.0.0.1" | "[::1]") =>
        {
            return None;
        }
        Some(("http", _)) => "must use https; plain http is for loopback only",
        Some(_) => "must use https",
    };
    Some(format!("{field} {problem}."))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "issuers_tests.rs"]
mod tests;
