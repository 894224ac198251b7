//! Names by which the stores know an adopter's users from before.

use entitled::proto::{RegisterStoreTokenRequest, RegisterStoreTokenResponse};
use futures::future::join_all;
use tonic::{Code, Status};

use super::with;
use crate::scene::YEARLY;
use crate::support::{World, assert_refused, is_active};

const OLD: &str = "6D2A1B52-7C1F-4A5B-9D36-0F6C2B9E4A11";

async fn register(
    world: &World,
    account: &str,
    token: &str,
) -> Result<RegisterStoreTokenResponse, Status> {
    let request = RegisterStoreTokenRequest {
        account: account.into(),
        store_token: token.into(),
    };
    let mut service = with(world, &world.service_token()).await;
    Ok(service.register_store_token(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_bought_under_an_adopters_old_token_is_the_users_from_their_first_call_on() {
    let world = World::start().await;
    let known = register(&world, "dev:alice", OLD)
        .await
        .expect("registered");
    let known = known.account.expect("an account");
    assert_ne!(known.store_token.to_lowercase(), OLD.to_lowercase());
    // A purchase of before, renewed after the adopter came here: nobody binds it.
    world.buy_apple("alice", YEARLY, Some(OLD)).await;
    world.settled().await;
    let alice = world.person("alice").await;
    assert_eq!(alice.account, known.id);
    assert!(is_active(&alice.now().await, "pro_access"));
    assert_eq!(
        alice.store_token, known.store_token,
        "ours is the one to use"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_registered_late_finds_what_was_bought_under_it() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    world.buy_apple("alice", YEARLY, Some(OLD)).await;
    world.settled().await;
    assert!(
        !is_active(&alice.now().await, "pro_access"),
        "it names nobody"
    );
    let mut device = world.device("alice").await;
    register(&world, &alice.account, &OLD.to_lowercase())
        .await
        .expect("registered");
    device.until_active("pro_access").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_never_names_two_accounts() {
    let world = World::start().await;
    let names: Vec<String> = (0..8).map(|number| format!("dev:person{number}")).collect();
    let answers = join_all(names.iter().map(|name| register(&world, name, OLD))).await;
    let winners: Vec<usize> = (0..8).filter(|n| answers[*n].is_ok()).collect();
    let [winner] = winners.as_slice() else {
        panic!("{winners:?}")
    };
    for refused in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_refused(refused, Code::AlreadyExists, "STORE_TOKEN_TAKEN");
        assert!(!format!("{refused:?}").contains(&names[*winner]));
    }
    // The same again, in whatever case; not somebody else's own.
    register(&world, &names[*winner], &OLD.to_uppercase())
        .await
        .expect("registered before");
    let mallory = world.person("mallory").await;
    let own = register(&world, &names[*winner], &mallory.store_token).await;
    assert_refused(
        &own.expect_err("mallory's"),
        Code::AlreadyExists,
        "STORE_TOKEN_TAKEN",
    );
    for junk in ["", " ", "a b", "ü", &"a".repeat(65)] {
        let refused = register(&world, "dev:alice", junk).await.expect_err(junk);
        assert_refused(&refused, Code::InvalidArgument, "REQUEST_INVALID");
    }
    let refused = register(&world, "other:alice", "a")
        .await
        .expect_err("nobody");
    assert_refused(&refused, Code::NotFound, "ACCOUNT_NOT_FOUND");
    let mut user = with(&world, &world.token("mallory")).await;
    let by_user = user.register_store_token(RegisterStoreTokenRequest {
        account: String::new(),
        store_token: "mine".into(),
    });
    assert_refused(
        &by_user.await.expect_err("a user"),
        Code::PermissionDenied,
        "SERVICE_REQUIRED",
    );
    world.stop().await;
}
