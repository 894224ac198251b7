//! Google Play's steps: app, service account, permissions, products, topic, push, first purchase.

use std::collections::BTreeSet;

use chrono::TimeDelta;

use super::{Finding, Health, Sold, ago, first_purchase, look, slow_step, tests_of};
use crate::domain::catalog::{App, Catalog};
use crate::domain::chain::StoreProduct;
use crate::domain::guide::Step;
use crate::domain::provider::{Environment, Provider};
use crate::flows::Core;
use crate::providers::contract::{FetchError, SweepRequest};
use crate::providers::google_play::{GooglePlay, Offered};
use crate::storage::{StorageError, diagnosis};

const PROBE: TimeDelta = TimeDelta::minutes(10);
/// Names in one line of a table.
const NAMED_MAX: usize = 5;
/// A silence of pushes that a working topic does not have on its own.
const FORGOTTEN: TimeDelta = TimeDelta::days(30);

/// Every step, as far as Google Play is wanted at all.
pub(super) async fn examine(core: &Core, sold: &Sold) -> Result<Vec<Finding>, StorageError> {
    let catalog = core.catalog.load_full();
    let apps: Vec<(&App, &str)> = catalog
        .apps()
        .iter()
        .filter_map(|app| Some((app, app.package_name.as_deref()?)))
        .collect();
    let Some(store) = &core.stores.google_play else {
        return Ok(match apps.is_empty() {
            true => Vec::new(),
            false => vec![
                app(&apps),
                Finding::of(
                    Step::GOOGLE_ACCOUNT,
                    Health::Warn,
                    "no [google_play]: Google Play purchases are refused",
                    "make a service account and name its key in [google_play]; \
                     `entitled setup google` prints the commands",
                ),
            ],
        });
    };
    let mut findings = vec![app(&apps)];
    let account = account(store).await;
    let signed_in = account.health == Health::Ok;
    findings.push(account);
    if signed_in {
        for (app, package) in &apps {
            findings.push(permissions(core, store, app, package).await);
        }
        findings.extend(products(store, &catalog, &apps).await);
    }
    let heard = pushes(core, store, &apps);
    findings.extend(look(slow_step(Step::GOOGLE_TOPIC), heard).await?);
    findings.push(first_purchase(
        sold,
        Step::GOOGLE_PURCHASE,
        Provider::GooglePlay,
    ));
    Ok(findings)
}

fn app(apps: &[(&App, &str)]) -> Finding {
    let names: Vec<&str> = apps.iter().map(|(_, package)| *package).collect();
    let health = if names.is_empty() {
        Health::Fail
    } else {
        Health::Ok
    };
    let found = match names.is_empty() {
        true => {
            "no app of the catalog has a package_name, so every Google Play purchase is refused"
                .to_owned()
        }
        false => names.join(", "),
    };
    Finding::of(
        Step::GOOGLE_APP,
        health,
        found,
        "add package_name to [[apps]] of the catalog, and apply it",
    )
}

async fn account(store: &GooglePlay) -> Finding {
    match store.sign_in().await {
        Ok(()) => Finding::of(
            Step::GOOGLE_ACCOUNT,
            Health::Ok,
            "Google gives an access token",
            "",
        ),
        Err(error @ FetchError::Away { .. }) => Finding::of(
            Step::GOOGLE_ACCOUNT,
            Health::Warn,
            error.to_string(),
            "nothing, if it comes back; else check the way out of this machine",
        ),
        Err(error) => Finding::of(
            Step::GOOGLE_ACCOUNT,
            Health::Fail,
            error.to_string(),
            "is the key deleted in Google Cloud, or this machine's clock wrong? make a new key: \
             `entitled setup google` prints the command",
        ),
    }
}

/// Looks at what only the two permissions allow, without doing anything.
async fn permissions(core: &Core, store: &GooglePlay, app: &App, package: &str) -> Finding {
    let now = core.clock.now();
    let request = SweepRequest {
        app,
        environment: Environment::Production,
        since: now - PROBE,
        until: now,
        only_failures: true,
        cursor: None,
    };
    let orders = core.stores.sweep(Provider::GooglePlay, request).await;
    if let Err(error) = orders {
        return refused(
            package,
            &error,
            "Play Console → Users and permissions: give the account the app, and \"View financial \
             data, orders, and cancellation survey responses\"; a new grant can take a day",
        );
    }
    if let Err(error) = store.may_acknowledge(package).await {
        return refused(
            package,
            &error,
            "Play Console → Users and permissions: \"Manage orders and subscriptions\" is missing; \
             without it Google takes every purchase back after three days. A new grant can take a day",
        );
    }
    let found = format!("{package}: may read orders, and is not refused to acknowledge");
    Finding::of(Step::GOOGLE_PERMISSIONS, Health::Ok, found, "")
}

fn refused(package: &str, error: &FetchError, next: &'static str) -> Finding {
    let found = format!("{package}: {error}");
    match error {
        FetchError::Away { .. } => Finding::of(
            Step::GOOGLE_PERMISSIONS,
            Health::Warn,
            found,
            "nothing, if it comes back",
        ),
        FetchError::Refused(_) | FetchError::Unreadable(_) => {
            Finding::of(Step::GOOGLE_PERMISSIONS, Health::Fail, found, next)
        }
    }
}

/// The catalog beside what the store lists for each app. The catalog does not say which app sells
/// what: a product is missing if none does.
async fn products(store: &GooglePlay, catalog: &Catalog, apps: &[(&App, &str)]) -> Vec<Finding> {
    let finding =
        |health, found: String, next| Finding::of(Step::GOOGLE_PRODUCTS, health, found, next);
    let mut findings = Vec::new();
    let mut lists = Vec::new();
    for (_, package) in apps {
        match store.offered(package).await {
            Ok(offered) => lists.push((*package, offered)),
            Err(error) => findings.push(finding(
                Health::Warn,
                format!("{package}: the store's list cannot be read: {error}"),
                "compare by hand: `entitled setup google` prints what the catalog expects",
            )),
        }
    }
    // A list that cannot be read may have what the others lack.
    if findings.is_empty() {
        let missing = missing(catalog, lists.iter().flat_map(|(_, offered)| offered));
        if !missing.is_empty() {
            findings.push(finding(
                Health::Fail,
                format!("not at the store: {}", some_of(&missing)),
                "create and activate them in the Play Console, or correct the catalog: ids must \
                 agree to the letter, product and base plan",
            ));
        }
    }
    for (package, offered) in &lists {
        let compared = Compared::of(catalog, offered);
        let (health, next) = match compared.is_clean() {
            false => (
                Health::Warn,
                "activate what should be sold; what the catalog does not know grants nothing",
            ),
            true => (Health::Ok, ""),
        };
        let found = format!("{package}: {}", compared.sentence());
        findings.push(finding(health, found, next));
    }
    findings
}

/// What the catalog expects at Google Play.
fn expected(catalog: &Catalog) -> impl Iterator<Item = String> {
    catalog.products().filter_map(|(_, product)| {
        let google = product.google_play.as_ref()?;
        let product = StoreProduct {
            product_id: google.product_id.clone(),
            base_plan_id: google.base_plan_id.clone(),
        };
        Some(product.to_string())
    })
}

/// Those of them that nobody offers.
fn missing<'a>(catalog: &Catalog, offered: impl Iterator<Item = &'a Offered>) -> Vec<String> {
    let offered: BTreeSet<String> = offered.map(|offered| offered.product.to_string()).collect();
    let missing = expected(catalog).filter(|name| !offered.contains(name));
    missing.collect()
}

/// The first of them, and how many more.
fn some_of(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED_MAX).map(String::as_str).collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What differs between the catalog and what the store lists for one app.
#[derive(Debug, Default, PartialEq, Eq)]
struct Compared {
    agreed: usize,
    inactive: Vec<String>,
    /// At the store and for sale, not in the catalog.
    unknown: Vec<String>,
}

impl Compared {
    fn of(catalog: &Catalog, offered: &[Offered]) -> Self {
        let expected: BTreeSet<String> = expected(catalog).collect();
        let mut compared = Self::default();
        for offered in offered {
            let name = offered.product.to_string();
            match (expected.contains(&name), offered.active) {
                (true, true) => compared.agreed += 1,
                (true, false) => compared.inactive.push(name),
                (false, true) => {
                    let known = catalog.plan(Provider::GooglePlay, &offered.product);
                    if known.is_none() {
                        compared.unknown.push(name);
                    }
                }
                (false, false) => {}
            }
        }
        compared
    }

    fn is_clean(&self) -> bool {
        self.inactive.is_empty() && self.unknown.is_empty()
    }

    fn sentence(&self) -> String {
        let mut parts = vec![format!("{} agree", self.agreed)];
        for (what, names) in [
            ("not active there", &self.inactive),
            ("not in the catalog", &self.unknown),
        ] {
            if !names.is_empty() {
                parts.push(format!("{what}: {}", some_of(names)));
            }
        }
        parts.join("; ")
    }
}

/// Google has no call that makes it send a test message: what came is looked at. Each app names its
/// topic by itself.
async fn pushes(
    core: &Core,
    store: &GooglePlay,
    apps: &[(&App, &str)],
) -> Result<Vec<Finding>, StorageError> {
    let press = "press \"Send test message\" in the Play Console (Monetization setup) and run it \
                 again; if nothing comes: the topic's publisher, the push subscription's URL";
    let now = core.clock.now();
    let since = now - FORGOTTEN;
    let tests = tests_of(core, Provider::GooglePlay, since, |body| {
        Some((GooglePlay::sent_for(body)?, None))
    });
    let tests = tests.await?;
    let source = Provider::GooglePlay.as_str();
    let mut findings = Vec::new();
    let mut heard = false;
    for (app, package) in apps {
        let tested = tests.iter().find(|(_, (of, _))| of == package);
        let tested = tested.map(|(at, _)| *at);
        let told = diagnosis::heard_of_app(&core.db, source, &app.id, None, since).await?;
        findings.push(match told.max(tested) {
            None => {
                let days = FORGOTTEN.num_days();
                let found = format!("{package}: nothing has come in {days} days");
                Finding::of(Step::GOOGLE_TOPIC, Health::Warn, found, press)
            }
            Some(last) => {
                heard = true;
                let test = tested.map_or_else(String::new, |at| {
                    format!(", the last test message {}", ago(now - at))
                });
                let past = ago(now - last);
                let found = format!("{package}: the last push came {past}{test}");
                Finding::of(Step::GOOGLE_TOPIC, Health::Ok, found, "")
            }
        });
    }
    findings.push(match (store.takes_pushes(), heard) {
        (false, _) => Finding::of(
            Step::GOOGLE_PUSH,
            Health::Fail,
            "no [google_play.push]: every push is turned away",
            "name audience, email and subscription; `entitled setup google` prints them",
        ),
        (true, false) => Finding::of(
            Step::GOOGLE_PUSH,
            Health::Warn,
            "configured; no push has shown yet that its identity is right",
            press,
        ),
        (true, true) => Finding::of(
            Step::GOOGLE_PUSH,
            Health::Ok,
            "a push of the configured identity was accepted",
            "",
        ),
    });
    Ok(findings)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::ids::CatalogVersion;

    #[test]
    fn catalog_and_store_are_compared_to_the_letter() {
        let file = r#"
            [[apps]]
            id = "android"
            package_name = "com.example.app"
            [entitlements.pro]
            [products.month]
            kind = "subscription"
            period = "P1M"
            grants = ["pro"]
            google_play = { product_id = "pro", base_plan_id = "month" }
            [products.year]
            kind = "subscription"
            period = "P1Y"
            grants = ["pro"]
            google_play = { product_id = "pro", base_plan_id = "year" }
            [products.once]
            kind = "non_consumable"
            grants = ["pro"]
            google_play = { product_id = "once" }
        "#;
        let catalog = Catalog::build(toml::from_str(file).unwrap(), CatalogVersion(1)).unwrap();
        let offered = |product_id: &str, plan: Option<&str>, active| Offered {
            product: StoreProduct {
                product_id: product_id.into(),
                base_plan_id: plan.map(str::to_owned),
            },
            active,
        };
        let all = [
            offered("pro", Some("month"), true),
            offered("pro", Some("year"), true),
            offered("once", None, true),
        ];
        let same = Compared::of(&catalog, &all);
        assert!(same.is_clean());
        assert_eq!(same.sentence(), "3 agree");
        assert_eq!(missing(&catalog, all.iter()), Vec::<String>::new());
        let other = [
            offered("pro", Some("month"), false),
            offered("pro", Some("Year"), true),
            offered("draft", None, false),
            offered("once", None, true),
        ];
        let differs = Compared::of(&catalog, &other);
        assert_eq!(
            differs.sentence(),
            "1 agree; not active there: pro:month; not in the catalog: pro:Year"
        );
        assert_eq!(missing(&catalog, other.iter()), ["pro:year"]);
        // Another app sells it.
        let both = other.iter().chain(&all[1..2]);
        assert_eq!(missing(&catalog, both), Vec::<String>::new());
    }
}
