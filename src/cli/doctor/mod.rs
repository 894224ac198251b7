//! `doctor`: is everything well, step by step as the documents of setting up count, and what to do.

mod outside;
mod upkeep;
mod wait;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use secrecy::ExposeSecret as _;

pub(super) use upkeep::{BackfillArgs, RetentionArgs, backfill, retention};

use super::ConfigArgs;
use crate::app::look::{self, Looked};
use crate::config::tokens::TokensConfig;
use crate::config::{Config, Mode};
use crate::domain::guide::Step;
use crate::flows::Core;
use crate::flows::examine::{
    Finding, Health, STATEMENT_MAX, Sold, examine, examine_server, examine_stores,
};
use crate::grpc::auth::Authenticator;
use crate::http::HttpClient;
use crate::storage::{Db, StorageError};

/// Key sets and our own address answer sooner.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Wide enough for a sentence in each of the last two columns.
const TABLE_WIDTH: u16 = 160;

const EXAMPLES: &str = "\
The steps are those of docs/stores: `server`, `App Store`, `Google Play`, each with its number.
Apple is asked for a test notification where nothing came from it for a day; nothing else changes.
It ends with 1 if anything FAILs; warnings do not count.

Examples:
  entitled doctor --config entitled.toml
  entitled doctor --json --config entitled.toml | jq '.[] | select(.health != \"ok\")'
  entitled doctor --wait --config entitled.toml
      Then buy something without real money: each thing is told as it happens.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Follow the next purchase from the store's notification to access, and say what is missing
    #[arg(long)]
    wait: bool,
    /// How long `--wait` waits
    #[arg(long, value_name = "SECONDS", default_value_t = 900, requires = "wait")]
    timeout: u64,
    /// After how many quiet seconds `--wait` says what is missing
    #[arg(long, value_name = "SECONDS", default_value_t = 45, requires = "wait")]
    quiet: u64,
}

pub(super) async fn doctor(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    if args.wait {
        let patience = wait::Patience {
            timeout: Duration::from_secs(args.timeout),
            quiet: Duration::from_secs(args.quiet),
        };
        return wait::follow(&config, patience, args.json).await;
    }
    let findings = findings(&config).await;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        print(&findings);
    }
    let worst = findings.iter().map(|finding| finding.health).max();
    Ok(match worst {
        Some(Health::Fail) => ExitCode::FAILURE,
        Some(Health::Ok | Health::Warn) | None => ExitCode::SUCCESS,
    })
}

fn print(findings: &[Finding]) {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_header(["step", "what", "", "found", "what to do"]);
    if table.width().is_none() {
        table.set_width(TABLE_WIDTH);
    }
    table.set_content_arrangement(ContentArrangement::Dynamic);
    for finding in findings {
        let health = match finding.health {
            Health::Ok => "ok",
            Health::Warn => "warn",
            Health::Fail => "FAIL",
        };
        table.add_row([
            finding
                .step
                .map(|step| step.to_string())
                .unwrap_or_default(),
            finding.what.clone(),
            health.to_owned(),
            finding.found.clone(),
            finding.next.to_string(),
        ]);
    }
    println!("{table}");
    println!("{}", verdict(findings));
}

/// What to do first, in a sentence.
fn verdict(findings: &[Finding]) -> String {
    let first = |health| findings.iter().find(|finding| finding.health == health);
    let (word, finding) = match (first(Health::Fail), first(Health::Warn)) {
        (Some(failed), _) => ("First to mend", failed),
        (None, Some(warned)) => ("Nothing fails. Next", warned),
        (None, None) => return "Everything is well.".to_owned(),
    };
    let (name, place) = match finding.step {
        Some(step) => (
            format!("{step}, {}", finding.what),
            format!(" ({})", step.guide.document()),
        ),
        None => (finding.what.clone(), String::new()),
    };
    let found = &finding.found;
    format!("{word}: {name}: {found}.\n  → {}{place}", finding.next)
}

async fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = configuration(config);
    if findings.iter().any(|f| f.health == Health::Fail) {
        return findings;
    }
    let database = database(config).await;
    let reachable = database.health != Health::Fail;
    findings.push(database);
    if !reachable {
        return findings;
    }
    match look::core(config).await {
        Ok(Looked { core, failed }) => {
            match examine_all(config, &core).await {
                // What is said of a part that could not even be built is not the reason.
                Ok(looked) => findings.extend(looked.into_iter().filter(|finding| {
                    let fails = |step| failed.iter().any(|(failed, _)| *failed == step);
                    !finding.step.is_some_and(fails)
                })),
                Err(error) => findings.push(told(Step::DATABASE, error.to_string())),
            }
            findings.extend(failed.into_iter().map(not_built));
            core.db.close().await;
        }
        Err(error) => findings.push(told(Step::DATABASE, format!("{error:#}"))),
    }
    in_order(findings)
}

/// As the documents count; what belongs to no step comes last.
fn in_order(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by_key(|finding| (finding.step.is_none(), finding.step));
    findings
}

async fn examine_all(config: &Config, core: &Core) -> Result<Vec<Finding>, StorageError> {
    let mut findings = examine_server(core).await?;
    findings.extend(sign_in(config).await);
    findings.extend(outside::address(config).await);
    let sold = Sold::read(core).await?;
    findings.extend(examine_stores(core, &sold).await?);
    findings.extend(outside::refused(config).await);
    findings.extend(superwall(config));
    findings.extend(crate::cli::catalog::examine_file(config, core).await);
    findings.extend(examine(core, &sold).await?);
    Ok(findings)
}

fn told(step: Step, error: String) -> Finding {
    Finding::of(
        step,
        Health::Fail,
        error,
        "mend this first, then run it again",
    )
}

/// Why a part of the server cannot be built, and what mends it.
fn not_built((step, error): (Step, anyhow::Error)) -> Finding {
    let next = match step {
        Step::CATALOG => {
            "`entitled catalog check FILE`, then `entitled catalog apply FILE`; a server that \
             starts with the setting `catalog` applies it, too"
        }
        Step::ENCRYPTION => "check [[encryption.keys]]: the file, or the commands of the KMS",
        Step::APPLE_KEY => "check private_key_file and the other files of [app_store]",
        Step::GOOGLE_ACCOUNT => "check service_account_file of [google_play]",
        _ => "mend this, then run it again",
    };
    Finding::of(step, Health::Fail, format!("{error:#}"), next)
}

fn configuration(config: &Config) -> Vec<Finding> {
    let problems = config.validate();
    if problems.is_empty() {
        let found = match config.mode {
            Mode::Production => "sound, production",
            Mode::Development => "sound, development",
        };
        return vec![Finding::of(Step::CONFIGURATION, Health::Ok, found, "")];
    }
    let named = problems.into_iter().map(|problem| {
        Finding::of(
            Step::CONFIGURATION,
            Health::Fail,
            problem,
            "change the setting",
        )
    });
    named.collect()
}

/// Whether the keys of those who sign users in can be had.
async fn sign_in(config: &Config) -> Vec<Finding> {
    let step = Step::SIGN_IN;
    let own = config.tokens.as_ref().map(own_tokens);
    if config.issuers.0.is_empty() {
        let next = "add [[issuers]], or [tokens] for accounts without a sign-in: \
                    docs/operations.md";
        let found = "no identity provider is configured: nobody can sign in";
        let nobody = || Finding::of(step, Health::Fail, found, next);
        return vec![own.unwrap_or_else(nobody)];
    }
    let authenticator = HttpClient::new(CALL_TIMEOUT)
        .map_err(|error| error.to_string())
        .and_then(|http| {
            Authenticator::new(config.issuers.0.clone(), http).map_err(|error| error.to_string())
        });
    let authenticator = match authenticator {
        Ok(authenticator) => authenticator,
        Err(error) => return vec![told(step, error)],
    };
    let examined = authenticator.examine().await;
    let theirs = examined.into_iter().map(|issuer| match issuer.keys {
        Ok(0) => Finding::of(
            step,
            Health::Fail,
            format!("{}: publishes no usable key", issuer.name),
            "is it the right provider, and does it sign with RS256, ES256 or EdDSA?",
        ),
        Ok(keys) => Finding::of(
            step,
            Health::Ok,
            format!("{}: {keys} keys", issuer.name),
            "",
        ),
        Err(error) => Finding::of(
            step,
            Health::Fail,
            format!("{}: {error}", issuer.name),
            "check `issuer` (and jwks_url), and the way out of this machine",
        ),
    });
    theirs.chain(own).collect()
}

/// Whether our own tokens can be signed.
fn own_tokens(tokens: &TokensConfig) -> Finding {
    match crate::grpc::Tokens::load(tokens) {
        Ok(_) => {
            let found = format!("tokens of our own, of {}", tokens.issuer);
            Finding::of(Step::SIGN_IN, Health::Ok, found, "")
        }
        Err(error) => told(Step::SIGN_IN, error.to_string()),
    }
}

fn superwall(config: &Config) -> Option<Finding> {
    config.superwall.as_ref().map(|_| {
        let found = "the signing secret is set";
        Finding::new("webhook superwall", Health::Ok, found, "")
    })
}

async fn database(config: &Config) -> Finding {
    let step = Step::DATABASE;
    let url = config.database.url.expose_secret();
    let db = match Db::open_to_look(url, config.database.connections_max, STATEMENT_MAX) {
        Ok(db) => db,
        Err(error) => {
            return Finding::of(step, Health::Fail, error.to_string(), "check database.url");
        }
    };
    let migrated = db.is_migrated().await;
    db.close().await;
    match migrated {
        Ok(true) => Finding::of(step, Health::Ok, "reached, schema up to date", ""),
        Ok(false) => Finding::of(
            step,
            Health::Fail,
            "reached, schema missing or older than this version",
            "run `entitled migrate`",
        ),
        Err(error) => Finding::of(
            step,
            Health::Fail,
            error.to_string(),
            "check database.url, and whether Postgres runs",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_that_fails_is_named() {
        let ok = Finding::of(Step::CONFIGURATION, Health::Ok, "sound", "nothing");
        let warned = Finding::of(Step::APPLE_APP, Health::Warn, "no id", "add it");
        let failed = Finding::of(Step::APPLE_KEY, Health::Fail, "HTTP 401", "check the key");
        assert_eq!(ok.next, "");
        assert_eq!(verdict(std::slice::from_ref(&ok)), "Everything is well.");
        assert_eq!(
            verdict(&[ok.clone(), warned.clone()]),
            "Nothing fails. Next: App Store 1, The app: no id.\n  → add it (docs/stores/app-store.md)"
        );
        assert_eq!(
            verdict(&[ok, warned, failed]),
            "First to mend: App Store 3, In-App Purchase key: HTTP 401.\n  → check the key (docs/stores/app-store.md)"
        );
    }
}
