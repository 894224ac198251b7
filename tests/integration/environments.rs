//! Design §7: TestFlight, App Review and licence testers; who is served by what they buy.

use entitled::cli::stack::EXAMPLE_CATALOG;
use entitled::proto::{BindOutcome, Environment as Told, InactiveReason};
use entitled::sandbox::{Environment, GooglePlayAction, GooglePlayBuy};

use crate::scene::{YEARLY, google_buy, off, pro};
use crate::support::{World, entitlement, is_active};

/// The stores' sandbox, as TestFlight, App Review and licence testers meet it.
async fn sandbox(rule: &str) -> World {
    let catalog = format!("{rule}\n{EXAMPLE_CATALOG}");
    World::with(|options| {
        options.catalog = catalog;
        options.environment = Environment::Sandbox;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn app_review_and_testflight_buy_in_sandbox_and_are_served() {
    let world = sandbox("").await;
    let reviewer = world.person("reviewer").await;
    let apple = world.buy_apple("reviewer", YEARLY, None).await;
    let bound = reviewer
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("bound");
    assert_eq!(bound.outcome(), BindOutcome::Bound);
    let google = world.buy_google("reviewer", "premium-monthly", None).await;
    reviewer
        .bind_google(&google.purchase_token)
        .await
        .expect("a licence tester's");
    world.settled().await;
    let told = reviewer.now().await;
    let access = entitlement(&told, "pro_access");
    assert!(access.active);
    assert_eq!(access.environment(), Told::Sandbox, "flagged");
    assert_eq!(access.sources.len(), 2);
    assert!(
        access
            .sources
            .iter()
            .all(|s| s.environment() == Told::Sandbox)
    );
    assert_eq!(
        world.stores().is_acknowledged(&google.purchase_token),
        Some(true)
    );
    // No row of money that anybody could take for real.
    let real = "select count(*) from transactions where environment <> 'sandbox'";
    assert_eq!(world.count(real).await, 0);
    assert!(world.count("select count(*) from transactions").await > 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_only_testers_are_served_others_own_and_have_nothing() {
    let world = sandbox("sandbox_access = \"testers\"\ntesters = [\"dev:tess\"]").await;
    for (name, served) in [("tess", true), ("mallory", false)] {
        let person = world.person(name).await;
        let apple = world.buy_apple(name, YEARLY, None).await;
        let google = world.buy_google(name, "export", None).await;
        let outcomes = [
            person.bind_apple(&apple.signed_transaction).await,
            person.bind_google(&google.purchase_token).await,
        ];
        let expected = match served {
            true => BindOutcome::Bound,
            false => BindOutcome::BoundWithoutAccess,
        };
        for outcome in outcomes {
            assert_eq!(outcome.expect("bound").outcome(), expected, "{name}");
        }
        let told = person.now().await;
        assert_eq!(is_active(&told, "pro_access"), served, "{name}");
        assert_eq!(is_active(&told, "export"), served, "{name}");
        if !served {
            let why = off(InactiveReason::EnvironmentNotAccepted);
            assert_eq!(pro(&told), why);
        }
    }
    // The log says for whom it was nothing, and why.
    world.settled().await;
    let reasons = "select string_agg(distinct e.decision || ' ' || e.reason, ', ') from
         subscription_events e join account_identities i on i.account_id = e.account_id
         where e.reason = 'not_a_tester' and i.subject = 'mallory'";
    assert_eq!(world.row(reasons).await, "merge_only not_a_tester");
    let told = "select count(distinct account_id) from subscription_events
                where reason = 'not_a_tester'";
    assert_eq!(world.count(told).await, 1, "tess is served");
    let story = world.command(&["timeline", "dev:mallory"]).await;
    assert!(story.contains("the catalog's testers alone"), "{story}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_is_served_a_sandbox_purchase_is_kept_and_grants_nothing() {
    let world = sandbox("sandbox_access = \"nobody\"").await;
    let alice = world.person("alice").await;
    let google = world
        .buy_google("alice", "premium-monthly", Some(&alice.store_token))
        .await;
    let bound = alice
        .bind_google(&google.purchase_token)
        .await
        .expect("verified and owned");
    assert_eq!(bound.outcome(), BindOutcome::BoundWithoutAccess);
    world.settled().await;
    assert_eq!(
        pro(&alice.now().await),
        off(InactiveReason::EnvironmentNotAccepted)
    );
    assert_eq!(world.count("select count(*) from duties").await, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_purchase_is_kept_and_its_completion_is_told_on_the_stream() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let mut phone = world.device("alice").await;
    let cash = GooglePlayBuy {
        pending: true,
        ..google_buy("alice", "premium-monthly", Some(&alice.store_token))
    };
    let bought = world
        .stores()
        .buy_google_play(&cash)
        .await
        .expect("ordered");
    let bound = alice
        .bind_google(&bought.purchase_token)
        .await
        .expect("kept");
    assert_eq!(bound.outcome(), BindOutcome::Pending);
    assert_eq!(pro(&alice.now().await), off(InactiveReason::Pending));
    assert_eq!(
        world.stores().is_acknowledged(&bought.purchase_token),
        Some(false)
    );
    let paid = GooglePlayAction::SettlePending {
        purchase_token: bought.purchase_token.clone(),
        paid: true,
    };
    world.stores().google_play(paid).await.expect("paid");
    phone.until_active("pro_access").await;
    world.settled().await;
    assert_eq!(
        world.stores().is_acknowledged(&bought.purchase_token),
        Some(true)
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_purchase_never_stands_before_a_real_one() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    let yearly = world.buy_apple("alice", YEARLY, token).await;
    alice
        .bind_apple(&yearly.signed_transaction)
        .await
        .expect("bound");
    let monthly = world.buy_google("alice", "premium-monthly", token).await;
    alice
        .bind_google(&monthly.purchase_token)
        .await
        .expect("bound");
    world.settled().await;
    // The simulated stores are one world: the longer purchase is made one of TestFlight's in the
    // books. What the store says of another environment since is not believed.
    let pool = world.tables().await;
    sqlx::query(
        "update store_subscription_state s
         set known = jsonb_set(known, '{state,environment}', '\"sandbox\"')
         from purchase_chains c where c.id = s.chain_id and c.provider = 'app_store'",
    )
    .execute(&pool)
    .await
    .expect("as if bought there");
    pool.close().await;
    world.command(&["resync", "dev:alice"]).await;
    world.settled().await;
    let told = alice.now().await;
    let pro = entitlement(&told, "pro_access");
    assert!(pro.active);
    assert_eq!(pro.environment(), Told::Production, "{pro:?}");
    let sources: Vec<Told> = pro.sources.iter().map(|s| s.environment()).collect();
    assert_eq!(sources, [Told::Production, Told::Sandbox], "the real first");
    let days =
        (pro.expires_at.expect("an end").seconds - world.stores().now().timestamp()) / 86_400;
    assert!((25..=31).contains(&days), "the month that was paid: {days}");

    // Without the real one the other serves, and says what it is.
    world
        .stores()
        .refund_google_play(&monthly.purchase_token)
        .await
        .expect("refunded");
    world.settled().await;
    let told = alice.now().await;
    let pro = entitlement(&told, "pro_access");
    assert_eq!((pro.active, pro.environment()), (true, Told::Sandbox));
    world.stop().await;
}
