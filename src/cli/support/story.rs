//! Questions: whose mail is this, what happened, why is it on or off, what was paid.

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;

use super::{PAGE, json, moment, timestamp, word};
use crate::cli::source::{Source, SourceArgs, told};
use crate::proto::{
    EntitlementSnapshot, ExplainEntitlementRequest, FindAccountRequest, GetEntitlementsRequest,
    GetTimelineRequest, GetTimelineResponse, ListTransactionsRequest, RefundKind, Store,
    TimelineEntry, TimelineLayer, Transaction, get_timeline_request::Subject,
};

#[derive(Args)]
pub(crate) struct FindArgs {
    /// What the mail holds: our account id, issuer:subject, a store token, an Apple transaction id,
    /// a Google order id (GPA.…) or purchase token, our id of a purchase
    query: String,
    #[command(flatten)]
    source: SourceArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct TimelineArgs {
    /// `issuer:subject` (dev:alice) or the account's id; with --purchase, a purchase
    subject: String,
    /// The subject is a purchase: our id, or a store's (transaction, order, original transaction)
    #[arg(long)]
    purchase: bool,
    /// Only these layers: notification, claim, answer, decision, owner, snapshot, transaction,
    /// credit, delivery, duty, grant, action
    #[arg(long, value_delimiter = ',', value_parser = layer)]
    layer: Vec<TimelineLayer>,
    /// Only what happened at or after this (RFC 3339)
    #[arg(long)]
    since: Option<DateTime<Utc>>,
    /// Only what happened before this (RFC 3339)
    #[arg(long)]
    until: Option<DateTime<Utc>>,
    #[command(flatten)]
    source: SourceArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn layer(word: &str) -> Result<TimelineLayer, String> {
    TimelineLayer::from_str_name(&format!("TIMELINE_LAYER_{}", word.to_uppercase()))
        .filter(|layer| *layer != TimelineLayer::Unspecified)
        .ok_or_else(|| "no such layer; --help lists them".to_owned())
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
    source: SourceArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct EntitlementsArgs {
    /// `issuer:subject` (dev:alice) or the account's id
    account: String,
    /// A past moment (RFC 3339); without it, now
    #[arg(long)]
    at: Option<DateTime<Utc>>,
    #[command(flatten)]
    source: SourceArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
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
    limit: usize,
    #[command(flatten)]
    source: SourceArgs,
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_header(header.iter().copied());
    table
}

pub(crate) async fn find(args: &FindArgs) -> anyhow::Result<()> {
    let source = args.source.open().await?;
    let request = FindAccountRequest {
        query: args.query.clone(),
    };
    let found = source.support().find_account(request).await.map_err(told)?;
    source.finish().await;
    let found = found.into_inner();
    if args.json {
        return json::print("FindAccountResponse", &found);
    }
    if found.accounts.is_empty() && found.purchases.is_empty() {
        bail!(
            "nothing here is called that; ask for the order id of the store's receipt, or look at \
             its spelling"
        );
    }
    for account in &found.accounts {
        println!(
            "account {} (by {}), since {}",
            account.account_id,
            by(account.found_by().as_str_name()),
            moment(account.created_at)
        );
        for identity in &account.identities {
            println!("  known as {identity}");
        }
        for purchase in &account.purchase_ids {
            println!("  owns purchase {purchase}");
        }
    }
    for purchase in &found.purchases {
        let owner = match purchase.account_id.as_str() {
            "" => "nobody's".to_owned(),
            owner => format!("of account {owner}"),
        };
        println!(
            "purchase {} (by {}), {} {}, {owner}",
            purchase.purchase_id,
            by(purchase.found_by().as_str_name()),
            store(purchase.store()),
            purchase.app
        );
    }
    Ok(())
}

fn by(name: &str) -> String {
    word(name, "FOUND_BY").replace('_', " ")
}

fn store(store: Store) -> &'static str {
    match store {
        Store::AppStore => "App Store",
        Store::GooglePlay => "Google Play",
        Store::Unspecified => "",
    }
}

pub(crate) async fn timeline(args: &TimelineArgs) -> anyhow::Result<()> {
    let source = args.source.open().await?;
    let name = args.subject.clone();
    let request = GetTimelineRequest {
        subject: Some(match args.purchase {
            true => Subject::Purchase(name),
            false => Subject::Account(name),
        }),
        layers: args.layer.iter().map(|layer| i32::from(*layer)).collect(),
        since: args.since.map(timestamp),
        until: args.until.map(timestamp),
        page_size: PAGE,
        ..Default::default()
    };
    let entries = timeline_entries(&source, request).await?;
    source.finish().await;
    let narrowed = !args.layer.is_empty() || args.since.is_some() || args.until.is_some();
    if args.purchase && entries.is_empty() && !narrowed {
        bail!("no purchase {:?} has arrived here", args.subject);
    }
    if args.json {
        let told = GetTimelineResponse {
            entries,
            ..Default::default()
        };
        return json::print("GetTimelineResponse", &told);
    }
    let mut table = table(&["time (UTC)", "layer", "what", "detail", "revision"]);
    for entry in entries {
        let layer = word(entry.layer().as_str_name(), "TIMELINE_LAYER");
        let TimelineEntry {
            at,
            what,
            detail,
            story,
            revision,
            actor,
            ..
        } = entry;
        let what = if story.is_empty() { what } else { story };
        let by = (!actor.is_empty()).then(|| format!("by {actor}"));
        let detail: Vec<String> = [Some(detail), by]
            .into_iter()
            .flatten()
            .filter(|part| !part.is_empty())
            .collect();
        let revision = match revision {
            0 => String::new(),
            revision => revision.to_string(),
        };
        table.add_row([moment(at), layer, what, detail.join(", "), revision]);
    }
    println!("{table}");
    Ok(())
}

/// All pages of a story, in time order.
async fn timeline_entries(
    source: &Source,
    mut request: GetTimelineRequest,
) -> anyhow::Result<Vec<TimelineEntry>> {
    let mut entries = Vec::new();
    loop {
        let page = source.support().get_timeline(request.clone()).await;
        let page = page.map_err(told)?.into_inner();
        entries.extend(page.entries);
        if page.next_page_token.is_empty() {
            return Ok(entries);
        }
        request.page_token = page.next_page_token;
    }
}

pub(crate) async fn explain(args: &ExplainArgs) -> anyhow::Result<()> {
    let source = args.source.open().await?;
    let request = ExplainEntitlementRequest {
        account: args.account.clone(),
        entitlement: args.entitlement.clone(),
        at: args.at.map(timestamp),
    };
    let explained = source.support().explain_entitlement(request).await;
    let explained = explained.map_err(told)?.into_inner();
    source.finish().await;
    if args.json {
        return json::print("ExplainEntitlementResponse", &explained);
    }
    println!("{}", explained.sentence);
    if let Some(decided) = &explained.decided_by {
        println!("decided by: {} (event {})", decided.words, decided.event_id);
    }
    if !explained.purchase_id.is_empty() {
        println!("purchase:   {}", explained.purchase_id);
    }
    println!("advice:     {}", explained.advice);
    Ok(())
}

pub(crate) async fn entitlements(args: &EntitlementsArgs) -> anyhow::Result<()> {
    let source = args.source.open().await?;
    let request = GetEntitlementsRequest {
        account: args.account.clone(),
        as_of: args.at.map(timestamp),
        ..Default::default()
    };
    let read = source.entitlements().get_entitlements(request).await;
    let read = read.map_err(told)?.into_inner();
    source.finish().await;
    let snapshot = read.snapshot.clone().unwrap_or_default();
    let id = snapshot.account.as_ref().map(|it| it.id.clone());
    if id.is_none_or(|id| id == uuid::Uuid::nil().to_string()) {
        bail!(
            "no account {:?}; name it issuer:subject (for example dev:alice) or by its id",
            args.account
        );
    }
    if args.json {
        return json::print("GetEntitlementsResponse", &read);
    }
    println!(
        "revision {} as of {} UTC",
        snapshot.revision,
        moment(read.as_of)
    );
    print_snapshot(&snapshot);
    Ok(())
}

fn print_snapshot(snapshot: &EntitlementSnapshot) {
    for entitlement in &snapshot.entitlements {
        let id = &entitlement.id;
        if entitlement.active {
            let until = match entitlement.access_until {
                Some(_) => format!(" until {} UTC", moment(entitlement.access_until)),
                None => String::new(),
            };
            let why = word(entitlement.reason().as_str_name(), "ACCESS_REASON");
            println!("  {id}: on ({why}){until}");
        } else {
            let why = entitlement.inactive_reason();
            println!(
                "  {id}: off ({})",
                word(why.as_str_name(), "INACTIVE_REASON")
            );
        }
    }
    for credit in &snapshot.credits {
        println!("  {}: {}", credit.id, credit.balance);
    }
    for pending in &snapshot.pending_purchases {
        println!("  {}: awaits its payment", pending.product_id);
    }
}

pub(crate) async fn transactions(args: &TransactionsArgs) -> anyhow::Result<()> {
    let source = args.source.open().await?;
    let mut request = ListTransactionsRequest {
        account: args.account.clone().unwrap_or_default(),
        store_transaction_id: args.store_id.clone().unwrap_or_default(),
        since: args.since.map(timestamp),
        until: args.until.map(timestamp),
        ..Default::default()
    };
    let mut table = table(&[
        "time (UTC)",
        "what",
        "product",
        "amount",
        "store",
        "id",
        "account",
    ]);
    let mut left = args.limit;
    while left > 0 {
        request.page_size = i32::try_from(left).unwrap_or(PAGE).min(PAGE);
        let page = source.purchases().list_transactions(request.clone()).await;
        let page = page.map_err(told)?.into_inner();
        left = left.saturating_sub(page.transactions.len());
        for listed in page.transactions {
            table.add_row(transaction(listed));
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    source.finish().await;
    println!("{table}");
    Ok(())
}

fn transaction(listed: Transaction) -> [String; 7] {
    let kind = word(listed.kind().as_str_name(), "TRANSACTION_KIND");
    let what = match listed.refund_kind() {
        RefundKind::Unspecified => kind,
        refund @ (RefundKind::Full
        | RefundKind::Prorated
        | RefundKind::Partial
        | RefundKind::Chargeback
        | RefundKind::Unacknowledged) => {
            format!("{kind} ({})", word(refund.as_str_name(), "REFUND_KIND"))
        }
    };
    let amount = match &listed.amount {
        Some(money) => format!("{} {}", exact(money.micros), money.currency_code),
        None => String::new(),
    };
    let sold_in = store(listed.store()).to_owned();
    [
        moment(listed.occurred_at),
        what,
        listed.product_id,
        amount,
        sold_in,
        listed.store_transaction_id,
        listed.account_id,
    ]
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
