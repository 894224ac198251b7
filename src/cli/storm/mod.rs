//! Real processes that are killed: a server and its Postgres under webhooks and binds, and the
//! books afterwards against what was promised.
//!
//! `kill -9`, for the server alone or for Postgres with all its processes, at moments that a seed
//! draws. Whatever was acknowledged is in a history outside the system; whatever is true is known
//! by the simulated stores.

mod check;
mod history;
mod load;
mod victim;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use self::history::{History, Line};
use self::load::{Load, Pulse, Tally};
use self::victim::{Doors, Victim};
use super::stack::{Stack, StackOptions};
use crate::app::Roles;
use crate::sandbox::Webhooks;
use crate::storage::Db;
use crate::storage::cluster::{Cluster, DataDir};

/// When the simulated stores open.
const START: &str = "2027-01-10T09:00:00Z";
const DATABASE: &str = "storm";
/// Customers who are served at the same time.
const LANES: u64 = 12;
/// Notifications that are acknowledged between a recovery and the next kill, on any machine.
const WEBHOOKS_BETWEEN: u64 = 10;
/// The longest pause after them: the kill falls into the middle of something.
const PAUSE_MILLIS_MAX: u64 = 1_500;
/// Postgres may find what its last run left in memory for a moment longer than its processes.
const RESUMES_MAX: u32 = 20;
const RESUME_PAUSE: Duration = Duration::from_millis(250);

/// What is killed, and how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `entitled` binary that is the server.
    pub program: PathBuf,
    /// A directory of the run's own, made if missing: configuration, logs, history and data.
    pub dir: PathBuf,
    /// `kill -9` of the server, this many times.
    pub server_kills: u32,
    /// `kill -9` of Postgres and all its processes, this many times.
    pub postgres_kills: u32,
    /// Draws the moments, the customers and the order of everything.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Replays the draw of moments and customers.
    pub seed: u64,
    /// Purchases made at the simulated stores.
    pub purchases: u64,
    /// Notifications answered 2xx, repeated ones included; and attempts to deliver them.
    pub webhooks: (u64, u64),
    /// Binds answered OK, and attempts at them.
    pub binds: (u64, u64),
    /// Deliveries that were kept although the answer was lost: legal, the store sends them again.
    pub kept_unacknowledged: i64,
    /// From each kill of the server to the first request that was begun after it and answered well.
    pub server_recoveries: Vec<Duration>,
    /// The same for Postgres.
    pub postgres_recoveries: Vec<Duration>,
    /// Promises that were broken, in words; empty is what is wanted.
    pub findings: Vec<String>,
    /// The file with everything that was acknowledged.
    pub history: PathBuf,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} purchases; {} webhooks acknowledged ({} attempts); {} binds acknowledged ({} attempts); \
             {} deliveries kept without an answer; seed {}",
            self.purchases,
            self.webhooks.0,
            self.webhooks.1,
            self.binds.0,
            self.binds.1,
            self.kept_unacknowledged,
            self.seed
        )?;
        for (victim, recoveries) in [
            ("server", &self.server_recoveries),
            ("Postgres", &self.postgres_recoveries),
        ] {
            if let Some((least, median, most)) = spread(recoveries) {
                writeln!(
                    f,
                    "{} × kill -9 of the {victim}: served again after {least:.2} / {median:.2} / \
                     {most:.2} s (min / median / max)",
                    recoveries.len()
                )?;
            }
        }
        match self.findings.as_slice() {
            [] => write!(
                f,
                "nothing acknowledged was lost, nothing was applied twice"
            ),
            findings => write!(f, "BROKEN:\n{}", findings.join("\n")),
        }
    }
}

/// Least, median and most, in seconds.
fn spread(durations: &[Duration]) -> Option<(f64, f64, f64)> {
    let mut seconds: Vec<f64> = durations.iter().map(Duration::as_secs_f64).collect();
    seconds.sort_by(f64::total_cmp);
    let median = *seconds.get(seconds.len() / 2)?;
    Some((*seconds.first()?, median, *seconds.last()?))
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Server,
    Postgres,
}

/// The stage: stores, Postgres, and the server that runs at the moment.
struct Stage {
    options: Options,
    cluster: Cluster,
    stack: Stack,
    doors: watch::Sender<Doors>,
    victim: Option<Victim>,
    starts: u32,
}

/// Runs the storm.
///
/// # Errors
/// Postgres or the server cannot be started, somebody was refused or never served, or the truth
/// cannot be read: a run that proves nothing either way.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    super::stack::make_dir(&options.dir)?;
    let cluster = Cluster::start(DataDir::Persistent(options.dir.clone())).await?;
    if !cluster.has_database(DATABASE).await? {
        cluster.create_database(DATABASE, None).await?;
    }
    let outcome = play(options, &cluster).await;
    cluster.stop().await?;
    outcome
}

async fn play(options: Options, cluster: &Cluster) -> anyhow::Result<Report> {
    let nobody = Roles {
        serve: false,
        webhooks: false,
        worker: false,
    };
    let stack = Stack::start(StackOptions {
        roles: nobody,
        seed: options.seed,
        ..StackOptions::new(options.dir.clone(), cluster.url(DATABASE), START.parse()?)
    })
    .await?;
    stack.sandbox.hold_deliveries(true).await?;
    // The stores do not wait for a server that is about to die.
    stack
        .sandbox
        .set_idle_hook(|| Box::pin(std::future::ready(())));
    let history = History::create(options.dir.join("history.jsonl"))?;
    let mut stage = Stage::set(options, cluster.clone(), stack).await?;
    let load = Load {
        sandbox: stage.stack.sandbox.clone(),
        doors: stage.doors.subscribe(),
        secret: stage.stack.address.secret.clone(),
        history: history.clone(),
        pulse: Pulse::new(),
        tally: Arc::new(Tally::default()),
        customers: Arc::new(Mutex::new(Vec::new())),
        seed: stage.options.seed,
    };
    let (stop_shops, shops_stopped) = watch::channel(false);
    let (stop_stores, stores_stopped) = watch::channel(false);
    let shops = tokio::spawn(load.clone().shop(LANES, shops_stopped));
    let stores = tokio::spawn(load.clone().tell(stores_stopped));
    let recoveries = stage.storm(&load, &history).await?;
    stop_shops.send(true)?;
    shops.await??;
    stop_stores.send(true)?;
    stores.await??;

    let db = Db::open(&cluster.url(DATABASE), 2)?;
    let customers = load
        .customers
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let server = stage.doors.borrow().grpc.clone();
    let checked = check::check(&check::Evidence {
        history: &history,
        db: &db,
        sandbox: &stage.stack.sandbox,
        server: &server,
        secret: &stage.stack.address.secret,
        customers: &customers,
    })
    .await;
    db.close().await;
    stage.strike().await;
    let checked = checked?;
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let tally = &load.tally;
    let of = |wanted: fn(&Target) -> bool| {
        let of_target = recoveries.iter().filter(|(target, _)| wanted(target));
        of_target.map(|(_, took)| *took).collect()
    };
    Ok(Report {
        seed: load.seed,
        purchases: read(&tally.purchases),
        webhooks: (read(&tally.webhooks), read(&tally.webhook_attempts)),
        binds: (read(&tally.binds), read(&tally.bind_attempts)),
        kept_unacknowledged: checked.kept_unacknowledged,
        server_recoveries: of(|target| matches!(target, Target::Server)),
        postgres_recoveries: of(|target| matches!(target, Target::Postgres)),
        findings: checked.findings,
        history: history.path().to_owned(),
    })
}

impl Stage {
    async fn set(options: Options, cluster: Cluster, stack: Stack) -> anyhow::Result<Self> {
        let none = Doors {
            grpc: String::new(),
            webhooks: String::new(),
        };
        let mut stage = Self {
            options,
            cluster,
            stack,
            doors: watch::Sender::new(none),
            victim: None,
            starts: 0,
        };
        stage.start_server().await?;
        Ok(stage)
    }

    async fn start_server(&mut self) -> anyhow::Result<()> {
        self.starts += 1;
        let log = self.options.dir.join(format!("server-{}.log", self.starts));
        let config: &Path = &self.stack.address.config;
        let victim = Victim::start(&self.options.program, config, log).await?;
        let webhooks = &victim.doors.webhooks;
        self.stack.sandbox.set_webhooks(Webhooks {
            app_store: Some(format!("{webhooks}/webhooks/app-store")),
            google_play: Some(format!("{webhooks}/webhooks/google-play")),
            ..Default::default()
        })?;
        self.doors.send_replace(victim.doors.clone());
        self.victim = Some(victim);
        Ok(())
    }

    /// Kills one after another, and measures how long each was felt.
    async fn storm(
        &mut self,
        load: &Load,
        history: &History,
    ) -> anyhow::Result<Vec<(Target, Duration)>> {
        let mut dice = StdRng::seed_from_u64(self.options.seed);
        let mut targets = vec![Target::Server; self.options.server_kills as usize];
        targets.resize(
            targets.len() + self.options.postgres_kills as usize,
            Target::Postgres,
        );
        targets.shuffle(&mut dice);
        load.pulse.after(Instant::now()).await?;
        let mut recoveries = Vec::with_capacity(targets.len());
        for target in targets {
            let before = load.tally.webhooks.load(Ordering::Relaxed);
            load.worked(before, WEBHOOKS_BETWEEN).await?;
            sleep(Duration::from_millis(
                dice.random_range(0..PAUSE_MILLIS_MAX),
            ))
            .await;
            let victim = match target {
                Target::Server => "server",
                Target::Postgres => "postgres",
            };
            history
                .append(Line::Killed {
                    victim: victim.to_owned(),
                })
                .await?;
            let killed = Instant::now();
            match target {
                Target::Server => {
                    let server = self.victim.take().context("no server to kill")?;
                    server.kill().await?;
                    self.start_server().await?;
                }
                Target::Postgres => {
                    self.cluster.crash().await?;
                    self.resume().await?;
                }
            }
            load.pulse.after(killed).await?;
            recoveries.push((target, killed.elapsed()));
        }
        Ok(recoveries)
    }

    async fn resume(&self) -> anyhow::Result<()> {
        for _ in 1..RESUMES_MAX {
            if self.cluster.resume().await.is_ok() {
                return Ok(());
            }
            sleep(RESUME_PAUSE).await;
        }
        Ok(self.cluster.resume().await?)
    }

    /// Takes everything down.
    async fn strike(self) {
        // Ends with its handle.
        drop(self.victim);
        self.stack.stop().await;
    }
}
