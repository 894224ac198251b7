//! `sandbox run`: plays scenario files against a server and says where it differs from the truth.

pub(in crate::cli) mod catalog;
mod device;
mod ground;
mod play;
mod remote;
mod report;
mod server;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::sandbox::Sandbox;
use crate::sandbox::scenario::{Placed, Scenario};
use ground::Ground;
pub use play::Played;

pub(super) const EXAMPLES: &str = "\
Examples:
  entitled sandbox run scenarios/
      Plays every scenario in the directory, each with a Postgres database, a server and stores of
      its own.
  entitled sandbox run scenarios/storm.toml --verbose --seed 42
      One of them, step by step, with other ids and other accidents.
  entitled sandbox run my.toml --server http://localhost:8080 --dir stores \\
      --app-store-webhook http://localhost:8081/webhooks/app-store \\
      --google-play-webhook http://localhost:8081/webhooks/google-play
      Against a server that is already configured from stores/manifest.json.

It ends with 0 only if every account had at every chosen moment what the scenario and the stores
say. docs/sandbox.md describes the files.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RunArgs {
    /// Scenario files, or directories of them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Source of ids and accidents, instead of each scenario's own
    #[arg(long)]
    seed: Option<u64>,
    /// Print every step before it is played
    #[arg(long, conflicts_with = "json")]
    verbose: bool,
    /// Print one JSON object per scenario
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: remote::RemoteArgs,
}

pub(super) async fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let remote = args.remote.server();
    let mut scenarios = Vec::new();
    for file in files(&args.files)? {
        let scenario = read_scenario(&file)?;
        let seed = match (args.seed, remote) {
            (Some(seed), _) => seed,
            (None, None) => scenario.seed,
            // Such a server may remember the ids of earlier runs.
            (None, Some(_)) => rand::random(),
        };
        scenarios.push((file.display().to_string(), Scenario { seed, ..scenario }));
    }
    let ground = match remote {
        Some(_) => None,
        None => Some(Ground::raise().await?),
    };
    let played = tokio::select! {
        played = play_all(&args, &scenarios, ground.as_ref()) => played,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    if let Some(ground) = ground {
        ground.clear().await?;
    }
    Ok(match played? {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Reads a scenario file; everything that is wrong with it is in the error.
pub(super) fn read_scenario(file: &Path) -> anyhow::Result<Scenario> {
    Scenario::read(file).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::Error::msg(lines.join("\n"))
    })
}

async fn play_all(
    args: &RunArgs,
    scenarios: &[(String, Scenario)],
    ground: Option<&Ground>,
) -> anyhow::Result<bool> {
    let verbose = args.verbose;
    let narrate = move |placed: &Placed, sandbox: &Sandbox| {
        if verbose {
            println!("  {}  {}", sandbox.now().format("%F %T"), placed.text);
        }
    };
    let (mut ok, mut compared, mut gaps, mut took) = (0, 0, 0, Duration::ZERO);
    for (file, scenario) in scenarios {
        if verbose {
            println!("{}\n{}\n", scenario.title, scenario.about);
        }
        let played = match ground {
            Some(ground) => ground.play(scenario, &narrate).await,
            None => args.remote.play(scenario, &narrate).await,
        };
        let result = report::Result::new(file, scenario, played);
        match args.json {
            true => println!("{}", result.as_json()),
            false => println!("{}", result.in_words()),
        }
        ok += usize::from(result.is_ok());
        if let Ok(played) = &result.played {
            compared += played.comparisons.len();
            gaps += played.gaps();
            took += played.took;
        }
    }
    if !args.json {
        println!(
            "\n{ok} of {} scenarios equal the truth: {compared} comparisons, {gaps} expected gaps, {:.1} s",
            scenarios.len(),
            took.as_secs_f64()
        );
    }
    Ok(ok == scenarios.len())
}

/// The named files, and those in named directories in the order of their names.
fn files(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in named {
        match path.is_dir() {
            true => files.extend(files_in(path)?),
            false => files.push(path.clone()),
        }
    }
    Ok(files)
}

fn files_in(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("{} cannot be read", directory.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!("{} has no scenario in it (*.toml)", directory.display());
    }
    files.sort();
    Ok(files)
}

/// Plays a scenario on an empty database, with stores and a server of its own; what differs comes
/// as a table.
///
/// # Errors
/// A step could not be played, the truth or an account could not be read, or nothing was compared.
pub async fn play_fresh(scenario: &Scenario, database_url: &str) -> anyhow::Result<Played> {
    ground::play_fresh(scenario, database_url, &|_, _| {}).await
}

/// What makes a run fail, as a table.
pub fn differences(played: &Played) -> String {
    let failures: Vec<_> = played.failures().collect();
    report::differences(&failures)
}
