//! Each way to attack the API, for a while: what a well-behaved client notices of it, against the
//! same client while a neighbour only burns the processor time that the attacker has burnt.

mod attacker;
#[path = "../../tests/integration/attacks/floods.rs"]
#[allow(dead_code, missing_docs, unreachable_pub)]
mod floods;
#[path = "../../tests/integration/attacks/raw.rs"]
#[allow(dead_code, missing_docs, unreachable_pub)]
mod raw;
mod victim;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde_json::{Value, json};

use self::attacker::{Attack, Report};
pub(crate) use self::attacker::{AttackerArgs, BurnerArgs, attack, burn};
use self::victim::{Noticed, Victim};
use crate::child::ServerProcess;
use crate::servers::Part;
use crate::users::{self, User};
use crate::world::World;

#[derive(Args)]
pub(crate) struct AttacksArgs {
    /// Length of each attack
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Only attacks whose name begins so: D3, D7
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// What one attack came to.
struct Row {
    name: String,
    attacked: Noticed,
    beside: Noticed,
    report: Report,
    /// KiB.
    grown: i64,
    server_core: f64,
    store_calls: u64,
}

pub(crate) async fn run(args: &AttacksArgs) -> anyhow::Result<Value> {
    let world = World::start().await?;
    println!(
        "attacks of {} s each, by 8 connections of one address at a time; {}",
        args.seconds,
        world.pinning.describe()
    );
    let open = world.serve(Part::All).await?;
    let users = users::sign_up(&world.stack.sandbox, open.grpc()?, 2).await?;
    open.stop().await?;
    let doors = Doors::prepare(&world)?;
    let length = Duration::from_secs(args.seconds);
    let chosen = Attack::ALL.iter().filter(|attack| {
        args.only.is_empty() || args.only.iter().any(|only| attack.name().starts_with(only))
    });
    let mut rows = Vec::new();
    for attack in chosen {
        let row = one(&world, &doors, &users, *attack, length).await;
        let row = row.with_context(|| format!("while attacked by {}", attack.name()))?;
        println!("{}", row.line());
        rows.push(row);
    }
    print_table(&rows);
    world.stop().await?;
    Ok(rows.iter().map(Row::json).collect())
}

/// How servers are configured that are attacked: behind a proxy, so that attackers and clients have
/// addresses of their own, and with TLS where a handshake is attacked.
struct Doors {
    files: [PathBuf; 2],
    /// The certificate, as PEM.
    certificate: String,
}

impl Doors {
    fn prepare(world: &World) -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let certificate = made.cert.pem();
        let files = ["pem", "key"].map(|kind| world.file(&format!("attacked.{kind}")));
        let [pem, key] = &files;
        std::fs::write(pem, &certificate)?;
        std::fs::write(key, made.signing_key.serialize_pem())?;
        Ok(Self { files, certificate })
    }

    async fn open(&self, world: &World, by_tls: bool) -> anyhow::Result<ServerProcess> {
        let change = |config: &mut toml::Table| {
            let Some(grpc) = config.get_mut("grpc").and_then(|grpc| grpc.as_table_mut()) else {
                return;
            };
            let proxies = vec![toml::Value::from("127.0.0.0/8")];
            grpc.insert("proxy_protocol".into(), true.into());
            grpc.insert("trusted_proxies".into(), proxies.into());
            let names = ["tls_certificate", "tls_key"];
            for (name, file) in names.into_iter().zip(&self.files).filter(|_| by_tls) {
                grpc.insert(name.into(), file.to_string_lossy().into_owned().into());
            }
        };
        world.serve_changed("attacked", Part::All, change).await
    }
}

async fn one(
    world: &World,
    doors: &Doors,
    users: &[User],
    attack: Attack,
    length: Duration,
) -> anyhow::Result<Row> {
    let by_tls = attack.is_on_tls();
    let server = doors.open(world, by_tls).await?;
    let certificate = by_tls.then_some(doors.certificate.as_str());
    let [good, bad] = users else {
        anyhow::bail!("two users");
    };
    let victim = Victim::connect(server.grpc()?, certificate, good).await?;
    victim.watch(Duration::from_secs(1)).await?;

    let asked = || world.stack.sandbox.store_calls().values().sum::<u64>();
    let (resident, calls, cpu) = (server.resident_kib()?, asked(), server.cpu_time()?);
    let attacker = Child::attacker(attack, &server, &bad.token, length)?;
    let grows = most_resident(&server, length);
    let (attacked, most) = tokio::try_join!(victim.watch(length), grows)?;
    let report = attacker.report().await?;
    let (calls, cpu) = (asked() - calls, server.cpu_time()? - cpu);

    let burner = Child::burner(report.cpu_seconds / length.as_secs_f64(), length)?;
    let beside = victim.watch(length).await?;
    burner.ends().await?;
    drop(victim);
    server.stop().await?;
    Ok(Row {
        name: attack.name().to_owned(),
        attacked,
        beside,
        report,
        grown: most - resident,
        server_core: cpu.as_secs_f64() / length.as_secs_f64(),
        store_calls: calls,
    })
}

/// The most memory that a server holds within a while, in KiB.
async fn most_resident(server: &ServerProcess, length: Duration) -> anyhow::Result<i64> {
    let end = tokio::time::Instant::now() + length;
    let mut most = 0;
    while tokio::time::Instant::now() < end {
        most = most.max(server.resident_kib()?);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Ok(most)
}

/// This binary in another part, beside the client on the load's core.
struct Child(tokio::process::Child);

impl Child {
    fn attacker(
        attack: Attack,
        server: &ServerProcess,
        token: &str,
        length: Duration,
    ) -> anyhow::Result<Self> {
        Self::spawn(&[
            "attacker",
            "--attack",
            attack.name(),
            "--server",
            authority(server.grpc()?),
            "--webhooks",
            authority(server.webhooks()?),
            "--token",
            token,
            "--seconds",
            &length.as_secs().to_string(),
        ])
    }

    fn burner(share: f64, length: Duration) -> anyhow::Result<Self> {
        let (share, seconds) = (share.min(1.0).to_string(), length.as_secs().to_string());
        Self::spawn(&["burner", "--share", &share, "--seconds", &seconds])
    }

    fn spawn(arguments: &[&str]) -> anyhow::Result<Self> {
        let child = tokio::process::Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self(child))
    }

    async fn report(self) -> anyhow::Result<Report> {
        let output = self.0.wait_with_output().await?;
        let report = serde_json::from_slice(&output.stdout);
        report.context("an attacker without a report")
    }

    async fn ends(mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.0.wait().await?.success(), "a burner failed");
        Ok(())
    }
}

fn authority(url: &str) -> &str {
    url.split_once("://")
        .map_or(url, |(_, authority)| authority)
}

impl Row {
    fn ratio(&self) -> f64 {
        self.attacked.p99_ms() / self.beside.p99_ms()
    }

    fn json(&self) -> Value {
        json!({
            "attack": self.name,
            "client_attacked": self.attacked.json(),
            "client_beside_a_burner": self.beside.json(),
            "p99_ratio": self.ratio(),
            "attacker": self.report,
            "memory_grown_kib": self.grown,
            "server_core": self.server_core,
            "store_calls": self.store_calls,
        })
    }

    fn cells(&self) -> [String; 8] {
        let report = &self.report;
        [
            self.name.clone(),
            format!("{:.2}", self.attacked.p99_ms()),
            format!("{:.2}", self.beside.p99_ms()),
            format!("{:.2}", self.ratio()),
            match report.open_at_the_end {
                true => "held".to_owned(),
                false => format!("{:.2}", report.longest_seconds),
            },
            format!("{:.1}", self.grown as f64 / 1_024.0),
            format!("{:.0} %", self.server_core * 100.0),
            format!("{} · {}", report.connections, report.ends),
        ]
    }

    fn line(&self) -> String {
        self.cells().join(" | ")
    }
}

fn print_table(rows: &[Row]) {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "attack",
        "client's p99, ms",
        "beside a burner",
        "ratio",
        "longest connection, s",
        "memory, MiB",
        "server",
        "connections · how they ended",
    ]);
    for row in rows {
        table.add_row(row.cells());
    }
    println!("{table}");
}
