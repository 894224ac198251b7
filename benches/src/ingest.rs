//! How many notifications are durably kept a second: Apple's, verified, encrypted and answered after
//! their commit, against pgbench inserting rows of the same size one by one.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use entitled::sandbox::{AppStoreBuy, Sandbox};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::machine::Pinning;
use crate::servers::Part;
use crate::stats::{Samples, median, micros};
use crate::world::World;

/// Customers whose renewals go off and on, each time with a notification.
const CUSTOMERS: usize = 50;
/// Different rows that pgbench takes in turn.
const SCRIPTS: usize = 64;

#[derive(Args)]
pub(crate) struct IngestArgs {
    /// Notifications in a round, and rows that pgbench inserts
    #[arg(long, default_value_t = 8_000)]
    notifications: usize,
    /// Senders, and pgbench's clients
    #[arg(long, default_value_t = 32)]
    concurrency: usize,
    /// Measured rounds of each; one more before them warms up
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

impl Default for IngestArgs {
    fn default() -> Self {
        Self {
            notifications: 8_000,
            concurrency: 32,
            rounds: 3,
        }
    }
}

struct Round {
    ours_per_second: f64,
    baseline_per_second: f64,
    server_cpu_micros: f64,
    answered: Vec<i64>,
}

pub(crate) async fn run(args: &IngestArgs) -> anyhow::Result<Value> {
    let world = World::durable().await?;
    println!(
        "ingest: {} notifications a round, {} at once, on a Postgres that waits for its disk; {}",
        args.notifications,
        args.concurrency,
        world.pinning.describe()
    );
    let server = world.serve(Part::Webhooks).await?;
    let url = format!("{}/webhooks/app-store", server.webhooks()?);
    let mut database = world.database().await?;
    let bench = PgBench::prepare(&world, &mut database).await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let customers = customers(&world.stack.sandbox).await?;
    let mut rounds = Vec::with_capacity(args.rounds);
    let (mut sent, mut bytes) = (0, 0);
    for number in 0..=args.rounds {
        let letters = letters(&world.stack.sandbox, &customers, args.notifications).await?;
        bytes = letters.iter().map(String::len).sum::<usize>() / letters.len();
        let ours = async {
            let cpu = server.cpu_time()?;
            let (span, answered) = send(&client, &url, &letters, args.concurrency).await?;
            let cpu = server.cpu_time()? - cpu;
            anyhow::Ok((span, answered, cpu))
        };
        let rows = args.notifications;
        // By turns: neither always has the warmer disk.
        let ((span, answered, cpu), baseline_per_second) = if number % 2 == 0 {
            let ours = ours.await?;
            (ours, bench.run(args.concurrency, rows, bytes).await?)
        } else {
            let baseline = bench.run(args.concurrency, rows, bytes).await?;
            (ours.await?, baseline)
        };
        sent += letters.len();
        let round = Round {
            ours_per_second: rows as f64 / span.as_secs_f64(),
            baseline_per_second,
            server_cpu_micros: cpu.as_secs_f64() * 1e6 / rows as f64,
            answered,
        };
        println!(
            "  round {number}: {:.0} notifications/s, pgbench {:.0} rows/s",
            round.ours_per_second, round.baseline_per_second
        );
        if number > 0 {
            rounds.push(round);
        }
    }
    let kept: i64 = sqlx::query_scalar(
        "select count(*) from raw_notifications r join ingress_keys k using (source, event_id)",
    )
    .fetch_one(&mut database)
    .await?;
    ensure!(
        usize::try_from(kept)? == sent,
        "{kept} rows of {sent} notifications that were answered 200"
    );
    drop(database);
    server.stop().await?;
    world.stop().await?;
    Ok(report(&rounds, bytes))
}

async fn customers(stores: &Sandbox) -> anyhow::Result<Vec<String>> {
    stores.hold_deliveries(true).await?;
    let mut bought = Vec::with_capacity(CUSTOMERS);
    for number in 0..CUSTOMERS {
        let buy = AppStoreBuy {
            customer: format!("user-{number}"),
            product_id: "com.example.premium.yearly".into(),
            ..AppStoreBuy::default()
        };
        bought.push(stores.buy_app_store(&buy).await?.original_transaction_id);
    }
    Ok(bought)
}

/// Genuine notifications that nobody has sent yet.
async fn letters(
    stores: &Sandbox,
    customers: &[String],
    count: usize,
) -> anyhow::Result<Vec<String>> {
    let known = stores.notifications().len();
    let mut on = false;
    while stores.notifications().len() < known + count {
        for customer in customers {
            stores.set_auto_renew(customer, on).await?;
        }
        on = !on;
    }
    if on {
        // The next round begins with renewals that are on, as this one did.
        for customer in customers {
            stores.set_auto_renew(customer, true).await?;
        }
    }
    let told = stores.notifications().split_off(known);
    Ok(told.into_iter().take(count).map(|told| told.body).collect())
}

/// Sends all of them, `concurrency` at a time; anything but 200 ends the bench.
async fn send(
    client: &reqwest::Client,
    url: &str,
    letters: &[String],
    concurrency: usize,
) -> anyhow::Result<(Duration, Vec<i64>)> {
    let began = Instant::now();
    let answered = stream::iter(letters)
        .map(async |letter| {
            let sent = Instant::now();
            let request = client
                .post(url)
                .header("content-type", "application/json")
                .body(letter.clone());
            let status = request.send().await?.status();
            ensure!(status == 200, "a notification was answered {status}");
            Ok(micros(sent.elapsed()))
        })
        .buffer_unordered(concurrency)
        .try_collect()
        .await?;
    Ok((began.elapsed(), answered))
}

/// pgbench with a table of its own: the same columns, the same unique key, bodies of the same size
/// that do not compress. The bodies stand in prepared statements, so unlike ours they are not even
/// sent.
struct PgBench {
    program: PathBuf,
    url: String,
    scripts: PathBuf,
}

impl PgBench {
    async fn prepare(world: &World, database: &mut PgConnection) -> anyhow::Result<Self> {
        sqlx::raw_sql(
            "create table baseline (
                 source text not null, event_id uuid not null, id uuid primary key,
                 received_at timestamptz not null, body bytea not null, status text not null,
                 unique (source, event_id))",
        )
        .execute(database)
        .await?;
        let scripts = world.file("pgbench");
        std::fs::create_dir_all(&scripts)?;
        Ok(Self {
            program: find_pgbench()?,
            url: world.database_url(),
            scripts,
        })
    }

    /// Rows per second.
    async fn run(&self, clients: usize, rows: usize, bytes: usize) -> anyhow::Result<f64> {
        let mut command = Pinning::detect().load(&self.program);
        command
            .args(["--no-vacuum", "--protocol=prepared", "--jobs=1"])
            .arg(format!("--client={clients}"))
            .arg(format!("--transactions={}", rows.div_ceil(clients)));
        for number in 0..SCRIPTS {
            let script = self.scripts.join(format!("{number}.sql"));
            if !script.exists() {
                std::fs::write(&script, insert(bytes))?;
            }
            command.arg("--file").arg(script);
        }
        let output = command
            .arg(&self.url)
            .stdin(Stdio::null())
            .output()
            .await
            .context("pgbench cannot be started")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "pgbench failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let tps = text.lines().find_map(|line| line.strip_prefix("tps = "));
        let tps = tps.and_then(|tps| tps.split_whitespace().next());
        tps.context("pgbench told no rate")?
            .parse()
            .context("pgbench's rate")
    }
}

/// A statement with a body of its own.
fn insert(bytes: usize) -> String {
    let mut hex = String::with_capacity(2 * bytes);
    while hex.len() < 2 * bytes {
        hex.push_str(&uuid::Uuid::new_v4().simple().to_string());
    }
    hex.truncate(2 * bytes);
    format!(
        "insert into baseline values ('app_store', gen_random_uuid(), gen_random_uuid(), now(), \
         '\\x{hex}', 'received');\n"
    )
}

fn find_pgbench() -> anyhow::Result<PathBuf> {
    let installed = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let versions = installed
        .flatten()
        .map(|version| version.path().join("bin/pgbench"));
    versions
        .chain(["/usr/bin/pgbench".into(), "/usr/local/bin/pgbench".into()])
        .find(|path: &PathBuf| Path::exists(path))
        .context("pgbench is needed: apt install postgresql-contrib")
}

fn report(rounds: &[Round], bytes: usize) -> Value {
    let ours = median(rounds.iter().map(|round| round.ours_per_second));
    let baseline = median(rounds.iter().map(|round| round.baseline_per_second));
    let ratio = median(
        rounds
            .iter()
            .map(|round| round.ours_per_second / round.baseline_per_second),
    );
    let cpu = median(rounds.iter().map(|round| round.server_cpu_micros));
    let answered = Samples::new(
        rounds
            .iter()
            .flat_map(|round| round.answered.iter().copied()),
    );
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "",
        "per second",
        "server CPU",
        "p50 / p99 ms",
    ]);
    table.add_row([
        "notifications kept".to_owned(),
        format!("{ours:.0}"),
        format!("{cpu:.0} µs"),
        format!(
            "{:.1} / {:.1}",
            answered.percentile_ms(0.5),
            answered.percentile_ms(0.99)
        ),
    ]);
    table.add_row([
        "pgbench, single rows".to_owned(),
        format!("{baseline:.0}"),
        "–".to_owned(),
        "–".to_owned(),
    ]);
    println!("bodies of {bytes} bytes; ratio {ratio:.2}\n{table}\n");
    json!({
        "body_bytes": bytes,
        "notifications_per_second": ours,
        "pgbench_rows_per_second": baseline,
        "ratio": ratio,
        "server_cpu_us": cpu,
        "answered": answered.json(),
    })
}
