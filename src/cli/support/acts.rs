//! Acts: gifts, transfers, resync, and what a store is asked for. Each is an event with a name.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};

use super::timestamp;
use crate::cli::source::{SourceArgs, told};
use crate::proto::act_at_store_request::Action;
use crate::proto::{
    ActAtStoreRequest, CancelSubscription, ExtendSubscription, GrantEntitlementRequest,
    RefundOrder, ResyncRequest, RevokeGrantRequest, RevokeSubscription, TransferPurchaseRequest,
};

#[derive(Args)]
pub(crate) struct GrantArgs {
    /// `issuer:subject` (dev:alice) or the account's id
    account: String,
    /// The entitlement, as the catalog names it
    entitlement: String,
    /// When it ends (RFC 3339); without it, never
    #[arg(long)]
    until: Option<DateTime<Utc>>,
    /// Why; kept with the event
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Args)]
pub(crate) struct RevokeGrantArgs {
    /// `issuer:subject` (dev:alice) or the account's id
    account: String,
    /// The entitlement, as the catalog names it: every open gift of it is taken back
    entitlement: String,
    /// Why; kept with the event
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Args)]
pub(crate) struct TransferArgs {
    /// Our id of the purchase, as `find`, `explain` and `replay` print it, or a store's
    purchase: String,
    /// Whose it becomes: `issuer:subject` or the account's id
    account: String,
    /// Whose it is: refused if it has changed hands meanwhile
    #[arg(long)]
    from: Option<String>,
    /// Your own id of this transfer: sent again, it changes nothing more
    #[arg(long)]
    operation_id: Option<String>,
    /// Why; kept with the event
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Args)]
pub(crate) struct ResyncArgs {
    /// `issuer:subject` (dev:alice) or the account's id
    account: String,
    #[command(flatten)]
    source: SourceArgs,
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
        #[arg(long, value_parser = clap::value_parser!(i32).range(1..=365))]
        days: i32,
    },
}

#[derive(Args)]
struct PurchaseArgs {
    /// Our id of the purchase, or a store's
    purchase: String,
    /// Your own id of this action: sent again, the store is not asked again. Default: a new one
    #[arg(long)]
    operation_id: Option<String>,
    /// Why; kept with the event
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    source: SourceArgs,
}

pub(crate) async fn grant(args: &GrantArgs) -> anyhow::Result<()> {
    let source = args.source.open().await?;
    let request = GrantEntitlementRequest {
        account: args.account.clone(),
        entitlement: args.entitlement.clone(),
        expires_at: args.until.map(timestamp),
        reason: args.reason.clone(),
    };
    let given = source.support().grant_entitlement(request).await;
    given.map_err(told)?;
    source.finish().await;
    let until = args
        .until
        .map_or("for ever".to_owned(), |until| format!("until {until}"));
    println!(
        "{} has {} {until}; its devices are told",
        args.account, args.entitlement
    );
    Ok(())
}

pub(crate) async fn revoke_grant(args: &RevokeGrantArgs) -> anyhow::Result<()> {
    let source = args.source.open().await?;
    let request = RevokeGrantRequest {
        account: args.account.clone(),
        entitlement: args.entitlement.clone(),
        reason: args.reason.clone(),
    };
    let revoked = source.support().revoke_grant(request).await;
    let revoked = revoked.map_err(told)?.into_inner().revoked;
    source.finish().await;
    match revoked {
        0 => println!("{} has no open gift of {}", args.account, args.entitlement),
        n => println!("{n} taken back; the account's devices are told"),
    }
    Ok(())
}

pub(crate) async fn transfer(args: &TransferArgs) -> anyhow::Result<()> {
    let source = args.source.open().await?;
    let request = TransferPurchaseRequest {
        purchase: args.purchase.clone(),
        to_account: args.account.clone(),
        from_account: args.from.clone().unwrap_or_default(),
        reason: args.reason.clone(),
        operation_id: args.operation_id.clone().unwrap_or_default(),
    };
    let moved = source.support().transfer_purchase(request).await;
    moved.map_err(told)?;
    source.finish().await;
    println!(
        "the purchase is {}'s now; both accounts' devices are told",
        args.account
    );
    Ok(())
}

pub(crate) async fn resync(args: &ResyncArgs) -> anyhow::Result<()> {
    let source = args.source.open().await?;
    let request = ResyncRequest {
        account: args.account.clone(),
    };
    let asked = source.support().resync(request).await.map_err(told)?;
    source.finish().await;
    println!(
        "{} purchases are asked about again by the next worker",
        asked.into_inner().purchases
    );
    Ok(())
}

pub(crate) async fn at_store(args: &StoreArgs) -> anyhow::Result<()> {
    let (purchase, action) = match &args.action {
        StoreAction::Refund {
            purchase,
            order,
            revoke,
        } => (
            purchase,
            Action::Refund(RefundOrder {
                order_id: order.clone(),
                revoke: *revoke,
            }),
        ),
        StoreAction::Revoke { purchase, prorated } => (
            purchase,
            Action::Revoke(RevokeSubscription {
                prorated: *prorated,
            }),
        ),
        StoreAction::Cancel { purchase, for_good } => (
            purchase,
            Action::Cancel(CancelSubscription {
                by_developer: *for_good,
            }),
        ),
        StoreAction::Extend { purchase, days } => {
            (purchase, Action::Extend(ExtendSubscription { days: *days }))
        }
    };
    let operation_id = purchase
        .operation_id
        .clone()
        .unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let source = purchase.source.open().await?;
    // Before the store is asked: whoever loses the answer can ask for it again.
    eprintln!("operation {operation_id}");
    let request = ActAtStoreRequest {
        purchase: purchase.purchase.clone(),
        action: Some(action),
        reason: purchase.reason.clone(),
        operation_id,
    };
    let acted = source.support().act_at_store(request).await;
    let acted = acted.map_err(told)?.into_inner();
    source.finish().await;
    println!("{}", acted.outcome);
    if !acted.settled {
        println!("what came of it is read by the next worker");
    }
    Ok(())
}
