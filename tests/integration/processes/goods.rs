//! A process that dies while coins are booked or a purchase moves from one account to another.

use entitled::cli::client::Bearer;
use entitled::proto::support_service_client::SupportServiceClient;
use entitled::proto::{EntitlementSnapshot, TransferPurchaseRequest};
use entitled::sandbox::{AppStoreBuy, GooglePlayBuy, Store};
use tonic::transport::Endpoint;

use super::{doomed_at, replaced, store_token};
use crate::books::Books;
use crate::process::eventually;
use crate::support::World;
use crate::tickets::token;

fn coins(snapshot: &EntitlementSnapshot) -> i64 {
    snapshot.credits.iter().map(|credit| credit.balance).sum()
}

async fn balance(world: &World, subject: &str) -> i64 {
    let told = world.client(subject).await.get().await.expect("a snapshot");
    coins(&told.snapshot.expect("a snapshot"))
}

/// Two hundred coins for two pieces, once, whatever dies between the booking and the store's.
async fn coins_survive(place: &str, store: Store) {
    let (mut world, mut doomed) = doomed_at(place).await;
    let token = store_token(&world, "alice").await;
    let stores = world.stack.sandbox.clone();
    match store {
        Store::AppStore => stores
            .buy_app_store(&AppStoreBuy {
                customer: "alice".into(),
                product_id: "com.example.coins.100".into(),
                app_account_token: Some(token.parse().expect("a UUID")),
                quantity: Some(2),
                ..AppStoreBuy::default()
            })
            .await
            .map(drop),
        Store::GooglePlay => stores
            .buy_google_play(&GooglePlayBuy {
                customer: "alice".into(),
                product_id: "coins_100".into(),
                obfuscated_account_id: Some(token),
                quantity: Some(2),
                ..GooglePlayBuy::default()
            })
            .await
            .map(drop),
    }
    .expect("bought");
    let healthy = replaced(&mut world, &mut doomed).await;
    let books = Books::of(&world).await;
    eventually("the coins are booked and nothing is owed", async || {
        let effects = books.effects().await;
        effects.transactions == 1 && effects.duties_open == 0 && effects.unfinished == 0
    })
    .await;
    for told in stores.notifications() {
        stores.deliver(&told.id).await.expect("told again");
    }
    world.settled().await;
    assert_eq!(balance(&world, "alice").await, 200, "{place}");
    let phone = world.device("alice").await;
    assert_eq!(coins(&phone.latest), 200, "{place}");
    let entries = "select count(*) from credit_entries";
    assert_eq!(books.number(entries).await, 1, "{place}");
    assert_eq!(books.effects().await.transactions, 1, "{place}");
    drop(healthy);
    world.stop().await;
}

macro_rules! coins {
    ($($name:ident = $place:literal, $store:ident;)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                coins_survive($place, Store::$store).await;
            }
        )+
    };
}

coins! {
    coins_before_the_settle_commits_apple = "before_commit", AppStore;
    coins_before_the_settle_commits_google = "before_commit", GooglePlay;
    coins_after_the_settle_committed_apple = "after_commit", AppStore;
    coins_after_the_settle_committed_google = "after_commit", GooglePlay;
    coins_before_they_are_consumed = "before_acknowledge", GooglePlay;
    coins_that_were_consumed_and_it_was_not_noted = "after_acknowledge", GooglePlay;
}

/// An operator's transfer dies; asked again by the same name it has happened once, in both books.
async fn a_transfer_survives(place: &str) {
    let (mut world, mut doomed) = doomed_at(place).await;
    let names = store_token(&world, "alice").await;
    let _ = store_token(&world, "bob").await;
    let mut phones = (world.device("alice").await, world.device("bob").await);
    let bought = world
        .stack
        .sandbox
        .buy_app_store(&AppStoreBuy {
            customer: "alice".into(),
            product_id: "com.example.premium.yearly".into(),
            app_account_token: Some(names.parse().expect("a UUID")),
            ..AppStoreBuy::default()
        })
        .await
        .expect("bought");
    phones.0.until_active("pro_access").await;
    let transfer = TransferPurchaseRequest {
        purchase: bought.original_transaction_id.clone(),
        to_account: "dev:bob".into(),
        from_account: "dev:alice".into(),
        reason: "a new login".into(),
        operation_id: "ticket-1".into(),
    };
    let died = moves(&world, transfer.clone()).await;
    died.expect_err("the server died");
    let _healthy = replaced(&mut world, &mut doomed).await;
    let again = moves(&world, transfer).await;
    again.expect("moved, now or before");
    phones.1 = world.device("bob").await;
    phones.1.until_active("pro_access").await;
    world.settled().await;
    let books = Books::of(&world).await;
    assert_eq!(books.effects().await.owners, 2, "the first owner, and bob");
    assert_eq!(books.effects().await.transactions, 1);
    let told = world.client("alice").await.get().await.expect("a snapshot");
    let active = told.snapshot.expect("a snapshot").entitlements;
    assert!(active.iter().all(|one| !one.active), "alice has nothing");
    world.stop().await;
}

async fn moves(world: &World, transfer: TransferPurchaseRequest) -> Result<(), tonic::Status> {
    let server = Endpoint::from_shared(world.stack.address.server.clone()).expect("a URL");
    let channel = server.connect().await.expect("a server");
    let bearer = Bearer::of(&token(world, "sue", "entitled.operator")).expect("a token");
    let mut support = SupportServiceClient::with_interceptor(channel, bearer);
    support.transfer_purchase(transfer).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_was_not_committed() {
    a_transfer_survives("before_transfer_commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_was_committed_and_not_told() {
    a_transfer_survives("after_transfer_commit").await;
}
