//! Chains that turn out to be one, and chains that get their first owner: what belonged to them
//! before belongs to them after.

use std::time::Duration;

use entitled::app::Roles;
use entitled::cli::stack::EXAMPLE_CATALOG;
use entitled::proto::InactiveReason;
use entitled::sandbox::{Outage, Store};
use sqlx::{PgPool, Row as _};

use crate::process::eventually;
use crate::scene::{MONTHLY, READER, WORKER, google_buy, off, pro, webhooks_at};
use crate::support::{World, is_active, reason};

async fn change(pool: &PgPool, statement: &'static str, token: &str) {
    let done = sqlx::query(statement).bind(token).execute(pool).await;
    assert!(done.expect(statement).rows_affected() > 0, "{statement}");
}

/// As if the older purchase had been met first, by itself, and had charged once.
const APART: [&str; 3] = [
    "insert into purchase_chains (id, provider, app, head_kind, head_value, created_at)
     select gen_random_uuid(), provider, app, 'purchase_token', $1, created_at - interval '1 hour'
     from purchase_chains where merged_into is null",
    "update chain_aliases a set chain_id = c.id from purchase_chains c
     where c.head_value = $1 and a.value = $1",
    "insert into transactions (chain_id, transaction_id, product_id, environment, purchased_at)
     select id, 'GPA.older', 'premium', 'production', created_at
     from purchase_chains where head_value = $1",
];
/// What was decided about the newer one's duty.
const LET_GO: &str = "update duties set waived = 'too late', alarmed_at = now(), last_error = $1,
    due_at = 'infinity', attempts = 7, done_at = now()";
const DUTY: &str = "select concat_ws(' ', waived, last_error, attempts, due_at,
        alarmed_at is not null, done_at is not null)
    from duties d join purchase_chains c on c.id = d.chain_id and c.merged_into is null
    where d.kind = 'acknowledge'";
const CHANGES: &str = "select string_agg(o.reason || ' ' || coalesce(f.subject, '-') || ' '
        || t.subject, ', ' order by o.id)
    from ownership_changes o
    join purchase_chains c on c.id = o.chain_id and c.merged_into is null
    left join account_identities f on f.account_id = o.from_account_id
    left join account_identities t on t.account_id = o.to_account_id";
const CHARGES: &str = "select string_agg(transaction_id || ' ' || coalesce(i.subject, '-'), ', '
        order by transaction_id)
    from transactions t left join account_identities i using (account_id)
    where transaction_id = 'GPA.older'";

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_that_was_nobodys_takes_over_everything_of_its_part() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let token = Some(alice.store_token.as_str());
    let old = world.buy_google("alice", "premium-monthly", token).await;
    alice.bind_google(&old.purchase_token).await.expect("bound");
    world.settled().await;
    world.hold().await;
    let mut upgrade = google_buy("alice", "premium-yearly", token);
    upgrade.replaces = Some(old.purchase_token.clone());
    let bought = world.stores().buy_google_play(&upgrade).await;
    let new = bought.expect("upgraded").purchase_token;
    alice.bind_google(&new).await.expect("bound");
    world.settled().await;
    let part = world.chain_of(&new).await;
    let operator = ["--reason", "asked", "--actor", "sam"];
    let transfer = [["transfer", &part, "dev:bob"].as_slice(), &operator].concat();
    world.command(&transfer).await;
    world.settled().await;
    assert!(is_active(&bob.now().await, "pro_access"));
    assert_eq!(pro(&alice.now().await), off(InactiveReason::Transferred));

    let pool = world.tables().await;
    for statement in APART {
        change(&pool, statement, &old.purchase_token).await;
    }
    change(&pool, LET_GO, "refused").await;
    world.command(&["resync", "dev:bob"]).await;
    world.settled().await;

    let whole = world.chain_of(&new).await;
    assert_ne!(whole, part);
    assert_eq!(whole, world.chain_of(&old.purchase_token).await);
    assert!(is_active(&bob.now().await, "pro_access"));
    assert_eq!(world.row(CHANGES).await, "joined - bob");
    assert_eq!(
        world.row(CHARGES).await,
        "GPA.older bob",
        "its first owner's"
    );
    assert_eq!(world.row(DUTY).await, "too late refused 7 infinity t t");
    let at = world.stack.clock.now().to_rfc3339();
    let explain = ["explain", "dev:bob", "pro_access", "--json", "--at", &at];
    let explained = world.command(&explain).await;
    assert!(explained.contains("\"active\": true"), "{explained}");

    // Something else has the former owner derived again.
    let gift = [["grant", "dev:alice", "export"].as_slice(), &operator].concat();
    world.command(&gift).await;
    let told = alice.now().await;
    assert!(is_active(&told, "export"));
    assert_eq!(pro(&told), off(InactiveReason::Transferred));
    let explain = ["explain", "dev:alice", "pro_access", "--json"];
    let explained = world.command(&explain).await;
    assert!(
        explained.contains("\"reason\": \"transferred\""),
        "{explained}"
    );
    pool.close().await;
    world.stop().await;
}

/// Whose settle comes when, while the store is away: `$1` waits, or does not any more.
const PUT_OFF: &str = "update purchase_chains set not_before = 'infinity' where id::text = $1";
const GOES_ON: &str = "update purchase_chains set not_before = '-infinity' where id::text = $1";

#[tokio::test(flavor = "multi_thread")]
async fn of_two_open_claims_the_one_that_shows_the_live_purchase_counts() {
    let catalog = format!("{EXAMPLE_CATALOG}\n[ownership]\nproduction = \"transfer\"\n");
    let world = World::with(|options| options.catalog = catalog).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let old = world.buy_google("shared", "premium-monthly", None).await;
    alice.bind_google(&old.purchase_token).await.expect("first");
    world.settled().await;
    let whole = world.chain_of(&old.purchase_token).await;
    world.hold().await;
    world
        .stores()
        .set_outage(Store::GooglePlay, Some(Outage::Down503));
    let put_off = bob.bind_google(&old.purchase_token).await;
    assert_eq!(reason(&put_off.expect_err("away")), "STORE_UNAVAILABLE");
    let pool = world.tables().await;
    change(&pool, PUT_OFF, &whole).await;
    let mut upgrade = google_buy("shared", "premium-yearly", None);
    upgrade.replaces = Some(old.purchase_token.clone());
    let bought = world.stores().buy_google_play(&upgrade).await;
    let new = bought.expect("upgraded").purchase_token;
    let put_off = bob.bind_google(&new).await;
    assert_eq!(reason(&put_off.expect_err("away")), "STORE_UNAVAILABLE");
    let open = "select count(*) from ownership_claims where verdict is null";
    assert_eq!(world.count(open).await, 2);

    world.stores().set_outage(Store::GooglePlay, None);
    let decided = async || world.count(open).await == 0;
    eventually("both are one wish, decided", decided).await;
    change(&pool, GOES_ON, &whole).await;
    world.settled().await;
    assert_eq!(world.chain_of(&new).await, whole);
    assert!(is_active(&bob.now().await, "pro_access"));
    assert_eq!(pro(&alice.now().await), off(InactiveReason::Transferred));
    let won = "select string_agg(verdict, ' ') from ownership_claims c
        join account_identities i using (account_id) where i.subject = 'bob'";
    assert_eq!(world.row(won).await, "won");
    pool.close().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn charges_of_a_purchase_that_an_operator_hands_out_are_its_first_owners() {
    let world = World::start().await;
    let people = [world.person("alice").await, world.person("bob").await];
    let bought = world.buy_apple("somebody", MONTHLY, None).await;
    world.settled().await;
    let chain = world.chain_of(&bought.original_transaction_id).await;
    for (person, account) in people.iter().zip(["dev:alice", "dev:bob"]) {
        let transfer = ["transfer", &chain, account, "--reason", "r", "--actor", "s"];
        world.command(&transfer).await;
        world.settled().await;
        assert!(is_active(&person.now().await, "pro_access"));
    }
    let pool = world.tables().await;
    let owners = "select coalesce(account_id::text, 'nobody') from transactions";
    let rows = sqlx::query(owners).fetch_all(&pool).await.expect(owners);
    let owners: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(owners, [people[0].account.clone()], "kept with the charge");
    pool.close().await;
    world.stop().await;
}

/// Whoever reads notifications in a batch holds no new purchase's name while it waits for a chain:
/// the settle that holds the chain may be about to use that name.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_holds_no_name_while_it_waits_for_a_chain() {
    let mut world = World::start().await;
    let alice = world.person("alice").await;
    let known = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    world.settled().await;
    // Kept and not read: the new purchase first, then the known one.
    world.rest().await;
    let front = Roles {
        webhooks: true,
        ..READER
    };
    let front = world.replica(front, |_| {}).await;
    let url = front.webhooks_url().expect("webhooks");
    world
        .stores()
        .set_webhooks(webhooks_at(&url))
        .expect("told");
    world.stores().set_idle_hook(|| Box::pin(async {}));
    let new = world.buy_apple("bob", MONTHLY, None).await;
    let known = known.original_transaction_id;
    let turned = world.stores().set_auto_renew(&known, false).await;
    turned.expect("turned");

    let pool = world.tables().await;
    let mut settle = pool.begin().await.expect("a transaction");
    // Sooner than a deadlock is looked for, which would send the worker away.
    let briefly = sqlx::query("set local lock_timeout = '500ms'");
    briefly.execute(&mut *settle).await.expect("set");
    let chain: sqlx::types::Uuid = sqlx::query_scalar(
        "select id from purchase_chains where id = (
             select chain_id from chain_aliases where value = $1) for update",
    )
    .bind(&known)
    .fetch_one(&mut *settle)
    .await
    .expect("held");
    let worker = world.replica(WORKER, |_| {}).await;
    let waits = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    while world.count(waits).await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    sqlx::query(
        "insert into chain_aliases (provider, app, kind, value, chain_id)
         select provider, app, kind, $1, chain_id from chain_aliases where value = $2",
    )
    .bind(&new.original_transaction_id)
    .bind(&known)
    .execute(&mut *settle)
    .await
    .expect("nobody holds the name");
    settle.rollback().await.expect("let go");
    world.settled().await;
    let named = world.chain_of(&new.original_transaction_id).await;
    assert_ne!(named, chain.to_string());
    pool.close().await;
    worker.stop().await;
    front.stop().await;
    world.stop().await;
}
