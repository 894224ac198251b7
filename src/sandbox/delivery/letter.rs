//! One HTTP request to the server under test, and what its source makes of the answer.

use std::error::Error;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Body, Response};

use super::super::error::SandboxError;
use super::super::sins::DeliverySin;
use super::body::BadLine;
use super::outbox::Sent;
use super::record::{Attempt, AttemptResult, NotificationRecord};
use super::rules::Policy;
use super::source::Source;

/// With this header an endpoint tells Svix not to repeat a message.
const ABORT_HEADER: &str = "webhook-delivery";
const ABORT: &[u8] = b"abort-message";

/// A notification on its way out.
pub(in crate::sandbox) struct Letter {
    pub(in crate::sandbox) source: Source,
    /// The notification's id.
    pub(in crate::sandbox) id: String,
    pub(in crate::sandbox) body: String,
    url: String,
    policy: Policy,
    line: Line,
}

/// How the body travels.
#[derive(Clone, Copy)]
enum Line {
    Good,
    Slow(Duration),
    Cut,
}

impl Letter {
    /// None once the body is no longer kept.
    pub(super) fn new(
        record: &NotificationRecord,
        url: String,
        policy: Policy,
        attempt: usize,
    ) -> Option<Self> {
        let body = match policy.counts_attempts() {
            true => counted(&record.body, attempt),
            false => record.body.clone(),
        };
        (!record.body.is_empty()).then(|| Self {
            source: record.source,
            id: record.id.clone(),
            body,
            url,
            policy,
            line: Line::Good,
        })
    }

    pub(super) fn suffering(mut self, sins: &[DeliverySin]) -> Self {
        for sin in sins {
            match sin {
                DeliverySin::Slow { millis } => {
                    self.line = Line::Slow(Duration::from_millis(*millis));
                }
                DeliverySin::Truncate => {
                    self.line = Line::Cut;
                    break;
                }
                DeliverySin::Duplicate { .. }
                | DeliverySin::Reorder
                | DeliverySin::Delay { .. }
                | DeliverySin::Drop => {}
            }
        }
        self
    }
}

/// A Pub/Sub envelope that says which attempt it is.
fn counted(body: &str, attempt: usize) -> String {
    match body.strip_suffix('}') {
        Some(open) => format!("{open},\"deliveryAttempt\":{attempt}}}"),
        None => body.to_owned(),
    }
}

/// The HTTP client that plays all senders.
pub(in crate::sandbox) fn client() -> Result<reqwest::Client, SandboxError> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .map_err(SandboxError::Client)
}

/// Sends once, with the proofs of its source, and says what that makes of the answer.
pub(in crate::sandbox) async fn send(
    client: &reqwest::Client,
    letter: Letter,
    proofs: HeaderMap,
    at: DateTime<Utc>,
) -> Sent {
    let body = match letter.line {
        Line::Good => Body::from(letter.body),
        Line::Slow(pause) => Body::wrap(BadLine::slow(letter.body, pause)),
        Line::Cut => Body::wrap(BadLine::cut(letter.body)),
    };
    let request = client
        .post(letter.url)
        .timeout(letter.policy.timeout())
        .headers(proofs)
        .header(CONTENT_TYPE, "application/json")
        .body(body);
    let started = Instant::now();
    let answer = request.send().await;
    let abort = answer
        .as_ref()
        .is_ok_and(|answer| letter.source == Source::Superwall && aborts(answer));
    let (result, status) = match answer {
        Ok(answer) => {
            let status = answer.status().as_u16();
            let result = match letter.policy.acknowledges(status) {
                true => AttemptResult::Success,
                false => AttemptResult::UnsuccessfulHttpResponseCode,
            };
            (result, Some(status))
        }
        Err(error) => (failure(&error), None),
    };
    let attempt = Attempt {
        at,
        result,
        status,
        latency_millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        answered_at: SystemTime::now(),
    };
    Sent { attempt, abort }
}

/// An attempt that got lost on the way.
pub(in crate::sandbox) fn lost(at: DateTime<Utc>) -> Sent {
    let attempt = Attempt {
        at,
        result: AttemptResult::NoResponse,
        status: None,
        latency_millis: 0,
        answered_at: SystemTime::now(),
    };
    Sent {
        attempt,
        abort: true,
    }
}

fn aborts(answer: &Response) -> bool {
    let header = answer.headers().get(ABORT_HEADER);
    header.is_some_and(|value| value.as_bytes() == ABORT)
}

/// What kept an answer away, in Apple's words.
fn failure(error: &reqwest::Error) -> AttemptResult {
    if error.is_timeout() {
        return AttemptResult::TimedOut;
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_incomplete_message() {
                return AttemptResult::PrematureClose;
            }
            if error.is_parse() {
                return AttemptResult::InvalidResponse;
            }
        }
        if error.is::<rustls::Error>() {
            return AttemptResult::TlsIssue;
        }
        cause = error.source();
    }
    AttemptResult::SocketIssue
}
