//! The App Store's worksheet: what to enter in App Store Connect for one catalog.

use std::collections::BTreeSet;

use super::Subject;
use super::sheet::{Section, Sheet};
use crate::domain::catalog::{Catalog, Product, ProductKind};
use crate::domain::guide::{Guide, Step};

/// The worksheet of one deployment.
pub(super) fn sheet(subject: &Subject<'_>) -> Sheet {
    Sheet {
        guide: Guide::AppStore,
        head: subject.head(),
        sections: vec![
            app(subject),
            products(subject.catalog),
            key(subject),
            notifications(subject),
            code(),
            purchase(subject),
        ],
        check: subject.command("doctor"),
    }
}

fn app(subject: &Subject<'_>) -> Section {
    let apps: Vec<_> = subject
        .catalog
        .apps()
        .iter()
        .filter_map(|app| Some((app, app.bundle_id.as_deref()?)))
        .collect();
    let told = apps.iter().map(|(app, bundle)| match app.app_apple_id {
        Some(id) => format!("{bundle} ({id})"),
        None => format!("{bundle} (no app_apple_id)"),
    });
    let done = (!apps.is_empty()).then(|| told.collect::<Vec<_>>().join(", "));
    let mut section = Section::new(Step::APPLE_APP)
        .done(done)
        .act(
            "App Store Connect → Business: the Paid Apps agreement must be active (Account Holder)",
        )
        .act("Apps → + → New App");
    for (_, bundle) in &apps {
        section = section.value("Bundle ID", *bundle);
    }
    section = section.act("App → General → App Information: copy Apple ID into the catalog");
    if apps.is_empty() {
        return section.file(
            "[[apps]]\nid = \"ios\"\nbundle_id = \"com.example.app\"\napp_apple_id = 0  # Apple ID",
        );
    }
    for (app, bundle) in apps.iter().filter(|(app, _)| app.app_apple_id.is_none()) {
        section = section.file(&format!(
            "[[apps]]\nid = \"{}\"\nbundle_id = \"{bundle}\"\napp_apple_id = 0  # Apple ID",
            app.id
        ));
    }
    section
}

/// A product as the App Store sells it.
struct Sold<'a> {
    id: &'a str,
    product: &'a Product,
    product_id: &'a str,
}

fn sold(catalog: &Catalog) -> Vec<Sold<'_>> {
    let all = catalog.products().filter_map(|(id, product)| {
        Some(Sold {
            id,
            product,
            product_id: product.app_store.as_ref()?.product_id.as_str(),
        })
    });
    all.collect()
}

fn products(catalog: &Catalog) -> Section {
    let all = sold(catalog);
    let mut section = Section::new(Step::APPLE_PRODUCTS)
        .note("ids are for ever: a deleted one cannot be used again")
        .note("Apple's server API has no list of products, so `doctor` cannot compare them");
    let (renewing, once): (Vec<_>, Vec<_>) = all
        .iter()
        .partition(|sold| sold.product.kind == ProductKind::Subscription);
    for (number, group) in (1..).zip(groups(&renewing)) {
        section = section
            .act(format!(
                "App → Monetization → Subscriptions: subscription group {number}"
            ))
            .note("of one group a customer holds one at a time; level 1 is the highest");
        section = section.values(levels(&group));
    }
    if !once.is_empty() {
        section = section.act("App → Monetization → In-App Purchases");
        section = section.values(once.iter().map(|sold| {
            let kind = match sold.product.kind {
                ProductKind::Consumable => "Consumable",
                ProductKind::NonConsumable => "Non-Consumable",
                ProductKind::NonRenewing => "Non-Renewing Subscription",
                ProductKind::Subscription => "Auto-Renewable Subscription",
            };
            (sold.product_id, format!("{kind}   [{}]", sold.id))
        }));
    }
    if all.is_empty() {
        section = section.note("no product of the catalog names app_store");
    }
    section.act(
        "each needs a price, a display name, a description and a review screenshot before it can \
         be bought; changes take up to an hour to reach the sandbox",
    )
}

/// Subscriptions that are ways to have the same thing: those that share an entitlement, directly
/// or through others.
fn groups<'a, 'b>(renewing: &'b [&'a Sold<'a>]) -> Vec<Vec<&'b Sold<'a>>> {
    let mut groups: Vec<(BTreeSet<&str>, Vec<&Sold<'_>>)> = Vec::new();
    for sold in renewing {
        let mut grants: BTreeSet<&str> = sold.product.grants.iter().map(String::as_str).collect();
        let mut members = Vec::new();
        groups.retain_mut(|(known, others)| {
            let apart = known.is_disjoint(&grants);
            if !apart {
                grants.append(known);
                members.append(others);
            }
            apart
        });
        members.push(*sold);
        groups.push((grants, members));
    }
    groups.into_iter().map(|(_, members)| members).collect()
}

/// The more a subscription grants, the higher its level; the same grants share one.
fn levels(group: &[&Sold<'_>]) -> Vec<(String, String)> {
    let counts: BTreeSet<usize> = group.iter().map(|sold| sold.product.grants.len()).collect();
    let mut lines: Vec<(usize, String, String)> = group
        .iter()
        .map(|sold| {
            let grants = sold.product.grants.len();
            let level = 1 + counts.iter().filter(|count| **count > grants).count();
            let duration = sold
                .product
                .period
                .map(|period| duration(&period.to_string()));
            let told = format!(
                "level {level}   {}   [{}]",
                duration.unwrap_or_default(),
                sold.id
            );
            (level, sold.product_id.to_owned(), told)
        })
        .collect();
    lines.sort_by_key(|(level, ..)| *level);
    lines
        .into_iter()
        .map(|(_, product_id, told)| (product_id, told))
        .collect()
}

/// The durations that App Store Connect offers, in its words.
fn duration(period: &str) -> String {
    let words = match period {
        "P1W" | "P7D" => "1 Week",
        "P1M" => "1 Month",
        "P2M" => "2 Months",
        "P3M" => "3 Months",
        "P6M" => "6 Months",
        "P1Y" | "P12M" => "1 Year",
        other => return format!("{other}: the App Store has no such duration"),
    };
    words.to_owned()
}

fn key(subject: &Subject<'_>) -> Section {
    let configured = subject.config.and_then(|config| config.app_store.as_ref());
    let done = configured.map(|apple| {
        let file = match &apple.private_key_file {
            Some(file) => file.display().to_string(),
            None => "private_key".to_owned(),
        };
        format!("key {}, {file}", apple.key_id)
    });
    let section = Section::new(Step::APPLE_KEY)
        .done(done)
        .act("Users and Access → Integrations → Keys → In-App Purchase (Account Holder or Admin)")
        .act("generate a key; download the .p8: that is possible once")
        .note("not an App Store Connect API key: the page beside it looks the same");
    match configured {
        Some(_) => section,
        None => section.file(
            "[app_store]\n\
             issuer_id = \"\"         # Issuer ID, above the list of keys\n\
             key_id = \"\"            # Key ID\n\
             private_key_file = \"\"  # where the .p8 is, readable by the server alone",
        ),
    }
}

fn notifications(subject: &Subject<'_>) -> Section {
    let url = subject.webhook("app-store");
    let mut section = Section::new(Step::APPLE_NOTIFICATIONS).act(
        "App → General → App Information → App Store Server Notifications: Set Up URL, Version 2",
    );
    section = section.values([
        ("Production Server URL", url.clone()),
        ("Sandbox Server URL", url),
    ]);
    section = section.note(
        "HTTPS, TLS 1.2 or newer, a certificate of a public authority; with a sandbox URL alone \
         production says nothing",
    );
    if subject.public_url.is_none() {
        section = section.note("give --public-url or webhooks.public_url to see the exact URLs");
    }
    section
}

fn code() -> Section {
    Section::new(Step::APPLE_CODE)
        .act("pass the account's store token as appAccountToken when a purchase starts")
        .act("watch Transaction.updates from the app's start on, and send each transaction")
        .act("finish a transaction only when BindPurchase says FINISH")
}

fn purchase(subject: &Subject<'_>) -> Section {
    Section::new(Step::APPLE_PURCHASE)
        .act("Users and Access → Sandbox → Test Accounts → +: an e-mail that was never an Apple Account")
        .act("on the device: Developer Mode on, Settings → Developer → Sandbox Apple Account")
        .act("run a development build, and buy while this follows:")
        .shell(&subject.command("doctor --wait"))
}
