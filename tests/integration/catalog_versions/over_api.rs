//! `entitled catalog` far from the database: the same words, as far as the key's role goes.

use super::{EXAMPLE, without_export};
use crate::process::NOBODY;
use crate::scene::YEARLY;
use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_say_the_same_over_the_api_as_on_the_host() {
    let world = World::still().await;
    let alice = world.person("alice").await;
    let yearly = world.buy_apple("alice", YEARLY, None).await;
    alice
        .bind_apple(&yearly.signed_transaction)
        .await
        .expect("bound");
    world.settled().await;
    let create = async |name: &str, role: &str| {
        let create = ["key", "create", name, "--kind", "operator", "--role", role];
        world.command(&create).await.trim().to_owned()
    };
    let (viewer, admin) = (create("vi", "viewer").await, create("ann", "admin").await);
    let viewer_file = world.stack.address.config.with_file_name("vi.key");
    std::fs::write(&viewer_file, &viewer).expect("written");
    let viewer_file = viewer_file.to_str().expect("a path");
    let server = world.stack.address.server.as_str();

    let less = world.write("less.toml", &without_export());
    let more = world.write("more.toml", &format!("{EXAMPLE}\n[entitlements.more]"));
    let broken = world.write("broken.toml", "[[apps]]\nid = 1\n");
    let reads: &[&[&str]] = &[
        &["catalog", "show"],
        &["catalog", "show", "1"],
        &["catalog", "history"],
        &["catalog", "history", "--json", "--wait"],
        &["catalog", "diff", &less],
        &["catalog", "diff", &less, "--json"],
        &["catalog", "apply", &less, "--dry-run"],
        &["catalog", "apply", &more, "--dry-run", "--json"],
        &["catalog", "rollback", "1", "--dry-run"],
    ];
    for &command in reads {
        let here = world.command(command).await;
        let there = world.over_api(&viewer, command).await;
        assert_eq!(there.as_deref(), Ok(here.as_str()), "{command:?}");
        // The same with the key from a file, and the server as an option.
        let by_option = ["--server", server, "--key-file", viewer_file];
        let there = world.command(&[command, &by_option].concat()).await;
        assert_eq!(there, here, "{command:?}");
    }
    // What is refused is refused in the same words.
    let refused: &[&[&str]] = &[
        &["catalog", "show", "9"],
        &["catalog", "diff", "--from", "1", "--to", "9"],
        &["catalog", "diff", &broken],
        &["catalog", "apply", &broken],
        &["catalog", "rollback", "9"],
        &["catalog", "apply", &less],
        // Another version than the one that was planned over is active.
        &["catalog", "apply", &less, "--dry-run", "--replaces", "7"],
        &[
            "catalog",
            "apply",
            &less,
            "--replaces",
            "7",
            "--confirm-loss",
            "1",
        ],
    ];
    for &command in refused {
        let here = world.try_command(command).await.expect_err("refused");
        let there = world.over_api(&admin, command).await;
        let there = there.expect_err("refused");
        assert!(here.ends_with(&there), "{command:?}\n{here}\n{there}");
        if command.contains(&"7") {
            let words = "version 1 became active meanwhile and nothing was changed";
            assert!(here.contains(words), "{command:?} {here}");
        }
    }
    let lost = world.over_api(&admin, &["catalog", "apply", &less]).await;
    let lost = lost.expect_err("a payer");
    assert!(lost.contains("--replaces 1 --confirm-loss 1"), "{lost}");
    // A number that nobody agreed to over a version is none.
    let bare = ["catalog", "apply", &less, "--confirm-loss", "1"];
    let bare = world.over_api(&admin, &bare).await.expect_err("over what?");
    assert!(bare.contains("--replaces"), "{bare}");

    // A viewer changes nothing; an admin does, under the key's name.
    let agreed = ["--replaces", "1", "--confirm-loss", "1", "--wait"];
    let apply = [&["catalog", "apply", &less][..], &agreed].concat();
    let role = world.over_api(&viewer, &apply).await.expect_err("reads");
    assert!(role.contains("ROLE_INSUFFICIENT"), "{role}");
    assert_eq!(world.versions().await.len(), 1);
    let why = ["--reason", "export is a product of its own"];
    let applied = world.over_api(&admin, &[&apply[..], &why].concat()).await;
    let applied = applied.expect("applied");
    assert!(applied.contains("version 2 is active"), "{applied}");
    let back = ["catalog", "rollback", "1", "--wait"];
    let back = world.over_api(&admin, &back).await.expect("taken back");
    assert!(back.contains("export: 1 gain it"), "{back}");
    let versions = world.versions().await;
    let told = |n: usize| {
        let of = |key: &str| versions[n][key].clone();
        (of("version"), of("applied_by"), of("origin"), of("copy_of"))
    };
    let by = serde_json::Value::from("key:ann");
    assert_eq!(told(0), (3.into(), by.clone(), "rollback".into(), 1.into()));
    assert_eq!(
        told(1),
        (2.into(), by, "apply".into(), serde_json::Value::Null)
    );
    assert_eq!(versions[1]["reason"], why[1]);
    let between = ["catalog", "diff", "--from", "2", "--to", "3"];
    let here = world.command(&between).await;
    assert!(here.contains("products.pro_yearly grants export"), "{here}");
    assert_eq!(world.over_api(&viewer, &between).await, Ok(here));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_catalog_of_a_database_is_applied_on_its_host() {
    let world = World::with(|options| options.roles = NOBODY).await;
    let pool = world.tables().await;
    sqlx::query("delete from catalog_versions")
        .execute(&pool)
        .await
        .expect("none");
    pool.close().await;
    let none = world.catalog(&["history"]).await.expect_err("none");
    assert!(none.contains("no catalog has been applied"), "{none}");
    let file = world.write("first.toml", EXAMPLE);
    let planned = world.catalog(&["apply", &file, "--dry-run"]).await;
    let planned = planned.expect("planned");
    assert!(planned.contains("the first version: 2 apps"), "{planned}");
    let applied = world.catalog(&["apply", &file, "--wait"]).await;
    let applied = applied.expect("applied");
    assert!(applied.contains("is active"), "{applied}");
    assert_eq!(world.catalog(&["show"]).await.as_deref(), Ok(EXAMPLE));
    world.stop().await;
}
