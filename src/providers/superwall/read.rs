//! Which purchase a message is about, by the names that its store gives it.

use chrono::DateTime;

use super::wire::{Data, Message};
use crate::domain::catalog::{App, Catalog};
use crate::domain::chain::{Alias, AliasKind, base_order_id};
use crate::domain::provider::Provider;
use crate::providers::contract::{Hint, Meaning, Reading};

/// What Superwall tells of, as of 21 Nov 2026. Others are kept and change nothing. There is no word
/// for a refund: a cancellation may be one.
const EVENTS: [(&str, Meaning); 9] = [
    ("initial_purchase", Meaning::Grants),
    ("renewal", Meaning::Extends),
    ("cancellation", Meaning::Schedules),
    ("uncancellation", Meaning::Schedules),
    ("expiration", Meaning::Ends),
    ("billing_issue", Meaning::Informs),
    ("product_change", Meaning::SwitchesProduct),
    ("subscription_paused", Meaning::Schedules),
    ("non_renewing_purchase", Meaning::Grants),
];
const ID_BYTES_MAX: usize = 128;

pub(super) fn read(body: &[u8], catalog: &Catalog) -> Reading {
    let Ok(message) = serde_json::from_slice::<Message>(body) else {
        return unsupported("unknown", "it is not JSON, or not an object");
    };
    let Some(data) = message.data else {
        return unsupported("unknown", "it has no data");
    };
    let Some(kind) = data.name.clone().or(message.kind) else {
        return unsupported("unknown", "it does not say what happened");
    };
    let Some((_, meaning)) = EVENTS.iter().find(|(name, _)| *name == kind) else {
        return unsupported(&kind, "an event of an unknown kind");
    };
    let (provider, alias_kind) = match data.store.as_deref() {
        Some("APP_STORE") => (Provider::AppStore, AliasKind::OriginalTransactionId),
        Some("PLAY_STORE") => (Provider::GooglePlay, AliasKind::OrderId),
        Some("STRIPE" | "PADDLE") => {
            return Reading::Ignored {
                kind,
                reason: "that store tells its own webhook",
            };
        }
        Some(_) | None => return unsupported(&kind, "it does not name a store that is known"),
    };
    let Some(app) = app(catalog, provider, data.bundle_id.as_deref()) else {
        return unsupported(&kind, "it is of an app that is not in the catalog");
    };
    let named = names(&data, provider).map(|value| Alias {
        provider,
        app: app.id.clone(),
        kind: alias_kind,
        value,
    });
    let mut names: Vec<Alias> = named.collect();
    names.dedup();
    if names.is_empty() {
        return unsupported(&kind, "it does not name a purchase");
    }
    Reading::Hint(Hint {
        kind,
        names,
        occurred_at: data.ts.and_then(DateTime::from_timestamp_millis),
        meaning: *meaning,
    })
}

fn unsupported(kind: &str, reason: &'static str) -> Reading {
    Reading::Unsupported {
        kind: kind.to_owned(),
        reason,
    }
}

/// The app that a message is about; where only one is sold in that store, it need not say so.
fn app<'a>(catalog: &'a Catalog, provider: Provider, bundle_id: Option<&str>) -> Option<&'a App> {
    let in_store = |app: &&App| match provider {
        Provider::AppStore => app.bundle_id.is_some(),
        Provider::GooglePlay => app.package_name.is_some(),
    };
    match (bundle_id, provider) {
        (Some(bundle_id), Provider::AppStore) => catalog.app_by_bundle(bundle_id),
        (Some(package), Provider::GooglePlay) => catalog.app_by_package(package),
        (None, _) => {
            let mut apps = catalog.apps().iter().filter(in_store);
            let only = apps.next();
            only.filter(|_| apps.next().is_none())
        }
    }
}

/// The purchase's own name first. Apple's transaction ids name no chain, except that the first one
/// is the original; Google's order ids all do, without the suffix of renewals.
fn names(data: &Data, provider: Provider) -> impl Iterator<Item = String> {
    let original = data.original_transaction_id.as_deref();
    let latest = data.transaction_id.as_deref();
    let second = match provider {
        Provider::AppStore => latest.filter(|_| original.is_none()),
        Provider::GooglePlay => latest,
    };
    let base = move |id: &str| match provider {
        Provider::AppStore => id.to_owned(),
        Provider::GooglePlay => base_order_id(id).to_owned(),
    };
    let both = [original.map(base), second.map(base)];
    both.into_iter()
        .flatten()
        .filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX)
}
