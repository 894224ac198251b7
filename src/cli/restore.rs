//! `restore` and `preflight`: what an app's "Restore purchases" button and its paywall ask, for users
//! of the `dev` stack.

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::Value;

use super::commands::{ServerArgs, Stores, explain, print_snapshot};
use crate::proto::preflight_purchase_request::About;
use crate::proto::purchase_proof::Proof;
use crate::proto::{
    AppStoreProof, BindOutcome, GooglePlayProof, HeldPurchase, PurchaseStanding, RestoredPurchase,
    app_store_proof,
};

#[derive(Args)]
pub(crate) struct RestoreArgs {
    /// The user who presses "Restore purchases"
    subject: String,
    /// Whose device it is: the simulated stores' customer whose purchases it holds; default: the
    /// user's own
    #[arg(long, value_name = "CUSTOMER")]
    device_of: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Args)]
pub(crate) struct PreflightArgs {
    /// The user
    subject: String,
    /// The product that is about to be bought, as the catalog names it
    product: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn restore(args: &RestoreArgs) -> anyhow::Result<()> {
    let stores = Stores::of(&args.server.stack_address()?)?;
    let customer = args.device_of.as_ref().unwrap_or(&args.subject);
    let held = held_by(&stores, customer).await?;
    if held.is_empty() {
        bail!("{customer} holds nothing; buy something first: entitled buy {customer} pro_yearly");
    }
    let (names, proofs): (Vec<String>, Vec<Proof>) = held.into_iter().unzip();
    let mut client = args.server.connect(&args.subject).await?;
    let answer = client.restore(proofs).await.map_err(explain)?;
    for (name, purchase) in names.iter().zip(&answer.purchases) {
        println!("{name}: {}", told(purchase));
    }
    print_snapshot(&answer.snapshot.unwrap_or_default(), false);
    Ok(())
}

/// What a customer's devices hold: each purchase's name, and its proof as the store hands it over.
async fn held_by(stores: &Stores, customer: &str) -> anyhow::Result<Vec<(String, Proof)>> {
    let purchases = stores
        .get(&format!("purchases?customer={customer}"))
        .await?;
    let package = stores.get("manifest").await?["package_name"].clone();
    let mut held: Vec<(String, Proof)> = Vec::new();
    let mut seen = Vec::new();
    for purchase in purchases.as_array().into_iter().flatten() {
        let id = word(&purchase["id"]);
        if seen.contains(&id) {
            continue;
        }
        let proof = match purchase["store"].as_str() {
            Some("app_store") => {
                let latest = word(&purchase["latest_transaction"]);
                let signed = stores
                    .get(&format!("app-store/transactions/{latest}"))
                    .await?;
                let signed = signed["signed_transaction"].as_str();
                let signed = signed
                    .context("the simulated store signs nothing")?
                    .to_owned();
                Proof::AppStore(AppStoreProof {
                    proof: Some(app_store_proof::Proof::SignedTransaction(signed)),
                })
            }
            _ => Proof::GooglePlay(GooglePlayProof {
                package_name: word(&package),
                purchase_token: id.clone(),
            }),
        };
        held.push((word(&purchase["product_id"]), proof));
        seen.push(id);
    }
    Ok(held)
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn told(purchase: &RestoredPurchase) -> String {
    let action = purchase.client_action().as_str_name();
    let action = action.trim_start_matches("CLIENT_ACTION_");
    match purchase.outcome() {
        BindOutcome::Unspecified => {
            format!("{} ({}) → {action}", purchase.reason, purchase.message)
        }
        outcome @ (BindOutcome::Bound
        | BindOutcome::AlreadyYours
        | BindOutcome::Pending
        | BindOutcome::BoundWithoutAccess) => {
            let outcome = outcome.as_str_name();
            let outcome = outcome.trim_start_matches("BIND_OUTCOME_");
            format!("{outcome} → {action}")
        }
    }
}

pub(super) async fn preflight(args: &PreflightArgs) -> anyhow::Result<()> {
    let mut client = args.server.connect(&args.subject).await?;
    let about = About::Product(args.product.clone());
    let answer = client.preflight(about).await.map_err(explain)?;
    match answer.standing() {
        PurchaseStanding::AlreadySubscribed => println!(
            "{} pays for what {} gives already:",
            args.subject, args.product
        ),
        PurchaseStanding::New
        | PurchaseStanding::Yours
        | PurchaseStanding::OwnedByOther
        | PurchaseStanding::Unspecified => println!(
            "{} has bought nothing that gives what {} gives",
            args.subject, args.product
        ),
    }
    for held in &answer.held {
        println!("  {}", line(held));
    }
    Ok(())
}

fn line(held: &HeldPurchase) -> String {
    let store = held.store().as_str_name().trim_start_matches("STORE_");
    let ends = held.expires_at.as_ref();
    let ends = ends.and_then(|at| DateTime::<Utc>::from_timestamp(at.seconds, 0));
    let until = match (ends, held.will_renew) {
        (Some(end), true) => format!(", renews {}", end.format("%F %T")),
        (Some(end), false) => format!(", until {}", end.format("%F %T")),
        (None, _) => String::new(),
    };
    let gives = held.entitlements.join(", ");
    let store = store.to_lowercase().replace('_', " ");
    format!("{} at the {store} gives {gives}{until}", held.plan)
}
