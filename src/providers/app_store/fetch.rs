//! Which calls make a complete read of a chain.

use super::binding::{self, Accepted};
use super::client::{Call, Client};
use super::wire::{RefundHistoryResponse, StatusResponse};
use crate::domain::provider::Environment;
use crate::providers::contract::{FetchError, FetchRequest, StoreAnswer};

/// 20 transactions each: more refunds than any one customer has.
const REFUND_PAGES_MAX: usize = 50;

/// Renewables: statuses and refund history. Others: the transaction. Production first, and sandbox
/// for what production does not know.
pub(super) async fn chain(
    client: &Client,
    accepted: &Accepted,
    request: &FetchRequest<'_>,
) -> Result<Vec<StoreAnswer>, FetchError> {
    let id = &request.head.value;
    if !binding::is_transaction_id(id) {
        return Err(FetchError::Unreadable(
            "not an App Store transaction id".to_owned(),
        ));
    }
    let bundle_id = request
        .catalog
        .app(&request.head.app)
        .and_then(|app| app.bundle_id.as_deref())
        .ok_or_else(|| {
            FetchError::Refused("the catalog has no bundle id for the app".to_owned())
        })?;
    let mut answers = Vec::new();
    for environment in accepted.in_order() {
        if in_environment(client, environment, bundle_id, id, &mut answers).await? {
            break;
        }
    }
    Ok(answers)
}

/// Whether the chain is known there.
async fn in_environment(
    client: &Client,
    environment: Environment,
    bundle_id: &str,
    id: &str,
    answers: &mut Vec<StoreAnswer>,
) -> Result<bool, FetchError> {
    let statuses = client
        .read(environment, bundle_id, Call::Subscriptions, id)
        .await?;
    let renewable = statuses.status == 200 && has_row(&statuses, id)?;
    answers.push(statuses);
    if renewable {
        refunds(client, environment, bundle_id, id, answers).await?;
        return Ok(true);
    }
    // A customer without subscriptions may be unknown to the statuses; the transaction decides.
    let transaction = client
        .read(environment, bundle_id, Call::Transaction, id)
        .await?;
    let found = transaction.status == 200;
    answers.push(transaction);
    Ok(found)
}

/// The statuses are those of the customer: another subscription of theirs is no answer.
fn has_row(statuses: &StoreAnswer, id: &str) -> Result<bool, FetchError> {
    let response: StatusResponse = serde_json::from_slice(&statuses.body)
        .map_err(|_| FetchError::Unreadable("not a status response".to_owned()))?;
    Ok(response.row(id).is_some())
}

async fn refunds(
    client: &Client,
    environment: Environment,
    bundle_id: &str,
    id: &str,
    answers: &mut Vec<StoreAnswer>,
) -> Result<(), FetchError> {
    let mut revision: Option<String> = None;
    for page in 1..=REFUND_PAGES_MAX {
        let call = Call::Refunds {
            page,
            revision: revision.as_deref(),
        };
        let answer = client.read(environment, bundle_id, call, id).await?;
        let next = if answer.status == 200 {
            let response: RefundHistoryResponse = serde_json::from_slice(&answer.body)
                .map_err(|_| FetchError::Unreadable("not a refund history".to_owned()))?;
            response.revision.filter(|_| response.has_more)
        } else {
            None
        };
        answers.push(answer);
        match next {
            None => return Ok(()),
            same if same == revision => break,
            newer => revision = newer,
        }
    }
    Err(FetchError::Unreadable(
        "the refund history does not end".to_owned(),
    ))
}
