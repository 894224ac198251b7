//! Becoming signed-in: what a phone had goes with its user, once, and to nobody else.

use entitled::proto::account_service_client::AccountServiceClient;
use entitled::proto::{
    BindPurchaseRequest, EraseAccountRequest, ErasureOutcome, GetEntitlementsRequest,
    LinkIdentityRequest, LinkIdentityResponse, LinkOutcome, MintTokenRequest, TimelineLayer,
};
use entitled::sandbox::IdentityToken;
use futures::future::join_all;
use tonic::{Code, Status};

use super::{Phone, refresh, refused, with};
use crate::process::{Process, eventually};
use crate::scene::{MONTHLY, Person, READER, YEARLY, google_token, now, proof};
use crate::support::{Device, World, assert_refused, client_action, entitlement, is_active};
use crate::tickets::Operator;

/// `token` calls, `other` is shown.
pub async fn link(world: &World, token: &str, other: &str) -> Result<LinkIdentityResponse, Status> {
    link_for(world, token, "", other).await
}

async fn link_for(
    world: &World,
    token: &str,
    account: &str,
    other: &str,
) -> Result<LinkIdentityResponse, Status> {
    let request = LinkIdentityRequest {
        account: account.into(),
        other_token: other.into(),
    };
    let answer = with(world, token).await.link_identity(request).await?;
    Ok(answer.into_inner())
}

/// A user of the simulated identity provider.
fn app_token(world: &World, subject: &str) -> String {
    let token = IdentityToken::of(subject);
    world.stores().identity_token(&token).expect("a token")
}

async fn buys(world: &World, person: &Person, product: &str) {
    let token = Some(person.store_token.as_str());
    let bought = world.buy_apple(&person.name, product, token).await;
    let bound = person.bind_apple(&bought.signed_transaction).await;
    bound.expect("bound");
}

/// Accounts of two users of one provider.
const SHARED: &str = "select count(*) from (
    select account_id from account_identities where not anonymous and retired_at is null
    group by account_id, issuer having count(*) > 1) as shared";

const OWNED_BY_THE_DEAD: &str = "select count(*) from purchase_chains c
    join accounts a on a.id = c.owner_account_id where a.merged_into is not null";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_phone_bought_is_its_users_once_they_sign_in() {
    let world = World::start().await;
    let phone = Phone::first_start(&world).await;
    buys(&world, &phone.person, YEARLY).await;
    let mut streamed = Device::open(phone.person.client.clone()).await;
    // The app has signed in, opened its stream, and links then.
    let alice = world.person("alice").await;
    let mut device = world.device("alice").await;
    let (token, other) = (world.token("alice"), &phone.credentials.access_token);

    let linked = link(&world, &token, other).await.expect("linked");
    assert_eq!(linked.outcome(), LinkOutcome::Linked);
    let snapshot = linked.snapshot.expect("a snapshot");
    assert!(is_active(&snapshot, "pro_access"));
    let account = snapshot.account.expect("an account");
    assert_eq!(
        (&account.id, &account.store_token),
        (&alice.account, &alice.store_token)
    );
    device.until_active("pro_access").await;

    // A lost answer, from either side.
    for (one, two) in [(token.as_str(), other.as_str()), (other, &token)] {
        let again = link(&world, one, two).await.expect("linked before");
        assert_eq!(again.outcome(), LinkOutcome::AlreadyLinked);
    }
    // The old credential is used up, and its stream said nothing of an end of access.
    while let Ok(Some(message)) = streamed.stream.message().await {
        use entitled::proto::watch_entitlements_response::Event;
        if let Some(Event::Snapshot(snapshot)) = message.event {
            assert!(is_active(&snapshot, "pro_access"));
        }
    }
    let over = refused(&world, other).await;
    assert_refused(&over, Code::Unauthenticated, "IDENTITY_LINKED");
    assert_eq!(client_action(&over), "SIGN_IN");
    let over = refresh(&world, &phone.credentials.refresh_token).await;
    assert_refused(
        &over.expect_err("over"),
        Code::Unauthenticated,
        "IDENTITY_LINKED",
    );

    // Both sides have an event; names of the old account are names of the new one.
    let told = world
        .count("select count(distinct account_id) from subscription_events where reason = 'linked'")
        .await;
    assert_eq!(told, 2);
    let mut operator = Operator::of(&world).await;
    for name in [&phone.person.account, &phone.person.name, &alice.account] {
        let story = operator.story(name, &[TimelineLayer::Owner]).await;
        assert!(!story.is_empty(), "{name}");
    }
    // What the phone had passed to the store under way is alice's, too.
    let mut second = world.device("alice").await;
    world
        .buy_google("alice", "premium-monthly", Some(&phone.person.store_token))
        .await;
    world.settled().await;
    second
        .until("two subscriptions", |snapshot| {
            snapshot.subscriptions.len() == 2
        })
        .await;
    assert_eq!(world.count(OWNED_BY_THE_DEAD).await, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_accounts_that_both_have_something_become_one_that_has_all_of_it() {
    let world = World::start().await;
    let phone = Phone::first_start(&world).await;
    buys(&world, &phone.person, YEARLY).await;
    let alice = world.person("alice").await;
    buys(&world, &alice, MONTHLY).await;
    let given = world
        .command(&[
            "grant",
            &phone.person.account,
            "export",
            "--reason",
            "a gift",
            "--actor",
            "sue",
        ])
        .await;
    assert!(!given.is_empty());
    world.settled().await;
    let before = alice.now().await.revision;
    let linked = link(
        &world,
        &phone.credentials.access_token,
        &world.token("alice"),
    )
    .await;
    let snapshot = linked.expect("linked").snapshot.expect("a snapshot");
    assert!(snapshot.revision > before);
    assert_eq!(snapshot.subscriptions.len(), 2);
    assert!(is_active(&snapshot, "export"), "the gift came along");
    world.settled().await;
    assert_eq!(world.count(OWNED_BY_THE_DEAD).await, 0);
    assert_eq!(
        world
            .count(
                "select count(*) from transactions t join accounts a on a.id = t.account_id
                     where a.merged_into is not null"
            )
            .await,
        0
    );
    // Decided again from what was kept, nothing differs.
    let replayed = world
        .command(&["replay", &alice.account, "--dry-run", "--json"])
        .await;
    let replayed: serde_json::Value = serde_json::from_str(&replayed).expect("JSON");
    let differences = &replayed["differences"];
    assert_eq!(*differences, serde_json::json!([]), "{replayed}");
    let purchases = replayed["purchases"].as_array().expect("purchases");
    assert_eq!(purchases.len(), 2, "{replayed}");
    for purchase in purchases {
        assert_eq!(purchase["differences"], serde_json::json!([]), "{purchase}");
    }
    world.stop().await;
}

/// An anonymous user of an identity provider, who comes back.
#[tokio::test(flavor = "multi_thread")]
async fn an_anonymous_identity_of_a_provider_is_retired_and_may_sign_in_anew() {
    let world = World::start().await;
    let nobody = world.nobody("visitor").await;
    buys(&world, &nobody, YEARLY).await;
    let (alice, visitor) = (app_token(&world, "alice"), world.anonymous_token("visitor"));
    let linked = link(&world, &alice, &visitor).await.expect("linked");
    assert!(is_active(
        &linked.snapshot.expect("a snapshot"),
        "pro_access"
    ));
    let over = refused(&world, &visitor).await;
    assert_refused(&over, Code::Unauthenticated, "IDENTITY_LINKED");

    // The provider made that user a real one: somebody of their own.
    let signed_in = world.client_with_token(&world.token("visitor")).await;
    let fresh = now(&signed_in).await;
    assert!(!is_active(&fresh, "pro_access"));
    let alices = now(&world.client_with_token(&alice).await).await;
    assert!(is_active(&alices, "pro_access"));
    assert_ne!(fresh.account, alices.account);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_provider_leads_to_the_same_account() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    buys(&world, &alice, YEARLY).await;
    let other = app_token(&world, "alice-at-the-other");
    let linked = link(&world, &world.token("alice"), &other).await;
    assert_eq!(linked.expect("linked").outcome(), LinkOutcome::Linked);
    let by_other = now(&world.client_with_token(&other).await).await;
    assert!(is_active(&by_other, "pro_access"));
    assert_eq!(by_other.account.expect("an account").id, alice.account);

    // And a backend does the same for a user whom only it knows.
    let phone = Phone::first_start(&world).await;
    buys(&world, &phone.person, MONTHLY).await;
    let service = world.service_token();
    let token = &phone.credentials.access_token;
    let linked = link_for(&world, &service, "backend:7", token).await;
    let snapshot = linked.expect("linked").snapshot.expect("a snapshot");
    assert!(is_active(&snapshot, "pro_access"));
    let over = refused(&world, token).await;
    assert_refused(&over, Code::Unauthenticated, "IDENTITY_LINKED");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_link_takes_from_somebody_what_is_theirs() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    buys(&world, &alice, YEARLY).await;
    let (alices, mallorys) = (world.token("alice"), world.token("mallory"));
    let phone = Phone::first_start(&world).await;
    let other_phone = Phone::first_start(&world).await;
    let phones = &phone.credentials.access_token;
    let anonymous = &other_phone.credentials.access_token;

    // A stolen token of a signed-in user, in either direction, of the same or another provider.
    for (token, other) in [
        (mallorys.clone(), alices.clone()),
        (alices.clone(), mallorys.clone()),
        (app_token(&world, "mallory"), alices.clone()),
        (phones.clone(), anonymous.clone()),
    ] {
        let refused = link(&world, &token, &other).await.expect_err("refused");
        assert_refused(&refused, Code::FailedPrecondition, "LINK_REFUSED");
        assert!(!format!("{refused:?}").contains(&alice.account));
    }
    // No credential, or none of a user.
    for junk in [
        "a.b.c".to_owned(),
        world.token_signed_with("somebody else's secret of 32 bytes"),
        phone.credentials.refresh_token.clone(),
        "\u{e9}".to_owned(),
    ] {
        let refused = link(&world, &mallorys, &junk).await.expect_err("refused");
        assert_refused(&refused, Code::FailedPrecondition, "OTHER_TOKEN_INVALID");
        assert!(!refused.message().contains(&junk));
    }
    let refused_ = link(&world, &mallorys, &world.service_token()).await;
    assert_refused(
        &refused_.expect_err("a service"),
        Code::InvalidArgument,
        "REQUEST_INVALID",
    );
    let named = link_for(&world, &mallorys, &alice.account, phones).await;
    assert_refused(
        &named.expect_err("a user"),
        Code::PermissionDenied,
        "ACCOUNT_NOT_ALLOWED",
    );

    // Linked once, a phone's token is no use to the next who has it.
    link(&world, &alices, phones).await.expect("linked");
    let late = link(&world, &mallorys, phones).await.expect_err("used up");
    assert_refused(&late, Code::FailedPrecondition, "LINK_REFUSED");
    let mallory = world.person("mallory").await.now().await;
    assert!(!is_active(&mallory, "pro_access"));
    assert!(is_active(&alice.now().await, "pro_access"));
    world.stop().await;
}

/// Two sign in with one phone's token, while the phone binds and its store speaks.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_links_at_once_one_has_everything_whatever_else_happens() {
    let world = World::start().await;
    for round in 0..6 {
        let phone = Phone::first_start(&world).await;
        buys(&world, &phone.person, YEARLY).await;
        let token = phone.credentials.access_token.as_str();
        let users: Vec<String> = (0..3)
            .map(|user| world.token(&format!("user-{round}-{user}")))
            .collect();
        let more = world
            .buy_apple(
                &format!("more-{round}"),
                MONTHLY,
                Some(&phone.person.store_token),
            )
            .await;
        let links = join_all(users.iter().map(|user| link(&world, user, token)));
        let bind = phone.person.bind_apple(&more.signed_transaction);
        let register = refresh(&world, &phone.credentials.refresh_token);
        let (links, bound, _) = futures::join!(links, bind, register);
        let winners: Vec<usize> = (0..3).filter(|n| links[*n].is_ok()).collect();
        let [winner] = winners.as_slice() else {
            panic!("round {round}: {links:?}")
        };
        for lost in links.iter().filter_map(|link| link.as_ref().err()) {
            assert_refused(lost, Code::FailedPrecondition, "LINK_REFUSED");
        }
        if let Err(refused) = bound {
            assert_refused(&refused, Code::Unauthenticated, "IDENTITY_LINKED");
        }
        world.settled().await;
        let has = now(&world.client_with_token(&users[*winner]).await).await;
        assert_eq!(has.subscriptions.len(), 2, "round {round}");
        for loser in (0..3).filter(|n| n != winner) {
            let has = now(&world.client_with_token(&users[loser]).await).await;
            assert!(has.subscriptions.is_empty(), "round {round}");
        }
    }
    assert_eq!(world.count(OWNED_BY_THE_DEAD).await, 0);
    assert_eq!(
        world
            .count(
                "select count(*) from entitlement_snapshots s
                     join accounts a on a.id = s.account_id where a.merged_into is not null"
            )
            .await,
        0
    );
    world.stop().await;
}

/// What is used up is good for nothing, least of all for what cannot be undone.
#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_used_up_erases_nobody_and_leads_to_nobody() {
    let world = World::start().await;
    let phone = Phone::first_start(&world).await;
    buys(&world, &phone.person, YEARLY).await;
    let nobody = world.nobody("visitor").await;
    buys(&world, &nobody, MONTHLY).await;
    let service = world.service_token();
    let minted = with(&world, &service)
        .await
        .mint_token(MintTokenRequest {
            account: phone.person.account.clone(),
            ttl: None,
        })
        .await;
    let minted = minted.expect("a token").into_inner().access_token;
    let alice = world.person("alice").await;
    let (alices, visitor) = (world.token("alice"), world.anonymous_token("visitor"));
    let phones = phone.credentials.access_token.clone();
    let reader = world.replica(READER, |_| {}).await;
    let other = reader.grpc_url().expect("gRPC");
    for old in [&phones, &visitor] {
        // A replica that has seen it, and learns of the link later.
        let seen = entitled::cli::client::Client::connect(&other, old).await;
        seen.expect("a client").get().await.expect("good so far");
        link(&world, &alices, old).await.expect("linked");
    }

    let erase = async |server: &str, token: &str, account: &str| {
        let channel = tonic::transport::Endpoint::from_shared(server.to_owned());
        let channel = channel.expect("a URL").connect().await.expect("a server");
        let bearer = entitled::cli::client::Bearer::of(token).expect("a token");
        let mut client = AccountServiceClient::with_interceptor(channel, bearer);
        let request = EraseAccountRequest {
            account: account.into(),
            reference: "GDPR-17".into(),
        };
        let answer = client.erase_account(request).await;
        answer.map(tonic::Response::into_inner)
    };
    for server in [&world.stack.address.server, &other] {
        for token in [&phones, &visitor, &minted] {
            let refused = erase(server, token, "").await.expect_err("used up");
            assert_refused(&refused, Code::Unauthenticated, "IDENTITY_LINKED");
        }
        // By its name a backend means nobody any more.
        let unknown = erase(server, &service, "dev:visitor").await;
        let unknown = unknown.expect("told").outcome();
        assert_eq!(unknown, ErasureOutcome::Unknown);
    }
    let over = refused(&world, &minted).await;
    assert_refused(&over, Code::Unauthenticated, "IDENTITY_LINKED");
    assert!(is_active(&alice.now().await, "pro_access"));

    // Reads of that name say nothing of alice; what a backend binds for it is somebody else's.
    let mut backend = world.client_with_token(&service).await;
    let request = GetEntitlementsRequest {
        account: "dev:visitor".into(),
        ..Default::default()
    };
    let read = backend.inner.get_entitlements(request).await;
    let read = read.expect("told").into_inner().snapshot.expect("told");
    assert!(!is_active(&read, "pro_access"));
    let bought = world.buy_google("visitor", "export", None).await;
    let request = BindPurchaseRequest {
        account: "dev:visitor".into(),
        proof: proof(google_token(&bought.purchase_token)),
    };
    let bound = backend.inner.bind_purchase(request).await;
    let bound = bound.expect("bound").into_inner().snapshot.expect("told");
    assert_ne!(bound.account.expect("an account").id, alice.account);
    let alices = alice.now().await;
    assert!(is_active(&alices, "pro_access"));
    assert_eq!(entitlement(&alices, "export").sources.len(), 1, "her own");
    reader.stop().await;
    world.stop().await;
}

/// What both have told of a transaction: the newest word holds, of two at once the user's.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_words_about_one_use_the_newest_stays() {
    let world = World::start().await;
    for (user, phones, theirs, stays) in [
        ("anna", "2027-01-02", "2027-01-01", 10_000),
        ("bert", "2027-01-01", "2027-01-02", 80_000),
        ("cora", "2027-01-01", "2027-01-01", 80_000),
    ] {
        let phone = Phone::first_start(&world).await;
        let person = world.person(user).await;
        let pool = world.tables().await;
        for (account, used, at) in [
            (&phone.person.account, 10_000, phones),
            (&person.account, 80_000, theirs),
        ] {
            let told = sqlx::query(
                "insert into consumption (account_id, consented, used_millipercent, updated_at)
                 values ($1::uuid, true, $2, $3::timestamptz)",
            );
            let told = told.bind(account).bind(used).bind(at).execute(&pool).await;
            told.expect("told");
        }
        let token = &phone.credentials.access_token;
        link(&world, &world.token(user), token)
            .await
            .expect("linked");
        let kept: Vec<i32> = sqlx::query_scalar(
            "select used_millipercent from consumption where account_id = $1::uuid",
        )
        .bind(&person.account)
        .fetch_all(&pool)
        .await
        .expect("kept");
        assert_eq!(kept, [stays], "{user}");
        pool.close().await;
    }
    world.stop().await;
}

/// Whoever was nobody at their provider becomes somebody while they are linked: one of both comes
/// first, and no account is two users' of one provider.
#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_and_a_link_at_once_never_make_one_account_of_two_users() {
    let world = World::start().await;
    for round in 0..24 {
        let (name, alice) = (format!("visitor{round}"), format!("alice{round}"));
        world.person(&alice).await;
        let alices = world.token(&alice);
        world.nobody(&name).await;
        let (anonymous, signed_in) = (world.anonymous_token(&name), world.token(&name));
        let signs_in = async {
            let mut client = world.client_with_token(&signed_in).await;
            // Either may be told to come again.
            while let Err(status) = client.get().await {
                assert_ne!(status.code(), Code::Internal, "{status:?}");
            }
        };
        let (linked, ()) = futures::join!(link(&world, &alices, &anonymous), signs_in);
        if let Err(refused) = linked {
            assert_refused(&refused, Code::FailedPrecondition, "LINK_REFUSED");
        }
    }
    assert_eq!(world.count(SHARED).await, 0);
    world.stop().await;
}

/// The same with the link held up in the moment in which it has decided and written nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_waits_for_a_link_that_has_decided() {
    let world = World::with(|options| options.roles = READER).await;
    let alice = world.person("alice").await;
    world.nobody("visitor").await;
    let stop = [("ENTITLED_STOP_AT", "after_link_decided")];
    let linking = Process::start(&world, "serve", &stop).await;
    let channel = tonic::transport::Endpoint::from_shared(linking.grpc().to_owned());
    let channel = channel.expect("a URL").connect().await.expect("a server");
    let bearer = entitled::cli::client::Bearer::of(&world.token("alice")).expect("a token");
    let mut client = AccountServiceClient::with_interceptor(channel, bearer);
    let request = LinkIdentityRequest {
        account: String::new(),
        other_token: world.anonymous_token("visitor"),
    };
    let linked = tokio::spawn(async move { client.link_identity(request).await });
    linking.stopped().await;
    let mut visitor = world.client_with_token(&world.token("visitor")).await;
    let mut again = visitor.clone();
    let signs_in = tokio::spawn(async move { visitor.get().await });
    eventually("the sign-in waits, or is through", async || {
        let waiting = "select count(*) from pg_locks where not granted";
        signs_in.is_finished() || world.count(waiting).await > 0
    })
    .await;
    linking.signal("CONT");
    linked.await.expect("joined").expect("linked");
    // Told to come again, or served: in either case somebody of their own.
    drop(signs_in.await.expect("joined"));
    let mine = again.get().await.expect("served").snapshot;
    let mine = mine
        .and_then(|snapshot| snapshot.account)
        .expect("an account");
    assert_ne!(mine.id, alice.account);
    assert_eq!(world.count(SHARED).await, 0);
    world.stop().await;
}
