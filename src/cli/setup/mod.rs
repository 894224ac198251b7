//! `setup`: the exact values, clicks and commands of one's own configuration, catalog and address.
//!
//! Text from what is configured; calls nobody and prints no secret.

mod app_store;
mod google_play;
mod sheet;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde::Deserialize;

use super::ConfigArgs;
use crate::config::Config;
use crate::domain::catalog::Catalog;
use crate::domain::ids::CatalogVersion;
use crate::flows::apply_catalog;

/// Where the stores send to, while nobody has said it.
const UNKNOWN_URL: &str = "https://YOUR-HOST";

#[derive(Subcommand)]
pub(crate) enum SetupCommand {
    /// App Store Connect: products, key, notification URLs
    Apple(SetupArgs),
    /// Play Console and Google Cloud: products, service accounts, topic, push subscription
    Google(GoogleArgs),
}

#[derive(Args)]
pub(crate) struct SetupArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The catalog (TOML); default: the configuration's
    #[arg(long)]
    catalog: Option<PathBuf>,
    /// Where the stores reach the webhook listener: https://entitled.example.com; default: the
    /// configuration's webhooks.public_url
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
}

#[derive(Args)]
pub(crate) struct GoogleArgs {
    #[command(flatten)]
    common: SetupArgs,
    /// Google Cloud project id; default: the configuration's push subscription or service account
    #[arg(long)]
    project: Option<String>,
    /// Pub/Sub topic to create for the Play Console
    #[arg(long, default_value = "entitled-play")]
    topic: String,
}

/// What a worksheet is made of.
pub(super) struct Subject<'a> {
    pub(super) config: Option<&'a Config>,
    /// As it was named on the command line.
    pub(super) config_file: Option<&'a Path>,
    pub(super) catalog: &'a Catalog,
    pub(super) catalog_file: &'a Path,
    pub(super) public_url: Option<String>,
    /// Of Google's service account: what its key file says besides the key.
    pub(super) account: Option<ServiceAccountName>,
}

/// The public part of a service account's key file.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ServiceAccountName {
    pub(super) project_id: String,
    pub(super) client_email: String,
}

impl Subject<'_> {
    fn head(&self) -> Vec<(&'static str, String)> {
        let config = match self.config_file {
            Some(file) => file.display().to_string(),
            None => "none yet: `entitled init` writes one".to_owned(),
        };
        let unknown = || format!("unknown: {UNKNOWN_URL} stands for it; say --public-url");
        vec![
            ("configuration", config),
            ("catalog", self.catalog_file.display().to_string()),
            ("server", self.public_url.clone().unwrap_or_else(unknown)),
        ]
    }

    /// Where a source sends its notifications.
    fn webhook(&self, source: &str) -> String {
        let base = self.public_url.as_deref().unwrap_or(UNKNOWN_URL);
        format!("{}/webhooks/{source}", base.trim_end_matches('/'))
    }

    /// A command of ours with this configuration.
    fn command(&self, what: &str) -> String {
        let file = self.config_file.map_or_else(
            || "entitled.toml".to_owned(),
            |file| file.display().to_string(),
        );
        format!("entitled {what} --config {file}")
    }
}

pub(super) fn run(command: &SetupCommand) -> anyhow::Result<()> {
    let args = match command {
        SetupCommand::Apple(args) => args,
        SetupCommand::Google(args) => &args.common,
    };
    let config = args.config.load_if_named()?;
    let Some(catalog_file) = args
        .catalog
        .clone()
        .or_else(|| config.as_ref()?.catalog.clone())
    else {
        bail!(
            "no catalog: give --catalog FILE, or --config FILE with one; `entitled init` writes both"
        );
    };
    let text = std::fs::read_to_string(&catalog_file)
        .with_context(|| format!("the catalog {} cannot be read", catalog_file.display()))?;
    let catalog = apply_catalog::parse(&text, CatalogVersion(0))?;
    let configured = config
        .as_ref()
        .and_then(|config| config.webhooks.public_url.clone());
    let public_url = args.public_url.clone().or(configured);
    if let Some(problem) = public_url
        .as_deref()
        .and_then(crate::config::check_public_url)
    {
        bail!("--public-url {problem}");
    }
    let subject = Subject {
        config: config.as_ref(),
        config_file: args.config.file(),
        catalog: &catalog,
        catalog_file: &catalog_file,
        public_url,
        account: config.as_ref().and_then(account_name),
    };
    let sheet = match command {
        SetupCommand::Apple(_) => app_store::sheet(&subject),
        SetupCommand::Google(args) => {
            google_play::sheet(&subject, args.project.as_deref(), &args.topic)
        }
    };
    print!("{}", sheet.render());
    Ok(())
}

/// Who the configured service account is; nothing if its key is not there yet.
fn account_name(config: &Config) -> Option<ServiceAccountName> {
    use secrecy::ExposeSecret as _;
    let google = config.google_play.as_ref()?;
    let text = match (&google.service_account, &google.service_account_file) {
        (Some(text), _) => text.expose_secret().to_owned(),
        (None, Some(file)) => std::fs::read_to_string(file).ok()?,
        (None, None) => return None,
    };
    serde_json::from_str(&text).ok()
}
