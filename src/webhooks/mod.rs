//! The axum sidecar that takes the stores' notifications. Nothing is thought about them here.

mod connection;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;
use tracing::debug;

use crate::domain::provider::{Provider, Source};
use crate::flows::Core;
use crate::flows::receive_notification::{Ingress, ReceiveError, receive};
use connection::Peers;

const BODY_BYTES_MAX: usize = 256 * 1024;
/// From the head's last byte to the answer; a store's own patience is 10 s and more.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Stores keep few connections; a flood waits in the kernel.
const CONNECTIONS_MAX: usize = 1_024;

#[derive(Clone)]
struct Door {
    core: Arc<Core>,
    ingress: Ingress,
}

/// Serves until stopped.
pub(crate) async fn serve(
    listener: TcpListener,
    core: Arc<Core>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let ingress = Ingress::start(core.db.clone());
    let router = Router::new()
        .route("/webhooks/app-store", post(app_store))
        .route("/webhooks/google-play", post(google_play))
        .route("/webhooks/superwall", post(superwall))
        .route("/healthz", get(|| async { StatusCode::OK }))
        .layer(RequestBodyLimitLayer::new(BODY_BYTES_MAX))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            REQUEST_TIMEOUT,
        ))
        .layer(CatchPanicLayer::new())
        .with_state(Door { core, ingress });
    let (connections, peers) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), Peers::default());
    let served = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            () = stop.cancelled() => break,
        };
        let Some((socket, peer, permit)) = accepted else {
            continue;
        };
        let Some(place) = peers.admit(peer) else {
            metrics::counter!("entitled_webhook_connections_refused_total").increment(1);
            debug!("an address has too many connections");
            continue;
        };
        let connection = connection::serve(socket, router.clone(), stop.clone());
        served.spawn(async move {
            connection.await;
            drop((place, permit));
        });
    }
    served.close();
    let _ = tokio::time::timeout(REQUEST_TIMEOUT, served.wait()).await;
    Ok(())
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((socket, peer)) => Some((socket, peer.ip(), permit)),
        Err(error) => {
            debug!(%error, "accept failed");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn app_store(State(door): State<Door>, headers: HeaderMap, body: Bytes) -> Response {
    answer(&door, Source::Store(Provider::AppStore), &headers, &body).await
}

async fn google_play(State(door): State<Door>, headers: HeaderMap, body: Bytes) -> Response {
    answer(&door, Source::Store(Provider::GooglePlay), &headers, &body).await
}

async fn superwall(State(door): State<Door>, headers: HeaderMap, body: Bytes) -> Response {
    answer(&door, Source::Superwall, &headers, &body).await
}

async fn answer(door: &Door, source: Source, headers: &HeaderMap, body: &[u8]) -> Response {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return problem(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "COMPRESSED",
            "send the body as it is",
        );
    }
    match receive(&door.core, &door.ingress, source, headers, body).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(ReceiveError::Forged) => problem(
            StatusCode::UNAUTHORIZED,
            "NOT_AUTHENTIC",
            "this is not a notification of the configured store; nothing was kept",
        ),
        Err(ReceiveError::Unavailable) => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "TRY_AGAIN",
            "it could not be kept; send it again",
        ),
    }
}

/// RFC 9457 problem details.
fn problem(status: StatusCode, reason: &str, detail: &str) -> Response {
    let body = serde_json::json!({
        "type": "about:blank", "status": status.as_u16(), "title": reason, "detail": detail,
    });
    let mut response = (status, body.to_string()).into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    response
}
