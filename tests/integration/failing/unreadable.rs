//! Authentic messages that cannot be read: taken, kept and counted; they point nowhere.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use entitled::sandbox::{Store, forge};
use serde_json::{Value, json};

use super::doors::{Sender, push_token, unheard};
use super::forged::{buy_yearly, payload};
use crate::books::Books;
use crate::scene::MONTHLY;
use crate::support::{HTTP, World};

/// Notifications that Apple has signed and that point nowhere.
fn unreadable_notifications(world: &World) -> Vec<String> {
    let sandbox = &world.stack.sandbox;
    let body: Value = serde_json::from_str(&unheard(world, Store::AppStore)).expect("JSON");
    let genuine = payload(body["signedPayload"].as_str().expect("a document"));
    let transaction = payload(
        genuine["data"]["signedTransactionInfo"]
            .as_str()
            .expect("inner"),
    );
    let inner = |field: &str, value: &str| {
        let mut claims = transaction.clone();
        claims[field] = json!(value);
        json!(sandbox.sign_apple(&claims).expect("signed"))
    };
    let forged = forge::apple_variants(sandbox, &transaction)
        .expect("forged")
        .swap_remove(0)
        .jws;
    let changes = [
        ("signedTransactionInfo", Value::Null),
        ("signedTransactionInfo", json!(forged)),
        (
            "signedTransactionInfo",
            inner("bundleId", "com.example.other"),
        ),
        ("signedTransactionInfo", inner("environment", "Sandbox")),
        ("bundleId", json!("com.example.other")),
        ("appAppleId", json!(1)),
    ];
    let with = |(number, (field, value)): (usize, (&str, Value))| {
        let mut notification = genuine.clone();
        notification["notificationUUID"] =
            json!(format!("00000000-0000-4000-8000-00000000000{number}"));
        notification["data"][field] = value;
        let jws = sandbox.sign_apple(&notification).expect("signed");
        json!({ "signedPayload": jws }).to_string()
    };
    changes.into_iter().enumerate().map(with).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authentic_message_that_cannot_be_read_is_kept_and_counted() {
    let world = World::start().await;
    let sandbox = &world.stack.sandbox;
    sandbox.hold_deliveries(true).await.expect("held");
    buy_yearly(&world, "alice", None).await;
    let sender = Sender::to(&world);
    for body in unreadable_notifications(&world) {
        assert_eq!(sender.apple(body.clone()).await, 200);
        assert_eq!(sender.apple(body).await, 200, "once more");
    }
    let bearer = format!("Bearer {}", push_token(&world, &json!({})));
    let subscription = sandbox.manifest().push.subscription;
    let texts = [
        "not base64!".to_owned(),
        STANDARD.encode("not json"),
        STANDARD.encode("{}"),
    ];
    for (number, data) in texts.into_iter().enumerate() {
        let message = json!({ "data": data, "messageId": format!("unreadable-{number}") });
        let body = json!({ "message": message, "subscription": subscription }).to_string();
        assert_eq!(
            sender.google(body, std::slice::from_ref(&bearer)).await,
            200
        );
    }
    world.settled().await;
    let books = Books::of(&world).await;
    let failed =
        "select count(*) from raw_notifications where status = 'failed' and detail is not null";
    assert_eq!(books.number(failed).await, 9);
    assert_eq!(
        books.number("select count(*) from raw_notifications").await,
        9
    );
    assert_eq!(
        books.number("select count(*) from purchase_chains").await,
        0,
        "nobody was pointed at"
    );
    for provider in ["app_store", "google_play"] {
        assert!(
            counted(&world, provider).await >= 3,
            "{provider} is not counted"
        );
    }
    world.stop().await;
}

/// The counter that an alarm watches, over all stacks of this process.
async fn counted(world: &World, provider: &str) -> u64 {
    let url = format!("{}/metrics", world.stack.app.admin_url());
    let text = HTTP
        .get(url)
        .send()
        .await
        .expect("an answer")
        .text()
        .await
        .expect("text");
    let line = format!("entitled_notifications_unreadable_total{{provider=\"{provider}\"}} ");
    let value = text.lines().find_map(|found| found.strip_prefix(&line));
    value.map_or(0, |value| value.parse().expect("a count"))
}

/// One that the database will not take harms none that came with it, and support can see it.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_written_harms_no_other_and_is_told() {
    let world = World::start().await;
    let pool = world.tables().await;
    let refuse = "alter table chain_aliases
        add constraint no_tokens check (kind <> 'purchase_token')";
    sqlx::query(refuse).execute(&pool).await.expect("refused");
    world.hold().await;
    let google = world.buy_google("bob", "premium-yearly", None).await;
    let apple = world.buy_apple("alice", MONTHLY, None).await;
    for said in world.said() {
        world.deliver(&said).await;
    }
    world.settled().await;
    world.chain_of(&apple.original_transaction_id).await;
    let told = "select count(*) from subscription_events
        where decision = 'skip' and reason = 'unreadable' and detail like '%cannot be written%'";
    let failed = "select count(*) from raw_notifications where status = 'failed'";
    assert_eq!((world.count(failed).await, world.count(told).await), (1, 1));

    // Once the cause is gone, it is read again on request.
    let allow = "alter table chain_aliases drop constraint no_tokens";
    sqlx::query(allow).execute(&pool).await.expect("allowed");
    pool.close().await;
    world
        .command(&["replay", "--source", "google_play", "--apply"])
        .await;
    world.settled().await;
    world.chain_of(&google.purchase_token).await;
    assert_eq!(world.count(failed).await, 0);
    world.stop().await;
}
