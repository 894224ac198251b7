//! What tells two catalogs apart, in words; and whether any account can have less by the second.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::Serialize;

use super::file::{
    App, CatalogFile, FamilySharing, Offering, Product, ProductKind, SandboxAccess, TransferPolicy,
};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    pub(crate) kind: ChangeKind,
    /// `products.pro_yearly grants export, too`.
    pub(crate) sentence: String,
    /// Somebody may have less by it.
    pub(crate) takes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ChangeKind {
    Added,
    Removed,
    Changed,
}

impl ChangeKind {
    /// As patches mark it.
    pub(crate) fn mark(self) -> char {
        match self {
            Self::Added => '+',
            Self::Removed => '-',
            Self::Changed => '~',
        }
    }
}

/// Everything that differs, in the order of the file's sections.
pub(crate) fn diff(old: &CatalogFile, new: &CatalogFile) -> Vec<Change> {
    let mut changes = Changes(Vec::new());
    apps(old, new, &mut changes);
    let nothing = |_: &_| String::new();
    let (was, is) = (&old.entitlements, &new.entitlements);
    changes.of_maps("entitlements", was, is, true, nothing);
    for (id, was) in was {
        // What was signed stays as it was; shorter ones follow.
        let Some(is) = is.get(id) else { continue };
        let name = |key: &str| format!("entitlements.{id}.lease.{key}");
        let (from, to) = (&was.lease, &is.lease);
        let (before, after) = (&from.device_minutes, &to.device_minutes);
        changes.went(false, &name("device_minutes"), before, after);
        let (before, after) = (&from.service_minutes, &to.service_minutes);
        changes.went(false, &name("service_minutes"), before, after);
    }
    let nothing = |_: &_| String::new();
    changes.of_maps("credits", &old.credits, &new.credits, true, nothing);
    products(old, new, &mut changes);
    changes.of_maps("offers", &old.offers, &new.offers, false, |offer| {
        format!(": for {}", offer.product)
    });
    for (id, was) in &old.offers {
        if new.offers.get(id).is_some_and(|is| is != was) {
            changes.changed(false, format!("offers.{id} has other rules"));
        }
    }
    offerings(old, new, &mut changes);
    rules(old, new, &mut changes);
    changes.0
}

/// Whether any account can have less by `new`: access, time or a balance.
pub(crate) fn may_take(old: &CatalogFile, new: &CatalogFile) -> bool {
    diff(old, new).iter().any(|change| change.takes)
}

struct Changes(Vec<Change>);

impl Changes {
    fn push(&mut self, kind: ChangeKind, takes: bool, sentence: String) {
        self.0.push(Change {
            kind,
            sentence,
            takes,
        });
    }

    fn changed(&mut self, takes: bool, sentence: String) {
        self.push(ChangeKind::Changed, takes, sentence);
    }

    /// `name` went from one value to another.
    fn went<T: PartialEq + Debug>(&mut self, takes: bool, name: &str, from: &T, to: &T) {
        if from != to {
            self.changed(takes, format!("{name}: {from:?} is now {to:?}"));
        }
    }

    fn of_maps<T>(
        &mut self,
        section: &str,
        old: &BTreeMap<String, T>,
        new: &BTreeMap<String, T>,
        removal_takes: bool,
        describe: impl Fn(&T) -> String,
    ) {
        for (id, is) in new.iter().filter(|(id, _)| !old.contains_key(*id)) {
            let sentence = format!("{section}.{id}{}", describe(is));
            self.push(ChangeKind::Added, false, sentence);
        }
        for id in old.keys().filter(|id| !new.contains_key(*id)) {
            self.push(
                ChangeKind::Removed,
                removal_takes,
                format!("{section}.{id}"),
            );
        }
    }
}

fn apps(old: &CatalogFile, new: &CatalogFile, changes: &mut Changes) {
    let by_id = |file: &CatalogFile| -> BTreeMap<String, App> {
        let apps = file.apps.iter();
        apps.map(|app| (app.id.0.clone(), app.clone())).collect()
    };
    let (was, is) = (by_id(old), by_id(new));
    // What was bought in it can no longer be read at its store, and ends when its period does.
    changes.of_maps("apps", &was, &is, true, |_| String::new());
    for (id, before) in &was {
        let Some(after) = is.get(id) else { continue };
        let name = |key: &str| format!("apps.{id}.{key}");
        let (from, to) = (&before.bundle_id, &after.bundle_id);
        changes.went(from.is_some(), &name("bundle_id"), from, to);
        let (from, to) = (&before.app_apple_id, &after.app_apple_id);
        changes.went(from.is_some(), &name("app_apple_id"), from, to);
        let (from, to) = (&before.package_name, &after.package_name);
        changes.went(from.is_some(), &name("package_name"), from, to);
    }
}

fn products(old: &CatalogFile, new: &CatalogFile, changes: &mut Changes) {
    changes.of_maps("products", &old.products, &new.products, true, described);
    for (id, was) in &old.products {
        if let Some(is) = new.products.get(id) {
            product(id, was, is, changes);
        }
    }
}

fn described(product: &Product) -> String {
    let mut parts = vec![
        match product.kind {
            ProductKind::Subscription => "subscription",
            ProductKind::NonRenewing => "non-renewing",
            ProductKind::NonConsumable => "non-consumable",
            ProductKind::Consumable => "consumable",
        }
        .to_owned(),
    ];
    parts.extend(product.period.map(|period| period.to_string()));
    if !product.grants.is_empty() {
        parts.push(format!("grants {}", product.grants.join(", ")));
    }
    let credits = product.credits.iter();
    parts.extend(credits.map(|(credit, amount)| format!("brings {amount} {credit}")));
    let sold = product.store_products();
    parts.extend(sold.map(|(store, name)| format!("{} {name}", store.label())));
    format!(": {}", parts.join(", "))
}

fn product(id: &str, was: &Product, is: &Product, changes: &mut Changes) {
    let name = |key: &str| format!("products.{id}.{key}");
    for grant in is.grants.iter().filter(|grant| !was.grants.contains(grant)) {
        changes.push(
            ChangeKind::Added,
            false,
            format!("products.{id} grants {grant}"),
        );
    }
    for grant in was.grants.iter().filter(|grant| !is.grants.contains(grant)) {
        changes.push(
            ChangeKind::Removed,
            true,
            format!("products.{id} no longer grants {grant}"),
        );
    }
    changes.went(true, &name("kind"), &was.kind, &is.kind);
    // A subscription's end is the store's word; of a pass it is ours.
    let ours = was.kind == ProductKind::NonRenewing || is.kind == ProductKind::NonRenewing;
    let words = |product: &Product| product.period.map(|period| period.to_string());
    changes.went(ours, &name("period"), &words(was), &words(is));
    // What is booked stays booked: later units bring something else.
    changes.went(false, &name("credits"), &was.credits, &is.credits);
    changes.went(
        false,
        &name("delivered_by"),
        &was.delivered_by,
        &is.delivered_by,
    );
    changes.went(false, &name("ownership"), &was.ownership, &is.ownership);
    let refuses = is.family_sharing == FamilySharing::Refuse;
    let (before, after) = (&was.family_sharing, &is.family_sharing);
    changes.went(refuses, &name("family_sharing"), before, after);
    let (before, after): (Vec<_>, Vec<_>) = (
        was.store_products().collect(),
        is.store_products().collect(),
    );
    for (store, sold) in after.iter().filter(|sold| !before.contains(sold)) {
        changes.push(
            ChangeKind::Added,
            false,
            format!("products.{id} is sold as {} {sold}", store.label()),
        );
    }
    for (store, sold) in before.iter().filter(|sold| !after.contains(sold)) {
        changes.push(
            ChangeKind::Removed,
            true,
            format!(
                "products.{id} is no longer sold as {} {sold}",
                store.label()
            ),
        );
    }
}

fn offerings(old: &CatalogFile, new: &CatalogFile, changes: &mut Changes) {
    let by_id = |file: &CatalogFile| -> BTreeMap<String, Offering> {
        let offerings = file.offerings.iter();
        offerings
            .map(|offering| (offering.id.clone(), offering.clone()))
            .collect()
    };
    let (was, is) = (by_id(old), by_id(new));
    let shown = |offering: &Offering| {
        let packages = offering.packages.iter();
        let products: Vec<&str> = packages.map(|package| package.product.as_str()).collect();
        products.join(", ")
    };
    changes.of_maps("offerings", &was, &is, false, |offering| {
        format!(": shows {}", shown(offering))
    });
    for (id, before) in &was {
        match is.get(id) {
            Some(after) if shown(before) != shown(after) => {
                changes.changed(false, format!("offerings.{id} shows {}", shown(after)));
            }
            Some(after) if before != after => {
                changes.changed(false, format!("offerings.{id} says something else"));
            }
            Some(_) | None => {}
        }
    }
    let order = |file: &CatalogFile| -> Vec<String> {
        let offerings = file.offerings.iter();
        let kept = offerings.filter(|of| was.contains_key(&of.id) && is.contains_key(&of.id));
        kept.map(|offering| offering.id.clone()).collect()
    };
    if order(old) != order(new) {
        changes.changed(false, "offerings come in another order".into());
    }
    let first = |file: &CatalogFile| file.offerings.first().map(|offering| offering.id.clone());
    if let (Some(before), Some(after)) = (first(old), first(new))
        && before != after
    {
        changes.changed(false, format!("offerings: {after} is shown first"));
    }
}

fn rules(old: &CatalogFile, new: &CatalogFile, changes: &mut Changes) {
    let narrower = match (old.sandbox_access, new.sandbox_access) {
        (SandboxAccess::Everyone, SandboxAccess::Testers | SandboxAccess::Nobody)
        | (SandboxAccess::Testers, SandboxAccess::Nobody) => true,
        (_, SandboxAccess::Everyone)
        | (SandboxAccess::Testers | SandboxAccess::Nobody, SandboxAccess::Testers)
        | (SandboxAccess::Nobody, SandboxAccess::Nobody) => false,
    };
    let (was, is) = (&old.sandbox_access, &new.sandbox_access);
    changes.went(narrower, "sandbox_access", was, is);
    for tester in new
        .testers
        .iter()
        .filter(|name| !old.testers.contains(name))
    {
        changes.push(ChangeKind::Added, false, format!("tester {tester}"));
    }
    for tester in old
        .testers
        .iter()
        .filter(|name| !new.testers.contains(name))
    {
        changes.push(ChangeKind::Removed, true, format!("tester {tester}"));
    }
    let (was, is) = (old.ownership, new.ownership);
    let policies: [(&str, TransferPolicy, TransferPolicy); 2] = [
        ("ownership.production", was.production, is.production),
        ("ownership.sandbox", was.sandbox, is.sandbox),
    ];
    for (name, was, is) in policies {
        changes.went(false, name, &was, &is);
    }
    changes.went(false, "ownership.auto_bind", &was.auto_bind, &is.auto_bind);
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
