//! Design §6: policies by environment and product, hints that wait, transfers out of order.

use entitled::cli::stack::EXAMPLE_CATALOG;
use entitled::proto::{BindOutcome, InactiveReason};
use entitled::sandbox::{AppStoreAction, Outcome};
use tonic::Code;

use crate::scene::{EXPORT, MONTHLY, Person, YEARLY, off, period, pro};
use crate::support::{World, assert_refused, entitlement, is_active};

const REFUSED: &str = "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT";

async fn with_rules(rules: &str) -> World {
    let catalog = format!("{EXAMPLE_CATALOG}\n{rules}\n");
    World::with(|options| options.catalog = catalog).await
}

async fn refused(person: &Person, signed: &str) {
    let refused = person.bind_apple(signed).await.expect_err("another's");
    assert_refused(&refused, Code::FailedPrecondition, REFUSED);
}

fn fresh(world: &World, transaction_id: &str) -> String {
    let stores = world.stores();
    stores.signed_transaction(transaction_id).expect("signed")
}

#[tokio::test(flavor = "multi_thread")]
async fn where_purchases_may_move_fresh_possession_moves_them_three_times_a_month() {
    let world = with_rules("[ownership]\nproduction = \"transfer\"").await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let bought = world.buy_apple("shared", YEARLY, None).await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("first");
    world.settled().await;

    // What was signed a day ago and more may have been passed around since.
    world.stores().advance(period("P2D")).await.expect("later");
    refused(&bob, &bought.signed_transaction).await;
    assert!(is_active(&alice.now().await, "pro_access"));

    for (taker, loser) in [(&bob, &alice), (&alice, &bob), (&bob, &alice)] {
        let signed = fresh(&world, &bought.transaction_id);
        let bound = taker.bind_apple(&signed).await.expect("moved");
        assert_eq!(bound.outcome(), BindOutcome::Bound);
        assert!(is_active(&taker.now().await, "pro_access"));
        assert_eq!(pro(&loser.now().await), off(InactiveReason::Transferred));
    }
    let signed = fresh(&world, &bought.transaction_id);
    refused(&alice, &signed).await;
    assert_eq!(
        world
            .count("select count(*) from ownership_changes where reason = 'policy'")
            .await,
        3
    );
    // Both sides of every move have their event, and neither ever had it at the same revision time.
    for name in ["alice", "bob"] {
        let told = world
            .row(match name {
                "alice" => EVENTS_OF_ALICE,
                _ => EVENTS_OF_BOB,
            })
            .await;
        assert!(told.parse::<i64>().expect("a count") >= 3, "{name}: {told}");
    }
    let both = "select count(*) from (select at from subscription_events
        where reason = 'transferred' group by at having count(distinct account_id) = 2) moves";
    assert_eq!(world.count(both).await, 3, "events on both accounts");

    world
        .stores()
        .advance(period("P31D"))
        .await
        .expect("a month");
    let signed = fresh(&world, &bought.transaction_id);
    alice.bind_apple(&signed).await.expect("may move again");
    world.settled().await;
    assert!(is_active(&alice.now().await, "pro_access"));
    world.stop().await;
}

const EVENTS_OF_ALICE: &str = "select count(*)::text from subscription_events e
    join account_identities i using (account_id)
    where i.subject = 'alice' and e.reason = 'transferred'";
const EVENTS_OF_BOB: &str = "select count(*)::text from subscription_events e
    join account_identities i using (account_id)
    where i.subject = 'bob' and e.reason = 'transferred'";

#[tokio::test(flavor = "multi_thread")]
async fn an_inactive_purchase_moves_and_an_active_one_stays() {
    let world = with_rules("[ownership]\nproduction = \"transfer_if_inactive\"").await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let apple = world.buy_apple("shared", MONTHLY, None).await;
    let google = world.buy_google("shared", "premium-monthly", None).await;
    alice
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("first");
    alice
        .bind_google(&google.purchase_token)
        .await
        .expect("first");
    refused(&bob, &apple.signed_transaction).await;
    let by_token = bob.bind_google(&google.purchase_token).await;
    assert_refused(
        &by_token.expect_err("alice's"),
        Code::FailedPrecondition,
        REFUSED,
    );
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
    let moved = bob
        .bind_apple(&fresh(&world, &apple.transaction_id))
        .await
        .expect("nobody's use any more");
    assert_eq!(moved.outcome(), BindOutcome::BoundWithoutAccess);
    let moved = bob
        .bind_google(&google.purchase_token)
        .await
        .expect("the token is alive");
    assert_eq!(moved.outcome(), BindOutcome::BoundWithoutAccess);
    assert_eq!(pro(&alice.now().await), off(InactiveReason::Transferred));
    assert_eq!(bob.now().await.subscriptions.len(), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_products_own_rule_comes_before_the_catalogs() {
    let catalog = EXAMPLE_CATALOG.replace(
        "[products.export_forever]\n",
        "[products.export_forever]\nownership = \"keep\"\n",
    );
    let catalog = format!("{catalog}\n[ownership]\nproduction = \"transfer\"\n");
    let world = World::with(|options| options.catalog = catalog).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    for (product, moves) in [(MONTHLY, true), (EXPORT, false)] {
        let bought = world.buy_apple("shared", product, None).await;
        alice
            .bind_apple(&bought.signed_transaction)
            .await
            .expect("first");
        let claimed = bob.bind_apple(&bought.signed_transaction).await;
        assert_eq!(claimed.is_ok(), moves, "{product}");
    }
    assert!(is_active(&bob.now().await, "pro_access"));
    assert!(is_active(&alice.now().await, "export"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_auto_bind_a_purchase_waits_for_the_app_of_the_account_it_names() {
    let world = with_rules("[ownership]\nauto_bind = false").await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let apple = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    let google = world
        .buy_google("alice", "premium-monthly", Some(&alice.store_token))
        .await;
    world.settled().await;
    assert!(!is_active(&alice.now().await, "pro_access"));
    assert_eq!(
        world
            .count("select count(*) from purchase_chains where owner_account_id is null")
            .await,
        2
    );
    refused(&bob, &apple.signed_transaction).await;
    alice
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("hers");
    alice
        .bind_google(&google.purchase_token)
        .await
        .expect("hers");
    assert_eq!(alice.now().await.subscriptions.len(), 2);
    let provisional =
        "select count(*) from purchase_chains where owner_provisional_until is not null";
    assert_eq!(world.count(provisional).await, 0, "the stores name her");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_in_the_wrong_order_do_not_undo_each_other() {
    let world = World::start().await;
    let [alice, bob, carol] = [
        world.person("alice").await,
        world.person("bob").await,
        world.person("carol").await,
    ];
    let bought = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("hers");
    world.settled().await;
    let chain = world.row("select id::text from purchase_chains").await;
    let transfer = |from: &'static str, to: &'static str, operation: &'static str| {
        let (world, chain) = (&world, chain.clone());
        async move {
            tokio::process::Command::new(env!("CARGO_BIN_EXE_entitled"))
                .args(["transfer", &chain, to, "--from", from])
                .args(["--operation-id", operation, "--reason", "asked"])
                .args(["--actor", "sam", "--config"])
                .arg(&world.stack.address.config)
                .output()
                .await
                .expect("the program runs")
        }
    };
    // The second one arrives first: it takes from somebody who has nothing yet.
    let early = transfer("dev:bob", "dev:carol", "ticket-2").await;
    assert!(!early.status.success());
    let complaint = String::from_utf8_lossy(&early.stderr).into_owned();
    assert!(complaint.contains("not the account's"), "{complaint}");
    for _ in 0..2 {
        // Sent again, each is the same transfer.
        for (from, to, operation) in [
            ("dev:alice", "dev:bob", "ticket-1"),
            ("dev:bob", "dev:carol", "ticket-2"),
        ] {
            let done = transfer(from, to, operation).await;
            let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success(), "{complaint}");
        }
    }
    let reused = transfer("dev:carol", "dev:alice", "ticket-1").await;
    assert!(!reused.status.success());
    world.settled().await;
    assert!(is_active(&carol.now().await, "pro_access"));
    for former in [&alice, &bob] {
        assert_eq!(pro(&former.now().await), off(InactiveReason::Transferred));
    }
    let moves = "select count(*) from ownership_changes where reason = 'transfer'";
    assert_eq!(world.count(moves).await, 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family_members_share_is_the_members_where_the_product_may_be_shared() {
    for (rule, granted) in [("grant", true), ("refuse", false)] {
        let catalog = EXAMPLE_CATALOG.replace(
            "[products.pro_yearly]\n",
            &format!("[products.pro_yearly]\nfamily_sharing = \"{rule}\"\n"),
        );
        let world = World::with(|options| options.catalog = catalog).await;
        let (alice, kid) = (world.person("alice").await, world.person("kid").await);
        let bought = world
            .buy_apple("alice", YEARLY, Some(&alice.store_token))
            .await;
        alice
            .bind_apple(&bought.signed_transaction)
            .await
            .expect("hers");
        let share = AppStoreAction::Share {
            original_transaction_id: bought.original_transaction_id.clone(),
            member: "kid".into(),
        };
        let shared = world.stores().app_store(share).await.expect("shared");
        let Outcome::AppStore(shared) = shared else {
            panic!("{shared:?}")
        };
        let bound = kid
            .bind_apple(&shared.signed_transaction)
            .await
            .expect("the member's");
        let told = kid.now().await;
        assert_eq!(is_active(&told, "pro_access"), granted);
        if granted {
            assert_eq!(bound.outcome(), BindOutcome::Bound);
        } else {
            assert_eq!(bound.outcome(), BindOutcome::BoundWithoutAccess);
            assert_eq!(
                entitlement(&told, "pro_access").inactive_reason(),
                InactiveReason::FamilySharingRefused
            );
            let why = "select count(*) from subscription_events
                where reason = 'family_sharing_refused'";
            assert!(world.count(why).await > 0);
        }
        assert!(is_active(&alice.now().await, "pro_access"));
        world.settled().await;
        let named = "select count(*) from duties d join purchase_chains c on c.id = d.chain_id
            where d.kind = 'set_account_token'";
        assert_eq!(
            world.count(named).await,
            0,
            "Apple takes no token for a member"
        );
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reinstall_of_somebody_who_never_signed_in_takes_the_purchase_along() {
    let world = World::start().await;
    let before = world.nobody("install-1").await;
    let token = Some(before.store_token.as_str());
    let apple = world.buy_apple("phone", YEARLY, token).await;
    let google = world.buy_google("phone", "premium-monthly", token).await;
    before
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("bound");
    before
        .bind_google(&google.purchase_token)
        .await
        .expect("bound");
    world.settled().await;
    assert!(is_active(&before.now().await, "pro_access"));

    // Another installation is another account, and the store's record names the first.
    world.stores().advance(period("P2D")).await.expect("later");
    let after = world.nobody("install-2").await;
    refused(&after, &apple.signed_transaction).await;
    let moved = after
        .bind_apple(&fresh(&world, &apple.transaction_id))
        .await
        .expect("fresh possession");
    assert_eq!(moved.outcome(), BindOutcome::Bound);
    after
        .bind_google(&google.purchase_token)
        .await
        .expect("a live token");
    world.settled().await;
    assert!(is_active(&after.now().await, "pro_access"));
    assert_eq!(
        pro(&before.now().await),
        off(InactiveReason::Transferred),
        "one owner"
    );

    // Passed around, it stops serving after the third move.
    let holders = world.nobodies("passed-on-", 3).await;
    for (number, holder) in holders.iter().enumerate() {
        let bound = holder
            .bind_apple(&fresh(&world, &apple.transaction_id))
            .await;
        assert_eq!(bound.is_ok(), number < 2, "move {}", number + 2);
    }

    // Signed in, the last holder keeps it.
    let keeper = world.person("passed-on-1").await;
    assert_eq!(keeper.account, holders[1].account, "the same identity");
    world
        .stores()
        .advance(period("P31D"))
        .await
        .expect("a month");
    refused(&after, &fresh(&world, &apple.transaction_id)).await;
    assert!(is_active(&keeper.now().await, "pro_access"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bought_after_a_transfer_is_whose_the_store_says() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    let chain = world.chain_of(&bought.transaction_id).await;
    world
        .command(&["transfer", &chain, "dev:bob", "--reason", "she asked"])
        .await;
    let stores = world.stores();
    stores
        .set_auto_renew(&bought.original_transaction_id, false)
        .await
        .expect("off");
    stores.advance(period("P40D")).await.expect("lapsed");
    world.settled().await;
    assert_eq!(pro(&bob.now().await), off(InactiveReason::Expired));

    // She pays again, under her own name.
    let again = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    assert_eq!(
        again.original_transaction_id,
        bought.original_transaction_id
    );
    world.settled().await;
    assert!(is_active(&alice.now().await, "pro_access"), "who pays");
    assert!(!is_active(&bob.now().await, "pro_access"));
    alice
        .bind_apple(&again.signed_transaction)
        .await
        .expect("hers");
    world.stop().await;
}
