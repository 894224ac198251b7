//! The Google Play Developer API over HTTP, with the token endpoint and key set beside it.

mod admission;
mod catalogue;
mod error;
mod keys;
mod orders;
mod products;
mod request;
mod subscriptions;
mod voided;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::super::inner::Inner;
use super::super::state::World;
use super::purchase::Purchase;
use error::{GoogleError, INVALID_TOKEN, MISMATCH, NO_METHOD, NOT_FOUND, SUBSCRIPTION_GONE};

/// Shorter texts cannot be a purchase token.
const TOKEN_CHARS_MIN: usize = 20;

pub(in crate::sandbox) fn routes() -> Router<Arc<Inner>> {
    let app = "/androidpublisher/v3/applications/{package}";
    let purchases = |path: &str| format!("{app}/purchases/{path}");
    Router::new()
        .route("/token", post(keys::token))
        .route("/oauth2/v1/certs", get(keys::certificates))
        .route("/oauth2/v3/certs", get(keys::jwks))
        .route(
            &purchases("subscriptionsv2/tokens/{token}"),
            get(subscriptions::get).post(subscriptions::post),
        )
        .route(
            &purchases("subscriptions/{subscription}/tokens/{token}"),
            post(subscriptions::post_v1),
        )
        .route(
            &purchases("productsv2/tokens/{token}"),
            get(products::get_v2),
        )
        .route(
            &purchases("products/{product}/tokens/{token}"),
            get(products::get_v1).post(products::post_v1),
        )
        .route(&purchases("voidedpurchases"), get(voided::list))
        .route(
            &format!("{app}/orders/{{order}}"),
            get(orders::get).post(orders::post),
        )
        .route(&format!("{app}/orders:batchGet"), get(orders::batch_get))
        .route(
            &format!("{app}/subscriptions"),
            get(catalogue::subscriptions),
        )
        .route(
            &format!("{app}/oneTimeProducts"),
            get(catalogue::one_time_products),
        )
        .fallback(|| async { NO_METHOD })
}

type Answer = Result<Json<Value>, GoogleError>;

/// The purchase, if the package is ours and the token is known and still readable.
fn find<'a>(
    world: &'a World,
    inner: &Inner,
    package: &str,
    token: &str,
    now: DateTime<Utc>,
) -> Result<&'a Purchase, GoogleError> {
    if token.len() < TOKEN_CHARS_MIN {
        return Err(INVALID_TOKEN);
    }
    let purchase = world.google_play.purchases.get(token).ok_or(NOT_FOUND)?;
    if package != inner.setup.package_name {
        return Err(MISMATCH);
    }
    match purchase.readable(now) {
        true => Ok(purchase),
        false => Err(SUBSCRIPTION_GONE),
    }
}
