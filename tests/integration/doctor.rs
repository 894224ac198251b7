//! `doctor` goes through the steps of setting up, and names the one that is not done.

use std::process::Stdio;

use entitled::sandbox::{ConsoleAccess, Store, Webhooks};
use serde_json::Value;

use crate::scene::MONTHLY;
use crate::support::World;

/// What `doctor` found.
struct Found {
    findings: Vec<Value>,
    fails: bool,
}

impl Found {
    /// The findings of a step.
    fn step(&self, step: &str) -> Vec<&Value> {
        let of_step = |finding: &&Value| finding["step"] == step;
        let found: Vec<&Value> = self.findings.iter().filter(of_step).collect();
        assert!(
            !found.is_empty(),
            "{step} was not looked at: {:#?}",
            self.findings
        );
        found
    }

    fn health(&self, step: &str) -> &str {
        let worst = |health: &str| match health {
            "fail" => 2,
            "warn" => 1,
            _ => 0,
        };
        let healths = self
            .step(step)
            .into_iter()
            .filter_map(|one| one["health"].as_str());
        healths
            .max_by_key(|health| worst(health))
            .expect("a health")
    }

    #[track_caller]
    fn says(&self, step: &str, health: &str, expected: &str) {
        let said = self.step(step).into_iter().any(|finding| {
            finding["health"] == health
                && finding["found"]
                    .as_str()
                    .is_some_and(|found| found.contains(expected))
        });
        assert!(said, "{step} {health} {expected}: {:#?}", self.step(step));
    }

    /// The first step that fails.
    fn first_failure(&self) -> Option<&str> {
        let failed = |finding: &&Value| finding["health"] == "fail";
        self.findings.iter().find(failed)?["step"].as_str()
    }
}

async fn doctor(world: &World, variables: &[(&str, &str)]) -> Found {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_entitled"))
        .args(["doctor", "--json", "--config"])
        .arg(&world.stack.address.config)
        .envs(variables.iter().copied())
        .output()
        .await
        .expect("the program runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    Found {
        findings: serde_json::from_str(&printed)
            .unwrap_or_else(|error| panic!("{error}: {printed}{complained}")),
        fails: !output.status.success(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_is_looked_at_and_the_first_that_fails_is_named() {
    let world = World::start().await;
    let public = world.stack.app.webhooks_url().expect("webhooks");
    let public = ("ENTITLED__WEBHOOKS__PUBLIC_URL", public.as_str());

    // All is well, though nothing was bought: Apple is asked for a test, and it comes.
    let found = doctor(&world, &[public]).await;
    assert_eq!(found.first_failure(), None, "{:#?}", found.findings);
    assert!(!found.fails);
    for step in 1..=7 {
        assert_eq!(
            found.health(&format!("server {step}")),
            "ok",
            "server {step}"
        );
    }
    for step in 1..=3 {
        assert_eq!(
            found.health(&format!("App Store {step}")),
            "ok",
            "App Store {step}"
        );
    }
    found.says("App Store 4", "ok", "a test notification came after");
    found.says("App Store 6", "warn", "nothing was bought yet");
    for step in 1..=4 {
        assert_eq!(
            found.health(&format!("Google Play {step}")),
            "ok",
            "Google Play {step}"
        );
    }
    found.says("Google Play 5", "warn", "nothing has come");
    let order: Vec<&str> = found
        .findings
        .iter()
        .filter_map(|one| one["step"].as_str())
        .collect();
    let guides = ["server", "App Store", "Google Play"];
    for guide in guides {
        let numbers: Vec<&str> = order
            .iter()
            .copied()
            .filter(|step| step.starts_with(guide))
            .collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
    }

    // It came: no second test is asked for. Google's button was pressed.
    let tests = || {
        let told = world.stores().notifications();
        told.iter()
            .filter(|told| told.notification_type == "TEST")
            .count()
    };
    assert_eq!(tests(), 1);
    world
        .stores()
        .send_test_notification(Store::GooglePlay)
        .await
        .expect("sent");
    world.settled().await;
    let found = doctor(&world, &[public]).await;
    found.says("App Store 4", "ok", "the last one came just now");
    found.says("Google Play 5", "ok", "the last test message just now");
    assert_eq!(found.health("Google Play 6"), "ok");
    assert_eq!(tests(), 2, "Google's, and one of Apple's");

    // What each mistake is called.
    let wrong_key = ("ENTITLED__APP_STORE__KEY_ID", "WRONG12345");
    let found = doctor(&world, &[public, wrong_key]).await;
    assert_eq!(found.first_failure(), Some("App Store 3"));
    assert!(found.fails);
    found.says("App Store 3", "fail", "401");

    world.stores().set_google_access(ConsoleAccess::ViewOnly);
    let found = doctor(&world, &[public]).await;
    assert_eq!(found.first_failure(), Some("Google Play 3"));
    found.says("Google Play 3", "fail", "userInsufficientPermission");
    world.stores().set_google_access(ConsoleAccess::None);
    let found = doctor(&world, &[public]).await;
    found.says("Google Play 3", "fail", "permissionDenied");
    found.says("Google Play 4", "warn", "cannot be read");
    world.stores().set_google_access(ConsoleAccess::Full);

    let nobody = ("ENTITLED__WEBHOOKS__PUBLIC_URL", "http://127.0.0.1:9");
    let found = doctor(&world, &[nobody]).await;
    assert_eq!(found.first_failure(), Some("server 7"));
    let else_where = world.stack.app.admin_url();
    let elsewhere = ("ENTITLED__WEBHOOKS__PUBLIC_URL", else_where.as_str());
    let found = doctor(&world, &[elsewhere]).await;
    found.says("server 7", "fail", "something else answers");

    let strangers = (
        "ENTITLED__DATABASE__URL",
        "postgres://nobody@127.0.0.1:9/none",
    );
    assert_eq!(
        doctor(&world, &[strangers]).await.first_failure(),
        Some("server 2")
    );
    world.stop().await;
}

/// App Store Connect has a URL for each of its worlds, and each Android app names its own topic: one
/// that speaks says nothing about another.
#[tokio::test(flavor = "multi_thread")]
async fn every_app_and_every_world_is_listened_to_by_itself() {
    let world = World::with(|options| {
        options.setup = Some(entitled::cli::stack::setup_of(&options.catalog).expect("a setup"));
        let other = "[[apps]]\nid = \"other\"\npackage_name = \"com.example.other\"\n";
        options.catalog = format!("{other}\n{}", options.catalog);
    })
    .await;
    let found = doctor(&world, &[]).await;
    found.says("App Store 4", "ok", "production: a test notification came");
    world
        .stores()
        .send_test_notification(Store::GooglePlay)
        .await
        .expect("sent");
    world.settled().await;
    let config = &world.stack.address.config;
    let text = std::fs::read_to_string(config).expect("a configuration");
    let both = text.replace(
        "environments = [\"production\"]",
        "environments = [\"production\", \"sandbox\"]",
    );
    assert_ne!(both, text);
    std::fs::write(config, both).expect("written");
    let found = doctor(&world, &[]).await;
    found.says("App Store 4", "ok", "production: the last one came");
    found.says("App Store 4", "ok", "sandbox: a test notification came");
    found.says("Google Play 5", "ok", "com.example.app: the last push");
    found.says("Google Play 5", "warn", "com.example.other: nothing");
    world.stop().await;
}

/// A key file that is gone is the step of that key, and the other store is looked at all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_built_is_named_by_its_step_and_the_others_go_on() {
    let world = World::start().await;
    let beside = |name: &str| world.stack.address.config.with_file_name(name);
    for (file, step, other) in [
        ("apple-key.p8", "App Store 3", "Google Play 3"),
        ("service-account.json", "Google Play 2", "App Store 3"),
        ("encryption.key", "server 3", "App Store 3"),
    ] {
        let (here, away) = (beside(file), beside("away"));
        std::fs::rename(&here, &away).expect("moved");
        let found = doctor(&world, &[]).await;
        std::fs::rename(&away, &here).expect("moved back");
        assert_eq!(found.first_failure(), Some(step), "{file}");
        assert_eq!(found.health(other), "ok", "{file}");
    }
    world.stop().await;
}

/// It may be pointed at a database before its server is: nothing there is claimed, made or applied.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_a_database_that_is_nobodys_leaves_it_so() {
    let mut world = World::start().await;
    let url = crate::support::database().await;
    world.database_url.clone_from(&url);
    let found = doctor(&world, &[("ENTITLED__DATABASE__URL", &url)]).await;
    assert_eq!(
        found.first_failure(),
        Some("server 5"),
        "{:#?}",
        found.findings
    );
    found.says("server 3", "ok", "the first server that starts");
    assert_eq!(found.health("App Store 3"), "ok", "by the catalog's file");
    let pool = world.tables().await;
    let made = "select count(*) from (select 1 from deployment where mode is not null
        union all select 1 from root_keys union all select 1 from catalog_versions) made";
    let made: i64 = sqlx::query_scalar(made)
        .fetch_one(&pool)
        .await
        .expect("a count");
    assert_eq!(made, 0);
    pool.close().await;
    world.stop().await;
}

/// The same holds for every other command: only a server makes a database its own.
#[tokio::test(flavor = "multi_thread")]
async fn commands_leave_a_database_that_is_nobodys_as_it_is() {
    let mut world = World::start().await;
    let url = crate::support::database().await;
    world.database_url.clone_from(&url);
    let catalog = world.stack.address.config.with_file_name("catalog.toml");
    let catalog = catalog.to_str().expect("a path");
    let purchase = uuid::Uuid::nil().to_string();
    let commands: [&[&str]; 13] = [
        &["catalog", "apply", catalog],
        &["catalog", "diff", catalog],
        &["catalog", "history"],
        &[
            "key", "create", "first", "--kind", "operator", "--role", "viewer",
        ],
        &["key", "list"],
        &["find", "GPA.1"],
        &["explain", "dev:alice", "pro_access"],
        &["timeline", "dev:alice"],
        &["resync", &purchase],
        &["replay", "dev:alice"],
        &["erasures", "list"],
        &["retention", "--dry-run"],
        &["encryption", "status"],
    ];
    let mut understood = 0;
    for arguments in commands {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_entitled"))
            .args(arguments)
            .arg("--config")
            .arg(&world.stack.address.config)
            .env("ENTITLED__DATABASE__URL", &url)
            .output()
            .await
            .expect("the program runs");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_ne!(output.status.code(), Some(2), "{arguments:?}: {complaint}");
        understood += usize::from(output.status.success());
    }
    assert!(understood >= 8, "only {understood} did anything");
    let pool = world.tables().await;
    let claimed = "select count(*) from (select 1 from deployment where mode is not null
        union all select 1 from root_keys) claimed";
    let claimed: i64 = sqlx::query_scalar(claimed)
        .fetch_one(&pool)
        .await
        .expect("a count");
    assert_eq!(claimed, 0);
    pool.close().await;
    world.stop().await;
}

/// What holds one table up is said of what hangs on it; the rest is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_takes_too_long_is_a_finding() {
    let mut world = World::start().await;
    let url = crate::support::database().await;
    world.database_url.clone_from(&url);
    let pool = world.tables().await;
    let mut held = pool.begin().await.expect("a transaction");
    sqlx::query("lock table duties in access exclusive mode")
        .execute(&mut *held)
        .await
        .expect("locked");
    let found = doctor(&world, &[("ENTITLED__DATABASE__URL", &url)]).await;
    held.rollback().await.expect("unlocked");
    let of = |what: &str| {
        let named = |finding: &&Value| finding["what"] == what;
        let found = found.findings.iter().find(named);
        found.unwrap_or_else(|| panic!("{what}: {:#?}", found))
    };
    for held_up in ["duties", "purchases about to be refunded"] {
        assert_eq!(of(held_up)["health"], "warn");
        let said = of(held_up)["found"].as_str().expect("text");
        assert!(said.contains("longer than 5 s"), "{said}");
    }
    assert_eq!(of("products")["found"], "every product is in the catalog");
    assert_eq!(of("rows")["found"], "none failed, none waits");
    pool.close().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apples_own_word_is_told_where_its_notifications_do_not_come() {
    let world = World::start().await;
    let places = |app_store: Option<&str>| {
        let webhooks = Webhooks {
            app_store: app_store.map(ToOwned::to_owned),
            ..Webhooks::default()
        };
        world.stores().set_webhooks(webhooks).expect("set");
    };
    places(None);
    let found = doctor(&world, &[]).await;
    assert_eq!(found.first_failure(), Some("App Store 4"));
    found.says("App Store 4", "fail", "no URL");
    places(Some("http://127.0.0.1:9/webhooks/app-store"));
    let found = doctor(&world, &[]).await;
    found.says("App Store 4", "fail", "Apple could not deliver");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_is_compared_with_what_google_lists() {
    let world = World::with(|options| {
        // The stores sell what they sold before the catalog changed.
        let catalog = options.catalog.clone();
        options.setup = Some(entitled::cli::stack::setup_of(&catalog).expect("a setup"));
        options.catalog = catalog.replace(
            "base_plan_id = \"premium-yearly\"",
            "base_plan_id = \"premium-annual\"",
        );
    })
    .await;
    let found = doctor(&world, &[]).await;
    assert_eq!(found.first_failure(), Some("Google Play 4"));
    found.says(
        "Google Play 4",
        "fail",
        "not at the store: premium:premium-annual",
    );
    found.says(
        "Google Play 4",
        "warn",
        "not in the catalog: premium:premium-yearly",
    );
    world.stop().await;
}

/// Reads what `--wait` tells until it has told `stage`.
async fn until(
    lines: &mut tokio::io::Lines<tokio::io::BufReader<tokio::process::ChildStdout>>,
    stage: &str,
) -> Vec<Value> {
    let mut told = Vec::new();
    loop {
        let line = tokio::time::timeout(std::time::Duration::from_secs(30), lines.next_line());
        let line = line.await.expect("in time").expect("reads");
        let Some(line) = line else {
            panic!("it ended without {stage:?}: {told:#?}");
        };
        told.push(serde_json::from_str(&line).expect("a line of JSON"));
        if told
            .last()
            .is_some_and(|last: &Value| last["stage"] == stage)
        {
            return told;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_purchase_is_followed_and_what_is_missing_is_said() {
    use tokio::io::AsyncBufReadExt as _;
    let world = World::start().await;
    let alice = world.person("alice").await;
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_entitled"))
        .args(["doctor", "--wait", "--json", "--quiet", "1", "--config"])
        .arg(&world.stack.address.config)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program runs");
    let output = tokio::io::BufReader::new(child.stdout.take().expect("piped"));
    let mut lines = output.lines();
    let says = |told: &[Value], expected: &str| {
        let last = told.last().expect("a line")["what"]
            .as_str()
            .expect("words");
        assert!(last.contains(expected), "{expected}: {told:#?}");
    };
    let told = until(&mut lines, "missing").await;
    says(&told, "nothing came");

    // Bought without a word of whose it is, and the app does not bind.
    let bought = world.buy_apple("alice", MONTHLY, None).await;
    let told = until(&mut lines, "missing").await;
    says(&told, "nobody owns the purchase");
    for stage in ["notification in", "purchase known", "store asked, decided"] {
        assert!(
            told.iter().any(|line| line["stage"] == stage),
            "{stage}: {told:#?}"
        );
    }

    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    let told = until(&mut lines, "done").await;
    for stage in ["bound to an account", "entitlement on"] {
        assert!(
            told.iter().any(|line| line["stage"] == stage),
            "{stage}: {told:#?}"
        );
    }
    assert!(told.iter().all(|line| line["elapsed_seconds"].is_number()));
    assert!(child.wait().await.expect("a child").success());
    world.stop().await;
}
