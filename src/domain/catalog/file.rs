//! The catalog file as its author writes it: apps, entitlements, products, credits, offers, rules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::chain::{AppId, StoreProduct};
use crate::domain::lease::LeaseSpec;
use crate::domain::offer::OfferSpec;
use crate::domain::provider::Provider;
use crate::domain::time::Period;

/// The file as written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
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
    /// What paywalls show, in this order; the first is the one to show unless the app knows better.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) offerings: Vec<Offering>,
    /// What was agreed when this change was reviewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) apply: Option<ApplyNote>,
}

/// `[[offerings]]`: products that a paywall shows together.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Offering {
    pub(crate) id: String,
    /// For whom it is made up, never shown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
    /// Whatever the app's paywall wants to know: texts, colours, which layout.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub(crate) metadata: Metadata,
    /// In the order in which they are shown.
    #[serde(default)]
    pub(crate) packages: Vec<Package>,
}

/// One choice of an offering.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Package {
    /// What the app calls it, the same over all offerings: `yearly`.
    pub(crate) id: String,
    /// The catalog's id of the product.
    pub(crate) product: String,
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub(crate) metadata: Metadata,
}

/// Free form; handed to apps as it is.
pub(crate) type Metadata = serde_json::Map<String, serde_json::Value>;

/// `[apply]`: consent that travels with the file, so that whoever reviews the file gives it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApplyNote {
    /// The active version that the change was reviewed against: over another one the consent does
    /// not hold.
    pub(crate) replaces: i64,
    /// So many paying accounts may lose something.
    #[serde(default)]
    pub(crate) confirm_loss: u64,
    /// Why; kept with the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// One app of the family; all share accounts and catalog.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
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

/// What an account can use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EntitlementSpec {
    /// How long signed leases on it are good for.
    #[serde(default, skip_serializing_if = "LeaseSpec::is_usual")]
    pub(crate) lease: LeaseSpec,
}

/// Something that is counted: coins, gems, exports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
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

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppStoreRef {
    pub(crate) product_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
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
