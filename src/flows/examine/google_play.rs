//! Google Play's steps: app, service account, permissions, products, topic, push, first purchase.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use super::{Finding, Health, ago, first_purchase, heard_ago};
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
pub(super) async fn examine(core: &Core) -> Result<Vec<Finding>, StorageError> {
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
            findings.push(products(store, &catalog, package).await);
        }
    }
    findings.extend(pushes(core, store).await?);
    findings.push(first_purchase(core, Step::GOOGLE_PURCHASE, Provider::GooglePlay).await?);
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

/// The catalog beside what the store lists.
async fn products(store: &GooglePlay, catalog: &Catalog, package: &str) -> Finding {
    let offered = match store.offered(package).await {
        Ok(offered) => offered,
        Err(error) => {
            return Finding::of(
                Step::GOOGLE_PRODUCTS,
                Health::Warn,
                format!("{package}: the store's list cannot be read: {error}"),
                "compare by hand: `entitled setup google` prints what the catalog expects",
            );
        }
    };
    let compared = Compared::of(catalog, &offered);
    let (health, next) = match (compared.missing.is_empty(), compared.is_clean()) {
        (false, _) => (
            Health::Fail,
            "create and activate them in the Play Console, or correct the catalog: ids must agree \
             to the letter, product and base plan",
        ),
        (true, false) => (
            Health::Warn,
            "activate what should be sold; what the catalog does not know grants nothing",
        ),
        (true, true) => (Health::Ok, ""),
    };
    let found = format!("{package}: {}", compared.sentence());
    Finding::of(Step::GOOGLE_PRODUCTS, health, found, next)
}

/// What differs between catalog and store.
#[derive(Debug, Default, PartialEq, Eq)]
struct Compared {
    agreed: usize,
    /// In the catalog, not at the store.
    missing: Vec<String>,
    inactive: Vec<String>,
    /// At the store and for sale, not in the catalog.
    unknown: Vec<String>,
}

impl Compared {
    fn of(catalog: &Catalog, offered: &[Offered]) -> Self {
        let at_store: BTreeMap<String, &Offered> = offered
            .iter()
            .map(|offered| (offered.product.to_string(), offered))
            .collect();
        let mut compared = Self::default();
        let expected = catalog.products().filter_map(|(_, product)| {
            let google = product.google_play.as_ref()?;
            Some(StoreProduct {
                product_id: google.product_id.clone(),
                base_plan_id: google.base_plan_id.clone(),
            })
        });
        for product in expected {
            let name = product.to_string();
            match at_store.get(&name) {
                None => compared.missing.push(name),
                Some(offered) if !offered.active => compared.inactive.push(name),
                Some(_) => compared.agreed += 1,
            }
        }
        for (name, offered) in at_store {
            let known = catalog.plan(Provider::GooglePlay, &offered.product);
            if offered.active && known.is_none() {
                compared.unknown.push(name);
            }
        }
        compared
    }

    fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.inactive.is_empty() && self.unknown.is_empty()
    }

    fn sentence(&self) -> String {
        let mut parts = vec![format!("{} agree", self.agreed)];
        for (what, names) in [
            ("not at the store", &self.missing),
            ("not active there", &self.inactive),
            ("not in the catalog", &self.unknown),
        ] {
            if !names.is_empty() {
                let shown: Vec<&str> = names.iter().take(NAMED_MAX).map(String::as_str).collect();
                let more = match names.len() - shown.len() {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                parts.push(format!("{what}: {}{more}", shown.join(", ")));
            }
        }
        parts.join("; ")
    }
}

/// Google has no call that makes it send a test message: what came is looked at.
async fn pushes(core: &Core, store: &GooglePlay) -> Result<Vec<Finding>, StorageError> {
    let press = "press \"Send test message\" in the Play Console (Monetization setup) and run it \
                 again; if nothing comes: the topic's publisher, the push subscription's URL";
    let heard = heard_ago(core, Provider::GooglePlay).await?;
    let tested = diagnosis::newest_of_kind(&core.db, "google_play", "TEST").await?;
    let topic = match heard {
        None => Finding::of(
            Step::GOOGLE_TOPIC,
            Health::Warn,
            "nothing has ever come",
            press,
        ),
        Some(past) => {
            let test = tested.map_or_else(String::new, |at| {
                format!(", the last test message {}", ago(core.clock.now() - at))
            });
            let health = if past <= FORGOTTEN {
                Health::Ok
            } else {
                Health::Warn
            };
            let found = format!("the last push came {}{test}", ago(past));
            Finding::of(Step::GOOGLE_TOPIC, health, found, press)
        }
    };
    let push = match (store.takes_pushes(), heard) {
        (false, _) => Finding::of(
            Step::GOOGLE_PUSH,
            Health::Fail,
            "no [google_play.push]: every push is turned away",
            "name audience, email and subscription; `entitled setup google` prints them",
        ),
        (true, None) => Finding::of(
            Step::GOOGLE_PUSH,
            Health::Warn,
            "configured; no push has shown yet that its identity is right",
            press,
        ),
        (true, Some(_)) => Finding::of(
            Step::GOOGLE_PUSH,
            Health::Ok,
            "a push of the configured identity was accepted",
            "",
        ),
    };
    Ok(vec![topic, push])
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
        let other = [
            offered("pro", Some("month"), false),
            offered("pro", Some("Year"), true),
            offered("draft", None, false),
            offered("once", None, true),
        ];
        let differs = Compared::of(&catalog, &other);
        assert_eq!(
            differs.sentence(),
            "1 agree; not at the store: pro:year; not active there: pro:month; not in the catalog: pro:Year"
        );
    }
}
