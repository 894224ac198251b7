//! Get All Subscription Statuses.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::super::super::inner::Inner;
use super::super::super::traffic::Endpoint;
use super::admission::admit;
use super::error::{AppleError, INVALID_STATUS};
use super::query::{Asked, Parameters};
use super::{Answer, Signer, customer};

pub(super) async fn all(
    State(inner): State<Arc<Inner>>,
    Path(id): Path<String>,
    asked: Asked,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, Endpoint::AppleStatuses, &headers).await?;
    let wanted = wanted(&Parameters::of(asked)?)?;
    inner.read(|world, now| {
        let customer = customer(world, &id)?;
        let signer = Signer::new(&inner, world, now);
        let mut groups: Vec<(&str, Vec<Value>)> = Vec::new();
        for chain in world.app_store.chains_of(customer) {
            let (Some(subscription), Some(status), Some(latest)) =
                (&chain.subscription, chain.status(now), chain.latest())
            else {
                continue;
            };
            if !wanted.is_empty() && !wanted.contains(&status) {
                continue;
            }
            let item = json!({
                "status": status,
                "originalTransactionId": chain.original_transaction_id,
                "signedTransactionInfo": signer.transaction(chain, latest)?,
                "signedRenewalInfo": signer.renewal(world, chain)?,
            });
            let group = subscription.group.as_str();
            match groups.iter_mut().find(|(known, _)| *known == group) {
                Some((_, items)) => items.push(item),
                None => groups.push((group, vec![item])),
            }
        }
        let data: Vec<Value> = groups
            .into_iter()
            .map(|(group, items)| {
                json!({"subscriptionGroupIdentifier": group, "lastTransactions": items})
            })
            .collect();
        Ok(Json(json!({
            "environment": inner.setup.environment.as_str(),
            "bundleId": inner.setup.bundle_id,
            "appAppleId": inner.setup.app_apple_id,
            "data": data,
        })))
    })
}

/// The `status` parameters; none means all.
fn wanted(parameters: &Parameters) -> Result<Vec<u8>, AppleError> {
    parameters
        .all("status")
        .map(|value| match value.parse() {
            Ok(status @ 1..=5) => Ok(status),
            _ => Err(INVALID_STATUS),
        })
        .collect()
}
