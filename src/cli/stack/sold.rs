//! What simulated stores sell: a catalog's products under their store names.

use anyhow::Context as _;

use crate::domain::catalog::{Catalog, ProductKind};
use crate::domain::ids::CatalogVersion;
use crate::flows::apply_catalog;
use crate::sandbox::{
    AppStoreKind, AppStoreProduct, Environment, GooglePlayProduct, Period, StoreSetup,
};

/// What simulated stores sell to whoever has this catalog, in production.
///
/// # Errors
/// The catalog is unsound, or has a period that the simulator cannot play.
pub fn setup_of(catalog: &str) -> anyhow::Result<StoreSetup> {
    let catalog = apply_catalog::parse(catalog, CatalogVersion(0))?;
    store_setup(&catalog, Environment::Production)
}

/// What the simulated stores sell: the catalog's products under their store names.
pub(in crate::cli) fn store_setup(
    catalog: &Catalog,
    environment: Environment,
) -> anyhow::Result<StoreSetup> {
    let mut app_store = Vec::new();
    let mut google_play = Vec::new();
    for (id, product) in catalog.products() {
        let period: Option<Period> = product
            .period
            .map(|period| period.to_string().parse())
            .transpose()
            .with_context(|| format!("products.{id}: the simulator cannot play this period"))?;
        if let Some(apple) = &product.app_store {
            app_store.push(apple_product(&apple.product_id, product.kind, period));
        }
        if let Some(google) = &product.google_play {
            let base_plan = google.base_plan_id.as_deref();
            google_play.push(google_product(
                &google.product_id,
                base_plan,
                product.kind,
                period,
            ));
        }
    }
    let apps = catalog.apps();
    let bundle = apps
        .iter()
        .find_map(|app| Some((app.bundle_id.clone()?, app.app_apple_id)));
    let (bundle_id, app_apple_id) = bundle.unwrap_or_default();
    Ok(StoreSetup {
        bundle_id,
        app_apple_id: app_apple_id.unwrap_or_default(),
        package_name: apps
            .iter()
            .find_map(|app| app.package_name.clone())
            .unwrap_or_default(),
        environment,
        app_store,
        google_play,
        timing: Default::default(),
        deliveries: Default::default(),
        superwall: Default::default(),
    })
}

fn apple_product(product_id: &str, kind: ProductKind, period: Option<Period>) -> AppStoreProduct {
    match (kind, period) {
        (ProductKind::Subscription, Some(period)) => AppStoreProduct {
            kind: AppStoreKind::AutoRenewable {
                period,
                group: "21000000".into(),
                rank: 1,
                grace_days: 16,
                retry_days: 60,
            },
            ..AppStoreProduct::subscription(product_id, period, "21000000")
        },
        (ProductKind::NonRenewing, _) => AppStoreProduct::non_renewing(product_id),
        (ProductKind::Consumable, _) => AppStoreProduct::consumable(product_id),
        (ProductKind::Subscription, None) | (ProductKind::NonConsumable, _) => {
            AppStoreProduct::non_consumable(product_id)
        }
    }
}

fn google_product(
    product_id: &str,
    base_plan: Option<&str>,
    kind: ProductKind,
    period: Option<Period>,
) -> GooglePlayProduct {
    match (kind, base_plan, period) {
        (ProductKind::Subscription, Some(plan), Some(period)) => {
            GooglePlayProduct::subscription(product_id, plan, period)
        }
        // Play knows nothing that lasts for a time but subscriptions: a pass is sold again and
        // again, and consumed.
        (ProductKind::Consumable | ProductKind::NonRenewing, _, _) => {
            GooglePlayProduct::consumable(product_id)
        }
        (ProductKind::Subscription | ProductKind::NonConsumable, _, _) => {
            GooglePlayProduct::non_consumable(product_id)
        }
    }
}
