//! The App Store Server API: three reads, retried where Apple says that a retry helps.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{AUTHORIZATION, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use rand::Rng;
use reqwest::Url;

use super::token::RequestTokens;
use super::wire::ErrorBody;
use crate::domain::provider::Environment;
use crate::http::{Answer, HttpClient, HttpError};
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
    /// Get Transaction Info.
    Transaction,
}

impl Call<'_> {
    fn segments(&self) -> &'static [&'static str] {
        match self {
            Self::Subscriptions => &["inApps", "v1", "subscriptions"],
            Self::History { .. } => &["inApps", "v2", "history"],
            Self::Transaction => &["inApps", "v1", "transactions"],
        }
    }

    /// How the answer is filed: `production/history/1`.
    fn name(&self, environment: Environment) -> String {
        let environment = environment.as_str();
        match self {
            Self::Subscriptions => format!("{environment}/{SUBSCRIPTIONS}"),
            Self::History { page, .. } => format!("{environment}/{HISTORY}/{page}"),
            Self::Transaction => format!("{environment}/{TRANSACTION}"),
        }
    }
}

pub(super) const SUBSCRIPTIONS: &str = "subscriptions";
pub(super) const HISTORY: &str = "history";
pub(super) const TRANSACTION: &str = "transaction";

/// Calls Apple as the configured team.
pub(super) struct Client {
    http: HttpClient,
    tokens: RequestTokens,
    production: Url,
    sandbox: Url,
}

/// What one try came to.
enum Verdict {
    Done(StoreAnswer),
    Again(FetchError),
    GiveUp(FetchError),
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
        let mut tries = 0;
        loop {
            let error = match self.attempt(environment, bundle_id, &call, id).await? {
                Verdict::Done(answer) => return Ok(answer),
                Verdict::GiveUp(error) => return Err(error),
                Verdict::Again(error) => error,
            };
            if tries == RETRIES_MAX {
                return Err(error);
            }
            let jitter = rand::rng().random_range(0.5..1.5);
            tokio::time::sleep((RETRY_PAUSE * 2_u32.pow(tries)).mul_f64(jitter)).await;
            tries += 1;
        }
    }

    async fn attempt(
        &self,
        environment: Environment,
        bundle_id: &str,
        call: &Call<'_>,
        id: &str,
    ) -> Result<Verdict, FetchError> {
        let url = self.url(environment, call, id)?;
        let authorization = self
            .tokens
            .authorization(bundle_id)
            .map_err(|error| FetchError::Refused(error.to_string()))?;
        let headers = HeaderMap::from_iter([(AUTHORIZATION, authorization)]);
        let verdict = match self.http.send(Method::GET, url, headers, None).await {
            Ok(answer) => judge(answer, call.name(environment)),
            Err(error @ (HttpError::TimedOut | HttpError::Connection(_))) => {
                Verdict::Again(FetchError::away(error.to_string()))
            }
            Err(error @ HttpError::TooLarge) => {
                Verdict::GiveUp(FetchError::Unreadable(error.to_string()))
            }
            Err(error @ HttpError::Refused { .. }) => {
                Verdict::GiveUp(FetchError::Refused(error.to_string()))
            }
        };
        if matches!(verdict, Verdict::GiveUp(FetchError::Refused(_))) {
            self.tokens.forget(bundle_id);
        }
        Ok(verdict)
    }

    fn url(&self, environment: Environment, call: &Call<'_>, id: &str) -> Result<Url, FetchError> {
        let mut url = match environment {
            Environment::Production => self.production.clone(),
            Environment::Sandbox => self.sandbox.clone(),
        };
        url.path_segments_mut()
            .map_err(|()| FetchError::Refused("the base URL cannot have a path".to_owned()))?
            .pop_if_empty()
            .extend(call.segments())
            .push(id);
        if let Call::History { revision, .. } = call {
            let mut query = url.query_pairs_mut();
            query.append_pair("productType", "AUTO_RENEWABLE");
            query.extend_pairs(revision.map(|revision| ("revision", revision)));
        }
        Ok(url)
    }
}

fn judge(answer: Answer, call: String) -> Verdict {
    let status = answer.status;
    let done = |answer: Answer| {
        Verdict::Done(StoreAnswer {
            call,
            status: status.as_u16(),
            body: answer.body,
        })
    };
    if status == StatusCode::OK {
        return done(answer);
    }
    let code = error_code(&answer.body);
    if status.is_client_error() && code.is_some_and(|code| NOT_FOUND.contains(&code)) {
        return done(answer);
    }
    let said = match code {
        Some(code) => format!("App Store error {code}"),
        None => format!("HTTP {}", status.as_u16()),
    };
    if status == StatusCode::TOO_MANY_REQUESTS {
        let retry_after = retry_after(&answer.headers, SystemTime::now());
        return Verdict::GiveUp(FetchError::Away {
            cause: said,
            retry_after,
        });
    }
    if status.is_server_error() || code.is_some_and(|code| RETRYABLE.contains(&code)) {
        return Verdict::Again(FetchError::away(said));
    }
    let credentials = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    Verdict::GiveUp(
        if credentials || code.is_some_and(|code| NOT_OUR_APP.contains(&code)) {
            FetchError::Refused(said)
        } else {
            FetchError::Unreadable(said)
        },
    )
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
        match judge(answer, String::new()) {
            Verdict::Done(_) => "done",
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
            (404, r#"{"errorCode":4040010}"#, "done"),
            (404, r#"{"errorCode":4040005,"errorMessage":"x"}"#, "done"),
            (400, r#"{"errorCode":4000006}"#, "done"),
            (404, r#"{"errorCode":4040006}"#, "again"),
            (404, r#"{"errorCode":4040002}"#, "again"),
            (404, r#"{"errorCode":4040003}"#, "refused"),
            (404, "<html>", "unreadable"),
            (404, r#"{"errorCode":4049999}"#, "unreadable"),
            (401, "", "refused"),
            (403, "", "refused"),
            (429, r#"{"errorCode":4290000}"#, "later"),
            (500, r#"{"errorCode":5000001}"#, "again"),
            (500, r#"{"errorCode":5000000}"#, "again"),
            (503, "", "again"),
            (302, "", "unreadable"),
            (204, "", "unreadable"),
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
