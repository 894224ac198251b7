//! Authentic messages that cannot be read: taken, kept and counted; they point nowhere.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use entitled::sandbox::{Store, forge};
use serde_json::{Value, json};

use super::doors::{Sender, push_token, unheard};
use super::forged::{buy_yearly, payload};
use crate::books::Books;
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
