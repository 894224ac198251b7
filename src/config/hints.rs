//! How replicas tell each other of changes: through the database, or through NATS.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

/// The `[hints]` table. Absent: `NOTIFY` of the database carries hints.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HintsConfig {
    /// NATS carries them instead.
    pub nats: Option<NatsConfig>,
}

/// The `[hints.nats]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsConfig {
    /// `nats://host:4222` or `tls://host:4222`; several of one cluster.
    pub servers: Vec<String>,
    /// The subject that all replicas of this deployment share, and nobody else may publish to;
    /// default `entitled.hints`.
    #[serde(default = "subject")]
    pub subject: String,
    /// User name; with `password`.
    #[serde(default)]
    pub user: Option<String>,
    /// Its password.
    #[serde(default)]
    pub password: Option<SecretString>,
    /// Token, instead of user and password.
    #[serde(default)]
    pub token: Option<SecretString>,
    /// PEM file of the authorities to trust beside the system's.
    #[serde(default)]
    pub authorities: Option<PathBuf>,
    /// PEM certificate chain to show the server; with `key`.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// Its PEM private key.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

fn subject() -> String {
    "entitled.hints".into()
}

impl HintsConfig {
    /// What is wrong with the section, a sentence each.
    pub(super) fn validate(&self) -> Vec<String> {
        let Some(nats) = &self.nats else {
            return Vec::new();
        };
        let mut problems = Vec::new();
        if nats.servers.is_empty() {
            problems.push("hints.nats.servers: name at least one".into());
        }
        for server in &nats.servers {
            let is_known = ["nats://", "tls://"]
                .iter()
                .any(|scheme| server.starts_with(scheme));
            if !is_known || server.contains('@') {
                problems.push(
                    "hints.nats.servers: write nats://HOST:PORT or tls://HOST:PORT; user and \
                     password have settings of their own"
                        .into(),
                );
            }
        }
        if !is_subject(&nats.subject) {
            problems.push(
                "hints.nats.subject: words of letters, digits, - and _ with dots between them"
                    .into(),
            );
        }
        if nats.user.is_some() != nats.password.is_some() {
            problems.push("hints.nats: user and password go together".into());
        }
        if nats.token.is_some() && nats.user.is_some() {
            problems.push("hints.nats: either a token, or user and password".into());
        }
        if nats.certificate.is_some() != nats.key.is_some() {
            problems.push("hints.nats: certificate and key go together".into());
        }
        problems
    }
}

fn is_subject(subject: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    subject.len() <= 200 && subject.split('.').all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        toml::from_str::<HintsConfig>(text)
            .expect("a table")
            .validate()
    }

    #[test]
    fn what_contradicts_itself_is_said() {
        assert!(problems("").is_empty());
        assert!(problems("nats.servers = ['nats://a:4222', 'tls://b:4222']").is_empty());
        for (wrong, word) in [
            ("nats.servers = []", "at least one"),
            ("nats.servers = ['a:4222']", "nats://HOST:PORT"),
            (
                "nats.servers = ['nats://me:secret@a:4222']",
                "settings of their own",
            ),
            (
                "nats = { servers = ['nats://a'], subject = 'a.*' }",
                "subject",
            ),
            (
                "nats = { servers = ['nats://a'], subject = 'a..b' }",
                "subject",
            ),
            ("nats = { servers = ['nats://a'], user = 'me' }", "password"),
            (
                "nats = { servers = ['nats://a'], user = 'me', password = 'p', token = 't' }",
                "either",
            ),
            (
                "nats = { servers = ['nats://a'], key = 'k.pem' }",
                "certificate",
            ),
        ] {
            let found = problems(wrong);
            assert_eq!(found.len(), 1, "{wrong}: {found:?}");
            assert!(found[0].contains(word), "{wrong}: {found:?}");
            assert!(!found[0].contains("secret"), "{found:?}");
        }
    }
}
