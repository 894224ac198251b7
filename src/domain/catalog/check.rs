//! What is wrong with a catalog file, in sentences for its author.

use super::file::{CatalogFile, DeliveredBy, Product, ProductKind};
use crate::domain::offer::OfferKind;

/// The most that one unit may bring: a sum of purchases never overflows.
const CREDITS_MAX: i64 = 1_000_000_000;

pub(super) fn check_apps(file: &CatalogFile) -> Vec<String> {
    let mut problems = Vec::new();
    if file.apps.is_empty() {
        problems.push("no [[apps]]: name at least one with its bundle_id or package_name".into());
    }
    for (n, app) in file.apps.iter().enumerate() {
        if app.bundle_id.is_none() && app.package_name.is_none() {
            problems.push(format!(
                "apps.{}: give a bundle_id or a package_name",
                app.id
            ));
        }
        for other in &file.apps[..n] {
            if other.id == app.id {
                problems.push(format!("apps.{}: the id is used twice", app.id));
            }
            let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
            if same(&other.bundle_id, &app.bundle_id)
                || same(&other.package_name, &app.package_name)
            {
                problems.push(format!(
                    "apps.{} and apps.{} are the same app",
                    other.id, app.id
                ));
            }
        }
    }
    problems
}

/// Only the App Store takes signed offers, and only for what renews.
pub(super) fn check_offers(file: &CatalogFile) -> Vec<String> {
    let mut problems = Vec::new();
    for (id, offer) in &file.offers {
        let product = file.products.get(&offer.product);
        let fits = product.is_some_and(|product| {
            product.kind == ProductKind::Subscription && product.app_store.is_some()
        });
        if !fits {
            problems.push(format!(
                "offers.{id}: {:?} is no subscription under [products] that the App Store sells",
                offer.product
            ));
        }
        if offer.kind == OfferKind::Introductory && offer.offer_id.is_some() {
            problems.push(format!(
                "offers.{id}: an introductory offer has no offer_id"
            ));
        }
    }
    problems
}

pub(super) fn check_product(id: &str, product: &Product, file: &CatalogFile) -> Vec<String> {
    let mut problems = Vec::new();
    let counted = product.kind == ProductKind::Consumable;
    let delivered = product.delivered_by == DeliveredBy::Backend;
    match (counted, product.grants.is_empty()) {
        (false, true) => problems.push(format!(
            "products.{id}: grants nothing; name at least one entitlement"
        )),
        (true, false) => problems.push(format!(
            "products.{id}: a consumable is used up; name credits instead of grants"
        )),
        (true, true) if product.credits.is_empty() && !delivered => problems.push(format!(
            "products.{id}: brings nothing; name credits, or say delivered_by = \"backend\""
        )),
        (true, true) if !product.credits.is_empty() && delivered => problems.push(format!(
            "products.{id}: either its credits are booked here or a backend delivers it, not both"
        )),
        (true, true) | (false, false) => {}
    }
    if delivered && !counted {
        problems.push(format!(
            "products.{id}: only consumables are delivered by a backend"
        ));
    }
    for (credit, amount) in &product.credits {
        if !file.credits.contains_key(credit) {
            problems.push(format!(
                "products.{id}: credits {credit:?}, which is not under [credits]"
            ));
        }
        if !(1..=CREDITS_MAX).contains(amount) || !counted {
            problems.push(format!(
                "products.{id}: credits are for consumables, 1 to {CREDITS_MAX} a unit"
            ));
        }
    }
    for grant in &product.grants {
        if !file.entitlements.contains_key(grant) {
            problems.push(format!(
                "products.{id}: grants {grant:?}, which is not under [entitlements]"
            ));
        }
    }
    if product.app_store.is_none() && product.google_play.is_none() {
        problems.push(format!(
            "products.{id}: no store sells it; add app_store or google_play"
        ));
    }
    let subscription = product.kind == ProductKind::Subscription;
    let lasts = subscription || product.kind == ProductKind::NonRenewing;
    if lasts && product.period.is_none() {
        problems.push(format!(
            "products.{id}: a subscription needs a period such as P1M"
        ));
    }
    if !lasts && product.period.is_some() {
        problems.push(format!(
            "products.{id}: a period is for subscriptions, renewing or not"
        ));
    }
    if let Some(google) = &product.google_play
        && subscription != google.base_plan_id.is_some()
    {
        problems.push(format!(
            "products.{id}: google_play subscriptions, and only they, name a base_plan_id"
        ));
    }
    problems
}
