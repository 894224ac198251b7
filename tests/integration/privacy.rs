//! Erasing and exporting an account: everything of it is told, then nothing of it is left but money
//! that names nobody.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;

use entitled::proto::{
    EraseAccountRequest, EraseAccountResponse, ErasureOutcome, ExportAccountRequest,
};
use entitled::sandbox::Store;
use serde_json::Value;
use sqlx::Row as _;
use tonic::{Code, Status};

use crate::accounts::with;
use crate::process::eventually;
use crate::scene::{MONTHLY, Person, google_buy};
use crate::support::{Device, World, assert_refused, is_active};

/// What an operator wrote that should not have been written.
const WORDS: &str = "canary-words-of-alice-from-Lisbon";
const EVERYTHING: [&str; 4] = ["replay", "--since", "2000-01-01T00:00:00Z", "--json"];

pub async fn erase(
    world: &World,
    token: &str,
    account: &str,
    reference: &str,
) -> Result<EraseAccountResponse, Status> {
    let request = EraseAccountRequest {
        account: account.into(),
        reference: reference.into(),
    };
    let answer = with(world, token).await.erase_account(request).await?;
    Ok(answer.into_inner())
}

pub async fn export(world: &World, token: &str) -> Value {
    let request = ExportAccountRequest::default();
    let answer = with(world, token).await.export_account(request).await;
    let mut pieces = answer.expect("a document").into_inner();
    let mut document = Vec::new();
    while let Some(piece) = pieces.message().await.expect("a piece") {
        document.extend(piece.piece);
    }
    serde_json::from_slice(&document).expect("JSON")
}

/// The whole database as text, as a backup would have it; bytes are in hex.
pub async fn dump(world: &World) -> String {
    let output = tokio::process::Command::new(pg("pg_dump"))
        .args(["--inserts", "--no-owner", &world.database_url])
        .output()
        .await
        .expect("pg_dump runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A program of the newest Postgres that is installed.
fn pg(program: &str) -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut found: Vec<PathBuf> = installed
        .filter_map(|version| Some(version.ok()?.path().join("bin").join(program)))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| program.into())
}

/// The status that a stream ends with.
async fn over(device: &mut Device) -> Status {
    let ended = async {
        loop {
            match device.stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("ended without a word"),
                Err(status) => return status,
            }
        }
    };
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), ended).await;
    ended.expect("in time")
}

pub fn stands_in(dump: &str, canary: &str) -> bool {
    let hex: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
    dump.contains(canary) || dump.contains(&hex)
}

/// What of an erased account may not be left, wherever it stands.
const LEFT_OVER: &str = "
    with persons as (select id, erased_at from accounts
                     where id = $1::uuid or merged_into = $1::uuid)
    select 'an account that lives' from persons where erased_at is null
    union all select 'an identity' from account_identities
              where account_id in (select id from persons)
    union all select 'a store token' from store_tokens where account_id in (select id from persons)
    union all select 'a session' from token_sessions
              where account_id in (select id from persons) and revoked_at is null
    union all select 'a purchase' from purchase_chains
              where owner_account_id in (select id from persons)
    union all select 'the wish for a purchase' from ownership_claims
              where account_id in (select id from persons)
    union all select 'use' from consumption where account_id in (select id from persons)
    union all select 'a gift' from grants where account_id in (select id from persons)
    union all select 'what it read' from snapshot_history
              where account_id in (select id from persons)
    union all select 'goods' from deliveries where account_id in (select id from persons)
              and (claimed_at is null or claim_key is not null)
    union all select 'an event''s words' from subscription_events e join persons p
              on p.id = e.account_id and e.at <= p.erased_at
              where detail is not null or (chain_id is null and inputs is not null)
    union all select 'an operator''s words' from operator_actions
              where account_id in (select id from persons)
                and (outcome is not null or (reason <> '' and action <> 'erase account'))
    union all select 'a party of a decision' from subscription_events e, persons p
              where inputs #>> '{step,step,tokens}' like '%' || p.id || '%'";

/// Nothing of an erased account is left: no row of its own, no credential, nothing of what was its
/// purchase alone, and none of its names anywhere in a dump of the whole database.
pub async fn nothing_is_left(world: &World, account: &str, names: &[&str]) {
    let pool = world.tables().await;
    let left: Vec<String> = sqlx::query_scalar(LEFT_OVER)
        .bind(account)
        .fetch_all(&pool)
        .await
        .expect("looked at");
    pool.close().await;
    assert_eq!(left, [""; 0], "of {account}");
    let dump = dump(world).await;
    for name in names {
        let place = dump.lines().find(|line| stands_in(line, name));
        assert_eq!(place, None, "{name} is left");
    }
}

/// Two stores, a gift, a use, a device: something in every table.
async fn lives(world: &World, name: &str) -> Person {
    let person = world.person(name).await;
    let token = Some(person.store_token.as_str());
    let apple = world.buy_apple(name, MONTHLY, token).await;
    person
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("bound");
    let buy = google_buy(name, "premium-monthly", token);
    let google = world.stores().buy_google_play(&buy).await.expect("bought");
    person
        .bind_google(&google.purchase_token)
        .await
        .expect("bound");
    let named = format!("dev:{name}");
    let gift = [
        "grant",
        &named,
        "pro_access",
        "--reason",
        WORDS,
        "--actor",
        "sue",
    ];
    world.command(&gift).await;
    world.settled().await;
    person
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_account_leaves_money_that_names_nobody() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    let bought = world.buy_apple("alice", MONTHLY, token).await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    let gift = [
        "grant",
        "dev:alice",
        "pro_access",
        "--reason",
        WORDS,
        "--actor",
        "sue",
    ];
    world.command(&gift).await;
    world.settled().await;
    let mut device = world.device("alice").await;
    device.until_active("pro_access").await;
    let before = dump(&world).await;
    for canary in [alice.store_token.as_str(), WORDS, "'alice'"] {
        assert!(stands_in(&before, canary), "{canary} is planted");
    }
    let money = "select jsonb_agg(jsonb_build_array(account_id, transaction_id, amount_micros)
        order by id)::text from transactions";
    let books = world.row(money).await;

    let own = world.token("alice");
    let erased = erase(&world, &own, "", "").await.expect("erased");
    assert_eq!(erased.outcome(), ErasureOutcome::Erased);
    assert_eq!(erased.purchases, 1);

    // The stream ends, and says so.
    let status = over(&mut device).await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");

    // Nothing that names her is left, money is.
    let after = dump(&world).await;
    for canary in ["'alice'", "\"alice\""] {
        assert!(!stands_in(&after, canary), "{canary} is left");
    }
    let names = [alice.store_token.as_str(), WORDS];
    nothing_is_left(&world, &alice.account, &names).await;
    assert_eq!(world.row(money).await, books);
    let readable = "select (select count(*) from chain_keys where wrapped is not null)
        + (select count(*) from raw_notifications where chain_key_id is null and body <> '')
        + (select count(*) from purchase_chains where owner_account_id is not null)
        + (select count(*) from account_identities) + (select count(*) from store_tokens)";
    assert_eq!(world.count(readable).await, 0);

    // Asked again: nothing more. By an operator, with a reference that names nobody.
    let operator = crate::tickets::token(&world, "sue", "entitled.admin");
    let again = erase(&world, &operator, &alice.account, "GDPR-17")
        .await
        .expect("told");
    assert_eq!(again.outcome(), ErasureOutcome::AlreadyErased);
    assert_eq!(again.erased_at, erased.erased_at);
    for reference in ["", "alice@example.com", "asked by Alice"] {
        let refused = erase(&world, &operator, &alice.account, reference).await;
        let refused = refused.expect_err("refused");
        assert_refused(&refused, Code::InvalidArgument, "REQUEST_INVALID");
    }
    let unknown = erase(&world, &operator, "dev:alice", "GDPR-17")
        .await
        .expect("told");
    assert_eq!(unknown.outcome(), ErasureOutcome::Unknown);

    // Her next call makes a new account, which has nothing and gets nothing for what she kept.
    let anew = world.person("alice").await;
    assert_ne!(anew.account, alice.account);
    assert!(!is_active(&anew.now().await, "pro_access"));
    let refused = anew.bind_apple(&bought.signed_transaction).await;
    let refused = refused.expect_err("signed before the erasure");
    assert_refused(&refused, Code::FailedPrecondition, "PROOF_INSUFFICIENT");
    assert!(!is_active(&anew.now().await, "pro_access"));

    // What the store says later is heard, and the purchase stays nobody's.
    world
        .stores()
        .advance(crate::scene::period("P1M"))
        .await
        .expect("a month");
    world.settled().await;
    let failed =
        "select count(*) from raw_notifications where status in ('failed', 'received', 'sealed')";
    assert_eq!(world.count(failed).await, 0);
    let owned = "select count(*) from purchase_chains where owner_account_id is not null";
    assert_eq!(world.count(owned).await, 0);
    let told = world.command(&EVERYTHING).await;
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["differences"], serde_json::json!([]), "{told}");
    assert!(told["purchases"][0]["erased"].as_i64() > Some(0), "{told}");

    // Whoever has the purchase now, by a transaction that the store signs now, may have it.
    let fresh = world
        .stores()
        .signed_transaction(&bought.transaction_id)
        .expect("signed");
    anew.bind_apple(&fresh).await.expect("bound");
    assert!(is_active(&anew.now().await, "pro_access"));
    let old = "select count(*) from accounts a join entitlement_snapshots s on s.account_id = a.id
        where erased_at is not null and exists (select from jsonb_array_elements(s.body->'entitlements') e
            where jsonb_array_length(e->'sources') > 0)";
    assert_eq!(world.count(old).await, 0);
    world.stop().await;
}

/// Tables that are reached from accounts and purchases and are no part of an export, with why.
const LEFT_OUT: [(&str, &str); 1] = [("chain_keys", "what they open is in the export")];

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_every_table_that_leads_to_the_account() {
    let world = World::start().await;
    lives(&world, "alice").await;
    lives(&world, "bob").await;
    let bob = world.person("bob").await;
    let document = export(&world, &world.token("alice")).await;
    let tables = document["tables"].as_object().expect("tables");
    let told: BTreeSet<&str> = tables.keys().map(String::as_str).collect();

    // Everything that a foreign key, or a column that names an account or a purchase, leads to.
    let pool = world.tables().await;
    let reached = sqlx::query(
        "with recursive reached as (
             select c.oid, c.relname::text as name from pg_class c
             where c.relname in ('accounts', 'purchase_chains') and c.relkind = 'r'
             union
             select c.oid, c.relname::text from reached r
             join pg_constraint f on f.confrelid = r.oid and f.contype = 'f'
             join pg_class c on c.oid = f.conrelid and not c.relispartition
         )
         select name from reached union
         select table_name::text from information_schema.columns
         where table_schema = 'public' and column_name ~ '^(.*_)?(account|chain)_id$'
           and table_name not in (select c.relname::text from pg_class c where c.relispartition)",
    );
    let reached = reached.fetch_all(&pool).await.expect("the schema");
    pool.close().await;
    for table in reached.iter().map(|row| row.get::<String, _>(0)) {
        let left_out = LEFT_OUT.iter().any(|(name, _)| *name == table);
        assert!(
            told.contains(table.as_str()) || left_out,
            "{table} leads to an account: export it (storage/export.rs), forget it \
             (storage/erasure.rs), or say why not"
        );
    }
    for table in [
        "account_identities",
        "store_tokens",
        "grants",
        "transactions",
        "purchase_chains",
        "raw_notifications",
        "store_answers",
        "subscription_events",
        "entitlement_snapshots",
    ] {
        let rows = tables[table].as_array().expect("rows");
        assert!(!rows.is_empty(), "{table} is empty");
    }
    let body = &tables["raw_notifications"][0]["body"];
    assert!(body.is_object(), "a document reads as it came: {body}");
    let text = document.to_string();
    assert!(text.contains(WORDS), "hers, too");
    for another in [bob.account.as_str(), bob.store_token.as_str(), "\"bob\""] {
        assert!(!text.contains(another), "{another} is not hers");
    }
    // The same by the command.
    let file = world.stack.address.config.with_file_name("alice.json");
    let out = file.to_str().expect("a path");
    world.command(&["export", "dev:alice", "--out", out]).await;
    let written = std::fs::read_to_string(&file).expect("written");
    let written: Value = serde_json::from_str(&written).expect("JSON");
    assert_eq!(written["tables"]["grants"], document["tables"]["grants"]);
    // It costs much: twice within an hour, each account for itself.
    export(&world, &world.token("alice")).await;
    let request = ExportAccountRequest::default();
    let often = with(&world, &world.token("alice"))
        .await
        .export_account(request)
        .await;
    let often = often.expect_err("a third time");
    assert_refused(&often, Code::ResourceExhausted, "RATE_LIMITED");
    export(&world, &world.token("bob")).await;
    world.stop().await;
}

const MANY_EVENTS: &str = "insert into subscription_events
        (account_id, at, source, decision, reason, detail)
    select id, now(), 'proof', 'skip', 'owned_by_another', repeat('x', 400)
    from accounts, generate_series(1, 50000)";
/// Transactions of exports that are under way.
const EXPORTING: &str = "select count(*) from pg_stat_activity
    where datname = current_database() and application_name = 'entitled' and state <> 'idle'
      and query like '%to_jsonb%'";

/// However much there is of an account, it is sent as it is read, and read as it is taken; for whoever
/// has gone nothing more is read.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_read_no_faster_than_it_is_taken() {
    let world = World::start().await;
    world.person("alice").await;
    let pool = world.tables().await;
    let planted = sqlx::query(MANY_EVENTS).execute(&pool).await;
    planted.expect("planted");
    pool.close().await;
    let mut client = with(&world, &world.token("alice")).await;
    let answer = client.export_account(ExportAccountRequest::default()).await;
    let mut pieces = answer.expect("a document").into_inner();
    let first = pieces.message().await.expect("a piece").expect("the first");
    assert!(first.piece.starts_with(b"{"), "it begins");
    assert_eq!(world.count(EXPORTING).await, 1, "the rest is not read yet");
    drop(pieces);
    eventually("nobody reads for those who have gone", async || {
        world.count(EXPORTING).await == 0
    })
    .await;
    let whole = export(&world, &world.token("alice")).await;
    let events = whole["tables"]["subscription_events"].as_array();
    assert_eq!(events.map(Vec::len), Some(50_000));
    assert_eq!(world.count(EXPORTING).await, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn binds_and_an_erasure_at_once_leave_nothing_behind() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let mut proofs = Vec::new();
    for buyer in ["ann", "ben", "cid", "dan", "eve", "fay"] {
        let bought = world.buy_google(buyer, "premium-monthly", None).await;
        proofs.push(bought.purchase_token);
    }
    let token = world.token("alice");
    let binds = proofs.iter().map(|proof| alice.bind_google(proof));
    let (binds, erased, again) = futures::join!(
        futures::future::join_all(binds),
        erase(&world, &token, "", ""),
        erase(&world, &token, "", ""),
    );
    for bind in binds.into_iter().filter_map(Result::err) {
        assert_ne!(bind.code(), Code::Internal, "{bind:?}");
    }
    erased.expect("an outcome");
    again.expect("an outcome");
    world.settled().await;
    let left = "select (select count(*) from purchase_chains c join accounts a
            on a.id = c.owner_account_id where a.erased_at is not null)
        + (select count(*) from ownership_claims o join accounts a on a.id = o.account_id
            where a.erased_at is not null)
        + (select count(*) from account_identities i join accounts a on a.id = i.account_id
            where a.erased_at is not null)";
    assert_eq!(world.count(left).await, 0);
    let at_once = "select count(*) from accounts where erased_at is not null";
    assert!(world.count(at_once).await >= 1);
    world.stop().await;
}

/// A backup knows nothing of what was erased since: it is told from the list.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_forgets_again() {
    let world = World::start().await;
    let alice = lives(&world, "alice").await;
    lives(&world, "bob").await;
    let backup = dump(&world).await;
    let erase = [
        "erase",
        &alice.account,
        "--reference",
        "GDPR-17",
        "--yes",
        "--json",
    ];
    let told: Value = serde_json::from_str(&world.command(&erase).await).expect("JSON");
    assert_eq!(told["outcome"], "erased");
    let list = world.command(&["erasures", "list"]).await;
    assert_eq!(list.lines().count(), 1, "{list}");
    let file = world.catalog_file("erasures.jsonl", &list);

    let cluster = crate::support::cluster().await;
    let made = cluster.create_database("restored_backup", None).await;
    made.expect("an empty database");
    let restored = cluster.url("restored_backup");
    let mut psql = tokio::process::Command::new(pg("psql"))
        .args(["-q", "-v", "ON_ERROR_STOP=1", &restored])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("psql runs");
    let mut stdin = psql.stdin.take().expect("an input");
    tokio::io::AsyncWriteExt::write_all(&mut stdin, backup.as_bytes())
        .await
        .expect("taken");
    drop(stdin);
    assert!(psql.wait().await.expect("ends").success());
    let repeated = tokio::process::Command::new(env!("CARGO_BIN_EXE_entitled"))
        .args(["erasures", "repeat"])
        .arg(&file)
        .arg("--config")
        .arg(&world.stack.address.config)
        .env("ENTITLED__DATABASE__URL", &restored)
        .output()
        .await
        .expect("the program runs");
    let printed = String::from_utf8_lossy(&repeated.stdout).into_owned();
    assert!(printed.contains("1 erased again"), "{repeated:?}");
    let pool = sqlx::PgPool::connect(&restored).await.expect("restored");
    let left: Vec<String> = sqlx::query_scalar("select subject from account_identities order by 1")
        .fetch_all(&pool)
        .await
        .expect("identities");
    assert_eq!(left, ["bob"]);
    pool.close().await;
    world.stop().await;
}

/// A replica that did not do it knows within seconds.
#[tokio::test(flavor = "multi_thread")]
async fn every_replica_ends_the_streams() {
    let world = World::start().await;
    let other = world.replica(crate::scene::READER, |_| {}).await;
    let url = other.grpc_url().expect("gRPC");
    lives(&world, "alice").await;
    let client = entitled::cli::client::Client::connect(&url, &world.token("alice")).await;
    let mut device = Device::open(client.expect("a client")).await;
    device.until_active("pro_access").await;
    erase(&world, &world.token("alice"), "", "")
        .await
        .expect("erased");
    over(&mut device).await;
    let client = entitled::cli::client::Client::connect(&url, &world.token("alice")).await;
    let device = Device::open(client.expect("a client")).await;
    assert!(!is_active(&device.latest, "pro_access"), "somebody new");
    let asked = world.asked(Store::AppStore);
    assert!(asked > 0);
    other.stop().await;
    world.stop().await;
}
