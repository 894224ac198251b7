//! `backfill`, `retention`: what can be done when something was missed, or is kept too long.

use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;

use crate::app::{CatalogFile, build_core};
use crate::cli::ConfigArgs;
use crate::domain::sweep::{Ask, Run, Why};
use crate::flows::retain::{self, Kept};
use crate::flows::sweep::{self, Stepped, Target};

/// Somebody else is at it, or the store's budget is used up.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Between two pages: Google allows 30 calls in 30 s for one app.
const PAGE_PAUSE: Duration = Duration::from_millis(1_100);
/// A store that does not answer is asked so often.
const FAILURES_MAX: u32 = 5;

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

/// Asks for a stretch and walks it; a worker that is at it already is watched instead.
pub(in crate::cli) async fn backfill(args: &BackfillArgs) -> anyhow::Result<()> {
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
pub(in crate::cli) async fn retention(args: &RetentionArgs) -> anyhow::Result<()> {
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
