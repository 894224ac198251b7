//! Statements that run all the time, or over all that is kept, find their rows by an index: each as
//! the program sends it, planned by Postgres on tables that are filled.

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool, Row as _};

use crate::scene::READER;
use crate::support::World;

/// A little of everything is old, as after a day; duties are due, most of them later.
const FILLED: &str = "
    set session_replication_role = replica;
    insert into purchase_chains (id, provider, app, head_kind, head_value, created_at)
        select gen_random_uuid(), 'google_play', 'example-android', 'purchase_token', 'token-' || n,
               now() from generate_series(1, 20000) n;
    insert into accounts (id, created_at)
        select md5('a' || n)::uuid, now() from generate_series(1, 20000) as n;
    insert into account_identities (issuer, subject, account_id, created_at)
        select 'dev', 'person-' || n, md5('a' || n)::uuid, now() from generate_series(1, 20000) as n;
    insert into store_tokens (token, account_id, created_at)
        select md5('t' || n)::uuid::text, md5('a' || n)::uuid, now()
        from generate_series(1, 20000) as n;
    insert into chain_aliases (provider, app, kind, value, chain_id)
        select provider, app, head_kind, head_value, id from purchase_chains;
    insert into transactions (chain_id, transaction_id, product_id, environment, purchased_at)
        select id, 'order-' || head_value, 'premium', 'production', now() from purchase_chains;
    insert into ingress_keys (source, event_id, first_received_at, last_received_at)
        select 'app_store', 'event-' || n, now() - n * interval '1731 seconds',
               now() - n * interval '1731 seconds' from generate_series(1, 20000) n;
    insert into raw_notifications (source, id, event_id, received_at, body, status)
        select 'app_store', gen_random_uuid(), 'event-' || n, now() - n * interval '390 seconds', '',
               'processed' from generate_series(1, 20000) n;
    insert into store_answers (chain_id, fetched_at, calls, statuses, bodies)
        select id, now() - (row_number() over ()) * interval '1731 seconds', '{}', '{}', '{}'
        from purchase_chains;
    insert into snapshot_history (account_id, revision, at, catalog_version, body)
        select gen_random_uuid(), n, now() - n * interval '1731 seconds', 1, '{}'
        from generate_series(1, 20000) n;
    insert into ownership_claims (id, chain_id, account_id, opened_at, opened_seq, verdict, decided_at)
        select gen_random_uuid(), id, gen_random_uuid(), now(), 1, 'won',
               now() - (row_number() over ()) * interval '1731 seconds' from purchase_chains;
    insert into duties (chain_id, transaction_id, kind, deadline, done_at)
        select id, 'done', 'acknowledge', now() - interval '500 days',
               now() - (row_number() over ()) * interval '1731 seconds' from purchase_chains;
    insert into duties (chain_id, transaction_id, kind, deadline)
        select id, 'open', 'finish', now() + (row_number() over ()) * interval '1 minute'
        from purchase_chains;
    insert into ownership_changes (chain_id, from_account_id, to_account_id, reason, at)
        select id, gen_random_uuid(), gen_random_uuid(), 'policy', now() from purchase_chains;
    insert into store_subscription_state (chain_id, known, updated_at)
        select id, jsonb_build_object('state', jsonb_build_object('account_token', gen_random_uuid())),
               now() from purchase_chains;
    set session_replication_role = default;
    analyze";

const OLD: &str = "now() - interval '400 days', 1000, false";
const WALKED: &str = "now() - interval '400 days', 1000, false, now() - interval '405 days', 7";

/// Part of a statement, its parameters, and the indexes that it must go by.
const HOT: &[(&str, &str, &[&str])] = &[
    (
        "delete from ingress_keys k using old",
        OLD,
        &["ingress_keys_age", "notifications_event_id_idx"],
    ),
    (
        "delete from raw_notifications r using old\n               where r.source = old.source and r.id = old.id and not $3",
        "now() - interval '90 days', 1000, false",
        &["notifications_received_at_idx"],
    ),
    (
        "delete from store_answers",
        WALKED,
        &["store_answers_fetched", "store_answers_chain"],
    ),
    (
        "delete from snapshot_history h using old",
        "now() - interval '400 days', 1000, false, now() - interval '405 days',
         '00000000-0000-0000-0000-000000000000', 7",
        &["snapshot_history_age"],
    ),
    (
        "delete from ownership_claims c using old",
        OLD,
        &["ownership_claims_age"],
    ),
    (
        "select 1 from raw_notifications where row_key is null and body <> ''",
        "10001",
        &["notifications_id_idx", "store_answers_plain"],
    ),
    ("delete from duties d using old", OLD, &["duties_age"]),
    (
        "update duties set attempts = attempts + 1",
        "16, interval '1 minute', now()",
        &["duties_deadline"],
    ),
    // What support looks for.
    (
        "select account_id from store_tokens where token = any(array",
        "'T'",
        &["store_tokens_pkey"],
    ),
    (
        "order by 1) as \"identities!\"",
        "'00000000-0000-0000-0000-000000000000', 20",
        &[
            "accounts_pkey",
            "account_identities_account",
            "purchase_chains_owner",
        ],
    ),
    (
        "select chain_id, kind from chain_aliases where value = any($1)",
        "'{A,B}', 'A', '00000000-0000-0000-0000-000000000000', 20",
        &[
            "chain_aliases_value",
            "transactions_store_id",
            "purchase_chains_pkey",
        ],
    ),
    // What an erasure reaches.
    (
        "union select chain_id from ownership_changes where to_account_id = any($1)",
        "array['00000000-0000-0000-0000-000000000000']::uuid[]",
        &[
            "purchase_chains_owner",
            "ownership_claims_account",
            "ownership_changes_from",
            "ownership_changes_to",
            "store_tokens_account",
            "store_subscription_state_token",
        ],
    ),
];

/// Every statement of the program.
fn statements() -> Vec<String> {
    let files = std::fs::read_dir(".sqlx").expect("the descriptions of all statements");
    let read = files.map(|file| {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("readable");
        let description: Value = serde_json::from_str(&text).expect("JSON");
        description["query"].as_str().expect("a query").to_owned()
    });
    read.collect()
}

async fn plan(pool: &PgPool, statement: &str, parameters: &str) -> String {
    let mut session = pool.acquire().await.expect("a session");
    let run = async |sql: String, session: &mut sqlx::PgConnection| {
        let done = sqlx::raw_sql(AssertSqlSafe(sql.clone()))
            .fetch_all(session)
            .await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"))
    };
    run(format!("prepare hot as {statement}"), &mut session).await;
    let explain = format!("explain execute hot({parameters})");
    let rows = run(explain, &mut session).await;
    run("deallocate hot".into(), &mut session).await;
    let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    lines.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_statements_go_by_their_indexes() {
    let world = World::with(|options| options.roles = READER).await;
    let pool = world.tables().await;
    let filled = sqlx::raw_sql(FILLED).execute(&pool).await;
    filled.expect("filled");
    let statements = statements();
    for (part, parameters, indexes) in HOT {
        let hot: Vec<_> = statements.iter().filter(|s| s.contains(part)).collect();
        assert!(!hot.is_empty(), "no statement has {part:?}");
        for statement in hot {
            let plan = plan(&pool, statement, parameters).await;
            for index in *indexes {
                assert!(plan.contains(index), "not by {index}:\n{statement}\n{plan}");
            }
        }
    }
    pool.close().await;
    world.stop().await;
}
