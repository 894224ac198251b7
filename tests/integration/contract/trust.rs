//! Whose word counts: proofs, notifications, owners, environments, products.

use entitled::cli::stack::EXAMPLE_CATALOG;
use entitled::proto::{self, BindOutcome, ClientAction, InactiveReason};
use entitled::sandbox::{Environment, Store};
use tonic::Code;

use super::shops::acknowledged;
use super::{Product, Shop, calls, contract, pro, store_token, truth};
use crate::books::Books;
use crate::process::{NOBODY, Process, eventually};
use crate::support::{World, assert_refused, entitlement, is_active, reason};

contract! {
    genuine_is_accepted
    forged_is_refused
    repeated_is_harmless
    foreign_account_is_refused
    environment_is_flagged
    sandbox_grants_nothing_where_nobody_may_use_it
    unknown_product_grants_nothing_until_it_is_known
    acknowledged_once_it_has_an_owner
}

async fn genuine_is_accepted<S: Shop>() {
    let world = World::start().await;
    let mut phone = world.device("alice").await;
    let bought = S::buy(&world, "alice", None, Product::Yearly).await;
    let bound = S::bind(&world, "alice", &bought.proof)
        .await
        .expect("bound");
    assert_eq!(
        (bound.outcome(), bound.client_action()),
        (BindOutcome::Bound, ClientAction::Finish)
    );
    phone.until_active("pro_access").await;
    assert!(
        is_active(&phone.latest, "export"),
        "the yearly plan brings both"
    );
    let access = pro(&phone.latest);
    let paid_until = truth(&world, "alice")
        .expires_at
        .expect("a period")
        .timestamp();
    assert_eq!(access.expires_at.expect("an end").seconds, paid_until);
    assert!(access.will_renew && !access.sources[0].unconfirmed);
    assert_eq!(access.environment(), proto::Environment::Production);
    assert_eq!(access.sources[0].plan, "pro_yearly");
    let shop = match S::STORE {
        Store::AppStore => proto::Store::AppStore,
        Store::GooglePlay => proto::Store::GooglePlay,
    };
    assert_eq!(phone.latest.subscriptions[0].store(), shop);
    world.settled().await;
    world.stop().await;
}

async fn forged_is_refused<S: Shop>() {
    let world = World::start().await;
    world
        .stack
        .sandbox
        .hold_deliveries(true)
        .await
        .expect("held");
    let genuine = S::buy(&world, "alice", None, Product::Yearly).await;
    assert_eq!(S::send_as_a_stranger(&world).await, 401);
    for proof in S::forged_proofs(&world, &genuine) {
        let status = S::bind(&world, "mallory", &proof)
            .await
            .expect_err("forged");
        let refused = (status.code(), reason(&status));
        let expected = [
            (Code::InvalidArgument, "PROOF_INVALID".to_owned()),
            (Code::NotFound, "PURCHASE_NOT_FOUND".to_owned()),
        ];
        assert!(expected.contains(&refused), "{status:?}");
    }
    let books = Books::of(&world).await;
    assert_eq!(
        books.number("select count(*) from raw_notifications").await,
        0
    );
    assert_eq!(
        books.number("select count(*) from ownership_changes").await,
        0
    );
    assert_eq!(
        books
            .number("select count(*) from entitlement_snapshots")
            .await,
        0
    );
    // The genuine one is nobody's yet, and not spoiled.
    S::bind(&world, "alice", &genuine.proof)
        .await
        .expect("bound");
    world.stop().await;
}

async fn repeated_is_harmless<S: Shop>() {
    let world = World::still().await;
    let mut phone = world.device("alice").await;
    let token = store_token(&phone);
    let bought = S::buy(&world, "alice", Some(&token), Product::Yearly).await;
    phone.until_active("pro_access").await;
    world.settled().await;
    let first = S::bind(&world, "alice", &bought.proof)
        .await
        .expect("bound");
    assert_eq!(
        first.outcome(),
        BindOutcome::AlreadyYours,
        "the store's record named the account"
    );
    world.settled().await;
    let asked = calls(&world);
    for _ in 0..3 {
        let again = S::bind(&world, "alice", &bought.proof)
            .await
            .expect("bound");
        assert_eq!(again.outcome(), BindOutcome::AlreadyYours);
        assert_eq!(again.client_action(), ClientAction::Finish);
        for notification in world.stack.sandbox.notifications() {
            world
                .stack
                .sandbox
                .deliver(&notification.id)
                .await
                .expect("told again");
        }
    }
    world.settled().await;
    assert_eq!(calls(&world), asked, "what is in sync costs no call");
    let books = Books::of(&world).await;
    let effects = books.effects().await;
    assert_eq!(
        (effects.chains, effects.owners, effects.revision),
        (1, 1, 1)
    );
    assert_eq!((effects.applied, effects.notifications), (1, 1));
    assert_eq!(
        books
            .number("select deliveries::bigint from ingress_keys")
            .await,
        4
    );
    world.stop().await;
}

async fn foreign_account_is_refused<S: Shop>() {
    let world = World::start().await;
    world
        .stack
        .sandbox
        .hold_deliveries(true)
        .await
        .expect("held");
    let mut alice = world.device("alice").await;
    let token = store_token(&alice);
    let bought = S::buy(&world, "alice", Some(&token), Product::Yearly).await;
    // The thief is even faster than the store's own notification.
    for _ in 0..2 {
        let status = S::bind(&world, "mallory", &bought.proof)
            .await
            .expect_err("another's");
        assert_refused(
            &status,
            Code::FailedPrecondition,
            "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT",
        );
    }
    alice.until_active("pro_access").await;
    let bound = S::bind(&world, "alice", &bought.proof).await.expect("hers");
    assert_eq!(bound.outcome(), BindOutcome::AlreadyYours);
    let theirs = world
        .client("mallory")
        .await
        .get()
        .await
        .expect("read")
        .snapshot
        .expect("snapshot");
    assert_eq!(theirs.revision, 0);
    assert!(theirs.subscriptions.is_empty());
    world.stop().await;
}

async fn environment_is_flagged<S: Shop>() {
    let world = World::with(|options| options.environment = Environment::Sandbox).await;
    let mut phone = world.device("alice").await;
    let bought = S::buy(&world, "alice", None, Product::Yearly).await;
    S::bind(&world, "alice", &bought.proof)
        .await
        .expect("bound");
    phone.until_active("pro_access").await;
    let access = pro(&phone.latest);
    assert_eq!(access.environment(), proto::Environment::Sandbox);
    assert_eq!(access.sources[0].environment(), proto::Environment::Sandbox);
    assert_eq!(
        phone.latest.subscriptions[0].environment(),
        proto::Environment::Sandbox
    );
    let real = "select count(*) from transactions where environment <> 'sandbox'";
    assert_eq!(
        Books::of(&world).await.number(real).await,
        0,
        "play money is never counted"
    );
    world.settled().await;
    world.stop().await;
}

async fn sandbox_grants_nothing_where_nobody_may_use_it<S: Shop>() {
    let world = World::with(|options| {
        options.environment = Environment::Sandbox;
        options.catalog = format!("sandbox_access = \"nobody\"\n{EXAMPLE_CATALOG}");
    })
    .await;
    let bought = S::buy(&world, "alice", None, Product::Yearly).await;
    let bound = S::bind(&world, "alice", &bought.proof)
        .await
        .expect("bound");
    assert_eq!(bound.outcome(), BindOutcome::BoundWithoutAccess);
    let snapshot = bound.snapshot.expect("snapshot");
    assert!(!is_active(&snapshot, "pro_access"));
    assert_eq!(
        pro(&snapshot).inactive_reason(),
        InactiveReason::EnvironmentNotAccepted
    );
    world.settled().await;
    world.stop().await;
}

/// The example catalog without what the customer buys.
fn ignorant_catalog() -> String {
    let mut catalog: toml::Table = EXAMPLE_CATALOG.parse().expect("TOML");
    let products = catalog["products"].as_table_mut().expect("products");
    products.remove("pro_yearly").expect("sold");
    products.remove("export_forever").expect("sold");
    toml::to_string(&catalog).expect("TOML")
}

async fn unknown_product_grants_nothing_until_it_is_known<S: Shop>() {
    let mut world = World::with(|options| options.roles = NOBODY).await;
    let catalog = world.stack.address.config.with_file_name("catalog.toml");
    std::fs::write(&catalog, ignorant_catalog()).expect("written");
    let ignorant = Process::start(&world, "start", &[]).await;
    ignorant.serves(&mut world);
    // Alice's purchase shows in her account all the same; Bob's leaves no trace in his.
    for (subject, product) in [("alice", Product::Yearly), ("bob", Product::Export)] {
        let bought = S::buy(&world, subject, None, product).await;
        let bound = S::bind(&world, subject, &bought.proof)
            .await
            .expect("verified and owned");
        assert_eq!(bound.outcome(), BindOutcome::BoundWithoutAccess);
        let snapshot = bound.snapshot.expect("snapshot");
        assert!(
            snapshot
                .entitlements
                .iter()
                .all(|entitlement| !entitlement.active)
        );
    }
    world.settled().await;
    let books = Books::of(&world).await;
    let unmapped = "select count(distinct chain_id) from subscription_events where reason = 'unmapped_product'";
    assert_eq!(books.number(unmapped).await, 2, "kept, with the reason");
    assert_eq!(
        books.number("select count(*) from duties").await,
        0,
        "not acknowledged"
    );
    drop(ignorant);

    // A text of its own: one that was applied before is taken for last week's file.
    std::fs::write(&catalog, format!("{EXAMPLE_CATALOG}\n# Sold again.\n")).expect("written");
    let knowing = Process::start(&world, "start", &[]).await;
    knowing.serves(&mut world);
    let mut alice = world.device("alice").await;
    let mut bob = world.device("bob").await;
    alice.until_active("pro_access").await;
    bob.until_active("export").await;
    if S::WANTS_ACKNOWLEDGEMENT {
        world
            .stack
            .sandbox
            .advance("P1D".parse().expect("a period"))
            .await
            .expect("a day passes");
        eventually("the store is told", async || {
            ["alice", "bob"]
                .iter()
                .all(|customer| acknowledged(&world, customer) == Some(true))
        })
        .await;
    }
    world.stop().await;
}

async fn acknowledged_once_it_has_an_owner<S: Shop>() {
    let world = World::start().await;
    let bought = S::buy(&world, "alice", None, Product::Yearly).await;
    let forever = S::buy(&world, "bob", None, Product::Export).await;
    world.settled().await;
    let expected = S::WANTS_ACKNOWLEDGEMENT;
    for customer in ["alice", "bob"] {
        assert_eq!(
            acknowledged(&world, customer),
            expected.then_some(false),
            "it is nobody's"
        );
    }
    S::bind(&world, "alice", &bought.proof)
        .await
        .expect("bound");
    let bound = S::bind(&world, "bob", &forever.proof).await.expect("bound");
    let export = entitlement(bound.snapshot.as_ref().expect("snapshot"), "export").clone();
    assert!(export.active && export.access_until.is_none(), "for ever");
    let books = Books::of(&world).await;
    // One store wants them acknowledged, the other is told whose they are.
    eventually("the duties are done", async || {
        books
            .number("select count(*) from duties where done_at is not null")
            .await
            == 2
    })
    .await;
    for customer in ["alice", "bob"] {
        assert_eq!(acknowledged(&world, customer), expected.then_some(true));
    }
    world.settled().await;
    world.stop().await;
}
