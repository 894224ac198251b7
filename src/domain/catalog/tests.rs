//! Look-ups that fail closed, and every sentence for the author of a catalog.

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
        (
            "[[apps]]\nid = \"a\"\nbundle_id = \"x\"\n[[offerings]]\nid = \"o\"",
            "offerings.o: it shows nothing",
        ),
        (
            "[[apps]]\nid = \"a\"\nbundle_id = \"x\"\n[[offerings]]\nid = \"o\"\npackages = [{ id = \"y\", product = \"gone\" }]",
            "not under [products]",
        ),
        (
            "[[apps]]\nid = \"a\"\nbundle_id = \"x\"\n[[offerings]]\nid = \"o\"\nmetadata = { since = 2027-01-01 }",
            "write it as a string",
        ),
        (
            "[[apps]]\nid = \"a\"\nbundle_id = \"x\"\n[entitlements.e]\nlease = { device_minutes = 43201 }",
            "entitlements.e.lease.device_minutes: 43201 is too long",
        ),
        (
            "[[apps]]\nid = \"a\"\nbundle_id = \"x\"\n[entitlements.e]\nlease = { service_minutes = 1441 }",
            "0 to 1440",
        ),
    ];
    for (text, expected) in cases {
        let file = toml::from_str(text).expect("parses");
        let problems = Catalog::build(file, CatalogVersion(1)).expect_err(expected);
        assert!(
            problems.iter().any(|p| p.to_string().contains(expected)),
            "{problems:?}"
        );
    }
}

#[test]
fn paywalls_carry_so_much_and_no_more() {
    let offerings = |count: usize| -> CatalogFile {
        let of = |n| {
            let text = "x".repeat(16_000);
            format!(
                "[[offerings]]\nid = \"o{n}\"\nmetadata = {{ text = \"{text}\" }}\npackages = [{{ id = \"p\", product = \"lifetime\" }}]\n"
            )
        };
        let all: String = (0..count).map(of).collect();
        toml::from_str(&format!("{EXAMPLE}\n{all}")).expect("parses")
    };
    assert!(check_new(&offerings(16)).is_empty());
    let problems = check_new(&offerings(17));
    assert!(
        problems[0].to_string().contains("at most 262144"),
        "{problems:?}"
    );
    // What became a version under other bounds is read.
    assert!(Catalog::build(offerings(17), CatalogVersion(1)).is_ok());
}
