//! A catalog change on many accounts while reads and binds go on; the worker that carries it out is
//! killed in the middle, and another one goes on. Reads and binds are timed before, during and after
//! the change, in one run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use entitled::cli::client::{Bearer, Client};
use entitled::cli::stack::EXAMPLE_CATALOG;
use entitled::proto::apply_catalog_response::Event;
use entitled::proto::catalog_service_client::CatalogServiceClient;
use entitled::proto::wanted_catalog::Wanted;
use entitled::proto::{
    ApplyCatalogRequest, GetEntitlementsRequest, WantedCatalog, WatchEntitlementsRequest,
};
use entitled::sandbox::{AppStoreBuy, IdentityToken};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::servers::Part;
use crate::stats::{Samples, micros};
use crate::users::{self, connect};
use crate::world::World;

#[derive(Args)]
pub(crate) struct CatalogArgs {
    /// Accounts, each with a purchase
    #[arg(long, default_value_t = 100_000)]
    accounts: i64,
    /// Accounts per second that the change may reach
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Reads per second, of accounts drawn from all of them
    #[arg(long, default_value_t = 50)]
    reads: u32,
    /// Binds of new purchases per second
    #[arg(long, default_value_t = 4)]
    binds: u32,
    /// Seconds without a change, before it and after it
    #[arg(long, default_value_t = 60)]
    quiet_seconds: u64,
}

/// Genuine purchases that all others are copies of; these accounts also have a stream open.
const GENUINE: usize = 100;

/// Copies of one genuine account and its purchase: what a derivation reads.
const CROWD: &str = "
    with template as (
        select c.provider, c.app, c.head_kind, c.owner_since, s.known, e.body, e.next_transition_at
        from purchase_chains c join store_subscription_state s on s.chain_id = c.id
        join entitlement_snapshots e on e.account_id = c.owner_account_id limit 1
    ), drawn as (
        select gen_random_uuid() as account, gen_random_uuid() as chain
        from generate_series(1, $1)
    ), made as (
        insert into accounts (id, created_at) select account, now() from drawn
    ), named as (
        insert into store_tokens (token, account_id, created_at)
        select gen_random_uuid()::text, account, now() from drawn
    ), bought as (
        insert into purchase_chains (id, provider, app, head_kind, head_value, owner_account_id,
            owner_since, created_at)
        select chain, provider, app, head_kind, chain::text, account, owner_since, now()
        from drawn, template
    ), known as (
        insert into store_subscription_state (chain_id, known, updated_at)
        select chain, known, now() from drawn, template
    )
    insert into entitlement_snapshots
        (account_id, revision, body, next_transition_at, catalog_version)
    select account, 1, body, next_transition_at, 1 from drawn, template";

/// What was timed, and whether the change was under way.
type Timed = Arc<std::sync::Mutex<Vec<(bool, i64)>>>;

struct Load {
    changing: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    reads: Timed,
    binds: Timed,
    failed: Arc<AtomicUsize>,
}

pub(crate) async fn run(args: &CatalogArgs) -> anyhow::Result<Value> {
    let world = World::with(|options| options.catalog = EXAMPLE_CATALOG.to_owned()).await?;
    set_rate(&world, args.rate)?;
    println!(
        "catalog: {} accounts, {} a second; {}",
        args.accounts,
        args.rate,
        world.pinning.describe()
    );
    let api = world.serve(Part::Serve).await?;
    let worker = world.serve(Part::Ingest).await?;
    let users = users::sign_up(&world.stack.sandbox, api.grpc()?, GENUINE).await?;
    let mut database = world.database().await?;
    // Safe: the copies refer to nothing that the constraints would miss.
    sqlx::query(CROWD)
        .bind(args.accounts - GENUINE as i64)
        .execute(&mut database)
        .await?;
    sqlx::query("analyze").execute(&mut database).await?;
    let channel = connect(api.grpc()?).await?;
    let pushed = watch_all(&users, &channel).await?;
    let load = Load {
        changing: Arc::default(),
        stop: Arc::default(),
        reads: Timed::default(),
        binds: Timed::default(),
        failed: Arc::default(),
    };
    let loads = [
        spawn_reads(&world, &mut database, &channel, &load, args.reads).await?,
        spawn_binds(&world, &channel, &load, args).await?,
    ];
    let quiet = Duration::from_secs(args.quiet_seconds);
    tokio::time::sleep(quiet).await;

    load.changing.store(true, Ordering::Relaxed);
    let began = Instant::now();
    let version = apply(&world, &channel).await?;
    let counted = began.elapsed();
    println!(
        "counted and applied as version {version} in {:.1} s",
        counted.as_secs_f64()
    );
    let mut series = Vec::new();
    let (spreading, mut worker, mut killed) = (Instant::now(), Some(worker), None);
    let all = behind(&mut database, version).await?;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let left = behind(&mut database, version).await?;
        series.push((spreading.elapsed().as_secs_f64(), left));
        if left == 0 {
            break;
        }
        if left < all / 2 && killed.is_none() {
            // Dropped, it is killed: SIGKILL, no clean-up.
            drop(worker.take());
            let at = spreading.elapsed();
            println!("{left} to go after {:.0} s: kill -9", at.as_secs_f64());
            worker = Some(world.serve(Part::Ingest).await?);
            killed = Some((at, spreading.elapsed() - at));
        }
    }
    let spread = spreading.elapsed();
    load.changing.store(false, Ordering::Relaxed);
    tokio::time::sleep(quiet).await;
    load.stop.store(true, Ordering::Relaxed);
    for load in loads {
        load.await?;
    }
    let twice: i64 = sqlx::query(
        "select count(*) from (select account_id from subscription_events
             where reason = 'catalog_changed' group by account_id having count(*) > 1) twice",
    )
    .fetch_one(&mut database)
    .await?
    .get(0);
    ensure!(twice == 0, "{twice} accounts were derived twice");
    let streams = pushed.load(Ordering::Relaxed);
    ensure!(
        streams == users.len(),
        "{streams} of {} streams were told",
        users.len()
    );
    let fastest = per_second(&series, all);
    println!(
        "every account derived once in {:.0} s ({:.0} a second on average, {fastest} in the fastest \
         second); all {streams} open streams were told; {} calls failed\n",
        spread.as_secs_f64(),
        all as f64 / spread.as_secs_f64(),
        load.failed.load(Ordering::Relaxed)
    );
    let figures = json!({
        "accounts": all, "rate": args.rate, "counted_s": counted.as_secs_f64(),
        "spread_s": spread.as_secs_f64(), "fastest_second": fastest,
        "killed_at_s": killed.map(|(at, _)| at.as_secs_f64()),
        "replaced_after_s": killed.map(|(_, took)| took.as_secs_f64()),
        "failed": load.failed.load(Ordering::Relaxed),
        "reads": compared("reads", &load.reads)?, "binds": compared("binds", &load.binds)?,
    });
    drop(worker);
    api.stop().await?;
    database.close().await?;
    world.stop().await?;
    Ok(figures)
}

/// The stack writes its configuration; the rate is not among its options.
fn set_rate(world: &World, rate: u32) -> anyhow::Result<()> {
    let file = &world.stack.address.config;
    let text = std::fs::read_to_string(file)?;
    ensure!(
        text.contains("[worker]\n"),
        "no [worker] in the configuration"
    );
    let line = format!("[worker]\ncatalog_accounts_per_second = {rate}\n");
    std::fs::write(file, text.replacen("[worker]\n", &line, 1))?;
    Ok(())
}

async fn behind(database: &mut PgConnection, version: i64) -> anyhow::Result<i64> {
    let row = sqlx::query("select count(*) from entitlement_snapshots where catalog_version < $1")
        .bind(version)
        .fetch_one(database)
        .await?;
    Ok(row.get(0))
}

/// The most accounts that any second reached.
fn per_second(series: &[(f64, i64)], all: i64) -> i64 {
    let mut before = (0.0, all);
    let mut most = 0.0_f64;
    for (at, left) in series {
        most = most.max((before.1 - left) as f64 / (at - before.0).max(0.001));
        before = (*at, *left);
    }
    most as i64
}

fn token(world: &World, subject: &str, scope: &str) -> anyhow::Result<String> {
    let mut token = IdentityToken::of(subject);
    token.claims.insert("scope".into(), scope.into());
    Ok(world.stack.sandbox.identity_token(&token)?)
}

/// The yearly plan grants one thing more: every account is told.
async fn apply(world: &World, channel: &Channel) -> anyhow::Result<i64> {
    let text = EXAMPLE_CATALOG
        .replace(
            "grants = [\"pro_access\", \"export\"]",
            "grants = [\"pro_access\", \"export\", \"fresh\"]",
        )
        .replace(
            "[entitlements.export]",
            "[entitlements.export]\n[entitlements.fresh]",
        );
    let bearer = Bearer::of(&token(world, "ann", "entitled.admin")?)?;
    let mut catalogs = CatalogServiceClient::with_interceptor(channel.clone(), bearer);
    let request = ApplyCatalogRequest {
        catalog: Some(WantedCatalog {
            wanted: Some(Wanted::Text(text)),
        }),
        reason: "a bench".into(),
        ..Default::default()
    };
    let mut stream = catalogs.apply_catalog(request).await?.into_inner();
    while let Some(message) = stream.message().await? {
        if let Some(Event::AppliedVersion(version)) = message.event {
            return Ok(version);
        }
    }
    bail!("the catalog was not applied")
}

/// One stream for each genuine account; counts those that were told of the new entitlement.
async fn watch_all(users: &[users::User], channel: &Channel) -> anyhow::Result<Arc<AtomicUsize>> {
    use entitled::proto::watch_entitlements_response::Event;
    let told = Arc::<AtomicUsize>::default();
    for user in users {
        let mut client = Client::over(channel.clone(), &user.token)?;
        let request = WatchEntitlementsRequest::default();
        let mut stream = client.inner.watch_entitlements(request).await?.into_inner();
        let told = Arc::clone(&told);
        tokio::spawn(async move {
            while let Ok(Some(message)) = stream.message().await {
                if let Some(Event::Snapshot(snapshot)) = message.event
                    && snapshot
                        .entitlements
                        .iter()
                        .any(|e| e.id == "fresh" && e.active)
                {
                    told.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        });
    }
    Ok(told)
}

/// A backend reads accounts drawn from all of them: most are not in any cache.
async fn spawn_reads(
    world: &World,
    database: &mut PgConnection,
    channel: &Channel,
    load: &Load,
    per_second: u32,
) -> anyhow::Result<JoinHandle<()>> {
    let accounts: Vec<Uuid> =
        sqlx::query_scalar("select account_id from entitlement_snapshots order by random()")
            .fetch_all(database)
            .await?;
    let client = Client::over(
        channel.clone(),
        &token(world, "backend", "entitled.service")?,
    )?;
    let (changing, stop) = (Arc::clone(&load.changing), Arc::clone(&load.stop));
    let (times, failed) = (Arc::clone(&load.reads), Arc::clone(&load.failed));
    Ok(tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_secs(1) / per_second);
        for account in accounts.iter().cycle() {
            pace.tick().await;
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let mut client = client.clone();
            let request = GetEntitlementsRequest {
                account: account.to_string(),
                ..Default::default()
            };
            let (during, times) = (changing.load(Ordering::Relaxed), Arc::clone(&times));
            let failed = Arc::clone(&failed);
            tokio::spawn(async move {
                let sent = Instant::now();
                match client.inner.get_entitlements(request).await {
                    Ok(_) => keep(&times, during, sent),
                    Err(_) => {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    }))
}

/// New customers bind what they have just bought.
async fn spawn_binds(
    world: &World,
    channel: &Channel,
    load: &Load,
    args: &CatalogArgs,
) -> anyhow::Result<JoinHandle<()>> {
    let seconds = 2 * args.quiet_seconds + 3 * args.accounts.unsigned_abs() / u64::from(args.rate);
    let count = u64::from(args.binds) * seconds;
    let mut buyers = Vec::new();
    for number in 0..count {
        let customer = format!("buyer-{number}");
        let buy = AppStoreBuy {
            customer: customer.clone(),
            product_id: "com.example.premium.yearly".into(),
            ..AppStoreBuy::default()
        };
        let bought = world.stack.sandbox.buy_app_store(&buy).await?;
        let token = world
            .stack
            .sandbox
            .identity_token(&IdentityToken::of(&customer))?;
        let client = Client::over(channel.clone(), &token)?;
        buyers.push((client, bought.signed_transaction));
    }
    let (changing, stop) = (Arc::clone(&load.changing), Arc::clone(&load.stop));
    let (times, failed) = (Arc::clone(&load.binds), Arc::clone(&load.failed));
    let per_second = args.binds;
    Ok(tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_secs(1) / per_second);
        for (mut client, transaction) in buyers {
            pace.tick().await;
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let (during, times) = (changing.load(Ordering::Relaxed), Arc::clone(&times));
            let failed = Arc::clone(&failed);
            tokio::spawn(async move {
                let sent = Instant::now();
                match client.bind_app_store(&transaction).await {
                    Ok(_) => keep(&times, during, sent),
                    Err(_) => {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    }))
}

fn keep(times: &Timed, during: bool, sent: Instant) {
    let took = micros(sent.elapsed());
    if let Ok(mut times) = times.lock() {
        times.push((during, took));
    }
}

fn compared(what: &str, times: &Timed) -> anyhow::Result<Value> {
    let times = times.lock().ok().context("nobody timed to the end")?;
    let of = |changing: bool| {
        let of = times.iter().filter(|(during, _)| *during == changing);
        Samples::new(of.map(|(_, took)| *took))
    };
    let (quiet, during) = (of(false), of(true));
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        what.to_owned(),
        format!("without ({})", quiet.len()),
        format!("with a change ({})", during.len()),
        "ratio".to_owned(),
    ]);
    for (name, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
        let (a, b) = (quiet.percentile_ms(share), during.percentile_ms(share));
        table.add_row([
            format!("{name} ms"),
            format!("{a:.1}"),
            format!("{b:.1}"),
            format!("{:.2}", b / a),
        ]);
    }
    println!("{table}");
    Ok(json!({ "without": quiet.json(), "with": during.json() }))
}
