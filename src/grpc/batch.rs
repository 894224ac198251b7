//! BatchGetEntitlements: many accounts, one answer for each.

use tonic::Status;

use super::door::Door;
use super::status::{self, Refusal};
use super::warm::freshness;
use super::{convert, streams, wire};
use crate::flows::read_entitlements::{Read, present_accounts, read_batch};
use crate::watch::{Freshness, ReadError};

/// So many fit into one answer of usual accounts several times over.
const ACCOUNTS_MAX: usize = 200;

pub(super) async fn get(
    door: &Door,
    request: wire::BatchGetEntitlementsRequest,
) -> Result<wire::BatchGetEntitlementsResponse, Status> {
    let requests = request.requests;
    if requests.is_empty() || requests.len() > ACCOUNTS_MAX {
        return Err(status::bad_request("requests", "name 1 to 200 accounts"));
    }
    let names: Vec<&str> = requests
        .iter()
        .map(|one| name(one).unwrap_or_default())
        .collect();
    // Without the database, who is named by an id that is at hand is answered all the same.
    let (found, unread) = match present_accounts(&door.core, &names).await {
        Ok(found) => (found, None),
        Err(cause) => (known(door, &names), Some(cause)),
    };
    let asked: Vec<_> = requests
        .iter()
        .zip(found)
        .map(|(one, account)| Some((account?, freshness(one.consistency.as_ref()))))
        .collect();
    let pairs: Vec<(_, Freshness)> = asked.iter().flatten().cloned().collect();
    let mut reads = read_batch(&door.core, &pairs).await.into_iter();
    let answer = |(one, asked): (&wire::GetEntitlementsRequest, &Option<_>)| match name(one) {
        Err(mistake) => mistake.into_batched(one.account.clone()),
        Ok(name) => match (asked.as_ref().and_then(|_| reads.next()), &unread) {
            (Some(read), _) => told(name, read),
            (None, Some(cause)) => status::read_refusal(cause).into_batched(name.to_owned()),
            (None, None) => nothing(door, name),
        },
    };
    Ok(wire::BatchGetEntitlementsResponse {
        results: requests.iter().zip(&asked).map(answer).collect(),
        as_of: Some(convert::timestamp(door.core.clock.now())),
    })
}

/// The account that one request names.
fn name(one: &wire::GetEntitlementsRequest) -> Result<&str, Refusal> {
    match one.account.as_str() {
        "" => Err(Refusal::mistake(
            "account: name the account: issuer:subject or id",
        )),
        name if name.contains('\0') => Err(Refusal::mistake(
            "account: holds a character that no text has",
        )),
        _ if one.as_of.is_some() => Err(Refusal::mistake(
            "as_of: ask GetEntitlements about a past moment",
        )),
        name => Ok(name),
    }
}

fn known(door: &Door, names: &[&str]) -> Vec<Option<crate::flows::Account>> {
    let by_id = |name: &&str| {
        let id = uuid::Uuid::parse_str(name).ok()?;
        door.core.hub.known(id.into())
    };
    names.iter().map(by_id).collect()
}

fn told(account: &str, read: Result<Read, ReadError>) -> wire::BatchedEntitlements {
    let account = account.to_owned();
    match read {
        Ok(read) => wire::BatchedEntitlements {
            account,
            snapshot: Some(streams::shared(&read.view)),
            degraded: read.degraded,
            ..wire::BatchedEntitlements::default()
        },
        Err(cause) => status::read_refusal(&cause).into_batched(account),
    }
}

/// Somebody whom nobody has seen.
fn nothing(door: &Door, account: &str) -> wire::BatchedEntitlements {
    wire::BatchedEntitlements {
        account: account.to_owned(),
        snapshot: streams::nothing(&door.core).snapshot,
        ..wire::BatchedEntitlements::default()
    }
}
