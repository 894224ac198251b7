//! The App Store Server API: what is read and what is told, retried where Apple says that a retry
//! helps.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use rand::Rng;
use reqwest::Url;
use serde_json::Value;

use super::token::{KeyError, OfferClaims, RequestTokens};
use super::wire::ErrorBody;
use crate::domain::provider::Environment;
use crate::http::{Answer, HttpClient};
use crate::providers::contract::{FetchError, StoreAnswer};

/// Quick retries inside one call; longer back-off is the caller's.
const RETRIES_MAX: u32 = 2;
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Apple counts calls by the hour, so no honest pause is longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The id is not known in that environment, or not an id at all; or the history has no such
/// revision any more.
const NOT_FOUND: [i64; 6] = [
    4_040_010, 4_040_005, 4_040_001, 4_000_006, 4_000_008, 4_000_005,
];
/// Apple asks to try these again.
const RETRYABLE: [i64; 4] = [4_040_002, 4_040_004, 4_040_006, 5_000_001];
/// Bundle id and key do not go together.
const NOT_OUR_APP: [i64; 2] = [4_000_002, 4_040_003];

/// A read of the Server API about one id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call<'a> {
    /// Get All Subscription Statuses: every subscription of the customer behind the id.
    Subscriptions,
    /// Get Transaction History (v2) of the customer's renewables, one page: what changed after
    /// `revision`, or all.
    History {
        page: usize,
        revision: Option<&'a str>,
    },
    /// Get Refund History (v2) of the customer, one page: every refund after `revision`, or all.
    Refunds {
        page: usize,
        revision: Option<&'a str>,
    },
    /// Get Transaction Info.
    Transaction,
}

impl Call<'_> {
    pub(super) fn history(page: usize, revision: Option<&str>) -> Call<'_> {
        Call::History { page, revision }
    }

    pub(super) fn refunds(page: usize, revision: Option<&str>) -> Call<'_> {
        Call::Refunds { page, revision }
    }

    fn segments(&self) -> &'static [&'static str] {
        match self {
            Self::Subscriptions => &["inApps", "v1", "subscriptions"],
            Self::History { .. } => &["inApps", "v2", "history"],
            Self::Refunds { .. } => &["inApps", "v2", "refund", "lookup"],
            Self::Transaction => &["inApps", "v1", "transactions"],
        }
    }

    fn query(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::History { revision, .. } => std::iter::once(("productType", "AUTO_RENEWABLE"))
                .chain(revision.map(|revision| ("revision", revision)))
                .collect(),
            Self::Refunds { revision, .. } => revision
                .iter()
                .map(|revision| ("revision", *revision))
                .collect(),
            Self::Subscriptions | Self::Transaction => Vec::new(),
        }
    }

    /// How the answer is filed: `production/history/1`.
    fn name(&self, environment: Environment) -> String {
        let environment = environment.as_str();
        match self {
            Self::Subscriptions => format!("{environment}/{SUBSCRIPTIONS}"),
            Self::History { page, .. } => format!("{environment}/{HISTORY}/{page}"),
            Self::Refunds { page, .. } => format!("{environment}/{REFUNDS}/{page}"),
            Self::Transaction => format!("{environment}/{TRANSACTION}"),
        }
    }
}

pub(super) const SUBSCRIPTIONS: &str = "subscriptions";
pub(super) const HISTORY: &str = "history";
pub(super) const REFUNDS: &str = "refunds";
pub(super) const TRANSACTION: &str = "transaction";

/// Calls Apple as the configured team.
pub(super) struct Client {
    http: HttpClient,
    tokens: RequestTokens,
    production: Url,
    sandbox: Url,
}

/// One call, whatever it is for.
struct Request<'a> {
    method: Method,
    environment: Environment,
    bundle_id: &'a str,
    segments: Vec<&'a str>,
    query: Vec<(&'static str, &'a str)>,
    body: Option<Bytes>,
    /// Saying it twice does no harm.
    retried: bool,
}

/// What one try came to.
#[derive(Debug)]
enum Verdict {
    Done(Answer),
    /// Apple understood and says no.
    No(Answer, i64),
    Again(FetchError),
    GiveUp(FetchError),
}

/// What Apple is told or asked for beside plain reads; each about one bundle's customers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act<'a> {
    /// Finish Transaction: what was bought is delivered.
    Finish { transaction_id: &'a str },
    /// Set App Account Token: on this and all later transactions of the purchase.
    SetAccountToken {
        original_transaction_id: &'a str,
        body: Value,
    },
    /// Send Consumption Information, version 2.
    Consumption {
        transaction_id: &'a str,
        body: Value,
    },
    /// Extend a Subscription Renewal Date. Said once: Apple would extend again.
    Extend {
        original_transaction_id: &'a str,
        body: Value,
    },
    /// Get Notification History, one page.
    NotificationHistory { page: Option<&'a str>, body: Value },
    /// Request a Test Notification. Said once: Apple would send another.
    RequestTest,
    /// Get Test Notification Status.
    TestStatus { token: &'a str },
}

/// Apple's answer to an act.
#[derive(Debug)]
pub(super) enum Said {
    Yes(Bytes),
    /// With its error code.
    No(i64),
}

impl Client {
    pub(super) fn new(
        http: HttpClient,
        tokens: RequestTokens,
        production: Url,
        sandbox: Url,
    ) -> Self {
        Self {
            http,
            tokens,
            production,
            sandbox,
        }
    }

    /// Reads; the answer's status is 200, or 400 or 404 for an id that is not known there.
    pub(super) async fn read(
        &self,
        environment: Environment,
        bundle_id: &str,
        call: Call<'_>,
        id: &str,
    ) -> Result<StoreAnswer, FetchError> {
        let mut segments = call.segments().to_vec();
        segments.push(id);
        let request = Request {
            method: Method::GET,
            environment,
            bundle_id,
            segments,
            query: call.query(),
            body: None,
            retried: true,
        };
        let answer = match self.send(&request).await? {
            Verdict::Done(answer) if answer.status == StatusCode::OK => answer,
            Verdict::No(answer, code) if NOT_FOUND.contains(&code) => answer,
            Verdict::No(_, code) => return Err(unreadable(format!("App Store error {code}"))),
            Verdict::Done(answer) => return Err(unreadable(http_status(&answer))),
            Verdict::Again(error) | Verdict::GiveUp(error) => return Err(error),
        };
        Ok(StoreAnswer {
            call: call.name(environment),
            status: answer.status.as_u16(),
            body: answer.body,
        })
    }

    /// Tells or asks; a refusal with a code is an answer.
    pub(super) async fn act(
        &self,
        environment: Environment,
        bundle_id: &str,
        act: Act<'_>,
    ) -> Result<Said, FetchError> {
        let (method, segments, body) = match &act {
            Act::Finish { transaction_id } => {
                let path = vec!["inApps", "v1", "transactions", *transaction_id, "finish"];
                (Method::POST, path, None)
            }
            Act::SetAccountToken {
                original_transaction_id: id,
                body,
            } => {
                let path = vec!["inApps", "v1", "transactions", *id, "appAccountToken"];
                (Method::PUT, path, Some(body))
            }
            Act::Consumption {
                transaction_id,
                body,
            } => {
                let path = [
                    "inApps",
                    "v2",
                    "transactions",
                    "consumption",
                    *transaction_id,
                ];
                (Method::PUT, path.to_vec(), Some(body))
            }
            Act::Extend {
                original_transaction_id: id,
                body,
            } => {
                let path = vec!["inApps", "v1", "subscriptions", "extend", *id];
                (Method::PUT, path, Some(body))
            }
            Act::NotificationHistory { body, .. } => {
                let path = vec!["inApps", "v1", "notifications", "history"];
                (Method::POST, path, Some(body))
            }
            Act::RequestTest => (
                Method::POST,
                vec!["inApps", "v1", "notifications", "test"],
                None,
            ),
            Act::TestStatus { token } => {
                let path = vec!["inApps", "v1", "notifications", "test", *token];
                (Method::GET, path, None)
            }
        };
        let query = match &act {
            Act::NotificationHistory {
                page: Some(page), ..
            } => vec![("paginationToken", *page)],
            Act::NotificationHistory { page: None, .. }
            | Act::Finish { .. }
            | Act::SetAccountToken { .. }
            | Act::Consumption { .. }
            | Act::Extend { .. }
            | Act::RequestTest
            | Act::TestStatus { .. } => Vec::new(),
        };
        let request = Request {
            method,
            environment,
            bundle_id,
            segments,
            query,
            body: body.map(|body| Bytes::from(body.to_string())),
            retried: !matches!(act, Act::Extend { .. } | Act::RequestTest),
        };
        match self.send(&request).await? {
            Verdict::Done(answer) if answer.status.is_success() => Ok(Said::Yes(answer.body)),
            Verdict::No(_, code) => Ok(Said::No(code)),
            Verdict::Done(answer) => Err(unreadable(http_status(&answer))),
            Verdict::Again(error) | Verdict::GiveUp(error) => Err(error),
        }
    }

    /// Signs an offer with the key that the calls are made with.
    pub(super) fn sign_offer(
        &self,
        bundle_id: &str,
        offer: &OfferClaims,
    ) -> Result<String, KeyError> {
        self.tokens.sign_offer(bundle_id, offer)
    }

    async fn send(&self, request: &Request<'_>) -> Result<Verdict, FetchError> {
        let mut tries = 0;
        loop {
            let verdict = self.attempt(request).await?;
            if !matches!(verdict, Verdict::Again(_)) || !request.retried || tries == RETRIES_MAX {
                return Ok(verdict);
            }
            let jitter = rand::rng().random_range(0.5..1.5);
            tokio::time::sleep((RETRY_PAUSE * 2_u32.pow(tries)).mul_f64(jitter)).await;
            tries += 1;
        }
    }

    async fn attempt(&self, request: &Request<'_>) -> Result<Verdict, FetchError> {
        let url = self.url(request)?;
        let authorization = self
            .tokens
            .authorization(request.bundle_id)
            .map_err(|error| FetchError::Refused(error.to_string()))?;
        let mut headers = HeaderMap::from_iter([(AUTHORIZATION, authorization)]);
        if request.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let sent = self
            .http
            .send(request.method.clone(), url, headers, request.body.clone());
        let verdict = match sent.await {
            Ok(answer) => judge(answer),
            Err(error) => match FetchError::unanswered("", &error) {
                again @ FetchError::Away { .. } => Verdict::Again(again),
                never @ (FetchError::Refused(_) | FetchError::Unreadable(_)) => {
                    Verdict::GiveUp(never)
                }
            },
        };
        if matches!(verdict, Verdict::GiveUp(FetchError::Refused(_))) {
            self.tokens.forget(request.bundle_id);
        }
        Ok(verdict)
    }

    fn url(&self, request: &Request<'_>) -> Result<Url, FetchError> {
        let mut url = match request.environment {
            Environment::Production => self.production.clone(),
            Environment::Sandbox => self.sandbox.clone(),
        };
        url.path_segments_mut()
            .map_err(|()| FetchError::Refused("the base URL cannot have a path".to_owned()))?
            .pop_if_empty()
            .extend(&request.segments);
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        Ok(url)
    }
}

fn unreadable(said: String) -> FetchError {
    FetchError::Unreadable(said)
}

fn http_status(answer: &Answer) -> String {
    format!("HTTP {}", answer.status.as_u16())
}

fn judge(answer: Answer) -> Verdict {
    let status = answer.status;
    if status.is_success() {
        return Verdict::Done(answer);
    }
    let code = error_code(&answer.body);
    let said = match code {
        Some(code) => format!("App Store error {code}"),
        None => http_status(&answer),
    };
    if status == StatusCode::TOO_MANY_REQUESTS {
        let retry_after = retry_after(&answer.headers, SystemTime::now());
        return Verdict::GiveUp(FetchError::Away {
            cause: said,
            retry_after,
            untouched: true,
        });
    }
    if status.is_server_error() || code.is_some_and(|code| RETRYABLE.contains(&code)) {
        return Verdict::Again(FetchError::away(said));
    }
    match code {
        Some(code) if NOT_OUR_APP.contains(&code) => Verdict::GiveUp(FetchError::Refused(said)),
        Some(code) if status.is_client_error() && status != StatusCode::UNAUTHORIZED => {
            Verdict::No(answer, code)
        }
        Some(_) | None => Verdict::GiveUp(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FetchError::Refused(said),
            _ => unreadable(said),
        }),
    }
}

fn error_code(body: &[u8]) -> Option<i64> {
    serde_json::from_slice(body)
        .ok()
        .map(|body: ErrorBody| body.error_code)
}

/// Apple writes the moment itself, in milliseconds since 1970, not a number of seconds to wait.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let millis: u64 = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(millis))?;
    let wait = at.duration_since(now).unwrap_or_default();
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn word(status: u16, body: &str) -> &'static str {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.to_owned().into(),
        };
        match judge(answer) {
            Verdict::Done(_) => "done",
            Verdict::No(..) => "no",
            Verdict::Again(FetchError::Away { .. }) => "again",
            Verdict::GiveUp(FetchError::Away { .. }) => "later",
            Verdict::GiveUp(FetchError::Refused(_)) => "refused",
            Verdict::GiveUp(FetchError::Unreadable(_)) => "unreadable",
            Verdict::Again(_) => "strange",
        }
    }

    #[test]
    fn every_class_of_answer_has_its_verdict() {
        let cases = [
            (200, "{}", "done"),
            (202, "", "done"),
            (404, r#"{"errorCode":4040010}"#, "no"),
            (404, r#"{"errorCode":4040005,"errorMessage":"x"}"#, "no"),
            (400, r#"{"errorCode":4000006}"#, "no"),
            (400, r#"{"errorCode":4000185}"#, "no"),
            (403, r#"{"errorCode":4030005}"#, "no"),
            (401, r#"{"errorCode":4010000}"#, "refused"),
            (404, r#"{"errorCode":4040006}"#, "again"),
            (404, r#"{"errorCode":4040002}"#, "again"),
            (404, r#"{"errorCode":4040003}"#, "refused"),
            (404, "<html>", "unreadable"),
            (404, r#"{"errorCode":4049999}"#, "no"),
            (401, "", "refused"),
            (403, "", "refused"),
            (429, r#"{"errorCode":4290000}"#, "later"),
            (500, r#"{"errorCode":5000001}"#, "again"),
            (500, r#"{"errorCode":5000000}"#, "again"),
            (503, "", "again"),
            (302, "", "unreadable"),
            (500, r#"{"errorCode":4040010}"#, "again"),
        ];
        for (status, body, expected) in cases {
            assert_eq!(word(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn retry_after_is_a_moment_in_milliseconds() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let cases = [
            ("1800000030000", Some(30)),
            ("1799999999000", Some(0)),
            ("1900000000000", Some(3600)),
            ("soon", None),
            ("-1", None),
        ];
        for (value, expected) in cases {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            assert_eq!(
                retry_after(&headers, now).map(|wait| wait.as_secs()),
                expected,
                "{value}"
            );
        }
    }
}
