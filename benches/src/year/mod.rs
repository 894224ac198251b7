//! A simulated year of many subscribers, played against the real server and Postgres under the
//! network's sins; at its end the server must say of every account what the stores know.

mod lives;
mod truth;

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use entitled::app::{App, Roles};
use entitled::cli::client::Client;
use entitled::clock::VirtualClock;
use entitled::config::Config;
use entitled::sandbox::{
    DeliverySins, IdentityToken, Pace, Period, Progress, Sandbox, Sins, Webhooks,
};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::child::ServerProcess;
use crate::machine;
use crate::servers::Part;
use crate::users;
use crate::world::World;
use lives::Life;

const CATALOG: &str = include_str!("catalog.toml");
const AT_ONCE: usize = 8;
/// How long the server may take to settle at the end of a window.
const IDLE_PATIENCE: Duration = Duration::from_secs(60);
const DAYS: u64 = 365;
/// Business time between the last day and the comparison.
const LAST_LOOK: TimeDelta = TimeDelta::hours(1);

#[derive(Args)]
pub(crate) struct YearArgs {
    /// Subscribers
    #[arg(long, default_value_t = 10_000)]
    subscribers: u64,
    /// Days to play
    #[arg(long, default_value_t = DAYS)]
    days: u64,
    /// Of a hundred notifications, how many are repeated, and how many are overtaken
    #[arg(long, default_value_t = 2.0)]
    sins_percent: f64,
    /// Hours of business time in a window; the server settles at its end
    #[arg(long, default_value_t = 6)]
    window_hours: u32,
    /// Notifications under way at once
    #[arg(long, default_value_t = 16)]
    parallel: usize,
    /// The longest an unchanged purchase goes without being read again, in hours; servers do so
    /// daily by default, which is 3.6 million reads in the year of 10,000 subscribers
    #[arg(long, default_value_t = 8_784)]
    recheck_hours: u32,
    /// Run the server in a process of its own, on a core of its own, following the stores' clock
    #[arg(long)]
    apart: bool,
    /// What everybody's year is drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What was done and what it cost.
struct Year {
    took: Duration,
    /// Of a server apart.
    server_cpu: Option<Duration>,
    /// Of this process.
    own_cpu: Duration,
    progress: Progress,
    acts: u64,
    refused: u64,
}

pub(crate) async fn run(args: &YearArgs) -> anyhow::Result<Value> {
    ensure!(
        args.days > 0 && args.subscribers > 1,
        "a longer year of more people"
    );
    let start: DateTime<Utc> = "2027-01-01T00:00:00Z".parse()?;
    let chance = args.sins_percent / 100.0;
    let world = World::with(|options| {
        options.catalog = CATALOG.to_owned();
        options.clock = VirtualClock::stopped(start);
        options.seed = args.seed;
    })
    .await?;
    let stores = &world.stack.sandbox;
    stores.set_sins(Sins {
        deliveries: DeliverySins {
            duplicate: chance,
            reorder: chance,
            ..DeliverySins::default()
        },
        ..Sins::default()
    })?;
    stores.set_pace(Pace::Window {
        seconds: args.window_hours * 3_600,
        parallel: args.parallel,
    });
    let server = Server::start(args, &world).await?;
    let webhooks = server.webhooks()?;
    stores.set_webhooks(Webhooks {
        app_store: Some(format!("{webhooks}/webhooks/app-store")),
        google_play: Some(format!("{webhooks}/webhooks/google-play")),
        superwall: None,
    })?;
    println!(
        "year: {} subscribers, {} days, {} % repeated and {} % overtaken; {}",
        args.subscribers,
        args.days,
        args.sins_percent,
        args.sins_percent,
        match server {
            Server::Here(_) => "server and stores in one process".to_owned(),
            Server::Apart(_) => world.pinning.describe(),
        }
    );
    let lives: Vec<Life> = (0..args.subscribers)
        .map(|number| Life::draw(args.seed, number, args.days))
        .collect();
    let channel = users::connect(&server.grpc()?).await?;
    let year = play(args, stores, &server, &channel, &lives).await?;
    let comparing = Instant::now();
    let compared = truth::compare(stores, channel, &lives).await?;
    let comparing = comparing.elapsed();
    let figures = report(args, &year, &compared, comparing);
    server.stop().await?;
    world.stop().await?;
    Ok(figures)
}

/// The server under test: the whole of it, on the stores' clock.
enum Server {
    Here(Box<App>),
    Apart(Box<ServerProcess>),
}

impl Server {
    async fn start(args: &YearArgs, world: &World) -> anyhow::Result<Self> {
        let (stores, file) = (&world.stack.sandbox, &world.stack.address.config);
        if args.apart {
            let mut config = std::fs::OpenOptions::new().append(true).open(file)?;
            let recheck = args.recheck_hours;
            writeln!(config, "\n[access]\nrecheck_max_hours = {recheck}")?;
            let server = world.follow(Part::All).await?;
            stores.set_idle_url(Some(format!("{}/idle", server.admin()?)));
            return Ok(Self::Apart(Box::new(server)));
        }
        world.pinning.unpin()?;
        let mut config = Config::load(Some(file)).map_err(anyhow::Error::msg)?;
        config.access.recheck_max_hours = args.recheck_hours;
        let clock = world.stack.clock.clone().into();
        let app = App::start(config, Roles::ALL, Some(clock)).await?;
        let probe = app.idle_probe();
        stores.set_idle_hook(move || {
            let probe = probe.clone();
            Box::pin(async move {
                probe.idle(IDLE_PATIENCE).await;
            })
        });
        Ok(Self::Here(Box::new(app)))
    }

    fn webhooks(&self) -> anyhow::Result<String> {
        match self {
            Self::Here(app) => app.webhooks_url().context("a server without webhooks"),
            Self::Apart(server) => server.webhooks().map(str::to_owned),
        }
    }

    fn grpc(&self) -> anyhow::Result<String> {
        match self {
            Self::Here(app) => app.grpc_url().context("a server without gRPC"),
            Self::Apart(server) => server.grpc().map(str::to_owned),
        }
    }

    fn cpu_time(&self) -> anyhow::Result<Option<Duration>> {
        match self {
            Self::Here(_) => Ok(None),
            Self::Apart(server) => server.cpu_time().map(Some),
        }
    }

    async fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Here(app) => app.stop().await,
            Self::Apart(server) => (*server).stop().await?,
        }
        Ok(())
    }
}

async fn play(
    args: &YearArgs,
    stores: &Sandbox,
    server: &Server,
    channel: &Channel,
    lives: &[Life],
) -> anyhow::Result<Year> {
    let own = std::process::id();
    let cpu = || anyhow::Ok((server.cpu_time()?, machine::cpu_time(own)?));
    let (server_before, own_before) = cpu()?;
    let began = Instant::now();
    let mut purchases: Vec<Option<String>> = vec![None; lives.len()];
    let (mut acts, mut refused) = (0, 0);
    for day in 0..args.days {
        let joining = lives
            .iter()
            .enumerate()
            .filter(|(_, life)| life.joins_on == day);
        let joined: Vec<(usize, String)> = futures::stream::iter(joining)
            .map(|(index, life)| async move {
                let purchase = join(stores, channel.clone(), life).await?;
                anyhow::Ok((index, purchase))
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        for (index, purchase) in joined {
            purchases[index] = Some(purchase);
        }
        for (life, purchase) in lives.iter().zip(&purchases) {
            for (_, act) in life.acts.iter().filter(|(when, _)| *when == day) {
                let purchase = purchase.as_deref().context("acts follow a purchase")?;
                match life.act(stores, purchase, *act).await? {
                    true => acts += 1,
                    false => refused += 1,
                }
            }
        }
        stores.advance(Period::days(1)).await?;
        if (day + 1).is_multiple_of(30) {
            let signals = stores.progress().borrow().signals;
            println!(
                "  day {:>3}: {signals} signals, {:.0} s",
                day + 1,
                began.elapsed().as_secs_f64()
            );
        }
    }
    // Nothing may be on its way when the truth is told; and what a store changes without telling
    // (a payment that failed a moment ago, where there is no grace) is seen by the server's own
    // next look.
    stores.flush_deliveries().await?;
    stores.advance_by(LAST_LOOK).await?;
    stores.flush_deliveries().await?;
    stores.settle().await;
    let (server_after, own_after) = cpu()?;
    let progress = *stores.progress().borrow();
    Ok(Year {
        took: began.elapsed(),
        server_cpu: server_after
            .zip(server_before)
            .map(|(after, before)| after.saturating_sub(before)),
        own_cpu: own_after.saturating_sub(own_before),
        progress,
        acts,
        refused,
    })
}

/// Opens an account at the server and buys; the server hears of it from the store alone.
async fn join(stores: &Sandbox, channel: Channel, life: &Life) -> anyhow::Result<String> {
    let token = stores.identity_token(&IdentityToken::of(&life.name))?;
    let mut client = Client::over(channel, &token)?;
    let snapshot = client.get().await?.snapshot.context("a snapshot")?;
    let account = snapshot.account.context("an account")?;
    life.buy(stores, account.store_token).await
}

fn report(args: &YearArgs, year: &Year, compared: &truth::Compared, comparing: Duration) -> Value {
    let seconds = year.took.as_secs_f64();
    let days_per_second = args.days as f64 / seconds;
    let signals_per_second = year.progress.signals as f64 / seconds;
    let settling = year.progress.settling.as_secs_f64();
    println!(
        "\n{} days of {} subscribers in {seconds:.1} s: {days_per_second:.2} days/s",
        args.days, args.subscribers
    );
    println!(
        "{} signals: {signals_per_second:.0} signals/s; {} store events, {} acts ({} refused by the stores)",
        year.progress.signals, year.progress.events, year.acts, year.refused
    );
    let signals = year.progress.signals.max(1) as f64;
    let of = |cpu: Duration| {
        let seconds = cpu.as_secs_f64();
        format!(
            "{seconds:.1} s CPU, {:.2} ms per signal",
            seconds * 1e3 / signals
        )
    };
    match year.server_cpu {
        Some(server) => println!(
            "server {}; stores and driver {}",
            of(server),
            of(year.own_cpu)
        ),
        None => println!("server, stores and driver {}", of(year.own_cpu)),
    }
    println!("waiting for the server to settle: {settling:.1} s");
    println!(
        "compared {} accounts in {:.1} s: {} with access, {} without; no difference",
        compared.accounts,
        comparing.as_secs_f64(),
        compared.entitled,
        compared.accounts - compared.entitled
    );
    json!({
        "subscribers": args.subscribers,
        "days": args.days,
        "seconds": seconds,
        "days_per_second": days_per_second,
        "signals": year.progress.signals,
        "signals_per_second": signals_per_second,
        "events": year.progress.events,
        "acts": year.acts,
        "server_cpu_seconds": year.server_cpu.map(|cpu| cpu.as_secs_f64()),
        "own_cpu_seconds": year.own_cpu.as_secs_f64(),
        "settling_seconds": settling,
        "compared": compared.accounts,
        "entitled": compared.entitled,
    })
}
