//! `ActAtStore`.

use std::time::Duration;

use tonic::Status;

use crate::domain::subscription::store_state::ItemKind;
use crate::flows::act_at_store::{ActError, Asked, Command, act_at_store as act};
use crate::grpc::door::{Door, Operator};
use crate::grpc::status::Reason;
use crate::grpc::{convert, status, wire};

pub(super) async fn act_at_store(
    door: &Door,
    operator: &Operator,
    request: wire::ActAtStoreRequest,
) -> Result<wire::ActAtStoreResponse, Status> {
    let command = command(&request)?;
    let chain = super::purchase(door, &request.purchase).await?;
    let asked = Asked {
        chain,
        command: &command,
        operation_id: &request.operation_id,
        actor: &operator.actor,
        reason: super::reason(&request.reason)?,
    };
    let acted = act(&door.core, asked).await.map_err(refused)?;
    let items = acted.state.iter().flat_map(|state| &state.items);
    let status = items
        .filter(|item| item.kind == ItemKind::Subscription)
        .map(|item| convert::status(&item.state))
        .next();
    Ok(wire::ActAtStoreResponse {
        outcome: acted.outcome,
        settled: acted.settled,
        status: status.map_or(0, i32::from),
    })
}

fn command(request: &wire::ActAtStoreRequest) -> Result<Command, Status> {
    use wire::act_at_store_request::Action;
    let id = &request.operation_id;
    let printable = id.bytes().all(|byte| byte.is_ascii_graphic());
    if !(8..=64).contains(&id.len()) || !printable {
        return Err(status::bad_request(
            "operation_id",
            "8 to 64 printable characters, without spaces",
        ));
    }
    match request.action.as_ref() {
        Some(Action::Refund(refund)) if refund.order_id.is_empty() => {
            Err(status::bad_request("refund.order_id", "is required"))
        }
        Some(Action::Refund(refund)) => Ok(Command::Refund {
            order_id: refund.order_id.clone(),
            revoke: refund.revoke,
        }),
        Some(Action::Revoke(revoke)) => Ok(Command::Revoke {
            prorated: revoke.prorated,
        }),
        Some(Action::Cancel(cancel)) => Ok(Command::Cancel {
            by_developer: cancel.by_developer,
        }),
        Some(Action::Extend(extend)) => match u32::try_from(extend.days) {
            Ok(days @ 1..=365) => Ok(Command::Extend {
                days,
                request_id: id.clone(),
            }),
            Ok(_) | Err(_) => Err(status::bad_request("extend.days", "1 to 365")),
        },
        None => Err(status::bad_request("action", "is required")),
    }
}

/// When to ask a store again that could not be asked.
const RETRY: Duration = Duration::from_secs(5);

fn refused(cause: ActError) -> Status {
    let message = cause.to_string();
    match cause {
        ActError::UnknownPurchase => status::status(Reason::PurchaseNotFound, message),
        ActError::OperationReused => status::status(Reason::OperationIdReused, message),
        ActError::Undecided => status::status(Reason::StoreActionUndecided, message),
        ActError::Away(_) => status::retryable(Reason::StoreUnavailable, message, RETRY),
        ActError::ForeignOrder => status::bad_request("refund.order_id", &message),
        ActError::NotRead | ActError::NotOffered(_) | ActError::Declined(_) => {
            status::status(Reason::StoreActionRefused, message)
        }
        ActError::Storage(cause) => status::from_storage(cause),
    }
}
