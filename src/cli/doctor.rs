//! `doctor`, `backfill`, `retention`: is everything well, and what can be done about it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use secrecy::ExposeSecret as _;

use super::ConfigArgs;
use crate::app::{CatalogFile, build_core};
use crate::config::{Config, Mode};
use crate::domain::sweep::{Ask, Run, Why};
use crate::flows::examine::{Finding, Health, examine};
use crate::flows::retain::{self, Kept};
use crate::flows::sweep::{self, Stepped, Target};
use crate::storage::Db;

/// Somebody else is at it, or the store's budget is used up.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Between two pages: Google allows 30 calls in 30 s for one app.
const PAGE_PAUSE: Duration = Duration::from_millis(1_100);
/// A store that does not answer is asked so often.
const FAILURES_MAX: u32 = 5;

#[derive(Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct BackfillArgs {
    /// From when on (RFC 3339); stores tell at most 180 days (App Store), 30 days (Google Play and
    /// Apple's sandbox)
    #[arg(long)]
    since: DateTime<Utc>,
    /// Everything that was told, not only what never reached us: after a restore
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Args)]
pub(crate) struct RetentionArgs {
    /// Count only, delete nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) async fn doctor(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let findings = findings(&args.config.load()?).await;
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
        .set_header(["what", "", "found", "what to do"]);
    for finding in findings {
        let health = match finding.health {
            Health::Ok => "ok",
            Health::Warn => "warn",
            Health::Fail => "FAIL",
        };
        table.add_row([&finding.what, health, &finding.found, finding.next]);
    }
    println!("{table}");
}

async fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = configuration(config);
    if findings.iter().any(|f| f.health == Health::Fail) {
        return findings;
    }
    findings.extend(doors(config));
    let database = database(config).await;
    let reachable = database.health != Health::Fail;
    findings.push(database);
    if !reachable {
        return findings;
    }
    let failed = |what: &str, error: String| {
        Finding::new(
            what,
            Health::Fail,
            error,
            "mend this first, then run it again",
        )
    };
    match build_core(config, None, CatalogFile::Ignore).await {
        Ok(core) => {
            match examine(&core).await {
                Ok(examined) => findings.extend(examined),
                Err(error) => findings.push(failed("database", error.to_string())),
            }
            findings.extend(super::catalog::examine_file(config, &core).await);
            core.db.close().await;
        }
        Err(error) => findings.push(failed("start", format!("{error:#}"))),
    }
    findings
}

fn configuration(config: &Config) -> Vec<Finding> {
    let problems = config.validate();
    if problems.is_empty() {
        let found = match config.mode {
            Mode::Production => "sound, production",
            Mode::Development => "sound, development",
        };
        return vec![Finding::new("configuration", Health::Ok, found, "")];
    }
    let named = problems
        .into_iter()
        .map(|problem| Finding::new("configuration", Health::Fail, problem, "change the setting"));
    named.collect()
}

/// What authenticates the senders of notifications.
fn doors(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(google) = &config.google_play {
        findings.push(match &google.push {
            Some(_) => Finding::new("webhook google_play", Health::Ok, "push is verified", ""),
            None => Finding::new(
                "webhook google_play",
                Health::Warn,
                "without [google_play.push] none are accepted",
                "set up the push subscription: see docs/operations.md",
            ),
        });
    }
    if config.superwall.is_some() {
        let found = "the signing secret is set";
        findings.push(Finding::new("webhook superwall", Health::Ok, found, ""));
    }
    if config.app_store.is_some() {
        let found = "notifications verify themselves";
        findings.push(Finding::new("webhook app_store", Health::Ok, found, ""));
    }
    findings
}

async fn database(config: &Config) -> Finding {
    let url = config.database.url.expose_secret();
    let db = match Db::open(url, config.database.connections_max) {
        Ok(db) => db,
        Err(error) => {
            return Finding::new(
                "database",
                Health::Fail,
                error.to_string(),
                "check database.url",
            );
        }
    };
    let migrated = db.is_migrated().await;
    db.close().await;
    match migrated {
        Ok(true) => Finding::new("database", Health::Ok, "reached, schema up to date", ""),
        Ok(false) => Finding::new(
            "database",
            Health::Fail,
            "reached, schema missing or older than this version",
            "run `entitled migrate`",
        ),
        Err(error) => Finding::new(
            "database",
            Health::Fail,
            error.to_string(),
            "check database.url, and whether Postgres runs",
        ),
    }
}

/// Asks for a stretch and walks it; a worker that is at it already is watched instead.
pub(super) async fn backfill(args: &BackfillArgs) -> anyhow::Result<()> {
    let core = build_core(&args.config.load()?, None, CatalogFile::Ignore).await?;
    let targets = sweep::targets(&core);
    if targets.is_empty() {
        bail!("no store is configured for an app of the catalog");
    }
    let ask = Ask {
        since: args.since,
        only_failures: !args.all,
        why: Why::Operator,
    };
    sweep::ask(&core, &targets, ask).await?;
    for target in &targets {
        walk(&core, target)
            .await
            .with_context(|| format!("{} goes on with the next worker", target.subject()))?;
    }
    core.db.close().await;
    Ok(())
}

async fn walk(core: &crate::flows::Core, target: &Target) -> anyhow::Result<()> {
    let mut failures = 0;
    let mut begun = false;
    loop {
        match sweep::step(core, target).await? {
            Stepped::Rests => {
                let stand = sweep::stand(core, target).await?;
                if let Some(run) = stand.cursor.last.filter(|_| !begun) {
                    tell(target, &run, true);
                }
                return Ok(());
            }
            Stepped::Page { run, done } => {
                begun = true;
                failures = 0;
                tell(target, &run, done);
                tokio::time::sleep(PAGE_PAUSE).await;
            }
            Stepped::Busy => {
                let stand = sweep::stand(core, target).await?;
                if let Some(run) = &stand.cursor.run {
                    tell(target, run, false);
                }
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            Stepped::Failed(cause) => {
                failures += 1;
                println!("{}: {cause}", target.subject());
                if failures >= FAILURES_MAX {
                    bail!("the store does not answer: {cause}");
                }
                tokio::time::sleep(BUSY_PAUSE * (1 << failures)).await;
            }
        }
    }
}

fn tell(target: &Target, run: &Run, done: bool) {
    println!(
        "{}: {} to {}: {} pages, {} found, {} new{}",
        target.subject(),
        run.since.format("%F %T"),
        run.until.format("%F %T"),
        run.pages,
        run.found,
        run.recovered,
        if done { ", done" } else { "" }
    );
}

/// Trims now what the daily job would trim; or counts it.
pub(super) async fn retention(args: &RetentionArgs) -> anyhow::Result<()> {
    let core = build_core(&args.config.load()?, None, CatalogFile::Ignore).await?;
    let mut table = Table::new();
    let counted = if args.dry_run { "would go" } else { "gone" };
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_header(["what", "older than", counted]);
    for kept in Kept::ALL {
        let age = core.retention.of(kept);
        let rows = retain::trim(&core, kept, args.dry_run).await?;
        table.add_row([
            kept.as_str().to_owned(),
            age.map_or("kept for ever".into(), |age| {
                format!("{} days", age.num_days())
            }),
            rows.to_string(),
        ]);
    }
    core.db.close().await;
    println!("{table}");
    Ok(())
}
