//! `FindAccount`.

use tonic::Status;

use crate::flows::find_account::{self as flow, By, Found};
use crate::grpc::door::Door;
use crate::grpc::{convert, status, wire};

const QUERY_BYTES_MAX: usize = 4_096;

pub(super) async fn find_account(
    door: &Door,
    request: &wire::FindAccountRequest,
) -> Result<wire::FindAccountResponse, Status> {
    if request.query.len() > QUERY_BYTES_MAX {
        return Err(status::bad_request("query", "at most 4096 bytes"));
    }
    let Some(query) = flow::query(&request.query) else {
        return Err(status::bad_request("query", "is required"));
    };
    let Found {
        accounts,
        purchases,
    } = flow::find_account(&door.core, query)
        .await
        .map_err(status::from_storage)?;
    let accounts = accounts.into_iter().map(|account| wire::FoundAccount {
        account_id: account.id.to_string(),
        found_by: found_by(account.by).into(),
        identities: account.identities,
        created_at: Some(convert::timestamp(account.created_at)),
        purchase_ids: account.purchases.iter().map(ToString::to_string).collect(),
    });
    let purchases = purchases.into_iter().map(|purchase| wire::FoundPurchase {
        purchase_id: purchase.chain.to_string(),
        found_by: found_by(purchase.by).into(),
        store: convert::wire_store(purchase.provider).into(),
        app: purchase.app,
        account_id: purchase.owner.map(|id| id.to_string()).unwrap_or_default(),
        created_at: Some(convert::timestamp(purchase.created_at)),
    });
    Ok(wire::FindAccountResponse {
        accounts: accounts.collect(),
        purchases: purchases.collect(),
    })
}

fn found_by(by: By) -> wire::FoundBy {
    match by {
        By::AccountId => wire::FoundBy::AccountId,
        By::Identity => wire::FoundBy::Identity,
        By::StoreToken => wire::FoundBy::StoreToken,
        By::Purchase => wire::FoundBy::Purchase,
        By::PurchaseId => wire::FoundBy::PurchaseId,
        By::OriginalTransactionId => wire::FoundBy::OriginalTransactionId,
        By::TransactionId => wire::FoundBy::TransactionId,
        By::OrderId => wire::FoundBy::OrderId,
        By::PurchaseToken => wire::FoundBy::PurchaseToken,
    }
}
