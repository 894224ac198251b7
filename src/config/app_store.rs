//! The App Store: credentials of its Server API, and what is accepted from it.

use std::path::PathBuf;

use http::Uri;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// The App Store Server API where real money moves.
const PRODUCTION_URL: &str = "https://api.storekit.apple.com";
/// The App Store Server API of TestFlight, App Review and sandbox accounts.
const SANDBOX_URL: &str = "https://api.storekit-sandbox.apple.com";

/// The `[app_store]` table of the configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppStoreConfig {
    /// Issuer id of the team's In-App Purchase keys (a UUID from App Store Connect).
    pub issuer_id: String,
    /// Id of the In-App Purchase key.
    pub key_id: String,
    /// The key itself: the text of the `.p8` file. Give this or `private_key_file`.
    #[serde(default)]
    pub private_key: Option<SecretString>,
    /// Path of the `.p8` file. Give this or `private_key`.
    #[serde(default)]
    pub private_key_file: Option<PathBuf>,
    /// Root certificates (DER or PEM files) trusted instead of Apple Root CA - G3, for the store
    /// simulator. Refused in production.
    #[serde(default)]
    pub root_certificates: Vec<PathBuf>,
    /// Purchases of which environments are looked at; default both. App Review buys in sandbox
    /// against production builds. Who gets access from sandbox is the catalog's `sandbox_access`.
    #[serde(default = "environments")]
    pub environments: Vec<AppStoreEnvironment>,
    /// Base URL of the production API; default `https://api.storekit.apple.com`.
    #[serde(default = "production_url")]
    pub production_url: String,
    /// Base URL of the sandbox API; default `https://api.storekit-sandbox.apple.com`.
    #[serde(default = "sandbox_url")]
    pub sandbox_url: String,
    /// Whether certificates behind proofs and notifications are also checked for revocation with
    /// Apple's OCSP responder, at most once in 15 minutes each; default `false`.
    #[serde(default)]
    pub ocsp: bool,
    /// StoreKit testing in Xcode: which certificate signs. Refused in production.
    #[serde(default)]
    pub xcode: Option<XcodeConfig>,
}

/// The `[app_store.xcode]` table: purchases that no store knows, for development.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XcodeConfig {
    /// The certificate (DER or PEM) that Xcode signs with: Editor → Save Public Certificate.
    pub certificate: PathBuf,
    /// Folder where the transactions are kept: nobody else can be asked for them.
    pub documents: PathBuf,
}

/// The App Store environments whose documents Apple signs. There are no others here: documents of
/// StoreKit testing in Xcode have a table of their own, and a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppStoreEnvironment {
    /// Real purchases.
    Production,
    /// TestFlight, App Review, sandbox accounts.
    Sandbox,
}

fn environments() -> Vec<AppStoreEnvironment> {
    vec![
        AppStoreEnvironment::Production,
        AppStoreEnvironment::Sandbox,
    ]
}

fn production_url() -> String {
    PRODUCTION_URL.to_owned()
}

fn sandbox_url() -> String {
    SANDBOX_URL.to_owned()
}

impl AppStoreConfig {
    /// What is wrong with the section, a sentence each; empty if nothing is.
    pub fn validate(&self, production: bool) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, value) in [("issuer_id", &self.issuer_id), ("key_id", &self.key_id)] {
            if value.is_empty() || value.contains(char::is_whitespace) {
                problems.push(format!(
                    "app_store: {name} must be an id from App Store Connect."
                ));
            }
        }
        problems.extend(self.check_key());
        if production && !self.root_certificates.is_empty() {
            problems.push(
                "app_store: root_certificates is for the store simulator only; production trusts \
                 Apple's root."
                    .to_owned(),
            );
        }
        if production && self.xcode.is_some() {
            problems.push(
                "app_store: xcode is for development only; no store has signed what it accepts."
                    .to_owned(),
            );
        }
        if self.environments.is_empty() {
            problems.push(
                "app_store: environments is empty; no purchase could be accepted.".to_owned(),
            );
        }
        for (name, url) in [
            ("production_url", &self.production_url),
            ("sandbox_url", &self.sandbox_url),
        ] {
            problems.extend(check_url(name, url, production));
        }
        problems
    }

    fn check_key(&self) -> Option<String> {
        let problem = match (&self.private_key, &self.private_key_file) {
            (Some(_), Some(_)) => "private_key and private_key_file exclude each other.",
            (None, None) => "private_key or private_key_file is missing: the .p8 of the key.",
            (Some(key), None) if !key.expose_secret().contains("BEGIN PRIVATE KEY") => {
                "private_key must be the text of the .p8 file, with its BEGIN and END lines."
            }
            (Some(_), None) | (None, Some(_)) => return None,
        };
        Some(format!("app_store: {problem}"))
    }
}

fn check_url(name: &str, url: &str, production: bool) -> Option<String> {
    let parsed: Option<Uri> = url.parse().ok();
    let parts = parsed
        .as_ref()
        .and_then(|uri| Some((uri.scheme_str()?, uri.authority()?)));
    let problem = match parts {
        None => "is not an absolute URL",
        Some((_, authority)) if authority.as_str().contains('@') => "must not hold a user name",
        Some(_) if url.contains(['?', '#']) => "must not have a query or fragment",
        Some(("https", _)) => return None,
        Some(("http", authority))
            if !production && matches!(authority.host(), "localhost" | "127.0.0.1" | "[::1]") =>
        {
            return None;
        }
        Some(_) => "must use https; plain http is for loopback outside production only",
    };
    Some(format!("app_store: {name} {problem}."))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    const GOOD: &str =
        "issuer_id = \"57246542-96fe-1a63-e053-0824d011072a\"\nkey_id = \"2X9R4HXF34\"\n";
    const KEY: &str = "private_key_file = \"key.p8\"\n";

    fn problems(toml: &str, production: bool) -> Vec<String> {
        toml::from_str::<AppStoreConfig>(toml)
            .expect("readable")
            .validate(production)
    }

    #[test]
    fn credentials_are_enough_and_the_rest_is_apples() {
        let config: AppStoreConfig = toml::from_str(&format!("{GOOD}{KEY}")).unwrap();
        assert_eq!(config.validate(true), Vec::<String>::new());
        assert_eq!(config.production_url, PRODUCTION_URL);
        assert_eq!(config.sandbox_url, SANDBOX_URL);
        assert_eq!(config.environments.len(), 2);
        assert!(!config.ocsp);
    }

    #[test]
    fn contradictions_are_told_in_a_sentence() {
        let cases = [
            ("", "is missing"),
            ("private_key = \"x\"", "BEGIN and END"),
            (
                "private_key = \"x\"\nprivate_key_file = \"y\"",
                "exclude each other",
            ),
            (
                "private_key_file = \"y\"\nenvironments = []",
                "environments is empty",
            ),
            (
                "private_key_file = \"y\"\nroot_certificates = [\"r.cer\"]",
                "simulator only",
            ),
            (
                "private_key_file = \"y\"\nsandbox_url = \"http://127.0.0.1:1\"",
                "https",
            ),
            (
                "private_key_file = \"y\"\n[xcode]\ncertificate = \"x.cer\"\ndocuments = \"d\"",
                "development only",
            ),
            (
                "private_key_file = \"y\"\nsandbox_url = \"https://u@h\"",
                "user name",
            ),
            (
                "private_key_file = \"y\"\nsandbox_url = \"https://h/?a\"",
                "query",
            ),
            (
                "private_key_file = \"y\"\nproduction_url = \"api\"",
                "absolute URL",
            ),
        ];
        for (lines, expected) in cases {
            let found = problems(&format!("{GOOD}{lines}"), true);
            assert_eq!(found.len(), 1, "{lines}: {found:?}");
            assert!(found[0].contains(expected), "{lines}: {found:?}");
        }
        let simulator = format!(
            "{GOOD}{KEY}root_certificates = [\"r.cer\"]\nsandbox_url = \"http://127.0.0.1:1/apple\""
        );
        assert_eq!(problems(&simulator, false), Vec::<String>::new());
    }

    #[test]
    fn there_is_no_unsigned_environment_and_no_bypass() {
        for line in [
            "environments = [\"xcode\"]",
            "environments = [\"LocalTesting\"]",
            "verify = false",
        ] {
            assert!(toml::from_str::<AppStoreConfig>(&format!("{GOOD}{KEY}{line}")).is_err());
        }
    }

    #[test]
    fn the_key_is_never_printed() {
        let config: AppStoreConfig =
            toml::from_str(&format!("{GOOD}private_key = \"canary\"")).unwrap();
        assert!(!format!("{config:?}").contains("canary"));
    }
}
