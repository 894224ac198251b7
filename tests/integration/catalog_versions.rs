//! A catalog is changed without fear: what it does is counted first, payers lose nothing by mistake,
//! every account comes to it once, and there is a way back.

mod counting;
mod over_api;
pub(crate) mod service;
mod spreading;
mod unreadable;

use std::path::Path;

use entitled::cli::client::Client;
use entitled::sandbox::Endpoint;
use serde_json::Value;

use crate::process::{NOBODY, Process, eventually};
use crate::scene::{EXPORT, MONTHLY, PACKAGE, YEARLY};
use crate::support::{World, is_active};

const EXAMPLE: &str = entitled::cli::stack::EXAMPLE_CATALOG;

/// The example catalog with the yearly plan granting less.
fn without_export() -> String {
    EXAMPLE.replace(
        "grants = [\"pro_access\", \"export\"]",
        "grants = [\"pro_access\"]",
    )
}

/// The example catalog without some products.
fn without(products: &[&str]) -> String {
    let mut catalog: toml::Table = EXAMPLE.parse().expect("TOML");
    let sold = catalog["products"].as_table_mut().expect("products");
    for product in products {
        sold.remove(*product).expect("sold");
    }
    toml::to_string(&catalog).expect("TOML")
}

impl World {
    async fn catalog(&self, arguments: &[&str]) -> Result<String, String> {
        let mut all = vec!["catalog"];
        all.extend(arguments);
        self.try_command(&all).await
    }

    async fn versions(&self) -> Vec<Value> {
        let printed = self.catalog(&["history", "--json"]).await.expect("a list");
        serde_json::from_str(&printed).expect("JSON")
    }

    fn write(&self, name: &str, text: &str) -> String {
        let file = self.catalog_file(name, text);
        file.to_str().expect("a path").to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_counted_refused_confirmed_and_taken_back() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let yearly = world.buy_apple("alice", YEARLY, None).await;
    alice
        .bind_apple(&yearly.signed_transaction)
        .await
        .expect("bound");
    let bob = world.person("bob").await;
    let monthly = world.buy_google("bob", "premium-monthly", None).await;
    bob.bind_google(&monthly.purchase_token)
        .await
        .expect("bound");
    world.person("carol").await;
    let why = ["--reason", "a friend", "--actor", "sue"];
    world
        .command(&[&["grant", "dev:carol", "export"][..], &why].concat())
        .await;
    let mut phone = world.device("alice").await;
    phone.until_active("export").await;

    let less = world.write("less.toml", &without_export());
    let differs = world.catalog(&["diff", &less]).await.expect("compared");
    assert!(
        differs.contains("against version 1:\n  - products.pro_yearly no longer grants export\n"),
        "{differs}"
    );
    let planned = world.catalog(&["apply", &less, "--dry-run"]).await;
    let planned = planned.expect("counted");
    for expected in [
        "3 accounts that ever had something",
        "export: 1 lose it, 1 of these by a purchase",
        "1 of them pay with real money and lose something",
        "With --replaces 1 --confirm-loss 1 and without --dry-run",
    ] {
        assert!(planned.contains(expected), "{expected}: {planned}");
    }
    let refused = world.catalog(&["apply", &less]).await.expect_err("a payer");
    assert!(
        refused.contains("1 paying accounts would lose something; nothing was changed"),
        "{refused}"
    );
    assert_eq!(world.versions().await.len(), 1);
    assert!(is_active(&alice.now().await, "export"));

    let agreed = ["--replaces", "1", "--confirm-loss", "1"];
    let meant = [&["apply", &less, "--wait"][..], &agreed].concat();
    let who = [
        "--actor",
        "ann",
        "--reason",
        "export is a product of its own",
    ];
    let applied = world.catalog(&[&meant[..], &who].concat()).await;
    assert!(applied.expect("applied").contains("version 2 is active"));
    phone.until_inactive("export").await;
    assert!(is_active(&phone.latest, "pro_access"));
    let versions = world.versions().await;
    let second = &versions[0];
    assert_eq!(second["version"], 2);
    assert_eq!(
        (&second["applied_by"], &second["origin"]),
        (&"ann".into(), &"apply".into())
    );
    assert_eq!(second["reason"], "export is a product of its own");
    assert_eq!(
        (&second["behind"], &second["confirmed_loss"]),
        (&0.into(), &1.into())
    );
    assert_eq!(second["effect"]["payers_losing"], 1);
    assert!(second["finished_at"].is_string());
    let because = "select count(*) from subscription_events where source = 'catalog'
        and reason = 'catalog_changed' and catalog_version = 2 and account_id is not null";
    assert_eq!(world.count(because).await, 1, "of whom it changed");
    let again = world.catalog(&["apply", &less]).await.expect("idle");
    assert!(again.contains("which is active: nothing to do"), "{again}");

    // Nobody loses by the way back: it needs no word.
    let back = world.catalog(&["rollback", "1", "--wait"]).await;
    assert!(back.expect("taken back").contains("export: 1 gain it"));
    phone.until_active("export").await;
    let versions = world.versions().await;
    assert_eq!(
        (&versions[0]["version"], &versions[0]["copy_of"]),
        (&3.into(), &1.into())
    );
    assert_eq!(
        world.catalog(&["show"]).await,
        world.catalog(&["show", "1"]).await
    );
    let refused = world
        .catalog(&["rollback", "2"])
        .await
        .expect_err("a payer");
    assert!(
        refused.contains("--replaces 3 --confirm-loss 1"),
        "{refused}"
    );
    let unknown = world.catalog(&["rollback", "9"]).await.expect_err("none");
    assert!(unknown.contains("there is no version 9"), "{unknown}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_applies_at_once_one_is_told() {
    let world = World::start().await;
    let one = world.write("one.toml", &format!("{EXAMPLE}\n[entitlements.one]"));
    let two = world.write("two.toml", &format!("{EXAMPLE}\n[entitlements.two]"));
    let pool = world.tables().await;
    let mut held = pool.begin().await.expect("a transaction");
    sqlx::query("lock table catalog_versions in share mode")
        .execute(&mut *held)
        .await
        .expect("held");
    // Both have counted over version 1 when the first of them writes.
    let release = async {
        eventually("both are about to write", async || {
            let waiting = "select count(*) from pg_locks
                where relation = 'catalog_versions'::regclass and not granted";
            world.count(waiting).await == 2
        })
        .await;
        held.commit().await.expect("released");
    };
    let arguments = |file| ["apply", file];
    let (first, second) = (arguments(one.as_str()), arguments(two.as_str()));
    let (one, two, ()) = tokio::join!(world.catalog(&first), world.catalog(&second), release);
    pool.close().await;
    let (won, lost) = if one.is_ok() { (one, two) } else { (two, one) };
    assert!(won.expect("one").contains("version 2 is active"));
    let lost = lost.expect_err("the other");
    assert!(
        lost.contains("version 2 became active meanwhile and nothing was changed"),
        "{lost}"
    );
    assert_eq!(world.versions().await.len(), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_takes_nothing_from_payers_without_the_files_word() {
    let mut world = World::start().await;
    let alice = world.person("alice").await;
    let yearly = world.buy_apple("alice", YEARLY, None).await;
    alice
        .bind_apple(&yearly.signed_transaction)
        .await
        .expect("bound");
    // A process of its own: its alarms are nobody else's.
    let until_alarmed = async |world: &World, file: &Path, [refused, active]: [u8; 2]| {
        let file = file.to_str().expect("a path");
        let serving = Process::start(world, "serve", &[("ENTITLED__CATALOG", file)]).await;
        eventually("the file is looked at", async || {
            let metrics = serving.metrics().await;
            let told = |gauge: &str, value: u8| {
                let mut told = metrics.lines().filter_map(|line| line.strip_prefix(gauge));
                told.next() == Some(&format!(" {value}"))
            };
            told("entitled_catalog_file_is_active", active)
                && told("entitled_catalog_file_refused", refused)
        })
        .await;
        // Whatever is wrong with the file, it serves by what was active.
        let mut client = Client::connect(serving.grpc(), &world.token("alice")).await;
        let client = client.as_mut().expect("a client");
        let now = client.get().await.expect("served").snapshot.expect("told");
        is_active(&now, "export")
    };

    let less = world.catalog_file("less.toml", &without_export());
    let broken = world.catalog_file("broken.toml", "[[apps]]\nid = 1\n");
    let missing = broken.with_file_name("missing.toml");
    for refused in [&less, &broken, &missing] {
        assert!(
            until_alarmed(&world, refused, [1, 0]).await,
            "it works on with what it had: {}",
            refused.display()
        );
    }
    assert_eq!(world.versions().await.len(), 1);

    // Consent that was given over another version is none.
    let note = |replaces: i64| {
        let text = without_export();
        format!("{text}\n[apply]\nreplaces = {replaces}\nconfirm_loss = 1\nreason = \"agreed\"\n")
    };
    let stale = world.catalog_file("stale.toml", &note(7));
    assert!(until_alarmed(&world, &stale, [1, 0]).await);
    assert_eq!(world.versions().await.len(), 1);
    let agreed = world.catalog_file("agreed.toml", &note(1));
    world.restart_with_catalog(&agreed).await;
    world.device("alice").await.until_inactive("export").await;
    let versions = world.versions().await;
    assert_eq!(
        (&versions[0]["origin"], &versions[0]["reason"]),
        (&"start".into(), &"agreed".into())
    );
    assert!(!until_alarmed(&world, &agreed, [0, 1]).await);

    // A replica that still has last week's file takes nothing back.
    let old = world.catalog_file("old.toml", EXAMPLE);
    assert!(!until_alarmed(&world, &old, [0, 0]).await);
    assert_eq!(world.versions().await.len(), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn purchases_of_what_the_catalog_learns_are_looked_at_again() {
    let unknown = ["pro_monthly", "coins_100", "export_forever"];
    let world = World::start().await;
    let small = world.write("small.toml", &without(&unknown));
    let applied = world.catalog(&["apply", &small, "--wait"]).await;
    applied.expect("nobody has anything yet");
    let [mut apple, mut google] = [world.person("apple").await, world.person("google").await];
    for product in [MONTHLY, EXPORT, "com.example.coins.100"] {
        let bought = world.buy_apple("apple", product, None).await;
        apple
            .bind_apple(&bought.signed_transaction)
            .await
            .expect("kept");
    }
    let mut tokens = Vec::new();
    for product in ["premium-monthly", "export", "coins_100"] {
        let bought = world.buy_google("google", product, None).await;
        google
            .bind_google(&bought.purchase_token)
            .await
            .expect("kept");
        tokens.push(bought.purchase_token);
    }
    // What it knows all along is left alone.
    let yearly = world.buy_apple("known", YEARLY, None).await;
    let known = world.person("known").await;
    known
        .bind_apple(&yearly.signed_transaction)
        .await
        .expect("bound");
    world.settled().await;
    for person in [&apple, &google] {
        let now = person.now().await;
        assert!(
            now.entitlements
                .iter()
                .all(|entitlement| !entitlement.active)
        );
    }
    for token in &tokens {
        assert_eq!(world.stores().is_acknowledged(token), Some(false));
    }

    let full = world.write("full.toml", &format!("{EXAMPLE}\n# All of it.\n"));
    let applied = world.catalog(&["apply", &full, "--wait"]).await;
    applied.expect("nobody loses");
    world.settled().await;
    for person in [&mut apple, &mut google] {
        let now = person.now().await;
        assert!(is_active(&now, "pro_access") && is_active(&now, "export"));
        assert_eq!(now.credits[0].balance, 100, "{}", person.name);
    }
    for token in &tokens[..2] {
        assert_eq!(
            world.stores().is_acknowledged(token),
            Some(true),
            "{PACKAGE}"
        );
    }
    let calls = world.stores().store_calls();
    assert_eq!(calls.get(&Endpoint::GoogleConsume), Some(&1));
    // Each of the six is decided by what the catalog has learned, and what it knew all along is not.
    let decided = "select count(distinct chain_id) from subscription_events
        where catalog_version = (select max(version) from catalog_versions)";
    assert_eq!(world.count(decided).await, 6);
    assert_eq!(world.versions().await[0]["looked_again"], 6);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_goes_takes_its_payers_out_of_reach() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let yearly = world.buy_apple("alice", YEARLY, None).await;
    alice
        .bind_apple(&yearly.signed_transaction)
        .await
        .expect("bound");
    let bob = world.person("bob").await;
    let monthly = world.buy_google("bob", "premium-monthly", None).await;
    bob.bind_google(&monthly.purchase_token)
        .await
        .expect("bound");
    let renamed = EXAMPLE.replace(
        "bundle_id = \"com.example.app\"",
        "bundle_id = \"com.example.next\"",
    );
    let renamed = world.write("renamed.toml", &renamed);
    let refused = world.catalog(&["apply", &renamed]).await;
    let refused = refused.expect_err("a payer");
    for expected in [
        "apps.example-ios.bundle_id",
        "nobody gains or loses anything",
        "1 of these have bought in an app that is gone or has another name",
        "repeat with --replaces 1 --confirm-loss 1",
    ] {
        assert!(refused.contains(expected), "{expected}: {refused}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_points_at_what_is_wrong_and_what_is_odd() {
    let world = World::with(|options| options.roles = NOBODY).await;
    let check = async |text: &str| {
        let file = world.write("checked.toml", text);
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_entitled"))
            .args(["catalog", "check", &file])
            .output()
            .await
            .expect("runs");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let (sound, said) = check(EXAMPLE).await;
    assert!(sound && !said.contains("probably not meant"), "{said}");
    let (sound, said) = check(&EXAMPLE.replace("[\"pro_access\"]", "[\"pro_acces\"]")).await;
    assert!(!sound);
    assert!(
        said.contains("line 18, column 1: products.pro_monthly.grants: grants \"pro_acces\", which is not under [entitlements]"),
        "{said}"
    );
    let (sound, said) = check(&EXAMPLE.replace("period = \"P1M\"", "period = \"month\"")).await;
    assert!(!sound && said.contains("line 17, column 10"), "{said}");
    let (sound, said) = check(&format!("{EXAMPLE}\n[entitlements.odd]")).await;
    assert!(sound, "{said}");
    assert!(
        said.contains("entitlements.odd: no product grants it"),
        "{said}"
    );
    world.stop().await;
}
