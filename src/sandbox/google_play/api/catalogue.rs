//! What is sold: `monetization.subscriptions.list` and `monetization.onetimeproducts.list`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::super::super::inner::Inner;
use super::super::super::setup::{GooglePlayProduct, Plan, PlanRenewal, StoreSetup};
use super::Answer;
use super::admission::{LIST_PRODUCTS, admit};
use super::error::{GoogleError, PERMISSION_DENIED, invalid};
use super::request::{Parameters, number, parameter};

/// Products of one page, unless asked otherwise and at most.
const PAGE: usize = 50;
const PAGE_MAX: usize = 1_000;
/// What one-time products are bought by.
const PURCHASE_OPTION: &str = "buy";

/// `monetization.subscriptions.list`.
pub(super) async fn subscriptions(
    State(inner): State<Arc<Inner>>,
    Path(package): Path<String>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Answer {
    admitted(&inner, &package, &headers).await?;
    page(
        "subscriptions",
        &all_subscriptions(&inner.setup),
        &parameters,
    )
}

/// `monetization.onetimeproducts.list`.
pub(super) async fn one_time_products(
    State(inner): State<Arc<Inner>>,
    Path(package): Path<String>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Answer {
    admitted(&inner, &package, &headers).await?;
    page("oneTimeProducts", &all_one_time(&inner.setup), &parameters)
}

async fn admitted(inner: &Inner, package: &str, headers: &HeaderMap) -> Result<(), GoogleError> {
    admit(inner, &LIST_PRODUCTS, headers).await?;
    match package == inner.setup.package_name {
        true => Ok(()),
        false => Err(PERMISSION_DENIED),
    }
}

/// One `Subscription` per product, with its base plans.
fn all_subscriptions(setup: &StoreSetup) -> Vec<Value> {
    let mut plans: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for product in &setup.google_play {
        if let Some(plan) = product.plan() {
            let of_product = plans.entry(&product.product_id).or_default();
            of_product.push(base_plan(&plan));
        }
    }
    let resources = plans.into_iter().map(|(product_id, plans)| {
        json!({
            "packageName": setup.package_name,
            "productId": product_id,
            "basePlans": plans,
            "listings": [{"languageCode": "en-US", "title": product_id}],
        })
    });
    resources.collect()
}

/// `BasePlan`.
fn base_plan(plan: &Plan<'_>) -> Value {
    let period = plan.period.to_string();
    let days = |days: u16| format!("P{days}D");
    let mut resource = json!({"basePlanId": plan.base_plan_id, "state": "ACTIVE"});
    match plan.renewal {
        PlanRenewal::Auto => {
            resource["autoRenewingBasePlanType"] = json!({
                "billingPeriodDuration": period,
                "gracePeriodDuration": days(plan.grace_days),
                "accountHoldDuration": days(plan.hold_days),
            });
        }
        PlanRenewal::Never => {
            resource["prepaidBasePlanType"] = json!({"billingPeriodDuration": period});
        }
        PlanRenewal::Installments { payments, .. } => {
            resource["installmentsBasePlanType"] = json!({
                "billingPeriodDuration": period,
                "committedPaymentsCount": payments,
            });
        }
    }
    resource
}

/// `OneTimeProduct`.
fn all_one_time(setup: &StoreSetup) -> Vec<Value> {
    let once = setup
        .google_play
        .iter()
        .filter(|product| product.plan().is_none());
    let resource = |product: &GooglePlayProduct| {
        json!({
            "packageName": setup.package_name,
            "productId": product.product_id,
            "listings": [{"languageCode": "en-US", "title": product.product_id}],
            "purchaseOptions":
                [{"purchaseOptionId": PURCHASE_OPTION, "state": "ACTIVE", "buyOption": {}}],
        })
    };
    once.map(resource).collect()
}

/// One page; a token is the number of resources to pass over.
fn page(name: &str, all: &[Value], parameters: &Parameters) -> Answer {
    let size = match number::<usize>(parameters, "pageSize")? {
        None | Some(0) => PAGE,
        Some(size) => size.min(PAGE_MAX),
    };
    let start = match parameter(parameters, "pageToken") {
        None => 0,
        Some(token) => token
            .parse::<usize>()
            .map_err(|_| invalid("Invalid value at 'page_token'"))?,
    };
    let rest = all.get(start..).unwrap_or_default();
    let taken = rest.get(..size).unwrap_or(rest);
    let mut answer = json!({});
    if !taken.is_empty() {
        answer[name] = json!(taken);
    }
    if taken.len() < rest.len() {
        answer["nextPageToken"] = json!((start + taken.len()).to_string());
    }
    Ok(Json(answer))
}
