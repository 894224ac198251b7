//! An app without a sign-in: its account, its session, and who else might hold its tokens.

use std::time::Duration;

use entitled::config::tokens::AnonymousAccounts;
use entitled::proto::BindOutcome;
use futures::future::join_all;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{Phone, client, create, refresh, refresh_at, refused};
use crate::scene::{READER, YEARLY, now};
use crate::support::{Device, World, assert_refused, client_action, is_active};

/// An hour passes for the sessions alone.
const LATER: &str = "with later as (update token_sessions
    set rotated_at = rotated_at - interval '1 hour' returning 1) select count(*) from later";

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_without_a_sign_in_buys_and_stays_who_it_is() {
    let world = World::start().await;
    let phone = Phone::first_start(&world).await;
    let person = &phone.person;
    let bought = world
        .buy_apple("buyer", YEARLY, Some(&person.store_token))
        .await;
    let bound = person.bind_apple(&bought.signed_transaction).await;
    assert_ne!(bound.expect("bound").outcome(), BindOutcome::Unspecified);
    assert!(is_active(&person.now().await, "pro_access"));
    assert_eq!(
        world
            .count(
                "select count(*) from account_identities where issuer = 'entitled' and anonymous"
            )
            .await,
        1
    );

    let next = refresh(&world, &phone.credentials.refresh_token).await;
    let next = next.expect("credentials");
    assert_ne!(next.access_token, phone.credentials.access_token);
    assert_ne!(next.refresh_token, phone.credentials.refresh_token);
    let again = now(&client(&world, &next).await).await;
    assert_eq!(again.account.as_ref().map(|a| &a.id), Some(&person.account));
    assert!(is_active(&again, "pro_access"));

    // Nothing that a client holds is kept.
    let row = world
        .row("select string_agg(t::text, ' ') from token_sessions t")
        .await;
    for secret in [&next.refresh_token, &phone.credentials.refresh_token] {
        assert!(!row.contains(&secret[30..]), "{row}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_locks_no_phone_out() {
    let world = World::start().await;
    let phone = Phone::first_start(&world).await;
    let first = phone.credentials.refresh_token.as_str();

    // Sent twice, or at once from two processes of the app: one line of tokens.
    let answers = join_all((0..10).map(|_| refresh(&world, first))).await;
    let seconds: Vec<String> = answers
        .into_iter()
        .map(|answer| answer.expect("credentials").refresh_token)
        .collect();
    assert!(seconds.iter().all(|second| *second == seconds[0]));

    // The answer was lost, and the phone came out of the tunnel an hour later.
    world.count(LATER).await;
    let late = refresh(&world, first).await.expect("credentials");
    assert_ne!(late.refresh_token, seconds[0]);
    let third = refresh(&world, &late.refresh_token).await;
    let third = third.expect("credentials");
    now(&client(&world, &third).await).await;
    assert_eq!(world.count("select count(*) from token_sessions").await, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_replaced_ends_the_session_for_all_who_hold_it() {
    let world = World::start().await;
    let phone = Phone::first_start(&world).await;
    let first = &phone.credentials.refresh_token;
    let second = refresh(&world, first).await.expect("credentials");
    let third = refresh(&world, &second.refresh_token).await;
    let third = third.expect("credentials");
    let mut device = Device::open(client(&world, &third).await).await;

    let reused = refresh(&world, first).await.expect_err("a thief's");
    assert_refused(&reused, Code::Unauthenticated, "REFRESH_TOKEN_INVALID");
    assert_eq!(client_action(&reused), "SIGN_IN");
    for token in [&second.refresh_token, &third.refresh_token] {
        let over = refresh(&world, token).await.expect_err("over");
        assert_refused(&over, Code::Unauthenticated, "REFRESH_TOKEN_INVALID");
    }
    // Access tokens of the session have minutes left, and are refused.
    for token in [&second.access_token, &third.access_token] {
        let over = refused(&world, token).await;
        assert_refused(&over, Code::Unauthenticated, "SESSION_REVOKED");
        assert_eq!(client_action(&over), "SIGN_IN");
    }
    let end = loop {
        match device.stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it says why"),
            Err(end) => break end,
        }
    };
    assert_refused(&end, Code::Unavailable, "STREAM_RENEW");
    world.stop().await;
}

/// What was lost an hour ago was in somebody's hands after all.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_that_was_not_lost_is_found_out() {
    let world = World::start().await;
    let phone = Phone::first_start(&world).await;
    let first = &phone.credentials.refresh_token;
    let thiefs = refresh(&world, first).await.expect("credentials");
    world.count(LATER).await;
    let owners = refresh(&world, first).await.expect("credentials");
    let found = refresh(&world, &thiefs.refresh_token).await;
    assert_refused(
        &found.expect_err("replaced"),
        Code::Unauthenticated,
        "REFRESH_TOKEN_INVALID",
    );
    let over = refused(&world, &owners.access_token).await;
    assert_refused(&over, Code::Unauthenticated, "SESSION_REVOKED");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_on_every_replica_and_after_its_time() {
    let world = World::start().await;
    let other = world.replica(crate::scene::READER, |_| {}).await;
    let url = other.grpc_url().expect("gRPC");
    let phone = Phone::first_start(&world).await;
    let elsewhere = entitled::cli::client::Client::connect(&url, &phone.credentials.access_token)
        .await
        .expect("a client");
    let mut device = Device::open(elsewhere.clone()).await;
    let first = &phone.credentials.refresh_token;
    let second = refresh(&world, first).await.expect("credentials");
    refresh(&world, &second.refresh_token)
        .await
        .expect("credentials");
    refresh(&world, first).await.expect_err("reused");
    let ended = tokio::time::timeout(Duration::from_secs(60), async {
        while let Ok(Some(_)) = device.stream.message().await {}
    });
    ended.await.expect("the stream ends within a minute");
    let over = elsewhere.clone().get().await.expect_err("over");
    assert_refused(&over, Code::Unauthenticated, "SESSION_REVOKED");
    other.stop().await;

    let forgotten = Phone::first_start(&world).await;
    world
        .count(
            "with e as (update token_sessions set expires_at = clock_timestamp() returning 1)
             select count(*) from e",
        )
        .await;
    let over = refresh(&world, &forgotten.credentials.refresh_token).await;
    assert_refused(
        &over.expect_err("expired"),
        Code::Unauthenticated,
        "REFRESH_TOKEN_INVALID",
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_is_no_session() {
    let world = World::start().await;
    let phone = Phone::first_start(&world).await;
    let real = phone.credentials.refresh_token.as_str();
    let other_session = format!("{}{}", &real[..10], "A".repeat(real.len() - 10));
    for junk in [
        "ert_",
        "' or 1=1 --",
        "\u{0}",
        &"ert_a".repeat(1_000),
        &phone.credentials.access_token,
        &other_session,
    ] {
        let refused = refresh(&world, junk).await.expect_err(junk);
        assert_refused(&refused, Code::Unauthenticated, "REFRESH_TOKEN_INVALID");
    }
    // A refresh token is not a credential of any other call.
    let refused = refused(&world, real).await;
    assert_refused(&refused, Code::Unauthenticated, "TOKEN_INVALID");
    refresh(&world, real).await.expect("none of that did harm");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_without_a_sign_in_are_made_where_they_are_wanted_and_not_without_limit() {
    let mut world = World::start().await;
    world
        .restart(|config| {
            let tokens = config.tokens.as_mut().expect("tokens");
            tokens.anonymous_per_address_per_minute = 3;
        })
        .await;
    let kept = create(&world)
        .await
        .expect("one")
        .credentials
        .expect("credentials");
    for _ in 0..2 {
        create(&world).await.expect("within the limit");
    }
    let refused_ = create(&world).await.expect_err("too many");
    assert_refused(&refused_, Code::ResourceExhausted, "RATE_LIMITED");
    assert_eq!(world.count("select count(*) from accounts").await, 3);
    // Twenty refresh tokens for each of them, good or made up.
    for _ in 0..60 {
        let junk = refresh(&world, "junk").await.expect_err("no token");
        assert_refused(&junk, Code::Unauthenticated, "REFRESH_TOKEN_INVALID");
    }
    for token in ["junk", kept.refresh_token.as_str()] {
        let refused = refresh(&world, token).await.expect_err("too many");
        assert_refused(&refused, Code::ResourceExhausted, "RATE_LIMITED");
    }

    world
        .restart(|config| {
            let tokens = config.tokens.as_mut().expect("tokens");
            // One a second, and ten at once.
            tokens.anonymous_per_minute = 6;
        })
        .await;
    let made = join_all((0..8).map(|_| create(&world))).await;
    let made = made.iter().filter(|answer| answer.is_ok()).count();
    assert!((1..=3).contains(&made), "{made} of a burst of one");

    world
        .restart(|config| {
            let tokens = config.tokens.as_mut().expect("tokens");
            tokens.anonymous_accounts = AnonymousAccounts::Services;
        })
        .await;
    let alone = create(&world).await.expect_err("an app alone");
    assert_eq!(alone.code(), Code::Unauthenticated);
    let mut user = super::with(&world, &world.token("alice")).await;
    let user = user.create_anonymous(entitled::proto::CreateAnonymousRequest {});
    assert_refused(
        &user.await.expect_err("a user"),
        Code::PermissionDenied,
        "SERVICE_REQUIRED",
    );
    let mut service = super::with(&world, &world.service_token()).await;
    let by_service = service.create_anonymous(entitled::proto::CreateAnonymousRequest {});
    by_service
        .await
        .expect("a service that has looked at the device");

    world
        .restart(|config| {
            let tokens = config.tokens.as_mut().expect("tokens");
            tokens.anonymous_accounts = AnonymousAccounts::Off;
        })
        .await;
    let off = create(&world).await.expect_err("off");
    assert_refused(&off, Code::FailedPrecondition, "ANONYMOUS_ACCOUNTS_OFF");
    // Those that exist go on.
    refresh(&world, &kept.refresh_token)
        .await
        .expect("credentials");

    world.restart(|config| config.tokens = None).await;
    let off = create(&world).await.expect_err("off");
    assert_refused(&off, Code::FailedPrecondition, "ANONYMOUS_ACCOUNTS_OFF");
    let off = refresh(&world, &kept.refresh_token).await.expect_err("off");
    assert_refused(&off, Code::FailedPrecondition, "TOKENS_OFF");
    let unknown = refused(&world, &kept.access_token).await;
    assert_refused(&unknown, Code::Unauthenticated, "ISSUER_UNKNOWN");
    world.stop().await;
}

/// A client that refreshes in a loop is told to wait, whatever address it comes from; its token stays
/// good, and nobody else is held up.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_refreshed_so_often_and_no_more() {
    let mut world = World::start().await;
    let phone = Phone::first_start(&world).await;
    let other = Phone::first_start(&world).await;
    let mut token = phone.credentials.refresh_token;
    for _ in 0..10 {
        let next = refresh(&world, &token).await.expect("credentials");
        token = next.refresh_token;
    }
    for _ in 0..2 {
        let refused = refresh(&world, &token).await.expect_err("too often");
        assert_refused(&refused, Code::ResourceExhausted, "RATE_LIMITED");
        let retry = refused.get_details_retry_info().expect("when to try again");
        assert!(retry.retry_delay.is_some_and(|delay| !delay.is_zero()));
    }
    let others = refresh(&world, &other.credentials.refresh_token).await;
    others.expect("another session's");
    // A minute later, which is a replica that has not counted.
    world.restart(|_| {}).await;
    refresh(&world, &token).await.expect("it was not used up");
    world.stop().await;
}

/// A phone that repeats itself reaches one replica and another: all of them tell the same.
#[tokio::test(flavor = "multi_thread")]
async fn one_token_at_two_replicas_gives_one_line_of_tokens() {
    let world = World::start().await;
    let other = world.replica(READER, |_| {}).await;
    let servers = [
        world.stack.address.server.clone(),
        other.grpc_url().expect("gRPC"),
    ];
    let made = create(&world).await.expect("an account");
    let mut token = made.credentials.expect("credentials").refresh_token;
    for _ in 0..5 {
        let asked = (0..8).map(|number| refresh_at(&servers[number % 2], &token));
        let told: Vec<String> = join_all(asked)
            .await
            .into_iter()
            .map(|told| told.expect("good").refresh_token)
            .collect();
        assert!(told.iter().all(|next| *next == told[0]), "one successor");
        token.clone_from(&told[0]);
    }
    let sessions = "select count(*) from token_sessions where revoked_at is null";
    assert_eq!(world.count(sessions).await, 1);
    other.stop().await;
    world.stop().await;
}
