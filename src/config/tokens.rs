//! Tokens that this server signs: for accounts without a sign-in, and for apps that know only their
//! own backend.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use http::Uri;
use secrecy::SecretString;
use serde::Deserialize;

use super::issuers::{Issuers, KEY_ISSUER, OWN_NAME, is_name};

/// `[tokens]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokensConfig {
    /// The `iss` and `aud` of our tokens: the public address of the API, without a slash at its
    /// end. The keys are published below it, at `/.well-known/jwks.json`.
    pub issuer: String,
    /// PEM files of P-256 private keys (PKCS#8). The first key signs; all of them verify and are
    /// published. Give this or `keys`.
    #[serde(default)]
    pub key_files: Vec<PathBuf>,
    /// The same as text, one PEM block after the other.
    #[serde(default)]
    pub keys: Option<SecretString>,
    /// How long an access token is good; default 15, 5 to 60. A stream ends with its token.
    #[serde(default = "access_token_minutes")]
    pub access_token_minutes: u32,
    /// How long a session lasts that is not used; default 180, 1 to 3,650.
    #[serde(default = "refresh_token_days")]
    pub refresh_token_days: u32,
    /// Who may make accounts that nobody has signed in to; default nobody.
    #[serde(default)]
    pub anonymous_accounts: AnonymousAccounts,
    /// How many of them one address (IPv4, or IPv6 network of 64 bits) may make on one replica;
    /// default 30.
    #[serde(default = "anonymous_per_address_per_minute")]
    pub anonymous_per_address_per_minute: u32,
    /// How many may be made over all replicas; default 600. A burst may be ten seconds' worth.
    #[serde(default = "anonymous_per_minute")]
    pub anonymous_per_minute: u32,
    /// Short names under which services name their own users (`app` in `app:42`), beside those of
    /// `[[issuers]]`: for users who have no token but the ones minted here.
    #[serde(default)]
    pub namespaces: Vec<String>,
}

/// Who may call `CreateAnonymous`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnonymousAccounts {
    /// Nobody.
    #[default]
    Off,
    /// Any app, within the limits.
    Open,
    /// Services only: a backend of yours that has checked the device (App Attest, Play Integrity)
    /// asks for it and hands the tokens to the app.
    Services,
}

fn access_token_minutes() -> u32 {
    15
}

fn refresh_token_days() -> u32 {
    180
}

fn anonymous_per_address_per_minute() -> u32 {
    30
}

fn anonymous_per_minute() -> u32 {
    600
}

impl TokensConfig {
    /// What is wrong with the section, a sentence each; empty if nothing is.
    pub fn validate(&self, production: bool, issuers: &Issuers) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(check_issuer(&self.issuer, production).map(str::to_owned));
        if issuers
            .0
            .iter()
            .any(|issuer| issuer.issuer_value() == Some(self.issuer.as_str()))
        {
            problems.push("issuer is one of `[[issuers]]` too; our own tokens need none.".into());
        }
        match (self.key_files.is_empty(), &self.keys) {
            (false, Some(_)) => problems.push("key_files and keys exclude each other.".into()),
            (true, None) => problems.push(
                "key_files is missing: `openssl genpkey -algorithm EC -pkeyopt \
                 ec_paramgen_curve:P-256 -out tokens.pem` makes a key."
                    .into(),
            ),
            (false, None) | (true, Some(_)) => {}
        }
        let ranges: [(&str, u32, RangeInclusive<u32>); 4] = [
            ("access_token_minutes", self.access_token_minutes, 5..=60),
            ("refresh_token_days", self.refresh_token_days, 1..=3_650),
            (
                "anonymous_per_address_per_minute",
                self.anonymous_per_address_per_minute,
                1..=1_000_000,
            ),
            (
                "anonymous_per_minute",
                self.anonymous_per_minute,
                6..=1_000_000,
            ),
        ];
        for (name, value, range) in ranges {
            if !range.contains(&value) {
                problems.push(format!(
                    "{name} is {value}; give {} to {}.",
                    range.start(),
                    range.end()
                ));
            }
        }
        for name in &self.namespaces {
            if !is_name(name) || [OWN_NAME, KEY_ISSUER].contains(&name.as_str()) {
                problems.push(format!(
                    "namespaces: `{name}` cannot be one: 1 to 32 of a-z, 0-9, `_` and `-`, and \
                     not `{OWN_NAME}` or `{KEY_ISSUER}`."
                ));
            }
        }
        problems
            .into_iter()
            .map(|problem| format!("tokens: {problem}"))
            .collect()
    }
}

fn check_issuer(issuer: &str, production: bool) -> Option<&'static str> {
    let parsed: Option<Uri> = issuer.parse().ok();
    let parts = parsed
        .as_ref()
        .and_then(|uri| Some((uri.scheme_str()?, uri.authority()?)));
    match parts {
        None => Some("issuer must be the public address of the API: `https://…`."),
        Some((_, authority)) if authority.as_str().contains('@') => {
            Some("issuer must not hold a user name.")
        }
        Some(_) if parsed.as_ref().is_some_and(|uri| uri.path().len() > 1) => {
            Some("issuer must not have a path: the keys are published at the top of the listener.")
        }
        Some(_) if issuer.ends_with('/') || issuer.contains(['?', '#']) => {
            Some("issuer must not have a query, a fragment or a slash at its end.")
        }
        Some(("https", _)) => None,
        Some(("http", _)) if !production => None,
        Some(_) => Some("issuer must use https."),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn problems(toml: &str, production: bool) -> Vec<String> {
        let config: TokensConfig = toml::from_str(toml).expect("readable");
        let issuers = r#"[{ name = "app", preset = "oidc", issuer = "https://id.example.com" }]"#;
        #[derive(Deserialize)]
        struct File {
            issuers: Issuers,
        }
        let file: File = toml::from_str(&format!("issuers = {issuers}")).expect("readable");
        config.validate(production, &file.issuers)
    }

    const GOOD: &str = "issuer = \"https://access.example.com\"\nkey_files = [\"a.pem\"]";

    #[test]
    fn the_least_that_is_needed_is_an_issuer_and_a_key() {
        assert_eq!(problems(GOOD, true), Vec::<String>::new());
        let config: TokensConfig = toml::from_str(GOOD).unwrap();
        assert_eq!(config.anonymous_accounts, AnonymousAccounts::Off);
        let local = "issuer = \"http://10.0.2.2:8080\"\nkeys = \"-----BEGIN…\"";
        assert_eq!(problems(local, false), Vec::<String>::new());
        assert_eq!(problems(local, true).len(), 1);
        let config: TokensConfig = toml::from_str(local).unwrap();
        assert!(!format!("{config:?}").contains("BEGIN"));
    }

    #[test]
    fn contradictions_are_told_in_a_sentence() {
        for (toml, expected) in [
            ("issuer = \"entitled\"\nkeys = \"k\"", "public address"),
            ("issuer = \"https://a/\"\nkeys = \"k\"", "slash"),
            ("issuer = \"https://u@a\"\nkeys = \"k\"", "user name"),
            ("issuer = \"https://a/api\"\nkeys = \"k\"", "a path"),
            (&format!("{GOOD}\nnamespaces = [\"key\"]"), "or `key`"),
            ("issuer = \"https://a\"", "openssl genpkey"),
            (
                "issuer = \"https://a\"\nkeys = \"k\"\nkey_files = [\"f\"]",
                "exclude",
            ),
            (
                "issuer = \"https://id.example.com\"\nkeys = \"k\"",
                "[[issuers]]",
            ),
            (&format!("{GOOD}\naccess_token_minutes = 0"), "5 to 60"),
            (&format!("{GOOD}\nrefresh_token_days = 0"), "1 to 3650"),
            (&format!("{GOOD}\nanonymous_per_minute = 0"), "6 to"),
            (
                &format!("{GOOD}\nnamespaces = [\"entitled\"]"),
                "not `entitled`",
            ),
            (&format!("{GOOD}\nnamespaces = [\"A:b\"]"), "1 to 32"),
        ] {
            let found = problems(toml, true);
            assert_eq!(found.len(), 1, "{toml}: {found:?}");
            assert!(found[0].contains(expected), "{toml}: {found:?}");
        }
        assert!(
            toml::from_str::<TokensConfig>(&format!("{GOOD}\nanonymous_accounts = \"yes\""))
                .is_err()
        );
    }
}
