//! `entitled replay`: page after page, at a pace that leaves room for other work.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::Value;

use super::{json, timestamp};
use crate::cli::source::{Source, SourceArgs, told};
use crate::proto::{ReplayDifference, ReplayRequest, ReplayResponse, ReplayedPurchase};

/// Notifications and purchases that one page looks at.
const PAGE: i32 = 200;
/// Between two pages that change something: other work comes first.
const PACE: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(crate) struct ReplayArgs {
    /// `issuer:subject` (dev:alice) or the account's id; without it, what --source, --since and
    /// --until select
    account: Option<String>,
    /// Only this source: app_store, google_play, superwall
    #[arg(long, value_parser = ["app_store", "google_play", "superwall"])]
    source: Option<String>,
    /// Only what was received at or after this (RFC 3339)
    #[arg(long)]
    since: Option<DateTime<Utc>>,
    /// Only what was received before this (RFC 3339)
    #[arg(long)]
    until: Option<DateTime<Utc>>,
    /// Change nothing, print the difference: the default
    #[arg(long, conflicts_with = "apply")]
    dry_run: bool,
    /// Carry it out: what can be read now is read, purchases that differ are asked about. May be
    /// interrupted and run again
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    at: SourceArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What all pages came to.
#[derive(Default)]
struct Told {
    notifications: i64,
    purchases: Vec<ReplayedPurchase>,
    differences: Vec<ReplayDifference>,
}

pub(crate) async fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let selects = args.source.is_some() || args.since.is_some() || args.until.is_some();
    if args.account.is_none() && !selects {
        bail!("name an account, a --source, or a time with --since or --until");
    }
    let source = args.at.open().await?;
    let told = pages(args, &source).await?;
    source.finish().await;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&whole(&told)?)?);
    } else {
        println!(
            "{} notifications and {} purchases, {} differences",
            told.notifications,
            told.purchases.len(),
            told.differences.len()
        );
    }
    let done = told.differences.iter().all(|difference| difference.applied);
    Ok(if done {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn pages(args: &ReplayArgs, source: &Source) -> anyhow::Result<Told> {
    let mut request = ReplayRequest {
        account: args.account.clone().unwrap_or_default(),
        source: args.source.clone().unwrap_or_default(),
        since: args.since.map(timestamp),
        until: args.until.map(timestamp),
        apply: args.apply,
        page_size: PAGE,
        page_token: String::new(),
    };
    let mut all = Told::default();
    loop {
        let page = source.support().replay(request.clone()).await;
        let page = page.map_err(told)?.into_inner();
        all.notifications += i64::from(page.notifications);
        if !args.json {
            print(&page);
            eprintln!(
                "{} notifications, {} purchases so far",
                all.notifications,
                all.purchases.len() + page.replayed.len()
            );
        }
        let changed = args.apply && !page.differences.is_empty();
        all.purchases.extend(page.replayed);
        all.differences.extend(page.differences);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
        if changed {
            tokio::time::sleep(PACE).await;
        }
    }
}

fn print(page: &ReplayResponse) {
    for difference in &page.differences {
        let done = match difference.applied {
            true => ", put back in line",
            false => "",
        };
        match difference.purchase_id.as_str() {
            "" => println!("  {}{done}", difference.what),
            purchase => println!("  {purchase}: {}{done}", difference.what),
        }
    }
    for purchase in page.replayed.iter().filter(|it| it.trimmed > 0) {
        println!(
            "  {}: {} answers of the store were trimmed by retention: decided by what their \
             events kept",
            purchase.purchase_id, purchase.trimmed
        );
    }
    for purchase in page.replayed.iter().filter(|it| it.erased > 0) {
        println!(
            "  {}: {} answers of the store were erased with their account: decided by what their \
             events kept",
            purchase.purchase_id, purchase.erased
        );
    }
    if page.erased > 0 {
        println!(
            "  {} notifications were erased with their accounts",
            page.erased
        );
    }
}

fn whole(told: &Told) -> anyhow::Result<Value> {
    let purchases: Vec<Value> = told
        .purchases
        .iter()
        .map(|purchase| json::value("ReplayedPurchase", purchase))
        .collect::<Result<_, _>>()?;
    let differences: Vec<Value> = told
        .differences
        .iter()
        .map(|difference| json::value("ReplayDifference", difference))
        .collect::<Result<_, _>>()?;
    Ok(serde_json::json!({
        "notifications": told.notifications, "purchases": purchases, "differences": differences,
    }))
}
