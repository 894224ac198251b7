//! The catalog that our server is started with for a scenario: the scenario's products under the
//! names that the server's own format has for them.

use toml::{Table, Value};

use crate::sandbox::scenario::{Kind, Product, Scenario};

/// The catalog as TOML.
pub(in crate::cli) fn of(scenario: &Scenario) -> anyhow::Result<String> {
    let mut root = Table::new();
    let ios = table([
        ("id", text("ios")),
        ("bundle_id", text(&scenario.app.bundle_id)),
        ("app_apple_id", Value::from(scenario.app.app_apple_id)),
    ]);
    let android = table([
        ("id", text("android")),
        ("package_name", text(&scenario.app.package_name)),
    ]);
    root.insert("apps".into(), Value::Array(vec![ios, android]));
    let entitlements = scenario.entitlements().into_iter();
    let entitlements = entitlements.map(|id| (id.to_owned(), Value::Table(Table::new())));
    root.insert("entitlements".into(), Value::Table(entitlements.collect()));
    let products = scenario.products.iter();
    let credits = products
        .clone()
        .flat_map(|(_, product)| product.credits.keys());
    let credits = credits.map(|id| (id.clone(), Value::Table(Table::new())));
    root.insert("credits".into(), Value::Table(credits.collect()));
    let products = products.map(|(id, p)| (id.clone(), product(p)));
    root.insert("products".into(), Value::Table(products.collect()));
    Ok(toml::to_string(&root)?)
}

fn product(product: &Product) -> Value {
    let kind = match product.kind() {
        Kind::Subscription | Kind::Prepaid | Kind::Installments => "subscription",
        Kind::NonConsumable => "non_consumable",
        Kind::Consumable => "consumable",
        Kind::NonRenewing => "non_renewing",
    };
    let mut entry = Table::new();
    entry.insert("kind".into(), text(kind));
    if let Some(period) = product.period.and_then(|length| length.period()) {
        entry.insert("period".into(), text(&period.to_string()));
    }
    let gives = product.gives.iter().map(|id| text(id)).collect();
    entry.insert("grants".into(), Value::Array(gives));
    if !product.credits.is_empty() {
        let credits = product.credits.iter();
        let credits = credits.map(|(id, amount)| {
            (
                id.clone(),
                Value::from(i64::try_from(*amount).unwrap_or(i64::MAX)),
            )
        });
        entry.insert("credits".into(), Value::Table(credits.collect()));
    }
    if let Some(terms) = &product.app_store {
        entry.insert("app_store".into(), table([("product_id", text(&terms.id))]));
    }
    if let Some(terms) = &product.google_play {
        let mut google = Table::new();
        google.insert("product_id".into(), text(&terms.id));
        if let Some(plan) = &terms.base_plan {
            google.insert("base_plan_id".into(), text(plan));
        }
        entry.insert("google_play".into(), Value::Table(google));
    }
    Value::Table(entry)
}

fn text(text: &str) -> Value {
    Value::from(text)
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let entries = entries.into_iter();
    Value::Table(
        entries
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    )
}
