//! `ExplainEntitlement`.

use tonic::Status;

use crate::flows::explain::{Deciding, ExplainError, explain};
use crate::grpc::door::{Door, Operator};
use crate::grpc::status::Reason;
use crate::grpc::{convert, status, wire};

pub(super) async fn explain_entitlement(
    door: &Door,
    operator: &Operator,
    request: &wire::ExplainEntitlementRequest,
) -> Result<wire::ExplainEntitlementResponse, Status> {
    let account = door
        .known_subject(&operator.caller, &request.account)
        .await?;
    let at = convert::moment("at", request.at.as_ref())?;
    let explained = explain(&door.core, account.id, &request.entitlement, at)
        .await
        .map_err(refused)?;
    let why = explained.explanation;
    Ok(wire::ExplainEntitlementResponse {
        active: why.active,
        sentence: why.sentence,
        reason: why.reason.to_owned(),
        rule: why.rule,
        since: why.since.map(convert::timestamp),
        next_change_at: why.next_change_at.map(convert::timestamp),
        next: why.next,
        advice: why.advice,
        purchase_id: explained
            .purchase
            .map(|id| id.to_string())
            .unwrap_or_default(),
        decided_by: explained.decided.map(deciding),
        at: Some(convert::timestamp(explained.at)),
    })
}

fn deciding(decided: Deciding) -> wire::DecidingEvent {
    wire::DecidingEvent {
        event_id: decided.event,
        at: Some(convert::timestamp(decided.at)),
        source: decided.source,
        signal: decided.signal.unwrap_or_default(),
        decision: decided.decision,
        reason: decided.reason,
        actor: decided.actor.unwrap_or_default(),
        words: decided.words,
    }
}

fn refused(cause: ExplainError) -> Status {
    match cause {
        ExplainError::UnknownEntitlement(id) => status::bad_request(
            "entitlement",
            &format!("the catalog has no entitlement {id:?}"),
        ),
        ExplainError::Future => status::bad_request("at", "that moment has not come yet"),
        ExplainError::History(cause) => status::status(
            Reason::AsOfUnavailable,
            format!("what was true then cannot be told any more: {cause:#}"),
        ),
        ExplainError::Storage(cause) => status::from_storage(cause),
    }
}
