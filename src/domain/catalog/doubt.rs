//! What is sound in a catalog and probably not meant: said by `check`, never refused.

use super::file::{CatalogFile, ProductKind, SandboxAccess, TransferPolicy};
use super::remark::Remark;

/// Everything suspicious, in the order of the file's sections.
pub(crate) fn doubts(file: &CatalogFile) -> Vec<Remark> {
    let mut doubts = Vec::new();
    apps(file, &mut doubts);
    unused(file, &mut doubts);
    products(file, &mut doubts);
    rules(file, &mut doubts);
    doubts
}

fn apps(file: &CatalogFile, doubts: &mut Vec<Remark>) {
    for app in &file.apps {
        if app.bundle_id.is_some() && app.app_apple_id.is_none() {
            doubts.push(Remark::new(
                &["apps", &app.id.0],
                "without app_apple_id (the number in App Store Connect) only sandbox purchases are \
                 accepted",
            ));
        }
    }
    let sold = |of: fn(&super::file::Product) -> bool| file.products.values().any(of);
    let apple = file.apps.iter().any(|app| app.bundle_id.is_some());
    if sold(|product| product.app_store.is_some()) && !apple {
        doubts.push(Remark::new(
            &["apps"],
            "products name app_store, and no app has a bundle_id: every App Store purchase is \
             refused",
        ));
    }
    let google = file.apps.iter().any(|app| app.package_name.is_some());
    if sold(|product| product.google_play.is_some()) && !google {
        doubts.push(Remark::new(
            &["apps"],
            "products name google_play, and no app has a package_name: every Google Play purchase \
             is refused",
        ));
    }
}

fn unused(file: &CatalogFile, doubts: &mut Vec<Remark>) {
    for id in file.entitlements.keys() {
        let granted = |product: &super::file::Product| product.grants.contains(id);
        if !file.products.values().any(granted) {
            doubts.push(Remark::new(
                &["entitlements", id],
                "no product grants it: only gifts open it",
            ));
        }
    }
    for id in file.credits.keys() {
        let brought = |product: &super::file::Product| product.credits.contains_key(id);
        if !file.products.values().any(brought) {
            doubts.push(Remark::new(&["credits", id], "no product brings it"));
        }
    }
}

fn products(file: &CatalogFile, doubts: &mut Vec<Remark>) {
    for (id, product) in &file.products {
        let mut seen = Vec::new();
        for grant in &product.grants {
            if seen.contains(&grant) {
                doubts.push(Remark::new(
                    &["products", id, "grants"],
                    format!("names {grant:?} twice"),
                ));
            }
            seen.push(grant);
        }
        let shown = |offering: &super::file::Offering| {
            let mut packages = offering.packages.iter();
            packages.any(|package| package.product == *id)
        };
        if product.kind == ProductKind::Subscription
            && !file.offerings.is_empty()
            && !file.offerings.iter().any(shown)
        {
            doubts.push(Remark::new(
                &["products", id],
                "no offering shows it: paywalls made of offerings do not sell it",
            ));
        }
    }
}

fn rules(file: &CatalogFile, doubts: &mut Vec<Remark>) {
    match file.sandbox_access {
        SandboxAccess::Testers if file.testers.is_empty() => doubts.push(Remark::new(
            &["sandbox_access"],
            "nobody is under testers: sandbox purchases serve nobody, App Review included",
        )),
        SandboxAccess::Nobody => doubts.push(Remark::new(
            &["sandbox_access"],
            "App Review buys in sandbox against the production build and will find nothing unlocked",
        )),
        SandboxAccess::Everyone | SandboxAccess::Testers => {}
    }
    if !file.testers.is_empty() && file.sandbox_access != SandboxAccess::Testers {
        doubts.push(Remark::new(
            &["testers"],
            "they are named for nothing unless sandbox_access = \"testers\"",
        ));
    }
    if file.ownership.production == TransferPolicy::Transfer {
        doubts.push(Remark::new(
            &["ownership", "production"],
            "\"transfer\" gives a purchase to whoever shows it last; \"transfer_if_inactive\" moves \
             it only when it opens nothing to its owner any more",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "[[apps]]\nid = \"a\"\nbundle_id = \"x\"\napp_apple_id = 1\n\
        [entitlements.e]\n\
        [products.p]\nkind = \"subscription\"\nperiod = \"P1M\"\ngrants = [\"e\"]\n\
        app_store = { product_id = \"p\" }\n";

    fn doubts_of(text: &str) -> Vec<String> {
        let file = toml::from_str(text).expect("parses");
        doubts(&file).iter().map(Remark::to_string).collect()
    }

    #[test]
    fn what_is_probably_not_meant_is_said_and_nothing_else() {
        assert!(doubts_of(SOUND).is_empty());
        let cases = [
            (
                SOUND.replace("app_apple_id = 1\n", ""),
                "only sandbox purchases",
            ),
            (
                format!("{SOUND}[entitlements.f]"),
                "entitlements.f: no product grants it",
            ),
            (
                format!("{SOUND}[credits.c]"),
                "credits.c: no product brings it",
            ),
            (
                SOUND.replace("[\"e\"]", "[\"e\", \"e\"]"),
                "names \"e\" twice",
            ),
            (
                SOUND.replace("bundle_id = \"x\"", "package_name = \"x\""),
                "no app has a bundle_id",
            ),
            (
                format!("sandbox_access = \"nobody\"\n{SOUND}"),
                "App Review",
            ),
            (
                format!("sandbox_access = \"testers\"\n{SOUND}"),
                "nobody is under testers",
            ),
            (format!("testers = [\"a:b\"]\n{SOUND}"), "named for nothing"),
            (
                format!("{SOUND}[ownership]\nproduction = \"transfer\""),
                "whoever shows it last",
            ),
            (
                format!("{SOUND}google_play = {{ product_id = \"p\", base_plan_id = \"b\" }}\n"),
                "no app has a package_name",
            ),
            (
                format!(
                    "{SOUND}[products.q]\nkind = \"non_consumable\"\ngrants = [\"e\"]\n\
                     app_store = {{ product_id = \"q\" }}\n\
                     [[offerings]]\nid = \"o\"\npackages = [{{ id = \"q\", product = \"q\" }}]"
                ),
                "products.p: no offering shows it",
            ),
        ];
        for (text, expected) in cases {
            let said = doubts_of(&text);
            assert!(
                said.len() == 1 && said[0].contains(expected),
                "{expected}: {said:?}"
            );
        }
    }
}
