//! Secrets and personal words that stores hand over, or that open doors: none of them reaches a log
//! at its finest level, or a column that is not made for it.

use entitled::sandbox::{CancelReason, CancelSurvey, GooglePlayAction, Webhooks, forge};

use crate::privacy;
use crate::process::{NOBODY, Process, eventually};
use crate::scene::{MONTHLY, google_buy, payload_of};
use crate::support::World;

const SURVEY: &str = "canary-survey-I-moved-to-Lisbon";
const PROFILE: &str = "canary-profile-of-a-child";
const APP_USER: &str = "canary-user@lisbon.example";
const BEARER: &str = "canary-bearer.that-is.nobodys";

#[tokio::test(flavor = "multi_thread")]
async fn canaries_stay_out_of_logs_and_columns() {
    let mut world = World::with(|options| options.roles = NOBODY).await;
    let process = Process::start(&world, "start", &[("RUST_LOG", "trace")]).await;
    process.serves(&mut world);
    world
        .stores()
        .set_webhooks(Webhooks {
            app_store: Some(process.webhooks("app-store")),
            google_play: Some(process.webhooks("google-play")),
            superwall: Some(process.webhooks("superwall")),
        })
        .expect("told");
    world
        .stores()
        .set_superwall_user("alice", APP_USER)
        .expect("known");
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    let apple = world.buy_apple("alice", MONTHLY, token).await;
    alice
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("bound");
    let mut buy = google_buy("alice", "premium-monthly", token);
    buy.obfuscated_profile_id = Some(PROFILE.into());
    let google = world.stores().buy_google_play(&buy).await.expect("bought");
    alice
        .bind_google(&google.purchase_token)
        .await
        .expect("bound");
    // What is refused is not written down either.
    let mut nobody = world.client_with_token(BEARER).await;
    nobody.get().await.expect_err("no credential");
    let claims = payload_of(&apple.signed_transaction);
    let forged = forge::apple_variants(world.stores(), &claims).expect("forged");
    alice
        .bind_apple(&forged[0].jws)
        .await
        .expect_err("a stranger's");
    let junk = format!("{}.AO-J1O{}", "canaryjunk", "x".repeat(110));
    alice.bind_google(&junk).await.expect_err("junk");
    let cancel = GooglePlayAction::Cancel {
        purchase_token: google.purchase_token.clone(),
        survey: Some(CancelSurvey {
            reason: CancelReason::Others,
            comment: Some(SURVEY.into()),
        }),
    };
    world.stores().google_play(cancel).await.expect("canceled");
    world
        .stores()
        .refund_app_store(&apple.transaction_id)
        .await
        .expect("refunded");
    let canceled = "select count(*) from subscription_events where decision = 'apply'";
    eventually("all has been told", async || {
        world.count(canceled).await >= 4
    })
    .await;
    let heard = "select count(*) from raw_notifications where source = 'superwall'";
    assert!(world.count(heard).await > 0, "Superwall is heard");

    let manifest = world.stores().manifest();
    let key_line = |pem: &str| pem.lines().nth(1).expect("a key").to_owned();
    let service_account: serde_json::Value =
        serde_json::from_str(&manifest.google_service_account_json).expect("JSON");
    let google_key = service_account["private_key"].as_str().expect("a key");
    let bearer = world.token("alice");
    let part = |jws: &str| jws.split('.').nth(1).expect("a payload").to_owned();
    let secrets = [
        ("a purchase token", google.purchase_token.clone()),
        ("a signed transaction", part(&apple.signed_transaction)),
        ("a caller's token", part(&bearer)),
        ("the shared secret", world.stack.address.secret.clone()),
        ("Apple's key", key_line(&manifest.apple_private_key_pem)),
        ("Google's key", key_line(google_key)),
        ("a customer's words", SURVEY.to_owned()),
        ("a profile", PROFILE.to_owned()),
        ("who a customer is to Superwall", APP_USER.to_owned()),
        ("Superwall's secret", manifest.superwall.secret.clone()),
        ("a refused credential", BEARER.to_owned()),
        ("a forged transaction", part(&forged[0].jws)),
        ("a purchase token that is none", junk),
    ];
    let log = process.whole_log();
    assert!(log.len() > 10_000, "the log speaks at its finest level");
    for (what, secret) in &secrets {
        let line = log.lines().find(|line| line.contains(secret.as_str()));
        assert!(
            line.is_none(),
            "{what} is logged: {}",
            line.unwrap_or_default()
        );
    }

    // What people read, and what the stores' own documents are kept in.
    let pool = world.tables().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables where table_schema = 'public'
         and table_type = 'BASE TABLE'",
    )
    .fetch_all(&pool)
    .await
    .expect("tables");
    // A token is how a purchase is known: by its names, its claims and what was answered about it.
    let tokens_in = [
        "purchase_chains",
        "chain_aliases",
        "store_subscription_state",
        "subscription_events",
        "ownership_claims",
        "duties",
    ];
    for table in &tables {
        let query =
            format!("select coalesce(string_agg(to_jsonb(t)::text, ' '), '') from {table} t");
        let text: String = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .fetch_one(&pool)
            .await
            .expect("readable");
        for (what, secret) in &secrets {
            let token = what.starts_with("a purchase token");
            if token && tokens_in.contains(&table.as_str()) {
                continue;
            }
            assert!(!text.contains(secret.as_str()), "{what} stands in {table}");
        }
    }
    for column in [
        "select coalesce(bool_or(position($1::bytea in body) > 0), false) from raw_notifications",
        "select coalesce(bool_or(position($1::bytea in body) > 0), false)
         from store_answers, unnest(bodies) as body",
    ] {
        for canary in [SURVEY, PROFILE, APP_USER] {
            let found: bool = sqlx::query_scalar(column)
                .bind(canary.as_bytes())
                .fetch_one(&pool)
                .await
                .expect("readable");
            assert!(!found, "{canary} is kept: {column}");
        }
    }
    let detail: String =
        sqlx::query_scalar("select coalesce(string_agg(detail, ' '), '') from subscription_events")
            .fetch_one(&pool)
            .await
            .expect("readable");
    assert!(
        !detail.contains(&google.purchase_token),
        "a token in a detail"
    );
    pool.close().await;

    // Once she is erased nothing at all is left of her but the stores' own names of purchases.
    privacy::erase(&world, &bearer, "", "")
        .await
        .expect("erased");
    let dump = privacy::dump(&world).await;
    let (log, metrics) = (process.whole_log(), process.metrics().await);
    let hers = [
        ("her store token", alice.store_token.clone()),
        ("her name", "'alice'".to_owned()),
    ];
    for (what, secret) in secrets.iter().chain(&hers) {
        assert!(!metrics.contains(secret.as_str()), "{what} is a label");
        let line = log.lines().find(|line| line.contains(secret.as_str()));
        assert!(
            line.is_none(),
            "{what} is logged: {}",
            line.unwrap_or_default()
        );
        if !what.starts_with("a purchase token") {
            let place = dump.lines().find(|line| privacy::stands_in(line, secret));
            assert_eq!(place, None, "{what} is in a dump");
        }
    }
    world.stop().await;
}
