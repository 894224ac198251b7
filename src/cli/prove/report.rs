//! What was tried, promise by promise.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::live::Seen;
use super::model::{Told, Totals};
use crate::cli::storm;

/// Everything that was seen; what was not tried is absent.
pub(super) struct Evidence {
    seed: u64,
    pub(super) lives: Option<Totals>,
    pub(super) orders: Option<Told>,
    pub(super) live: Option<Seen>,
    pub(super) kills: Option<storm::Report>,
}

impl Evidence {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            lives: None,
            orders: None,
            live: None,
            kills: None,
        }
    }
}

/// One promise and what became of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Promise {
    id: &'static str,
    promise: &'static str,
    /// What was tried, with figures; empty if nothing was.
    tried: String,
    /// How it was broken, each in words; empty if it held.
    broken: Vec<String>,
}

/// All promises.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    seed: u64,
    seconds: f64,
    promises: Vec<Promise>,
}

/// The promises of the design, in a few words each.
const PROMISES: [(&str, &str); 10] = [
    ("I1", "proof first"),
    ("I2", "no acknowledged webhook is lost, none works twice"),
    ("I3", "convergence"),
    ("I4", "one owner"),
    ("I5", "everything leaves a trace"),
    ("I6", "revisions rise without a gap"),
    ("I7", "watchers converge"),
    ("I8", "access ends when it must, and not before"),
    ("I9", "fail closed"),
    ("I10", "replay"),
];

impl Report {
    pub(super) fn of(evidence: &Evidence, took: Duration) -> Self {
        let promises = PROMISES.map(|(id, promise)| Promise {
            id,
            promise,
            tried: tried(id, evidence).join("; "),
            broken: broken(id, evidence),
        });
        Self {
            seed: evidence.seed,
            seconds: took.as_secs_f64(),
            promises: promises.into(),
        }
    }

    pub(super) fn holds(&self) -> bool {
        let any = self.promises.iter().any(|one| !one.tried.is_empty());
        any && self.promises.iter().all(|one| one.broken.is_empty())
    }
}

/// What was tried of a promise.
fn tried(id: &str, evidence: &Evidence) -> Vec<String> {
    let lives = evidence.lives.as_ref();
    let orders = evidence.orders.as_ref();
    let live = evidence.live.as_ref();
    let kills = evidence.kills.as_ref();
    let all: Vec<Option<String>> = match id {
        "I1" => vec![live.map(|seen| {
            format!(
                "{} forged documents and tokens refused, {} genuine ones among them accepted",
                seen.forged, seen.genuine
            )
        })],
        "I2" => vec![
            live.map(|seen| {
                format!(
                    "{} notifications acknowledged and kept once, {} repeated deliveries",
                    seen.kept, seen.repeated
                )
            }),
            kills.map(|storm| {
                format!(
                    "{} webhooks and {} binds acknowledged over {} kills of the server and {} of Postgres",
                    storm.webhooks.0,
                    storm.binds.0,
                    storm.server_recoveries.len(),
                    storm.postgres_recoveries.len()
                )
            }),
        ],
        "I3" => vec![
            lives.map(|all| {
                format!(
                    "{} signals over {} purchases in {} random lives, {} comparisons",
                    all.signals, all.chains, all.cases, all.comparisons
                )
            }),
            orders.map(|told| {
                format!(
                    "{} orders of {} stories and of {} purchases in {} scenarios",
                    told.orders, told.stories, told.purchases, told.scenarios
                )
            }),
            live.map(|seen| {
                format!(
                    "{} signals through Postgres of {} purchases ({} of the notifications lost, {} late by up to {} days); {} people, {} with access, {} comparisons",
                    seen.signals,
                    seen.purchases,
                    seen.lost,
                    seen.late,
                    seen.late_days_max,
                    seen.people,
                    seen.entitled,
                    seen.compared
                )
            }),
        ],
        "I4" => vec![
            live.map(|seen| {
                format!(
                    "{} accounts showed one purchase at once, {} binds",
                    seen.claimants, seen.binds
                )
            }),
            lives.map(|all| {
                let verdicts: u64 = all.verdicts.values().sum();
                format!("{verdicts} claims decided")
            }),
        ],
        "I5" | "I6" => vec![live.map(|seen| format!("{} revisions, each told by events", seen.revisions))],
        "I7" => vec![live.map(|seen| format!("{} snapshots on open streams, the last the latest", seen.watched))],
        "I8" => vec![
            lives.map(|all| {
                format!("looked at after each of {} operations", all.operations + all.refused)
            }),
            live.map(|seen| {
                format!("{} people looked at after a day of the schedule alone", seen.people)
            }),
        ],
        "I9" => vec![lives.map(|all| {
            let of = |word: &str| all.decisions.get(word).copied().unwrap_or_default();
            format!(
                "{} answers about unknown products and {} of refused environments granted nothing",
                of("MergeOnly(UnmappedProduct)"),
                of("MergeOnly(EnvironmentNotAccepted)")
            )
        })],
        "I10" => vec![lives.map(|all| format!("{} purchases decided again from their steps", all.chains))],
        _ => Vec::new(),
    };
    all.into_iter().flatten().collect()
}

/// How a promise was broken.
fn broken(id: &str, evidence: &Evidence) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(live) = &evidence.live {
        let of = live.broken.iter().filter(|(promise, _)| *promise == id);
        all.extend(of.map(|(_, words)| words.clone()));
    }
    match id {
        "I3" => {
            let lives = evidence.lives.iter().flat_map(|all| &all.failures);
            all.extend(lives.map(ToString::to_string));
            all.extend(
                evidence
                    .orders
                    .iter()
                    .flat_map(|told| told.failures.clone()),
            );
        }
        "I2" => all.extend(
            evidence
                .kills
                .iter()
                .flat_map(|storm| storm.findings.clone()),
        ),
        _ => {}
    }
    all
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.promises {
            let word = match (one.tried.is_empty(), one.broken.is_empty()) {
                (_, false) => "BROKEN",
                (true, true) => "not tried",
                (false, true) => "held",
            };
            writeln!(
                f,
                "{:<4} {:<9} {}: {}",
                one.id, word, one.promise, one.tried
            )?;
            for words in &one.broken {
                writeln!(f, "       {words}")?;
            }
        }
        write!(f, "{:.0} s, seed {}", self.seconds, self.seed)
    }
}
