//! Commands of operators, on the database host. Everything they do is an event with their name.

use std::sync::Arc;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::Args;

use super::ConfigArgs;
use crate::app::{CatalogFile, build_core};
use crate::config::Config;
use crate::domain::entitlement::Grant;
use crate::domain::ids::{AccountId, ChainId};
use crate::flows::read_entitlements::named_account;
use crate::flows::{Core, grant, resync, transfer};

/// An account, as operators name it.
#[derive(Args)]
pub(crate) struct AccountArgs {
    /// `issuer:subject` (dev:alice) or the account's id
    pub(super) account: String,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Who does it and why: kept with the event.
#[derive(Args)]
pub(crate) struct Audit {
    /// Why; kept with the event
    #[arg(long)]
    pub(super) reason: String,
    /// Who does it; kept with the event
    #[arg(long, env = "USER", default_value = "operator")]
    pub(super) actor: String,
}

#[derive(Args)]
pub(crate) struct GrantArgs {
    /// `issuer:subject` (dev:alice) or the account's id
    account: String,
    /// The entitlement, as the catalog names it
    entitlement: String,
    /// When it ends (RFC 3339); without it, never
    #[arg(long)]
    until: Option<DateTime<Utc>>,
    #[command(flatten)]
    audit: Audit,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Args)]
pub(crate) struct TransferArgs {
    /// The purchase chain's id, as `explain`, `replay` and the log print it
    chain: uuid::Uuid,
    /// Whose it becomes: `issuer:subject` or the account's id
    account: String,
    /// Whose it is: refused if it has changed hands meanwhile
    #[arg(long)]
    from: Option<String>,
    /// Your own id of this transfer: sent again, it changes nothing more
    #[arg(long)]
    operation_id: Option<String>,
    #[command(flatten)]
    audit: Audit,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Args)]
pub(crate) struct ResyncArgs {
    /// `issuer:subject` (dev:alice) or the account's id
    account: String,
    /// Who does it; kept with the event
    #[arg(long, env = "USER", default_value = "operator")]
    actor: String,
    #[command(flatten)]
    config: ConfigArgs,
}

/// What a command works with: the database as it is.
pub(super) async fn core_of(config: &Config) -> anyhow::Result<Arc<Core>> {
    build_core(config, None, CatalogFile::Ignore).await
}

pub(super) async fn core_and_account(
    config: &Config,
    account: &str,
) -> anyhow::Result<(Arc<Core>, AccountId)> {
    let core = core_of(config).await?;
    let found = named_account(&core, account).await?;
    let account = found.with_context(|| {
        format!(
            "no account {account:?}; name it issuer:subject (for example dev:alice) or by its id"
        )
    })?;
    Ok((core, account.id))
}

pub(super) async fn grant(args: &GrantArgs) -> anyhow::Result<()> {
    let (core, account) = core_and_account(&args.config.load()?, &args.account).await?;
    let gift = Grant {
        entitlement: args.entitlement.clone(),
        expires_at: args.until,
    };
    grant::grant(&core, account, &gift, &args.audit.actor, &args.audit.reason).await?;
    core.flush_hints().await;
    let until = args
        .until
        .map_or("for ever".to_owned(), |until| format!("until {until}"));
    println!(
        "{} has {} {until}; its devices are told",
        args.account, args.entitlement
    );
    Ok(())
}

pub(super) async fn transfer(args: &TransferArgs) -> anyhow::Result<()> {
    let (core, account) = core_and_account(&args.config.load()?, &args.account).await?;
    let from = match &args.from {
        Some(named) => Some(
            named_account(&core, named)
                .await?
                .with_context(|| format!("no account {named:?}"))?
                .id,
        ),
        None => None,
    };
    let asked = transfer::Transfer {
        chain: ChainId(args.chain),
        from,
        to: account,
        operation_id: args.operation_id.as_deref(),
        actor: &args.audit.actor,
        reason: &args.audit.reason,
    };
    transfer::transfer(&core, asked).await?;
    core.flush_hints().await;
    println!(
        "the purchase is {}'s now; both accounts' devices are told",
        args.account
    );
    Ok(())
}

pub(super) async fn resync(args: &ResyncArgs) -> anyhow::Result<()> {
    let (core, account) = core_and_account(&args.config.load()?, &args.account).await?;
    let chains = resync::resync(&core, account, &args.actor).await?;
    println!("{chains} purchases are asked about again by the next worker");
    Ok(())
}
