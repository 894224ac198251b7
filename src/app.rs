//! The one place that builds the world: configuration in, running roles out, two-stage shutdown.

mod idle;
pub(crate) mod look;
pub(crate) mod settings;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use self::idle::IdleProbe;
use self::idle::{idle, idle_answer};
use self::settings::{hint_bus, settings};
use crate::clock::{Clock, ClockReading, VirtualClock};
use crate::config::{Config, GrpcConfig, Mode};
use crate::domain::catalog::Catalog;
use crate::edge::{Edge, Tls, TrustedProxies};
use crate::flows::api_keys::KeyRing;
use crate::flows::apply_catalog::CatalogError;
use crate::flows::count_effect::Ground;
use crate::flows::{Core, apply_catalog};
use crate::grpc::ConnectionThreads;
use crate::grpc::auth::Authenticator;
use crate::http::HttpClient;
use crate::providers::app_store::AppStore;
use crate::providers::google_play::GooglePlay;
use crate::providers::registry::Stores;
use crate::providers::superwall::Superwall;
use crate::storage::keyring::Keyring;
use crate::storage::{Db, deployment, snapshots};
use crate::watch::{Hub, HubOptions};
use crate::{encryption, grpc, jobs, telemetry, watch, webhooks};

const STORE_CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long roles may take to end once told to.
const DRAIN_MAX: Duration = Duration::from_secs(15);

/// How long a followed clock may take to tell its next change.
const FOLLOW_WAIT: Duration = Duration::from_secs(30);
const FOLLOW_PAUSE: Duration = Duration::from_millis(50);

/// Which roles a process plays.
#[derive(Clone, Copy, Debug)]
pub struct Roles {
    /// The gRPC API.
    pub serve: bool,
    /// The listener for store notifications.
    pub webhooks: bool,
    /// The reconciler and the jobs.
    pub worker: bool,
}

impl Roles {
    /// Everything in one process.
    pub const ALL: Self = Self {
        serve: true,
        webhooks: true,
        worker: true,
    };
}

/// A running server.
pub struct App {
    core: Arc<Core>,
    grpc: Option<SocketAddr>,
    is_tls: bool,
    webhooks: Option<SocketAddr>,
    admin: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    /// Connections to the database may have been opened on them: they end after its pool.
    threads: Option<Arc<ConnectionThreads>>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("grpc", &self.grpc)
            .field("webhooks", &self.webhooks)
            .finish()
    }
}

impl App {
    /// Starts `roles`; `clock` replaces the configured clock where the store simulator runs in the
    /// same process (never in production).
    ///
    /// # Errors
    /// A contradiction in the configuration, or the first thing that could not be had.
    pub async fn start(config: Config, roles: Roles, clock: Option<Clock>) -> anyhow::Result<Self> {
        telemetry::init_metrics();
        let core = build_core(&config, clock, CatalogFile::Apply).await?;
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let threads = match roles.serve {
            true => Some(Arc::new(connection_threads(&config.grpc)?)),
            false => None,
        };
        let (grpc, for_operators) = match &threads {
            Some(threads) => {
                let started = start_grpc(&config, &core, threads, &mut tasks, &stop).await?;
                (Some(started.0), Some(started.1))
            }
            None => (None, None),
        };
        let webhooks = match roles.webhooks {
            true => Some(start_webhooks(&config, &core, &mut tasks, &stop).await?),
            false => None,
        };
        if roles.webhooks {
            tasks.spawn(jobs::keep_beating(Arc::clone(&core), stop.clone()));
        }
        if roles.worker {
            tasks.spawn(jobs::run(Arc::clone(&core), stop.clone()));
        }
        let (relayed, relay_stop) = (Arc::clone(&core), stop.clone());
        tasks.spawn(async move { relayed.relay(relay_stop).await });
        let file = config.catalog.as_deref();
        let file = file.map(|file| catalog_text(file).map_err(|error| format!("{error:#}")));
        tasks.spawn(jobs::follow_catalog(Arc::clone(&core), file, stop.clone()));
        tasks.spawn(jobs::follow_keys(Arc::clone(&core), stop.clone()));
        tasks.spawn(telemetry::keep_up(stop.clone()));
        let admin = start_admin(&config, &core, for_operators, &mut tasks, &stop).await?;
        info!(?grpc, ?webhooks, %admin, worker = roles.worker, "running");
        Ok(Self {
            core,
            grpc,
            is_tls: config.grpc.tls_certificate.is_some(),
            webhooks,
            admin,
            stop,
            tasks,
            threads,
        })
    }

    /// Where the gRPC API listens, as a URL.
    pub fn grpc_url(&self) -> Option<String> {
        let scheme = if self.is_tls { "https" } else { "http" };
        self.grpc.map(|address| format!("{scheme}://{address}"))
    }

    /// Where store notifications are taken, as a URL without path.
    pub fn webhooks_url(&self) -> Option<String> {
        self.webhooks.map(|address| format!("http://{address}"))
    }

    /// Where metrics and health are served, as a URL.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Returns once nothing is due and nothing is in flight, at most after `patience`: what a
    /// simulator waits for between two moments. `false` if there was still work.
    pub async fn idle(&self, patience: Duration) -> bool {
        idle(&self.core, patience).await
    }

    /// The same as `idle`, as a handle that outlives a borrow.
    pub fn idle_probe(&self) -> IdleProbe {
        IdleProbe::of(Arc::clone(&self.core))
    }

    /// Ends streams and requests, then the roles; what is left after a while is dropped, which
    /// loses nothing: every step is safe to repeat.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
            error!("some work did not end in time; it is done again after the next start");
            self.tasks.shutdown().await;
        }
        let _ = tokio::time::timeout(Duration::from_secs(2), self.core.db.close()).await;
        if let Some(threads) = self.threads.take().and_then(Arc::into_inner) {
            threads.end().await;
        }
    }

    /// Runs until a role fails.
    pub async fn failed(&mut self) {
        self.tasks.join_next().await;
    }
}

/// What the configured catalog file means to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CatalogFile {
    /// A server applies it: before it starts if nothing is active yet, else while it serves.
    Apply,
    /// A command works by what is active.
    Ignore,
    /// The same for a command that may apply the first, or replace one that cannot be read: nothing
    /// need be active.
    MayBeFirst,
}

/// The database and business time, as the configuration names them; nothing else is needed to look
/// at catalogs. A database that is nobody's yet stays so: no mode is claimed, no root key made.
pub(crate) async fn open(config: &Config, clock: Option<Clock>) -> anyhow::Result<(Db, Clock)> {
    check(config, clock.as_ref())?;
    let db = migrated(config).await?;
    let db = look::unclaimed(config, db).await?;
    timed(config, db, clock).await
}

/// The same for a server: the first one makes the database its own.
async fn open_to_serve(config: &Config, clock: Option<Clock>) -> anyhow::Result<(Db, Clock)> {
    check(config, clock.as_ref())?;
    let db = migrated(config).await?;
    let keys = encryption::providers::of(&config.encryption)?;
    let keyring = Keyring::open(&db, keys, config.encryption.seals()).await?;
    let mode = mode_of(config);
    let kept = deployment::claim_mode(&db, mode).await?;
    check_mode(&kept, mode)?;
    timed(config, db.with_keyring(keyring), clock).await
}

async fn timed(config: &Config, db: Db, clock: Option<Clock>) -> anyhow::Result<(Db, Clock)> {
    let clock = match clock {
        Some(clock) => clock,
        None => clock_of(config).await?,
    };
    Ok((db, clock))
}

fn check(config: &Config, clock: Option<&Clock>) -> anyhow::Result<()> {
    let problems = config.validate();
    if !problems.is_empty() {
        bail!(
            "the configuration contradicts itself:\n  - {}",
            problems.join("\n  - ")
        );
    }
    if config.mode == Mode::Production && matches!(clock, Some(Clock::Virtual(_))) {
        bail!("a production configuration refuses a virtual clock");
    }
    Ok(())
}

fn mode_of(config: &Config) -> &'static str {
    match config.mode {
        Mode::Production => "production",
        Mode::Development => "development",
    }
}

fn check_mode(kept: &str, mode: &str) -> anyhow::Result<()> {
    if kept != mode {
        bail!("this is a {kept} server's database; a {mode} configuration must not touch it");
    }
    Ok(())
}

async fn migrated(config: &Config) -> anyhow::Result<Db> {
    let database = &config.database;
    let db = Db::open(database.url.expose_secret(), database.connections_max)?;
    check_migrated(&db).await?;
    Ok(db)
}

async fn check_migrated(db: &Db) -> anyhow::Result<()> {
    let reached = db.is_migrated().await;
    if !reached.context("the database cannot be reached")? {
        bail!("the database is not migrated; run `entitled migrate` first");
    }
    Ok(())
}

/// The parts that every role and every operator command share.
pub(crate) async fn build_core(
    config: &Config,
    clock: Option<Clock>,
    catalog: CatalogFile,
) -> anyhow::Result<Arc<Core>> {
    let (db, clock) = match catalog {
        CatalogFile::Apply => open_to_serve(config, clock).await?,
        CatalogFile::Ignore | CatalogFile::MayBeFirst => open(config, clock).await?,
    };
    let catalog = match (apply_catalog::load(&db).await, catalog, &config.catalog) {
        // There is nothing to serve by.
        (Err(CatalogError::None), CatalogFile::Apply, Some(path)) => {
            let ground = Ground {
                db: &db,
                leniency: settings(config).policy.leniency,
                now: clock.now(),
            };
            apply_catalog::start_with(&ground, &catalog_text(path)?).await?
        }
        (
            Err(CatalogError::None | CatalogError::ActiveUnreadable { .. }),
            CatalogFile::MayBeFirst,
            _,
        ) => Catalog::none(),
        (active, _, _) => active?,
    };
    let stores = build_stores(config)?;
    let core = assemble(config, db, clock, catalog, stores).await?;
    Ok(Arc::new(core))
}

async fn assemble(
    config: &Config,
    db: Db,
    clock: Clock,
    catalog: Catalog,
    stores: Stores,
) -> anyhow::Result<Core> {
    let catalog = apply_catalog::handle(catalog);
    let epoch = snapshots::epoch(&db).await?;
    let (hub, queue) = Hub::new(
        db.clone(),
        hint_bus(&config.hints, &db),
        Arc::clone(&catalog),
        epoch,
        grpc::encode_snapshot,
        HubOptions::default(),
    );
    Ok(Core::new(
        db,
        stores,
        clock,
        hub,
        catalog,
        settings(config),
        queue,
    ))
}

fn catalog_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path)
        .with_context(|| format!("the catalog {} cannot be read", path.display()))
}

fn build_stores(config: &Config) -> anyhow::Result<Stores> {
    let http = HttpClient::new(STORE_CALL_TIMEOUT)?;
    let superwall = config.superwall.as_ref().map(Superwall::new).transpose()?;
    Ok(Stores {
        app_store: app_store(config, &http)?,
        google_play: google_play(config, &http)?,
        superwall,
    })
}

fn app_store(config: &Config, http: &HttpClient) -> anyhow::Result<Option<AppStore>> {
    let made = config.app_store.as_ref();
    let made = made.map(|section| AppStore::new(section, http.clone()));
    Ok(made.transpose()?)
}

fn google_play(config: &Config, http: &HttpClient) -> anyhow::Result<Option<GooglePlay>> {
    let made = config.google_play.as_ref();
    let made = made.map(|section| GooglePlay::new(section, http));
    Ok(made.transpose()?)
}

/// The configured business time.
pub(crate) async fn clock_of(config: &Config) -> anyhow::Result<Clock> {
    match &config.clock.follow {
        Some(url) => follow_clock(url.clone()).await,
        None => Ok(Clock::System),
    }
}

/// A clock that follows a store simulator in another process: its time, its rate, and the moment
/// that it does not run past.
async fn follow_clock(url: String) -> anyhow::Result<Clock> {
    let http = HttpClient::new(FOLLOW_WAIT)?;
    let url: reqwest::Url = url.parse().context("clock.follow is not a URL")?;
    let first = read_clock(&http, &url).await?;
    let clock = VirtualClock::stopped(first.now);
    clock.follow(&first);
    let followed = clock.clone();
    tokio::spawn(async move {
        let mut seen = first.version;
        let mut lost = false;
        loop {
            let mut next = url.clone();
            next.query_pairs_mut()
                .append_pair("after", &seen.to_string());
            let reading = read_clock(&http, &next).await;
            match &reading {
                Ok(reading) => {
                    followed.follow(reading);
                    lost = false;
                }
                Err(error) if !lost => {
                    warn!(
                        error = format!("{error:#}"),
                        "business time is no longer followed"
                    );
                    lost = true;
                }
                Err(_) => {}
            }
            // One that does not wait for a change is not hammered.
            match reading {
                Ok(reading) if reading.version != seen => seen = reading.version,
                Ok(_) | Err(_) => tokio::time::sleep(FOLLOW_PAUSE).await,
            }
        }
    });
    Ok(clock.into())
}

async fn read_clock(http: &HttpClient, url: &reqwest::Url) -> anyhow::Result<ClockReading> {
    let answer = http
        .get(url.clone())
        .await
        .context("the simulator's clock cannot be read")?;
    Ok(serde_json::from_slice(&answer.body)?)
}

fn connection_threads(grpc: &GrpcConfig) -> anyhow::Result<ConnectionThreads> {
    let count = grpc
        .connection_threads
        .unwrap_or_else(ConnectionThreads::count_default);
    ConnectionThreads::start(count).context("no thread for connections")
}

async fn start_grpc(
    config: &Config,
    core: &Arc<Core>,
    threads: &Arc<ConnectionThreads>,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> anyhow::Result<(SocketAddr, grpc::OperatorApi)> {
    let listener = bind(config.grpc.listen, "grpc.listen").await?;
    let address = listener.local_addr()?;
    let http = HttpClient::new(STORE_CALL_TIMEOUT)?;
    let tokens = config.tokens.as_ref().map(grpc::Tokens::load).transpose()?;
    let ring = Arc::new(KeyRing::new(core.db.clone()));
    let mut authenticator =
        Authenticator::new(config.issuers.0.clone(), http)?.with_api_keys(Arc::clone(&ring));
    if let Some(tokens) = &tokens {
        authenticator = authenticator.with_own(tokens.signer(), tokens.namespaces())?;
    }
    let authenticator = Arc::new(authenticator);
    authenticator.preload().await;
    tasks.spawn(ring.keep_current(stop.clone()));
    let proxies = TrustedProxies::parse(&config.grpc.trusted_proxies, config.grpc.forwarded_by)
        .map_err(|text| anyhow!("grpc.trusted_proxies: {text:?} is no address or network"))?;
    let tls = tls(&config.grpc)?;
    if let Some(tls) = tls.clone() {
        tasks.spawn(tls.keep_current(stop.clone()));
    }
    let by_proxy = config.grpc.proxy_protocol;
    let edge = Edge::new(&config.limits, proxies.clone(), by_proxy, tls);
    let for_operators = grpc::for_operators(Arc::clone(core), Arc::clone(&authenticator))?;
    let options = grpc::ServeOptions {
        core: Arc::clone(core),
        authenticator,
        tokens: tokens.map(Arc::new),
        proxies,
        limits: config.limits,
        edge: Arc::new(edge),
        reflection: config.reflection(),
        operators: config.grpc.operators,
        threads: Arc::clone(threads),
        stop: stop.clone(),
    };
    tasks.spawn(watch::run_sync(core.hub.clone(), stop.clone()));
    tasks.spawn(watch::follow_endings(core.hub.clone(), stop.clone()));
    tasks.spawn(async move {
        if let Err(cause) = grpc::serve(listener, options).await {
            error!(%cause, "the gRPC listener ended");
        }
    });
    Ok((address, for_operators))
}

/// The API without a socket, for commands of `actor` on the database host.
pub(crate) fn host_api(
    config: &Config,
    core: Arc<Core>,
    actor: &str,
) -> anyhow::Result<grpc::Carrier> {
    let http = HttpClient::new(STORE_CALL_TIMEOUT)?;
    let authenticator = Authenticator::new(config.issuers.0.clone(), http)?;
    Ok(grpc::in_process(core, Arc::new(authenticator), actor))
}

fn tls(grpc: &GrpcConfig) -> anyhow::Result<Option<Tls>> {
    let (Some(certificate), Some(key)) = (&grpc.tls_certificate, &grpc.tls_key) else {
        return Ok(None);
    };
    Tls::load(certificate.clone(), key.clone()).map(Some)
}

async fn start_webhooks(
    config: &Config,
    core: &Arc<Core>,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let listener = bind(config.webhooks.listen, "webhooks.listen").await?;
    let address = listener.local_addr()?;
    let (core, stop) = (Arc::clone(core), stop.clone());
    tasks.spawn(async move {
        if let Err(cause) = webhooks::serve(listener, core, stop).await {
            error!(%cause, "the webhook listener ended");
        }
    });
    Ok(address)
}

async fn start_admin(
    config: &Config,
    core: &Arc<Core>,
    for_operators: Option<grpc::OperatorApi>,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let listener = bind(config.admin.listen, "admin.listen").await?;
    let address = listener.local_addr()?;
    let (core, stop) = (Arc::clone(core), stop.clone());
    let idle = (config.mode == Mode::Development).then(|| idle_answer(&core));
    tasks.spawn(async move {
        let ready = move || {
            let db = core.db.clone();
            async move { snapshots::epoch(&db).await.is_ok() }
        };
        if let Err(cause) = telemetry::serve(listener, ready, idle, for_operators, stop).await {
            error!(%cause, "the admin listener ended");
        }
    });
    Ok(address)
}

async fn bind(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{setting}: cannot listen on {address}"))
}
