//! The simulator by itself, for any server under test.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use super::files::{self, Written};
use super::run::read_scenario;
use crate::cli::stack::{EXAMPLE_CATALOG, store_setup};
use crate::clock::{Clock, VirtualClock};
use crate::domain::ids::CatalogVersion;
use crate::flows::apply_catalog;
use crate::sandbox::{Environment, Manifest, Options, Sandbox, StoreSetup, Webhooks};

pub(super) const EXAMPLES: &str = "\
Examples:
  entitled sandbox --dir stores
      The example app's products on http://127.0.0.1:8090; the clock runs with the machine's.
  entitled sandbox --dir stores --clock stopped --start 2027-01-01 \\
      --app-store-webhook http://localhost:3000/apple \\
      --google-play-webhook http://localhost:3000/google
      Your server is told what happens; time moves when you say so:
      curl -d '{\"by\":\"1mo\"}' -H 'content-type: application/json' \\
          http://127.0.0.1:8090/control/advance
  entitled sandbox --dir stores --products scenarios/happy-year.toml --environment sandbox
      The products of a scenario, as Apple's sandbox and Google's licence testers see them.

The directory keeps keys and what was bought: start again with it and everything is still there.";

#[derive(Args)]
pub(super) struct AloneArgs {
    /// Where keys, credentials and what customers own are kept, and the manifest is written
    #[arg(long, default_value = ".entitled/sandbox")]
    dir: PathBuf,
    /// Port of stores, control API and page
    #[arg(long, default_value_t = 8090)]
    port: u16,
    /// Address to listen on; whoever reaches it can drive the stores
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,
    /// Source of every id and of Apple's keys, in a fresh directory: the same seed and the same doings
    /// give the same documents; who knows the seed can sign them too
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where the stores' clock starts in a fresh directory: 2027-01-01 or 2027-01-01T09:00:00Z;
    /// default: now
    #[arg(long, value_parser = parse_start)]
    start: Option<DateTime<Utc>>,
    /// How the stores' clock runs: `real`, `stopped` until it is advanced, or `x60`: a minute each
    /// second
    #[arg(long, value_parser = parse_pace, default_value = "real")]
    clock: Pace,
    /// Which of the stores' worlds is played
    #[arg(long, value_enum, default_value_t = World::Production)]
    environment: World,
    /// What is sold: a server's catalog (TOML); default: the example app's
    #[arg(long, conflicts_with = "products")]
    catalog: Option<PathBuf>,
    /// What is sold: the products of a scenario (TOML), or the simulator's own form (JSON)
    #[arg(long)]
    products: Option<PathBuf>,
    /// Where Apple sends App Store Server Notifications
    #[arg(long, value_name = "URL")]
    app_store_webhook: Option<String>,
    /// Where Pub/Sub pushes Google's real-time developer notifications
    #[arg(long, value_name = "URL")]
    google_play_webhook: Option<String>,
    /// Where Superwall sends its webhooks
    #[arg(long, value_name = "URL")]
    superwall_webhook: Option<String>,
    /// Answer however often a server calls: the stores' rate limits count the machine's time, and
    /// months of the stores' time may pass in a minute of it
    #[arg(long)]
    no_rate_limits: bool,
    /// Where the server under test answers 200 once it has nothing left to do; asked between
    /// events, with ?wait=MILLISECONDS&at=BUSINESS_TIME
    #[arg(long, value_name = "URL")]
    idle_url: Option<String>,
}

#[derive(Clone, Copy)]
enum Pace {
    Real,
    Stopped,
    Scaled(f64),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum World {
    Production,
    Sandbox,
}

impl From<World> for Environment {
    fn from(world: World) -> Self {
        match world {
            World::Production => Self::Production,
            World::Sandbox => Self::Sandbox,
        }
    }
}

fn parse_start(text: &str) -> Result<DateTime<Utc>, String> {
    let day = || {
        let day = text.parse::<NaiveDate>().ok()?;
        Some(day.and_hms_opt(0, 0, 0)?.and_utc())
    };
    text.parse()
        .ok()
        .or_else(day)
        .ok_or_else(|| "write 2027-01-01 or 2027-01-01T09:00:00Z".to_owned())
}

fn parse_pace(text: &str) -> Result<Pace, String> {
    match text {
        "real" => Ok(Pace::Real),
        "stopped" => Ok(Pace::Stopped),
        _ => text
            .strip_prefix('x')
            .and_then(|rate| rate.parse().ok())
            .filter(|rate: &f64| rate.is_finite() && *rate > 0.0)
            .map(Pace::Scaled)
            .ok_or_else(|| "write real, stopped, or x60 and the like".to_owned()),
    }
}

pub(super) async fn run(args: AloneArgs) -> anyhow::Result<()> {
    let dir = std::path::absolute(&args.dir)?;
    let start = args.start.unwrap_or_else(|| Clock::System.now());
    let clock = match args.clock {
        Pace::Real => VirtualClock::running(start),
        Pace::Stopped => VirtualClock::stopped(start),
        Pace::Scaled(rate) => VirtualClock::scaled(start, rate),
    };
    let options = Options {
        seed: args.seed,
        dir: Some(dir.clone()),
        bind: args.bind,
        port: args.port,
        idle_url: args.idle_url.clone(),
        ..Options::new(setup(&args)?, clock)
    };
    crate::cli::stack::make_dir(&dir)?;
    let sandbox = Sandbox::start(options).await.with_context(|| {
        format!(
            "the stores cannot start; is port {} taken? --port gives another",
            args.port
        )
    })?;
    let webhooks = Webhooks {
        app_store: args.app_store_webhook.clone(),
        google_play: args.google_play_webhook.clone(),
        superwall: args.superwall_webhook.clone(),
    };
    if webhooks != Webhooks::default() {
        sandbox.set_webhooks(webhooks)?;
    }
    sandbox.enforce_rate_limits(!args.no_rate_limits);
    let manifest = sandbox.manifest();
    introduce(&sandbox, &manifest, &files::write(&dir, &manifest)?);
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    println!("stopping…");
    sandbox.shutdown().await;
    Ok(())
}

fn setup(args: &AloneArgs) -> anyhow::Result<StoreSetup> {
    let read = |file: &Path| {
        std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
    };
    if let Some(file) = &args.products
        && file
            .extension()
            .is_some_and(|extension| extension == "toml")
    {
        let scenario = read_scenario(file)?;
        return Ok(StoreSetup {
            environment: args.environment.into(),
            ..scenario.store_setup()
        });
    }
    if let Some(file) = &args.products {
        let setup: StoreSetup = serde_json::from_str(&read(file)?)
            .with_context(|| format!("{}: not a list of products", file.display()))?;
        if setup.app_store.is_empty() && setup.google_play.is_empty() {
            bail!("{}: nothing is sold", file.display());
        }
        return Ok(StoreSetup {
            environment: args.environment.into(),
            ..setup
        });
    }
    let catalog = match &args.catalog {
        Some(file) => read(file)?,
        None => EXAMPLE_CATALOG.to_owned(),
    };
    let catalog = apply_catalog::parse(&catalog, CatalogVersion(0))?;
    store_setup(&catalog, args.environment.into())
}

fn introduce(sandbox: &Sandbox, manifest: &Manifest, written: &[Written]) {
    let push = &manifest.push;
    println!(
        "The stores are open at {}\n\
         \n  control API   {}\
         \n  their time    {}\n",
        sandbox.base_url(),
        manifest.control_url,
        sandbox.now().format("%F %T UTC"),
    );
    println!("Written for the server under test (private keys: keep them to yourself):\n");
    for file in written {
        println!("  {}  {}", file.path.display(), file.purpose);
    }
    println!(
        "\nPoint the server at them instead of at Apple and Google:\n\
         \n  App Store Server API    {}\
         \n    issuer id             {}\
         \n    key id                {}\
         \n    bundle id, app id     {}, {}\
         \n    trusted root          apple-root.pem or apple-root.der, and no other\
         \n  Google Play API         {}\
         \n    package               {}\
         \n    access tokens         service-account.json names its token_uri\
         \n  Pub/Sub pushes\
         \n    issuer, keys          {}, {}\
         \n    audience, e-mail      {}, {}\
         \n    subscription          {}\n\
         \nCtrl-C stops it; the directory keeps everything.",
        manifest.app_store_api_url,
        manifest.apple_issuer_id,
        manifest.apple_key_id,
        manifest.bundle_id,
        manifest.app_apple_id,
        manifest.google_api_url,
        manifest.package_name,
        push.issuer,
        push.jwks_url,
        push.audience,
        push.email,
        push.subscription,
    );
}
