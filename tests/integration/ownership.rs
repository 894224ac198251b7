//! I4: one owner. Who may claim what, what the others are told, and how a chain changes hands.

use entitled::proto::{BindOutcome, Entitlement, InactiveReason};
use futures::future::join_all;
use tonic::{Code, Status};

use crate::scene::{MONTHLY, YEARLY, google_buy, period, seconds};
use crate::support::{World, assert_refused, client_action, entitlement, is_active};

#[tokio::test(flavor = "multi_thread")]
async fn i4_fifty_accounts_claim_one_proof_at_once_and_one_owns_it() {
    let world = World::start().await;
    let people = world.people("person", 50).await;
    world.hold().await;
    let bought = world.buy_apple("buyer", YEARLY, None).await;

    let binds = people
        .iter()
        .map(|person| person.bind_apple(&bought.signed_transaction));
    let answers = join_all(binds).await;
    let owners: Vec<usize> = (0..50).filter(|number| answers[*number].is_ok()).collect();
    let [owner] = owners.as_slice() else {
        panic!("owners: {owners:?}")
    };
    let owner = &people[*owner];
    assert_eq!(
        answers.iter().flatten().next().map(|a| a.outcome()),
        Some(BindOutcome::Bound)
    );
    for refused in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_refused(
            refused,
            Code::FailedPrecondition,
            "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT",
        );
        assert_eq!(client_action(refused), "CONTACT_SUPPORT");
        assert_says_nothing_of(
            refused,
            &[
                &owner.account,
                &owner.store_token,
                &owner.name,
                &bought.transaction_id,
            ],
        );
    }
    world.settled().await;
    for person in &people {
        assert_eq!(
            is_active(&person.now().await, "pro_access"),
            person.name == owner.name
        );
    }
    assert_eq!(world.count("select count(*) from purchase_chains").await, 1);
    assert_eq!(
        world.count("select count(*) from ownership_changes").await,
        1
    );
    assert_eq!(
        world
            .count("select count(*) from ownership_claims where verdict = 'won'")
            .await,
        1
    );
    assert_eq!(
        world
            .count("select count(*) from ownership_claims where verdict = 'owned_by_another'")
            .await,
        49
    );
    world.stop().await;
}

fn assert_says_nothing_of(status: &Status, secrets: &[&str]) {
    let said = format!(
        "{} {} {:?}",
        status.message(),
        String::from_utf8_lossy(status.details()),
        status.metadata()
    );
    for secret in secrets {
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_linked_tokens_become_one_chain_with_its_owner() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let monthly = world
        .buy_google("alice", "premium-monthly", Some(&alice.store_token))
        .await;
    alice
        .bind_google(&monthly.purchase_token)
        .await
        .expect("bound");
    world.settled().await;

    world.hold().await;
    let mut upgrade = google_buy("alice", "premium-yearly", None);
    upgrade.replaces = Some(monthly.purchase_token.clone());
    let yearly = world
        .stores()
        .buy_google_play(&upgrade)
        .await
        .expect("upgraded");
    world
        .stores()
        .advance_by(chrono::TimeDelta::seconds(5))
        .await
        .expect("the old token's end is told");
    // Two more plan changes before anybody hears of the first.
    let bought = world.said();
    world.deliver(&bought[1]).await;
    world.settled().await;
    assert_eq!(
        world.stores().is_acknowledged(&yearly.purchase_token),
        Some(true)
    );
    let mut downgrade = google_buy("alice", "premium-monthly", None);
    downgrade.replaces = Some(yearly.purchase_token.clone());
    let again = world
        .stores()
        .buy_google_play(&downgrade)
        .await
        .expect("downgraded");
    world
        .stores()
        .advance_by(chrono::TimeDelta::seconds(5))
        .await
        .expect("the second token's end is told");

    // The newest token first, the ends of the old ones last, each twice.
    let said = world.said();
    for id in said.iter().rev().chain(&said) {
        world.deliver(id).await;
    }
    world.settled().await;
    let told = alice.now().await;
    assert!(is_active(&told, "pro_access"));
    assert_eq!(told.subscriptions.len(), 1, "{told:#?}");
    assert_eq!(told.subscriptions[0].plan, "pro_monthly");
    assert_eq!(
        world
            .count("select count(*) from purchase_chains where merged_into is null")
            .await,
        1
    );
    let names = "select count(distinct chain_id) from chain_aliases where kind = 'purchase_token'";
    assert_eq!(world.count(names).await, 1);
    assert_eq!(
        world.stores().is_acknowledged(&again.purchase_token),
        Some(true)
    );

    // Whichever token is shown, it is one purchase with one owner.
    let bob = world.person("bob").await;
    for token in [
        &monthly.purchase_token,
        &yearly.purchase_token,
        &again.purchase_token,
    ] {
        let refused = bob.bind_google(token).await.expect_err("alice's");
        assert_refused(
            &refused,
            Code::FailedPrecondition,
            "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT",
        );
        alice.bind_google(token).await.expect("alice's");
    }
    assert!(is_active(&alice.now().await, "pro_access"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_two_chains_that_turn_out_to_be_one_keep_the_older_ones_owner() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let old = world
        .buy_google("family", "premium-monthly", Some(&alice.store_token))
        .await;
    alice.bind_google(&old.purchase_token).await.expect("bound");
    world.settled().await;
    world.hold().await;
    let mut upgrade = google_buy("family", "premium-yearly", Some(&bob.store_token));
    upgrade.replaces = Some(old.purchase_token);
    let new = world
        .stores()
        .buy_google_play(&upgrade)
        .await
        .expect("upgraded");

    let refused = bob
        .bind_google(&new.purchase_token)
        .await
        .expect_err("it continues alice's");
    assert_refused(
        &refused,
        Code::FailedPrecondition,
        "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT",
    );
    world
        .stores()
        .hold_deliveries(false)
        .await
        .expect("released");
    world.settled().await;
    let told = alice.now().await;
    assert_eq!(told.subscriptions.len(), 1);
    assert_eq!(told.subscriptions[0].plan, "pro_yearly");
    assert!(!is_active(&bob.now().await, "pro_access"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_the_stores_record_beats_possession() {
    let world = World::start().await;
    let (alice, mallory) = (world.person("alice").await, world.person("mallory").await);
    world.hold().await;
    let apple = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    let google = world
        .buy_google("alice", "premium-monthly", Some(&alice.store_token))
        .await;

    // Mallory is first, and holds genuine proofs; the stores' records name alice.
    for refused in [
        mallory.bind_apple(&apple.signed_transaction).await,
        mallory.bind_google(&google.purchase_token).await,
    ] {
        let refused = refused.expect_err("alice's");
        assert_refused(
            &refused,
            Code::FailedPrecondition,
            "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT",
        );
        assert_says_nothing_of(&refused, &[&alice.account, &alice.store_token]);
    }
    assert!(!is_active(&mallory.now().await, "pro_access"));
    alice
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("alice's");
    alice
        .bind_google(&google.purchase_token)
        .await
        .expect("alice's");
    assert_eq!(alice.now().await.subscriptions.len(), 2);
    world.stop().await;
}

/// The latest end that an entitlement names.
fn ended(entitlement: &Entitlement) -> Option<i64> {
    entitlement
        .expires_at
        .into_iter()
        .chain(entitlement.access_until)
        .map(|at| at.seconds)
        .max()
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_a_provisional_claim_yields_to_the_account_that_the_store_names() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    world.hold().await;
    // A shared device: bob claims what was bought without a token, and alice changes the plan,
    // signed in.
    let first = world.buy_google("shared", "premium-monthly", None).await;
    let bound = bob.bind_google(&first.purchase_token).await.expect("bound");
    assert_eq!(bound.outcome(), BindOutcome::Bound);
    world.settled().await;
    let mut upgrade = google_buy("shared", "premium-yearly", Some(&alice.store_token));
    upgrade.replaces = Some(first.purchase_token.clone());
    let second = world
        .stores()
        .buy_google_play(&upgrade)
        .await
        .expect("upgraded");

    let claimed = alice
        .bind_google(&second.purchase_token)
        .await
        .expect("alice's");
    assert_eq!(claimed.outcome(), BindOutcome::Bound);
    assert!(is_active(&alice.now().await, "pro_access"));
    let told = bob.now().await;
    let lost = entitlement(&told, "pro_access");
    assert!(!lost.active);
    assert_eq!(lost.inactive_reason(), InactiveReason::Transferred);
    assert!(told.subscriptions.is_empty());
    assert!(
        ended(lost) <= Some(seconds(world.stores().now())),
        "the period is alice's affair"
    );
    let moved = "select count(*) from ownership_changes where reason = 'store_hint' and from_account_id is not null";
    assert_eq!(world.count(moved).await, 1);
    let told = "select count(distinct account_id) from subscription_events e
        where exists (select 1 from ownership_changes o where o.reason = 'store_hint' and o.at = e.at
            and e.account_id in (o.from_account_id, o.to_account_id))";
    assert_eq!(world.count(told).await, 2, "events on both accounts");

    // It is confirmed now: bob's proof does not bring it back.
    let refused = bob
        .bind_google(&first.purchase_token)
        .await
        .expect_err("alice's");
    assert_refused(
        &refused,
        Code::FailedPrecondition,
        "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT",
    );
    world
        .stores()
        .hold_deliveries(false)
        .await
        .expect("released");
    world.settled().await;
    assert!(is_active(&alice.now().await, "pro_access"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_the_owner_of_a_nameless_purchase_is_written_into_the_stores_record() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let first = world.buy_apple("shared", MONTHLY, None).await;
    bob.bind_apple(&first.signed_transaction)
        .await
        .expect("bound");
    let provisional =
        "select count(*) from purchase_chains where owner_provisional_until is not null";
    assert_eq!(world.count(provisional).await, 1);
    world.settled().await;
    let named =
        "select count(*) from duties where kind = 'set_account_token' and done_at is not null";
    assert_eq!(world.count(named).await, 1);
    // The next read confirms him: a later purchase by another account is refused.
    bob.client.clone().refresh().await.expect("read");
    assert_eq!(world.count(provisional).await, 0);
    world
        .stores()
        .set_auto_renew(&first.original_transaction_id, false)
        .await
        .expect("off");
    world
        .stores()
        .advance(period("P40D"))
        .await
        .expect("lapsed");
    let second = world
        .buy_apple("shared", MONTHLY, Some(&alice.store_token))
        .await;
    let refused = alice
        .bind_apple(&second.signed_transaction)
        .await
        .expect_err("bob's");
    assert_refused(
        &refused,
        Code::FailedPrecondition,
        "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT",
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_after_thirty_days_a_claim_is_provisional_no_more() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let first = world.buy_apple("shared", MONTHLY, None).await;
    bob.bind_apple(&first.signed_transaction)
        .await
        .expect("bound");
    world
        .stores()
        .set_auto_renew(&first.original_transaction_id, false)
        .await
        .expect("off");
    world.stores().advance(period("P2M")).await.expect("lapsed");
    let second = world
        .buy_apple("shared", MONTHLY, Some(&alice.store_token))
        .await;
    let refused = alice
        .bind_apple(&second.signed_transaction)
        .await
        .expect_err("bob's by now");
    assert_refused(
        &refused,
        Code::FailedPrecondition,
        "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT",
    );
    assert!(is_active(&bob.now().await, "pro_access"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_a_purchase_that_names_its_account_is_bound_by_notification_alone() {
    let world = World::start().await;
    let mut phone = world.device("alice").await;
    let token = phone
        .latest
        .account
        .clone()
        .expect("an account")
        .store_token;
    // The app dies before it can bind.
    let apple = world.buy_apple("alice", YEARLY, Some(&token)).await;
    phone.until_active("pro_access").await;
    let google = world.buy_google("alice", "export", Some(&token)).await;
    phone
        .until("both", |s| entitlement(s, "export").sources.len() == 2)
        .await;
    world.settled().await;
    assert_eq!(
        world.stores().is_acknowledged(&google.purchase_token),
        Some(true)
    );

    let mut app = world.client("alice").await;
    let later = app
        .bind_app_store(&apple.signed_transaction)
        .await
        .expect("alice's");
    assert_eq!(later.outcome(), BindOutcome::AlreadyYours);
    // A token that names nobody here is an adopter's own: it binds nothing by itself.
    world
        .buy_apple(
            "stranger",
            YEARLY,
            Some("11111111-2222-4333-8444-555555555555"),
        )
        .await;
    world.settled().await;
    assert_eq!(
        world
            .count("select count(*) from purchase_chains where owner_account_id is null")
            .await,
        1
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_a_transfer_by_an_operator_stands_against_the_stores_older_record() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    let chain = world.row("select id::text from purchase_chains").await;
    world
        .command(&[
            "transfer",
            &chain,
            "dev:bob",
            "--reason",
            "she asked",
            "--actor",
            "sam",
        ])
        .await;
    let transferred = seconds(world.stores().now());
    world
        .stores()
        .advance(period("P1M"))
        .await
        .expect("a renewal that still names alice");
    world.settled().await;
    assert!(is_active(&bob.now().await, "pro_access"));
    let told = alice.now().await;
    assert_eq!(
        entitlement(&told, "pro_access").inactive_reason(),
        InactiveReason::Transferred
    );
    let lost = entitlement(&told, "pro_access");
    assert!(
        ended(lost) <= Some(transferred),
        "the period is bob's affair"
    );
    let refused = alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect_err("bob's");
    assert_refused(
        &refused,
        Code::FailedPrecondition,
        "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT",
    );
    let audited = "select count(distinct account_id) from subscription_events where actor = 'sam'";
    assert_eq!(world.count(audited).await, 2);
    world.stop().await;
}
