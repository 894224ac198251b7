//! Warm `GetEntitlements` with a JWT against what carries it alone: bare tonic with the same requests,
//! headers and bytes back, and entitled's own carrier without authentication and copies; against TLS;
//! against a query per request. All in one run, rounds interleaved, so that a slow minute of the
//! machine meets everybody.

mod crowd;
mod load;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use tokio_rustls::TlsConnector;

use self::crowd::Crowd;
use self::load::{Round, Shape, Target};
use crate::child::ServerProcess;
use crate::servers::{self, Carrier, Part};
use crate::stats::median;
use crate::users;
use crate::world::World;

/// Purchases that came all the way through a store; all others are copies of one.
const GENUINE: usize = 10;
/// Accounts whose answers the one with the query gives.
const QUERIED: i64 = 100_000;

#[derive(Args)]
pub(crate) struct ReadsArgs {
    /// Rounds of each server
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Length of a round
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Accounts, each with a purchase
    #[arg(long, default_value_t = 100_000)]
    accounts: i64,
    /// Accounts with a token
    #[arg(long, default_value_t = 10_000)]
    tokens: i64,
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 16)]
    in_flight: usize,
    /// Also other ways to carry: tonic and entitled on tokio's multi-thread runtime
    #[arg(long)]
    alternatives: bool,
}

impl Default for ReadsArgs {
    fn default() -> Self {
        Self {
            rounds: 7,
            seconds: 2,
            accounts: 100_000,
            tokens: 10_000,
            connections: 8,
            in_flight: 16,
            alternatives: false,
        }
    }
}

/// Who is measured.
struct Contestant {
    name: &'static str,
    target: Target,
    process: ServerProcess,
}

/// entitled is held against these, and TLS against entitled.
const ENTITLED: &str = "entitled";
const ECHO: &str = "tonic echo";
const CARRIER: &str = "own carrier, no auth, no copies";
const TLS: &str = "entitled, TLS";
const QUERY: &str = "tonic echo with a query";
const SHARED: &str = "entitled on the shared runtime";
const ECHO_MULTI: &str = "tonic echo, multi-thread";

/// First over second: requests per second, and requests per second of server CPU.
const RATIOS: [(&str, &str); 6] = [
    (ENTITLED, ECHO),
    (ENTITLED, CARRIER),
    (TLS, ENTITLED),
    (ENTITLED, QUERY),
    (ENTITLED, SHARED),
    (ECHO, ECHO_MULTI),
];

pub(crate) async fn run(args: &ReadsArgs) -> anyhow::Result<Value> {
    let world = World::start().await?;
    println!(
        "reads: warm GetEntitlements with an ES256 JWT; {}",
        world.pinning.describe()
    );
    let ours = world.serve(Part::Serve).await?;
    let worker = world.serve(Part::Ingest).await?;
    users::sign_up(&world.stack.sandbox, ours.grpc()?, GENUINE).await?;
    worker.stop().await?;
    let mut database = world.database().await?;
    let stores = &world.stack.sandbox;
    let crowd = Crowd::gather(&mut database, stores, args.accounts, args.tokens).await?;
    let crowd = Arc::new(crowd);
    let ours = Contestant::new(ENTITLED, ours, true)?;
    let answers = load::answers(&ours.target, &crowd).await?;
    let bytes = answers.iter().map(bytes::Bytes::len).sum::<usize>() / answers.len().max(1);
    println!(
        "{} accounts, {} tokens (header of {} bytes), Zipf; answers of {bytes} bytes on average, \
         the same from all\n",
        crowd.accounts(),
        crowd.callers.len(),
        crowd.header_bytes(),
    );
    let file = world.file("answers");
    std::fs::write(&file, servers::pack(&answers))?;
    let answers_file = file.to_string_lossy().into_owned();
    prepare_queries(&mut database, answers.first().context("no answer")?).await?;

    let echo = |carrier: Carrier, more: &[String]| {
        let mut arguments = vec![
            "server-echo".to_owned(),
            "--carrier".to_owned(),
            carrier.name(),
            "--answers".to_owned(),
            answers_file.clone(),
        ];
        arguments.extend_from_slice(more);
        let pinning = world.pinning;
        async move { ServerProcess::spawn(pinning, &arguments).await }
    };
    let mut contestants = vec![ours];
    let bare = echo(Carrier::Current, &[]).await?;
    contestants.push(Contestant::new(ECHO, bare, false)?);
    let carrier = echo(Carrier::Hyper, &[]).await?;
    contestants.push(Contestant::new(CARRIER, carrier, false)?);
    contestants.push(with_tls(&world, &crowd).await?);
    let query = ["--database".to_owned(), world.database_url()];
    let query = echo(Carrier::Current, &query).await?;
    contestants.push(Contestant::new(QUERY, query, false)?);
    if args.alternatives {
        let shared = world
            .serve_changed("shared", Part::Serve, |config| {
                set(config, "connection_threads", 0.into());
            })
            .await?;
        let shared = Contestant::new(SHARED, shared, true)?;
        load::answers(&shared.target, &crowd).await?;
        contestants.push(shared);
        let multi = echo(Carrier::Multi, &[]).await?;
        contestants.push(Contestant::new(ECHO_MULTI, multi, false)?);
    }

    let length = Duration::from_secs(args.seconds);
    let mut figures = Vec::new();
    for (connections, in_flight) in [(args.connections, args.in_flight), (1, 1)] {
        let shape = Shape {
            connections,
            in_flight,
            length,
        };
        figures.push(compare(shape, args.rounds, &contestants, &crowd).await?);
    }
    for contestant in contestants {
        contestant.process.stop().await?;
    }
    world.stop().await?;
    Ok(json!({
        "accounts": crowd.accounts(),
        "tokens": crowd.callers.len(),
        "header_bytes": crowd.header_bytes(),
        "answer_bytes": bytes,
        "shapes": figures,
    }))
}

impl Contestant {
    fn new(name: &'static str, process: ServerProcess, owned: bool) -> anyhow::Result<Self> {
        let url = process.grpc()?;
        let (_, address) = url.split_once("://").context("a URL")?;
        Ok(Self {
            name,
            target: Target {
                address: address.to_owned(),
                pid: process.pid(),
                tls: None,
                owned,
            },
            process,
        })
    }
}

fn set(config: &mut toml::Table, name: &str, value: toml::Value) {
    let grpc = config
        .entry("grpc")
        .or_insert_with(|| toml::Table::new().into());
    if let Some(grpc) = grpc.as_table_mut() {
        grpc.insert(name.to_owned(), value);
    }
}

/// The same server behind a certificate of its own.
async fn with_tls(world: &World, crowd: &Arc<Crowd>) -> anyhow::Result<Contestant> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()])?;
    let (certificate, key) = (world.file("tls.pem"), world.file("tls.key"));
    std::fs::write(&certificate, cert.pem())?;
    std::fs::write(&key, signing_key.serialize_pem())?;
    let process = world
        .serve_changed("tls", Part::Serve, |config| {
            let path = |file: &std::path::Path| file.to_string_lossy().into_owned().into();
            set(config, "tls_certificate", path(&certificate));
            set(config, "tls_key", path(&key));
        })
        .await?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(cert.der().to_vec()))?;
    let mut client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let mut contestant = Contestant::new(TLS, process, true)?;
    contestant.target.tls = Some(TlsConnector::from(Arc::new(client)));
    load::answers(&contestant.target, crowd).await?;
    Ok(contestant)
}

/// A table with an answer for each of many accounts.
async fn prepare_queries(database: &mut PgConnection, answer: &[u8]) -> anyhow::Result<()> {
    sqlx::query("create table bench_answers (account_id uuid primary key, answer bytea not null)")
        .execute(&mut *database)
        .await?;
    sqlx::query(
        "insert into bench_answers select gen_random_uuid(), $1 from generate_series(1, $2)",
    )
    .bind(answer)
    .bind(QUERIED)
    .execute(&mut *database)
    .await?;
    sqlx::query("vacuum analyze bench_answers")
        .execute(&mut *database)
        .await?;
    Ok(())
}

async fn compare(
    shape: Shape,
    rounds: usize,
    contestants: &[Contestant],
    crowd: &Arc<Crowd>,
) -> anyhow::Result<Value> {
    let mut played: Vec<Vec<Round>> = contestants.iter().map(|_| Vec::new()).collect();
    for number in 0..rounds {
        // Who goes first changes, so that nobody always follows the same one's heat.
        for turn in 0..contestants.len() {
            let who = (number + turn) % contestants.len();
            let round = load::round(shape, &contestants[who].target, crowd).await;
            played[who].push(round.with_context(|| contestants[who].name)?);
        }
    }
    println!(
        "**{} × {}** (connections × in flight), medians of {rounds} rounds of {:?}; no errors, every \
         answer checked\n",
        shape.connections, shape.in_flight, shape.length
    );
    print_servers(contestants, &played);
    let ratios = print_ratios(contestants, &played);
    let servers = contestants.iter().zip(&played).map(|(contestant, rounds)| {
        let rounds: Vec<Value> = rounds.iter().map(Round::json).collect();
        (contestant.name.to_owned(), Value::Array(rounds))
    });
    Ok(json!({
        "connections": shape.connections,
        "in_flight": shape.in_flight,
        "servers": servers.collect::<Map<_, _>>(),
        "ratios": ratios,
    }))
}

fn print_servers(contestants: &[Contestant], played: &[Vec<Round>]) {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header([
        "server",
        "requests/s (best)",
        "server CPU per request",
        "p50 / p99 ms",
        "cores: server / load",
    ]);
    for (contestant, rounds) in contestants.iter().zip(played) {
        let of = |pick: fn(&Round) -> f64| median(rounds.iter().map(pick));
        let best = rounds.iter().map(|round| round.per_second);
        table.add_row([
            contestant.name.to_owned(),
            format!(
                "{:.0} ({:.0})",
                of(|round| round.per_second),
                best.fold(0.0, f64::max)
            ),
            format!("{:.1} µs", of(|round| round.cpu_micros_per_request)),
            format!(
                "{:.2} / {:.2}",
                of(|round| round.latency.percentile_ms(0.5)),
                of(|round| round.latency.percentile_ms(0.99))
            ),
            format!(
                "{:.0} % / {:.0} %",
                of(|round| round.server_core * 100.0),
                of(|round| round.load_core * 100.0)
            ),
        ]);
    }
    println!("{table}\n");
}

fn print_ratios(contestants: &[Contestant], played: &[Vec<Round>]) -> Value {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header([
        "ratio",
        "requests/s: median (all rounds)",
        "same CPU: median (all rounds)",
    ]);
    let rounds_of = |name: &str| {
        let place = contestants.iter().position(|it| it.name == name)?;
        played.get(place)
    };
    let mut told = Vec::new();
    for (first, second) in RATIOS {
        let (Some(ours), Some(theirs)) = (rounds_of(first), rounds_of(second)) else {
            continue;
        };
        let of = |pick: fn(&Round, &Round) -> f64| -> Vec<f64> {
            ours.iter().zip(theirs).map(|(a, b)| pick(a, b)).collect()
        };
        let rate = of(|a, b| a.per_second / b.per_second);
        // What the first would do on a core of its own that is full, as a share of what the second
        // would: the ratio that other processes on the machine disturb least.
        let cpu = of(|a, b| b.cpu_micros_per_request / a.cpu_micros_per_request);
        table.add_row([format!("{first} / {second}"), spread(&rate), spread(&cpu)]);
        told.push(json!({
            "of": first,
            "over": second,
            "requests": median(rate.iter().copied()),
            "cpu": median(cpu.iter().copied()),
        }));
    }
    println!("{table}\n");
    Value::Array(told)
}

fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    format!(
        "**{:.2}** ({least:.2}–{most:.2})",
        median(values.iter().copied())
    )
}

impl Round {
    fn json(&self) -> Value {
        json!({
            "requests_per_second": self.per_second,
            "server_cpu_us_per_request": self.cpu_micros_per_request,
            "server_core": self.server_core,
            "load_core": self.load_core,
            "latency": self.latency.json(),
        })
    }
}
