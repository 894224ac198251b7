//! Superwall: whose webhooks are believed.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

/// The `[superwall]` table of the configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SuperwallConfig {
    /// File with the webhook's signing secret as Superwall shows it (`whsec_…`). While it is
    /// rotated, and for the webhooks of several projects: one secret a line, all hold.
    pub signing_secret_file: Option<PathBuf>,
    /// The same as text, for deployments that inject secrets through the environment; several are
    /// separated by spaces.
    pub signing_secret: Option<SecretString>,
}

impl SuperwallConfig {
    /// What is wrong with the section, a sentence each; empty if nothing is.
    pub fn validate(&self) -> Vec<String> {
        let none = self.signing_secret_file.is_none() && self.signing_secret.is_none();
        let problem = none.then(|| {
            "superwall: give signing_secret_file (or signing_secret), or remove the section; \
             without it every webhook is refused."
                .to_owned()
        });
        problem.into_iter().collect()
    }
}
