//! Encryption at rest: the keys outside the database that everything sealed hangs on.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::Deserialize;

/// The `[encryption]` table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncryptionConfig {
    /// `false`: what stores send is kept as it came, said on purpose. Default: on where there is a
    /// key, and production has one.
    pub enabled: Option<bool>,
    /// Newest first: the first one wraps, all of them unwrap. While a key is replaced both stand
    /// here.
    pub keys: Vec<KeyConfig>,
}

/// `[[encryption.keys]]`: a `file`, or the commands of a key management service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyConfig {
    /// File with 32 bytes in base64, as `entitled encryption new-key` writes it.
    pub file: Option<PathBuf>,
    /// Names a key that commands reach; kept with what it has wrapped, so it never changes.
    pub name: Option<String>,
    /// Program and arguments: reads a key's bytes from standard input, writes them wrapped.
    pub wrap: Vec<String>,
    /// The way back.
    pub unwrap: Vec<String>,
    /// What the commands write.
    pub output: CommandOutput,
}

/// How commands write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandOutput {
    /// Base64, as `aws kms --output text` does.
    #[default]
    Base64,
    /// The bytes themselves, as `gcloud kms` does.
    Raw,
}

impl EncryptionConfig {
    /// Whether what is new is sealed.
    pub fn seals(&self) -> bool {
        self.enabled.unwrap_or(!self.keys.is_empty())
    }

    /// What is wrong with the section, a sentence each.
    pub fn validate(&self, production: bool) -> Vec<String> {
        let mut problems = Vec::new();
        match (self.enabled, self.keys.is_empty()) {
            (None, true) if production => problems.push(
                "encryption: production keeps what stores send encrypted, and there is no key; \
                 make one with `entitled encryption new-key --out FILE` and name it in \
                 [[encryption.keys]] file = \"FILE\" (or say [encryption] enabled = false)"
                    .to_owned(),
            ),
            (Some(true), true) => problems.push(
                "encryption.enabled without a key: make one with `entitled encryption new-key --out \
                 FILE` and name it in [[encryption.keys]] file = \"FILE\""
                    .to_owned(),
            ),
            (Some(_) | None, _) => {}
        }
        let mut names = HashSet::new();
        for (place, key) in (1..).zip(&self.keys) {
            if let Some(problem) = key.problem() {
                problems.push(format!("encryption.keys, number {place}: {problem}"));
            }
            if let Some(name) = &key.name
                && !names.insert(name)
            {
                problems.push(format!("encryption.keys: two are named {name:?}"));
            }
        }
        problems
    }
}

impl KeyConfig {
    fn problem(&self) -> Option<&'static str> {
        let commands = self.name.is_some() || !self.wrap.is_empty() || !self.unwrap.is_empty();
        match (&self.file, commands) {
            (Some(_), false) => None,
            (Some(_), true) => Some("give a file, or name, wrap and unwrap; not both"),
            (None, _) if self.name.as_deref().unwrap_or_default().is_empty() => {
                Some("give a file, or name, wrap and unwrap")
            }
            (None, _) if self.wrap.is_empty() || self.unwrap.is_empty() => {
                Some("wrap and unwrap are commands: a program and its arguments")
            }
            (None, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(toml: &str, production: bool) -> Vec<String> {
        let config: EncryptionConfig = toml::from_str(toml).unwrap();
        config.validate(production)
    }

    #[test]
    fn production_wants_a_key_or_a_word() {
        let without = problems("", true);
        assert!(without.len() == 1 && without[0].contains("encryption new-key"));
        for said in [
            "enabled = false",
            "[[keys]]\nfile = \"/k\"",
            "[[keys]]\nname = \"aws\"\nwrap = [\"w\"]\nunwrap = [\"u\"]\noutput = \"raw\"",
        ] {
            assert_eq!(problems(said, true), Vec::<String>::new(), "{said}");
        }
        assert_eq!(problems("", false), Vec::<String>::new());
        assert_eq!(problems("enabled = true", false).len(), 1);
    }

    #[test]
    fn a_key_is_a_file_or_commands() {
        for wrong in [
            "[[keys]]",
            "[[keys]]\nfile = \"/k\"\nname = \"aws\"",
            "[[keys]]\nname = \"aws\"",
            "[[keys]]\nname = \"aws\"\nwrap = [\"w\"]",
            "[[keys]]\nname = \"a\"\nwrap = [\"w\"]\nunwrap = [\"u\"]\n\
             [[keys]]\nname = \"a\"\nwrap = [\"w\"]\nunwrap = [\"u\"]",
        ] {
            assert_eq!(problems(wrong, true).len(), 1, "{wrong}");
        }
        assert!(toml::from_str::<EncryptionConfig>("[[keys]]\npath = \"/k\"").is_err());
    }

    #[test]
    fn what_is_new_is_sealed_where_there_is_a_key() {
        let seals = |toml: &str| toml::from_str::<EncryptionConfig>(toml).unwrap().seals();
        assert!(!seals(""));
        assert!(seals("[[keys]]\nfile = \"/k\""));
        assert!(!seals("enabled = false\n[[keys]]\nfile = \"/k\""));
    }
}
