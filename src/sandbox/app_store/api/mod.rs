//! The App Store Server API over HTTP: one file per resource, each handler no more than check,
//! look or change, and say.

mod admission;
mod consumption;
mod error;
mod extension;
mod history;
mod notifications;
mod query;
mod refunds;
mod statuses;
mod transactions;
mod vocabulary;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::routing::{get, post, put};
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::delivery::Source;
use super::super::inner::Inner;
use super::super::state::World;
use super::chain::Chain;
use super::transaction::Transaction;
use super::{ocsp, payload};
use error::{AppleError, BAD_REQUEST, INVALID_TRANSACTION_ID, NO_TRANSACTION};

/// Transactions or notifications on one page.
const PAGE: usize = 20;

type Answer = Result<Json<Value>, AppleError>;

pub(in crate::sandbox) fn routes() -> Router<Arc<Inner>> {
    let transactions = Router::new()
        .route("/{id}", get(transactions::info))
        .route("/{id}/finish", post(transactions::finish))
        .route(
            "/{id}/appAccountToken",
            put(transactions::set_account_token),
        )
        .route("/appTransactions/{id}", get(transactions::app_transaction))
        .route("/consumption/{id}", put(consumption::version_1));
    let subscriptions = Router::new()
        .route("/{id}", get(statuses::all))
        .route("/extend/{id}", put(extension::one))
        .route("/extend/mass", post(extension::mass))
        .route(
            "/extend/mass/{product}/{request}",
            get(extension::mass_status),
        );
    let notifications = Router::new()
        .route("/history", post(notifications::history))
        .route("/test", post(notifications::request_test))
        .route("/test/{token}", get(notifications::test_status));
    Router::new()
        .nest("/inApps/v1/transactions", transactions)
        .nest("/inApps/v1/subscriptions", subscriptions)
        .nest("/inApps/v1/notifications", notifications)
        .route("/inApps/v1/history/{id}", get(history::version_1))
        .route("/inApps/v2/history/{id}", get(history::version_2))
        .route("/inApps/v1/lookup/{order}", get(transactions::of_order))
        .route("/inApps/v2/refund/lookup/{id}", get(refunds::all))
        .route(
            "/inApps/v2/transactions/consumption/{id}",
            put(consumption::version_2),
        )
        .merge(ocsp::routes())
}

fn is_number(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())
}

/// Ids of transactions and customers are decimal numbers; which error a bad one is depends on what
/// it was to be.
fn numeric(id: &str, error: AppleError) -> Result<(), AppleError> {
    match is_number(id) {
        true => Ok(()),
        false => Err(error),
    }
}

/// A body that has to be JSON, whatever its content type says.
fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, AppleError> {
    serde_json::from_slice(bytes).map_err(|_| BAD_REQUEST)
}

/// The customer whom an id of any kind belongs to.
fn customer<'a>(world: &'a World, any: &str) -> Result<&'a str, AppleError> {
    numeric(any, INVALID_TRANSACTION_ID)?;
    world.app_store.customer_by_any(any).ok_or(NO_TRANSACTION)
}

/// A transaction with its chain.
fn transaction<'a>(world: &'a World, id: &str) -> Result<(&'a Chain, &'a Transaction), AppleError> {
    let chain = world.app_store.chain_by_transaction(id);
    chain
        .and_then(|chain| Some((chain, chain.transaction(id)?)))
        .ok_or(NO_TRANSACTION)
}

/// Whatever is said at this moment is signed with one stamp.
struct Signer<'a> {
    inner: &'a Inner,
    signed_at: DateTime<Utc>,
}

impl<'a> Signer<'a> {
    fn new(inner: &'a Inner, world: &World, now: DateTime<Utc>) -> Self {
        Self {
            inner,
            signed_at: world.read_stamp(Source::AppStore, now),
        }
    }

    fn transaction(&self, chain: &Chain, of: &Transaction) -> Result<String, AppleError> {
        let payload = payload::transaction(chain, of, &self.inner.setup, self.signed_at)?;
        self.sign(&payload)
    }

    fn renewal(&self, world: &World, chain: &Chain) -> Result<String, AppleError> {
        let shelf = world.app_store.shelf(&self.inner.setup);
        let payload = payload::renewal(chain, &shelf, self.signed_at)?;
        self.sign(&payload.unwrap_or_default())
    }

    fn sign(&self, payload: &Value) -> Result<String, AppleError> {
        Ok(self.inner.keys.apple.sign(payload)?)
    }
}
