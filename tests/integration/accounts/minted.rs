//! Tokens that a backend asks for, for users whom only it knows.

use entitled::proto::{GetEntitlementsRequest, MintTokenRequest, MintTokenResponse};
use tonic::{Code, Status};

use super::with;
use crate::scene::{YEARLY, now};
use crate::support::{World, assert_refused, is_active};

async fn mint(
    world: &World,
    token: &str,
    account: &str,
    seconds: Option<i64>,
) -> Result<MintTokenResponse, Status> {
    let request = MintTokenRequest {
        account: account.into(),
        ttl: seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
    };
    let answer = with(world, token).await.mint_token(request).await?;
    Ok(answer.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_knows_only_its_backend_buys_by_a_token_that_the_backend_fetches() {
    let world = World::start().await;
    let service = world.service_token();
    let minted = mint(&world, &service, "backend:42", None).await;
    let minted = minted.expect("a token");
    let account = minted.account.expect("an account");
    let mut phone = world.client_with_token(&minted.access_token).await;
    let seen = now(&phone).await.account.expect("an account");
    assert_eq!(seen, account);
    let bought = world
        .buy_apple("buyer", YEARLY, Some(&account.store_token))
        .await;
    phone
        .bind_app_store(&bought.signed_transaction)
        .await
        .expect("bound");
    assert!(is_active(&now(&phone).await, "pro_access"));

    // The same user by name, by id, and for another device.
    for name in ["backend:42", account.id.as_str()] {
        let again = mint(&world, &service, name, Some(60))
            .await
            .expect("a token");
        assert_eq!(again.account.as_ref(), Some(&account));
        assert_ne!(again.access_token, minted.access_token);
        let device = world.client_with_token(&again.access_token).await;
        assert!(is_active(&now(&device).await, "pro_access"));
    }
    assert_eq!(world.count("select count(*) from accounts").await, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_services_mint_and_only_for_a_day_and_for_names_that_are_known() {
    let world = World::start().await;
    let service = world.service_token();
    let operator = crate::tickets::token(&world, "sue", "entitled.operator");
    for token in [world.token("alice"), operator] {
        let refused = mint(&world, &token, "backend:42", None).await;
        assert_refused(
            &refused.expect_err("no service"),
            Code::PermissionDenied,
            "SERVICE_REQUIRED",
        );
    }
    for seconds in [-1, 0, 59, 86_401, i64::MAX] {
        let refused = mint(&world, &service, "backend:42", Some(seconds)).await;
        assert_refused(
            &refused.expect_err("too short or long"),
            Code::InvalidArgument,
            "REQUEST_INVALID",
        );
    }
    let nobody = uuid::Uuid::new_v4().to_string();
    let ours = format!("entitled:{nobody}");
    for name in [nobody.as_str(), &ours, "other:42", "42", "backend:"] {
        let refused = mint(&world, &service, name, None).await;
        assert_refused(
            &refused.expect_err(name),
            Code::NotFound,
            "ACCOUNT_NOT_FOUND",
        );
    }
    assert_eq!(world.count("select count(*) from accounts").await, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_an_account_that_nobody_has_seen_makes_none() {
    let world = World::start().await;
    let mut service = world.client_with_token(&world.service_token()).await;
    let nobody = uuid::Uuid::new_v4().to_string();
    for name in [nobody.as_str(), "backend:42", "app:nobody", "unheard-of:1"] {
        let request = GetEntitlementsRequest {
            account: name.into(),
            ..Default::default()
        };
        let answer = service.inner.get_entitlements(request).await;
        let snapshot = answer.expect("an answer").into_inner().snapshot;
        let snapshot = snapshot.expect("a snapshot");
        assert_eq!(snapshot.revision, 0);
        assert!(!snapshot.entitlements.is_empty(), "the catalog's, all off");
        assert!(snapshot.entitlements.iter().all(|e| !e.active), "{name}");
    }
    assert_eq!(world.count("select count(*) from accounts").await, 0);
    assert_eq!(world.count("select count(*) from store_tokens").await, 0);
    world.stop().await;
}
