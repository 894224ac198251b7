//! Notifications that were not delivered: Apple's history of what it sent.

use chrono::TimeDelta;
use serde::Deserialize;
use serde_json::json;

use super::AppStore;
use super::client::{Act, Said};
use super::verify::Verified;
use super::wire::NotificationName;
use crate::domain::provider::Environment;
use crate::domain::time::Instant;
use crate::providers::contract::{FetchError, Found, SweepPage, SweepRequest};

/// How far back the history reaches, less an hour: the clocks may differ.
const REACH_PRODUCTION: TimeDelta = TimeDelta::hours(180 * 24 - 1);
const REACH_SANDBOX: TimeDelta = TimeDelta::hours(30 * 24 - 1);

/// `NotificationHistoryResponse`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    pagination_token: Option<String>,
    #[serde(default)]
    has_more: bool,
    #[serde(default)]
    notification_history: Vec<Sent>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    signed_payload: String,
}

impl AppStore {
    /// One page of what Apple sent, or failed to send, in the order in which it did.
    pub(super) async fn sent(&self, request: &SweepRequest<'_>) -> Result<SweepPage, FetchError> {
        let served = self
            .accepted
            .in_order()
            .any(|environment| environment == request.environment);
        let Some(bundle_id) = request.app.bundle_id.as_deref().filter(|_| served) else {
            return Ok(SweepPage::default());
        };
        let since = request
            .since
            .max(request.until - reach(request.environment));
        if since >= request.until {
            return Ok(SweepPage::default());
        }
        let mut body = json!({
            "startDate": since.timestamp_millis(),
            "endDate": request.until.timestamp_millis(),
        });
        if request.only_failures {
            body["onlyFailures"] = json!(true);
        }
        let act = Act::NotificationHistory {
            page: request.cursor,
            body,
        };
        let asked = self.client.act(request.environment, bundle_id, act);
        let said = tokio::time::timeout(super::DEADLINE, asked)
            .await
            .unwrap_or_else(|_| Err(FetchError::away("no answer within the deadline")))?;
        match said {
            Said::Yes(body) => self.page(&body),
            Said::No(code) => Err(FetchError::Refused(format!("App Store error {code}"))),
        }
    }

    fn page(&self, body: &[u8]) -> Result<SweepPage, FetchError> {
        let page: Page = serde_json::from_slice(body)
            .map_err(|_| FetchError::Unreadable("not a notification history".to_owned()))?;
        let found = page.notification_history.iter().filter_map(|sent| {
            // Believed like a delivery: by its signature.
            let verified: Result<Verified<NotificationName>, _> =
                self.verifier.verify(&sent.signed_payload, Instant::MAX_UTC);
            let verified = match verified {
                Ok(verified) => verified,
                Err(error) => {
                    tracing::warn!(%error, "a notification in Apple's history does not verify");
                    return None;
                }
            };
            Some(Found {
                event_id: verified.payload().uuid.clone(),
                body: json!({"signedPayload": sent.signed_payload})
                    .to_string()
                    .into(),
            })
        });
        Ok(SweepPage {
            found: found.collect(),
            next: page.pagination_token.filter(|_| page.has_more),
        })
    }
}

fn reach(environment: Environment) -> TimeDelta {
    match environment {
        Environment::Production => REACH_PRODUCTION,
        Environment::Sandbox => REACH_SANDBOX,
    }
}
