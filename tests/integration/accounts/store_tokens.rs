//! Names by which the stores know an adopter's users from before.

use entitled::proto::{RegisterStoreTokenRequest, RegisterStoreTokenResponse};
use entitled::sandbox::IdentityToken;
use futures::future::join_all;
use tonic::{Code, Status};

use super::with;
use crate::scene::{YEARLY, now};
use crate::support::{Device, World, assert_refused, is_active};

const OLD: &str = "6D2A1B52-7C1F-4A5B-9D36-0F6C2B9E4A11";

pub async fn register(
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

/// An account that was erased gets no name any more, whatever the caller still has of it.
#[tokio::test(flavor = "multi_thread")]
async fn no_token_names_an_account_that_was_erased() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let erased = crate::privacy::erase(&world, &world.token("alice"), "", "").await;
    erased.expect("erased");
    let refused = register(&world, &alice.account, OLD).await;
    assert_refused(
        &refused.expect_err("nobody"),
        Code::NotFound,
        "ACCOUNT_NOT_FOUND",
    );
    // Not even if it was known to the replica a moment ago, or the row is there for some reason.
    let pool = world.tables().await;
    sqlx::query(
        "insert into store_tokens (token, account_id, created_at, kind)
         select lower($1), id, now(), 'registered' from accounts",
    )
    .bind(OLD)
    .execute(&pool)
    .await
    .expect("a leftover");
    pool.close().await;
    world.buy_apple("alice", YEARLY, Some(OLD)).await;
    world.settled().await;
    let owned = "select count(*) from purchase_chains where owner_account_id is not null";
    assert_eq!(world.count(owned).await, 0);
    world.stop().await;
}

/// The user's own provider says by which name the stores know them.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_users_own_token_says_is_theirs_and_nobody_elses() {
    let mut world = World::start().await;
    world
        .restart(|config| {
            for issuer in &mut config.issuers.0 {
                issuer.store_token_claim = Some("/store/name".into());
            }
        })
        .await;
    let token = |subject: &str, said: serde_json::Value| {
        let mut token = IdentityToken::of(subject);
        token.claims.insert("store".into(), said);
        world.stores().identity_token(&token).expect("a token")
    };
    // Bought under the old name, before anybody has called.
    world.buy_apple("alice", YEARLY, Some(OLD)).await;
    world.settled().await;
    let named = serde_json::json!({ "name": OLD });
    let alice = world
        .client_with_token(&token("alice", named.clone()))
        .await;
    let account = now(&alice).await.account.expect("an account");
    assert_ne!(account.store_token.to_lowercase(), OLD.to_lowercase());
    let mut device = Device::open(alice.clone()).await;
    device.until_active("pro_access").await;

    // Who comes later with the same name is served, and has nothing of it; so is who has none.
    let junk = "a".repeat(65);
    for said in [
        named,
        serde_json::json!({ "name": account.store_token }),
        serde_json::json!({ "name": junk }),
        serde_json::json!({ "name": 7 }),
        serde_json::json!({ "name": "" }),
        serde_json::json!("x"),
        serde_json::Value::Null,
    ] {
        let mallory = world
            .client_with_token(&token("mallory", said.clone()))
            .await;
        assert!(!is_active(&now(&mallory).await, "pro_access"), "{said}");
    }
    let names = "select count(*) from store_tokens where kind = 'registered'";
    assert_eq!(world.count(names).await, 1);
    let alices = now(&alice).await;
    assert!(is_active(&alices, "pro_access"));
    // A name that Google Play alone would take, for a purchase there.
    let said = serde_json::json!({ "name": "user-17" });
    let bob = world.client_with_token(&token("bob", said)).await;
    now(&bob).await;
    world
        .buy_google("bob", "premium-monthly", Some("user-17"))
        .await;
    world.settled().await;
    assert!(is_active(&now(&bob).await, "pro_access"));
    world.stop().await;
}
