//! Secrets and personal words that stores hand over, or that open doors: none of them reaches a log
//! at its finest level, or a column that is not made for it.

use entitled::cli::stack::EXAMPLE_CATALOG;
use entitled::proto::{RegisterStoreTokenRequest, claim_delivery_request};
use entitled::sandbox::{CancelReason, CancelSurvey, GooglePlayAction, Webhooks, forge};

use crate::accounts::{Phone, linking::link, refresh, with};
use crate::api_keys::{Keys, service};
use crate::privacy;
use crate::process::{NOBODY, Process, eventually};
use crate::scene::{MONTHLY, Person, google_buy, payload_of};
use crate::support::World;

/// Who she is to her sign-in; as a customer of the stores she has another name.
const NAME: &str = "canary-subject-of-alice";
const REASON: &str = "canary-reason-her-sister-asked";
const CLAIM_KEY: &str = "canary-order-of-the-backend";
const REGISTERED: &str = "ca9a5717-0000-4000-8000-00000000c0de";
/// Goods that a backend hands out.
const SWORD: &str = "[products.sword]
kind = \"consumable\"
delivered_by = \"backend\"
app_store = { product_id = \"com.example.sword\" }
google_play = { product_id = \"sword\" }";

const SURVEY: &str = "canary-survey-I-moved-to-Lisbon";
const PROFILE: &str = "canary-profile-of-a-child";
const APP_USER: &str = "canary-user@lisbon.example";
const BEARER: &str = "canary-bearer.that-is.nobodys";

type Planted = Vec<(&'static str, String)>;

/// Everything else that says who she is or opens a door: credentials first, then what is hers and
/// kept as long as she lives.
async fn plant(world: &World, alice: &Person) -> (Planted, Planted) {
    let registered = RegisterStoreTokenRequest {
        account: alice.account.clone(),
        store_token: REGISTERED.into(),
    };
    let made = Keys::of(world).await.create(service("backend", &[])).await;
    let key = made.expect("a key").secret;
    let mut backend = with(world, &key).await;
    let named = backend.register_store_token(registered).await;
    named.expect("registered");
    let phone = Phone::first_start(world).await;
    let next = refresh(world, &phone.credentials.refresh_token).await;
    let next = next.expect("credentials");
    let linked = link(world, &world.token(NAME), &next.access_token).await;
    linked.expect("linked");
    let gift = [
        "grant",
        &alice.account,
        "pro_access",
        "--reason",
        REASON,
        "--actor",
        "sue",
    ];
    world.command(&gift).await;
    let bought = world
        .buy_pieces_google("alice", "sword", 1, Some(&alice.store_token))
        .await;
    alice.bind_google(&bought).await.expect("bound");
    world.settled().await;
    let goods = world.deliveries(&key, &alice.account).await;
    let delivery = claim_delivery_request::Delivery::DeliveryId(goods[0].id.clone());
    let claimed = world.claim(&key, &alice.account, delivery, CLAIM_KEY).await;
    claimed.expect("claimed");
    let key_file = world.stack.address.config.with_file_name("encryption.key");
    let outside = std::fs::read_to_string(key_file).expect("the key");
    let outside = outside.lines().last().expect("a line").to_owned();
    let secrets = vec![
        ("a refresh token", phone.credentials.refresh_token.clone()),
        ("the next one", next.refresh_token),
        ("an API key", key),
        ("the encryption key", outside),
        ("a purchase token of goods", bought),
    ];
    let hers = vec![
        ("her store token", alice.store_token.clone()),
        ("a registered store token", REGISTERED.to_owned()),
        ("a linked store token", phone.person.store_token.clone()),
        ("her name", NAME.to_owned()),
        ("an operator's words", REASON.to_owned()),
        ("a backend's key of her goods", CLAIM_KEY.to_owned()),
    ];
    (secrets, hers)
}

#[tokio::test(flavor = "multi_thread")]
async fn canaries_stay_out_of_logs_and_columns() {
    let mut world = World::with(|options| {
        options.roles = NOBODY;
        options.catalog = format!("{EXAMPLE_CATALOG}\n{SWORD}\n");
    })
    .await;
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
    let alice = world.person(NAME).await;
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
    let mut statuses = vec![nobody.get().await.expect_err("no credential")];
    let claims = payload_of(&apple.signed_transaction);
    let forged = forge::apple_variants(world.stores(), &claims).expect("forged");
    let refused = alice.bind_apple(&forged[0].jws).await;
    statuses.push(refused.expect_err("a stranger's"));
    let junk = format!("{}.AO-J1O{}", "canaryjunk", "x".repeat(110));
    let refused = alice.bind_google(&junk).await;
    statuses.push(refused.expect_err("junk"));
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
    let bearer = world.token(NAME);
    let (planted, hers) = plant(&world, &alice).await;
    let before = privacy::dump(&world).await;
    for (what, canary) in &hers {
        assert!(before.contains(canary.as_str()), "{what} is planted");
    }
    statuses.push(
        privacy::erase(&world, BEARER, "", "")
            .await
            .expect_err("nobody"),
    );
    let part = |jws: &str| jws.split('.').nth(1).expect("a payload").to_owned();
    let mut secrets = vec![
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
    secrets.extend(planted);
    for (what, secret) in secrets.iter().chain(&hers) {
        let told = statuses.iter().find(|status| {
            let details = String::from_utf8_lossy(status.details());
            status.message().contains(secret.as_str()) || details.contains(secret.as_str())
        });
        assert!(told.is_none(), "{what} is told: {told:?}");
    }
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
    // What the stores sent is sealed there: as it reads again, it has none of their words either.
    let file = world.stack.address.config.with_file_name("export.json");
    let out = file.to_str().expect("a path");
    world
        .command(&["export", &alice.account, "--out", out])
        .await;
    let export = std::fs::read_to_string(&file).expect("written");
    for document in ["\"source\":\"superwall\"", "\"canceledStateContext\""] {
        assert!(export.contains(document), "{document} is there and reads");
    }
    for canary in [SURVEY, PROFILE, APP_USER] {
        assert!(!export.contains(canary), "{canary} is kept");
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
    let names: Vec<&str> = hers.iter().map(|(_, name)| name.as_str()).collect();
    privacy::nothing_is_left(&world, &alice.account, &names).await;
    let dump = privacy::dump(&world).await;
    let (log, metrics) = (process.whole_log(), process.metrics().await);
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
