//! Warm `GetEntitlements` with a JWT against a bare tonic echo: same requests, same headers, same
//! bytes back; rounds of both interleaved, so that a slow minute of the machine meets both.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use entitled::proto::{GetEntitlementsRequest, GetEntitlementsResponse};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use crate::child::ServerProcess;
use crate::machine;
use crate::raw::RawCodec;
use crate::servers::{self, Part};
use crate::stats::{Samples, median, micros};
use crate::users::{self, User};
use crate::world::World;

const METHOD: &str = "/entitled.v1.EntitlementService/GetEntitlements";
const WARM_UP: Duration = Duration::from_millis(300);

#[derive(Args)]
pub(crate) struct ReadsArgs {
    /// Rounds of each server
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Length of a round
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Users, each with a token and a purchase
    #[arg(long, default_value_t = 200)]
    users: usize,
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 16)]
    in_flight: usize,
}

impl Default for ReadsArgs {
    fn default() -> Self {
        Self {
            rounds: 7,
            seconds: 2,
            users: 200,
            connections: 8,
            in_flight: 16,
        }
    }
}

/// How the load presses.
#[derive(Clone, Copy)]
struct Shape {
    connections: usize,
    in_flight: usize,
    length: Duration,
}

impl Shape {
    fn name(self) -> String {
        format!("{} × {}", self.connections, self.in_flight)
    }
}

/// One caller's header and the account that must answer.
struct Caller {
    authorization: MetadataValue<Ascii>,
    account: String,
}

/// What one round of one server gave.
struct Round {
    per_second: f64,
    cpu_micros_per_request: f64,
    /// Share of one core that each process used.
    server_core: f64,
    load_core: f64,
    latency: Samples,
}

pub(crate) async fn run(args: &ReadsArgs) -> anyhow::Result<Value> {
    let world = World::start().await?;
    println!(
        "reads: warm GetEntitlements with an ES256 JWT; {}",
        world.pinning.describe()
    );
    let ours = world.serve(Part::All).await?;
    let users = users::sign_up(&world.stack.sandbox, ours.grpc()?, args.users).await?;
    let callers: Arc<[Caller]> = users.iter().map(caller).collect::<anyhow::Result<_>>()?;
    let answers = answers(ours.grpc()?, &callers).await?;
    let bytes = answers.iter().map(Bytes::len).sum::<usize>() / answers.len().max(1);
    println!(
        "{} users, answers of {bytes} bytes on average, the same from both\n",
        users.len()
    );
    let file = world.file("answers");
    std::fs::write(&file, servers::pack(&answers))?;
    let file = file.to_string_lossy().into_owned();
    let arguments = ["server-echo".to_owned(), "--answers".to_owned(), file];
    let echo = ServerProcess::spawn(world.pinning, &arguments).await?;

    let length = Duration::from_secs(args.seconds);
    let busy = Shape {
        connections: args.connections,
        in_flight: args.in_flight,
        length,
    };
    let single = Shape {
        connections: 1,
        in_flight: 1,
        length,
    };
    let mut figures = Vec::new();
    for shape in [busy, single] {
        figures.push(compare(shape, args.rounds, &ours, &echo, &callers).await?);
    }
    echo.stop().await?;
    ours.stop().await?;
    world.stop().await?;
    Ok(json!({ "users": users.len(), "answer_bytes": bytes, "shapes": figures }))
}

fn caller(user: &User) -> anyhow::Result<Caller> {
    Ok(Caller {
        authorization: user.authorization()?,
        account: user.account.to_string(),
    })
}

/// Every user's answer, once: it warms our caches and is what the echo gives back.
async fn answers(server: &str, callers: &[Caller]) -> anyhow::Result<Vec<Bytes>> {
    let mut client = Grpc::new(users::connect(server).await?);
    let mut answers = Vec::with_capacity(callers.len());
    for caller in callers {
        let answer = call(&mut client, caller).await?;
        check(&answer, Some(&caller.account))?;
        answers.push(answer);
    }
    Ok(answers)
}

async fn call(client: &mut Grpc<Channel>, caller: &Caller) -> anyhow::Result<Bytes> {
    let mut request = tonic::Request::new(GetEntitlementsRequest::default().encode_to_vec().into());
    request
        .metadata_mut()
        .insert("authorization", caller.authorization.clone());
    client.ready().await?;
    let response = client
        .unary(request, PathAndQuery::from_static(METHOD), RawCodec)
        .await?;
    Ok(response.into_inner())
}

/// The answer is a whole message, about the right account, and opens what was paid for.
fn check(answer: &Bytes, account: Option<&str>) -> anyhow::Result<()> {
    let answer = GetEntitlementsResponse::decode(answer.clone())?;
    let snapshot = answer.snapshot.context("an answer without a snapshot")?;
    ensure!(
        !answer.degraded,
        "an answer that the database could not confirm"
    );
    let active = snapshot
        .entitlements
        .iter()
        .any(|e| e.id == "pro_access" && e.active);
    ensure!(active, "an answer without what was bought");
    let id = snapshot.account.context("an answer without an account")?.id;
    ensure!(
        account.is_none_or(|account| account == id),
        "another account's answer"
    );
    Ok(())
}

async fn compare(
    shape: Shape,
    rounds: usize,
    ours: &ServerProcess,
    echo: &ServerProcess,
    callers: &Arc<[Caller]>,
) -> anyhow::Result<Value> {
    let mut pairs = Vec::with_capacity(rounds);
    for number in 0..rounds {
        // Who goes first changes, so that neither always follows the other's heat.
        let pair = if number.is_multiple_of(2) {
            let first = round(shape, ours, callers, true).await?;
            (first, round(shape, echo, callers, false).await?)
        } else {
            let first = round(shape, echo, callers, false).await?;
            (round(shape, ours, callers, true).await?, first)
        };
        pairs.push(pair);
    }
    print_rounds(shape, &pairs);
    Ok(json!({
        "connections": shape.connections,
        "in_flight": shape.in_flight,
        "ratio_median": median(pairs.iter().map(ratio)),
        "cpu_ratio_median": median(pairs.iter().map(cpu_ratio)),
        "ours": pairs.iter().map(|(ours, _)| ours.json()).collect::<Vec<_>>(),
        "echo": pairs.iter().map(|(_, echo)| echo.json()).collect::<Vec<_>>(),
    }))
}

fn ratio((ours, echo): &(Round, Round)) -> f64 {
    ours.per_second / echo.per_second
}

/// What entitled would do on a core of its own that is full, as a share of what the echo would:
/// the ratio that other processes on the machine disturb least.
fn cpu_ratio((ours, echo): &(Round, Round)) -> f64 {
    echo.cpu_micros_per_request / ours.cpu_micros_per_request
}

async fn round(
    shape: Shape,
    server: &ServerProcess,
    callers: &Arc<[Caller]>,
    owned: bool,
) -> anyhow::Result<Round> {
    let (url, pid, callers) = (server.grpc()?.to_owned(), server.pid(), Arc::clone(callers));
    // The load has a thread and a runtime to itself: the cheapest client that tonic can be.
    let load = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(press(shape, &url, pid, &callers, owned))
    });
    load.await?
}

async fn press(
    shape: Shape,
    url: &str,
    pid: u32,
    callers: &Arc<[Caller]>,
    owned: bool,
) -> anyhow::Result<Round> {
    let mut channels = Vec::with_capacity(shape.connections);
    for _ in 0..shape.connections {
        channels.push(users::connect(url).await?);
    }
    drive(shape, WARM_UP, &channels, callers, owned).await?;
    let cpu_of = || {
        Ok::<_, anyhow::Error>((
            machine::cpu_time(pid)?,
            machine::cpu_time(std::process::id())?,
        ))
    };
    let (before, began) = (cpu_of()?, Instant::now());
    let latencies = drive(shape, shape.length, &channels, callers, owned).await?;
    let (after, took) = (cpu_of()?, began.elapsed().as_secs_f64());
    let (server, load) = (
        (after.0 - before.0).as_secs_f64(),
        (after.1 - before.1).as_secs_f64(),
    );
    Ok(Round {
        per_second: latencies.len() as f64 / took,
        cpu_micros_per_request: server * 1e6 / latencies.len() as f64,
        server_core: server / took,
        load_core: load / took,
        latency: Samples::new(latencies),
    })
}

/// Closed loop: each slot sends its next request when the last one is answered. The first error
/// ends the bench. Tells every request's microseconds.
async fn drive(
    shape: Shape,
    length: Duration,
    channels: &[Channel],
    callers: &Arc<[Caller]>,
    owned: bool,
) -> anyhow::Result<Vec<i64>> {
    let end = Instant::now() + length;
    let cursor = Arc::new(AtomicUsize::new(0));
    let mut slots = JoinSet::new();
    for channel in channels
        .iter()
        .flat_map(|channel| std::iter::repeat_n(channel, shape.in_flight))
    {
        let mut client = Grpc::new(channel.clone());
        let (callers, cursor) = (Arc::clone(callers), Arc::clone(&cursor));
        slots.spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < end {
                let caller = &callers[cursor.fetch_add(1, Ordering::Relaxed) % callers.len()];
                let sent = Instant::now();
                let answer = call(&mut client, caller).await?;
                latencies.push(micros(sent.elapsed()));
                check(&answer, owned.then_some(&caller.account))?;
            }
            Ok::<_, anyhow::Error>(latencies)
        });
    }
    let mut all = Vec::new();
    while let Some(slot) = slots.join_next().await {
        all.append(&mut slot??);
    }
    Ok(all)
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

    fn cells(&self) -> [String; 3] {
        [
            format!(
                "{:.0} · {:.1}",
                self.per_second, self.cpu_micros_per_request
            ),
            format!(
                "{:.2} / {:.2}",
                self.latency.percentile_ms(0.5),
                self.latency.percentile_ms(0.99)
            ),
            format!(
                "{:.0} / {:.0}",
                self.server_core * 100.0,
                self.load_core * 100.0
            ),
        ]
    }
}

fn print_rounds(shape: Shape, pairs: &[(Round, Round)]) {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "round",
        "entitled:\nrequests/s · server µs",
        "p50 / p99 ms",
        "cores: server / load %",
        "echo:\nrequests/s · server µs",
        "p50 / p99 ms",
        "cores: server / load %",
        "ratio of\nrequests/s",
        "ratio of\nCPU",
    ]);
    for (number, pair) in pairs.iter().enumerate() {
        let mut row = vec![(number + 1).to_string()];
        row.extend(pair.0.cells());
        row.extend(pair.1.cells());
        row.extend([
            format!("{:.2}", ratio(pair)),
            format!("{:.2}", cpu_ratio(pair)),
        ]);
        table.add_row(row);
    }
    println!(
        "{} (connections × in flight); no errors, every answer checked\n{table}",
        shape.name()
    );
    let of = |pick: fn(&(Round, Round)) -> f64| median(pairs.iter().map(pick));
    println!(
        "medians: entitled {:.0}/s at {:.1} µs, echo {:.0}/s at {:.1} µs of server CPU a request; \
         entitled does {:.2} of the echo's requests/s, {:.2} for the same CPU\n",
        of(|(ours, _)| ours.per_second),
        of(|(ours, _)| ours.cpu_micros_per_request),
        of(|(_, echo)| echo.per_second),
        of(|(_, echo)| echo.cpu_micros_per_request),
        of(ratio),
        of(cpu_ratio),
    );
}
