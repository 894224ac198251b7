//! `GrantEntitlement` and `RevokeGrant`.

use tonic::Status;

use crate::domain::entitlement::Grant;
use crate::flows::grant::{self, GrantError};
use crate::grpc::door::{Door, Operator};
use crate::grpc::status::Reason;
use crate::grpc::{convert, status, wire};

pub(super) async fn grant_entitlement(
    door: &Door,
    operator: &Operator,
    request: wire::GrantEntitlementRequest,
) -> Result<wire::GrantEntitlementResponse, Status> {
    let account = door
        .known_subject(&operator.caller, &request.account)
        .await?;
    let reason = super::reason(&request.reason)?;
    let expires_at = convert::moment("expires_at", request.expires_at.as_ref())?;
    let gift = Grant {
        entitlement: request.entitlement,
        expires_at,
    };
    let revision = grant::grant(&door.core, account.id, &gift, &operator.actor, reason)
        .await
        .map_err(refused)?;
    Ok(wire::GrantEntitlementResponse {
        revision: revision.map(|revision| revision.0).unwrap_or_default(),
    })
}

pub(super) async fn revoke_grant(
    door: &Door,
    operator: &Operator,
    request: &wire::RevokeGrantRequest,
) -> Result<wire::RevokeGrantResponse, Status> {
    let account = door
        .known_subject(&operator.caller, &request.account)
        .await?;
    let reason = super::reason(&request.reason)?;
    let revoked = grant::revoke_grant(
        &door.core,
        account.id,
        &request.entitlement,
        &operator.actor,
        reason,
    )
    .await
    .map_err(refused)?;
    Ok(wire::RevokeGrantResponse {
        revoked: i32::try_from(revoked).unwrap_or(i32::MAX),
    })
}

fn refused(cause: GrantError) -> Status {
    match cause {
        cause @ GrantError::UnknownEntitlement(_) => {
            status::bad_request("entitlement", &cause.to_string())
        }
        GrantError::Refused(cause) => status::bad_request("expires_at", &cause.to_string()),
        GrantError::UnknownAccount => status::status(Reason::AccountNotFound, "no such account"),
        GrantError::Storage(cause) => status::from_storage(cause),
    }
}
