//! A1 to A6, A8 and A10: signed documents of the App Store, as proofs and as notifications.

use entitled::sandbox::{Store, forge};
use serde_json::{Value, json};
use tonic::Code;

use super::Counted;
use super::canary::Canary;
use crate::books::Books;
use crate::scene::{MONTHLY, YEARLY, payload_of};
use crate::support::{World, is_active, reason};

const CLASSES: [&str; 7] = ["A1", "A2", "A3", "A4", "A5", "A6", "A10"];
/// Requests are refused unread beyond this.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
const SEED: u64 = 20_270_110;
const FORGERS: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn every_forged_transaction_is_refused_and_every_genuine_one_binds() {
    let world = World::still().await;
    let canary = Canary::set().await;
    let alice = world.person("alice").await;
    // What one account may try in a minute is limited.
    let forgers = world.people("forger", FORGERS).await;
    world.hold().await;
    let bought = world.buy_apple("alice", YEARLY, None).await;
    let genuine = payload_of(&bought.signed_transaction);
    let corpus = forge::apple_corpus(world.stores(), &genuine, &canary.url, SEED).expect("forged");
    let books = Books::of(&world).await;
    let (before, asked) = (
        books.kept().await,
        crate::scene::asked_about_purchases(world.stores()),
    );
    let mut counted = Counted::default();
    let (genuine, forged): (Vec<_>, Vec<_>) = corpus.into_iter().partition(|case| case.genuine);
    for (number, case) in forged.into_iter().enumerate() {
        let what = format!("{} {}", case.class, case.name);
        let forger = &forgers[number % FORGERS];
        let refused = forger.bind_apple(&case.jws).await.expect_err(&what);
        if case.jws.len() > REQUEST_BYTES_MAX {
            assert!(matches!(
                refused.code(),
                Code::OutOfRange | Code::ResourceExhausted
            ));
        } else {
            let expected = match case.jws.is_empty() {
                true => "REQUEST_INVALID",
                false => "PROOF_INVALID",
            };
            assert_eq!(
                (refused.code(), reason(&refused).as_str()),
                (Code::InvalidArgument, expected),
                "{what}"
            );
        }
        counted.count(case.class, false);
    }
    assert_eq!(books.kept().await, before, "nothing of them was kept");
    assert_eq!(
        crate::scene::asked_about_purchases(world.stores()),
        asked,
        "no store was asked"
    );
    for case in genuine {
        let what = format!("{} {}", case.class, case.name);
        alice.bind_apple(&case.jws).await.expect(&what);
        counted.count(case.class, true);
    }
    counted.report("transactions", &[&CLASSES[..], &["A8"]].concat());
    assert!(counted.forged() > 180, "{} forged", counted.forged());
    assert_eq!(canary.visits(), 0, "nobody looks where a header leads");
    assert!(is_active(&alice.now().await, "pro_access"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_forged_notification_is_turned_away_and_every_genuine_one_is_taken() {
    let world = World::still().await;
    let canary = Canary::set().await;
    world.hold().await;
    world.buy_apple("alice", YEARLY, None).await;
    let body: Value = serde_json::from_str(&world.stores().notifications()[0].body).expect("JSON");
    let claims = payload_of(body["signedPayload"].as_str().expect("a document"));
    let corpus = forge::apple_corpus(world.stores(), &claims, &canary.url, SEED).expect("forged");
    let books = Books::of(&world).await;
    let before = books.kept().await;
    let mut counted = Counted::default();
    let (genuine, forged): (Vec<_>, Vec<_>) = corpus.into_iter().partition(|case| case.genuine);
    for (cases, expected) in [(forged, 401), (genuine, 200)] {
        for case in cases {
            let body = json!({ "signedPayload": case.jws }).to_string();
            let status = world.post(Store::AppStore, body).await;
            assert_eq!(status, expected, "{} {}", case.class, case.name);
            counted.count(case.class, case.genuine);
        }
        if expected == 401 {
            assert_eq!(books.kept().await, before, "nothing of them was kept");
        }
    }
    counted.report("notifications", &CLASSES);
    assert_eq!(canary.visits(), 0);
    world.settled().await;
    let kept = "select count(*) from raw_notifications";
    assert_eq!(
        books.number(kept).await,
        1,
        "one notification, however it is signed"
    );
    world.stop().await;
}

/// A10: the outer document is Apple's own, what it holds is not, or is another's.
#[tokio::test(flavor = "multi_thread")]
async fn a_notification_put_together_from_parts_grants_nothing() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let mallory = world.person("mallory").await;
    world.hold().await;
    let bought = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    let other = world.buy_apple("nobody", MONTHLY, None).await;
    let body: Value = serde_json::from_str(&world.stores().notifications()[0].body).expect("JSON");
    let claims = payload_of(body["signedPayload"].as_str().expect("a document"));
    let inner = payload_of(&bought.signed_transaction);
    let sign = |payload: &Value| world.stores().sign_apple(payload).expect("signed");
    let changed = |field: &str, value: Value| {
        let mut changed = inner.clone();
        changed[field] = value;
        changed
    };
    // A transaction that Mallory would like to own, signed by herself or not at all.
    let wished = changed("appAccountToken", json!(mallory.store_token));
    let stranger = forge::apple_variants(world.stores(), &wished).expect("forged");
    let unsigned = {
        let parts: Vec<&str> = bought.signed_transaction.split('.').collect();
        format!("{}.{}.", parts[0], parts[1])
    };
    let parts = [
        ("signed by a stranger", json!(stranger[0].jws)),
        ("unsigned", json!(unsigned)),
        ("bare", json!(wished.to_string())),
        ("empty", json!("")),
        (
            "of another app",
            json!(sign(&changed("bundleId", json!("com.example.other")))),
        ),
        (
            "of another world",
            json!(sign(&changed("environment", json!("Sandbox")))),
        ),
        (
            "of no world",
            json!(sign(&changed("environment", json!("Xcode")))),
        ),
        (
            "without an id",
            json!(sign(&changed("originalTransactionId", json!("../1")))),
        ),
    ];
    let mut taken = 0;
    for (number, (what, part)) in parts.into_iter().enumerate() {
        let mut spliced = claims.clone();
        spliced["data"]["signedTransactionInfo"] = part;
        spliced["notificationUUID"] = json!(format!("00000000-0000-4000-8000-{number:012}"));
        let body = json!({ "signedPayload": sign(&spliced) }).to_string();
        // Apple has signed it: it is kept, and what cannot be believed of it is not.
        let status = world.post(Store::AppStore, body).await;
        assert_eq!(status, 200, "{what}");
        taken += 1;
    }
    // The renewal info of another purchase beside the transaction.
    let mut spliced = claims.clone();
    let others = world.stores().notifications();
    let others: Value = serde_json::from_str(&others[1].body).expect("JSON");
    let others = payload_of(others["signedPayload"].as_str().expect("a document"));
    spliced["data"]["signedRenewalInfo"] = others["data"]["signedRenewalInfo"].clone();
    spliced["notificationUUID"] = json!("00000000-0000-4000-8000-000000000099");
    let body = json!({ "signedPayload": sign(&spliced) }).to_string();
    assert_eq!(world.post(Store::AppStore, body).await, 200);
    taken += 1;
    world.settled().await;
    let chains = "select count(*) from purchase_chains";
    assert_eq!(world.count(chains).await, 0, "no part became a purchase");
    let unread = "select count(*) from raw_notifications where status in ('failed', 'ignored')";
    assert_eq!(
        world.count(unread).await,
        taken,
        "each is kept and told apart"
    );
    for person in [&alice, &mallory] {
        assert!(!is_active(&person.now().await, "pro_access"));
    }
    // The genuine ones are as good as ever.
    world.stores().hold_deliveries(false).await.expect("sent");
    world.settled().await;
    assert!(is_active(&alice.now().await, "pro_access"));
    drop(other);
    world.stop().await;
}

/// A7: Apple has signed it, of another app or of no world.
#[tokio::test(flavor = "multi_thread")]
async fn every_misplaced_document_is_refused_and_the_genuine_one_binds() {
    let world = World::still().await;
    let alice = world.person("alice").await;
    let mallory = world.person("mallory").await;
    world.hold().await;
    let bought = world.buy_apple("alice", YEARLY, None).await;
    let genuine = payload_of(&bought.signed_transaction);
    let corpus = forge::apple_misplaced(world.stores(), &genuine).expect("signed");
    let books = Books::of(&world).await;
    let (before, asked) = (
        books.kept().await,
        crate::scene::asked_about_purchases(world.stores()),
    );
    let mut counted = Counted::default();
    let (genuine, forged): (Vec<_>, Vec<_>) = corpus.into_iter().partition(|case| case.genuine);
    for case in forged {
        let refused = mallory.bind_apple(&case.jws).await.expect_err(&case.name);
        let expected = match case.name.split_once(' ') {
            Some(("environment", _)) => "ENVIRONMENT_NOT_ACCEPTED",
            Some(("bundleId", odd)) if odd.starts_with('"') => "APP_UNKNOWN",
            Some(_) | None => "PROOF_INVALID",
        };
        assert_eq!(reason(&refused), expected, "{}", case.name);
        counted.count(case.class, false);
    }
    assert_eq!(books.kept().await, before, "nothing of them was kept");
    assert_eq!(
        crate::scene::asked_about_purchases(world.stores()),
        asked,
        "no store was asked"
    );
    for case in genuine {
        alice.bind_apple(&case.jws).await.expect(&case.name);
        counted.count(case.class, true);
    }
    counted.report("transactions", &["A7"]);
    world.stop().await;
}

/// A7: a notification of another app is authentic, kept, and about nothing here.
#[tokio::test(flavor = "multi_thread")]
async fn every_misplaced_notification_is_kept_and_grants_nothing() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    world.hold().await;
    world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    let body: Value = serde_json::from_str(&world.stores().notifications()[0].body).expect("JSON");
    let claims = payload_of(body["signedPayload"].as_str().expect("a document"));
    let mut counted = Counted::default();
    for number in 0_usize.. {
        // Each is a message of its own.
        let mut claims = claims.clone();
        claims["notificationUUID"] = json!(format!("00000000-0000-4000-8000-{number:012}"));
        let corpus = forge::apple_misplaced(world.stores(), &claims).expect("signed");
        let Some(case) = corpus.into_iter().filter(|case| !case.genuine).nth(number) else {
            break;
        };
        let body = json!({ "signedPayload": case.jws }).to_string();
        let status = world.post(Store::AppStore, body).await;
        assert_eq!(status, 200, "{}", case.name);
        counted.count(case.class, false);
    }
    world.settled().await;
    assert_eq!(world.count("select count(*) from purchase_chains").await, 0);
    let unread = "select count(*) from raw_notifications where status in ('failed', 'ignored')";
    assert_eq!(world.count(unread).await, i64::from(counted.forged()));
    assert!(!is_active(&alice.now().await, "pro_access"));
    world.stores().hold_deliveries(false).await.expect("sent");
    world.settled().await;
    assert!(is_active(&alice.now().await, "pro_access"));
    counted.count("A7", true);
    counted.report("notifications", &["A7"]);
    world.stop().await;
}

/// A12: an app receipt names no purchase; whoever sends one is told what to send instead.
#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_refused_with_the_way_out() {
    let world = World::still().await;
    let alice = world.person("alice").await;
    let asked = crate::scene::asked_about_purchases(world.stores());
    for length in [64, 1_000, 40_000] {
        let receipt = format!("MII{}", "Tg4wDQYJKoZIhvcNAQcC".repeat(length / 20));
        let refused = alice.bind_apple(&receipt).await.expect_err("a receipt");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, "RECEIPT_UNSUPPORTED")
        );
    }
    assert_eq!(
        crate::scene::asked_about_purchases(world.stores()),
        asked,
        "nobody was asked"
    );
    world.stop().await;
}
