//! What the model's stores sell, and what the catalog makes of it: every product kind of both
//! stores, each granting an entitlement of its own beside the common one.

use std::fmt::Write as _;

use crate::domain::catalog::Catalog;
use crate::domain::ids::CatalogVersion;
use crate::flows::apply_catalog;
use crate::sandbox::{
    AppStoreKind, AppStoreProduct, Environment, GooglePlayKind, GooglePlayProduct, Period, Store,
    StoreSetup,
};

pub(super) const BUNDLE: &str = "com.example.app";
pub(in crate::cli::prove) const PACKAGE: &str = "com.example.android";
const APP_APPLE_ID: i64 = 1_234_567_890;

/// What every plan grants beside its own.
pub(in crate::cli::prove) const COMMON: &str = "pro_access";

/// What one unit of a consumable is worth.
pub(in crate::cli::prove) const COINS: i64 = 10;

/// How a product is sold to the catalog.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::cli::prove) enum SoldAs {
    Subscription(&'static str),
    Lasting,
    /// Worth [`COINS`] a unit.
    Counted,
    /// The catalog does not know it: it must grant nothing.
    Unmapped,
}

/// One product of one store under the catalog's name for it.
pub(in crate::cli::prove) struct Ware {
    pub(in crate::cli::prove) plan: &'static str,
    pub(super) store: Store,
    pub(super) product_id: &'static str,
    pub(super) base_plan_id: Option<&'static str>,
    pub(in crate::cli::prove) sold_as: SoldAs,
}

const fn apple(plan: &'static str, product_id: &'static str, sold_as: SoldAs) -> Ware {
    Ware {
        plan,
        store: Store::AppStore,
        product_id,
        base_plan_id: None,
        sold_as,
    }
}

const fn google(
    plan: &'static str,
    product_id: &'static str,
    base_plan_id: Option<&'static str>,
    sold_as: SoldAs,
) -> Ware {
    Ware {
        plan,
        store: Store::GooglePlay,
        product_id,
        base_plan_id,
        sold_as,
    }
}

use SoldAs::{Counted, Lasting, Subscription, Unmapped};

/// Everything that is sold.
pub(super) const WARES: &[Ware] = &[
    apple("a_basic", "a.basic.monthly", Subscription("P1M")),
    apple("a_premium", "a.premium.monthly", Subscription("P1M")),
    apple("a_year", "a.premium.yearly", Subscription("P1Y")),
    apple("a_news", "a.news.weekly", Subscription("P1W")),
    apple("a_forever", "a.forever", Lasting),
    apple("a_coins", "a.coins", Counted),
    apple("a_season", "a.season", Unmapped),
    google("g_basic", "g.basic", Some("monthly"), Subscription("P1M")),
    google(
        "g_basic_year",
        "g.basic",
        Some("yearly"),
        Subscription("P1Y"),
    ),
    google("g_pro", "g.pro", Some("monthly"), Subscription("P1M")),
    google("g_extra", "g.extra", Some("monthly"), Subscription("P1M")),
    google("g_basic_week", "g.basic", Some("weekly"), Unmapped),
    google("g_week", "g.strict", Some("weekly"), Subscription("P1W")),
    google("g_ticket", "g.ticket", Some("month"), Subscription("P1M")),
    google(
        "g_course",
        "g.course",
        Some("half-year"),
        Subscription("P1M"),
    ),
    google("g_forever", "g.forever", None, Lasting),
    google("g_coins", "g.coins", None, Counted),
];

impl Ware {
    /// The entitlement that this alone grants.
    pub(in crate::cli::prove) fn own(&self) -> Option<String> {
        let grants = matches!(self.sold_as, Subscription(_) | Lasting);
        grants.then(|| format!("has_{}", self.plan))
    }
}

/// The ware that a store's truth is about.
pub(in crate::cli::prove) fn ware(
    store: Store,
    product_id: &str,
    base_plan_id: Option<&str>,
) -> Option<&'static Ware> {
    WARES.iter().find(|ware| {
        ware.store == store
            && ware.product_id == product_id
            && ware
                .base_plan_id
                .is_none_or(|plan| Some(plan) == base_plan_id)
    })
}

/// The products of one store that can be bought by themselves.
pub(super) fn wares_of(store: Store) -> Vec<&'static Ware> {
    WARES.iter().filter(|ware| ware.store == store).collect()
}

/// The catalog, as its author would write it.
pub(super) fn catalog(accepts_sandbox: bool) -> anyhow::Result<Catalog> {
    let rule = match accepts_sandbox {
        true => "everyone",
        false => "nobody",
    };
    let text = format!("sandbox_access = \"{rule}\"\n{}", catalog_text());
    Ok(apply_catalog::parse(&text, CatalogVersion(1))?)
}

/// The catalog's file.
pub(in crate::cli::prove) fn catalog_text() -> String {
    let mut text = format!(
        "[[apps]]\nid = \"ios\"\nbundle_id = \"{BUNDLE}\"\napp_apple_id = {APP_APPLE_ID}\n\
         [[apps]]\nid = \"android\"\npackage_name = \"{PACKAGE}\"\n\
         [entitlements.{COMMON}]\n[credits.coins]\n"
    );
    for ware in WARES {
        let own = ware.own();
        let grants = own
            .as_ref()
            .map(|own| format!("grants = [\"{COMMON}\", \"{own}\"]\n"));
        let grants = grants.unwrap_or_default();
        let (kind, terms) = match ware.sold_as {
            Subscription(period) => ("subscription", format!("period = \"{period}\"\n{grants}")),
            Lasting => ("non_consumable", grants),
            Counted => ("consumable", format!("credits = {{ coins = {COINS} }}\n")),
            Unmapped => continue,
        };
        let id = ware.product_id;
        let reference = match (ware.store, ware.base_plan_id) {
            (Store::AppStore, _) => format!("app_store = {{ product_id = \"{id}\" }}"),
            (Store::GooglePlay, None) => format!("google_play = {{ product_id = \"{id}\" }}"),
            (Store::GooglePlay, Some(plan)) => {
                format!("google_play = {{ product_id = \"{id}\", base_plan_id = \"{plan}\" }}")
            }
        };
        let plan = ware.plan;
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "[products.{plan}]\nkind = \"{kind}\"\n{terms}{reference}\n"
        );
        if let Some(own) = own {
            let _ = writeln!(text, "[entitlements.{own}]");
        }
    }
    text
}

/// The stores' side of the same shelf.
pub(in crate::cli::prove) fn setup(environment: Environment) -> StoreSetup {
    StoreSetup {
        bundle_id: BUNDLE.to_owned(),
        app_apple_id: APP_APPLE_ID,
        package_name: PACKAGE.to_owned(),
        environment,
        app_store: app_store(),
        google_play: google_play(),
        timing: Default::default(),
        deliveries: Default::default(),
        superwall: Default::default(),
    }
}

fn app_store() -> Vec<AppStoreProduct> {
    let subscription = |id: &str, period, group: &str, level: u32, grace: u16, price| {
        let mut product = AppStoreProduct::subscription(id, period, group);
        if let AppStoreKind::AutoRenewable {
            rank, grace_days, ..
        } = &mut product.kind
        {
            (*rank, *grace_days) = (level, grace);
        }
        product.price_milliunits = price;
        product
    };
    let month = Period::months(1);
    let mut year = subscription(
        "a.premium.yearly",
        Period::years(1),
        "premium",
        1,
        16,
        59_990,
    );
    year.monthly_commitment_milliunits = Some(5_990);
    let mut basic = subscription("a.basic.monthly", month, "premium", 2, 16, 4_990);
    basic.win_back_offers = vec!["come-back".to_owned()];
    vec![
        basic,
        subscription("a.premium.monthly", month, "premium", 1, 0, 9_990),
        year,
        subscription("a.news.weekly", Period::weeks(1), "news", 1, 3, 1_990),
        AppStoreProduct::non_consumable("a.forever"),
        AppStoreProduct::consumable("a.coins"),
        AppStoreProduct::non_renewing("a.season"),
    ]
}

fn google_play() -> Vec<GooglePlayProduct> {
    let month = Period::months(1);
    let graceful = |product: &str, price_micros| {
        let mut sold = GooglePlayProduct::subscription(product, "monthly", month);
        sold.price_micros = price_micros;
        if let GooglePlayKind::AutoRenewable { grace_days, .. } = &mut sold.kind {
            *grace_days = 7;
        }
        sold
    };
    let mut year = GooglePlayProduct::subscription("g.basic", "yearly", Period::years(1));
    year.price_micros = 99_990_000;
    vec![
        graceful("g.basic", 9_990_000),
        year,
        GooglePlayProduct::subscription("g.basic", "weekly", Period::weeks(1)),
        graceful("g.pro", 19_990_000),
        graceful("g.extra", 4_990_000),
        GooglePlayProduct::subscription("g.strict", "weekly", Period::weeks(1)),
        GooglePlayProduct::prepaid("g.ticket", "month", month),
        GooglePlayProduct::installments("g.course", "half-year", month, 3),
        GooglePlayProduct::non_consumable("g.forever"),
        GooglePlayProduct::consumable("g.coins"),
    ]
}
