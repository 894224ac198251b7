//! Answers that are not the ones hoped for, in Google's error shape: an HTTP status, a canonical
//! status and a reason.

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::super::error::SandboxError;
use super::super::super::traffic::Refusal;

/// Who an error comes from: `errors[].domain`.
const GLOBAL: &str = "global";
const STORE: &str = "androidpublisher";

/// What a request without a valid token is told in the header.
const CHALLENGE: &str = "Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\"";

/// A refusal of the Developer API.
#[derive(Clone, Debug)]
pub(super) struct GoogleError {
    code: StatusCode,
    status: &'static str,
    domain: &'static str,
    reason: &'static str,
    message: Cow<'static, str>,
    /// The parameter that is wrong.
    location: Option<&'static str>,
}

const fn error(
    code: StatusCode,
    status: &'static str,
    domain: &'static str,
    reason: &'static str,
    message: &'static str,
) -> GoogleError {
    GoogleError {
        code,
        status,
        domain,
        reason,
        message: Cow::Borrowed(message),
        location: None,
    }
}

const fn bad_token(reason: &'static str, message: &'static str) -> GoogleError {
    let mut refusal = error(
        StatusCode::BAD_REQUEST,
        "INVALID_ARGUMENT",
        STORE,
        reason,
        message,
    );
    refusal.location = Some("token");
    refusal
}

const fn forbidden(reason: &'static str) -> GoogleError {
    error(
        StatusCode::FORBIDDEN,
        "PERMISSION_DENIED",
        STORE,
        reason,
        "The current user has insufficient permissions to perform the requested operation.",
    )
}

/// No bearer token, or one that does not hold.
pub(super) const UNAUTHORIZED: GoogleError = error(
    StatusCode::UNAUTHORIZED,
    "UNAUTHENTICATED",
    GLOBAL,
    "authError",
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie \
     or other valid authentication credential.",
);
/// The service account has not been let into the developer account.
pub(super) const PERMISSION_DENIED: GoogleError = forbidden("permissionDenied");
/// The service account may look but not change.
pub(super) const INSUFFICIENT_PERMISSION: GoogleError = forbidden("userInsufficientPermission");
/// Something that cannot be a purchase token.
pub(super) const INVALID_TOKEN: GoogleError = bad_token("invalid", "Invalid Value");
/// A purchase token of another app.
pub(super) const MISMATCH: GoogleError = bad_token(
    "purchaseTokenMismatch",
    "The purchase token does not match the package name.",
);
/// A purchase token of another product.
pub(super) const PRODUCT_MISMATCH: GoogleError = bad_token(
    "purchaseTokenMismatch",
    "The purchase token does not match the product ID.",
);
/// A purchase token that was never given out.
pub(super) const NOT_FOUND: GoogleError = {
    let mut refusal = error(
        StatusCode::NOT_FOUND,
        "NOT_FOUND",
        STORE,
        "purchaseTokenNotFound",
        "The purchase token was not found.",
    );
    refusal.location = Some("token");
    refusal
};
/// An order that was never placed.
pub(super) const ORDER_NOT_FOUND: GoogleError = error(
    StatusCode::NOT_FOUND,
    "NOT_FOUND",
    STORE,
    "notFound",
    "The order was not found.",
);
/// A path that leads to no method.
pub(super) const NO_METHOD: GoogleError = error(
    StatusCode::NOT_FOUND,
    "NOT_FOUND",
    GLOBAL,
    "notFound",
    "Method not found.",
);
/// The purchase has changed since the caller read it.
pub(super) const CONCURRENT_UPDATE: GoogleError = error(
    StatusCode::CONFLICT,
    "ABORTED",
    STORE,
    "concurrentUpdate",
    "The purchase was updated concurrently. Read it again and retry.",
);
/// A subscription that ended too long ago.
pub(super) const SUBSCRIPTION_GONE: GoogleError = error(
    StatusCode::GONE,
    "FAILED_PRECONDITION",
    STORE,
    "subscriptionPurchaseNoLongerAvailable",
    "The subscription purchase is no longer available for query because it has been expired for \
     too long.",
);
/// More calls than the quota allows.
pub(super) const RATE_LIMITED: GoogleError = error(
    StatusCode::TOO_MANY_REQUESTS,
    "RESOURCE_EXHAUSTED",
    GLOBAL,
    "rateLimitExceeded",
    "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service \
     'androidpublisher.googleapis.com'.",
);

/// A parameter or a field that Google does not take; the message says which and why.
pub(super) fn invalid(message: impl Into<Cow<'static, str>>) -> GoogleError {
    GoogleError {
        message: message.into(),
        ..error(
            StatusCode::BAD_REQUEST,
            "INVALID_ARGUMENT",
            GLOBAL,
            "invalidValue",
            "",
        )
    }
}

/// Something the purchase does not allow as it stands.
pub(super) fn refused(message: &'static str) -> GoogleError {
    error(
        StatusCode::BAD_REQUEST,
        "FAILED_PRECONDITION",
        STORE,
        "invalid",
        message,
    )
}

impl From<Refusal> for GoogleError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unavailable => error(
                StatusCode::SERVICE_UNAVAILABLE,
                "UNAVAILABLE",
                GLOBAL,
                "backendError",
                "The service is currently unavailable.",
            ),
            Refusal::InternalError => error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "INTERNAL",
                GLOBAL,
                "backendError",
                "Internal error encountered.",
            ),
            Refusal::RateLimited => RATE_LIMITED,
            Refusal::AccountNotFound | Refusal::PurchaseNotFound => NOT_FOUND,
        }
    }
}

impl From<SandboxError> for GoogleError {
    fn from(failure: SandboxError) -> Self {
        if let SandboxError::UnknownPurchase = failure {
            return NOT_FOUND;
        }
        if let SandboxError::Refused(why) = failure {
            return refused(why);
        }
        tracing::error!(error = %failure, "simulated Google Play failed");
        error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL",
            GLOBAL,
            "backendError",
            "Backend Error",
        )
    }
}

impl GoogleError {
    fn body(&self) -> Value {
        let mut detail = json!({
            "domain": self.domain,
            "reason": self.reason,
            "message": self.message,
        });
        if let Some(location) = self.location {
            detail["location"] = json!(location);
            detail["locationType"] = json!("parameter");
        }
        json!({"error": {
            "code": self.code.as_u16(),
            "message": self.message,
            "status": self.status,
            "errors": [detail],
        }})
    }
}

impl IntoResponse for GoogleError {
    fn into_response(self) -> Response {
        let mut response = (self.code, Json(self.body())).into_response();
        if self.code == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static(CHALLENGE);
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
