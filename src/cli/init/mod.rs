//! `init`: a commented configuration and catalog from a few answers; never overwrites a file.

mod ask;
mod simulator;
#[cfg(test)]
mod tests;
mod text;

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use super::stack::make_dir;
use crate::config::Config;
use crate::domain::ids::CatalogVersion;
use crate::encryption::providers::new_key_file;
use crate::flows::apply_catalog;

const CONFIG: &str = "entitled.toml";
const CATALOG: &str = "catalog.toml";
const KEY: &str = "encryption.key";

const EXAMPLES: &str = "\
Examples:
  entitled init
      Asks, and writes entitled.toml and catalog.toml into this directory.
  entitled init --dir shop --bundle-id com.example.app --package-name com.example.app \\
      --preset firebase --issuer my-project --public-url https://entitled.example.com
      Without questions. Whatever is left out stands in the files as a comment.
  entitled init --simulator stores
      Writes simulator.toml: a development configuration for the store simulator that keeps its
      files in `stores` (`entitled sandbox --dir stores`).";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InitArgs {
    /// Where the files are written
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// App Store: the app's bundle id
    #[arg(long)]
    bundle_id: Option<String>,
    /// App Store: the app's Apple ID, a number
    #[arg(long)]
    app_apple_id: Option<i64>,
    /// Google Play: the app's package name
    #[arg(long)]
    package_name: Option<String>,
    /// Who signs the app's users in
    #[arg(long, value_enum)]
    preset: Option<PresetName>,
    /// The exact `iss` of its tokens; for Firebase the project id will do
    #[arg(long, requires = "preset")]
    issuer: Option<String>,
    /// What its tokens are meant for (`aud`); may be repeated
    #[arg(long, requires = "preset")]
    audience: Vec<String>,
    /// postgres://user:password@host/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Where the stores will reach the server: https://entitled.example.com
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// First of three ports: gRPC, webhooks, admin
    #[arg(long, default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1024..=65533))]
    port: u16,
    /// Directory of a store simulator (`entitled sandbox --dir DIR`): writes simulator.toml
    #[arg(long, value_name = "DIR", conflicts_with_all = ["preset", "public_url"])]
    simulator: Option<PathBuf>,
    /// Ask nothing, even at a terminal
    #[arg(long)]
    no_input: bool,
}

/// The identity providers whose rules the server knows, and none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PresetName {
    Firebase,
    Auth0,
    Cognito,
    Supabase,
    Clerk,
    Keycloak,
    Apple,
    Oidc,
}

impl PresetName {
    fn as_str(self) -> &'static str {
        match self {
            Self::Firebase => "firebase",
            Self::Auth0 => "auth0",
            Self::Cognito => "cognito",
            Self::Supabase => "supabase",
            Self::Clerk => "clerk",
            Self::Keycloak => "keycloak",
            Self::Apple => "apple",
            Self::Oidc => "oidc",
        }
    }

    /// What its `issuer` looks like.
    fn issuer_form(self) -> &'static str {
        match self {
            Self::Firebase => "the project id",
            Self::Auth0 => "https://TENANT/, with the slash at its end",
            Self::Cognito => "https://cognito-idp.REGION.amazonaws.com/POOL_ID",
            Self::Supabase => "https://REF.supabase.co/auth/v1",
            Self::Clerk => "https://YOUR-FRONTEND-API",
            Self::Keycloak => "https://HOST/realms/REALM",
            Self::Apple => "nothing: there is one",
            Self::Oidc => "the exact `iss` of the tokens",
        }
    }

    /// What `audience` means to it; nothing where the preset knows it.
    fn audience_form(self) -> Option<&'static str> {
        match self {
            Self::Firebase | Self::Supabase | Self::Clerk => None,
            Self::Auth0 => Some("the API's identifier"),
            Self::Cognito => Some("the app client ids"),
            Self::Keycloak => Some("the audience that a mapper adds"),
            Self::Apple => Some("the bundle or service ids"),
            Self::Oidc => Some("the identifier of your API there"),
        }
    }
}

/// An identity provider, as it goes into the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    preset: PresetName,
    issuer: Option<String>,
    audience: Vec<String>,
}

impl Identity {
    fn of(preset: PresetName, issuer: Option<String>, audience: Vec<String>) -> Self {
        let issuer = issuer.map(|issuer| match preset {
            PresetName::Firebase if !issuer.contains("://") => {
                format!("https://securetoken.google.com/{issuer}")
            }
            PresetName::Auth0 if !issuer.ends_with('/') => format!("{issuer}/"),
            PresetName::Firebase
            | PresetName::Auth0
            | PresetName::Cognito
            | PresetName::Supabase
            | PresetName::Clerk
            | PresetName::Keycloak
            | PresetName::Apple
            | PresetName::Oidc => issuer,
        });
        Self {
            preset,
            issuer,
            audience,
        }
    }
}

/// What is known; the rest stands in the files as comments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Answers {
    bundle_id: Option<String>,
    app_apple_id: Option<i64>,
    package_name: Option<String>,
    identity: Option<Identity>,
    database_url: Option<String>,
    public_url: Option<String>,
    port: u16,
}

pub(super) fn run(args: InitArgs) -> anyhow::Result<()> {
    let dir = std::path::absolute(&args.dir)?;
    if let Some(stores) = &args.simulator {
        return simulator::run(&dir, stores, &args);
    }
    let (config, catalog, key) = (dir.join(CONFIG), dir.join(CATALOG), dir.join(KEY));
    refuse_existing(&[config.as_path(), catalog.as_path(), key.as_path()])?;
    let asked = std::io::stdin().is_terminal() && !args.no_input;
    let given = Answers {
        bundle_id: args.bundle_id,
        app_apple_id: args.app_apple_id,
        package_name: args.package_name,
        identity: args
            .preset
            .map(|preset| Identity::of(preset, args.issuer, args.audience)),
        database_url: args.database_url,
        public_url: args.public_url,
        port: args.port,
    };
    let answers = match asked {
        true => ask::ask(given, &mut std::io::stdin().lock(), &mut std::io::stdout())?,
        false => given,
    };
    let catalog_text = text::catalog(&answers);
    let config_text = text::config(&answers, &catalog, &key);
    let (_, key_text) = new_key_file()?;
    check(&config_text, &catalog_text)?;
    make_dir(&dir)?;
    write_new(&catalog, &catalog_text)?;
    write_new(&key, &key_text)?;
    write_new(&config, &config_text)?;
    print!(
        "{}",
        text::next(&answers, &shown(&config), &shown(&catalog))
    );
    Ok(())
}

/// A file as the user would name it from here.
fn shown(file: &Path) -> String {
    let here = std::env::current_dir().ok();
    let short = here.and_then(|here| file.strip_prefix(here).ok().map(Path::to_path_buf));
    short
        .unwrap_or_else(|| file.to_path_buf())
        .display()
        .to_string()
}

fn refuse_existing(files: &[&Path]) -> anyhow::Result<()> {
    for file in files {
        if file.exists() {
            bail!(
                "{} is there already, and init overwrites nothing; move it away, or give another --dir",
                shown(file)
            );
        }
    }
    Ok(())
}

/// What is written must start: a mistake in an answer is told before any file is there.
fn check(config: &str, catalog: &str) -> anyhow::Result<()> {
    apply_catalog::parse(catalog, CatalogVersion(0))?;
    let parsed: Config = toml::from_str(config).context("the configuration cannot be read")?;
    let problems = parsed.validate();
    if !problems.is_empty() {
        bail!(
            "these answers contradict each other:\n  - {}",
            problems.join("\n  - ")
        );
    }
    Ok(())
}

/// Readable by its owner alone, and made by us: a file that appeared meanwhile is not touched.
fn write_new(file: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(file);
    made.and_then(|mut made| made.write_all(text.as_bytes()))
        .with_context(|| format!("{} cannot be written", shown(file)))
}
