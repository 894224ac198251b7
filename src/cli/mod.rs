//! The command line. `entitled --help` teaches; every error says what to do next.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the command line speaks to people and pipes"
)]

mod catalog;
pub mod client;
#[cfg(test)]
mod command_tests;
mod commands;
mod corpus;
mod demo;
mod dev;
mod doctor;
mod encryption;
mod init;
mod inspect;
mod keys;
mod lan;
mod operator;
mod privacy;
mod prove;
mod restore;
pub mod sandbox;
mod server;
mod setup;
mod source;
pub mod stack;
pub mod storm;
mod support;
mod timing;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::telemetry::{self, LogFormat};

/// What does this account have access to right now?
///
/// Start with `entitled demo`: it plays a purchase, a renewal and a refund on simulated stores.
/// Then `entitled dev` keeps the same stack running for your app.
#[derive(Parser)]
#[command(name = "entitled", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play a purchase becoming access on every device, on simulated stores
    Demo(demo::DemoArgs),
    /// Keep simulated stores and a server running for app developers
    Dev(dev::DevArgs),
    /// Try the promises on this machine: lost and repeated signals, kills, forgeries, races
    Prove(Box<prove::ProveArgs>),
    /// Run the store simulator: Apple's and Google's side of your billing, on a clock you move
    ///
    /// By itself it plays both stores for any server, ours or yours: it writes addresses, trust
    /// roots and credentials into a directory and prints how to point a server at them.
    Sandbox(Box<sandbox::SandboxArgs>),
    /// Run everything in one process: API, webhooks and worker
    Start(ConfigArgs),
    /// Run the gRPC API
    Serve(ConfigArgs),
    /// Run the listener for store notifications
    Webhooks(ConfigArgs),
    /// Run the reconciler and the jobs
    Worker(ConfigArgs),
    /// Bring the database to this version's schema
    Migrate(ConfigArgs),
    /// Write a configuration and a catalog, with comments, from a few answers
    Init(init::InitArgs),
    /// Print what to click, to copy and to run at a store, for your configuration and catalog
    ///
    /// The steps are those of docs/stores, filled in; `doctor` checks them in the same order.
    #[command(subcommand)]
    Setup(setup::SetupCommand),
    /// Look at everything that can be wrong, and say what to do next
    Doctor(doctor::DoctorArgs),
    /// Ask the stores for what they told and we did not hear
    Backfill(doctor::BackfillArgs),
    /// Delete what is no longer needed, as the daily job does
    Retention(doctor::RetentionArgs),
    /// The keys that everything a store has sent is encrypted under
    #[command(subcommand)]
    Encryption(encryption::EncryptionCommand),
    /// Check, compare, apply and roll back what is sold and what it opens
    #[command(subcommand)]
    Catalog(catalog::CatalogCommand),
    /// Make a development token for a user of the `dev` stack
    Token(commands::TokenArgs),
    /// Follow a user's entitlements
    Watch(commands::UserArgs),
    /// Print a user's entitlements
    Get(commands::UserArgs),
    /// Buy a product at a simulated store and bind it, as the user's app would
    Buy(commands::BuyArgs),
    /// Restore what a device holds, as the "Restore purchases" button of the user's app would
    Restore(restore::RestoreArgs),
    /// Ask whether a user pays already for what a product gives, as an app does before its paywall
    Preflight(restore::PreflightArgs),
    /// Move the simulated stores' time: 1mo, 2w, 3d, 12h, 1y
    Advance(commands::AdvanceArgs),
    /// Refund a user's latest purchase at its simulated store
    Refund(commands::RefundArgs),
    /// Find accounts and purchases by whatever a customer's mail holds
    Find(support::FindArgs),
    /// Print what happened to an account, over all layers, in time order
    Timeline(support::TimelineArgs),
    /// Say why an entitlement is on or off, what decided it, and what changes it next
    Explain(support::ExplainArgs),
    /// Print an account's entitlements as they are stored, now or at a past moment
    Entitlements(support::EntitlementsArgs),
    /// List charges and refunds, the newest first
    Transactions(support::TransactionsArgs),
    /// Give an account an entitlement
    Grant(support::GrantArgs),
    /// Take gifts of an entitlement back
    RevokeGrant(support::RevokeGrantArgs),
    /// Have a store refund, revoke, cancel or extend a purchase
    Store(support::StoreArgs),
    /// Erase an account: its purchases are nobody's, what stores sent is unreadable
    Erase(privacy::EraseArgs),
    /// Print everything that is kept about an account, as one JSON document
    Export(privacy::ExportArgs),
    /// List what was erased, and erase it again after a restore
    #[command(subcommand)]
    Erasures(privacy::ErasuresCommand),
    /// Move a purchase to another account
    Transfer(support::TransferArgs),
    /// Read stored notifications and decide purchases again, and print the difference
    Replay(support::ReplayArgs),
    /// Ask the stores again about an account's purchases
    Resync(support::ResyncArgs),
    /// Make, list and revoke the API keys of services and operators
    #[command(subcommand)]
    Key(keys::KeyCommand),
    /// Print the description of the JSON API: OpenAPI 3.1, as the server tells at /v1/openapi.json
    ///
    /// For example: entitled openapi > entitled.json, then generate a client from it.
    Openapi,
    /// Decode and verify one document of a store, and say precisely what is wrong with it
    #[command(subcommand)]
    Inspect(inspect::InspectCommand),
}

/// Where the configuration is.
#[derive(Args, Clone)]
pub(crate) struct ConfigArgs {
    /// Configuration file (TOML); environment variables such as ENTITLED__DATABASE__URL override it.
    /// Commands of operators default to the `dev` stack in .entitled
    #[arg(long, env = "ENTITLED_CONFIG")]
    config: Option<PathBuf>,
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    #[cfg(debug_assertions)]
    plant_from_environment();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli.command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Debug builds only: what tests plant in the servers they start.
#[cfg(debug_assertions)]
fn plant_from_environment() {
    use crate::domain::planted::{Bug, plant_everywhere};
    let word = std::env::var("ENTITLED_PLANTED").ok();
    if let Some(bug) = word.as_deref().and_then(Bug::parse) {
        eprintln!("planted: {}", bug.as_str());
        plant_everywhere(bug);
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let (format, filter) = match command {
        Command::Start(_) | Command::Serve(_) | Command::Webhooks(_) | Command::Worker(_) => {
            (LogFormat::Json, "info")
        }
        Command::Dev(_) => (LogFormat::Text, "warn"),
        Command::Sandbox(ref args) => (LogFormat::Text, args.logs()),
        Command::Demo(_)
        | Command::Init(_)
        | Command::Setup(_)
        | Command::Doctor(_)
        | Command::Backfill(_)
        | Command::Retention(_)
        | Command::Encryption(_)
        | Command::Prove(_)
        | Command::Migrate(_)
        | Command::Catalog(_)
        | Command::Token(_)
        | Command::Watch(_)
        | Command::Get(_)
        | Command::Buy(_)
        | Command::Restore(_)
        | Command::Preflight(_)
        | Command::Advance(_)
        | Command::Refund(_)
        | Command::Find(_)
        | Command::Timeline(_)
        | Command::Explain(_)
        | Command::Entitlements(_)
        | Command::Transactions(_)
        | Command::RevokeGrant(_)
        | Command::Store(_)
        | Command::Grant(_)
        | Command::Erase(_)
        | Command::Export(_)
        | Command::Erasures(_)
        | Command::Transfer(_)
        | Command::Replay(_)
        | Command::Resync(_)
        | Command::Key(_)
        | Command::Openapi
        | Command::Inspect(_) => (LogFormat::Text, "off"),
    };
    telemetry::init_logs(format, filter);
    match command {
        Command::Demo(args) => return demo::run(args).await,
        Command::Prove(args) => return prove::run(*args).await,
        Command::Dev(args) => dev::run(args).await?,
        Command::Sandbox(args) => return sandbox::run(*args).await,
        Command::Start(args) => server::run(args, crate::app::Roles::ALL).await?,
        Command::Serve(args) => server::run(args, server::SERVE).await?,
        Command::Webhooks(args) => server::run(args, server::WEBHOOKS).await?,
        Command::Worker(args) => server::run(args, server::WORKER).await?,
        Command::Init(args) => init::run(args)?,
        Command::Setup(command) => setup::run(&command)?,
        Command::Doctor(args) => return doctor::doctor(&args).await,
        Command::Backfill(args) => doctor::backfill(&args).await?,
        Command::Retention(args) => doctor::retention(&args).await?,
        Command::Encryption(command) => encryption::run(command).await?,
        Command::Migrate(args) => server::migrate(args).await?,
        Command::Catalog(command) => return catalog::run(command).await,
        Command::Token(args) => commands::token(&args)?,
        Command::Watch(args) => commands::watch(&args).await?,
        Command::Get(args) => commands::get(&args).await?,
        Command::Buy(args) => commands::buy(&args).await?,
        Command::Restore(args) => restore::restore(&args).await?,
        Command::Preflight(args) => restore::preflight(&args).await?,
        Command::Advance(args) => commands::advance(&args).await?,
        Command::Refund(args) => commands::refund(&args).await?,
        Command::Find(args) => support::find(&args).await?,
        Command::Timeline(args) => support::timeline(&args).await?,
        Command::Explain(args) => support::explain(&args).await?,
        Command::Entitlements(args) => support::entitlements(&args).await?,
        Command::Transactions(args) => support::transactions(&args).await?,
        Command::RevokeGrant(args) => support::revoke_grant(&args).await?,
        Command::Store(args) => support::at_store(&args).await?,
        Command::Grant(args) => support::grant(&args).await?,
        Command::Transfer(args) => support::transfer(&args).await?,
        Command::Erase(args) => privacy::erase(&args).await?,
        Command::Export(args) => privacy::export(&args).await?,
        Command::Erasures(command) => privacy::erasures(&command).await?,
        Command::Replay(args) => return support::replay(&args).await,
        Command::Resync(args) => support::resync(&args).await?,
        Command::Key(command) => keys::run(command).await?,
        Command::Openapi => println!("{}", crate::grpc::openapi()?),
        Command::Inspect(command) => return inspect::run(command).await,
    }
    Ok(ExitCode::SUCCESS)
}
