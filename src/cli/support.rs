//! What support asks and does, on the database host: the story, the reasons, the money, replay, and
//! what a store is asked for. The same flows as `SupportService`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;

use super::ConfigArgs;
use super::operator::{AccountArgs, Audit, core_and_account, core_of};
use crate::config::Config;
use crate::domain::ids::ChainId;
use crate::domain::provider::Source;
use crate::flows::act_at_store::{Asked, Command, act_at_store};
use crate::flows::list_transactions::{self, list_transactions};
use crate::flows::replay_ingress::{self, Difference, Place, replay_page};
use crate::flows::tell_timeline::{Part, Subject, named_purchases, story, tell_timeline};
use crate::flows::{Core, explain, grant, past, read_entitlements};
use crate::storage::timeline::Entry;

/// Notifications and purchases that one page of a replay looks at.
const PAGE: i64 = 200;
/// Between two pages that change something: other work comes first.
const PACE: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(crate) struct TimelineArgs {
    /// `issuer:subject` (dev:alice) or the account's id; with --purchase, a purchase
    subject: String,
    /// The subject is a purchase: our id, or a store's (transaction, order, original transaction)
    #[arg(long)]
    purchase: bool,
    /// Only these layers: notification, claim, answer, decision, owner, snapshot, transaction,
    /// credit, delivery, duty, grant, action
    #[arg(long, value_delimiter = ',')]
    layer: Vec<String>,
    /// Only what happened at or after this (RFC 3339)
    #[arg(long)]
    since: Option<DateTime<Utc>>,
    /// Only what happened before this (RFC 3339)
    #[arg(long)]
    until: Option<DateTime<Utc>>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct ExplainArgs {
    /// `issuer:subject` (dev:alice) or the account's id
    account: String,
    /// The entitlement, as the catalog names it
    entitlement: String,
    /// A past moment (RFC 3339); without it, now
    #[arg(long)]
    at: Option<DateTime<Utc>>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct EntitlementsArgs {
    #[command(flatten)]
    account: AccountArgs,
    /// A past moment (RFC 3339); without it, now
    #[arg(long)]
    at: Option<DateTime<Utc>>,
}

#[derive(Args)]
pub(crate) struct TransactionsArgs {
    /// `issuer:subject` (dev:alice) or the account's id; without it, every account
    account: Option<String>,
    /// A store's transaction or order id
    #[arg(long)]
    store_id: Option<String>,
    /// Only what happened at or after this (RFC 3339)
    #[arg(long)]
    since: Option<DateTime<Utc>>,
    /// Only what happened before this (RFC 3339)
    #[arg(long)]
    until: Option<DateTime<Utc>>,
    /// At most so many, the newest
    #[arg(long, default_value_t = 50)]
    limit: i64,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Args)]
pub(crate) struct ReplayArgs {
    /// `issuer:subject` (dev:alice) or the account's id; without it, what --source, --since and
    /// --until select
    account: Option<String>,
    /// Only this source: app_store, google_play, superwall
    #[arg(long)]
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
    /// Who does it; kept with the event
    #[arg(long, env = "USER", default_value = "operator")]
    actor: String,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct RevokeGrantArgs {
    /// `issuer:subject` (dev:alice) or the account's id
    account: String,
    /// The entitlement, as the catalog names it: every open gift of it is taken back
    entitlement: String,
    #[command(flatten)]
    audit: Audit,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Args)]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    action: StoreAction,
}

/// What a store is asked for. The purchase is read again afterwards.
#[derive(Subcommand)]
enum StoreAction {
    /// Give the money of one order back (Google Play)
    Refund {
        #[command(flatten)]
        purchase: PurchaseArgs,
        /// Google's order id
        #[arg(long)]
        order: String,
        /// End what it paid for, too
        #[arg(long)]
        revoke: bool,
    },
    /// End a subscription now and give money back (Google Play)
    Revoke {
        #[command(flatten)]
        purchase: PurchaseArgs,
        /// Only the unused rest of the period
        #[arg(long)]
        prorated: bool,
    },
    /// Stop renewals (Google Play)
    Cancel {
        #[command(flatten)]
        purchase: PurchaseArgs,
        /// The customer cannot turn renewal on again
        #[arg(long)]
        for_good: bool,
    },
    /// Move the next renewal (App Store: 1 to 90 days; Google Play: 1 to 365)
    Extend {
        #[command(flatten)]
        purchase: PurchaseArgs,
        /// Days
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=365))]
        days: u32,
    },
}

#[derive(Args)]
struct PurchaseArgs {
    /// Our id of the purchase, or a store's
    purchase: String,
    /// Your own id of this action: sent again, the store is not asked again. Default: a new one
    #[arg(long)]
    operation_id: Option<String>,
    #[command(flatten)]
    audit: Audit,
    #[command(flatten)]
    config: ConfigArgs,
}

/// An account's story, in time order.
pub(crate) async fn timeline_entries(config: &Config, account: &str) -> anyhow::Result<Vec<Entry>> {
    let (core, account) = core_and_account(config, account).await?;
    let entries = tell_timeline(&core, &Subject::Account(account), Part::default()).await?;
    core.db.close().await;
    Ok(entries)
}

pub(super) async fn timeline(args: &TimelineArgs) -> anyhow::Result<()> {
    let config = args.config.load()?;
    let (core, subject) = if args.purchase {
        let core = core_of(&config).await?;
        let found = named_purchases(&core, &args.subject).await?;
        if found.is_empty() {
            bail!("no purchase {:?} has arrived here", args.subject);
        }
        (core, Subject::Purchases(found))
    } else {
        let (core, account) = core_and_account(&config, &args.subject).await?;
        (core, Subject::Account(account))
    };
    let part = Part {
        layers: args.layer.clone(),
        since: args.since,
        until: args.until,
        ..Part::default()
    };
    let entries = tell_timeline(&core, &subject, part).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&entries)?);
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "time (UTC)",
        "layer",
        "what",
        "detail",
        "revision",
    ]);
    for entry in entries {
        let story = story(&entry);
        let what = if story.is_empty() { entry.what } else { story };
        let by = entry.actor.map(|actor| format!("by {actor}"));
        let detail = [Some(entry.detail), by];
        let detail: Vec<String> = detail
            .into_iter()
            .flatten()
            .filter(|part| !part.is_empty())
            .collect();
        table.add_row([
            entry.at.format("%F %T").to_string(),
            entry.layer,
            what,
            detail.join(", "),
            entry
                .revision
                .map(|revision| revision.to_string())
                .unwrap_or_default(),
        ]);
    }
    println!("{table}");
    Ok(())
}

pub(super) async fn explain(args: &ExplainArgs) -> anyhow::Result<()> {
    let (core, account) = core_and_account(&args.config.load()?, &args.account).await?;
    let explained = explain::explain(&core, account, &args.entitlement, args.at).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&explained)?);
        return Ok(());
    }
    println!("{}", explained.explanation.sentence);
    if let Some(decided) = &explained.decided {
        println!("decided by: {} (event {})", decided.words, decided.event);
    }
    if let Some(purchase) = explained.purchase {
        println!("purchase:   {purchase}");
    }
    println!("advice:     {}", explained.explanation.advice);
    Ok(())
}

pub(super) async fn entitlements(args: &EntitlementsArgs) -> anyhow::Result<()> {
    let account = &args.account;
    let (core, id) = core_and_account(&account.config.load()?, &account.account).await?;
    let found = read_entitlements::named_account(&core, &id.to_string()).await?;
    let found = found.context("the account is gone")?;
    let at = args.at.unwrap_or_else(|| core.clock.now());
    let stored = past::stored_at(&core, &found, at).await?;
    if account.json {
        println!("{}", serde_json::to_string_pretty(&stored.snapshot)?);
        return Ok(());
    }
    println!(
        "revision {} as of {}",
        stored.revision,
        at.format("%F %T UTC")
    );
    for entitlement in &stored.snapshot.entitlements {
        match entitlement.sources.first() {
            Some(source) => println!(
                "  {}: on ({}){}",
                entitlement.id,
                word(source.reason),
                entitlement
                    .access_until()
                    .map(|end| format!(" until {}", end.format("%F %T UTC")))
                    .unwrap_or_default()
            ),
            None => println!(
                "  {}: off ({})",
                entitlement.id,
                word(entitlement.inactive_reason)
            ),
        }
    }
    for credit in &stored.snapshot.credits {
        println!("  {}: {}", credit.id, credit.balance);
    }
    for pending in &stored.snapshot.pending {
        println!("  {}: awaits its payment", pending.product_id);
    }
    Ok(())
}

/// The stored word of a reason.
fn word(reason: impl serde::Serialize) -> String {
    let value = serde_json::to_value(reason).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

pub(super) async fn transactions(args: &TransactionsArgs) -> anyhow::Result<()> {
    let config = args.config.load()?;
    let (core, account) = match &args.account {
        Some(account) => {
            let (core, account) = core_and_account(&config, account).await?;
            (core, Some(account))
        }
        None => (core_of(&config).await?, None),
    };
    let page = list_transactions::Page {
        account,
        store_id: args.store_id.as_deref(),
        since: args.since,
        until: args.until,
        after: None,
        limit: args.limit,
    };
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "time (UTC)",
        "what",
        "product",
        "amount",
        "store",
        "id",
        "account",
    ]);
    for listed in list_transactions(&core, &page).await? {
        let row = listed.row;
        let amount = match (row.amount_micros, row.currency) {
            (Some(micros), Some(currency)) => format!("{} {currency}", exact(micros)),
            _ => String::new(),
        };
        table.add_row([
            row.at.format("%F %T").to_string(),
            row.refund_kind
                .map_or(row.kind.clone(), |kind| format!("{} ({kind})", row.kind)),
            row.product_id,
            amount,
            listed.provider.label().to_owned(),
            row.of_transaction_id.unwrap_or(row.transaction_id),
            row.account.map(|id| id.to_string()).unwrap_or_default(),
        ]);
    }
    println!("{table}");
    Ok(())
}

/// Millionths as a decimal number, without rounding.
fn exact(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let (whole, rest) = (
        micros.unsigned_abs() / 1_000_000,
        micros.unsigned_abs() % 1_000_000,
    );
    let rest = format!("{rest:06}");
    let rest = rest.trim_end_matches('0');
    format!("{sign}{whole}.{rest:0<2}")
}

pub(super) async fn revoke_grant(args: &RevokeGrantArgs) -> anyhow::Result<()> {
    let (core, account) = core_and_account(&args.config.load()?, &args.account).await?;
    let Audit { actor, reason } = &args.audit;
    let revoked = grant::revoke_grant(&core, account, &args.entitlement, actor, reason).await?;
    core.flush_hints().await;
    match revoked {
        0 => println!("{} has no open gift of {}", args.account, args.entitlement),
        n => println!("{n} taken back; the account's devices are told"),
    }
    Ok(())
}

pub(super) async fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let (core, account) = match &args.account {
        Some(account) => {
            let (core, account) = core_and_account(&config, account).await?;
            (core, Some(account))
        }
        None if args.source.is_none() && args.since.is_none() && args.until.is_none() => {
            bail!("name an account, a --source, or a time with --since or --until");
        }
        None => (core_of(&config).await?, None),
    };
    let source =
        match &args.source {
            Some(word) => Some(Source::parse(word).map(Source::as_str).with_context(|| {
                format!("no source {word:?}: app_store, google_play, superwall")
            })?),
            None => None,
        };
    let asked = replay_ingress::Asked {
        account,
        source,
        since: args.since,
        until: args.until,
        apply: args.apply.then_some(args.actor.as_str()),
    };
    let told = replay_all(&core, &asked, args.json).await?;
    Ok(if told.iter().all(|difference| difference.applied) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn replay_all(
    core: &Core,
    asked: &replay_ingress::Asked<'_>,
    json: bool,
) -> anyhow::Result<Vec<Difference>> {
    let (mut notifications, mut purchases) = (0, Vec::new());
    let mut told = Vec::new();
    let mut place = Some(Place::START);
    while let Some(here) = place {
        let page = replay_page(core, asked, here, PAGE).await?;
        notifications += page.notifications;
        let decided = purchases.len() + page.purchases.len();
        if !json {
            for difference in &page.differences {
                let done = if difference.applied {
                    ", put back in line"
                } else {
                    ""
                };
                match difference.purchase {
                    Some(purchase) => println!("  {purchase}: {}{done}", difference.what),
                    None => println!("  {}{done}", difference.what),
                }
            }
            for purchase in page
                .purchases
                .iter()
                .filter(|purchase| purchase.trimmed > 0)
            {
                println!(
                    "  {}: {} answers of the store were trimmed by retention: decided by what \
                     their events kept",
                    purchase.chain, purchase.trimmed
                );
            }
            for purchase in page.purchases.iter().filter(|purchase| purchase.erased > 0) {
                println!(
                    "  {}: {} answers of the store were erased with their account: decided by what \
                     their events kept",
                    purchase.chain, purchase.erased
                );
            }
            if page.erased > 0 {
                println!(
                    "  {} notifications were erased with their accounts",
                    page.erased
                );
            }
            eprintln!("{notifications} notifications, {decided} purchases so far");
        }
        if asked.apply.is_some() && !page.differences.is_empty() {
            tokio::time::sleep(PACE).await;
        }
        purchases.extend(page.purchases);
        told.extend(page.differences);
        place = page.next;
    }
    if json {
        let answer = serde_json::json!({
            "notifications": notifications, "purchases": purchases, "differences": told,
        });
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        println!(
            "{notifications} notifications and {} purchases, {} differences",
            purchases.len(),
            told.len()
        );
    }
    Ok(told)
}

pub(super) async fn at_store(args: &StoreArgs) -> anyhow::Result<()> {
    let (purchase, command) = match &args.action {
        StoreAction::Refund {
            purchase,
            order,
            revoke,
        } => (
            purchase,
            Command::Refund {
                order_id: order.clone(),
                revoke: *revoke,
            },
        ),
        StoreAction::Revoke { purchase, prorated } => (
            purchase,
            Command::Revoke {
                prorated: *prorated,
            },
        ),
        StoreAction::Cancel { purchase, for_good } => (
            purchase,
            Command::Cancel {
                by_developer: *for_good,
            },
        ),
        StoreAction::Extend { purchase, days } => (
            purchase,
            Command::Extend {
                days: *days,
                request_id: String::new(),
            },
        ),
    };
    let operation_id = purchase
        .operation_id
        .clone()
        .unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let command = match command {
        Command::Extend { days, .. } => Command::Extend {
            days,
            request_id: operation_id.clone(),
        },
        other @ (Command::Refund { .. } | Command::Revoke { .. } | Command::Cancel { .. }) => other,
    };
    let core = core_of(&purchase.config.load()?).await?;
    let asked = Asked {
        chain: one(&core, &purchase.purchase).await?,
        command: &command,
        operation_id: &operation_id,
        actor: &purchase.audit.actor,
        reason: &purchase.audit.reason,
    };
    eprintln!("operation {operation_id}");
    let acted = act_at_store(&core, asked).await?;
    core.flush_hints().await;
    println!("{}", acted.outcome);
    if !acted.settled {
        println!("what came of it is read by the next worker");
    }
    Ok(())
}

async fn one(core: &Core, name: &str) -> anyhow::Result<ChainId> {
    match named_purchases(core, name).await?.as_slice() {
        [one] => Ok(*one),
        [] => bail!("no purchase {name:?} has arrived here"),
        [_, _, ..] => {
            bail!("several purchases have that id; name one by our id (see the timeline)")
        }
    }
}
