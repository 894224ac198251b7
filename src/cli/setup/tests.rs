//! What `setup` prints, word by word. `UPDATE_GOLDEN=1` writes the files anew.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use super::*;
use crate::cli::stack::EXAMPLE_CATALOG;
use crate::domain::guide::Guide;

const CONFIGURED: &str = r#"
    catalog = "catalog.toml"

    [database]
    url = "postgres://entitled:canary-password@db.internal/entitled"

    [webhooks]
    public_url = "https://entitled.example.com"

    [app_store]
    issuer_id = "57246542-96fe-1a63-e053-0824d011072a"
    key_id = "2X9R4HXF34"
    private_key = "-----BEGIN PRIVATE KEY-----\ncanary-key\n-----END PRIVATE KEY-----"

    [google_play]
    service_account = '{"project_id": "my-project", "client_email": "server@my-project.iam.gserviceaccount.com", "private_key": "canary-key"}'

    [google_play.push]
    audience = "https://entitled.example.com/webhooks/google-play"
    email = "push@my-project.iam.gserviceaccount.com"
    subscription = "projects/my-project/subscriptions/play"
"#;

fn check(name: &str, printed: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/cli/setup/golden")
        .join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, printed).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(printed, expected, "{name}: {}", file.display());
}

fn printed(config: Option<&Config>, catalog: &str, store: Guide) -> String {
    let catalog = apply_catalog::parse(catalog, CatalogVersion(0)).unwrap();
    let subject = Subject {
        config,
        config_file: config.map(|_| Path::new("entitled.toml")),
        catalog: &catalog,
        catalog_file: Path::new("catalog.toml"),
        public_url: config.and_then(|config| config.webhooks.public_url.clone()),
        account: config.and_then(account_name),
    };
    match store {
        Guide::AppStore => app_store::sheet(&subject),
        Guide::GooglePlay | Guide::Server => google_play::sheet(&subject, None, "entitled-play"),
    }
    .render()
}

#[test]
fn the_sheets_of_one_who_has_nothing_yet_and_of_one_who_has_everything() {
    let config: Config = toml::from_str(CONFIGURED).unwrap();
    for (name, config) in [("empty", None), ("configured", Some(&config))] {
        for store in [Guide::AppStore, Guide::GooglePlay] {
            let text = printed(config, EXAMPLE_CATALOG, store);
            assert!(!text.contains("canary"), "a secret was printed: {text}");
            let store = store.label().to_lowercase().replace(' ', "-");
            check(&format!("{store}-{name}"), &text);
        }
    }
}

#[test]
fn every_step_has_its_place() {
    let text = printed(None, EXAMPLE_CATALOG, Guide::AppStore);
    for (number, title) in (1..).zip(Guide::AppStore.titles()) {
        let all = Guide::AppStore.titles().len();
        assert!(
            text.contains(&format!("\n{number:>2}/{all} {title}")),
            "{title}"
        );
    }
}

#[test]
fn what_grants_the_same_is_of_one_group_and_what_grants_more_is_higher() {
    let catalog = r#"
        [[apps]]
        id = "ios"
        bundle_id = "com.example.app"
        [entitlements.basic]
        [entitlements.pro]
        [entitlements.news]
        [products.pro_month]
        kind = "subscription"
        period = "P1M"
        grants = ["basic", "pro"]
        app_store = { product_id = "pro.month" }
        [products.basic_month]
        kind = "subscription"
        period = "P1M"
        grants = ["basic"]
        app_store = { product_id = "basic.month" }
        [products.basic_odd]
        kind = "subscription"
        period = "P5M"
        grants = ["basic"]
        app_store = { product_id = "basic.odd" }
        [products.news]
        kind = "subscription"
        period = "P1Y"
        grants = ["news"]
        app_store = { product_id = "news" }
    "#;
    let text = printed(None, catalog, Guide::AppStore);
    for expected in [
        "subscription group 1",
        "subscription group 2",
        "pro.month    level 1   1 Month   [pro_month]",
        "basic.month  level 2   1 Month   [basic_month]",
        "basic.odd    level 2   P5M: the App Store has no such duration",
        "news  level 1   1 Year   [news]",
        "app_apple_id = 0",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains("subscription group 3"));
}
