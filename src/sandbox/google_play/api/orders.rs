//! Orders: `orders.get` and `orders.batchget`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::super::super::inner::Inner;
use super::super::super::state::World;
use super::super::resource;
use super::Answer;
use super::admission::{GET_ORDER, admit};
use super::error::{GoogleError, ORDER_NOT_FOUND, invalid};
use super::request::Parameters;

/// Orders that one call may ask for.
const BATCH_MAX: usize = 1_000;

/// `orders.get`.
pub(super) async fn get(
    State(inner): State<Arc<Inner>>,
    Path((package, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, &GET_ORDER, &headers).await?;
    inner.read(|world, _| order(world, &inner, &package, &id).map(Json))
}

/// `orders.batchget`: all or none.
pub(super) async fn batch_get(
    State(inner): State<Arc<Inner>>,
    Path(package): Path<String>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, &GET_ORDER, &headers).await?;
    let ids = parameters.iter().filter(|(name, _)| name == "orderIds");
    let ids: Vec<_> = ids.map(|(_, id)| id).collect();
    if !(1..=BATCH_MAX).contains(&ids.len()) {
        let count = ids.len();
        return Err(invalid(format!(
            "Between 1 and {BATCH_MAX} order IDs must be given, not {count}."
        )));
    }
    let distinct: BTreeSet<_> = ids.iter().collect();
    if distinct.len() != ids.len() {
        return Err(invalid("The order IDs must be distinct."));
    }
    inner.read(|world, _| {
        let orders: Result<Vec<_>, _> = ids
            .iter()
            .map(|id| order(world, &inner, &package, id))
            .collect();
        Ok(Json(json!({"orders": orders?})))
    })
}

fn order(world: &World, inner: &Inner, package: &str, id: &str) -> Result<Value, GoogleError> {
    if package != inner.setup.package_name {
        return Err(ORDER_NOT_FOUND);
    }
    let purchase = world.google_play.purchase_by_order(id);
    let purchase = purchase.ok_or(ORDER_NOT_FOUND)?;
    let order = purchase.order(id).ok_or(ORDER_NOT_FOUND)?;
    Ok(resource::order(purchase, order))
}
