//! Which purchases are to be looked at again because a catalog knows something new about them.
//!
//! Access follows from an account's derivation alone. What settle does beyond it does not: a store
//! is told that a purchase is acknowledged or used up, credits are booked, goods are handed out.
//! Purchases that an older catalog could do nothing with get that from one more look.

use super::{Catalog, Product, SandboxAccess};
use crate::domain::chain::StoreProduct;
use crate::domain::provider::{Environment, Provider};

/// Whether any purchase may get something from one more look.
pub(crate) fn teaches(old: &Catalog, new: &Catalog) -> bool {
    let sold = new
        .products()
        .flat_map(|(_, product)| product.store_products());
    sold.into_iter()
        .any(|(provider, product)| is_new(old, new, provider, &product))
        || accepts_more(old, new, Environment::Sandbox)
}

/// Whether a purchase of these products is to be looked at again.
pub(crate) fn concerns(
    old: &Catalog,
    new: &Catalog,
    provider: Provider,
    environment: Environment,
    products: &[StoreProduct],
) -> bool {
    let mut products = products.iter();
    new.accepts(environment)
        && (products.any(|product| is_new(old, new, provider, product))
            || accepts_more(old, new, environment))
}

fn is_new(old: &Catalog, new: &Catalog, provider: Provider, product: &StoreProduct) -> bool {
    let handed_out = |product: &Product| (product.kind, product.delivered_by);
    let of = |catalog: &Catalog| {
        let plan = catalog.plan(provider, product);
        plan.map(|(_, product)| handed_out(product))
    };
    of(new).is_some_and(|is| of(old) != Some(is))
}

/// Sandbox purchases serve somebody whom they did not serve.
fn accepts_more(old: &Catalog, new: &Catalog, environment: Environment) -> bool {
    use SandboxAccess::{Everyone, Nobody, Testers};
    let added = || {
        let before = old.testers().unwrap_or_default();
        let mut after = new.testers().unwrap_or_default().iter();
        after.any(|name| !before.contains(name))
    };
    environment == Environment::Sandbox
        && match (old.sandbox_access(), new.sandbox_access()) {
            (Everyone, _) | (_, Nobody) => false,
            (Nobody | Testers, Everyone) => true,
            (Nobody | Testers, Testers) => added(),
        }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{EXAMPLE, example};
    use super::*;
    use crate::domain::ids::CatalogVersion;

    fn catalog(text: &str) -> Catalog {
        Catalog::build(toml::from_str(text).expect("parses"), CatalogVersion(2)).expect("sound")
    }

    #[test]
    fn purchases_of_what_the_catalog_learns_are_looked_at_again_and_no_others() {
        let small = EXAMPLE
            .split_once("[products.lifetime]")
            .expect("lifetime")
            .0;
        let (small, full) = (catalog(small), example());
        assert!(teaches(&small, &full));
        assert!(!teaches(&full, &small) && !teaches(&full, &full));
        let lifetime = [StoreProduct::new("com.example.lifetime")];
        let monthly = [StoreProduct::new("com.example.premium.monthly")];
        let look = |products: &[StoreProduct]| {
            let production = Environment::Production;
            concerns(&small, &full, Provider::AppStore, production, products)
        };
        assert!(look(&lifetime));
        assert!(!look(&monthly));
    }

    #[test]
    fn sandbox_purchases_are_looked_at_again_once_they_serve_somebody() {
        let closed = catalog(&format!("sandbox_access = \"nobody\"\n{EXAMPLE}"));
        let open = example();
        let monthly = [StoreProduct::new("com.example.premium.monthly")];
        let look =
            |old, new, environment| concerns(old, new, Provider::AppStore, environment, &monthly);
        assert!(teaches(&closed, &open) && !teaches(&open, &closed));
        assert!(look(&closed, &open, Environment::Sandbox));
        assert!(!look(&closed, &open, Environment::Production));
        assert!(!look(&open, &closed, Environment::Sandbox));
        let testers = |names: &str| {
            let head = format!("sandbox_access = \"testers\"\ntesters = [{names}]\n");
            catalog(&format!("{head}{EXAMPLE}"))
        };
        let (one, two) = (testers("\"dev:a\""), testers("\"dev:b\", \"dev:a\""));
        assert!(teaches(&one, &two) && teaches(&two, &open) && teaches(&closed, &one));
        // Whom they no longer serve gets nothing from another look.
        assert!(!teaches(&two, &one) && !teaches(&open, &two));
    }
}
