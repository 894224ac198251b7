//! Whose mail is this: by every name that a mail can hold, by an index each.

use entitled::proto::{FindAccountRequest, FindAccountResponse, FoundBy, Store};
use tonic::Code;

use super::Operator;
use crate::scene::{MONTHLY, PACKAGE};
use crate::support::{World, assert_refused};

impl Operator {
    async fn find(&mut self, query: &str) -> FindAccountResponse {
        let request = FindAccountRequest {
            query: query.into(),
        };
        let found = self.support.find_account(request).await;
        found.expect("an answer").into_inner()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_somebodys_by_whatever_it_holds() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let apple = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("bound");
    let google = world
        .buy_google("bob", "premium-monthly", Some(&bob.store_token))
        .await;
    bob.bind_google(&google.purchase_token)
        .await
        .expect("bound");
    world.settled().await;
    let month = chrono::TimeDelta::days(32);
    world.stores().advance_by(month).await.expect("a month");
    world.settled().await;
    let renewal = world
        .row("select transaction_id from transactions where kind = 'renewal' and transaction_id ~ '^[0-9]+$'")
        .await;
    let order = world
        .row("select max(transaction_id) from transactions where transaction_id like 'GPA.%..%'")
        .await;
    let chains = [
        world.chain_of(&apple.original_transaction_id).await,
        world.chain_of(&google.purchase_token).await,
    ];
    let viewer = super::token(&world, "vi", "entitled.viewer");
    let mut sue = Operator::with(&world, &viewer).await;

    for (query, by) in [
        (alice.account.clone(), FoundBy::AccountId),
        ("dev:alice".to_owned(), FoundBy::Identity),
        (" <dev:alice>,\r\n".to_owned(), FoundBy::Identity),
        (alice.store_token.clone(), FoundBy::StoreToken),
        (alice.store_token.to_uppercase(), FoundBy::StoreToken),
    ] {
        let found = sue.find(&query).await;
        let [account] = found.accounts.as_slice() else {
            panic!("{query}: {found:?}");
        };
        assert_eq!(account.account_id, alice.account, "{query}");
        assert_eq!(account.found_by(), by, "{query}");
        assert_eq!(account.identities, ["dev:alice"]);
        assert_eq!(account.purchase_ids, [chains[0].clone()]);
        assert!(found.purchases.is_empty(), "{query}");
    }
    for (query, by, owner) in [
        (chains[0].as_str(), FoundBy::PurchaseId, &alice),
        (
            &apple.original_transaction_id,
            FoundBy::OriginalTransactionId,
            &alice,
        ),
        (&renewal, FoundBy::TransactionId, &alice),
        (&google.order_id, FoundBy::OrderId, &bob),
        (&order, FoundBy::OrderId, &bob),
        (
            &format!("\"{}..7\"", google.order_id),
            FoundBy::OrderId,
            &bob,
        ),
        (&google.purchase_token, FoundBy::PurchaseToken, &bob),
    ] {
        let found = sue.find(query).await;
        let ([account], [purchase]) = (found.accounts.as_slice(), found.purchases.as_slice())
        else {
            panic!("{query}: {found:?}");
        };
        assert_eq!(account.account_id, owner.account, "{query}");
        assert_eq!(account.found_by(), FoundBy::Purchase);
        assert_eq!(
            (purchase.found_by(), &purchase.account_id),
            (by, &owner.account)
        );
        let sold = match owner.name.as_str() {
            "alice" => (Store::AppStore, "example-ios", &chains[0]),
            _ => (Store::GooglePlay, "example-android", &chains[1]),
        };
        let told = (
            purchase.store(),
            purchase.app.as_str(),
            &purchase.purchase_id,
        );
        assert_eq!(told, sold, "{query}");
    }
    for nothing in [
        "GPA.0000-0000-0000-00000",
        "dev:nobody",
        "2",
        PACKAGE,
        "%",
        "dev:%",
    ] {
        let found = sue.find(nothing).await;
        assert_eq!(found, FindAccountResponse::default(), "{nothing}");
    }
    for (query, why) in [(" \" ", "nothing"), (&"x".repeat(5_000), "too much")] {
        let request = FindAccountRequest {
            query: query.into(),
        };
        let refused = sue.support.find_account(request).await.expect_err(why);
        assert_refused(&refused, Code::InvalidArgument, "REQUEST_INVALID");
    }
    world.stop().await;
}
