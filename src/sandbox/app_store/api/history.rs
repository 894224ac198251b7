//! Get Transaction History: a customer's transactions in the order in which they last changed, so
//! that whoever keeps the last revision hears of each change once.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde_json::json;

use super::super::super::inner::Inner;
use super::super::super::setup::StoreSetup;
use super::super::super::traffic::Endpoint;
use super::super::chain::Chain;
use super::super::payload::{ProductType, product_type};
use super::super::transaction::Transaction;
use super::admission::admit;
use super::error::{
    AppleError, INVALID_END_DATE, INVALID_EXCLUDE_REVOKED, INVALID_GROUP, INVALID_OWNERSHIP,
    INVALID_PRODUCT_ID, INVALID_PRODUCT_TYPE, INVALID_REVISION, INVALID_REVOKED, INVALID_SORT,
    INVALID_START_DATE, START_AFTER_END,
};
use super::query::{Asked, Bookmark, Parameters, fingerprint};
use super::{Answer, PAGE, Signer, customer};

/// Deprecated, and silent about consumables that have been finished.
pub(super) async fn version_1(
    inner: State<Arc<Inner>>,
    id: Path<String>,
    asked: Asked,
    headers: HeaderMap,
) -> Answer {
    history(inner, id, asked, headers, true).await
}

/// All there is.
pub(super) async fn version_2(
    inner: State<Arc<Inner>>,
    id: Path<String>,
    asked: Asked,
    headers: HeaderMap,
) -> Answer {
    history(inner, id, asked, headers, false).await
}

async fn history(
    State(inner): State<Arc<Inner>>,
    Path(id): Path<String>,
    asked: Asked,
    headers: HeaderMap,
    without_finished: bool,
) -> Answer {
    admit(&inner, Endpoint::AppleHistory, &headers).await?;
    let parameters = Parameters::of(asked)?;
    let filter = Filter::of(&parameters)?;
    inner.read(|world, now| {
        let customer = customer(world, &id)?;
        let request = fingerprint(&format!("{customer} {without_finished} {filter:?}"));
        let after = match parameters.one("revision") {
            Some(revision) => Bookmark::parse(revision)
                .filter(|bookmark| bookmark.fingerprint == request)
                .map(|bookmark| Some(bookmark.position))
                .ok_or(INVALID_REVISION)?,
            None => None,
        };
        let mut found: Vec<(i64, &Chain, &Transaction)> = world
            .app_store
            .chains_of(customer)
            .flat_map(|chain| chain.transactions.iter().map(move |t| (chain, &**t)))
            .filter(|(chain, t)| filter.holds(chain, t, &inner.setup))
            .filter(|(chain, t)| {
                let kind = product_type(chain, t, &inner.setup);
                !(without_finished && t.finished && kind == ProductType::Consumable)
            })
            .map(|(chain, t)| (position(t), chain, t))
            .filter(|(position, _, _)| filter.is_unread(*position, after))
            .collect();
        found.sort_by_key(|(position, _, _)| *position);
        if filter.descending {
            found.reverse();
        }
        let signer = Signer::new(&inner, world, now);
        let page = found.iter().take(PAGE);
        let last = page.clone().next_back().map(|(position, _, _)| *position);
        let signed = page
            .map(|(_, chain, t)| signer.transaction(chain, t))
            .collect::<Result<Vec<_>, _>>()?;
        let bookmark = Bookmark {
            position: last.or(after).unwrap_or_default(),
            fingerprint: request,
        };
        Ok(Json(json!({
            "revision": bookmark.token(),
            "hasMore": found.len() > PAGE,
            "bundleId": inner.setup.bundle_id,
            "appAppleId": inner.setup.app_apple_id,
            "environment": inner.setup.environment.as_str(),
            "signedTransactions": signed,
        })))
    })
}

/// The number of a transaction's last change among all of the store's.
fn position(transaction: &Transaction) -> i64 {
    i64::try_from(transaction.revision).unwrap_or(i64::MAX)
}

/// What a request narrows the history to. Its `Debug` text tells requests apart.
#[derive(Debug, Default)]
struct Filter {
    /// Milliseconds; of the purchase, the end excluded.
    start: Option<i64>,
    end: Option<i64>,
    products: Vec<String>,
    types: Vec<ProductType>,
    groups: Vec<String>,
    shared: Option<bool>,
    revoked: Option<bool>,
    descending: bool,
}

impl Filter {
    fn of(parameters: &Parameters) -> Result<Self, AppleError> {
        let millis = |name, error| match parameters.one(name) {
            Some(value) => value.parse().map(Some).map_err(|_| error),
            None => Ok(None),
        };
        let start: Option<i64> = millis("startDate", INVALID_START_DATE)?;
        let end = millis("endDate", INVALID_END_DATE)?;
        if let (Some(start), Some(end)) = (start, end)
            && start >= end
        {
            return Err(START_AFTER_END);
        }
        let names = |name, error| -> Result<Vec<String>, AppleError> {
            let values = parameters.all(name);
            values
                .map(|value| match value.is_empty() {
                    true => Err(error),
                    false => Ok(value.to_owned()),
                })
                .collect()
        };
        let types = parameters.all("productType").map(|value| match value {
            "AUTO_RENEWABLE" => Ok(ProductType::AutoRenewable),
            "NON_RENEWABLE" => Ok(ProductType::NonRenewing),
            "CONSUMABLE" => Ok(ProductType::Consumable),
            "NON_CONSUMABLE" => Ok(ProductType::NonConsumable),
            _ => Err(INVALID_PRODUCT_TYPE),
        });
        let revoked = flag(parameters.one("revoked"), INVALID_REVOKED)?;
        let excluded = flag(parameters.one("excludeRevoked"), INVALID_EXCLUDE_REVOKED)?;
        Ok(Self {
            start,
            end,
            products: names("productId", INVALID_PRODUCT_ID)?,
            types: types.collect::<Result<_, _>>()?,
            groups: names("subscriptionGroupIdentifier", INVALID_GROUP)?,
            shared: match parameters.one("inAppOwnershipType") {
                None => None,
                Some("PURCHASED") => Some(false),
                Some("FAMILY_SHARED") => Some(true),
                Some(_) => return Err(INVALID_OWNERSHIP),
            },
            revoked: revoked.or(excluded.and_then(|excluded| excluded.then_some(false))),
            descending: match parameters.one("sort") {
                None | Some("ASCENDING") => false,
                Some("DESCENDING") => true,
                Some(_) => return Err(INVALID_SORT),
            },
        })
    }

    fn holds(&self, chain: &Chain, transaction: &Transaction, setup: &StoreSetup) -> bool {
        let purchased = transaction.purchased_at.timestamp_millis();
        let group = chain.subscription.as_ref().map(|s| &s.group);
        let any_or = |list: &[String], value: Option<&String>| {
            list.is_empty() || value.is_some_and(|value| list.contains(value))
        };
        let kind = product_type(chain, transaction, setup);
        self.start.is_none_or(|start| purchased >= start)
            && self.end.is_none_or(|end| purchased < end)
            && any_or(&self.products, Some(&transaction.product_id))
            && (self.types.is_empty() || self.types.contains(&kind))
            && any_or(&self.groups, group)
            && self
                .shared
                .is_none_or(|shared| chain.sharing.is_shared() == shared)
            && self
                .revoked
                .is_none_or(|revoked| transaction.revocation.is_some() == revoked)
    }

    fn is_unread(&self, position: i64, after: Option<i64>) -> bool {
        after.is_none_or(|after| match self.descending {
            true => position < after,
            false => position > after,
        })
    }
}

/// Apple's Python library writes `True` and `False`.
fn flag(value: Option<&str>, error: AppleError) -> Result<Option<bool>, AppleError> {
    match value.map(str::to_ascii_lowercase).as_deref() {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(error),
    }
}
