//! `ClaimDelivery` and `ListDeliveries`: for backends that hand out goods themselves.

use tonic::Status;
use uuid::Uuid;

use crate::domain::time::Instant;
use crate::flows::claim_delivery::{self as flow, ClaimError, Listed, Named};
use crate::grpc::auth::Caller;
use crate::grpc::door::{Door, Subject};
use crate::grpc::pages::{self, PageToken};
use crate::grpc::status::{self, Reason};
use crate::grpc::{convert, wire};

/// Longest key that is kept.
const KEY_BYTES_MAX: usize = 200;

pub(super) async fn claim(
    door: &Door,
    caller: &Caller,
    request: wire::ClaimDeliveryRequest,
) -> Result<wire::ClaimDeliveryResponse, Status> {
    let account = match door.subject(caller, &request.account).await? {
        Subject::Known(account) => account,
        Subject::Unknown => return Err(refused(&ClaimError::NotFound)),
    };
    if request.claim_key.is_empty() || request.claim_key.len() > KEY_BYTES_MAX {
        return Err(status::bad_request("claim_key", "1 to 200 bytes"));
    }
    use wire::claim_delivery_request::Delivery;
    let named = match &request.delivery {
        Some(Delivery::DeliveryId(id)) => {
            let id = Uuid::parse_str(id);
            Named::Id(id.map_err(|_| status::bad_request("delivery_id", "is a UUID"))?)
        }
        Some(Delivery::StoreTransactionId(id)) if !id.is_empty() => Named::Transaction(id),
        Some(Delivery::StoreTransactionId(_)) | None => {
            return Err(status::bad_request(
                "delivery_id",
                "name the delivery, or its transaction in store_transaction_id",
            ));
        }
    };
    let claimed = flow::claim_delivery(
        &door.core,
        account.id,
        (named, &caller.apps),
        &request.claim_key,
    )
    .await
    .map_err(|error| match error {
        ClaimError::Storage(error) => status::from_storage(error),
        error @ (ClaimError::NotFound
        | ClaimError::Claimed
        | ClaimError::Revoked
        | ClaimError::KeyReused) => refused(&error),
    })?;
    Ok(wire::ClaimDeliveryResponse {
        delivery: Some(delivery(claimed)),
    })
}

pub(super) async fn list(
    door: &Door,
    caller: &Caller,
    request: wire::ListDeliveriesRequest,
) -> Result<wire::ListDeliveriesResponse, Status> {
    let account = if request.account.is_empty() {
        None
    } else {
        match door.subject(caller, &request.account).await? {
            Subject::Known(account) => Some(account.id),
            Subject::Unknown => return Ok(wire::ListDeliveriesResponse::default()),
        }
    };
    let size = pages::size(request.page_size)?;
    let question = account.map(|id| id.0);
    let after = PageToken::<(Instant, Uuid)>::read(&request.page_token, &question)?;
    let mut listed = flow::list_deliveries(&door.core, account, &caller.apps, after, size + 1)
        .await
        .map_err(status::from_storage)?;
    let more = listed.len() > usize::try_from(size).unwrap_or(usize::MAX);
    if more {
        listed.pop();
    }
    let next_page_token = match listed.last() {
        Some(last) if more => PageToken::write(&(last.created_at, last.id), &question),
        Some(_) | None => String::new(),
    };
    Ok(wire::ListDeliveriesResponse {
        deliveries: listed.into_iter().map(delivery).collect(),
        next_page_token,
    })
}

fn refused(error: &ClaimError) -> Status {
    let reason = match error {
        ClaimError::NotFound => Reason::DeliveryNotFound,
        ClaimError::Claimed => Reason::DeliveryClaimed,
        ClaimError::Revoked => Reason::DeliveryRevoked,
        ClaimError::KeyReused => Reason::ClaimKeyReused,
        ClaimError::Storage(_) => Reason::Internal,
    };
    status::status(reason, error.to_string())
}

fn delivery(row: Listed) -> wire::Delivery {
    wire::Delivery {
        id: row.id.to_string(),
        account_id: row.account.to_string(),
        plan: row.product,
        units: row.units,
        store_transaction_id: row.transaction_id,
        environment: convert::environment_word(&row.environment).into(),
        created_at: Some(convert::timestamp(row.created_at)),
        claimed_at: row.claimed_at.map(convert::timestamp),
        revoked_at: row.revoked_at.map(convert::timestamp),
    }
}
