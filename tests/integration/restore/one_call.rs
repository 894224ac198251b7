//! Many proofs in one call: each is answered as BindPurchase would answer it, and harms no other.

use std::time::{Duration, Instant};

use entitled::proto::{BindPurchaseRequest, ClientAction, PurchaseProof, RestorePurchasesRequest};
use entitled::sandbox::{Outage, Store};
use futures::future::join_all;
use tonic::{Code, Request};

use super::{signed, told};
use crate::scene::{
    EFFECTS, EXPORT, MONTHLY, READER, YEARLY, asked_about_purchases, bare_id, google_token, period,
    proof,
};
use crate::support::{Device, World, assert_refused, entitlement, is_active};

#[tokio::test(flavor = "multi_thread")]
async fn each_proof_is_answered_by_itself_and_in_its_place() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    world.hold().await;
    let year = world.buy_apple("alice", YEARLY, None).await;
    let export = world
        .buy_apple("alice", EXPORT, Some(&alice.store_token))
        .await;
    let month = world.buy_google("alice", "premium-monthly", None).await;
    let bobs = world
        .buy_google("bob", "premium-yearly", Some(&bob.store_token))
        .await;
    bob.bind_google(&bobs.purchase_token).await.expect("bob's");
    let forged = format!("{}A", year.signed_transaction);
    let proofs = || {
        vec![
            signed(&year.signed_transaction),
            google_token(&bobs.purchase_token),
            signed(&forged),
            google_token(&month.purchase_token),
            signed(""),
            signed(&year.signed_transaction),
            bare_id(&year.transaction_id),
            bare_id(&export.transaction_id),
        ]
    };

    let answer = alice.restore(proofs()).await;
    assert_eq!(
        told(&answer),
        [
            "BOUND",
            "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT",
            "PROOF_INVALID",
            "BOUND",
            "REQUEST_INVALID",
            "BOUND",
            // The store's record names nobody: only what is signed shows it.
            "PROOF_INSUFFICIENT",
            "BOUND",
        ]
    );
    assert!(
        answer.purchases[4]
            .message
            .starts_with("proofs[4].app_store.signed_transaction")
    );
    let snapshot = answer.snapshot.expect("a snapshot");
    assert_eq!(snapshot.subscriptions.len(), 2, "{snapshot:#?}");
    assert_eq!(entitlement(&snapshot, "export").sources.len(), 2);
    assert_eq!(snapshot.revision, alice.now().await.revision);
    let told_of_bob = answer.purchases[1].message.clone();
    for secret in [&bob.account, &bob.store_token, &bob.name, &bobs.order_id] {
        assert!(!told_of_bob.contains(secret), "{told_of_bob}");
    }

    // Once more: nothing changes, and nothing that is in sync is asked about.
    world.stores().hold_deliveries(false).await.expect("told");
    world.settled().await;
    let (effects, asked) = (
        world.row(EFFECTS).await,
        asked_about_purchases(world.stores()),
    );
    let mut again = proofs();
    again.truncate(6);
    let answer = told(&alice.restore(again).await);
    assert_eq!(answer[0], "ALREADY_YOURS");
    assert_eq!(answer[1], "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT");
    assert_eq!((&answer[3], &answer[5]), (&answer[0], &answer[0]));
    assert_eq!(asked_about_purchases(world.stores()), asked);
    assert_eq!(world.row(EFFECTS).await, effects);

    let nothing = alice.restore(Vec::new()).await;
    assert!(is_active(
        &nothing.snapshot.expect("a snapshot"),
        "pro_access"
    ));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_renewal_of_a_subscription_is_one_look_at_the_store() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    world.hold().await;
    let bought = world.buy_apple("alice", MONTHLY, None).await;
    let mut renewals = vec![bought.signed_transaction.clone()];
    for _ in 0..11 {
        world
            .stores()
            .advance(period("P1M"))
            .await
            .expect("renewed");
        let latest = world.stores().purchases("alice")[0]
            .latest_transaction
            .clone();
        renewals.push(world.stores().signed_transaction(&latest).expect("signed"));
    }
    let asked = world.asked(Store::AppStore);
    let answer = alice
        .restore(renewals.iter().map(|jws| signed(jws)).collect())
        .await;
    assert_eq!(told(&answer), ["BOUND"; 12]);
    assert!(is_active(
        &answer.snapshot.expect("a snapshot"),
        "pro_access"
    ));
    // Statuses, and a history of twelve.
    let spent = world.asked(Store::AppStore) - asked;
    assert!(spent <= 4, "{spent} calls for one purchase");
    assert_eq!(
        world.count("select count(*) from ownership_claims").await,
        1
    );
    world.stop().await;
}

/// What was signed long ago shows nothing of today, and takes nothing from what was signed now,
/// whichever of them stands first.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_proof_beside_a_fresh_one_does_no_harm() {
    for newest_first in [true, false] {
        let world = World::start().await;
        let before = world.nobody("install-1").await;
        let bought = world
            .buy_apple("phone", YEARLY, Some(&before.store_token))
            .await;
        before
            .bind_apple(&bought.signed_transaction)
            .await
            .expect("bound");
        world.stores().advance(period("P2D")).await.expect("later");
        world.settled().await;
        let after = world.nobody("install-2").await;
        let fresh = world
            .stores()
            .signed_transaction(&bought.transaction_id)
            .expect("signed");
        let mut proofs = vec![signed(&fresh), signed(&bought.signed_transaction)];
        if !newest_first {
            proofs.reverse();
        }
        let answer = after.restore(proofs).await;
        assert_eq!(told(&answer), ["BOUND"; 2]);
        assert!(is_active(&after.now().await, "pro_access"));
        assert!(!is_active(&before.now().await, "pro_access"), "one owner");
        world.stop().await;
    }
}

/// Google answers nothing. Apple's purchases are bound, Google's are kept; they come by themselves
/// once it answers again.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_delays_its_own_purchases_alone() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    world.hold().await;
    let mut google = Vec::new();
    for number in 0..12 {
        let buyer = format!("alice-{number}");
        google.push(
            world
                .buy_google(&buyer, "export", None)
                .await
                .purchase_token,
        );
    }
    let mut apple = Vec::new();
    for product in [YEARLY, EXPORT] {
        apple.push(
            world
                .buy_apple("alice", product, None)
                .await
                .signed_transaction,
        );
    }
    world
        .stores()
        .set_outage(Store::GooglePlay, Some(Outage::Timeout));

    let proofs = google.iter().map(|token| google_token(token));
    let proofs = proofs.chain(apple.iter().map(|jws| signed(jws)));
    let request = RestorePurchasesRequest {
        proofs: proofs.map(|shown| proof(shown).expect("a proof")).collect(),
        account: String::new(),
    };
    let mut request = Request::new(request);
    // Longer than the server waits: what is late is told, not cut off.
    request.set_timeout(Duration::from_secs(60));
    let answer = alice.client.clone().inner.restore_purchases(request).await;
    let answer = answer.expect("answered before the deadline").into_inner();
    let reasons = told(&answer);
    assert_eq!(reasons[..12], ["STORE_UNAVAILABLE"; 12]);
    assert_eq!(reasons[12..], ["BOUND"; 2]);
    for late in &answer.purchases[..12] {
        assert_eq!(late.client_action(), ClientAction::KeepAndRetry);
        assert!(
            late.retry_after.is_some_and(|after| after.seconds >= 1),
            "{late:?}"
        );
    }
    let snapshot = answer.snapshot.expect("a snapshot");
    assert_eq!(entitlement(&snapshot, "export").sources.len(), 2);
    assert_eq!(
        world
            .count("select count(*) from ownership_claims where verdict is null")
            .await,
        12
    );

    world.stores().set_outage(Store::GooglePlay, None);
    let mut phone = Device::open(alice.client.clone()).await;
    phone
        .until("all of it", |s| {
            entitlement(s, "export").sources.len() == 14
        })
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_bounded_in_number_size_and_budget() {
    let world = World::still().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    world.hold().await;
    let bought = world.buy_apple("alice", YEARLY, None).await;
    let jws = &bought.signed_transaction;

    let began = Instant::now();
    let mut app = alice.client.clone();
    let refused = app
        .restore(vec![signed(jws); 101])
        .await
        .expect_err("too many");
    assert_refused(&refused, Code::InvalidArgument, "REQUEST_INVALID");
    assert_eq!(
        world.count("select count(*) from ownership_claims").await,
        0
    );

    // A hundred signed transactions are more than any other request may hold.
    let mut full = vec![signed(jws); 99];
    full.insert(50, signed(&"x".repeat(70 * 1024)));
    let answer = told(&alice.restore(full).await);
    assert_eq!(answer.iter().filter(|told| *told == "BOUND").count(), 99);
    assert_eq!(answer[50], "REQUEST_INVALID");
    // Each proof counts, repeated or not: of the next hundred one is looked at.
    let more = alice.restore(vec![signed(jws); 100]).await;
    let limited = more
        .purchases
        .iter()
        .filter(|told| told.reason == "RATE_LIMITED");
    let minutes = usize::try_from(began.elapsed().as_secs() / 60 + 1).expect("a few");
    assert!(99 + 100 - limited.clone().count() <= 100 * minutes);
    for limited in limited {
        assert_eq!(limited.client_action(), ClientAction::KeepAndRetry);
        assert!(limited.retry_after.is_some_and(|after| after.seconds >= 60));
    }
    // Nobody else's budget.
    assert_eq!(
        told(&bob.restore(vec![signed(jws)]).await),
        ["PURCHASE_OWNED_BY_ANOTHER_ACCOUNT"]
    );

    let too_large = app.restore(vec![signed(&"x".repeat(1024 * 1024))]).await;
    assert_eq!(too_large.expect_err("too large").code(), Code::OutOfRange);
    // What binds one purchase takes as much as before.
    let bind = BindPurchaseRequest {
        proof: Some(PurchaseProof {
            proof: Some(signed(&"x".repeat(70 * 1024))),
        }),
        account: String::new(),
    };
    let too_large = app.inner.bind_purchase(bind).await.expect_err("too large");
    assert_eq!(too_large.code(), Code::OutOfRange);
    world.stop().await;
}

/// The same restore from several phones of the account, on two replicas, at once.
#[tokio::test(flavor = "multi_thread")]
async fn restores_at_the_same_moment_are_one() {
    let world = World::start().await;
    let other = world.replica(READER, |_| {}).await;
    let alice = world.person("alice").await;
    world.hold().await;
    let mut proofs = Vec::new();
    for number in 0..6 {
        let buyer = format!("alice-{number}");
        let apple = world.buy_apple(&buyer, YEARLY, None).await;
        let google = world.buy_google(&buyer, "premium-yearly", None).await;
        proofs.extend([
            signed(&apple.signed_transaction),
            google_token(&google.purchase_token),
        ]);
    }
    let url = other.grpc_url().expect("gRPC");
    let elsewhere = entitled::cli::client::Client::connect(&url, &world.token("alice")).await;
    let elsewhere = elsewhere.expect("a client");
    let restores = (0..6).map(|number| {
        let mut client = match number % 2 {
            0 => alice.client.clone(),
            _ => elsewhere.clone(),
        };
        let proofs = proofs.clone();
        async move { client.restore(proofs).await.expect("answered") }
    });
    for answer in join_all(restores).await {
        // What a slow machine does not reach in time is decided without the caller.
        let known = ["BOUND", "ALREADY_YOURS", "STORE_UNAVAILABLE"];
        for told in told(&answer) {
            assert!(known.contains(&told.as_str()), "{told}");
        }
    }
    world.settled().await;
    assert_eq!(alice.now().await.subscriptions.len(), 12);
    for (query, count) in [
        ("select count(*) from purchase_chains", 12),
        ("select count(*) from ownership_changes", 12),
        (
            "select count(*) from ownership_claims where verdict is null",
            0,
        ),
    ] {
        assert_eq!(world.count(query).await, count, "{query}");
    }
    other.stop().await;
    world.stop().await;
}

/// A service restores for the user it names; nobody else may name one.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_restores_for_whom_it_names() {
    let world = World::start().await;
    world.hold().await;
    let bought = world.buy_google("alice", "premium-yearly", None).await;
    let request = RestorePurchasesRequest {
        proofs: vec![proof(google_token(&bought.purchase_token)).expect("a proof")],
        account: "dev:alice".into(),
    };
    let mut backend = world.client_with_token(&world.service_token()).await;
    let answer = backend
        .inner
        .restore_purchases(request)
        .await
        .expect("hers")
        .into_inner();
    assert_eq!(told(&answer), ["BOUND"]);
    let alice = world.person("alice").await;
    assert!(is_active(&alice.now().await, "pro_access"));
    world.stop().await;
}

/// What the commands print for developers is what an app would be told.
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_tell_what_an_app_is_told() {
    let world = World::start().await;
    world.hold().await;
    world.buy_apple("alice", YEARLY, None).await;
    world.buy_google("alice", "export", None).await;
    let dir = world.stack.address.config.parent().expect("a directory");
    let address = serde_json::to_string(&world.stack.address).expect("JSON");
    std::fs::write(dir.join("stack.json"), address).expect("written");
    let run = async |arguments: &[&str]| {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_entitled"))
            .args(arguments)
            .arg("--dir")
            .arg(dir)
            .output()
            .await
            .expect("the program runs");
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {complaint}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let told = run(&["preflight", "alice", "pro_monthly"]).await;
    assert!(told.contains("has bought nothing"), "{told}");
    let told = run(&["restore", "alice"]).await;
    assert_eq!(told.matches(": BOUND → FINISH").count(), 2, "{told}");
    assert!(told.contains("ON   pro_access"), "{told}");
    let told = run(&["restore", "bob", "--device-of", "alice"]).await;
    let refusals = told.matches("PURCHASE_OWNED_BY_ANOTHER_ACCOUNT").count();
    assert_eq!(refusals, 2, "{told}");
    assert!(
        told.contains("CONTACT_SUPPORT") && told.contains("off  pro_access"),
        "{told}"
    );
    let told = run(&["preflight", "alice", "pro_monthly"]).await;
    assert!(
        told.contains("pro_yearly at the app store gives pro_access, renews"),
        "{told}"
    );
    world.stop().await;
}
