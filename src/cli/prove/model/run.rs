//! Plays cases on all cores, and makes the ones that fail small.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::TimeDelta;

use super::acts::{self, Came};
use super::books::Tally;
use super::case::Case;
use super::oracle::{self, Watch};
use super::stage::Stage;
#[cfg(debug_assertions)]
use crate::domain::planted;
use crate::domain::planted::Bug;

/// Operations of a case.
pub(in crate::cli) const OPS: usize = 110;
/// Tries to make a failing case smaller.
const SHRINK_TRIES_MAX: usize = 400;
/// Nobody reads more of them.
const FAILURES_MAX: usize = 5;

/// What to run.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Settings {
    pub(in crate::cli) seed: u64,
    /// Ends the run, unless `signals` does.
    pub(in crate::cli) cases: u64,
    /// Ends the run once so many signals were worked in.
    pub(in crate::cli) signals: u64,
    pub(in crate::cli) patience: Option<Duration>,
    pub(in crate::cli) threads: usize,
    /// A bug that the run must find.
    pub(in crate::cli) bug: Option<Bug>,
}

/// A case that went wrong, as small as it could be made.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Failure {
    pub(in crate::cli) seed: u64,
    /// The operations that are needed.
    pub(in crate::cli) ops: Vec<usize>,
    pub(in crate::cli) what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ops: Vec<String> = self.ops.iter().map(ToString::to_string).collect();
        write!(
            f,
            "{}\n  again: entitled prove --case {} --ops {}",
            self.what,
            self.seed,
            ops.join(",")
        )
    }
}

/// What was played.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Totals {
    pub(in crate::cli) cases: u64,
    pub(in crate::cli) chains: u64,
    pub(in crate::cli) signals: u64,
    pub(in crate::cli) operations: u64,
    pub(in crate::cli) refused: u64,
    pub(in crate::cli) comparisons: u64,
    pub(in crate::cli) joins: u64,
    pub(in crate::cli) duties: u64,
    pub(in crate::cli) duties_failed: u64,
    pub(in crate::cli) decisions: BTreeMap<String, u64>,
    pub(in crate::cli) verdicts: BTreeMap<&'static str, u64>,
    pub(in crate::cli) failures: Vec<Failure>,
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.cases += other.cases;
        self.chains += other.chains;
        self.signals += other.signals;
        self.operations += other.operations;
        self.refused += other.refused;
        self.comparisons += other.comparisons;
        self.joins += other.joins;
        self.duties += other.duties;
        self.duties_failed += other.duties_failed;
        for (word, count) in &other.decisions {
            *self.decisions.entry(word.clone()).or_default() += count;
        }
        for (word, count) in &other.verdicts {
            *self.verdicts.entry(word).or_default() += count;
        }
        self.failures.extend(other.failures.iter().cloned());
    }

    fn of(tally: &Tally, chains: usize) -> Self {
        Self {
            cases: 1,
            chains: chains as u64,
            signals: tally.signals,
            joins: tally.joins,
            duties: tally.duties,
            duties_failed: tally.duties_failed,
            decisions: tally.decisions.clone(),
            verdicts: tally.verdicts.clone(),
            ..Self::default()
        }
    }
}

/// Plays cases until one of the limits is reached; `progress` hears the totals now and then.
pub(in crate::cli) fn run(
    settings: &Settings,
    progress: impl Fn(&Totals) + Send + Sync,
) -> anyhow::Result<Totals> {
    let totals = Mutex::new(Totals::default());
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let trouble = Mutex::new(None);
    let worker = || {
        plant(settings.bug);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= settings.cases
                || settings.patience.is_some_and(|most| began.elapsed() > most)
            {
                break;
            }
            let seed = settings.seed.wrapping_add(number);
            let played = match settings.bug {
                None => runtime.block_on(play_and_shrink(seed))?,
                Some(_) => runtime.block_on(play_only(seed))?,
            };
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.add(&played);
            progress(&totals);
            let enough = if settings.bug.is_some() {
                1
            } else {
                FAILURES_MAX
            };
            if totals.signals >= settings.signals || totals.failures.len() >= enough {
                stop.store(true, Ordering::Relaxed);
            }
        }
        anyhow::Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..settings.threads.max(1) {
            scope.spawn(|| {
                if let Err(error) = worker() {
                    stop.store(true, Ordering::Relaxed);
                    let mut first = trouble.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(error);
                }
            });
        }
    });
    if let Some(error) = trouble.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    Ok(totals.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Only debug builds can have a bug planted.
fn plant(bug: Option<Bug>) {
    #[cfg(debug_assertions)]
    planted::plant(bug);
    #[cfg(not(debug_assertions))]
    let _ = bug;
}

async fn play_only(seed: u64) -> anyhow::Result<Totals> {
    let case = Case::of(seed, OPS);
    let (mut totals, failed) = play(&case, false).await?;
    totals.failures.extend(failed.map(|what| Failure {
        seed,
        ops: case.numbers(),
        what,
    }));
    Ok(totals)
}

async fn play_and_shrink(seed: u64) -> anyhow::Result<Totals> {
    let case = Case::of(seed, OPS);
    let (mut totals, failed) = play(&case, false).await?;
    if let Some(what) = failed {
        let (ops, what) = shrink(&case, what).await?;
        totals.failures.push(Failure { seed, ops, what });
    }
    Ok(totals)
}

/// Leaves operations out as long as the case still fails: halves first, then one by one.
async fn shrink(case: &Case, mut what: String) -> anyhow::Result<(Vec<usize>, String)> {
    let mut kept = case.numbers();
    let mut chunk = kept.len().div_ceil(2);
    let mut tries = 0;
    while chunk > 0 && tries < SHRINK_TRIES_MAX {
        let mut at = 0;
        let mut smaller = false;
        while at < kept.len() && tries < SHRINK_TRIES_MAX {
            tries += 1;
            let mut fewer = kept.clone();
            fewer.drain(at..(at + chunk).min(kept.len()));
            match play(&case.keeping(&fewer), false).await?.1 {
                Some(still) => {
                    (kept, what, smaller) = (fewer, still, true);
                }
                None => at += chunk,
            }
        }
        if !smaller || chunk > 1 {
            chunk = if chunk == 1 { 0 } else { chunk / 2 };
        }
    }
    Ok((kept, what))
}

/// Plays one case again and tells all of it; `ops` empty plays all of them.
pub(in crate::cli) async fn replay(seed: u64, ops: &[usize]) -> anyhow::Result<Option<String>> {
    let case = Case::of(seed, OPS);
    let case = if ops.is_empty() {
        case
    } else {
        case.keeping(ops)
    };
    println!("{:?}, {:?}", case.place, case.weather);
    Ok(play(&case, true).await?.1)
}

/// Plays one case; tells what went wrong, if anything did.
async fn play(case: &Case, trace: bool) -> anyhow::Result<(Totals, Option<String>)> {
    let mut stage = Stage::new(case, trace).await?;
    let mut counts = (0, 0, 0);
    let failed = live(&mut stage, case, &mut counts).await.err();
    let mut totals = Totals::of(&stage.books.tally, stage.books.chains.len());
    (totals.operations, totals.refused, totals.comparisons) = counts;
    Ok((totals, failed))
}

async fn live(
    stage: &mut Stage,
    case: &Case,
    (done, refused, compared): &mut (u64, u64, u64),
) -> Result<(), String> {
    let mut watch = Watch::default();
    for (number, op) in &case.ops {
        stage.say(|| format!("--- {number}: {:?}", op.what));
        match acts::play(stage, *op).await? {
            Came::Done => *done += 1,
            Came::Refused => *refused += 1,
        }
        stage.note_transactions();
        watch.look(stage)?;
        stage.books.broken()?;
    }
    *compared += end(stage, &mut watch).await?;
    Ok(())
}

/// How every life ends: all becomes quiet, and the books are laid against the stores' truth.
pub(super) async fn end(stage: &mut Stage, watch: &mut Watch) -> Result<u64, String> {
    stage.say(|| "--- what is late arrives, and nothing is lost any more".to_owned());
    stage.calm_down().await?;
    // The schedule alone brings every chain that is looked after to the truth.
    stage
        .advance(TimeDelta::hours(oracle::WRONG_HOURS_MAX))
        .await?;
    watch.look(stage)?;
    let mut compared = oracle::compare(stage, false)?;
    stage.say(|| "--- every app is opened".to_owned());
    acts::open_apps(stage).await?;
    compared += oracle::compare(stage, true)?;
    stage.books.broken()?;
    stage.books.replays()?;
    Ok(compared)
}

/// Cores of this machine.
pub(in crate::cli) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
