//! A catalog change on many accounts while reads and binds go on; the worker that carries it out is
//! killed in the middle, and another one goes on. Reads and binds are timed before, during and after
//! the change, in one run.

mod load;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use entitled::cli::client::{Bearer, Client};
use entitled::cli::stack::EXAMPLE_CATALOG;
use entitled::proto::apply_catalog_response::Event;
use entitled::proto::catalog_service_client::CatalogServiceClient;
use entitled::proto::wanted_catalog::Wanted;
use entitled::proto::{
    ApplyCatalogRequest, CatalogVersion, ListCatalogVersionsRequest, WantedCatalog,
    WatchEntitlementsRequest,
};
use entitled::sandbox::IdentityToken;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, Row as _};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use uuid::Uuid;

use self::load::{Load, Phase};
use crate::child::ServerProcess;
use crate::servers::Part;
use crate::users::{self, connect};
use crate::world::World;

#[derive(Args)]
pub(crate) struct CatalogArgs {
    /// Accounts, each with a purchase
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(i64).range(1_000..))]
    accounts: i64,
    /// Accounts per second that the change may reach
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Open streams, of accounts drawn from all of them
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(i64).range(1..))]
    streams: i64,
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

/// Purchases that came all the way through a store; all others are copies of one.
const GENUINE: usize = 100;
/// A connection carries at most 256.
const STREAMS_PER_CONNECTION: usize = 125;
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// While nobody derives anything, the next account is waited for more closely.
const LOOK_CLOSELY_EVERY: Duration = Duration::from_millis(100);
/// Two batches may be saved up, and a look comes late now and then.
const PACE_TOLERANCE: f64 = 1.25;
/// How long the last pushes may take to arrive.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// Copies of one genuine account and its purchase: what a derivation reads.
pub(crate) const CROWD: &str = "
    with template as (
        select c.id, c.provider, c.app, c.head_kind, c.owner_since, s.known, e.body, e.next_transition_at
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
    ), paid as (
        insert into transactions (chain_id, transaction_id, product_id, base_plan_id, environment,
            purchased_at, amount_micros, currency, kind, expires_at)
        select d.chain, d.chain::text, t.product_id, t.base_plan_id, t.environment,
            t.purchased_at, t.amount_micros, t.currency, t.kind, t.expires_at
        from drawn d, (select * from transactions where chain_id = (select id from template)
                       and kind = 'purchase' limit 1) t
    )
    insert into entitlement_snapshots
        (account_id, revision, body, next_transition_at, catalog_version)
    select account, 1, body, next_transition_at, 1 from drawn, template";

type Catalogs = CatalogServiceClient<InterceptedService<Channel, Bearer>>;

pub(crate) async fn run(args: &CatalogArgs) -> anyhow::Result<Value> {
    let world = World::with(|options| options.catalog = EXAMPLE_CATALOG.to_owned()).await?;
    set_rate(&world, args.rate)?;
    println!(
        "catalog: {} accounts, {} a second, {} streams, {} reads and {} binds a second; {}",
        args.accounts,
        args.rate,
        args.streams,
        args.reads,
        args.binds,
        world.pinning.describe()
    );
    let api = world.serve(Part::Serve).await?;
    let worker = world.serve(Part::Ingest).await?;
    users::sign_up(&world.stack.sandbox, api.grpc()?, GENUINE).await?;
    let mut database = world.database().await?;
    // Safe: the copies refer to nothing that the constraints would miss.
    sqlx::query(CROWD)
        .bind(args.accounts - GENUINE as i64)
        .execute(&mut database)
        .await?;
    sqlx::query("analyze").execute(&mut database).await?;
    let told = watch_some(&world, &api, &mut database, args.streams).await?;
    let channel = connect(api.grpc()?).await?;
    let bearer = Bearer::of(&token(&world, "ann", "entitled.admin")?)?;
    let mut catalogs = CatalogServiceClient::with_interceptor(channel.clone(), bearer);
    let load = Load::start(&world, &mut database, &channel, args).await?;
    let quiet = Duration::from_secs(args.quiet_seconds);
    tokio::time::sleep(quiet).await;

    load.phase(Phase::Counting);
    let began = Instant::now();
    let version = apply(&mut catalogs).await?;
    let counted = began.elapsed();
    load.phase(Phase::Spreading);
    println!(
        "counted and applied as version {version} in {:.1} s",
        counted.as_secs_f64()
    );
    let spread = follow(&world, &mut catalogs, worker).await?;
    load.phase(Phase::Quiet);
    tokio::time::sleep(quiet.max(TOLD_WITHIN)).await;
    let loads = load.stop().await?;

    let derived = derived_once(&mut database, version).await?;
    let (streams, busiest) = told.counted()?;
    let expected = usize::try_from(args.streams)?;
    ensure!(
        streams == expected,
        "{streams} of {expected} streams were told"
    );
    let first = loads.first_failure.as_deref().unwrap_or("none");
    ensure!(loads.failed == 0, "{} calls failed: {first}", loads.failed);
    ensure!(
        spread.fastest <= f64::from(args.rate) * PACE_TOLERANCE,
        "{:.0} accounts in a second, and {} were allowed",
        spread.fastest,
        args.rate
    );
    let seconds = spread.took.as_secs_f64();
    println!(
        "{derived} accounts derived, each once, in {seconds:.0} s: {:.0} a second, at most {:.0} in \
         any second\nkilled after {:.0} s; the next account was derived {:.1} s later by another \
         worker\nall {streams} open streams were told, at most {busiest} in any second; no call \
         failed\n",
        derived as f64 / seconds,
        spread.fastest,
        spread.killed_at.as_secs_f64(),
        spread.stood_still.as_secs_f64(),
    );
    let figures = json!({
        "accounts": args.accounts, "rate": args.rate, "counted_s": counted.as_secs_f64(),
        "spread_s": seconds, "derived": derived, "fastest_second": spread.fastest,
        "killed_at_s": spread.killed_at.as_secs_f64(),
        "stood_still_s": spread.stood_still.as_secs_f64(),
        "streams": streams, "streams_told_in_the_busiest_second": busiest,
        "reads": load::compared("reads", &loads.reads),
        "binds": load::compared("binds", &loads.binds),
    });
    drop(spread.worker);
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

fn token(world: &World, subject: &str, scope: &str) -> anyhow::Result<String> {
    let mut token = IdentityToken::of(subject);
    token.claims.insert("scope".into(), scope.into());
    Ok(world.stack.sandbox.identity_token(&token)?)
}

/// The yearly plan grants one thing more: every account is told.
async fn apply(catalogs: &mut Catalogs) -> anyhow::Result<i64> {
    let text = EXAMPLE_CATALOG
        .replace(
            "grants = [\"pro_access\", \"export\"]",
            "grants = [\"pro_access\", \"export\", \"fresh\"]",
        )
        .replace(
            "[entitlements.export]",
            "[entitlements.export]\n[entitlements.fresh]",
        );
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

/// How a version came to all accounts.
struct Spread {
    took: Duration,
    killed_at: Duration,
    /// From the kill to the next account.
    stood_still: Duration,
    /// Accounts per second, in the fastest interval between two looks.
    fastest: f64,
    worker: ServerProcess,
}

/// Follows the version as operators do, by what the API tells; kills the worker half-way.
async fn follow(
    world: &World,
    catalogs: &mut Catalogs,
    worker: ServerProcess,
) -> anyhow::Result<Spread> {
    let began = Instant::now();
    let (mut before, mut fastest) = (None, 0.0_f64);
    let (mut worker, mut killed_at, mut stood_still) = (Some(worker), None, None);
    let mut told_percent = 0;
    loop {
        let active = active(catalogs).await?;
        let (at, left) = (began.elapsed(), active.accounts_behind);
        if let Some((last_at, last_left)) = before.replace((at, left)) {
            let seconds = (at - last_at).as_secs_f64().max(0.001);
            fastest = fastest.max((last_left - left) as f64 / seconds);
            if let (Some((killed_at, left_then)), None) = (killed_at, stood_still)
                && left < left_then
            {
                stood_still = Some(at - killed_at);
            }
        }
        let percent = 100 * (active.accounts - left) / active.accounts.max(1);
        if percent >= told_percent + 10 {
            told_percent = percent;
            println!(
                "  {percent} % after {:.0} s: {left} of {} accounts to go",
                at.as_secs_f64(),
                active.accounts
            );
        }
        if active.finish_time.is_some() {
            let (Some((killed_at, _)), Some(stood_still)) = (killed_at, stood_still) else {
                bail!("it was over before anybody was killed; give it more --accounts");
            };
            return Ok(Spread {
                took: at,
                killed_at,
                stood_still,
                fastest,
                worker: worker.context("a worker")?,
            });
        }
        if left < active.accounts / 2 && killed_at.is_none() {
            // Dropped, it is killed: SIGKILL, no clean-up.
            drop(worker.take());
            println!("  kill -9 with {left} accounts to go; another worker is started");
            let left = self::active(catalogs).await?.accounts_behind;
            killed_at = Some((at, left));
            worker = Some(world.serve(Part::Ingest).await?);
        }
        let closely = killed_at.is_some() && stood_still.is_none();
        tokio::time::sleep(if closely {
            LOOK_CLOSELY_EVERY
        } else {
            LOOK_EVERY
        })
        .await;
    }
}

/// The active version's story.
async fn active(catalogs: &mut Catalogs) -> anyhow::Result<CatalogVersion> {
    let request = ListCatalogVersionsRequest {
        page_size: 1,
        ..Default::default()
    };
    let listed = catalogs.list_catalog_versions(request).await?.into_inner();
    listed.versions.into_iter().next().context("a version")
}

/// How many accounts the change gave a revision; fails if any has two of it, or one that no event
/// tells.
async fn derived_once(database: &mut PgConnection, version: i64) -> anyhow::Result<i64> {
    let row = sqlx::query(
        "select count(*), count(distinct e.account_id),
                count(*) filter (where h.account_id is null),
                (select count(*) from entitlement_snapshots where catalog_version < $1),
                (select count(*) from entitlement_snapshots where not body @?
                     '$.entitlements[*] ? (@.id == \"fresh\" && @.sources.size() > 0)')
         from subscription_events e
         left join snapshot_history h on h.account_id = e.account_id and h.revision = e.revision
         where e.reason = 'catalog_changed'",
    )
    .bind(version)
    .fetch_one(database)
    .await?;
    let [events, accounts, unkept, behind, without] =
        [0, 1, 2, 3, 4].map(|column| row.get::<i64, _>(column));
    ensure!(
        events == accounts && unkept == 0 && behind == 0 && without == 0,
        "{events} events for {accounts} accounts; {unkept} revisions are not kept; {behind} \
         accounts are behind, {without} lack what they were to get"
    );
    Ok(events)
}

/// When each stream was told of the new entitlement.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Instant>>>);

impl Told {
    /// How many were, and how many within the busiest second.
    fn counted(&self) -> anyhow::Result<(usize, usize)> {
        let told = self.0.lock().ok().context("nobody told to the end")?;
        let mut at = told.clone();
        at.sort_unstable();
        let busiest = at.iter().enumerate().map(|(first, from)| {
            let until = *from + Duration::from_secs(1);
            at[first..].partition_point(|at| *at < until)
        });
        Ok((at.len(), busiest.max().unwrap_or(0)))
    }
}

/// Streams of accounts drawn from all of them.
async fn watch_some(
    world: &World,
    api: &ServerProcess,
    database: &mut PgConnection,
    count: i64,
) -> anyhow::Result<Told> {
    use entitled::proto::watch_entitlements_response::Event;
    let accounts: Vec<Uuid> = sqlx::query_scalar(
        "select account_id from entitlement_snapshots order by random() limit $1",
    )
    .bind(count)
    .fetch_all(database)
    .await?;
    let token = token(world, "backend", "entitled.service")?;
    let told = Told::default();
    for accounts in accounts.chunks(STREAMS_PER_CONNECTION) {
        let channel = connect(api.grpc()?).await?;
        for account in accounts {
            let mut client = Client::over(channel.clone(), &token)?;
            let request = WatchEntitlementsRequest {
                account: account.to_string(),
                ..Default::default()
            };
            let mut stream = client.inner.watch_entitlements(request).await?.into_inner();
            let told = told.clone();
            tokio::spawn(async move {
                while let Ok(Some(message)) = stream.message().await {
                    if let Some(Event::Snapshot(snapshot)) = message.event
                        && snapshot
                            .entitlements
                            .iter()
                            .any(|e| e.id == "fresh" && e.active)
                    {
                        if let Ok(mut told) = told.0.lock() {
                            told.push(Instant::now());
                        }
                        return;
                    }
                }
            });
        }
    }
    Ok(told)
}
