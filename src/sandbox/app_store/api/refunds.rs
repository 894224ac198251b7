//! Get Refund History: everything that money or access was taken back for, in that order.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use serde_json::json;

use super::super::super::inner::Inner;
use super::super::super::traffic::Endpoint;
use super::admission::admit;
use super::error::{AppleError, INVALID_REVISION};
use super::query::{Asked, Bookmark, Parameters, fingerprint};
use super::{Answer, PAGE, Signer, customer};

/// Where a refund stands among all: by its date, and for one moment by the order of changes.
type Place = (DateTime<Utc>, u64);

pub(super) async fn all(
    State(inner): State<Arc<Inner>>,
    Path(id): Path<String>,
    asked: Asked,
    headers: HeaderMap,
) -> Answer {
    admit(&inner, Endpoint::AppleRefunds, &headers).await?;
    let parameters = Parameters::of(asked)?;
    inner.read(|world, now| {
        let customer = customer(world, &id)?;
        let mut found: Vec<_> = world
            .app_store
            .chains_of(customer)
            .flat_map(|chain| chain.transactions.iter().map(move |t| (chain, t)))
            .filter_map(|(chain, t)| Some(((t.revoked_at()?, t.revision), chain, t)))
            .collect();
        found.sort_by_key(|(place, _, _)| *place);
        let whose = fingerprint(&format!("refunds of {customer}"));
        let after = match parameters.one("revision") {
            Some(revision) => Some(place_of(revision, &whose)?),
            None => None,
        };
        found.retain(|(place, _, _)| after.is_none_or(|after| *place > after));
        let signer = Signer::new(&inner, world, now);
        let page = found.iter().take(PAGE);
        let last = page
            .clone()
            .next_back()
            .map(|(place, _, _)| *place)
            .or(after);
        let signed = page
            .map(|(_, chain, t)| signer.transaction(chain, t))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Json(json!({
            "signedTransactions": signed,
            "revision": revision(last, &whose),
            "hasMore": found.len() > PAGE,
        })))
    })
}

fn revision(last: Option<Place>, whose: &str) -> String {
    let (at, change) = last.unwrap_or((DateTime::UNIX_EPOCH, 0));
    let bookmark = Bookmark {
        position: at.timestamp_millis(),
        fingerprint: format!("{change} {whose}"),
    };
    bookmark.token()
}

fn place_of(revision: &str, whose: &str) -> Result<Place, AppleError> {
    let bookmark = Bookmark::parse(revision).ok_or(INVALID_REVISION)?;
    let (change, of) = bookmark
        .fingerprint
        .split_once(' ')
        .ok_or(INVALID_REVISION)?;
    let at = DateTime::from_timestamp_millis(bookmark.position);
    match (at, change.parse()) {
        (Some(at), Ok(change)) if of == whose => Ok((at, change)),
        _ => Err(INVALID_REVISION),
    }
}
