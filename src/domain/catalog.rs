//! The catalog: which apps exist, what the stores sell, what each product grants. The allow-list.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::chain::{AppId, StoreProduct};
use super::ids::CatalogVersion;
use super::offer::{OfferKind, OfferSpec};
use super::planted::{self, Bug};
use super::provider::{Environment, Provider};
use super::time::Period;

/// The most that one unit may bring: a sum of purchases never overflows.
const CREDITS_MAX: i64 = 1_000_000_000;

/// The file as written.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CatalogFile {
    #[serde(default)]
    pub(crate) apps: Vec<App>,
    #[serde(default)]
    pub(crate) entitlements: BTreeMap<String, EntitlementSpec>,
    #[serde(default)]
    pub(crate) products: BTreeMap<String, Product>,
    /// What consumables are counted in: `[credits.coins]`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) credits: BTreeMap<String, CreditSpec>,
    /// What the app may offer with a signature of ours.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) offers: BTreeMap<String, OfferSpec>,
    #[serde(default)]
    pub(crate) sandbox_access: SandboxAccess,
    /// Accounts that sandbox purchases serve while `sandbox_access = "testers"`: `issuer:subject`
    /// or our id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) testers: Vec<String>,
    #[serde(default)]
    pub(crate) ownership: OwnershipRules,
}

/// One app of the family; all share accounts and catalog.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct App {
    pub(crate) id: AppId,
    /// App Store bundle id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bundle_id: Option<String>,
    /// App Store numeric id; required to accept production purchases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) app_apple_id: Option<i64>,
    /// Google Play package name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) package_name: Option<String>,
}

/// What an account can use. A table of its own, so that quotas and credits can join it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EntitlementSpec {}

/// Something that is counted: coins, gems, exports.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreditSpec {}

/// Whose a purchase becomes that another account owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OwnershipRules {
    pub(crate) production: TransferPolicy,
    pub(crate) sandbox: TransferPolicy,
    /// Whether a purchase whose store record names an account token of ours is bound without the
    /// app's call: it may have died before binding.
    pub(crate) auto_bind: bool,
}

impl Default for OwnershipRules {
    fn default() -> Self {
        Self {
            production: TransferPolicy::Keep,
            sandbox: TransferPolicy::Keep,
            auto_bind: true,
        }
    }
}

/// What a claim by another account, with proof of possession, does to an owned purchase. The
/// strictest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TransferPolicy {
    /// Nothing: it is refused.
    #[default]
    Keep,
    /// It moves if it grants its owner nothing any more.
    TransferIfInactive,
    /// It moves.
    Transfer,
}

/// Whether family members use what the purchaser shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FamilySharing {
    #[default]
    Grant,
    Refuse,
}

/// Who hands out what a consumable buys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeliveredBy {
    /// The product's credits are booked here.
    #[default]
    Credits,
    /// A backend hands out the goods and says so with `ClaimDelivery`.
    Backend,
}

/// A plan: what the stores sell under their own ids, and what it grants.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Product {
    pub(crate) kind: ProductKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) period: Option<Period>,
    #[serde(default)]
    pub(crate) grants: Vec<String>,
    /// What one unit of a consumable is worth.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) credits: BTreeMap<String, i64>,
    #[serde(default)]
    pub(crate) delivered_by: DeliveredBy,
    /// Instead of the catalog's rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ownership: Option<TransferPolicy>,
    #[serde(default)]
    pub(crate) family_sharing: FamilySharing,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) app_store: Option<AppStoreRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) google_play: Option<GooglePlayRef>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProductKind {
    /// Renews by itself; Google's prepaid plans, too.
    Subscription,
    /// Bought once, lasts for its period; bought again, lasts that much longer.
    NonRenewing,
    /// Bought once, lasts.
    NonConsumable,
    /// Bought by the piece, used up.
    Consumable,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppStoreRef {
    pub(crate) product_id: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GooglePlayRef {
    pub(crate) product_id: String,
    /// Required for subscriptions: base plans of one product may grant different things.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base_plan_id: Option<String>,
}

/// Who may use what sandbox purchases (TestFlight, App Review, licence testers) unlock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SandboxAccess {
    /// App Review buys in sandbox against the production build.
    #[default]
    Everyone,
    /// The accounts in `testers`.
    Testers,
    Nobody,
}

/// A checked catalog with the look-ups that settle and the readers need.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    version: CatalogVersion,
    file: CatalogFile,
    by_store_product: HashMap<(Provider, StoreProduct), String>,
}

impl Catalog {
    /// Checks the file and builds the look-ups; every problem is a sentence for its author.
    pub(crate) fn build(file: CatalogFile, version: CatalogVersion) -> Result<Self, Vec<String>> {
        let mut problems = check_apps(&file);
        problems.extend(check_offers(&file));
        let mut by_store_product = HashMap::new();
        for (id, product) in &file.products {
            problems.extend(check_product(id, product, &file));
            for (provider, store_product) in product.store_products() {
                if let Some(other) =
                    by_store_product.insert((provider, store_product.clone()), id.clone())
                {
                    problems.push(format!(
                        "products.{id} and products.{other} both name {provider} product {store_product}"
                    ));
                }
            }
        }
        if problems.is_empty() {
            Ok(Self {
                version,
                file,
                by_store_product,
            })
        } else {
            Err(problems)
        }
    }

    pub(crate) fn version(&self) -> CatalogVersion {
        self.version
    }

    /// Whether purchases of that environment open anything to an account; `tester` says whether the
    /// account is among `testers`.
    pub(crate) fn serves(&self, environment: Environment, tester: bool) -> bool {
        match (environment, self.file.sandbox_access) {
            (Environment::Production, _) | (Environment::Sandbox, SandboxAccess::Everyone) => true,
            (Environment::Sandbox, SandboxAccess::Testers) => tester,
            (Environment::Sandbox, SandboxAccess::Nobody) => planted::is(Bug::IgnoreEnvironment),
        }
    }

    pub(crate) fn sandbox_access(&self) -> SandboxAccess {
        self.file.sandbox_access
    }

    /// The accounts that sandbox purchases serve, while they serve some and not others.
    pub(crate) fn testers(&self) -> Option<&[String]> {
        match self.file.sandbox_access {
            SandboxAccess::Testers => Some(&self.file.testers),
            SandboxAccess::Everyone | SandboxAccess::Nobody => None,
        }
    }

    /// By which rules purchases change hands.
    pub(crate) fn ownership(&self) -> OwnershipRules {
        self.file.ownership
    }

    pub(crate) fn apps(&self) -> &[App] {
        &self.file.apps
    }

    pub(crate) fn entitlements(&self) -> impl Iterator<Item = &str> {
        self.file.entitlements.keys().map(String::as_str)
    }

    /// What consumables are counted in.
    pub(crate) fn credits(&self) -> impl Iterator<Item = &str> {
        self.file.credits.keys().map(String::as_str)
    }

    pub(crate) fn products(&self) -> impl Iterator<Item = (&str, &Product)> {
        self.file
            .products
            .iter()
            .map(|(id, product)| (id.as_str(), product))
    }

    /// An offer, and the product that it is for.
    pub(crate) fn offer(&self, id: &str) -> Option<(&OfferSpec, &Product)> {
        let offer = self.file.offers.get(id)?;
        Some((offer, self.file.products.get(&offer.product)?))
    }

    pub(crate) fn app_by_bundle(&self, bundle_id: &str) -> Option<&App> {
        self.file
            .apps
            .iter()
            .find(|app| app.bundle_id.as_deref() == Some(bundle_id))
    }

    pub(crate) fn app_by_package(&self, package_name: &str) -> Option<&App> {
        self.file
            .apps
            .iter()
            .find(|app| app.package_name.as_deref() == Some(package_name))
    }

    pub(crate) fn app(&self, id: &AppId) -> Option<&App> {
        self.file.apps.iter().find(|app| app.id == *id)
    }

    /// The plan that a store product stands for. `None`: unmapped, grants nothing.
    pub(crate) fn plan(
        &self,
        provider: Provider,
        product: &StoreProduct,
    ) -> Option<(&str, &Product)> {
        let mapped = self.by_store_product.get(&(provider, product.clone()));
        let id = mapped.or_else(|| self.mapped_by_mistake(provider, product))?;
        self.file
            .products
            .get_key_value(id)
            .map(|(id, plan)| (id.as_str(), plan))
    }

    /// Another base plan of the product, while that bug is planted.
    fn mapped_by_mistake(&self, provider: Provider, product: &StoreProduct) -> Option<&String> {
        if !planted::is(Bug::AnyBasePlanGrants) {
            return None;
        }
        let mut all = self.by_store_product.iter();
        let found = all.find(|((sold_by, sold), _)| {
            *sold_by == provider && sold.product_id == product.product_id
        });
        found.map(|(_, id)| id)
    }

    /// Whether purchases of that environment may grant anything at all.
    pub(crate) fn accepts(&self, environment: Environment) -> bool {
        match (environment, self.file.sandbox_access) {
            (Environment::Production, _)
            | (Environment::Sandbox, SandboxAccess::Everyone | SandboxAccess::Testers) => true,
            (Environment::Sandbox, SandboxAccess::Nobody) => planted::is(Bug::IgnoreEnvironment),
        }
    }
}

impl Product {
    /// The store-side names of this plan.
    pub(crate) fn store_products(&self) -> impl Iterator<Item = (Provider, StoreProduct)> + '_ {
        let apple = self.app_store.as_ref().map(|apple| {
            (
                Provider::AppStore,
                StoreProduct::new(apple.product_id.clone()),
            )
        });
        let google = self.google_play.as_ref().map(|google| {
            let product = StoreProduct {
                product_id: google.product_id.clone(),
                base_plan_id: google.base_plan_id.clone(),
            };
            (Provider::GooglePlay, product)
        });
        apple.into_iter().chain(google)
    }
}

fn check_apps(file: &CatalogFile) -> Vec<String> {
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
fn check_offers(file: &CatalogFile) -> Vec<String> {
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

fn check_product(id: &str, product: &Product, file: &CatalogFile) -> Vec<String> {
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const EXAMPLE: &str = r#"
        [[apps]]
        id = "example-ios"
        bundle_id = "com.example.app"
        app_apple_id = 1234567890
        [[apps]]
        id = "example-android"
        package_name = "com.example.app"
        [entitlements.pro_access]
        [entitlements.export]
        [products.pro_yearly]
        kind = "subscription"
        period = "P1Y"
        grants = ["pro_access", "export"]
        app_store = { product_id = "com.example.premium.yearly" }
        google_play = { product_id = "premium", base_plan_id = "premium-yearly" }
        [products.pro_monthly]
        kind = "subscription"
        period = "P1M"
        grants = ["pro_access"]
        app_store = { product_id = "com.example.premium.monthly" }
        [products.lifetime]
        kind = "non_consumable"
        grants = ["export"]
        app_store = { product_id = "com.example.lifetime" }
        google_play = { product_id = "lifetime" }
    "#;

    pub(crate) fn example() -> Catalog {
        let file = toml::from_str(EXAMPLE).expect("the example parses");
        Catalog::build(file, CatalogVersion(1)).expect("the example is sound")
    }

    #[test]
    fn an_unknown_product_or_base_plan_has_no_plan() {
        let catalog = example();
        let yearly = StoreProduct {
            product_id: "premium".into(),
            base_plan_id: Some("premium-yearly".into()),
        };
        assert_eq!(
            catalog.plan(Provider::GooglePlay, &yearly).map(|p| p.0),
            Some("pro_yearly")
        );
        let other_plan = StoreProduct {
            base_plan_id: Some("premium-daily".into()),
            ..yearly
        };
        assert!(catalog.plan(Provider::GooglePlay, &other_plan).is_none());
        let apple_id_at_google = StoreProduct::new("com.example.lifetime");
        assert!(
            catalog
                .plan(Provider::GooglePlay, &apple_id_at_google)
                .is_none()
        );
    }

    #[test]
    fn every_contradiction_is_named() {
        let cases = [
            ("", "no [[apps]]"),
            ("[[apps]]\nid = \"a\"", "give a bundle_id or a package_name"),
            (
                "[[apps]]\nid = \"a\"\nbundle_id = \"x\"\n[[apps]]\nid = \"a\"\nbundle_id = \"y\"",
                "used twice",
            ),
            (
                "[[apps]]\nid = \"a\"\nbundle_id = \"x\"\n[products.p]\nkind = \"subscription\"\nperiod = \"P1M\"\ngrants = [\"gone\"]\napp_store = { product_id = \"p\" }",
                "not under [entitlements]",
            ),
            (
                "[[apps]]\nid = \"a\"\nbundle_id = \"x\"\n[entitlements.e]\n[products.p]\nkind = \"subscription\"\ngrants = [\"e\"]\napp_store = { product_id = \"p\" }",
                "needs a period",
            ),
            (
                "[[apps]]\nid = \"a\"\nbundle_id = \"x\"\n[entitlements.e]\n[products.p]\nkind = \"non_renewing\"\ngrants = [\"e\"]\napp_store = { product_id = \"p\" }",
                "needs a period",
            ),
            (
                "[[apps]]\nid = \"a\"\nbundle_id = \"x\"\n[entitlements.e]\n[products.p]\nkind = \"non_consumable\"\nperiod = \"P1M\"\ngrants = [\"e\"]\napp_store = { product_id = \"p\" }",
                "a period is for subscriptions",
            ),
            (
                "[[apps]]\nid = \"a\"\nbundle_id = \"x\"\n[entitlements.e]\n[products.p]\nkind = \"consumable\"\ngrants = [\"e\"]\napp_store = { product_id = \"p\" }",
                "credits instead of grants",
            ),
            (
                "[[apps]]\nid = \"a\"\nbundle_id = \"x\"\n[products.p]\nkind = \"consumable\"\napp_store = { product_id = \"p\" }",
                "brings nothing",
            ),
            (
                "[[apps]]\nid = \"a\"\nbundle_id = \"x\"\n[products.p]\nkind = \"consumable\"\ncredits = { gone = 0 }\ndelivered_by = \"backend\"\napp_store = { product_id = \"p\" }",
                "not both",
            ),
            (
                "[[apps]]\nid = \"a\"\nbundle_id = \"x\"\n[credits.c]\n[products.p]\nkind = \"consumable\"\ncredits = { c = 0 }\napp_store = { product_id = \"p\" }",
                "1 to 1000000000 a unit",
            ),
            (
                "[[apps]]\nid = \"a\"\nbundle_id = \"x\"\n[products.p]\nkind = \"consumable\"\ncredits = { gone = 1 }\napp_store = { product_id = \"p\" }",
                "not under [credits]",
            ),
            (
                "[[apps]]\nid = \"a\"\nbundle_id = \"x\"\n[offers.o]\nproduct = \"gone\"\nkind = \"promotional\"\neligible = \"any\"",
                "no subscription under [products]",
            ),
        ];
        for (text, expected) in cases {
            let file = toml::from_str(text).expect("parses");
            let problems = Catalog::build(file, CatalogVersion(1)).expect_err(expected);
            assert!(
                problems.iter().any(|p| p.contains(expected)),
                "{problems:?}"
            );
        }
    }
}
