//! Side-by-side load benches: baseline and `entitled` interleaved in one run, on loopback only.
//!
//! ```text
//! bench (load, simulated stores) ── spawns ──▶ server-ours: the real server, all of it
//!                                 └─ spawns ──▶ server-echo: bare tonic, same bytes
//! ```
//! What the figures mean stands in `docs/performance.md`.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

mod attacks;
mod bare;
mod catalog;
mod child;
mod devices;
mod fanout;
mod idle;
mod ingest;
mod machine;
mod raw;
mod reads;
mod senders;
mod servers;
mod stats;
mod users;
mod world;
mod year;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use entitled::telemetry::{self, LogFormat};
use serde_json::{Map, Value, json};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(
    name = "bench",
    about = "Side-by-side load benches on loopback; they stop by themselves"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Also write every round's figures to this file
    #[arg(long, global = true)]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Warm `GetEntitlements` with a JWT against a bare tonic echo of the same bytes
    Reads(reads::ReadsArgs),
    /// From a store's change to the device, with many streams open
    Fanout(fanout::FanoutArgs),
    /// Memory of an idle stream: plain, over TLS, many on a connection, and etcd's watchers
    Idle(idle::IdleArgs),
    /// Notifications durably kept a second, against pgbench's single-row inserts
    Ingest(ingest::IngestArgs),
    /// A simulated year of many subscribers under the network's sins, compared with the truth
    Year(year::YearArgs),
    /// A catalog change on many accounts while reads and binds go on, its worker killed in between
    Catalog(catalog::CatalogArgs),
    /// Each way to attack the API, and what a well-behaved client notices of it
    Attacks(attacks::AttacksArgs),
    /// Reads and fan-out, with their defaults
    All,
    #[command(hide = true)]
    ServerOurs(servers::OursArgs),
    #[command(hide = true)]
    ServerEcho(servers::EchoArgs),
    #[command(hide = true)]
    Attacker(attacks::AttackerArgs),
    #[command(hide = true)]
    Burner(attacks::BurnerArgs),
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    // As the server's own binary does: one worker per core that the process may use.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let figures = runtime.block_on(async {
        tokio::select! {
            figures = run(cli.command) => figures,
            // Dropping the run ends its children and removes its files.
            stopped = told_to_stop() => stopped.and_then(|()| anyhow::bail!("stopped before the end")),
        }
    });
    // A child's reader of standard input must not hold the process.
    runtime.shutdown_background();
    if let (Some(file), Some(figures)) = (cli.json, figures?) {
        std::fs::write(&file, serde_json::to_string_pretty(&figures)?)
            .with_context(|| format!("{} cannot be written", file.display()))?;
    }
    Ok(())
}

async fn told_to_stop() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

async fn run(command: Command) -> anyhow::Result<Option<Value>> {
    telemetry::init_logs(LogFormat::Text, "warn");
    let mut figures = Map::new();
    match command {
        Command::ServerOurs(args) => return servers::ours(args).await.map(|()| None),
        Command::ServerEcho(args) => return servers::echo(args).await.map(|()| None),
        Command::Attacker(args) => return attacks::attack(args).await.map(|()| None),
        Command::Burner(args) => return attacks::burn(args).await.map(|()| None),
        Command::Attacks(args) => {
            introduce(&mut figures)?;
            figures.insert("attacks".into(), attacks::run(&args).await?);
        }
        Command::Reads(args) => {
            introduce(&mut figures)?;
            figures.insert("reads".into(), reads::run(&args).await?);
        }
        Command::Fanout(args) => {
            introduce(&mut figures)?;
            figures.insert("fanout".into(), fanout::run(&args).await?);
        }
        Command::Idle(args) => {
            introduce(&mut figures)?;
            figures.insert("idle".into(), idle::run(&args).await?);
        }
        Command::Ingest(args) => {
            introduce(&mut figures)?;
            figures.insert("ingest".into(), ingest::run(&args).await?);
        }
        Command::Year(args) => {
            introduce(&mut figures)?;
            figures.insert("year".into(), year::run(&args).await?);
        }
        Command::Catalog(args) => {
            introduce(&mut figures)?;
            figures.insert("catalog".into(), catalog::run(&args).await?);
        }
        Command::All => {
            introduce(&mut figures)?;
            figures.insert(
                "reads".into(),
                reads::run(&reads::ReadsArgs::default()).await?,
            );
            figures.insert(
                "fanout".into(),
                fanout::run(&fanout::FanoutArgs::default()).await?,
            );
        }
    }
    println!("load average after: {}", machine::load_average()?);
    Ok(Some(Value::Object(figures)))
}

fn introduce(figures: &mut Map<String, Value>) -> anyhow::Result<()> {
    let (machine, load) = (machine::line()?, machine::load_average()?);
    println!("machine: {machine}\nload average before: {load}\n");
    figures.insert(
        "machine".into(),
        json!({ "line": machine, "load_average_before": load }),
    );
    Ok(())
}
