//! The axum sidecar that takes the stores' notifications. Nothing is thought about them here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::domain::provider::Provider;
use crate::flows::Core;
use crate::flows::receive_notification::{Ingress, ReceiveError, receive};

const BODY_BYTES_MAX: usize = 256 * 1024;
/// Header and body together; a store's own patience is 10 s and more.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

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
        .route("/healthz", get(|| async { StatusCode::OK }))
        .layer(RequestBodyLimitLayer::new(BODY_BYTES_MAX))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            REQUEST_TIMEOUT,
        ))
        .layer(CatchPanicLayer::new())
        .with_state(Door { core, ingress })
        .into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

async fn app_store(State(door): State<Door>, headers: HeaderMap, body: Bytes) -> Response {
    answer(&door, Provider::AppStore, &headers, &body).await
}

async fn google_play(State(door): State<Door>, headers: HeaderMap, body: Bytes) -> Response {
    answer(&door, Provider::GooglePlay, &headers, &body).await
}

async fn answer(door: &Door, provider: Provider, headers: &HeaderMap, body: &[u8]) -> Response {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return problem(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "COMPRESSED",
            "send the body as it is",
        );
    }
    match receive(&door.core, &door.ingress, provider, headers, body).await {
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
