//! What happens at the stores, over HTTP: the actions of both, and what they sell.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use super::super::Sandbox;
use super::super::outcome::Outcome;
use super::super::setup::{AppStoreProduct, Environment, GooglePlayProduct};
use super::body::{Body, action};
use super::problem::Problem;

/// What was bought, or nothing to say.
fn answer(outcome: Outcome) -> Response {
    match matches!(outcome, Outcome::Done {}) {
        true => StatusCode::NO_CONTENT.into_response(),
        false => Json(outcome).into_response(),
    }
}

/// The verb, by its own name or by the short one that a path may use.
fn verb(path: &str) -> &str {
    match path {
        "billing" => "set_billing",
        "auto-renew" => "set_auto_renew",
        verb => verb,
    }
}

pub(super) async fn app_store(
    State(sandbox): State<Sandbox>,
    Path(path): Path<String>,
    Body(fields): Body<Value>,
) -> Result<Response, Problem> {
    let action = action(verb(&path), fields)?;
    Ok(answer(sandbox.app_store(action).await?))
}

pub(super) async fn google_play(
    State(sandbox): State<Sandbox>,
    Path(path): Path<String>,
    Body(fields): Body<Value>,
) -> Result<Response, Problem> {
    let action = action(verb(&path), fields)?;
    Ok(answer(sandbox.google_play(action).await?))
}

/// A transaction as StoreKit would hand it to the app now.
pub(super) async fn signed_transaction(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let signed = sandbox.signed_transaction(&id)?;
    Ok(Json(json!({"signed_transaction": signed})))
}

/// The app, and what both stores sell.
#[derive(Serialize)]
pub(super) struct Products {
    bundle_id: String,
    package_name: String,
    environment: Environment,
    app_store: Vec<AppStoreProduct>,
    google_play: Vec<GooglePlayProduct>,
}

pub(super) async fn products(State(sandbox): State<Sandbox>) -> Json<Products> {
    let setup = &sandbox.inner.setup;
    Json(Products {
        bundle_id: setup.bundle_id.clone(),
        package_name: setup.package_name.clone(),
        environment: setup.environment,
        app_store: setup.app_store.clone(),
        google_play: setup.google_play.clone(),
    })
}
