//! `TransferPurchase`.

use tonic::Status;

use crate::flows::transfer::{Transfer, TransferError, transfer};
use crate::grpc::door::{Door, Operator};
use crate::grpc::status::Reason;
use crate::grpc::{status, wire};

/// As much as an action at a store may have.
const OPERATION_ID_BYTES_MAX: usize = 64;

pub(super) async fn transfer_purchase(
    door: &Door,
    operator: &Operator,
    request: &wire::TransferPurchaseRequest,
) -> Result<wire::TransferPurchaseResponse, Status> {
    let chain = super::purchase(door, &request.purchase).await?;
    let to = door
        .known_subject(&operator.caller, &request.to_account)
        .await?;
    let from = match request.from_account.as_str() {
        "" => None,
        name => Some(door.known_subject(&operator.caller, name).await?.id),
    };
    let asked = Transfer {
        chain,
        from,
        to: to.id,
        operation_id: (!request.operation_id.is_empty()).then_some(request.operation_id.as_str()),
        actor: &operator.actor,
        reason: super::reason(&request.reason)?,
    };
    let id = request.operation_id.as_str();
    if id.len() > OPERATION_ID_BYTES_MAX || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(status::bad_request(
            "operation_id",
            "at most 64 printable characters, without spaces",
        ));
    }
    transfer(&door.core, asked).await.map_err(refused)?;
    Ok(wire::TransferPurchaseResponse {})
}

fn refused(cause: TransferError) -> Status {
    let message = cause.to_string();
    match cause {
        TransferError::UnknownChain => status::status(Reason::PurchaseNotFound, message),
        TransferError::UnknownAccount => status::status(Reason::AccountNotFound, message),
        TransferError::AlreadyTheirs | TransferError::NotTheOwner => {
            status::status(Reason::TransferStale, message)
        }
        TransferError::OperationReused => status::status(Reason::OperationIdReused, message),
        TransferError::Storage(cause) => status::from_storage(cause),
    }
}
