//! What stores send is encrypted at rest: it reads back, it is bound to its row, its keys rotate
//! beside a running server, and what was plain before is sealed on demand.

mod trouble;

use std::path::{Path, PathBuf};

use entitled::app::{App, Roles};
use entitled::config::Config;
use entitled::config::encryption::{EncryptionConfig, KeyConfig};

use crate::scene::{MONTHLY, READER, payload_of};
use crate::support::World;

/// As a server of long ago left them.
const MANY_PLAIN: &str = "insert into raw_notifications
        (source, id, event_id, received_at, body, status)
    select 'app_store', gen_random_uuid(), 'event-' || n, now(), 'plain', 'processed'
    from generate_series(1, 10001) n";
const PLAIN: &str = "select (select count(*) from raw_notifications where row_key is null)
    + (select count(*) from store_answers where chain_key_id is null)";
const KEPT: &str = "select (select count(*) from raw_notifications where source = 'app_store')
    * (select count(*) from store_answers)";
/// The store's documents are signed and carry base64 parts that begin alike.
const READABLE: &str = "select (select count(*) from raw_notifications
        where position('signedPayload'::bytea in body) > 0 or position('{'::bytea in body) = 1)
    + (select count(*) from store_answers, unnest(bodies) as body
        where position('{'::bytea in body) = 1)";

fn file(path: &Path) -> KeyConfig {
    KeyConfig {
        file: Some(path.to_owned()),
        ..KeyConfig::default()
    }
}

fn keys(files: &[&Path]) -> EncryptionConfig {
    EncryptionConfig {
        enabled: None,
        keys: files.iter().map(|path| file(path)).collect(),
    }
}

impl World {
    fn beside(&self, name: &str) -> PathBuf {
        self.stack.address.config.with_file_name(name)
    }

    /// What commands read, as a person would edit it.
    fn configure_keys(&self, section: &str) {
        let path = &self.stack.address.config;
        let text = std::fs::read_to_string(path).expect("readable");
        let mut config: toml::Table = text.parse().expect("TOML");
        let section: toml::Table = section.parse().expect("TOML");
        config.insert("encryption".into(), toml::Value::Table(section));
        std::fs::write(path, config.to_string()).expect("written");
    }

    async fn buys_monthly(&self, name: &str) {
        let person = self.person(name).await;
        let token = Some(person.store_token.as_str());
        let bought = self.buy_apple(name, MONTHLY, token).await;
        person
            .bind_apple(&bought.signed_transaction)
            .await
            .expect("bound");
        self.settled().await;
    }

    async fn replays_alike(&self) {
        let printed = self
            .command(&["replay", "--since", "2000-01-01T00:00:00Z", "--json"])
            .await;
        let told: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
        assert_eq!(told["differences"], serde_json::json!([]), "{printed}");
        assert!(told["notifications"].as_i64() > Some(0), "{printed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_sealed_and_bound_to_their_rows() {
    let world = World::start().await;
    for name in ["alice", "bob"] {
        world.buys_monthly(name).await;
    }
    assert!(world.count(KEPT).await > 0, "both tables hold something");
    assert_eq!(world.count(PLAIN).await, 0, "all of it is sealed");
    assert_eq!(world.count(READABLE).await, 0);
    let handed = "select count(*) from raw_notifications
        where status = 'processed' and (chain_key_id is null or root_id is not null)";
    assert_eq!(
        world.count(handed).await,
        0,
        "a chain's documents hang on its key"
    );
    world.replays_alike().await;

    // Somebody who can write rows puts one body where another was: it does not open there.
    let pool = world.tables().await;
    let swapped = sqlx::query(
        "update raw_notifications r set status = 'sealed', body = o.body, row_key = o.row_key,
             chain_key_id = o.chain_key_id
         from raw_notifications o
         where r.id = (select min(id::text)::uuid from raw_notifications)
           and o.id = (select max(id::text)::uuid from raw_notifications)",
    );
    let swapped = swapped.execute(&pool).await.expect("written");
    assert_eq!(swapped.rows_affected(), 1);
    pool.close().await;
    world.settled().await;
    let told = "select detail from raw_notifications where status = 'failed'";
    let told = world.row(told).await;
    assert!(told.contains("does not open"), "{told}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_beside_a_running_server() {
    let mut world = World::start().await;
    world.buys_monthly("alice").await;
    let (old, new) = (world.beside("encryption.key"), world.beside("new.key"));
    let out = new.to_str().expect("a path");
    let made = tokio::process::Command::new(env!("CARGO_BIN_EXE_entitled"))
        .args(["encryption", "new-key", "--out", out])
        .output()
        .await
        .expect("the program runs");
    assert!(made.status.success(), "{made:?}");
    let key = std::fs::read_to_string(&new).expect("a key");
    let key = key.lines().last().expect("a line");
    assert!(
        !String::from_utf8_lossy(&made.stdout).contains(key),
        "not printed"
    );

    // 1. Every server knows both, the new one first. 2. Rotate. 3. The old one goes.
    world
        .restart(|config| config.encryption = keys(&[&new, &old]))
        .await;
    let both = format!(
        "[[keys]]\nfile = {:?}\n[[keys]]\nfile = {:?}",
        new.to_str().expect("a path"),
        old.to_str().expect("a path")
    );
    world.configure_keys(&both);
    let before = world.command(&["encryption", "status"]).await;
    assert!(before.contains("encryption rotate"), "{before}");
    let (rotated, ()) = futures::join!(world.command(&["encryption", "rotate"]), async {
        for name in ["bob", "carol", "dave"] {
            world.buys_monthly(name).await;
        }
    });
    assert!(
        rotated.contains("1 root keys came under file:"),
        "{rotated}"
    );
    world.buys_monthly("erin").await;
    let again = world.command(&["encryption", "rotate"]).await;
    assert!(again.contains("0 root keys came under file:"), "{again}");
    let after = world.command(&["encryption", "status"]).await;
    assert!(after.contains("only the newest key is needed"), "{after}");
    let lagging = "select count(*) from chain_keys c where wrapped is not null
        and root_id <> (select id from root_keys where retired_at is null)";
    assert_eq!(world.count(lagging).await, 0);

    world
        .restart(|config| config.encryption = keys(&[&new]))
        .await;
    world.configure_keys(&format!(
        "[[keys]]\nfile = {:?}",
        new.to_str().expect("a path")
    ));
    world.replays_alike().await;
    world.buys_monthly("frank").await;
    assert_eq!(world.count(PLAIN).await, 0);

    // Without the key nothing starts, and the error says which one is missing.
    for encryption in [keys(&[&old]), EncryptionConfig::default()] {
        let mut config = Config::load(Some(&world.stack.address.config)).expect("reads");
        config.encryption = encryption;
        let clock = world.stack.clock.clone().into();
        let refused = App::start(config, READER, Some(clock)).await;
        let refused = format!("{:#}", refused.expect_err("refused"));
        assert!(
            refused.contains("\"file:") && refused.contains("encryption.keys"),
            "{refused}"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_plain_before_is_read_and_sealed_on_demand() {
    let mut world = World::start().await;
    let key = world.beside("encryption.key");
    // As the binary before kept it; the root key of the first start stays readable.
    world
        .restart(|config| {
            config.encryption.enabled = Some(false);
        })
        .await;
    world.buys_monthly("alice").await;
    assert!(world.count(READABLE).await > 1, "plain");
    world
        .restart(|config| config.encryption = keys(&[&key]))
        .await;
    world.buys_monthly("bob").await;
    world.replays_alike().await;
    let plain = world.command(&["encryption", "status"]).await;
    assert!(plain.contains("are plain"), "{plain}");
    let count = world.count(PLAIN).await;
    let told = async |world: &World| world.command(&["doctor"]).await;
    let doctor = told(&world).await;
    let exactly = format!("; {count} rows from before it are plain");
    assert!(doctor.contains(&exactly), "{doctor}");
    let sealed = world.command(&["encryption", "seal"]).await;
    assert!(sealed.contains("documents were plain"), "{sealed}");
    assert_eq!(world.count(PLAIN).await, 0);
    let doctor = told(&world).await;
    assert!(!doctor.contains("are plain"), "{doctor}");
    assert_eq!(world.count(READABLE).await, 0);
    world.replays_alike().await;
    let again = world.command(&["encryption", "seal"]).await;
    assert!(again.starts_with("0 documents"), "{again}");
    let kept = sqlx::query(MANY_PLAIN).execute(&world.looks).await;
    kept.expect("kept");
    let doctor = told(&world).await;
    let bounded = "; more than 10000 rows from before it are plain";
    assert!(doctor.contains(bounded), "{doctor}");
    let refused = world
        .refuses("update store_answers set bodies = '{}'")
        .await;
    assert!(refused.contains("append-only"), "{refused}");
    world.stop().await;
}

/// Any KMS with a command line: here one that turns every byte around.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_holds_the_key() {
    let mut world = World::start().await;
    let old = world.beside("encryption.key");
    let turn = "od -An -v -tu1 -w1 | while read b; do printf \"\\\\$(printf %o $((255-b)))\"; done | base64 -w0";
    let shell = |script: &str| ["sh", "-c", script].map(str::to_owned).to_vec();
    let kms = KeyConfig {
        name: Some("kms".into()),
        wrap: shell(turn),
        unwrap: shell(turn),
        ..KeyConfig::default()
    };
    let section = |with_old: bool| {
        let mut keys = vec![toml::Value::Table(toml::Table::from_iter([
            ("name".to_owned(), "kms".into()),
            ("wrap".to_owned(), kms.wrap.clone().into()),
            ("unwrap".to_owned(), kms.unwrap.clone().into()),
        ]))];
        if with_old {
            let file = old.to_str().expect("a path").to_owned();
            keys.push(toml::Value::Table(toml::Table::from_iter([(
                "file".to_owned(),
                file.into(),
            )])));
        }
        toml::Table::from_iter([("keys".to_owned(), toml::Value::Array(keys))]).to_string()
    };
    world.buys_monthly("alice").await;
    world
        .restart(|config| config.encryption.keys.insert(0, kms.clone()))
        .await;
    world.configure_keys(&section(true));
    let rotated = world.command(&["encryption", "rotate"]).await;
    assert!(rotated.contains("came under command:kms"), "{rotated}");
    world
        .restart(|config| config.encryption.keys = vec![kms.clone()])
        .await;
    world.configure_keys(&section(false));
    world.buys_monthly("bob").await;
    world.replays_alike().await;
    assert_eq!(world.count(PLAIN).await, 0);
    world.stop().await;
}

/// A row that waits is taken by whoever can open it: the one that was sealed last, too, and by a
/// server that was not there when the key was made.
#[tokio::test(flavor = "multi_thread")]
async fn another_replica_reads_what_one_has_sealed() {
    let mut world = World::start().await;
    world.rest().await;
    let receiver = world
        .replica(
            Roles {
                serve: false,
                webhooks: true,
                worker: false,
            },
            |_| {},
        )
        .await;
    let url = receiver.webhooks_url().expect("webhooks");
    let webhooks = entitled::sandbox::Webhooks {
        app_store: Some(format!("{url}/webhooks/app-store")),
        ..Default::default()
    };
    world.stores().set_webhooks(webhooks).expect("told");
    world.stores().set_idle_hook(|| Box::pin(async {}));
    let bought = world.buy_apple("alice", MONTHLY, None).await;
    let waiting = "select count(*) from raw_notifications where status = 'sealed'";
    for _ in 0..100 {
        if world.count(waiting).await > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(world.count(waiting).await > 0, "kept, and read by nobody");
    let older = "select count(*) from raw_notifications where status = 'received'";
    assert_eq!(
        world.count(older).await,
        0,
        "a binary before leaves it alone"
    );
    let worker = Roles {
        serve: false,
        webhooks: false,
        worker: true,
    };
    let worker = world.replica(worker, |_| {}).await;
    assert!(worker.idle(std::time::Duration::from_secs(10)).await);
    assert_eq!(world.count(waiting).await, 0);
    let claims = payload_of(&bought.signed_transaction);
    let id = claims["originalTransactionId"].as_str().expect("an id");
    assert!(!world.chain_of(id).await.is_empty());
    worker.stop().await;
    receiver.stop().await;
    world.stop().await;
}
