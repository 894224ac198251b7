//! Accounts without a sign-in that have come to nothing go; whatever names one keeps it.

use std::collections::BTreeSet;

use entitled::proto::MintTokenRequest;
use futures::future::join_all;
use tonic::Code;

use super::{Phone, create, refresh, refused, with};
use crate::process::eventually;
use crate::support::{World, assert_refused};

/// Every column that may name an account, and a row that does. A new one belongs here, and among
/// what keeps an account (storage/unused_accounts.rs).
const NAMING: [(&str, &str); 16] = [
    (
        "consumption.account_id",
        "insert into consumption (account_id, consented, updated_at) values ($1, true, now())",
    ),
    (
        "credit_entries.account_id",
        "insert into credit_entries (account_id, chain_id, transaction_id, credit, environment, seq,
             units, per_unit, amount, reason, at)
         values ($1, gen_random_uuid(), 't', 'coins', 'production', 0, 1, 1, 1, 'purchase', now())",
    ),
    (
        "deliveries.account_id",
        "insert into deliveries (chain_id, transaction_id, account_id, product, environment, units,
             created_at) values (gen_random_uuid(), 't', $1, 'p', 'production', 1, now())",
    ),
    (
        "entitlement_snapshots.account_id",
        "insert into entitlement_snapshots (account_id, revision, body, catalog_version)
         values ($1, 1, '{}', 1)",
    ),
    (
        "grants.account_id",
        "insert into grants (id, account_id, entitlement, reason, actor, created_at)
         values (gen_random_uuid(), $1, 'export', 'r', 'a', now())",
    ),
    (
        "operator_actions.account_id",
        "insert into operator_actions (operation_id, account_id, action, actor, reason, started_at)
         values ('o', $1, 'refund', 'a', 'r', now())",
    ),
    (
        "ownership_changes.from_account_id",
        "insert into ownership_changes (chain_id, from_account_id, to_account_id, reason, at)
         select gen_random_uuid(), $1, id, 'claimed', now() from accounts order by id desc limit 1",
    ),
    (
        "ownership_changes.to_account_id",
        "insert into ownership_changes (chain_id, to_account_id, reason, at)
         values (gen_random_uuid(), $1, 'claimed', now())",
    ),
    (
        "ownership_claims.account_id",
        "insert into ownership_claims (id, chain_id, account_id, opened_at, opened_seq)
         values (gen_random_uuid(), gen_random_uuid(), $1, now(), 0)",
    ),
    (
        "purchase_chains.owner_account_id",
        "insert into purchase_chains (id, provider, app, head_kind, head_value, created_at,
             owner_account_id, owner_since)
         values (gen_random_uuid(), 'app_store', 'a', 'original_transaction_id', '1', now(), $1, now())",
    ),
    (
        "snapshot_history.account_id",
        "insert into snapshot_history (account_id, revision, at, catalog_version, body)
         values ($1, 1, now(), 1, '{}')",
    ),
    (
        "subscription_events.account_id",
        "insert into subscription_events (account_id, at, source, decision, reason)
         values ($1, now(), 'proof', 'skip', 'owned_by_another')",
    ),
    (
        "transactions.account_id",
        "insert into transactions (chain_id, transaction_id, product_id, environment, purchased_at,
             account_id) values (gen_random_uuid(), 't', 'p', 'production', now(), $1)",
    ),
    (
        "account_identities.account_id",
        "insert into account_identities (issuer, subject, account_id, created_at)
         values ('app', 'somebody', $1, now())",
    ),
    (
        "store_tokens.account_id",
        "insert into store_tokens (token, account_id, created_at, kind)
         values ('their-old-one', $1, now(), 'registered')",
    ),
    (
        "token_sessions.account_id",
        "insert into token_sessions (id, account_id, family, current_hash, expires_at)
         values (gen_random_uuid(), $1, 'f', 'h', now() - interval '89 days')",
    ),
];

/// What names an account otherwise.
const NAMING_BESIDES: [(&str, &str); 4] = [
    (
        "an account that became part of it",
        "insert into accounts (id, created_at, merged_into) values (gen_random_uuid(), now(), $1)",
    ),
    (
        "a purchase that was made with its token",
        "insert into store_subscription_state (chain_id, known, updated_at)
         select gen_random_uuid(), jsonb_build_object('state',
             jsonb_build_object('account_token', upper(token))), now()
         from store_tokens where account_id = $1",
    ),
    (
        "an erasure",
        "update accounts set erased_at = now(), ended_at = now() where id = $1",
    ),
    (
        "a sign-in",
        "update account_identities set anonymous = false where account_id = $1",
    ),
];

const COLUMNS: &str = "select string_agg(c.table_name || '.' || c.column_name, ' ')
    from information_schema.columns c join pg_class t on t.relname = c.table_name
    where c.table_schema = 'public' and c.column_name ~ '^(.*_)?account_id$'
      and t.relkind in ('r', 'p') and not t.relispartition";

/// Rows that name an account that is not there, over all those columns.
const DANGLING: &str = "select coalesce(sum((xpath('/row/n/text()', query_to_xml(format(
        'select count(*) as n from %1$I t where %2$I is not null
             and not exists (select from accounts a where a.id = t.%2$I)',
        c.table_name, c.column_name), false, true, '')))[1]::text::bigint), 0)::bigint
    from information_schema.columns c join pg_class t on t.relname = c.table_name
    where c.table_schema = 'public' and c.column_name ~ '^(.*_)?account_id$'
      and t.relkind in ('r', 'p') and not t.relispartition";

const ACCOUNTS: &str = "select count(*) from accounts";

async fn let_die(world: &World, sessions: &str, days: i32) {
    let pool = world.tables().await;
    let aged = sqlx::query(
        "update token_sessions set expires_at = now() - make_interval(days => $2)
         where account_id::text like $1",
    );
    let aged = aged.bind(sessions).bind(days).execute(&pool).await;
    aged.expect("aged");
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_came_to_nothing_go_and_nothing_is_left_of_them() {
    let world = World::start().await;
    let known: BTreeSet<String> = world
        .row(COLUMNS)
        .await
        .split(' ')
        .map(str::to_owned)
        .collect();
    let planted: BTreeSet<String> = NAMING.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(known, planted, "every column that may name an account");

    let nothing = [create(&world).await, create(&world).await];
    let mut kept = Vec::new();
    for (what, statement) in NAMING.iter().chain(&NAMING_BESIDES) {
        let made = create(&world).await.expect("an account");
        kept.push((*what, *statement, made.account.expect("an account").id));
    }
    let_die(&world, "%", 91).await;
    let pool = world.tables().await;
    for (what, statement, account) in &kept {
        let mut tx = pool.begin().await.expect("begun");
        sqlx::query("set local session_replication_role = replica")
            .execute(&mut *tx)
            .await
            .expect("rows without what they belong to");
        let id: sqlx::types::Uuid = account.parse().expect("an id");
        let done = sqlx::query(*statement).bind(id).execute(&mut *tx).await;
        assert_eq!(done.expect(what).rows_affected(), 1, "{what}");
        tx.commit().await.expect("kept");
    }
    let lately = Phone::first_start(&world).await;
    let_die(&world, &lately.person.account, 89).await;
    let living = Phone::first_start(&world).await;
    let provider = world.nobody("visitor").await;

    let before = world.count(ACCOUNTS).await;
    let counted = world.command(&["retention", "--dry-run"]).await;
    let line = counted
        .lines()
        .find(|line| line.contains("anonymous_accounts"))
        .expect("told");
    assert!(line.contains("90 days") && line.contains(" 2 "), "{line}");
    assert_eq!(world.count(ACCOUNTS).await, before, "only counted");
    world.command(&["retention"]).await;
    assert_eq!(world.count(ACCOUNTS).await, before - 2);
    for (what, _, account) in &kept {
        let there =
            sqlx::query_scalar::<_, i64>("select count(*) from accounts where id::text = $1")
                .bind(account)
                .fetch_one(&pool)
                .await;
        assert_eq!(there.expect("counted"), 1, "{what} keeps the account");
    }
    // By those planted alone, which name purchases and accounts that never were.
    assert_eq!(world.count(DANGLING).await, 0);
    pool.close().await;
    for made in nothing {
        let credentials = made.expect("made").credentials.expect("credentials");
        let over = refresh(&world, &credentials.refresh_token).await;
        let over = over.expect_err("its session is gone");
        assert_refused(&over, Code::Unauthenticated, "REFRESH_TOKEN_INVALID");
        let gone = refused(&world, &credentials.access_token).await;
        assert_eq!(gone.code(), Code::Unauthenticated, "{gone:?}");
    }
    refresh(&world, &living.credentials.refresh_token)
        .await
        .expect("in use");
    provider.now().await;
    // Of a snapshot that was planted no event tells.
    let planted = "with gone as (delete from entitlement_snapshots where body = '{}' returning 1)
        select count(*) from gone";
    assert_eq!(world.count(planted).await, 1);
    world.stop().await;
}

/// A refresh that holds its session while the account is looked at: it is waited for, and the account
/// is in use.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_in_that_moment_keeps_the_account() {
    let world = World::start().await;
    let phone = Phone::first_start(&world).await;
    let gone = Phone::first_start(&world).await;
    let_die(&world, "%", 91).await;
    let pool = world.tables().await;
    let mut tx = pool.begin().await.expect("begun");
    sqlx::query(
        "update token_sessions set expires_at = now() + interval '1 day'
         where account_id::text = $1",
    )
    .bind(&phone.person.account)
    .execute(&mut *tx)
    .await
    .expect("not committed yet");
    let (trimmed, ()) = futures::join!(world.try_command(&["retention"]), async {
        eventually("the trimming waits for the session", async || {
            let waiting = "select count(*) from pg_locks where not granted";
            world.count(waiting).await > 0
        })
        .await;
        tx.commit().await.expect("refreshed");
    });
    trimmed.expect("trimmed");
    pool.close().await;
    assert_eq!(world.count(ACCOUNTS).await, 1, "the other one is gone");
    let kept = refresh(&world, &phone.credentials.refresh_token).await;
    kept.expect("as if nothing had been");
    let over = refresh(&world, &gone.credentials.refresh_token).await;
    over.expect_err("gone");
    world.stop().await;
}

/// Purchases come to such accounts by tokens that a backend minted, while two replicas trim.
#[tokio::test(flavor = "multi_thread")]
async fn no_purchase_comes_to_an_account_that_is_being_deleted() {
    let world = World::start().await;
    let mut service = with(&world, &world.service_token()).await;
    let mut phones = Vec::new();
    for number in 0..12 {
        let made = create(&world).await.expect("an account");
        let account = made.account.expect("an account").id;
        let minted = service
            .mint_token(MintTokenRequest {
                account: account.clone(),
                ttl: None,
            })
            .await;
        let token = minted.expect("a token").into_inner().access_token;
        let bought = world
            .buy_google(&format!("buyer-{number}"), "premium-monthly", None)
            .await;
        phones.push((token, bought.purchase_token));
    }
    let_die(&world, "%", 91).await;
    let binds = phones.iter().map(async |(token, proof)| {
        let mut client = world.client_with_token(token).await;
        client.bind_google_play("com.example.app", proof).await
    });
    let retention = ["retention"];
    let (binds, one, other) = futures::join!(
        join_all(binds),
        world.try_command(&retention),
        world.try_command(&retention)
    );
    one.expect("trimmed");
    other.expect("trimmed");
    world.settled().await;
    for refused in binds.iter().filter_map(|bind| bind.as_ref().err()) {
        assert_ne!(refused.code(), Code::Internal, "{refused:?}");
    }
    let bound = binds.iter().filter(|bind| bind.is_ok()).count();
    let owned =
        "select count(*) from purchase_chains c join accounts a on a.id = c.owner_account_id";
    assert_eq!(world.count(owned).await, bound as i64);
    assert_eq!(world.count(DANGLING).await, 0);
    world.command(&retention).await;
    assert_eq!(world.count(ACCOUNTS).await, bound as i64);
    world.stop().await;
}
