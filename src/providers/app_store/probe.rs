//! Whether the App Store reaches us: the test notification and what became of it.

use serde::Deserialize;

use super::AppStore;
use super::client::{Act, Said};
use crate::domain::provider::Environment;
use crate::providers::contract::FetchError;

/// No URL for notifications is entered in App Store Connect.
const NO_URL: i64 = 4_040_007;
/// Apple has not tried to send it yet.
const NOT_TRIED: i64 = 4_040_008;

/// What came of asking for a test notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TestRequest {
    /// It is on its way.
    Sent(TestToken),
    /// App Store Connect has no URL for that environment.
    NoUrl,
}

/// Names a test notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TestToken(String);

impl TestToken {
    /// The id that its delivery has: Apple's token is it and a moment.
    pub(crate) fn event_id(&self) -> &str {
        self.0.split('_').next().unwrap_or(&self.0)
    }
}

/// What Apple says of sending it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TestOutcome {
    /// Nothing yet.
    NotTried,
    /// Its own word: `SUCCESS`, `TLS_ISSUE`, `TIMED_OUT`…
    Tried(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Requested {
    test_notification_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    send_attempts: Vec<Attempt>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attempt {
    send_attempt_result: String,
}

impl AppStore {
    /// Has Apple send a test notification to the URL of that environment.
    pub(crate) async fn request_test(
        &self,
        environment: Environment,
        bundle_id: &str,
    ) -> Result<TestRequest, FetchError> {
        let asked = self.client.act(environment, bundle_id, Act::RequestTest);
        match asked.await? {
            Said::Yes(body) => {
                let requested: Requested = serde_json::from_slice(&body)
                    .map_err(|_| unreadable("not the token of a test notification"))?;
                Ok(TestRequest::Sent(TestToken(
                    requested.test_notification_token,
                )))
            }
            Said::No(NO_URL) => Ok(TestRequest::NoUrl),
            Said::No(code) => Err(FetchError::Refused(format!("App Store error {code}"))),
        }
    }

    /// What became of it, as Apple saw it.
    pub(crate) async fn test_outcome(
        &self,
        environment: Environment,
        bundle_id: &str,
        token: &TestToken,
    ) -> Result<TestOutcome, FetchError> {
        let act = Act::TestStatus { token: &token.0 };
        match self.client.act(environment, bundle_id, act).await? {
            Said::Yes(body) => {
                let status: Status = serde_json::from_slice(&body)
                    .map_err(|_| unreadable("not the status of a test notification"))?;
                let last = status.send_attempts.into_iter().last();
                Ok(last.map_or(TestOutcome::NotTried, |attempt| {
                    TestOutcome::Tried(attempt.send_attempt_result)
                }))
            }
            Said::No(NOT_TRIED) => Ok(TestOutcome::NotTried),
            Said::No(code) => Err(FetchError::Refused(format!("App Store error {code}"))),
        }
    }
}

fn unreadable(what: &str) -> FetchError {
    FetchError::Unreadable(what.to_owned())
}
