//! `inspect`: one document of a store, decoded and verified step by step.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::ConfigArgs;
use crate::app::clock_of;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::catalog::Catalog;
use crate::domain::ids::CatalogVersion;
use crate::flows::apply_catalog;
use crate::http::HttpClient;
use crate::providers::app_store;
use crate::providers::google_play;

#[derive(Subcommand)]
pub(crate) enum InspectCommand {
    /// A signed transaction, renewal info or notification of the App Store
    AppleJws(DocumentArgs),
    /// A real-time developer notification of Google Play, bare or as Pub/Sub pushes it
    Rtdn {
        #[command(flatten)]
        document: DocumentArgs,
        /// The push's bearer token, to be verified too
        #[arg(long, env = "ENTITLED_BEARER", hide_env_values = true)]
        bearer: Option<String>,
    },
    /// Genuine and forged documents with the verdict on each, as JSON
    #[command(hide = true)]
    Corpus(super::corpus::CorpusArgs),
    /// Whether the time of a refusal tells how much of a secret tag was right
    #[command(hide = true)]
    Timing(super::timing::TimingArgs),
}

#[derive(Args)]
pub(crate) struct DocumentArgs {
    /// The document; without it, standard input
    file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

impl DocumentArgs {
    fn read(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match &self.file {
            Some(file) => {
                bytes = std::fs::read(file)
                    .with_context(|| format!("{} cannot be read", file.display()))?;
            }
            None => {
                std::io::stdin().read_to_end(&mut bytes)?;
            }
        }
        Ok(bytes)
    }

    /// Verifying needs no configuration: without one, Apple's own root is trusted.
    fn config(&self) -> anyhow::Result<Option<Config>> {
        match self.config.is_named() {
            true => self.config.load().map(Some),
            false => Ok(self.config.load().ok()),
        }
    }
}

pub(super) async fn run(command: InspectCommand) -> anyhow::Result<ExitCode> {
    let genuine = match command {
        InspectCommand::AppleJws(document) => apple_jws(&document).await?,
        InspectCommand::Rtdn { document, bearer } => rtdn(&document, bearer.as_deref()).await?,
        InspectCommand::Corpus(args) => super::corpus::run(&args).await?,
        InspectCommand::Timing(args) => super::timing::run(&args).await?,
    };
    Ok(if genuine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn apple_jws(document: &DocumentArgs) -> anyhow::Result<bool> {
    let text = String::from_utf8(document.read()?).context("the document is not text")?;
    let config = document.config()?;
    let catalog = config.as_ref().and_then(configured_catalog);
    let app_store = config.as_ref().and_then(|config| config.app_store.as_ref());
    let roots = app_store::roots(app_store)?;
    let now = match &config {
        Some(config) => clock_of(config)
            .await
            .unwrap_or_else(|error| {
                eprintln!("judged by the system's clock: {error:#}");
                Clock::System
            })
            .now(),
        None => Clock::System.now(),
    };
    let report = app_store::inspect(text.trim(), &roots, catalog.as_ref(), now);
    for line in &report.lines {
        let mark = if line.ok { "ok    " } else { "FAILED" };
        println!(
            "{mark}  {} · {}: {}",
            line.part, line.step, line.explanation
        );
    }
    if let Some(payload) = &report.payload {
        println!("\n{}", serde_json::to_string_pretty(payload)?);
    }
    Ok(report.is_genuine())
}

async fn rtdn(document: &DocumentArgs, bearer: Option<&str>) -> anyhow::Result<bool> {
    let body = document.read()?;
    let config = document.config()?;
    let catalog = config.as_ref().and_then(configured_catalog);
    let google_play = config
        .as_ref()
        .and_then(|config| config.google_play.as_ref());
    let push = google_play.and_then(|google_play| google_play.push.as_ref());
    let http = HttpClient::new(Duration::from_secs(5))?;
    let report = google_play::inspect::rtdn(push, &http, catalog.as_ref(), &body, bearer).await?;
    println!("{report}");
    Ok(report.is_ok())
}

fn configured_catalog(config: &Config) -> Option<Catalog> {
    let text = std::fs::read_to_string(config.catalog.as_ref()?).ok()?;
    apply_catalog::parse(&text, CatalogVersion(0)).ok()
}
