//! Puts a simulator together and serves all its interfaces on one listener.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::error::SandboxError;
use super::inner::Inner;
use super::limits::Limits;
use super::pace::Progress;
use super::recent::{self, RecentCalls};
use super::saver::Saver;
use super::setup::Options;
use super::sins::Sins;
use super::state::World;
use super::traffic::Traffic;
use super::{
    Sandbox, app_store, control, delivery, disk, google_play, identity, keys, superwall, traffic,
};

/// How long open connections may take to finish at shutdown.
const SHUTDOWN_PATIENCE: Duration = Duration::from_millis(500);

pub(super) async fn build(options: Options, address: SocketAddr) -> Result<Inner, SandboxError> {
    let host = match address.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    let base_url = format!("http://{}", SocketAddr::new(host, address.port()));
    let dir_lock = options.dir.as_deref().map(disk::lock).transpose()?;
    let (dir, seed) = (options.dir.clone(), options.seed);
    let ocsp = format!("{base_url}/apple/ocsp");
    // RSA keys take a while to make.
    let (keys, identity) = tokio::task::spawn_blocking(move || {
        let dir = dir.as_deref();
        keys::load_or_generate(&keys::Origin { seed, dir, ocsp })
    })
    .await
    .map_err(|error| SandboxError::Key(error.to_string()))??;
    let superwall_secrets = superwall::Secrets::load_or_generate(options.dir.as_deref())?;
    let kept = options.dir.clone().filter(|_| !options.fresh);
    let mut world = World::load_or_new(kept.as_deref(), options.seed, &options.setup)?;
    if let Some(sins) = options.sins {
        world.sins = checked(sins)?;
    }
    let traffic = Traffic::new(world.ids.seed(), world.sins.calls);
    options.clock.advance_to(world.time);
    let progress = Progress::at(options.clock.now());
    Ok(Inner {
        client: delivery::client()?,
        setup: options.setup,
        dir: options.dir,
        dir_lock: Mutex::new(dir_lock),
        clock: options.clock,
        keys,
        identity: Mutex::new(identity),
        world: Mutex::new(world),
        recent: RecentCalls::default(),
        traffic,
        limits: Limits::default(),
        ocsp: Mutex::default(),
        superwall_secrets: Mutex::new(superwall_secrets),
        apple_caller: app_store::LastToken::default(),
        google_tokens: google_play::oauth::Tokens::default(),
        base_url,
        playing: tokio::sync::Mutex::new(()),
        planned: Notify::new(),
        idle_hook: Mutex::new(None),
        idle_url: Mutex::new(options.idle_url),
        followed: Mutex::default(),
        pace: Mutex::new(options.pace),
        progress: watch::Sender::new(progress),
        saver: Saver::default(),
        changed: watch::Sender::new(()),
        journey: watch::Sender::new(None),
        loopback_only: address.ip().is_loopback(),
    })
}

/// Sins that can be committed.
pub(super) fn checked(sins: Sins) -> Result<Sins, SandboxError> {
    match sins.fault() {
        Some(fault) => Err(SandboxError::Refused(fault)),
        None => Ok(sins),
    }
}

pub(super) fn router(sandbox: &Sandbox) -> Router {
    stores(sandbox).merge(control::routes(sandbox))
}

/// What the stores and the identity provider answer.
pub(super) fn stores(sandbox: &Sandbox) -> Router {
    Router::new()
        .nest("/apple", app_store::api::routes())
        .nest("/google", google_play::api::routes())
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&sandbox.inner),
            traffic::suffer,
        ))
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&sandbox.inner),
            recent::remember,
        ))
        .nest("/identity", identity::routes())
        .with_state(Arc::clone(&sandbox.inner))
}

/// Serves until told to stop, and a little longer for requests under way.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let served =
        axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let impatient = async {
        stop.cancelled().await;
        tokio::time::sleep(SHUTDOWN_PATIENCE).await;
    };
    tokio::select! {
        served = served.into_future() => if let Err(error) = served {
            tracing::error!(%error, "the simulator's listener broke");
        },
        () = impatient => {}
    }
}
