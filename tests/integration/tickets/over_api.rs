//! Every command of operators over the API: the same words as on the database host, under the name
//! of the key, as far as its role goes.

use entitled::proto::{ListErasuresRequest, OperatorRole};
use serde_json::Value;

use crate::accounts::linking::link;
use crate::accounts::{Phone, with};
use crate::api_keys::{self, Keys};
use crate::scene::MONTHLY;
use crate::support::World;

impl World {
    /// Runs the program far from the database; what it prints.
    pub async fn over_api(&self, key: &str, arguments: &[&str]) -> Result<String, String> {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_entitled"))
            .args(arguments)
            .env("ENTITLED_SERVER", &self.stack.address.server)
            .env("ENTITLED_KEY", key)
            .current_dir(std::env::temp_dir())
            .output()
            .await
            .expect("the program runs");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() {
            true => Ok(printed),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_say_the_same_over_the_api_as_on_the_host() {
    let world = World::still().await;
    let alice = world.person("alice").await;
    world.person("bob").await;
    let apple = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("bound");
    let google = world
        .buy_google("alice", "premium-monthly", Some(&alice.store_token))
        .await;
    alice
        .bind_google(&google.purchase_token)
        .await
        .expect("bound");
    world.settled().await;

    // The first key is made on the host, the others with it.
    let create = [
        "key", "create", "ops", "--kind", "operator", "--role", "admin",
    ];
    let admin = world.command(&create).await.trim().to_owned();
    let mut keys = Keys::with(&world.stack.address.server, &admin).await;
    let viewer = keys
        .create(api_keys::operator("vi", OperatorRole::Viewer))
        .await;
    let viewer = viewer.expect("made").secret;
    let support = [
        "key", "create", "sue", "--kind", "operator", "--role", "support",
    ];
    let support = world.over_api(&admin, &support).await.expect("made");
    let support = support.trim();
    let service = keys.create(api_keys::service("backend", &[])).await;
    let service = service.expect("made").secret;

    let (order, transaction) = (google.order_id.as_str(), apple.transaction_id.as_str());
    let now = world.stack.clock.now().to_rfc3339();
    let reads: &[&[&str]] = &[
        &["find", "dev:alice"],
        &["find", order, "--json"],
        &["timeline", "dev:alice"],
        &[
            "timeline",
            "dev:alice",
            "--layer",
            "decision,snapshot",
            "--json",
        ],
        &["timeline", transaction, "--purchase"],
        &["explain", "dev:alice", "pro_access"],
        &["explain", "dev:alice", "pro_access", "--at", &now, "--json"],
        &["entitlements", "dev:alice"],
        &["entitlements", "dev:alice", "--at", &now, "--json"],
        &["transactions", "dev:alice"],
        &["transactions", "--store-id", order],
    ];
    for &command in reads {
        let here = world.command(command).await;
        let there = world.over_api(&viewer, command).await;
        assert_eq!(there.as_deref(), Ok(here.as_str()), "{command:?}");
        let as_service = world.over_api(&service, command).await;
        let served = matches!(
            command,
            ["entitlements", ..] | ["transactions", "dev:alice"]
        );
        assert_eq!(as_service.is_ok(), served, "{command:?}: {as_service:?}");
    }
    let replay = ["replay", "dev:alice", "--dry-run", "--json"];
    let here = world.command(&replay).await;
    assert_eq!(world.over_api(support, &replay).await, Ok(here));

    let chain = world.chain_of(&apple.original_transaction_id).await;
    let acts: &[&[&str]] = &[
        &["grant", "dev:alice", "export", "--reason", "a lost week"],
        &[
            "revoke-grant",
            "dev:alice",
            "export",
            "--reason",
            "a mistake",
        ],
        &["resync", "dev:alice"],
        &[
            "store",
            "cancel",
            order,
            "--reason",
            "asked",
            "--operation-id",
            "ticket-1",
        ],
        &[
            "transfer",
            &chain,
            "dev:bob",
            "--from",
            "dev:alice",
            "--reason",
            "asked",
        ],
    ];
    for &command in acts {
        let refused = world
            .over_api(&viewer, command)
            .await
            .expect_err("reads only");
        assert!(
            refused.contains("ROLE_INSUFFICIENT"),
            "{command:?}: {refused}"
        );
        world.over_api(support, command).await.expect("done");
        world.settled().await;
    }
    // What was done carries the key's name, whatever the machine's user is called.
    let actors = "select string_agg(distinct actor, ' ') from (
            select actor from subscription_events where actor is not null
            union all select actor from operator_actions
            union all select actor from ownership_changes where actor is not null
        ) as acts";
    assert_eq!(world.row(actors).await, "key:sue");

    // Admins alone see the keys; a key that is revoked over the API is revoked.
    let list = ["key", "list"];
    let refused = world
        .over_api(support, &list)
        .await
        .expect_err("an admin's");
    assert!(refused.contains("needs the role admin"), "{refused}");
    let listed = world.over_api(&admin, &list).await.expect("listed");
    for name in ["ops", "vi", "sue", "backend"] {
        assert!(listed.contains(name), "{listed}");
    }
    assert!(!listed.contains(&support[23..]), "no secret");
    let id = &support["entitled_op_".len()..][..10];
    let revoke = ["key", "revoke", id];
    world.over_api(&admin, &revoke).await.expect("revoked");
    let revoked = world.command(&["key", "list", "--all"]).await;
    assert!(revoked.contains("by key:ops"), "{revoked}");

    // Without a key, or with one in the wrong place, nothing is sent and the way out is told.
    let complaint = world.over_api("", reads[0]).await.expect_err("no key");
    assert!(complaint.contains("empty"), "{complaint}");
    let plain = ["find", "x", "--server", "http://entitled.example.com"];
    let complaint = world.over_api(&viewer, &plain).await.expect_err("in clear");
    assert!(complaint.contains("https"), "{complaint}");
    let url = format!("http://{viewer}@localhost:1");
    let complaint = world
        .over_api(&viewer, &["find", "x", "--server", &url])
        .await;
    let complaint = complaint.expect_err("a key in a URL");
    assert!(
        complaint.contains("plain URL") && !complaint.contains(&viewer),
        "{complaint}"
    );
    world.stop().await;
}

/// A key goes into a file that only its owner reads, and comes from it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_into_a_file_and_comes_from_it() {
    let world = World::start().await;
    world.person("alice").await;
    let file = world.stack.address.config.with_file_name("sue.key");
    let path = file.to_str().expect("a path");
    let create = [
        "key", "create", "sue", "--kind", "operator", "--role", "viewer", "--out", path,
    ];
    let printed = world.command(&create).await;
    assert!(!printed.contains("entitled_op_"), "{printed}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&file)
            .expect("written")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let server = world.stack.address.server.as_str();
    let find = ["find", "dev:alice", "--server", server, "--key-file", path];
    assert!(world.command(&find).await.contains("dev:alice"));
    // A file that is there is not written over, and no key is made for it.
    let again = world.try_command(&create).await.expect_err("it is there");
    assert!(again.contains("must not exist"), "{again}");
    assert_eq!(world.count("select count(*) from api_keys").await, 1);
    world.stop().await;
}

/// What a person may ask for: the same answers, papers and refusals from both places.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_exported_and_erased_over_the_api_as_on_the_host() {
    let world = World::still().await;
    let mut people = Vec::new();
    for name in ["alice", "bob"] {
        let person = world.person(name).await;
        let bought = world
            .buy_apple(name, MONTHLY, Some(&person.store_token))
            .await;
        let bound = person.bind_apple(&bought.signed_transaction).await;
        bound.expect("bound");
        people.push(person);
    }
    let phone = Phone::first_start(&world).await;
    let carol = world.person("carol").await;
    let (token, anonymous) = (world.token("carol"), &phone.credentials.access_token);
    link(&world, &token, anonymous).await.expect("linked");
    world.settled().await;
    let mut keys = Keys::of(&world).await;
    let mut key = async |request| keys.create(request).await.expect("a key").secret;
    let viewer = key(api_keys::operator("vi", OperatorRole::Viewer)).await;
    let support = key(api_keys::operator("sue", OperatorRole::Support)).await;
    let admin = key(api_keys::operator("ops", OperatorRole::Admin)).await;
    let service = key(api_keys::service("backend", &[])).await;
    let ios = key(api_keys::service("ios", &["example-ios"])).await;

    // One document from both, to whoever may have it; in a file for its owner alone.
    let export = ["export", "dev:alice"];
    let here = world.command(&export).await;
    let document: Value = serde_json::from_str(&here).expect("JSON");
    assert_eq!(document["account"], people[0].account.as_str());
    for key in [&support, &service] {
        let there = world.over_api(key, &export).await;
        assert_eq!(there.as_deref(), Ok(here.as_str()));
    }
    let file = world.stack.address.config.with_file_name("alice.json");
    let out = file.to_str().expect("a path");
    let to_file = ["export", "dev:bob", "--out", out];
    assert_eq!(world.over_api(&support, &to_file).await.as_deref(), Ok(""));
    let written = std::fs::read_to_string(&file).expect("written");
    let here = world.command(&["export", "dev:bob"]).await;
    assert_eq!(written, here);
    let again = world.over_api(&support, &to_file).await;
    assert!(again.expect_err("it is there").contains("never replaced"));

    // Whoever may not, and what may not be said.
    let erase = ["erase", "dev:alice", "--reference", "GDPR-17", "--yes"];
    for (key, command, reason) in [
        (&viewer, &export[..], "ROLE_INSUFFICIENT"),
        (&ios, &export, "APP_NOT_ALLOWED"),
        (&viewer, &erase, "ROLE_INSUFFICIENT"),
        (&support, &erase, "ROLE_INSUFFICIENT"),
        (&ios, &erase, "APP_NOT_ALLOWED"),
    ] {
        let refused = world.over_api(key, command).await.expect_err("refused");
        assert!(refused.contains(reason), "{command:?}: {refused}");
    }
    let asked = world.over_api(&admin, &erase[..4]).await;
    assert!(asked.expect_err("asked").contains("--yes"));
    let personal = ["erase", "dev:alice", "--reference", "by Alice", "--yes"];
    let (here, there) = (
        world.try_command(&personal).await,
        world.over_api(&admin, &personal).await,
    );
    for refused in [here, there] {
        let refused = refused.expect_err("names the person");
        assert!(refused.contains("reference"), "{refused}");
    }
    let erased = "select count(*) from accounts where erased_at is not null";
    assert_eq!(world.count(erased).await, 0);

    // One is erased over the API, one on the host; both are in both lists.
    let json = [&erase[..], &["--json"]].concat();
    let told = world.over_api(&admin, &json).await.expect("erased");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(
        (&told["outcome"], &told["purchases"]),
        (&Value::from("erased"), &Value::from(1))
    );
    assert_eq!(told["account"], people[0].account.as_str());
    let bob = ["erase", "dev:bob", "--reference", "GDPR-18", "--yes"];
    let bob = world
        .command(&[&bob[..], &["--actor", "ada"]].concat())
        .await;
    assert!(bob.contains(&format!("{} is erased: 1", people[1].account)));
    let actors = "select string_agg(actor, ' ' order by reason) from operator_actions
        where action = 'erase account'";
    assert_eq!(world.row(actors).await, "key:ops ada");
    let by_id = ["erase", &people[0].account, "--reference", "x", "--yes"];
    let here = world.command(&by_id).await;
    assert!(here.contains("was erased on"), "{here}");
    assert_eq!(world.over_api(&admin, &by_id).await, Ok(here));
    for refused in [
        world.try_command(&erase).await,
        world.over_api(&admin, &erase).await,
    ] {
        let refused = refused.expect_err("the name is forgotten");
        assert!(refused.contains("no account"), "{refused}");
    }
    // By what an account was before it became part of another one.
    let whole = ["erase", &phone.person.account, "--reference", "x", "--yes"];
    let whole = world
        .over_api(&admin, &[&whole[..], &["--json"]].concat())
        .await;
    let whole: Value = serde_json::from_str(&whole.expect("erased")).expect("JSON");
    assert_eq!(whole["account"], carol.account.as_str(), "{whole}");

    let list = ["erasures", "list"];
    let here = world.command(&list).await;
    assert_eq!(here.lines().count(), 4, "{here}");
    assert_eq!(
        world.over_api(&viewer, &list).await.as_deref(),
        Ok(here.as_str())
    );
    let late = ["erasures", "list", "--since", "2099-01-01T00:00:00Z"];
    assert_eq!(world.over_api(&viewer, &late).await.as_deref(), Ok(""));
    let refused = world.over_api(&service, &list).await.expect_err("refused");
    assert!(refused.contains("OPERATOR_REQUIRED"), "{refused}");
    // Page by page, nothing twice and nothing left out.
    let mut client = with(&world, &viewer).await;
    let (mut paged, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListErasuresRequest {
            page_size: 1,
            page_token,
            ..Default::default()
        };
        let page = client.list_erasures(request).await.expect("a page");
        let page = page.into_inner();
        assert_eq!(page.erasures.len(), 1);
        paged.extend(page.erasures.into_iter().map(|erasure| erasure.account_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let listed: Vec<String> = here
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["account"].clone())
        .map(|account| account.as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(paged, listed);

    let file = world.catalog_file("erasures.jsonl", &here);
    let repeat = ["erasures", "repeat", file.to_str().expect("a path")];
    let refused = world
        .over_api(&support, &repeat)
        .await
        .expect_err("an admin's");
    assert!(refused.contains("ROLE_INSUFFICIENT"), "{refused}");
    let repeated = world.over_api(&admin, &repeat).await.expect("repeated");
    assert_eq!(
        repeated,
        "0 erased again, 4 were erased already, 0 are not in the backup\n"
    );
    world.stop().await;
}
