//! Every shipped scenario, against a server and a database of its own: what each account has is
//! what the scenario and the stores say.

use std::path::{Path, PathBuf};

use entitled::cli::sandbox::run::{differences, play_fresh};
use entitled::sandbox::scenario::Scenario;

use crate::support::database;

macro_rules! shipped {
    ($($name:ident => $file:literal,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                play($file).await;
            }
        )+

        const SHIPPED: &[&str] = &[$($file,)+];
    };
}

shipped! {
    add_ons => "add-ons",
    cash_payment => "cash-payment",
    charge_back => "charge-back",
    consumable_coins => "consumable-coins",
    deferred_plan_change => "deferred-plan-change",
    extended_for_an_outage => "extended-for-an-outage",
    family_member_removed => "family-member-removed",
    family_member_restores => "family-member-restores",
    grace_and_recovery => "grace-and-recovery",
    happy_year => "happy-year",
    hold_and_pause => "hold-and-pause",
    installments => "installments",
    lost_messages => "lost-messages",
    non_renewing_season => "non-renewing-season",
    offers_and_win_back => "offers-and-win-back",
    one_account_two_stores => "one-account-two-stores",
    out_of_app_resubscribe => "out-of-app-resubscribe",
    passed_around => "passed-around",
    plan_changes => "plan-changes",
    prepaid_top_up => "prepaid-top-up",
    price_increase_refused => "price-increase-refused",
    product_withdrawn => "product-withdrawn",
    refund_reversed => "refund-reversed",
    reinstall => "reinstall",
    sandbox_without_identity => "sandbox-without-identity",
    second_device => "second-device",
    shared_device_restore => "shared-device-restore",
    shared_phone => "shared-phone",
    sign_up_after_purchase => "sign-up-after-purchase",
    sign_up_and_link => "sign-up-and-link",
    store_outage => "store-outage",
    storm => "storm",
    superwall_hints => "superwall-hints",
    testers => "testers",
    trial_converts => "trial-converts",
    trial_does_not_convert => "trial-does-not-convert",
    upgrade_then_refund => "upgrade-then-refund",
    year_paid_monthly => "year-paid-monthly",
}

#[test]
fn every_shipped_scenario_is_played() {
    let entries = std::fs::read_dir(directory()).expect("scenarios");
    let mut files: Vec<String> = entries
        .map(|entry| {
            let path = entry.expect("a file").path();
            path.file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    files.sort();
    assert_eq!(files, SHIPPED);
}

/// The server lacks nothing that a shipped scenario shows.
#[test]
fn no_shipped_scenario_expects_a_gap() {
    for name in SHIPPED {
        let file = directory().join(format!("{name}.toml"));
        let text = std::fs::read_to_string(file).expect("readable");
        let scenario = read(name, &text);
        assert!(scenario.expected_gap.is_empty(), "{name}");
        assert!(!text.contains("expected_gap"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_fails_the_run() {
    let text = std::fs::read_to_string(directory().join("happy-year.toml")).expect("readable");
    // What the story does not tell is that Ben has Ann's month as well.
    let wrong = text.replace(
        "{ advance = \"6 months\" },\n  { expect = { ann = [\"pro\"]",
        "{ advance = \"6 months\" },\n  { expect = { ann = [\"pro\", \"export\"]",
    );
    assert_ne!(text, wrong);
    let scenario = read("wrong.toml", &wrong);
    let played = play_fresh(&scenario, &database().await)
        .await
        .expect("played");
    let failures: Vec<_> = played.failures().collect();
    let who: Vec<_> = failures
        .iter()
        .map(|failure| failure.account.as_str())
        .collect();
    let everywhere = ["ann", "ann, device 1", "ann, device 2"];
    assert_eq!(who, everywhere, "{}", differences(&played));
    assert!(
        failures
            .iter()
            .all(|failure| failure.entitlement == "export")
    );
    assert!(differences(&played).contains("the stores differ from the scenario"));
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn read(name: &str, text: &str) -> Scenario {
    Scenario::parse(name, text).unwrap_or_else(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"))
    })
}

async fn play(name: &str) {
    let file = directory().join(format!("{name}.toml"));
    let text = std::fs::read_to_string(&file).expect("readable");
    let scenario = read(&format!("scenarios/{name}.toml"), &text);
    let played = play_fresh(&scenario, &database().await).await;
    let played = played.unwrap_or_else(|error| panic!("{error:#}"));
    assert!(
        played.failures().next().is_none(),
        "\n{}",
        differences(&played)
    );
}
