//! The catalog: which apps exist, what the stores sell, what each product grants. The allow-list.

mod check;
pub(crate) mod diff;
pub(crate) mod doubt;
pub(crate) mod effect;
mod file;
pub(crate) mod relearn;
pub(crate) mod remark;

use std::collections::HashMap;

pub(crate) use self::check::{TEXT_BYTES_MAX, check_new};
use self::check::{check_apps, check_leases, check_offerings, check_offers, check_product};
pub(crate) use self::file::{
    App, ApplyNote, CatalogFile, DeliveredBy, FamilySharing, Metadata, Offering, OwnershipRules,
    Product, ProductKind, SandboxAccess, TransferPolicy,
};
use self::remark::Remark;
use super::chain::{AppId, StoreProduct};
use super::ids::CatalogVersion;
use super::lease::LeaseSpec;
use super::offer::OfferSpec;
use super::planted::{self, Bug};
use super::provider::{Environment, Provider};

/// A checked catalog with the look-ups that settle and the readers need.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    version: CatalogVersion,
    file: CatalogFile,
    by_store_product: HashMap<(Provider, StoreProduct), String>,
}

impl Catalog {
    /// Checks the file and builds the look-ups; every problem is a sentence for its author.
    pub(crate) fn build(file: CatalogFile, version: CatalogVersion) -> Result<Self, Vec<Remark>> {
        let mut problems = check_apps(&file);
        problems.extend(check_leases(&file));
        problems.extend(check_offers(&file));
        problems.extend(check_offerings(&file));
        let mut by_store_product = HashMap::new();
        for (id, product) in &file.products {
            problems.extend(check_product(id, product, &file));
            for (provider, store_product) in product.store_products() {
                if let Some(other) =
                    by_store_product.insert((provider, store_product.clone()), id.clone())
                {
                    problems.push(Remark::new(
                        &["products", id],
                        format!(
                            "it and products.{other} both name {provider} product {store_product}"
                        ),
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

    /// Before there is any: knows no app, and so nothing grants anything.
    pub(crate) fn none() -> Self {
        Self {
            version: CatalogVersion(0),
            file: CatalogFile::default(),
            by_store_product: HashMap::new(),
        }
    }

    /// The file as written.
    pub(crate) fn file(&self) -> &CatalogFile {
        &self.file
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

    /// How long leases on an entitlement are good for.
    pub(crate) fn lease(&self, entitlement: &str) -> LeaseSpec {
        let spec = self.file.entitlements.get(entitlement);
        spec.map_or_else(LeaseSpec::default, |spec| spec.lease)
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

    /// The product with that id.
    pub(crate) fn product(&self, id: &str) -> Option<&Product> {
        self.file.products.get(id)
    }

    /// What paywalls show, in order.
    pub(crate) fn offerings(&self) -> &[Offering] {
        &self.file.offerings
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

#[cfg(test)]
pub(crate) mod tests;
