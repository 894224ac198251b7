//! What the App Store is told: duties after a commit, and what an operator asks for.

use serde::Deserialize;
use serde_json::{Value, json};

use super::AppStore;
use super::binding;
use super::client::{Act, Said};
use super::wire::Millis;
use crate::domain::catalog::Catalog;
use crate::domain::duty::Duty;
use crate::domain::refund_defence::{Delivery, Preference, RefundAnswer};
use crate::domain::subscription::store_state::{ItemKind, StoreState};
use crate::providers::contract::{Command, CommandError, Effect, FetchError};

/// Days that one extension may have.
const EXTENSION_DAYS_MAX: u32 = 90;
/// Apple keeps identifiers of requests up to this length.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// `extendReasonCode` 1: for the customer's satisfaction.
const FOR_SATISFACTION: u8 = 1;

/// The purchase is not there, or not of a kind that can be told about: nothing is left to do.
const MOOT: [i64; 9] = [
    4_000_006, // not a transaction id
    4_000_008, // not an original transaction id
    4_000_047, // of a type that is not asked about
    4_000_185, // shared by the family
    4_000_187, // not the original transaction
    4_000_048, // of the app itself
    4_040_001, // account not found
    4_040_005, // original transaction not found
    4_040_010, // transaction not found
];
/// Our token is not a UUID, so Apple cannot keep it.
const TOKEN_NO_UUID: i64 = 4_000_183;

impl AppStore {
    /// Carries out a duty; what Apple says has become impossible counts as done.
    pub(super) async fn carry_out(
        &self,
        effect: &Effect<'_>,
        catalog: &Catalog,
    ) -> Result<(), FetchError> {
        let state = effect.state;
        let id = effect.transaction_id;
        let act = match effect.duty {
            // The App Store asks for no acknowledgement, and reviews refunds by another question.
            Duty::Acknowledge { .. } | Duty::Consume | Duty::ReviewRefund { .. } => return Ok(()),
            Duty::Finish => Act::Finish { transaction_id: id },
            Duty::SetAccountToken { account_token } => Act::SetAccountToken {
                original_transaction_id: &state.head.value,
                body: json!({"appAccountToken": account_token}),
            },
            Duty::AnswerConsumptionRequest => Act::Consumption {
                transaction_id: id,
                body: consumption(state, effect.answer.ok_or_else(no_answer)?),
            },
        };
        if !binding::is_transaction_id(id) {
            return Err(FetchError::Unreadable(
                "not an App Store transaction id".to_owned(),
            ));
        }
        match self.tell(state, act, catalog).await? {
            Said::Yes(_) => Ok(()),
            Said::No(code) if MOOT.contains(&code) || code == TOKEN_NO_UUID => Ok(()),
            Said::No(code) => Err(FetchError::Refused(format!("App Store error {code}"))),
        }
    }

    /// Apple leaves one thing to developers: to give time.
    pub(super) async fn obey(
        &self,
        state: &StoreState,
        command: &Command,
        catalog: &Catalog,
    ) -> Result<String, CommandError> {
        match command {
            Command::Extend { days, request_id } => {
                self.extend(state, *days, request_id, catalog).await
            }
            Command::Refund { .. } | Command::Revoke { .. } => Err(CommandError::NotOffered(
                "Apple alone refunds App Store purchases: the customer asks at \
                 reportaproblem.apple.com, or in the app with StoreKit's beginRefundRequest",
            )),
            Command::Cancel { .. } => Err(CommandError::NotOffered(
                "only the customer cancels an App Store subscription: in Settings under \
                 Subscriptions, or in the app with StoreKit's showManageSubscriptions",
            )),
        }
    }

    async fn extend(
        &self,
        state: &StoreState,
        days: u32,
        request_id: &str,
        catalog: &Catalog,
    ) -> Result<String, CommandError> {
        if !(1..=EXTENSION_DAYS_MAX).contains(&days) {
            return Err(declined("an extension is 1 to 90 days"));
        }
        if request_id.is_empty() || request_id.len() > REQUEST_ID_BYTES_MAX {
            return Err(declined(
                "the request needs an id of at most 128 characters",
            ));
        }
        let act = Act::Extend {
            original_transaction_id: &state.head.value,
            body: json!({
                "extendByDays": days,
                "extendReasonCode": FOR_SATISFACTION,
                "requestIdentifier": request_id,
            }),
        };
        let body = match self.tell(state, act, catalog).await? {
            Said::Yes(body) => body,
            Said::No(code) => return Err(CommandError::Declined(why_not_extended(code))),
        };
        let extended: Extended = serde_json::from_slice(&body)
            .map_err(|_| FetchError::Unreadable("not an extension response".to_owned()))?;
        match extended.effective_date {
            _ if !extended.success => Err(declined("it did not say why")),
            Some(until) => Ok(format!("renews on {} now", until.0.format("%F %T UTC"))),
            None => Ok("extended".to_owned()),
        }
    }

    async fn tell(
        &self,
        state: &StoreState,
        act: Act<'_>,
        catalog: &Catalog,
    ) -> Result<Said, FetchError> {
        let bundle_id = catalog
            .app(&state.head.app)
            .and_then(|app| app.bundle_id.as_deref())
            .ok_or_else(|| {
                FetchError::Refused("the catalog has no bundle id for the app".to_owned())
            })?;
        let told = self.client.act(state.environment, bundle_id, act);
        tokio::time::timeout(super::DEADLINE, told)
            .await
            .unwrap_or_else(|_| Err(FetchError::away("no answer within the deadline")))
    }
}

/// `ExtendRenewalDateResponse`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Extended {
    success: bool,
    effective_date: Option<Millis>,
}

fn declined(why: &str) -> CommandError {
    CommandError::Declined(why.to_owned())
}

fn no_answer() -> FetchError {
    FetchError::Refused("there is no answer to send".to_owned())
}

fn why_not_extended(code: i64) -> String {
    match code {
        4_030_004 => "it is not in a paid period that is running".to_owned(),
        4_030_005 => "it has been extended twice within a year".to_owned(),
        4_030_007 => "it is shared by the family: its purchaser's can be extended".to_owned(),
        code => format!("App Store error {code}"),
    }
}

/// `ConsumptionRequest`, version 2. Sent only with the customer's consent.
fn consumption(state: &StoreState, answer: &RefundAnswer) -> Value {
    let delivered = answer.delivery == Delivery::Delivered;
    let mut body = json!({
        "customerConsented": true,
        "sampleContentProvided": answer.sample_content_provided,
        "deliveryStatus": match answer.delivery {
            Delivery::Delivered => "DELIVERED",
            Delivery::QualityIssue => "UNDELIVERED_QUALITY_ISSUE",
            Delivery::WrongItem => "UNDELIVERED_WRONG_ITEM",
            Delivery::ServerOutage => "UNDELIVERED_SERVER_OUTAGE",
            Delivery::OtherReason => "UNDELIVERED_OTHER",
        },
    });
    // Apple refuses a share of what renews, and anything but none of what did not arrive.
    let renews = state
        .items
        .iter()
        .any(|item| item.kind == ItemKind::Subscription);
    if let Some(share) = answer.consumption_millipercent.filter(|_| !renews) {
        body["consumptionPercentage"] = json!(if delivered { share.min(100_000) } else { 0 });
    }
    match answer.preference {
        Preference::Neutral => {}
        Preference::Decline => body["refundPreference"] = json!("DECLINE"),
        Preference::GrantFull => body["refundPreference"] = json!("GRANT_FULL"),
        Preference::GrantProrated => body["refundPreference"] = json!("GRANT_PRORATED"),
    }
    body
}
