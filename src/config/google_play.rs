//! Google Play: whose service account asks, and who may push notifications.

use std::path::PathBuf;

use http::Uri;
use secrecy::SecretString;
use serde::Deserialize;

/// Where the Google Play Developer API is.
const API_URL: &str = "https://androidpublisher.googleapis.com";
/// The public keys that Google signs the tokens of pushed notifications with.
const PUSH_KEYS_URL: &str = "https://www.googleapis.com/oauth2/v3/certs";

/// The `[google_play]` table of the configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GooglePlayConfig {
    /// File with the service account's key, the JSON that the Google Cloud console downloads. Give
    /// this or `service_account`.
    #[serde(default)]
    pub service_account_file: Option<PathBuf>,
    /// The same JSON as text, for deployments that inject secrets through the environment.
    #[serde(default)]
    pub service_account: Option<SecretString>,
    /// The Google Play Developer API, without the path; default Google's.
    #[serde(default = "api_url")]
    pub base_url: String,
    /// The token endpoint, if not the one that the service account's key names.
    #[serde(default)]
    pub token_uri: Option<String>,
    /// Real-time developer notifications; without this section none are accepted.
    #[serde(default)]
    pub push: Option<PushConfig>,
}

/// The `[google_play.push]` table: the one Pub/Sub push subscription that is believed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushConfig {
    /// The audience set on the push subscription; Pub/Sub's default is the push URL.
    pub audience: String,
    /// E-mail address of the service account that the push subscription authenticates as. Without
    /// it any Google customer could make a token with this audience.
    pub email: String,
    /// Full name of the push subscription: `projects/P/subscriptions/S`.
    pub subscription: String,
    /// Where the signing keys are; default Google's. Others are for tests only.
    #[serde(default = "push_keys_url")]
    pub jwks_url: String,
    /// The issuer of the tokens; default Google's. Others are for tests only.
    #[serde(default)]
    pub issuer: Option<String>,
}

fn api_url() -> String {
    API_URL.to_owned()
}

fn push_keys_url() -> String {
    PUSH_KEYS_URL.to_owned()
}

impl GooglePlayConfig {
    /// What is wrong with the section, a sentence each; empty if nothing is.
    pub fn validate(&self, production: bool) -> Vec<String> {
        let mut problems = Vec::new();
        match (&self.service_account_file, &self.service_account) {
            (Some(_), None) | (None, Some(_)) => {}
            (None, None) => problems.push(
                "google_play: give service_account_file (or service_account) so that purchases \
                 can be read."
                    .to_owned(),
            ),
            (Some(_), Some(_)) => problems.push(
                "google_play: service_account_file and service_account are both given; keep one."
                    .to_owned(),
            ),
        }
        problems.extend(check_url("base_url", &self.base_url, production));
        if production && self.base_url != API_URL {
            problems.push(format!(
                "google_play: base_url is for tests; in production only {API_URL} tells what is \
                 true. Remove it."
            ));
        }
        if let Some(uri) = &self.token_uri {
            problems.extend(check_url("token_uri", uri, production));
        }
        match &self.push {
            Some(push) => problems.extend(push.validate(production)),
            None if production => problems.push(
                "google_play: without [google_play.push] no renewal, refund or cancellation is \
                 heard of in time; set up the push subscription."
                    .to_owned(),
            ),
            None => {}
        }
        problems
    }
}

impl PushConfig {
    fn validate(&self, production: bool) -> Vec<String> {
        let mut problems = Vec::new();
        if self.audience.trim().is_empty() {
            problems.push("google_play.push: audience is empty.".to_owned());
        }
        if !self.email.contains('@') {
            problems.push(format!(
                "google_play.push: email is `{}`, not the address of a service account.",
                self.email
            ));
        }
        if !is_subscription_name(&self.subscription) {
            problems.push(format!(
                "google_play.push: subscription is `{}`; write projects/P/subscriptions/S.",
                self.subscription
            ));
        }
        problems.extend(check_url("push.jwks_url", &self.jwks_url, production));
        if production && (self.jwks_url != PUSH_KEYS_URL || self.issuer.is_some()) {
            problems.push(
                "google_play.push: jwks_url and issuer are for tests; in production only Google \
                 vouches for pushes. Remove both."
                    .to_owned(),
            );
        }
        problems
    }
}

fn is_subscription_name(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    matches!(parts[..], ["projects", project, "subscriptions", subscription]
        if !project.is_empty() && !subscription.is_empty())
}

fn check_url(name: &str, url: &str, production: bool) -> Option<String> {
    let uri: Option<Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let loopback = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let fine = match uri.as_ref().and_then(Uri::scheme_str) {
        Some("https") => !host.is_empty(),
        Some("http") => loopback && !production,
        Some(_) | None => false,
    };
    (!fine).then(|| {
        let rule = if production {
            "https"
        } else {
            "https, or http to loopback"
        };
        format!("google_play.{name}: `{url}` is not a usable URL; use {rule}.")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SOUND: &str = r#"
        service_account_file = "/run/secrets/play.json"
        [push]
        audience = "https://entitled.example.com/webhooks/google-play"
        email = "push@example.iam.gserviceaccount.com"
        subscription = "projects/example/subscriptions/play"
    "#;

    #[test]
    fn the_smallest_sound_section_needs_no_urls() {
        let config: GooglePlayConfig = toml::from_str(SOUND).unwrap();
        assert_eq!(config.validate(true), Vec::<String>::new());
        assert_eq!(config.base_url, API_URL);
        assert_eq!(config.push.unwrap().jwks_url, PUSH_KEYS_URL);
    }

    #[test]
    fn every_mistake_is_named() {
        let production = [
            ("", "", "give service_account_file"),
            ("", "", "without [google_play.push]"),
            ("service_account = \"{}\"\n", SOUND, "both given"),
            ("base_url = \"http://127.0.0.1:1\"\n", SOUND, "base_url"),
            ("base_url = \"ftp://example.com\"\n", SOUND, "base_url"),
            ("token_uri = \"https://\"\n", SOUND, "token_uri"),
        ];
        for (first, rest, expected) in production {
            let config: GooglePlayConfig = toml::from_str(&format!("{first}{rest}")).unwrap();
            let problems = config.validate(true);
            assert!(
                problems.iter().any(|p| p.contains(expected)),
                "{problems:?}"
            );
        }
        let push = [
            (
                "audience = \"https://e",
                "audience = \" \" # e",
                "audience is empty",
            ),
            ("push@example", "example", "not the address"),
            ("projects/example/", "example/", "write projects/P"),
            (
                "[push]",
                "[push]\nissuer = \"https://accounts.example.com\"",
                "for tests",
            ),
            (
                "[push]",
                "[push]\njwks_url = \"https://example.com/certs\"",
                "for tests",
            ),
        ];
        for (from, to, expected) in push {
            let config: GooglePlayConfig = toml::from_str(&SOUND.replace(from, to)).unwrap();
            let problems = config.validate(true);
            assert!(
                problems.iter().any(|p| p.contains(expected)),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn loopback_is_for_tests() {
        let text = format!("base_url = \"http://127.0.0.1:8080\"\n{SOUND}");
        let config: GooglePlayConfig = toml::from_str(&text).unwrap();
        assert_eq!(config.validate(false), Vec::<String>::new());
        let refused = config.validate(true);
        assert!(
            refused.iter().all(|problem| problem.contains("base_url")),
            "{refused:?}"
        );
        assert!(!refused.is_empty());
    }
}
