//! One transaction: what it is, whose it is, that it has been delivered. And those of an order.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::super::inner::Inner;
use super::super::super::setup::Environment;
use super::super::super::state::World;
use super::super::super::traffic::Endpoint;
use super::super::chain::Chain;
use super::super::payload;
use super::super::transaction::Transaction;
use super::admission::admit;
use super::error::{
    ACCOUNT_TOKEN_NO_UUID, APP_TRANSACTION_ID, AppleError, FAMILY_TRANSACTION,
    INVALID_TRANSACTION_ID, NO_APP_TRANSACTION, NO_TRANSACTION, NOT_ORIGINAL,
};
use super::{Answer, Signer, body, customer, numeric, transaction};

/// A transaction of endpoints that do not take a customer's id in its place.
pub(super) fn only_transaction<'a>(
    world: &'a World,
    id: &str,
) -> Result<(&'a Chain, &'a Transaction), AppleError> {
    numeric(id, INVALID_TRANSACTION_ID)?;
    if world.app_store.is_app_transaction(id) {
        return Err(APP_TRANSACTION_ID);
    }
    transaction(world, id)
}

/// Get Transaction Info.
pub(super) async fn info(
    State(inner): State<Arc<Inner>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, Endpoint::AppleTransaction, &headers).await?;
    inner.read(|world, now| {
        let (chain, found) = only_transaction(world, &id)?;
        let signed = Signer::new(&inner, world, now).transaction(chain, found)?;
        Ok(Json(json!({"signedTransactionInfo": signed})))
    })
}

/// Get App Transaction Info.
pub(super) async fn app_transaction(
    State(inner): State<Arc<Inner>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, Endpoint::AppleAppTransaction, &headers).await?;
    inner.read(|world, now| {
        let customer = world.app_store.customer(customer(world, &id)?);
        let customer = customer.ok_or(NO_APP_TRANSACTION)?;
        let signer = Signer::new(&inner, world, now);
        let payload = payload::app_transaction(customer, &inner.setup, signer.signed_at)?;
        Ok(Json(
            json!({"signedAppTransactionInfo": signer.sign(&payload)?}),
        ))
    })
}

/// Finish Transaction.
pub(super) async fn finish(
    State(inner): State<Arc<Inner>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, AppleError> {
    admit(&inner, Endpoint::AppleFinish, &headers).await?;
    inner.read(|world, _| only_transaction(world, &id).map(|_| ()))?;
    inner.change(|turn| turn.app_store_finish(&id))?;
    Ok(StatusCode::OK)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccountToken {
    #[serde(default)]
    app_account_token: Value,
}

/// Set App Account Token.
pub(super) async fn set_account_token(
    State(inner): State<Arc<Inner>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<StatusCode, AppleError> {
    admit(&inner, Endpoint::AppleAccountToken, &headers).await?;
    numeric(&id, INVALID_TRANSACTION_ID)?;
    let wish: AccountToken = body(&bytes)?;
    let token = wish.app_account_token.as_str();
    let token = token.and_then(|text| Uuid::try_parse(text).ok());
    let token = token.ok_or(ACCOUNT_TOKEN_NO_UUID)?;
    inner.read(|world, _| {
        let chain = world.app_store.chain_by_transaction(&id);
        let chain = chain.ok_or(NO_TRANSACTION)?;
        if chain.original_transaction_id != id {
            return Err(NOT_ORIGINAL);
        }
        match chain.sharing.is_shared() {
            true => Err(FAMILY_TRANSACTION),
            false => Ok(()),
        }
    })?;
    inner.change(|turn| turn.app_store_set_account_token(&id, token))?;
    Ok(StatusCode::OK)
}

/// Look Up Order ID: 0 for one that is valid, 1 for one that is not.
pub(super) async fn of_order(
    State(inner): State<Arc<Inner>>,
    Path(order): Path<String>,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, Endpoint::AppleOrder, &headers).await?;
    inner.read(|world, now| {
        let signer = Signer::new(&inner, world, now);
        let ids = match inner.setup.environment {
            Environment::Production => world.app_store.transactions_of_order(&order),
            // Nobody gets a receipt for a purchase in the sandbox.
            Environment::Sandbox => &[],
        };
        let signed = ids
            .iter()
            .map(|id| {
                let (chain, found) = transaction(world, id)?;
                signer.transaction(chain, found)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let status = u8::from(signed.is_empty());
        Ok(Json(
            json!({"status": status, "signedTransactions": signed}),
        ))
    })
}
