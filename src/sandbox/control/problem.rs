//! Refusals of the control API: problem details (RFC 9457) that say what to do next.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::super::error::SandboxError;

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Why a request was refused.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    /// Names the kind of problem for programs: `urn:entitled-sandbox:unknown-purchase`.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    /// What was wrong with this request, in words.
    detail: String,
    /// What to do about it.
    next: &'static str,
}

impl Problem {
    fn new(
        status: StatusCode,
        name: &'static str,
        title: &'static str,
        detail: impl Into<String>,
        next: &'static str,
    ) -> Self {
        Self {
            kind: format!("urn:entitled-sandbox:{name}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            next,
        }
    }

    /// The body or the query is not what the endpoint takes.
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "malformed",
            "The request is not understood",
            detail,
            "Correct the named field; docs/sandbox.md lists the fields of every request.",
        )
    }

    /// The body is longer than any request has to be.
    pub(super) fn too_long() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-long",
            "The request is too long",
            "the body could not be read, or is longer than 1 MiB",
            "Send a smaller request.",
        )
    }

    /// A browser on somebody else's page may be behind this request.
    pub(super) fn foreign(detail: impl Into<String>, next: &'static str) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "foreign",
            "The request may come from a foreign web page",
            detail,
            next,
        )
    }

    /// A body of a kind that a web page can send without being asked.
    pub(super) fn not_json() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not-json",
            "The request is not JSON",
            "requests that change something are JSON",
            "Send the header `Content-Type: application/json`.",
        )
    }

    /// No such path, or not by that method.
    pub(super) fn no_endpoint() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown-endpoint",
            "There is no such endpoint",
            "no endpoint of the control API has this path and method",
            "See docs/sandbox.md for the endpoints, or open the page at / in a browser.",
        )
    }

    /// There is nothing to wait for.
    pub(super) fn nothing_due() -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "nothing-due",
            "Nothing is due",
            "no purchase renews or ends by itself and no delivery is waiting",
            "Buy a subscription first, or advance by a period.",
        )
    }

    /// Only one can move the clock at a time.
    pub(super) fn travelling() -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "advancing",
            "The clock is being moved already",
            "another advance has not ended yet",
            "Wait for it (GET /control/clock shows how far it is) or POST /control/advance/stop.",
        )
    }

    /// The simulator is going down, or broke.
    pub(super) fn interrupted() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "interrupted",
            "The advance did not end",
            "the simulator stopped on the way",
            "Look at the simulator's log, and start it again.",
        )
    }

    /// Nobody has that name.
    pub(super) fn no_customer() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown-customer",
            "There is no such customer",
            "no customer of either store has this name",
            "GET /control/customers lists them; POST {\"name\"} there makes one, as does a purchase.",
        )
    }
}

impl From<SandboxError> for Problem {
    fn from(error: SandboxError) -> Self {
        let (status, name, title, next) = match &error {
            SandboxError::UnknownProduct(_) => (
                StatusCode::NOT_FOUND,
                "unknown-product",
                "The store sells no such product",
                "GET /control/products lists what both stores sell.",
            ),
            SandboxError::UnknownPurchase => (
                StatusCode::NOT_FOUND,
                "unknown-purchase",
                "There is no such purchase",
                "GET /control/truth lists all purchases with their ids.",
            ),
            SandboxError::UnknownNotification => (
                StatusCode::NOT_FOUND,
                "unknown-notification",
                "There is no such notification",
                "GET /control/notifications lists what the stores have said.",
            ),
            SandboxError::BeyondCalendar => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "beyond-calendar",
                "The clock cannot be moved so far",
                "Advance to an earlier moment.",
            ),
            SandboxError::Refused(_) => (
                StatusCode::CONFLICT,
                "refused",
                "The store refuses",
                "GET /control/truth says where the purchase stands; the real store refuses this too.",
            ),
            SandboxError::Listen(_)
            | SandboxError::Storage(_)
            | SandboxError::InUse(_)
            | SandboxError::Corrupt { .. }
            | SandboxError::Encode(_)
            | SandboxError::Key(_)
            | SandboxError::Client(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "failed",
                "The simulator failed",
                "Look at the simulator's log and its state directory.",
            ),
        };
        Self::new(status, name, title, error.to_string(), next)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, MEDIA_TYPE);
        response
    }
}
