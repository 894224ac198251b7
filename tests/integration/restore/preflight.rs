//! What an app may know before it acts, and what nobody can find out by asking.

use std::time::Instant;

use entitled::cli::stack::EXAMPLE_CATALOG;
use entitled::proto::{
    BindEffect, BindOutcome, PreflightPurchaseRequest, PreflightPurchaseResponse, PurchaseStanding,
    Store as Sold, SubscriptionStatus, preflight_purchase_request::About,
};
use entitled::sandbox::{Outage, Store};
use futures::future::join_all;
use tonic::Code;

use super::signed;
use crate::scene::{
    EFFECTS, EXPORT, MONTHLY, YEARLY, bare_id, google_buy, google_token, period, proof,
};
use crate::support::{World, assert_refused, client_action, reason};

type Told = (PurchaseStanding, BindEffect);

fn of(told: &PreflightPurchaseResponse) -> Told {
    (told.standing(), told.bind_effect())
}

const NEW: Told = (PurchaseStanding::New, BindEffect::Bind);
const YOURS: Told = (PurchaseStanding::Yours, BindEffect::Confirm);
const ANOTHERS: Told = (PurchaseStanding::OwnedByOther, BindEffect::Refuse);
const MOVES: Told = (PurchaseStanding::OwnedByOther, BindEffect::Move);

/// Whatever it foretells is what a bind then does; and it does nothing itself.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_foretold_is_what_a_bind_does() {
    let world = World::still().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    world.hold().await;
    let apple = world.buy_apple("alice", YEARLY, None).await;
    let named = world
        .buy_apple("alice-2", EXPORT, Some(&alice.store_token))
        .await;
    let google = world
        .buy_google("alice", "premium-monthly", Some(&alice.store_token))
        .await;
    let proofs = [
        signed(&apple.signed_transaction),
        signed(&named.signed_transaction),
        google_token(&google.purchase_token),
    ];
    let before = world.row(EFFECTS).await;
    for (nth, proof) in proofs.iter().enumerate() {
        let told = alice.preflight(proof.clone()).await.expect("told");
        assert_eq!(of(&told), NEW, "{nth}");
        // What carries no name is whoever's comes first; what names her is not bob's.
        let told = bob.preflight(proof.clone()).await.expect("told");
        assert_eq!(of(&told), if nth == 0 { NEW } else { ANOTHERS }, "{nth}");
        assert!(told.held.is_empty(), "{told:?}");
    }
    assert_eq!(
        world.row(EFFECTS).await,
        before,
        "a preflight writes nothing"
    );
    assert_eq!(
        world.count("select count(*) from ownership_claims").await,
        0
    );

    for proof in &proofs {
        let bound = alice
            .client
            .clone()
            .bind(proof.clone())
            .await
            .expect("hers");
        assert_eq!(bound.outcome(), BindOutcome::Bound);
    }
    world.stores().hold_deliveries(false).await.expect("told");
    world.nothing_due().await;
    let (before, asked) = (world.row(EFFECTS).await, world.asked(Store::GooglePlay));
    for proof in &proofs {
        assert_eq!(
            of(&alice.preflight(proof.clone()).await.expect("told")),
            YOURS
        );
        assert_eq!(
            of(&bob.preflight(proof.clone()).await.expect("told")),
            ANOTHERS
        );
        let refused = bob
            .client
            .clone()
            .bind(proof.clone())
            .await
            .expect_err("hers");
        assert_eq!(reason(&refused), "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT");
    }
    assert_eq!(
        world.asked(Store::GooglePlay),
        asked,
        "what is known is told without its store"
    );
    // The refusals of the binds have left their events; the preflights nothing.
    let events = "select count(*) from subscription_events where reason = 'owned_by_another'";
    assert_eq!(world.count(events).await % 2, 0);
    let revisions = |effects: &str| {
        let effects: serde_json::Value = serde_json::from_str(effects).expect("JSON");
        (
            effects["revisions"].clone(),
            effects["chains"].clone(),
            effects["owners"].clone(),
        )
    };
    assert_eq!(revisions(&world.row(EFFECTS).await), revisions(&before));
    world.stop().await;
}

/// Of somebody who never signed in, and where the catalog lets purchases move.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_the_policy_allows_is_foretold() {
    let catalog =
        format!("{EXAMPLE_CATALOG}\n[ownership]\nproduction = \"transfer_if_inactive\"\n");
    let world = World::with(|options| options.catalog = catalog).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let install = world.nobody("install-1").await;
    let month = world.buy_apple("alice", MONTHLY, None).await;
    let anonymous = world.buy_google("phone", "export", None).await;
    alice
        .bind_apple(&month.signed_transaction)
        .await
        .expect("hers");
    install
        .bind_google(&anonymous.purchase_token)
        .await
        .expect("its");
    world.settled().await;
    let token = google_token(&anonymous.purchase_token);
    assert_eq!(
        of(&bob.preflight(token.clone()).await.expect("told")),
        MOVES
    );
    assert_eq!(of(&install.preflight(token).await.expect("told")), YOURS);
    let fresh = || {
        signed(
            &world
                .stores()
                .signed_transaction(&month.transaction_id)
                .expect("signed"),
        )
    };
    assert_eq!(
        of(&bob.preflight(fresh()).await.expect("told")),
        ANOTHERS,
        "she pays for it"
    );
    world
        .stores()
        .set_auto_renew(&month.original_transaction_id, false)
        .await
        .expect("off");
    world
        .stores()
        .advance(period("P40D"))
        .await
        .expect("lapsed");
    world.settled().await;
    assert_eq!(of(&bob.preflight(fresh()).await.expect("told")), MOVES);
    let stale = bob
        .preflight(signed(&month.signed_transaction))
        .await
        .expect("told");
    assert_eq!(of(&stale), ANOTHERS, "signed too long ago");
    world.stop().await;
}

/// A plan change at Google is a new token: it is her purchase that goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_continues_a_purchase_is_its_owners() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let month = world
        .buy_google("alice", "premium-monthly", Some(&alice.store_token))
        .await;
    alice
        .bind_google(&month.purchase_token)
        .await
        .expect("hers");
    world.settled().await;
    world.hold().await;
    let mut upgrade = google_buy("alice", "premium-yearly", None);
    upgrade.replaces = Some(month.purchase_token.clone());
    let year = world
        .stores()
        .buy_google_play(&upgrade)
        .await
        .expect("upgraded");
    let token = google_token(&year.purchase_token);
    assert_eq!(
        of(&alice.preflight(token.clone()).await.expect("told")),
        YOURS
    );
    assert_eq!(of(&bob.preflight(token).await.expect("told")), ANOTHERS);
    assert_eq!(world.count("select count(*) from purchase_chains").await, 1);
    world.stop().await;
}

/// Before a paywall: whoever pays elsewhere is told where, and nobody else is told anything.
#[tokio::test(flavor = "multi_thread")]
async fn who_subscribes_elsewhere_is_told_before_paying_twice() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    assert_eq!(
        alice.before_buying("pro_yearly").await.standing(),
        PurchaseStanding::New
    );
    let google = world
        .buy_google("alice", "premium-monthly", Some(&alice.store_token))
        .await;
    alice
        .bind_google(&google.purchase_token)
        .await
        .expect("hers");

    // The same plan at the other store, a better one, and what gives something else.
    for (product, gives) in [
        ("pro_monthly", true),
        ("pro_yearly", true),
        ("season_pass", true),
        ("export_forever", false),
        ("coins_100", false),
    ] {
        let told = alice.before_buying(product).await;
        if !gives {
            assert_eq!(
                (told.standing(), told.held.len()),
                (PurchaseStanding::New, 0),
                "{product}"
            );
            continue;
        }
        assert_eq!(
            told.standing(),
            PurchaseStanding::AlreadySubscribed,
            "{product}"
        );
        assert_eq!(told.bind_effect(), BindEffect::Unspecified);
        let [held] = told.held.as_slice() else {
            panic!("{told:?}")
        };
        assert_eq!(
            (held.store(), held.plan.as_str()),
            (Sold::GooglePlay, "pro_monthly")
        );
        assert_eq!(held.entitlements, ["pro_access"]);
        assert_eq!(held.status(), SubscriptionStatus::Active);
        assert!(held.will_renew && held.expires_at.is_some());
        assert!(held.manage_url.starts_with("https://play.google.com/"));
        let said = format!("{held:?}");
        assert!(!said.contains(&google.purchase_token) && !said.contains(&google.order_id));
    }
    assert_eq!(
        bob.before_buying("pro_yearly").await.standing(),
        PurchaseStanding::New
    );

    // Her card fails: no access, and still a subscription that goes on once it is paid.
    let fails = entitled::sandbox::Billing::Fails;
    world
        .stores()
        .set_google_play_billing(&google.purchase_token, fails)
        .await
        .expect("fails");
    world
        .stores()
        .advance(period("P2M"))
        .await
        .expect("on hold");
    world.settled().await;
    let told = alice.before_buying("pro_yearly").await;
    if let [held] = told.held.as_slice() {
        assert_eq!(held.status(), SubscriptionStatus::OnHold);
        assert_eq!(told.standing(), PurchaseStanding::AlreadySubscribed);
    } else {
        assert_eq!(told.standing(), PurchaseStanding::New, "{told:?}");
    }
    let about = About::Product("pro_weekly".into());
    let unknown = alice
        .client
        .clone()
        .preflight(about)
        .await
        .expect_err("not sold");
    assert_refused(&unknown, Code::NotFound, "PRODUCT_UNKNOWN");
    let nothing = PreflightPurchaseRequest::default();
    let nothing = alice.client.clone().inner.preflight_purchase(nothing).await;
    assert_refused(
        &nothing.expect_err("about what"),
        Code::InvalidArgument,
        "REQUEST_INVALID",
    );
    world.stop().await;
}

/// Not by the answer, not by its time, and not for long.
#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_is_no_oracle() {
    let world = World::start().await;
    let (alice, mallory) = (world.person("alice").await, world.person("mallory").await);
    let bound = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    let unclaimed = world.buy_apple("nobody", YEARLY, None).await;
    world.settled().await;
    let before = world.row(EFFECTS).await;
    let mut answers = Vec::new();
    for id in [
        &bound.transaction_id,
        &unclaimed.transaction_id,
        "570009999999999",
        "no number",
    ] {
        let began = Instant::now();
        let refused = mallory
            .preflight(bare_id(id))
            .await
            .expect_err("not mallory's");
        assert_refused(&refused, Code::FailedPrecondition, "PROOF_INSUFFICIENT");
        assert!(began.elapsed().as_millis() >= 1_400, "answered early");
        answers.push((refused.message().to_owned(), refused.details().to_vec()));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    // Hers, which the store's record says.
    assert_eq!(
        of(&alice
            .preflight(bare_id(&bound.transaction_id))
            .await
            .expect("hers")),
        YOURS
    );

    // A genuine copy tells that somebody owns it, and not who.
    let told = mallory
        .preflight(signed(&bound.signed_transaction))
        .await
        .expect("told");
    assert_eq!(of(&told), ANOTHERS);
    assert!(told.held.is_empty(), "{told:?}");
    let forged = mallory
        .preflight(signed(&format!("{}A", bound.signed_transaction)))
        .await;
    assert_refused(
        &forged.expect_err("forged"),
        Code::InvalidArgument,
        "PROOF_INVALID",
    );

    // Junk costs the stores no more than its budget.
    let (began, asked) = (Instant::now(), world.asked(Store::GooglePlay));
    let junk = |number: usize| format!("{}.AO-J1O{number:0>110}", "k".repeat(24));
    let answers =
        join_all((0..200).map(|number| mallory.preflight(google_token(&junk(number))))).await;
    let mut limited: u64 = 0;
    for answer in answers {
        let refused = answer.expect_err("junk");
        let known = ["PURCHASE_NOT_FOUND", "RATE_LIMITED", "STORE_UNAVAILABLE"];
        let why = reason(&refused);
        assert!(known.contains(&why.as_str()), "{why}");
        limited += u64::from(why == "RATE_LIMITED");
        if why == "RATE_LIMITED" {
            assert_eq!(client_action(&refused), "KEEP_AND_RETRY");
        }
    }
    let minutes = began.elapsed().as_secs() / 60 + 1;
    assert!(200 - limited <= 30 * minutes, "{limited} of 200");
    let asked = world.asked(Store::GooglePlay) - asked;
    assert!(asked <= 30 * 4 * minutes, "{asked} calls");
    assert_eq!(world.row(EFFECTS).await, before);

    // While its store is away nobody is told a guess.
    let google = world.buy_google("carol", "export", None).await;
    let carol = world.person("carol").await;
    world.hold().await;
    let new = world.buy_google("carol", "premium-yearly", None).await;
    world
        .stores()
        .set_outage(Store::GooglePlay, Some(Outage::Down503));
    let away = carol
        .preflight(google_token(&new.purchase_token))
        .await
        .expect_err("away");
    assert_refused(&away, Code::Unavailable, "STORE_UNAVAILABLE");
    drop(google);
    world.stop().await;
}

/// A service asks for somebody who was never here: an answer, and no account.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_may_ask_for_whom_it_names() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let google = world
        .buy_google("alice", "premium-yearly", Some(&alice.store_token))
        .await;
    alice
        .bind_google(&google.purchase_token)
        .await
        .expect("hers");
    let mut backend = world.client_with_token(&world.service_token()).await;
    let accounts = world.count("select count(*) from accounts").await;
    for (account, standing, effect) in [
        ("dev:alice", PurchaseStanding::AlreadySubscribed, YOURS),
        ("dev:stranger", PurchaseStanding::New, ANOTHERS),
    ] {
        let about = |about| PreflightPurchaseRequest {
            about: Some(about),
            account: account.into(),
        };
        let product = about(About::Product("pro_monthly".into()));
        let told = backend
            .inner
            .preflight_purchase(product)
            .await
            .expect("told")
            .into_inner();
        assert_eq!(told.standing(), standing, "{account}");
        let shown = proof(google_token(&google.purchase_token)).expect("a proof");
        let told = backend
            .inner
            .preflight_purchase(about(About::Proof(shown)))
            .await;
        assert_eq!(of(&told.expect("told").into_inner()), effect, "{account}");
    }
    assert_eq!(world.count("select count(*) from accounts").await, accounts);
    world.stop().await;
}
