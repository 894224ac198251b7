//! One-time purchases: `purchases.productsv2` and `purchases.products`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::super::super::inner::Inner;
use super::super::developer::Acknowledgement;
use super::super::{product_v1, resource};
use super::admission::{ACKNOWLEDGE_PRODUCT, CONSUME, GET_PRODUCT, admit};
use super::error::{GoogleError, NO_METHOD, NOT_FOUND, PRODUCT_MISMATCH};
use super::{Answer, find, request};

/// `products.acknowledge`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Acknowledge {
    developer_payload: Option<String>,
}

/// `productsv2.getproductpurchasev2`.
pub(super) async fn get_v2(
    State(inner): State<Arc<Inner>>,
    Path((package, token)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, &GET_PRODUCT, &headers).await?;
    inner.read(|world, now| {
        let purchase = find(world, &inner, &package, &token, now)?;
        resource::product(purchase, &inner.setup)
            .map(Json)
            .ok_or(NOT_FOUND)
    })
}

/// `products.get`.
pub(super) async fn get_v1(
    State(inner): State<Arc<Inner>>,
    Path((package, product, token)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, &GET_PRODUCT, &headers).await?;
    inner.read(|world, now| {
        let purchase = find(world, &inner, &package, &token, now)?;
        let current = resource::product(purchase, &inner.setup).ok_or(NOT_FOUND)?;
        match purchase.product_id == product {
            true => Ok(Json(product_v1::of(purchase, &current))),
            false => Err(PRODUCT_MISMATCH),
        }
    })
}

/// `products.acknowledge` and `products.consume`.
pub(super) async fn post_v1(
    State(inner): State<Arc<Inner>>,
    Path((package, product, token_and_verb)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, GoogleError> {
    let (token, verb) = request::verb(&token_and_verb)?;
    let method = match verb {
        "acknowledge" => &ACKNOWLEDGE_PRODUCT,
        "consume" => &CONSUME,
        _ => return Err(NO_METHOD),
    };
    admit(&inner, method, &headers).await?;
    inner.read(|world, now| {
        let purchase = find(world, &inner, &package, token, now)?;
        match purchase.subscription() {
            Some(_) => Err(NOT_FOUND),
            None if purchase.product_id != product => Err(PRODUCT_MISMATCH),
            None => Ok(()),
        }
    })?;
    if verb == "consume" {
        inner.change(|turn| turn.google_play_consume(token))?;
        return Ok(StatusCode::NO_CONTENT);
    }
    let said = Acknowledgement {
        payload: request::body::<Acknowledge>(&body)?.developer_payload,
        ..Acknowledgement::default()
    };
    inner.change(|turn| turn.google_play_acknowledge(token, said))?;
    Ok(StatusCode::NO_CONTENT)
}
