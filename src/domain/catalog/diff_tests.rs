//! Every difference in a sentence, and which of them can take something from somebody.

use super::super::tests::EXAMPLE;
use super::*;

fn changes(change: impl Fn(&str) -> String) -> Vec<(char, bool, String)> {
    let parse = |text: &str| -> CatalogFile { toml::from_str(text).expect("parses") };
    let (old, new) = (parse(EXAMPLE), parse(&change(EXAMPLE)));
    let of = |old: &CatalogFile, new: &CatalogFile| -> Vec<(char, bool, String)> {
        diff(old, new)
            .into_iter()
            .map(|change| (change.kind.mark(), change.takes, change.sentence))
            .collect()
    };
    assert_eq!(
        of(&old, &new).is_empty(),
        of(&new, &old).is_empty(),
        "there is a way back"
    );
    of(&old, &new)
}

#[test]
fn the_same_file_differs_in_nothing() {
    assert!(changes(str::to_owned).is_empty());
    assert!(changes(|text| format!("{text}\n# A word.")).is_empty());
}

#[test]
fn every_change_is_a_sentence_that_says_whether_it_takes() {
    type Case = (Box<dyn Fn(&str) -> String>, char, bool, &'static str);
    type Edit = Box<dyn Fn(&str) -> String>;
    let add = |more: &'static str| -> Edit { Box::new(move |text| format!("{text}\n{more}")) };
    let first = |more: &'static str| -> Edit { Box::new(move |text| format!("{more}\n{text}")) };
    let swap = |from: &'static str, to: &'static str| -> Edit {
        Box::new(move |text| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        })
    };
    let cases: Vec<Case> = vec![
        (
            add("[entitlements.fresh]"),
            '+',
            false,
            "entitlements.fresh",
        ),
        (
            swap(
                "[entitlements.export]",
                "[entitlements.export]\nlease = { device_minutes = 60 }",
            ),
            '~',
            false,
            "entitlements.export.lease.device_minutes: 4320 is now 60",
        ),
        (add("[credits.coins]"), '+', false, "credits.coins"),
        (
            swap("[\"pro_access\", \"export\"]", "[\"pro_access\"]"),
            '-',
            true,
            "products.pro_yearly no longer grants export",
        ),
        (
            swap(
                "grants = [\"pro_access\"]",
                "grants = [\"pro_access\", \"export\"]",
            ),
            '+',
            false,
            "products.pro_monthly grants export",
        ),
        (
            swap("com.example.premium.monthly", "com.example.other"),
            '-',
            true,
            "products.pro_monthly is no longer sold as App Store com.example.premium.monthly",
        ),
        (
            swap("period = \"P1M\"", "period = \"P2M\""),
            '~',
            false,
            "products.pro_monthly.period: Some(\"P1M\") is now Some(\"P2M\")",
        ),
        (
            swap("non_consumable", "non_renewing"),
            '~',
            true,
            "products.lifetime.kind: NonConsumable is now NonRenewing",
        ),
        (
            first("sandbox_access = \"nobody\""),
            '~',
            true,
            "sandbox_access: Everyone is now Nobody",
        ),
        (
            first("testers = [\"dev:alice\"]"),
            '+',
            false,
            "tester dev:alice",
        ),
        (
            add("[ownership]\nproduction = \"transfer\""),
            '~',
            false,
            "ownership.production: Keep is now Transfer",
        ),
        (
            add(
                "[[offerings]]\nid = \"main\"\npackages = [{ id = \"y\", product = \"pro_yearly\" }]",
            ),
            '+',
            false,
            "offerings.main: shows pro_yearly",
        ),
        (
            swap("app_apple_id = 1234567890", "app_apple_id = 5"),
            '~',
            true,
            "apps.example-ios.app_apple_id: Some(1234567890) is now Some(5)",
        ),
        (
            add(
                "[products.new]\nkind = \"consumable\"\ncredits = { coins = 3 }\ngoogle_play = { product_id = \"n\" }",
            ),
            '+',
            false,
            "products.new: consumable, brings 3 coins, Google Play n",
        ),
    ];
    for (change, mark, takes, sentence) in cases {
        let said = changes(change);
        assert!(
            said.contains(&(mark, takes, sentence.to_owned())),
            "{sentence}: {said:?}"
        );
    }
}

#[test]
fn what_only_adds_takes_from_nobody() {
    let old: CatalogFile = toml::from_str(EXAMPLE).expect("parses");
    let more = format!("{EXAMPLE}\n[entitlements.fresh]\n[credits.coins]");
    let new = toml::from_str(&more).expect("parses");
    assert!(!may_take(&old, &new));
    assert!(may_take(&new, &old), "the way back takes");
}
