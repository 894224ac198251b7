//! Logs, metrics, and the listener that only operators reach.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::http::{Request, Response, StatusCode};
use axum::routing::get;
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower::util::BoxCloneSyncService;
use tracing_subscriber::EnvFilter;

/// A question is not kept waiting for longer.
const IDLE_WAIT_MAX: Duration = Duration::from_secs(60);

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// For people, on standard error.
    Text,
}

/// Starts logging by `RUST_LOG` (default `default_filter`); a second call changes nothing.
pub fn init_logs(format: LogFormat, default_filter: &str) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_filter));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let _ = match format {
        LogFormat::Json => logs.json().try_init(),
        LogFormat::Text => logs.with_target(false).try_init(),
    };
}

/// Starts recording metrics in this process; a second call changes nothing.
pub fn init_metrics() {
    METRICS.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        // Fails only if another recorder is installed: then that one records.
        let _ = metrics::set_global_recorder(recorder);
        handle
    });
}

/// Keeps recorded samples from piling up where nobody scrapes them.
pub(crate) async fn keep_up(stop: CancellationToken) {
    let upkeep = async {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            if let Some(metrics) = METRICS.get() {
                metrics.run_upkeep();
            }
        }
    };
    stop.run_until_cancelled(upkeep).await;
}

/// What a store simulator asks between two moments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdleQuestion {
    /// How long an answer may take.
    pub(crate) patience: Duration,
    /// The business time that must have been reached.
    pub(crate) at: Option<DateTime<Utc>>,
    /// Whether reaching it is enough, whatever is left to do.
    pub(crate) clock_only: bool,
}

/// Answers whether the server has nothing left to do, once that is so or patience is at its end.
pub(crate) type Idle = Arc<dyn Fn(IdleQuestion) -> BoxFuture<'static, bool> + Send + Sync>;

/// [`IdleQuestion`] as it is written in a URL.
#[derive(Deserialize)]
struct IdleQuery {
    /// Milliseconds.
    #[serde(default)]
    wait: u64,
    at: Option<DateTime<Utc>>,
    #[serde(default)]
    clock_only: bool,
}

/// Answers gRPC calls of operators.
pub(crate) type OperatorApi =
    BoxCloneSyncService<Request<tonic::body::Body>, Response<tonic::body::Body>, Infallible>;

/// Serves `/metrics`, `/healthz` and `/readyz` until stopped; with `idle`, in development, `/idle`;
/// and gRPC for operators, where the API is served.
pub(crate) async fn serve<F, Fut>(
    listener: TcpListener,
    ready: F,
    idle: Option<Idle>,
    api: Option<OperatorApi>,
    stop: CancellationToken,
) -> std::io::Result<()>
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = bool> + Send,
{
    let readiness = move || {
        let ready = ready.clone();
        async move {
            if ready().await {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    };
    let router = Router::new()
        .route(
            "/metrics",
            get(|| async {
                METRICS
                    .get()
                    .map(PrometheusHandle::render)
                    .unwrap_or_default()
            }),
        )
        .route("/healthz", get(|| async { StatusCode::OK }))
        .route("/readyz", get(readiness));
    let router = match idle {
        Some(idle) => router.route("/idle", get(move |question| answer_idle(idle, question))),
        None => router,
    };
    let router = match api {
        Some(api) => {
            let api = ServiceBuilder::new()
                .map_request(|request: Request<axum::body::Body>| {
                    request.map(tonic::body::Body::new)
                })
                .service(api);
            router.route_service("/{service}/{rpc}", api)
        }
        None => router,
    };
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

async fn answer_idle(idle: Idle, Query(query): Query<IdleQuery>) -> StatusCode {
    let question = IdleQuestion {
        patience: Duration::from_millis(query.wait).min(IDLE_WAIT_MAX),
        at: query.at,
        clock_only: query.clock_only,
    };
    match idle(question).await {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}
