//! What the stores let the server under test do, and what they know of customers, over HTTP.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use super::super::Sandbox;
use super::super::google_play::ConsoleAccess;
use super::body::Body;
use super::{Done, done};

/// What the service account may do.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceAccount {
    access: ConsoleAccess,
}

/// What the app tells Superwall's SDK of a customer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SuperwallUser {
    customer: String,
    app_user_id: String,
}

pub(super) async fn service_account(
    State(sandbox): State<Sandbox>,
    Body(wish): Body<ServiceAccount>,
) -> StatusCode {
    sandbox.set_google_access(wish.access);
    StatusCode::NO_CONTENT
}

pub(super) async fn superwall_user(
    State(sandbox): State<Sandbox>,
    Body(user): Body<SuperwallUser>,
) -> Done {
    done(sandbox.set_superwall_user(&user.customer, &user.app_user_id))
}

pub(super) async fn rotate_superwall(State(sandbox): State<Sandbox>) -> Done {
    done(sandbox.rotate_superwall_secret())
}
