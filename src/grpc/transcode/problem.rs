//! Refusals as RFC 9457 problem details: what a gRPC status says, for those who read JSON.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::routes::PREFIX;
use crate::grpc::status::Reason;

pub(super) const MEDIA_TYPE: &str = "application/problem+json";
/// What an unfinished request may be asked for again after.
const DEADLINE_RETRY: Duration = Duration::from_secs(1);

/// What only HTTP can get wrong; `docs/errors.md` explains each.
#[cfg(test)]
pub(in crate::grpc) const REASONS: &[&str] = &[
    BODY_TOO_LARGE,
    CONTENT_TYPE_UNSUPPORTED,
    DEADLINE_EXCEEDED,
    METHOD_NOT_ALLOWED,
    PATH_UNKNOWN,
];
const BODY_TOO_LARGE: &str = "BODY_TOO_LARGE";
const CONTENT_TYPE_UNSUPPORTED: &str = "CONTENT_TYPE_UNSUPPORTED";
const DEADLINE_EXCEEDED: &str = "DEADLINE_EXCEEDED";
const METHOD_NOT_ALLOWED: &str = "METHOD_NOT_ALLOWED";
const PATH_UNKNOWN: &str = "PATH_UNKNOWN";

const CONTACT_SUPPORT: &str = "CONTACT_SUPPORT";
const KEEP_AND_RETRY: &str = "KEEP_AND_RETRY";

/// One refusal.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Problem {
    /// A path on this server that explains the reason.
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    detail: String,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_action: Option<String>,
    /// As protojson writes a duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    field_violations: Vec<Violation>,
    #[serde(skip)]
    retry: Option<Duration>,
    #[serde(skip)]
    allow: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Violation {
    field: String,
    description: String,
}

impl Problem {
    fn new(status: StatusCode, reason: &str, action: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("{PREFIX}errors/{reason}"),
            title: title(reason),
            status: status.as_u16(),
            detail: detail.into(),
            reason: reason.to_owned(),
            client_action: Some(action.to_owned()),
            retry_after: None,
            field_violations: Vec::new(),
            retry: None,
            allow: None,
        }
    }

    /// What a service refused, and why.
    pub(super) fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let Some(info) = details.error_info() else {
            return Self::without_details(status);
        };
        let http = http_status(status.code());
        let reason = info.reason.clone();
        let action = info.metadata.get("client_action").cloned();
        let mut problem = Self::new(http, &reason, "", status.message());
        problem.client_action = action;
        let retry = details.retry_info().and_then(|info| info.retry_delay);
        problem.retry_after(retry);
        let violations = details
            .bad_request()
            .map(|it| it.field_violations.as_slice());
        problem.field_violations = violations
            .unwrap_or_default()
            .iter()
            .map(|violation| Violation {
                field: json_path(&violation.field),
                description: violation.description.clone(),
            })
            .collect();
        problem
    }

    /// What the transport refuses has a code and no details.
    fn without_details(status: &Status) -> Self {
        match status.code() {
            Code::DeadlineExceeded => Self::deadline(),
            // Each service has a length of its own.
            Code::OutOfRange => Self::too_large(),
            Code::InvalidArgument => Self::invalid(status.message()),
            code @ (Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unauthenticated) => {
                let reason = Reason::Internal.as_str();
                Self::new(http_status(code), reason, KEEP_AND_RETRY, status.message())
            }
        }
    }

    /// A field of the request that cannot be; named as JSON names it.
    pub(super) fn violation(field: &str, description: &str) -> Self {
        let mut problem = Self::invalid(format!("{field}: {description}"));
        problem.field_violations.push(Violation {
            field: field.to_owned(),
            description: description.to_owned(),
        });
        problem
    }

    /// A request that is none.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        let reason = Reason::RequestInvalid.as_str();
        Self::new(StatusCode::BAD_REQUEST, reason, CONTACT_SUPPORT, detail)
    }

    pub(super) fn path_unknown() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            PATH_UNKNOWN,
            CONTACT_SUPPORT,
            format!("nothing has this path; {PREFIX}openapi.json lists what has"),
        )
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        let mut problem = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            METHOD_NOT_ALLOWED,
            CONTACT_SUPPORT,
            format!("this path takes {allow}"),
        );
        problem.allow = Some(allow);
        problem
    }

    pub(super) fn content_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            CONTENT_TYPE_UNSUPPORTED,
            CONTACT_SUPPORT,
            "send content-type: application/json, in UTF-8 and not compressed",
        )
    }

    pub(super) fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            BODY_TOO_LARGE,
            CONTACT_SUPPORT,
            "the request is longer than this call takes",
        )
    }

    pub(super) fn deadline() -> Self {
        let mut problem = Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            DEADLINE_EXCEEDED,
            KEEP_AND_RETRY,
            "no answer within the time that the caller, or the server, gives it",
        );
        problem.retry_after(Some(DEADLINE_RETRY));
        problem
    }

    fn retry_after(&mut self, retry: Option<Duration>) {
        self.retry_after = retry.map(|it| format!("{:.3}s", it.as_secs_f64()));
        self.retry = retry;
    }

    /// When to come back, if that is known.
    pub(super) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// As one line of JSON.
    pub(super) fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = super::document(MEDIA_TYPE, self.json().into());
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        if let Some(retry) = self.retry {
            // Whole seconds: never earlier than was asked for.
            let seconds = retry.as_secs() + u64::from(retry.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, seconds.max(1).into());
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.status == StatusCode::UNAUTHORIZED.as_u16() {
            let scheme = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// What all problems look like.
pub(super) fn schema() -> Value {
    let actions = [KEEP_AND_RETRY, "SIGN_IN", CONTACT_SUPPORT];
    json!({
        "type": "object",
        "description": "Problem details (RFC 9457): why a request was refused.",
        "required": ["type", "title", "status", "detail", "reason"],
        "properties": {
            "type": {
                "type": "string",
                "format": "uri-reference",
                "description": "A path of this server that explains the reason.",
            },
            "title": { "type": "string", "description": "The reason in words." },
            "status": {
                "type": "integer",
                "minimum": 400,
                "maximum": 599,
                "description": "The HTTP status.",
            },
            "detail": { "type": "string", "description": "For people; may change." },
            "reason": {
                "type": "string",
                "pattern": "^[A-Z][A-Z0-9_]*$",
                "description": "Stable: what programs judge by.",
            },
            "clientAction": {
                "type": "string",
                "enum": actions,
                "description": "What an app does next, with the purchase or the credential.",
            },
            "retryAfter": {
                "type": "string",
                "pattern": r"^[0-9]+\.[0-9]{3}s$",
                "description": "Wait so long; `Retry-After` has it in whole seconds.",
            },
            "fieldViolations": {
                "type": "array",
                "description": "What is wrong with the request.",
                "items": {
                    "type": "object",
                    "required": ["field", "description"],
                    "properties": {
                        "field": { "type": "string", "description": "As JSON names it." },
                        "description": { "type": "string", "description": "What is wrong." },
                    },
                },
            },
        },
    })
}

/// The table of `google/rpc/code.proto`.
fn http_status(code: Code) -> StatusCode {
    let status = match code {
        Code::Ok => 200,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::ResourceExhausted => 429,
        Code::Cancelled => 499,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
    };
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// `ACCOUNT_NOT_FOUND` as people write it.
fn title(reason: &str) -> String {
    let words = reason.to_ascii_lowercase().replace('_', " ");
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// `proof.app_store` as JSON names it: `proof.appStore`.
fn json_path(path: &str) -> String {
    let mut camel = String::with_capacity(path.len());
    let mut raise = false;
    for letter in path.chars() {
        match letter {
            '_' => raise = true,
            letter if raise => {
                camel.push(letter.to_ascii_uppercase());
                raise = false;
            }
            letter => camel.push(letter),
        }
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::status;

    #[test]
    fn a_status_becomes_a_problem_with_nothing_lost() {
        let refused = status::bad_request("proof.app_store", "is required");
        let problem = Problem::of(&refused).into_response();
        assert_eq!(problem.status(), StatusCode::BAD_REQUEST);
        let json = serde_json::to_value(Problem::of(&refused)).expect("JSON");
        let expected = serde_json::json!({
            "type": "/v1/errors/REQUEST_INVALID",
            "title": "Request invalid",
            "status": 400,
            "detail": "proof.app_store: is required",
            "reason": "REQUEST_INVALID",
            "clientAction": "CONTACT_SUPPORT",
            "fieldViolations": [{"field": "proof.appStore", "description": "is required"}],
        });
        assert_eq!(json, expected);
    }

    /// The contract of `google/rpc/code.proto`.
    #[test]
    fn codes_are_the_statuses_of_google_rpc() {
        for (code, status) in [
            (Code::InvalidArgument, 400),
            (Code::FailedPrecondition, 400),
            (Code::OutOfRange, 400),
            (Code::Unauthenticated, 401),
            (Code::PermissionDenied, 403),
            (Code::NotFound, 404),
            (Code::AlreadyExists, 409),
            (Code::Aborted, 409),
            (Code::ResourceExhausted, 429),
            (Code::Cancelled, 499),
            (Code::Internal, 500),
            (Code::Unimplemented, 501),
            (Code::Unavailable, 503),
            (Code::DeadlineExceeded, 504),
        ] {
            assert_eq!(http_status(code), status, "{code:?}");
        }
    }

    #[test]
    fn a_retry_is_told_in_whole_seconds_and_exactly() {
        let retry = Duration::from_millis(2_400);
        let status = status::retryable(Reason::RateLimited, "too many", retry);
        let problem = Problem::of(&status);
        let told = problem.retry().expect("a time");
        assert!(told >= retry, "spread, never shortened");
        let response = problem.into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        let header = response.headers()[header::RETRY_AFTER]
            .to_str()
            .expect("text");
        assert!(header.parse::<f64>().expect("seconds") >= told.as_secs_f64());
    }

    #[test]
    fn what_the_transport_says_without_details_has_a_reason_too() {
        for code in 1..=16 {
            let status = Status::new(Code::from_i32(code), "");
            let json = serde_json::to_value(Problem::of(&status)).expect("JSON");
            assert!(json["reason"].as_str().is_some_and(|it| !it.is_empty()));
            assert!(json["status"].as_u64() >= Some(400));
        }
    }
}
