//! `LinkIdentity`: who is calling, who the other credential is, and which of them stays.

use tonic::{Code, Status};

use crate::flows::Account;
use crate::flows::link_identity::{LinkError, Linked, link_identity as link};
use crate::flows::own_account::OwnAccountError;
use crate::flows::read_entitlements::read_entitlements;
use crate::grpc::auth::{Caller, CallerKind};
use crate::grpc::door::{Door, names};
use crate::grpc::status::{self, Reason};
use crate::grpc::{convert, streams, wire};
use crate::watch::Freshness;

pub(super) async fn link_identity(
    door: &Door,
    caller: &Caller,
    request: &wire::LinkIdentityRequest,
) -> Result<wire::LinkIdentityResponse, Status> {
    // Whose account it is comes before whose token the other one is.
    if caller.kind == CallerKind::User && !request.account.is_empty() {
        door.known_subject(caller, &request.account).await?;
    }
    if request.other_token.is_empty() {
        return Err(status::bad_request("other_token", "is required"));
    }
    let bearer = format!("Bearer {}", request.other_token);
    let other = match door.authenticator.authenticate(Some(&bearer)).await {
        Ok(other) if other.kind == CallerKind::User => other,
        Ok(_) => return Err(status::bad_request("other_token", "is not a user's")),
        Err(cause) if cause.code() == Code::Unavailable => {
            return Err(status::unauthenticated(cause));
        }
        Err(_) => {
            return Err(status::sign_in(
                Reason::OtherTokenInvalid,
                "the other credential is not accepted; get a fresh one",
            ));
        }
    };
    let (stays, outcome) = match (caller.kind, caller.anonymous, other.anonymous) {
        (CallerKind::User, true, true) => return Err(refused("nobody has signed in")),
        // Either may make the call: the one that has signed in stays.
        (CallerKind::User, true, false) => {
            let stays = door.own(&other).await?;
            let outcome = link(&door.core, &stays, names(caller)).await;
            (stays, outcome)
        }
        (CallerKind::User | CallerKind::Service | CallerKind::Operator(_), _, _) => {
            let stays = door.bind_subject(caller, &request.account).await?;
            let outcome = link(&door.core, &stays, names(&other)).await;
            (stays, outcome)
        }
    };
    let outcome = match outcome.map_err(from_link)? {
        Linked::Now => wire::LinkOutcome::Linked,
        Linked::Before => wire::LinkOutcome::AlreadyLinked,
    };
    answer(door, stays, outcome).await
}

async fn answer(
    door: &Door,
    account: Account,
    outcome: wire::LinkOutcome,
) -> Result<wire::LinkIdentityResponse, Status> {
    let read = read_entitlements(&door.core, &account, &Freshness::Full)
        .await
        .map_err(status::from_read)?;
    Ok(wire::LinkIdentityResponse {
        outcome: outcome.into(),
        snapshot: Some(streams::shared(&read.view)),
        as_of: Some(convert::timestamp(read.as_of)),
    })
}

fn refused(message: &str) -> Status {
    status::status(Reason::LinkRefused, message)
}

fn from_link(cause: LinkError) -> Status {
    match cause {
        LinkError::Refused(why) => refused(&why.to_string()),
        LinkError::Credential(
            OwnAccountError::Revoked | OwnAccountError::Gone | OwnAccountError::Linked,
        ) => status::sign_in(
            Reason::OtherTokenInvalid,
            "the credential that is to be linked has ended",
        ),
        LinkError::Credential(OwnAccountError::Storage(cause)) => status::from_storage(cause),
        LinkError::TooMany(retry) => {
            status::retryable(Reason::RateLimited, "too many links of this account", retry)
        }
    }
}
