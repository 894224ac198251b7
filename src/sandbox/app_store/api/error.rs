//! What the App Store Server API answers when it cannot do what was asked: codes and texts as
//! Apple documents them.

use std::time::{Duration, SystemTime};

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::super::super::error::SandboxError;
use super::super::super::traffic::Refusal;

/// How long a caller is told to wait while an outage limits everybody.
const OUTAGE_RETRY_AFTER: Duration = Duration::from_secs(1);

/// An answer that is not the one hoped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AppleError {
    /// No or no valid token: Apple answers without a body.
    Unauthorized,
    /// Apple's error code and text; the code's first three digits are the status.
    Code(u32, &'static str),
    /// Too many calls; the next has to wait so long.
    RateLimited(Duration),
    Unavailable,
}

/// The request cannot be read, or is wrong in a way that has no code of its own.
pub(super) const BAD_REQUEST: AppleError = AppleError::Code(4_000_000, "Bad request.");
pub(super) const INVALID_REVISION: AppleError =
    AppleError::Code(4_000_005, "Invalid request revision.");
pub(super) const INVALID_TRANSACTION_ID: AppleError =
    AppleError::Code(4_000_006, "Invalid transaction id.");
pub(super) const INVALID_ORIGINAL_TRANSACTION_ID: AppleError =
    AppleError::Code(4_000_008, "Invalid original transaction id.");
pub(super) const INVALID_EXTEND_BY_DAYS: AppleError =
    AppleError::Code(4_000_009, "Invalid extend by days value.");
pub(super) const INVALID_EXTEND_REASON: AppleError =
    AppleError::Code(4_000_010, "Invalid extend reason code.");
pub(super) const INVALID_REQUEST_IDENTIFIER: AppleError =
    AppleError::Code(4_000_011, "Invalid request identifier.");
pub(super) const START_TOO_FAR_IN_PAST: AppleError = AppleError::Code(
    4_000_012,
    "Invalid request. The start date is earlier than the allowed start date.",
);
pub(super) const START_AFTER_END: AppleError = AppleError::Code(
    4_000_013,
    "Invalid request. The end date precedes the start date or the dates are the same.",
);
pub(super) const INVALID_PAGINATION_TOKEN: AppleError = AppleError::Code(
    4_000_014,
    "Invalid request. The pagination token is invalid.",
);
pub(super) const INVALID_START_DATE: AppleError = AppleError::Code(
    4_000_015,
    "Invalid request. The start date is not a timestamp value represented in milliseconds.",
);
pub(super) const INVALID_END_DATE: AppleError = AppleError::Code(
    4_000_016,
    "Invalid request. The end date is not a timestamp value represented in milliseconds.",
);
pub(super) const PAGINATION_TOKEN_EXPIRED: AppleError = AppleError::Code(
    4_000_017,
    "Invalid request. The pagination token is expired.",
);
pub(super) const INVALID_NOTIFICATION_TYPE: AppleError = AppleError::Code(
    4_000_018,
    "Invalid request. The notification type or subtype is invalid.",
);
pub(super) const MULTIPLE_FILTERS: AppleError = AppleError::Code(
    4_000_019,
    "Invalid request. Supply either a transaction id or a notification type, but not both.",
);
pub(super) const INVALID_TEST_TOKEN: AppleError = AppleError::Code(
    4_000_020,
    "Invalid request. The test notification token is invalid.",
);
pub(super) const INVALID_SORT: AppleError =
    AppleError::Code(4_000_021, "Invalid request. The sort parameter is invalid.");
pub(super) const INVALID_PRODUCT_TYPE: AppleError = AppleError::Code(
    4_000_022,
    "Invalid request. The product type parameter is invalid.",
);
pub(super) const INVALID_PRODUCT_ID: AppleError = AppleError::Code(
    4_000_023,
    "Invalid request. The product id parameter is invalid.",
);
pub(super) const INVALID_GROUP: AppleError = AppleError::Code(
    4_000_024,
    "Invalid request. The subscription group identifier parameter is invalid.",
);
pub(super) const INVALID_EXCLUDE_REVOKED: AppleError = AppleError::Code(
    4_000_025,
    "Invalid request. The exclude revoked parameter is invalid.",
);
pub(super) const INVALID_OWNERSHIP: AppleError = AppleError::Code(
    4_000_026,
    "Invalid request. The in-app ownership type parameter is invalid.",
);
pub(super) const NO_STOREFRONTS: AppleError = AppleError::Code(
    4_000_027,
    "Invalid request. If provided, the list of storefront country codes must not be empty.",
);
pub(super) const INVALID_STOREFRONT: AppleError = AppleError::Code(
    4_000_028,
    "Invalid request. A storefront country code was invalid.",
);
pub(super) const INVALID_REVOKED: AppleError = AppleError::Code(
    4_000_030,
    "Invalid request. The revoked parameter is invalid.",
);
pub(super) const INVALID_STATUS: AppleError = AppleError::Code(
    4_000_031,
    "Invalid request. The status parameter is invalid.",
);
pub(super) const INVALID_ACCOUNT_TENURE: AppleError = AppleError::Code(
    4_000_032,
    "Invalid request. The account tenure field is invalid.",
);
pub(super) const INVALID_APP_ACCOUNT_TOKEN: AppleError = AppleError::Code(
    4_000_033,
    "Invalid request. The app account token field must contain a valid UUID or an empty string.",
);
pub(super) const INVALID_CONSUMPTION_STATUS: AppleError = AppleError::Code(
    4_000_034,
    "Invalid request. The consumption status field is invalid.",
);
pub(super) const NOT_CONSENTED: AppleError = AppleError::Code(
    4_000_035,
    "Invalid request. The customer consented field is required and must indicate the customer consented.",
);
pub(super) const INVALID_DELIVERY_STATUS: AppleError = AppleError::Code(
    4_000_036,
    "Invalid request. The delivery status field is invalid.",
);
pub(super) const INVALID_DOLLARS_PURCHASED: AppleError = AppleError::Code(
    4_000_037,
    "Invalid request. The lifetime dollars purchased field is invalid.",
);
pub(super) const INVALID_DOLLARS_REFUNDED: AppleError = AppleError::Code(
    4_000_038,
    "Invalid request. The lifetime dollars refunded field is invalid.",
);
pub(super) const INVALID_PLATFORM: AppleError =
    AppleError::Code(4_000_039, "Invalid request. The platform field is invalid.");
pub(super) const INVALID_PLAY_TIME: AppleError = AppleError::Code(
    4_000_040,
    "Invalid request. The play time field is invalid.",
);
pub(super) const INVALID_SAMPLE_CONTENT: AppleError = AppleError::Code(
    4_000_041,
    "Invalid request. The sample content provided field is invalid.",
);
pub(super) const INVALID_USER_STATUS: AppleError = AppleError::Code(
    4_000_042,
    "Invalid request. The user status field is invalid.",
);
pub(super) const INVALID_REFUND_PREFERENCE: AppleError = AppleError::Code(
    4_000_044,
    "Invalid request. The refund preference field is invalid.",
);
pub(super) const TYPE_NOT_SUPPORTED: AppleError = AppleError::Code(
    4_000_047,
    "Invalid request. The transaction id doesn't represent a supported in-app purchase type.",
);
pub(super) const APP_TRANSACTION_ID: AppleError = AppleError::Code(
    4_000_048,
    "Invalid request. App transactions aren't supported by this endpoint.",
);
pub(super) const ACCOUNT_TOKEN_NO_UUID: AppleError = AppleError::Code(
    4_000_183,
    "Invalid request. The app account token field must be a valid UUID.",
);
pub(super) const FAMILY_TRANSACTION: AppleError = AppleError::Code(
    4_000_185,
    "Invalid request. Family Sharing transactions aren't supported by this endpoint.",
);
pub(super) const NOT_ORIGINAL: AppleError = AppleError::Code(
    4_000_187,
    "Invalid request. The transaction id provided is not an original transaction id.",
);
pub(super) const PERCENTAGE_OF_SUBSCRIPTION: AppleError = AppleError::Code(
    4_000_209,
    "Invalid request. The consumption percentage field is not supported for auto-renewable subscription transactions.",
);
pub(super) const NOT_EXTENSIBLE: AppleError = AppleError::Code(
    4_030_004,
    "Forbidden - subscription state ineligible for extension.",
);
pub(super) const EXTENDED_TOO_OFTEN: AppleError = AppleError::Code(
    4_030_005,
    "Forbidden - subscription has reached maximum extension count.",
);
pub(super) const FAMILY_NOT_EXTENSIBLE: AppleError = AppleError::Code(
    4_030_007,
    "Subscriptions that users obtain through Family Sharing can't get a renewal date extension directly.",
);
const ACCOUNT_NOT_FOUND_YET: AppleError =
    AppleError::Code(4_040_002, "Account not found. Please try again.");
pub(super) const NO_ORIGINAL_TRANSACTION: AppleError =
    AppleError::Code(4_040_005, "Original transaction id not found.");
const PURCHASE_NOT_FOUND_YET: AppleError = AppleError::Code(
    4_040_006,
    "Original transaction id not found. Please try again.",
);
pub(super) const NO_NOTIFICATION_URL: AppleError = AppleError::Code(
    4_040_007,
    "No App Store Server Notification URL found for provided app. Check that a URL is configured in App Store Connect for this environment.",
);
pub(super) const NO_TEST_NOTIFICATION: AppleError = AppleError::Code(
    4_040_008,
    "Either the test notification token is expired or the notification and status are not yet available.",
);
pub(super) const NO_MASS_EXTENSION: AppleError = AppleError::Code(
    4_040_009,
    "The server didn't find a subscription-renewal-date extension request for this requestIdentifier and productId combination.",
);
pub(super) const NO_TRANSACTION: AppleError =
    AppleError::Code(4_040_010, "Transaction id not found.");
pub(super) const NO_APP_TRANSACTION: AppleError =
    AppleError::Code(4_040_019, "No AppTransaction exists for the customer.");
const RATE_LIMITED: (u32, &str) = (4_290_000, "Rate limit exceeded.");
const INTERNAL: AppleError = AppleError::Code(5_000_000, "An unknown error occurred.");
const INTERNAL_FOR_NOW: AppleError =
    AppleError::Code(5_000_001, "An unknown error occurred. Please try again.");

impl From<Refusal> for AppleError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unavailable => Self::Unavailable,
            Refusal::RateLimited => Self::RateLimited(OUTAGE_RETRY_AFTER),
            Refusal::InternalError => INTERNAL_FOR_NOW,
            Refusal::AccountNotFound => ACCOUNT_NOT_FOUND_YET,
            Refusal::PurchaseNotFound => PURCHASE_NOT_FOUND_YET,
        }
    }
}

impl From<SandboxError> for AppleError {
    fn from(error: SandboxError) -> Self {
        tracing::error!(%error, "the simulated App Store failed");
        INTERNAL
    }
}

impl IntoResponse for AppleError {
    fn into_response(self) -> Response {
        let (code, message) = match self {
            Self::Unauthorized => return StatusCode::UNAUTHORIZED.into_response(),
            Self::Unavailable => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
            Self::Code(code, message) => (code, message),
            Self::RateLimited(_) => RATE_LIMITED,
        };
        let status = u16::try_from(code / 10_000)
            .ok()
            .and_then(|status| StatusCode::from_u16(status).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = Json(json!({"errorCode": code, "errorMessage": message}));
        let mut response = (status, body).into_response();
        if let Self::RateLimited(wait) = self
            && let Ok(value) = HeaderValue::from_str(&retry_at(wait))
        {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}

/// Absolute milliseconds, unlike everybody else's Retry-After.
fn retry_at(wait: Duration) -> String {
    (SystemTime::now() + wait)
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |age| age.as_millis())
        .to_string()
}
