//! From a store's change to the device: real notifications through the real pipeline, with many
//! streams open, and Postgres' own record of when each change was committed.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use chrono::{DateTime, Utc};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde_json::{Value, json};
use sqlx::{PgConnection, Row as _};
use tokio::time::sleep;
use uuid::Uuid;

use crate::child::ServerProcess;
use crate::devices::Devices;
use crate::senders::{self, Delivered};
use crate::servers::Part;
use crate::stats::{Samples, median};
use crate::users::{self, User};
use crate::world::World;

/// The server allows itself 40 store calls a second at each store and saves up ten seconds' worth:
/// binding spends them, a round of half the users at each store spends a quarter.
const BUDGET_REFILLS: Duration = Duration::from_secs(11);
const BETWEEN_ROUNDS: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Args)]
pub(crate) struct FanoutArgs {
    /// Open streams, each of its own account; every account changes once a round
    #[arg(long, default_value_t = 1_000)]
    streams: usize,
    /// Connections that carry them
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Changes per second; above 100 the server's own budget of store calls is what is measured
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Measured rounds; one more before them warms up
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

impl Default for FanoutArgs {
    fn default() -> Self {
        Self {
            streams: 1_000,
            connections: 8,
            rate: 100,
            rounds: 3,
        }
    }
}

/// Where the streams are, seen from the process that commits.
#[derive(Clone, Copy)]
enum Placement {
    SameProcess,
    OtherReplica,
}

impl Placement {
    fn name(self) -> &'static str {
        match self {
            Self::SameProcess => "same process",
            Self::OtherReplica => "another replica",
        }
    }
}

/// Servers of one placement: who takes notifications and settles, and who holds the streams.
struct Servers {
    ingest: ServerProcess,
    serve: Option<ServerProcess>,
}

impl Servers {
    async fn start(world: &World, placement: Placement) -> anyhow::Result<Self> {
        Ok(match placement {
            Placement::SameProcess => Self {
                ingest: world.serve(Part::All).await?,
                serve: None,
            },
            Placement::OtherReplica => Self {
                ingest: world.serve(Part::Ingest).await?,
                serve: Some(world.serve(Part::Serve).await?),
            },
        })
    }

    fn grpc(&self) -> anyhow::Result<&str> {
        self.serve.as_ref().unwrap_or(&self.ingest).grpc()
    }

    fn cpu_time(&self) -> anyhow::Result<Duration> {
        let serve = self
            .serve
            .as_ref()
            .map_or(Ok(Duration::ZERO), ServerProcess::cpu_time)?;
        Ok(self.ingest.cpu_time()? + serve)
    }

    async fn stop(self) -> anyhow::Result<()> {
        if let Some(serve) = self.serve {
            serve.stop().await?;
        }
        self.ingest.stop().await
    }
}

pub(crate) async fn run(args: &FanoutArgs) -> anyhow::Result<Value> {
    let mut figures = serde_json::Map::new();
    for placement in [Placement::SameProcess, Placement::OtherReplica] {
        figures.insert(placement.name().into(), measure(args, placement).await?);
    }
    Ok(json!({ "streams": args.streams, "changes_per_second": args.rate, "placements": figures }))
}

async fn measure(args: &FanoutArgs, placement: Placement) -> anyhow::Result<Value> {
    let world = World::start().await?;
    println!(
        "fan-out, streams in {}: {} streams on {} connections, {} changes/s; {}",
        placement.name(),
        args.streams,
        args.connections,
        args.rate,
        world.pinning.describe()
    );
    let servers = Servers::start(&world, placement).await?;
    let users = users::sign_up(&world.stack.sandbox, servers.grpc()?, args.streams).await?;
    let mut devices = Devices::open(servers.grpc()?, &users, args.connections).await?;
    println!("{} users have bought and bound, and watch", users.len());
    sleep(BUDGET_REFILLS).await;
    let mut database = world.database().await?;
    let mut rounds = Vec::with_capacity(args.rounds);
    for number in 0..=args.rounds {
        // Renewal goes off, on, off: each flip is a new revision.
        let renew = !number.is_multiple_of(2);
        let webhooks = servers.ingest.webhooks()?;
        let letters = senders::change_all(&world.stack.sandbox, &users, webhooks, renew).await?;
        sleep(BETWEEN_ROUNDS).await;
        let before = devices.latest().to_vec();
        let cpu_before = servers.cpu_time()?;
        let since = newest_event(&mut database).await?;
        let sending = senders::send_all(letters, args.rate);
        let (delivered, _) =
            tokio::join!(sending, devices.all_past(&before, PATIENCE + span(args)));
        // Whatever is still under way, wanted or not, gets its chance.
        devices.listen(Duration::from_millis(500)).await;
        let committed = committed_since(&mut database, since).await?;
        let cpu = servers.cpu_time()? - cpu_before;
        let round = Round::judge(&users, &devices, &delivered?, &committed, cpu)?;
        check_none_lost(&mut database, &users, &devices).await?;
        if number > 0 {
            rounds.push(round);
        }
    }
    drop(devices);
    servers.stop().await?;
    world.stop().await?;
    Ok(report(&rounds))
}

fn span(args: &FanoutArgs) -> Duration {
    Duration::from_secs(args.streams as u64 / u64::from(args.rate.max(1)))
}

async fn newest_event(database: &mut PgConnection) -> anyhow::Result<i64> {
    Ok(
        sqlx::query_scalar("select coalesce(max(id), 0) from subscription_events")
            .fetch_one(database)
            .await?,
    )
}

/// A revision as Postgres committed it; microseconds since 1970.
struct Committed {
    account: Uuid,
    revision: i64,
    at: i64,
}

async fn committed_since(
    database: &mut PgConnection,
    event: i64,
) -> anyhow::Result<Vec<Committed>> {
    let rows = sqlx::query(
        "select account_id, revision, pg_xact_commit_timestamp(xmin) as at
         from subscription_events where id > $1 and revision is not null",
    )
    .bind(event)
    .fetch_all(database)
    .await?;
    rows.iter()
        .map(|row| {
            let at: DateTime<Utc> = row.try_get("at")?;
            Ok(Committed {
                account: row.try_get("account_id")?,
                revision: row.try_get("revision")?,
                at: at.timestamp_micros(),
            })
        })
        .collect()
}

/// Every account's committed revision is the one its device was told last.
async fn check_none_lost(
    database: &mut PgConnection,
    users: &[User],
    devices: &Devices,
) -> anyhow::Result<()> {
    let rows = sqlx::query("select account_id, revision from entitlement_snapshots")
        .fetch_all(database)
        .await?;
    let mut revisions = HashMap::with_capacity(rows.len());
    for row in &rows {
        revisions.insert(
            row.try_get::<Uuid, _>("account_id")?,
            row.try_get::<i64, _>("revision")?,
        );
    }
    let behind = users.iter().zip(devices.latest());
    let behind = behind
        .filter(|(user, told)| revisions.get(&user.account) != Some(told))
        .count();
    ensure!(
        behind == 0,
        "{behind} devices were not told the last revision"
    );
    Ok(())
}

/// One round's times, in microseconds.
struct Round {
    from_sent: Vec<i64>,
    from_answered: Vec<i64>,
    from_commit: Vec<i64>,
    /// Revisions that no device was told by themselves, only as a part of the next.
    conflated: usize,
    cpu_micros_per_change: f64,
}

impl Round {
    fn judge(
        users: &[User],
        devices: &Devices,
        delivered: &[Delivered],
        committed: &[Committed],
        cpu: Duration,
    ) -> anyhow::Result<Self> {
        let index: HashMap<Uuid, usize> = users
            .iter()
            .enumerate()
            .map(|(index, user)| (user.account, index))
            .collect();
        let delivered: HashMap<usize, &Delivered> = delivered
            .iter()
            .map(|delivered| (delivered.user, delivered))
            .collect();
        let mut round = Self {
            from_sent: Vec::new(),
            from_answered: Vec::new(),
            from_commit: Vec::new(),
            conflated: 0,
            cpu_micros_per_change: cpu.as_secs_f64() * 1e6 / users.len() as f64,
        };
        for committed in committed {
            let user = *index
                .get(&committed.account)
                .context("a stranger's revision")?;
            let Some(told) = devices.told_at(user, committed.revision) else {
                round.conflated += 1;
                continue;
            };
            let delivered = delivered
                .get(&user)
                .context("a change without a notification")?;
            round.from_sent.push(told - delivered.sent);
            round.from_answered.push(told - delivered.answered);
            round.from_commit.push(told - committed.at);
        }
        let changes = round.from_commit.len() + round.conflated;
        ensure!(
            changes == users.len(),
            "{changes} revisions for {} changes",
            users.len()
        );
        Ok(round)
    }
}

fn report(rounds: &[Round]) -> Value {
    type Times = fn(&Round) -> &Vec<i64>;
    let spans: [(&str, Times); 3] = [
        ("commit → device", |round| &round.from_commit),
        ("notification's 200 → device", |round| {
            &round.from_answered
        }),
        ("notification sent → device", |round| &round.from_sent),
    ];
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "ms",
        "p50",
        "p90",
        "p99",
        "max",
        "p50 of each round",
        "p99 of each round",
    ]);
    let mut figures = serde_json::Map::new();
    for (name, times) in spans {
        let all = Samples::new(rounds.iter().flat_map(|round| times(round).iter().copied()));
        let each = |share: f64| {
            let of =
                |round: &Round| Samples::new(times(round).iter().copied()).percentile_ms(share);
            rounds
                .iter()
                .map(|round| format!("{:.2}", of(round)))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let [p50, p90, p99] =
            [0.5, 0.9, 0.99].map(|share| format!("{:.2}", all.percentile_ms(share)));
        table.add_row([
            name.to_owned(),
            p50,
            p90,
            p99,
            format!("{:.2}", all.max_ms()),
            each(0.5),
            each(0.99),
        ]);
        figures.insert(name.into(), all.json());
    }
    let changes: usize = rounds.iter().map(|round| round.from_commit.len()).sum();
    let conflated: usize = rounds.iter().map(|round| round.conflated).sum();
    let cpu = median(rounds.iter().map(|round| round.cpu_micros_per_change));
    println!(
        "{changes} changes told, {conflated} told within a later one, none lost; \
         server CPU {cpu:.0} µs per change\n{table}\n"
    );
    figures.insert("conflated".into(), conflated.into());
    figures.insert("server_cpu_us_per_change".into(), cpu.into());
    Value::Object(figures)
}
