//! Superwall's webhooks: hints that wait for their purchase, are never believed, and cost nothing.

use entitled::proto::purchase_proof::Proof;
use entitled::proto::{BindOutcome, InactiveReason, Store as ProtoStore, SuperwallProof};
use entitled::sandbox::{AppStoreBuy, Store, Webhooks};
use serde_json::json;
use tonic::Code;

use crate::scene::{MONTHLY, PACKAGE, YEARLY, google_buy, off, period, pro};
use crate::support::{HTTP, World, assert_refused, is_active};

/// The stores themselves say nothing: Superwall alone does.
async fn only_superwall() -> World {
    let world = World::start().await;
    let url = world.stack.app.webhooks_url().expect("webhooks");
    let webhooks = Webhooks {
        superwall: Some(format!("{url}/webhooks/superwall")),
        ..Webhooks::default()
    };
    world.stores().set_webhooks(webhooks).expect("told");
    world
}

pub fn app_store(original: &str, transaction: &str, signed: &str) -> Proof {
    Proof::Superwall(SuperwallProof {
        store: ProtoStore::AppStore.into(),
        app: "com.example.app".into(),
        original_transaction_id: original.into(),
        transaction_id: transaction.into(),
        signed_transaction: signed.into(),
        purchase_token: String::new(),
    })
}

fn google_play(original: &str, token: &str) -> Proof {
    Proof::Superwall(SuperwallProof {
        store: ProtoStore::GooglePlay.into(),
        app: PACKAGE.into(),
        original_transaction_id: original.into(),
        purchase_token: token.into(),
        ..SuperwallProof::default()
    })
}

const PENDING: &str = "select count(*) from superwall_notifications where status = 'pending'";
const PROCESSED: &str = "select count(*) from superwall_notifications where status = 'processed'";
const UNSUPPORTED: &str =
    "select count(*) from superwall_notifications where status = 'unsupported'";

#[tokio::test(flavor = "multi_thread")]
async fn hints_wait_for_their_purchase_and_are_replayed_by_the_binding() {
    let world = only_superwall().await;
    let alice = world.person("alice").await;
    let apple = world.buy_apple("alice", YEARLY, None).await;
    let google = world.buy_google("alice", "premium-monthly", None).await;
    world.settled().await;

    // Nobody has shown these purchases: nothing is made of their names, no store is asked.
    assert_eq!(world.count(PENDING).await, 2);
    assert_eq!(world.count("select count(*) from purchase_chains").await, 0);
    assert_eq!(
        world.asked(Store::AppStore) + world.asked(Store::GooglePlay),
        0
    );
    assert!(!is_active(&alice.now().await, "pro_access"));

    let mut client = alice.client.clone();
    let bound = client
        .bind(app_store(
            &apple.original_transaction_id,
            &apple.transaction_id,
            &apple.signed_transaction,
        ))
        .await
        .expect("alice's");
    assert_eq!(bound.outcome(), BindOutcome::Bound);
    let bound = client
        .bind(google_play(&google.order_id, &google.purchase_token))
        .await
        .expect("alice's");
    assert_eq!(bound.outcome(), BindOutcome::Bound);
    world.settled().await;
    assert_eq!(world.count(PENDING).await, 0);
    assert_eq!(world.count(PROCESSED).await, 2);
    assert_eq!(alice.now().await.subscriptions.len(), 2);
    assert_eq!(
        world.stores().is_acknowledged(&google.purchase_token),
        Some(true)
    );

    // What it says afterwards is heard at once, without any word of the store's own.
    world
        .stores()
        .set_auto_renew(&apple.original_transaction_id, false)
        .await
        .expect("off");
    world.settled().await;
    let told = alice.now().await;
    let yearly = told.subscriptions.iter().find(|s| s.plan == "pro_yearly");
    assert!(yearly.is_some_and(|yearly| !yearly.will_renew));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_must_name_the_purchase_that_it_shows() {
    let world = only_superwall().await;
    let (alice, mallory) = (world.person("alice").await, world.person("mallory").await);
    let apple = world.buy_apple("alice", YEARLY, None).await;
    let other = world.buy_apple("other", YEARLY, None).await;
    let google = world.buy_google("alice", "premium-monthly", None).await;
    let foreign = world.buy_google("other", "premium-monthly", None).await;
    let mut client = alice.client.clone();

    let misnamed = app_store(
        &other.original_transaction_id,
        &apple.transaction_id,
        &apple.signed_transaction,
    );
    let refused = client.bind(misnamed).await.expect_err("another's id");
    assert_refused(&refused, Code::InvalidArgument, "PROOF_INVALID");
    for order in [foreign.order_id.as_str(), "GPA.0000-0000-0000-00000"] {
        let misnamed = google_play(order, &google.purchase_token);
        let refused = client.bind(misnamed).await.expect_err("another's order");
        assert_refused(&refused, Code::InvalidArgument, "PROOF_INVALID");
    }
    assert!(!is_active(&alice.now().await, "pro_access"));

    // Ids alone bind nothing, and tell nothing.
    let ids = app_store(&apple.original_transaction_id, &apple.transaction_id, "");
    let refused = mallory
        .client
        .clone()
        .bind(ids)
        .await
        .expect_err("no possession");
    assert_refused(&refused, Code::FailedPrecondition, "PROOF_INSUFFICIENT");
    for missing in [
        google_play(&google.order_id, ""),
        app_store("", "", ""),
        Proof::Superwall(SuperwallProof::default()),
    ] {
        let refused = client.bind(missing).await.expect_err("incomplete");
        assert_refused(&refused, Code::InvalidArgument, "REQUEST_INVALID");
    }

    // The token with its own order is alice's; so are ids whose record carries her token.
    client
        .bind(google_play(&google.order_id, &google.purchase_token))
        .await
        .expect("alice's");
    let named = world
        .buy_apple("named", YEARLY, Some(&alice.store_token))
        .await;
    let ids = app_store(&named.original_transaction_id, &named.transaction_id, "");
    let bound = client.bind(ids).await.expect("the record names alice");
    assert_eq!(bound.outcome(), BindOutcome::Bound);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resubscription_made_outside_the_app_catches_up() {
    let world = only_superwall().await;
    let alice = world.person("alice").await;
    let apple = world.buy_apple("alice", MONTHLY, None).await;
    alice
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("bound");
    let google = world.buy_google("alice", "premium-monthly", None).await;
    alice
        .bind_google(&google.purchase_token)
        .await
        .expect("bound");
    let stores = world.stores();
    stores
        .set_auto_renew(&apple.original_transaction_id, false)
        .await
        .expect("off");
    stores
        .cancel_google_play(&google.purchase_token)
        .await
        .expect("off");
    stores.advance(period("P40D")).await.expect("lapsed");
    world.settled().await;
    assert_eq!(pro(&alice.now().await), off(InactiveReason::Expired));

    // Apple's keeps its name: the hint is enough.
    let outside = AppStoreBuy {
        customer: "alice".into(),
        product_id: MONTHLY.into(),
        outside_app: true,
        ..AppStoreBuy::default()
    };
    let again = stores.buy_app_store(&outside).await.expect("again");
    assert_eq!(again.original_transaction_id, apple.original_transaction_id);
    world.settled().await;
    assert!(is_active(&alice.now().await, "pro_access"));

    // Google's is a purchase of its own, which nobody has shown yet.
    let mut outside = google_buy("alice", "premium-monthly", None);
    outside.out_of_app = true;
    let again = stores.buy_google_play(&outside).await.expect("again");
    world.settled().await;
    assert_eq!(world.count(PENDING).await, 1);
    assert_eq!(
        world.stores().is_acknowledged(&again.purchase_token),
        Some(false)
    );
    alice
        .bind_google(&again.purchase_token)
        .await
        .expect("alice's");
    world.settled().await;
    assert_eq!(world.count(PENDING).await, 0);
    assert_eq!(
        world.stores().is_acknowledged(&again.purchase_token),
        Some(true)
    );
    let told = alice.now().await;
    let google = told
        .subscriptions
        .iter()
        .filter(|s| s.store() == ProtoStore::GooglePlay);
    assert!(google.clone().any(|subscription| subscription.will_renew));
    world.stop().await;
}

async fn post(world: &World, id: &str, body: &str, signatures: &str) -> u16 {
    let url = world.stack.app.webhooks_url().expect("webhooks");
    let request = HTTP
        .post(format!("{url}/webhooks/superwall"))
        .header("svix-id", id)
        .header("svix-timestamp", now_seconds().to_string())
        .header("svix-signature", signatures)
        .body(body.to_owned());
    request.send().await.expect("an answer").status().as_u16()
}

/// One moment for all of a test's messages: what is signed is what is sent.
fn now_seconds() -> u64 {
    static NOW: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *NOW.get_or_init(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.expect("after 1970").as_secs()
    })
}

fn sign(world: &World, id: &str, body: &str) -> String {
    use aws_lc_rs::hmac;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let secret = world.stores().manifest().superwall.secret;
    let key = secret.strip_prefix("whsec_").expect("a Svix secret");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(key).expect("base64"));
    let message = format!("{id}.{}.{body}", now_seconds());
    format!(
        "v1,{}",
        STANDARD.encode(hmac::sign(&key, message.as_bytes()))
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_says_is_never_believed_and_what_is_unknown_is_kept() {
    let world = only_superwall().await;
    let alice = world.person("alice").await;
    let apple = world.buy_apple("alice", YEARLY, None).await;
    alice
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("bound");
    world.settled().await;
    let told = |name: &str, original: &str| {
        json!({"object": "event", "type": name, "data": {
            "id": "d6cb1d43:x", "name": name, "store": "APP_STORE", "environment": "PRODUCTION",
            "originalTransactionId": original, "transactionId": original,
            "originalAppUserId": "mallory@example.com", "bundleId": "com.example.app",
            "userAttributes": {"email": "mallory@example.com"}, "expirationAt": 1, "price": -99.0,
        }})
        .to_string()
    };
    // Authentic, and untrue in every word: the store is asked, and knows better.
    let expired = told("expiration", &apple.original_transaction_id);
    let signature = sign(&world, "msg_untrue", &expired);
    assert_eq!(post(&world, "msg_untrue", &expired, &signature).await, 200);
    world.settled().await;
    assert!(is_active(&alice.now().await, "pro_access"));
    // Sent again it is the same message.
    let signature = sign(&world, "msg_untrue", &expired);
    assert_eq!(post(&world, "msg_untrue", &expired, &signature).await, 200);
    let same = "select count(*) from superwall_notifications where event_id = 'msg_untrue'";
    assert_eq!(world.count(same).await, 1);
    let personal = "select count(*) from superwall_notifications
        where position('mallory@example.com' in encode(body, 'escape')) > 0";
    assert_eq!(world.count(personal).await, 0);

    // A purchase that nobody knows, from somebody who is not even Superwall.
    let stranger = told("initial_purchase", "570009999999999");
    let kept = world
        .count("select count(*) from superwall_notifications")
        .await;
    for signatures in ["", "v1,", &sign(&world, "msg_other", &stranger)] {
        assert_eq!(post(&world, "msg_forged", &stranger, signatures).await, 401);
    }
    assert_eq!(
        world
            .count("select count(*) from superwall_notifications")
            .await,
        kept
    );

    for (id, body) in [
        ("msg_future", told("subscription_extended", "700")),
        ("msg_bare", "{}".to_owned()),
        ("msg_text", "no JSON".to_owned()),
    ] {
        let signature = sign(&world, id, &body);
        assert_eq!(post(&world, id, &body, &signature).await, 200, "{id}");
    }
    world.settled().await;
    assert_eq!(world.count(UNSUPPORTED).await, 3);
    assert_eq!(world.count("select count(*) from purchase_chains").await, 1);

    // While the secret is rotated, messages are signed by both.
    world.stores().rotate_superwall_secret().expect("rotated");
    let before = world.count(PROCESSED).await;
    world
        .stores()
        .set_auto_renew(&apple.original_transaction_id, false)
        .await
        .expect("off");
    world.settled().await;
    assert_eq!(world.count(PROCESSED).await, before + 1);
    world.stop().await;
}
