//! What is wrong with a catalog file, in sentences for its author.

use std::collections::BTreeSet;

use super::file::{CatalogFile, DeliveredBy, Metadata, Product, ProductKind};
use super::remark::Remark;
use crate::domain::lease::LeaseSpec;
use crate::domain::offer::OfferKind;

/// The most that one unit may bring: a sum of purchases never overflows.
const CREDITS_MAX: i64 = 1_000_000_000;
/// The most of an offering's or package's metadata, as JSON: it goes to every device.
const METADATA_BYTES_MAX: usize = 16 * 1024;
/// The most of all metadata together: one answer of `ListProducts` holds all of it.
const METADATA_BYTES_MAX_SUM: usize = 256 * 1024;
/// The longest file.
pub(crate) const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// What keeps a sound catalog from becoming a version. A version that is one stays readable, whatever
/// later bounds say.
pub(crate) fn check_new(file: &CatalogFile) -> Vec<Remark> {
    let of = |metadata: &Metadata| serde_json::to_string(metadata).map_or(0, |json| json.len());
    let sizes = file.offerings.iter().map(|offering| {
        let packages = offering
            .packages
            .iter()
            .map(|package| of(&package.metadata));
        of(&offering.metadata) + packages.sum::<usize>()
    });
    let sum: usize = sizes.sum();
    if sum <= METADATA_BYTES_MAX_SUM {
        return Vec::new();
    }
    vec![Remark::new(
        &["offerings"],
        format!(
            "the metadata of all offerings is {sum} bytes of JSON, at most {METADATA_BYTES_MAX_SUM}: every device reads all of it; put URLs in instead"
        ),
    )]
}

pub(super) fn check_apps(file: &CatalogFile) -> Vec<Remark> {
    let mut problems = Vec::new();
    if file.apps.is_empty() {
        problems.push(Remark::new(
            &[],
            "no [[apps]]: name at least one with its bundle_id or package_name",
        ));
    }
    for (n, app) in file.apps.iter().enumerate() {
        let mut problem = |sentence: String| {
            problems.push(Remark::new(&["apps", &app.id.0], sentence));
        };
        if app.bundle_id.is_none() && app.package_name.is_none() {
            problem("give a bundle_id or a package_name".into());
        }
        for other in &file.apps[..n] {
            if other.id == app.id {
                problem("the id is used twice".into());
            }
            let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
            if same(&other.bundle_id, &app.bundle_id)
                || same(&other.package_name, &app.package_name)
            {
                problem(format!("it is the same app as apps.{}", other.id));
            }
        }
    }
    problems
}

/// Nobody can take a lease back: it has a bound.
pub(super) fn check_leases(file: &CatalogFile) -> Vec<Remark> {
    let mut problems = Vec::new();
    for (id, entitlement) in &file.entitlements {
        let lease = entitlement.lease;
        for (key, minutes, max) in [
            (
                "device_minutes",
                lease.device_minutes,
                LeaseSpec::DEVICE_MINUTES_MAX,
            ),
            (
                "service_minutes",
                lease.service_minutes,
                LeaseSpec::SERVICE_MINUTES_MAX,
            ),
        ] {
            if minutes > max {
                problems.push(Remark::new(
                    &["entitlements", id, "lease", key],
                    format!("{minutes} is too long for what nobody can take back: 0 to {max}"),
                ));
            }
        }
    }
    problems
}

/// Only the App Store takes signed offers, and only for what renews.
pub(super) fn check_offers(file: &CatalogFile) -> Vec<Remark> {
    let mut problems = Vec::new();
    for (id, offer) in &file.offers {
        let product = file.products.get(&offer.product);
        let fits = product.is_some_and(|product| {
            product.kind == ProductKind::Subscription && product.app_store.is_some()
        });
        if !fits {
            problems.push(Remark::new(
                &["offers", id, "product"],
                format!(
                    "{:?} is no subscription under [products] that the App Store sells",
                    offer.product
                ),
            ));
        }
        if offer.kind == OfferKind::Introductory && offer.offer_id.is_some() {
            problems.push(Remark::new(
                &["offers", id, "offer_id"],
                "an introductory offer has no offer_id",
            ));
        }
    }
    problems
}

/// Paywalls are made of products that exist, each choice named once.
pub(super) fn check_offerings(file: &CatalogFile) -> Vec<Remark> {
    let mut problems = Vec::new();
    let mut offerings = BTreeSet::new();
    for offering in &file.offerings {
        let mut problem = |sentence: String| {
            problems.push(Remark::new(&["offerings", &offering.id], sentence));
        };
        if offering.id.is_empty() {
            problem("give it an id".into());
        }
        if !offerings.insert(&offering.id) {
            problem("the id is used twice".into());
        }
        if offering.packages.is_empty() {
            problem("it shows nothing; add packages = [{ id = …, product = … }]".into());
        }
        if let Some(sentence) = check_metadata(&offering.metadata) {
            problem(sentence);
        }
        let mut packages = BTreeSet::new();
        for package in &offering.packages {
            if package.id.is_empty() {
                problem("a package has no id".into());
            }
            if !packages.insert(&package.id) {
                problem(format!("the package id {:?} is used twice", package.id));
            }
            if !file.products.contains_key(&package.product) {
                problem(format!(
                    "package {:?} shows {:?}, which is not under [products]",
                    package.id, package.product
                ));
            }
            if let Some(sentence) = check_metadata(&package.metadata) {
                problem(format!("package {:?}: {sentence}", package.id));
            }
        }
    }
    problems
}

fn check_metadata(metadata: &Metadata) -> Option<String> {
    let size = serde_json::to_string(metadata).map_or(usize::MAX, |json| json.len());
    if size > METADATA_BYTES_MAX {
        return Some(format!(
            "its metadata is {size} bytes of JSON, at most {METADATA_BYTES_MAX}: every device reads it; put a URL in instead"
        ));
    }
    // TOML's dates have no counterpart in JSON.
    let dated = serde_json::to_string(metadata).is_ok_and(|json| json.contains("$__toml_private"));
    dated.then(|| "its metadata has a date; write it as a string".to_owned())
}

pub(super) fn check_product(id: &str, product: &Product, file: &CatalogFile) -> Vec<Remark> {
    let mut problems = Vec::new();
    let mut problem = |key: &str, sentence: String| {
        let place: &[&str] = if key.is_empty() {
            &["products", id]
        } else {
            &["products", id, key]
        };
        problems.push(Remark::new(place, sentence));
    };
    let counted = product.kind == ProductKind::Consumable;
    let delivered = product.delivered_by == DeliveredBy::Backend;
    match (counted, product.grants.is_empty()) {
        (false, true) => problem(
            "grants",
            "grants nothing; name at least one entitlement".into(),
        ),
        (true, false) => problem(
            "grants",
            "a consumable is used up; name credits instead of grants".into(),
        ),
        (true, true) if product.credits.is_empty() && !delivered => problem(
            "",
            "brings nothing; name credits, or say delivered_by = \"backend\"".into(),
        ),
        (true, true) if !product.credits.is_empty() && delivered => problem(
            "delivered_by",
            "either its credits are booked here or a backend delivers it, not both".into(),
        ),
        (true, true) | (false, false) => {}
    }
    if delivered && !counted {
        problem(
            "delivered_by",
            "only consumables are delivered by a backend".into(),
        );
    }
    for (credit, amount) in &product.credits {
        if !file.credits.contains_key(credit) {
            problem(
                "credits",
                format!("credits {credit:?}, which is not under [credits]; add [credits.{credit}]"),
            );
        }
        if !(1..=CREDITS_MAX).contains(amount) || !counted {
            problem(
                "credits",
                format!("credits are for consumables, 1 to {CREDITS_MAX} a unit"),
            );
        }
    }
    for grant in &product.grants {
        if !file.entitlements.contains_key(grant) {
            problem(
                "grants",
                format!(
                    "grants {grant:?}, which is not under [entitlements]; add [entitlements.{grant}]"
                ),
            );
        }
    }
    if product.app_store.is_none() && product.google_play.is_none() {
        problem("", "no store sells it; add app_store or google_play".into());
    }
    let subscription = product.kind == ProductKind::Subscription;
    let lasts = subscription || product.kind == ProductKind::NonRenewing;
    if lasts && product.period.is_none() {
        problem("", "a subscription needs a period such as P1M".into());
    }
    if !lasts && product.period.is_some() {
        problem(
            "period",
            "a period is for subscriptions, renewing or not".into(),
        );
    }
    if let Some(google) = &product.google_play
        && subscription != google.base_plan_id.is_some()
    {
        problem(
            "google_play",
            "google_play subscriptions, and only they, name a base_plan_id".into(),
        );
    }
    problems
}
