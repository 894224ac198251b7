//! The control API: the simulator's operations as JSON over HTTP, for the page, for command lines
//! and for scripts. It asks nobody who they are; see [`guard`] for whom it keeps out.

mod access;
mod body;
mod clock;
mod customers;
mod decode;
mod events;
mod guard;
mod network;
mod notifications;
mod problem;
mod sins;
mod stores;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::Sandbox;
use super::error::SandboxError;
use super::identity::IdentityToken;
use super::manifest::Manifest;
use super::page;
use body::Body;
pub(super) use clock::Journey;
use problem::Problem;

/// The page at `/` and the API below `/control`.
pub(super) fn routes(sandbox: &Sandbox) -> Router {
    Router::new()
        .nest("/control", api())
        .merge(page::routes())
        .layer(from_fn_with_state(sandbox.clone(), guard::guard))
        .with_state(sandbox.clone())
}

fn api() -> Router<Sandbox> {
    Router::new()
        .route("/manifest", get(manifest))
        .route("/clock", get(clock::show).post(clock::set))
        .route("/advance", post(clock::advance))
        .route("/advance/stop", post(clock::stop))
        .route("/events", get(events::stream))
        .route("/products", get(stores::products))
        .route("/app-store/{verb}", post(stores::app_store))
        .route(
            "/app-store/transactions/{id}",
            get(stores::signed_transaction),
        )
        .route("/google-play/{verb}", post(stores::google_play))
        .route("/customers", get(customers::list).post(customers::create))
        .route("/customers/{name}", get(customers::show))
        .route("/truth", get(customers::truth))
        .route("/purchases", get(customers::truth))
        .route("/notifications", get(notifications::list))
        .route("/notifications/test", post(notifications::test))
        .route(
            "/notifications/hold",
            get(notifications::holding).post(notifications::hold),
        )
        .route("/notifications/{id}", get(notifications::show))
        .route("/notifications/{id}/deliver", post(notifications::deliver))
        .route("/notifications/{id}/drop", post(notifications::drop_one))
        .route(
            "/webhooks",
            get(network::webhooks).post(network::set_webhooks),
        )
        .route("/outage", get(network::outages).post(network::outage))
        .route("/ocsp", get(network::ocsp).post(network::set_ocsp))
        .route(
            "/rate-limits",
            get(network::rate_limits).post(network::set_rate_limits),
        )
        .route("/calls", get(network::calls))
        .route("/service-account", post(access::service_account))
        .route("/superwall/users", post(access::superwall_user))
        .route("/superwall/rotate", post(access::rotate_superwall))
        .route("/sins", get(sins::show).post(sins::set))
        .route("/sins/deliveries", post(sins::next_deliveries))
        .route("/sins/calls", post(sins::next_calls))
        .route("/notifications/flush", post(sins::flush))
        .route("/run", get(sins::run).post(sins::set_run))
        .route("/identity/token", post(identity_token))
        .route("/identity/rotate", post(rotate))
        .fallback(async || Problem::no_endpoint())
        .method_not_allowed_fallback(async || Problem::no_endpoint())
}

/// Answer of an operation that has nothing to say.
type Done = Result<StatusCode, Problem>;

fn done(result: Result<(), SandboxError>) -> Done {
    result?;
    Ok(StatusCode::NO_CONTENT)
}

async fn manifest(State(sandbox): State<Sandbox>) -> Json<Manifest> {
    Json(sandbox.manifest())
}

async fn identity_token(
    State(sandbox): State<Sandbox>,
    Body(token): Body<IdentityToken>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({"token": sandbox.identity_token(&token)?})))
}

async fn rotate(State(sandbox): State<Sandbox>) -> Done {
    done(sandbox.rotate_identity_keys())
}
