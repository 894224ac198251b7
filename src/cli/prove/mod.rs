//! `entitled prove`: the promises, tried on the reader's own machine.

mod live;
mod model;
mod report;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::storm;
use model::{Effort, Settings};
use report::{Evidence, Report};

/// Of the whole time so much is for random lives.
const MODEL_SHARE: f64 = 0.3;
/// Customers of the run through Postgres in a debug build; a release build serves more.
const CUSTOMERS_PER_SECOND: f64 = if cfg!(debug_assertions) { 0.3 } else { 1.0 };
const MONTHS: u32 = 2;

/// Try the promises of `docs/guarantees.md` on this machine
///
/// Starts a Postgres of its own, simulated stores and servers, and removes them again. Random lives
/// of purchases are decided in memory on all cores, in every weather: notifications lost, repeated,
/// late by a month, in any order; stores that are away or answer with the past. The same is done
/// through Postgres with real sockets. Servers are killed with `kill -9` under load; forged
/// documents are handed in; fifty accounts show one purchase at once. Then the books are compared
/// with what the stores know.
///
/// One line for each promise, with what was tried. Success only if all of them held. A life that
/// goes wrong is made small and printed with the command that plays it again.
///
///   entitled prove                          a minute, all promises
///   entitled prove --seconds 600 --seed 7   longer, and another world
///   entitled prove --only model --signals 1000000 --cases 100000
///   entitled prove --case 1234 --ops 3,17   one life again, told step by step
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ProveArgs {
    /// Draws everything; a run with the same seed tries the same
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// About how long it may take
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Print one JSON object at the end and nothing else
    #[arg(long)]
    json: bool,
    /// Try only this; without it, all of them
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Stop the random lives after so many signals
    #[arg(long)]
    signals: Option<u64>,
    /// Stop the random lives after so many of them
    #[arg(long)]
    cases: Option<u64>,
    /// Customers of the run through Postgres
    #[arg(long)]
    customers: Option<usize>,
    /// Months of their lives
    #[arg(long, default_value_t = MONTHS)]
    months: u32,
    /// Through Postgres: what the four people of a household do in a week
    #[arg(long, default_value_t = 4)]
    acts: usize,
    /// Play one random life again and tell it
    #[arg(long)]
    case: Option<u64>,
    /// Of that life only these operations: 3,17,42
    #[arg(long, value_delimiter = ',', requires = "case")]
    ops: Vec<usize>,
}

/// A part of the proof.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Random lives in memory
    Model,
    /// Every order of the signals of hand-written stories and of the shipped scenarios
    Orders,
    /// Stores, Postgres and a server: forgeries, races, a crowd
    Live,
    /// `kill -9` of servers and of Postgres under load
    Kills,
}

/// Says what is going on, unless only the result is wanted.
#[derive(Clone, Copy, Debug)]
struct Voice {
    quiet: bool,
}

impl Voice {
    fn say(self, words: &str) {
        if !self.quiet {
            println!("  {words}");
        }
    }
}

/// Tries everything. Success only if every promise held.
pub(crate) async fn run(args: ProveArgs) -> anyhow::Result<ExitCode> {
    if let Some(seed) = args.case {
        let failed = tokio::task::spawn_blocking(move || again(seed, &args.ops)).await??;
        return Ok(match failed {
            None => {
                println!("It ends in the stores' truth.");
                ExitCode::SUCCESS
            }
            Some(what) => {
                println!("{what}");
                ExitCode::FAILURE
            }
        });
    }
    let voice = Voice { quiet: args.json };
    let began = Instant::now();
    let wants = |part| args.only.is_none_or(|only| only == part);
    let mut evidence = Evidence::new(args.seed);
    if wants(Part::Orders) {
        voice.say("every order of the signals of short stories …");
        let effort = match args.only {
            Some(_) => Effort::All,
            None => Effort::Quick,
        };
        evidence.orders =
            Some(tokio::task::spawn_blocking(move || model::every_order(effort)).await??);
    }
    if wants(Part::Model) {
        voice.say("random lives of purchases, on all cores …");
        let settings = settings(&args);
        evidence.lives =
            Some(tokio::task::spawn_blocking(move || model::run(&settings, |_| {})).await??);
    }
    if wants(Part::Live) {
        voice.say("simulated stores, a Postgres and a server …");
        let automatic = args.seconds as f64 * CUSTOMERS_PER_SECOND;
        let load = live::Load {
            seed: args.seed,
            customers: args.customers.unwrap_or(automatic as usize).max(8),
            months: args.months,
            acts: args.acts,
        };
        evidence.live = Some(live::run(load, voice).await?);
    }
    if wants(Part::Kills) {
        voice.say("servers and a Postgres that are killed under load …");
        evidence.kills = Some(kills(&args).await?);
    }
    let report = Report::of(&evidence, began.elapsed());
    match args.json {
        true => println!("{}", serde_json::to_string(&report)?),
        false => println!("{report}"),
    }
    Ok(match report.holds() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn settings(args: &ProveArgs) -> Settings {
    // A run that is told how much takes the time it needs.
    let counted = args.signals.is_some() || args.cases.is_some();
    let patience = Duration::from_secs(args.seconds).mul_f64(match args.only {
        Some(_) => 1.0,
        None => MODEL_SHARE,
    });
    Settings {
        seed: args.seed,
        cases: args.cases.unwrap_or(u64::MAX),
        signals: args.signals.unwrap_or(u64::MAX),
        patience: (!counted).then_some(patience),
        threads: model::cores(),
        bug: None,
    }
}

fn again(seed: u64, ops: &[usize]) -> anyhow::Result<Option<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    runtime.block_on(model::replay(seed, ops))
}

async fn kills(args: &ProveArgs) -> anyhow::Result<storm::Report> {
    let dir =
        std::env::temp_dir().join(format!("entitled-kills-{}", uuid::Uuid::new_v4().simple()));
    let enough = match args.only {
        Some(_) => u32::try_from(args.seconds / 6).unwrap_or(u32::MAX),
        None => u32::try_from(args.seconds / 20).unwrap_or(u32::MAX),
    };
    let report = storm::run(storm::Options {
        program: std::env::current_exe().context("this program's own file cannot be found")?,
        dir: dir.clone(),
        server_kills: enough.clamp(1, 50),
        postgres_kills: (enough / 3).clamp(1, 10),
        seed: args.seed,
    })
    .await?;
    // What broke is kept to be looked at.
    if report.findings.is_empty() {
        let _ = std::fs::remove_dir_all(dir);
    }
    Ok(report)
}
