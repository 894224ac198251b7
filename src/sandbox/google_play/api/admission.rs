//! What every call of the Developer API passes before it is answered: outages, the caller's token
//! and permissions, quotas.

use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};

use super::super::super::inner::Inner;
use super::super::super::limits::Limit;
use super::super::super::traffic::Endpoint;
use super::super::oauth::ConsoleAccess;
use super::error::{
    GoogleError, INSUFFICIENT_PERMISSION, PERMISSION_DENIED, RATE_LIMITED, UNAUTHORIZED,
};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

const fn bucket(name: &'static str) -> Limit {
    Limit {
        name,
        windows: &[(3_000, MINUTE)],
    }
}

static SUBSCRIPTIONS: Limit = bucket("google subscriptions");
static SUBSCRIPTION_UPDATES: Limit = bucket("google subscription updates");
static ONE_TIME: Limit = bucket("google one-time purchases");
static ORDERS: Limit = bucket("google orders");
static MONETIZATION: Limit = bucket("google monetization");
/// Of the list of voided purchases alone, beside its share of the orders' bucket.
static VOIDED: Limit = Limit {
    name: "google voided purchases",
    windows: &[(30, Duration::from_secs(30)), (6_000, DAY)],
};

/// A method of the API, as quotas, permissions and counters see it.
pub(super) struct Method {
    endpoint: Endpoint,
    limits: &'static [&'static Limit],
    /// Needs more than permission to look.
    changes: bool,
}

const fn reads(endpoint: Endpoint, limits: &'static [&'static Limit]) -> Method {
    Method {
        endpoint,
        limits,
        changes: false,
    }
}

const fn changes(endpoint: Endpoint, limits: &'static [&'static Limit]) -> Method {
    Method {
        endpoint,
        limits,
        changes: true,
    }
}

pub(super) static GET_SUBSCRIPTION: Method = reads(Endpoint::GoogleSubscription, &[&SUBSCRIPTIONS]);
pub(super) static ACKNOWLEDGE_SUBSCRIPTION: Method =
    changes(Endpoint::GoogleAcknowledge, &[&SUBSCRIPTION_UPDATES]);
pub(super) static CANCEL: Method = changes(Endpoint::GoogleCancel, &[&SUBSCRIPTION_UPDATES]);
pub(super) static DEFER: Method = changes(Endpoint::GoogleDefer, &[&SUBSCRIPTION_UPDATES]);
pub(super) static REVOKE: Method = changes(Endpoint::GoogleRevoke, &[&SUBSCRIPTION_UPDATES]);
pub(super) static GET_PRODUCT: Method = reads(Endpoint::GoogleProduct, &[&ONE_TIME]);
pub(super) static ACKNOWLEDGE_PRODUCT: Method = changes(Endpoint::GoogleAcknowledge, &[&ONE_TIME]);
pub(super) static CONSUME: Method = changes(Endpoint::GoogleConsume, &[&ONE_TIME]);
pub(super) static GET_ORDER: Method = reads(Endpoint::GoogleOrder, &[&ORDERS]);
pub(super) static REFUND: Method = changes(Endpoint::GoogleRefund, &[&ORDERS]);
pub(super) static REVIEW_REFUND: Method = changes(Endpoint::GoogleReviewRefund, &[&ORDERS]);
pub(super) static LIST_PRODUCTS: Method = reads(Endpoint::GoogleProductLists, &[&MONETIZATION]);
pub(super) static LIST_VOIDED: Method = reads(Endpoint::GoogleVoided, &[&ORDERS, &VOIDED]);

/// Counts the call, plays an outage, checks the caller's token and what it may do, and takes the
/// call off the quota.
pub(super) async fn admit(
    inner: &Inner,
    method: &Method,
    headers: &HeaderMap,
) -> Result<(), GoogleError> {
    inner.traffic.admit(method.endpoint).await?;
    let authorization = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    if !inner.google_tokens.admits(authorization) {
        return Err(UNAUTHORIZED);
    }
    match inner.google_tokens.access() {
        ConsoleAccess::None => return Err(PERMISSION_DENIED),
        ConsoleAccess::ViewOnly if method.changes => return Err(INSUFFICIENT_PERMISSION),
        ConsoleAccess::ViewOnly | ConsoleAccess::Full => {}
    }
    for limit in method.limits {
        let taken = inner.limits.take(limit, Instant::now());
        taken.map_err(|_| RATE_LIMITED)?;
    }
    Ok(())
}
