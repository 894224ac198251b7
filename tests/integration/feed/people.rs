//! The feed over what the server itself does: purchases, gifts, links, erasures; whom a key of some
//! apps is told of; cursors that are none.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entitled::cli::client::Client;
use entitled::proto::GrantEntitlementRequest;
use entitled::proto::account_change::State;
use tonic::{Code, Status};

use super::{Cache, open, page};
use crate::accounts::linking::link;
use crate::api_keys::{self, Keys};
use crate::history::Told;
use crate::privacy::erase;
use crate::scene::{MONTHLY, Person, READER};
use crate::support::{World, assert_refused, is_active, reason};
use crate::tickets::Operator;

async fn give(world: &World, account: &str) {
    let gift = GrantEntitlementRequest {
        account: account.into(),
        entitlement: "export".into(),
        expires_at: None,
        reason: "a lost week".into(),
    };
    let mut sue = Operator::of(world).await;
    sue.support.grant_entitlement(gift).await.expect("given");
}

async fn client(world: &World) -> Client {
    world.client_with_token(&world.service_token()).await
}

async fn buys(world: &World, person: &Person) {
    let token = Some(person.store_token.as_str());
    world.buy_apple(&person.name, MONTHLY, token).await;
    world.settled().await;
}

/// How a feed that was open, or is to be opened, ends.
async fn end(client: &Client, cursor: &str) -> Status {
    let mut stream = match open(client, cursor).await {
        Ok(stream) => stream,
        Err(refused) => return refused,
    };
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("an end without a reason"),
            Err(ended) => return ended,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_lists_and_watches_has_what_the_database_has() {
    let world = World::start().await;
    let far = world.replica(READER, |_| {}).await;
    let people = world.people("p", 5).await;
    for person in &people[..3] {
        buys(&world, person).await;
    }
    let near = client(&world).await;
    let url = far.grpc_url().expect("gRPC");
    let there = Client::connect(&url, &world.service_token())
        .await
        .expect("a client");
    let mut cache = Cache::list(&near, 2).await;
    let listed: Vec<&String> = cache.accounts.keys().collect();
    let mut bought: Vec<&String> = people[..3].iter().map(|person| &person.account).collect();
    bought.sort();
    assert_eq!(listed, bought, "who never had anything is in no list");
    let change = &cache.accounts[&people[0].account];
    assert_eq!(change.names, ["dev:p0"]);
    assert_eq!(cache.catch_up(&there).await, 0, "nothing is told twice");

    // A feed that is open is told on the other replica, and whole: a gift is one account's.
    let mut stream = open(&there, &cache.cursor).await.expect("a feed");
    give(&world, "dev:p4").await;
    while cache.told(&people[4].account).is_none() {
        cache.take(stream.message().await.expect("a feed").expect("a message"));
    }
    drop(stream);
    let Some(State::Snapshot(snapshot)) = &cache.accounts[&people[4].account].state else {
        panic!("a snapshot")
    };
    assert!(is_active(snapshot, "export"));
    assert_eq!(*snapshot, people[4].now().await);

    // What somebody had before they signed in becomes theirs: both are told in one step.
    let phone = world.nobody("phone").await;
    buys(&world, &phone).await;
    cache.catch_up(&near).await;
    let before = cache.clone();
    let (signed_in, token) = (world.token("p3"), world.anonymous_token("phone"));
    link(&world, &signed_in, &token).await.expect("linked");
    let mut stream = open(&near, &cache.cursor).await.expect("a feed");
    loop {
        let message = stream.message().await.expect("a feed").expect("a message");
        let (count, whole) = (message.changes.len(), !message.fragment);
        cache.take(message);
        if count > 0 && whole {
            break;
        }
    }
    drop(stream);
    let merged = Told::Ended(format!("part of {}", people[3].account));
    assert_eq!(cache.told(&phone.account), Some(merged.clone()));
    assert!(before.told(&people[3].account).is_none() && cache.told(&people[3].account).is_some());

    let erased = erase(&world, &world.token("p1"), "", "r-1").await;
    erased.expect("erased");
    cache.catch_up(&there).await;
    assert_eq!(
        cache.told(&people[1].account),
        Some(Told::Ended("erased".into()))
    );
    // Whoever comes from long ago is told the same; whoever begins now is told of the living only.
    let mut late = before;
    late.catch_up(&near).await;
    assert_eq!(late.told(&phone.account), Some(merged));
    let mut anew = Cache::default();
    anew.catch_up(&near).await;
    let relisted = Cache::list(&near, 100).await;
    assert_eq!(anew.accounts, relisted.accounts);
    assert!(anew.told(&people[1].account).is_none() && anew.told(&phone.account).is_none());
    for (account, change) in &anew.accounts {
        assert_eq!(late.told(account), Some(super::told(change)));
    }
    far.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_one_app_is_told_of_its_own_customers() {
    let world = World::start().await;
    let mut keys = Keys::of(&world).await;
    let ios = keys
        .create(api_keys::service("ios", &["example-ios"]))
        .await
        .expect("a key");
    let all = client(&world).await;
    let its = world.client_with_token(&ios.secret).await;
    let (apple, google, gift) = (
        world.person("apple").await,
        world.person("google").await,
        world.person("gift").await,
    );
    let mut cache = Cache::list(&its, 1).await;
    assert!(cache.accounts.is_empty());
    buys(&world, &apple).await;
    world
        .buy_google("google", "premium-monthly", Some(&google.store_token))
        .await;
    world.settled().await;
    give(&world, "dev:gift").await;
    cache.catch_up(&its).await;
    let told: Vec<&String> = cache.accounts.keys().collect();
    assert_eq!(told, [&apple.account]);
    assert_eq!(Cache::list(&its, 1).await.accounts, cache.accounts);
    let everybody = Cache::list(&all, 2).await;
    assert_eq!(everybody.accounts.len(), 3);
    // Neither goes on where the other stood.
    for (client, cursor) in [(&its, &everybody.cursor), (&all, &cache.cursor)] {
        assert_refused(
            &end(client, cursor).await,
            Code::InvalidArgument,
            "CURSOR_INVALID",
        );
    }
    // Of who is no more everybody is told: an id that nobody else is called by.
    erase(&world, &world.token("google"), "", "r-1")
        .await
        .expect("erased");
    erase(&world, &world.token("apple"), "", "r-2")
        .await
        .expect("erased");
    cache.catch_up(&its).await;
    for person in [&apple, &google] {
        assert_eq!(
            cache.told(&person.account),
            Some(Told::Ended("erased".into()))
        );
    }
    assert!(cache.told(&gift.account).is_none());
    // The key ends, and with it the feed.
    let (ended, _) = tokio::join!(end(&its, &cache.cursor), async {
        keys.revoke(&ios.api_key.as_ref().expect("a key").id)
            .await
            .expect("revoked")
    });
    assert_eq!(reason(&ended), "KEY_INVALID");
    world.stop().await;
}

/// The same cursor, made up to be so far ahead.
fn ahead(cursor: &str) -> String {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).expect("base64");
    let inside = &bytes[..bytes.len() - 8];
    let (head, mut rest) = inside.split_at(17);
    let next = prost::encoding::decode_varint(&mut rest).expect("a number");
    let mut made = head.to_vec();
    prost::encoding::encode_varint(next + 1_000_000, &mut made);
    made.extend(rest);
    let text = serde_json::to_vec(&made).expect("JSON");
    let check = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    made.extend(check.to_be_bytes());
    URL_SAFE_NO_PAD.encode(made)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_another_history_or_none_at_all_is_told_so_at_once() {
    let world = World::start().await;
    let client = client(&world).await;
    let alice = world.person("alice").await;
    buys(&world, &alice).await;
    let mut cache = Cache::list(&client, 10).await;
    let spoilt = format!("{}A", cache.cursor);
    for wrong in ["nonsense", &spoilt, &cache.cursor[1..], "AAAA"] {
        assert_refused(
            &end(&client, wrong).await,
            Code::InvalidArgument,
            "CURSOR_INVALID",
        );
        let refused = page(&client, 10, wrong).await.expect_err("refused");
        assert_refused(&refused, Code::InvalidArgument, "CURSOR_INVALID");
    }
    let future = ahead(&cache.cursor);
    assert_refused(
        &end(&client, &future).await,
        Code::OutOfRange,
        "CURSOR_EXPIRED",
    );
    let refused = page(&client, 10, &future).await.expect_err("refused");
    assert_refused(&refused, Code::OutOfRange, "CURSOR_EXPIRED");

    // As many as a replica serves, and no more.
    let mut feeds = Vec::new();
    for _ in 0..128 {
        feeds.push(open(&client, &cache.cursor).await.expect("a feed"));
    }
    let refused = end(&client, &cache.cursor).await;
    assert_refused(&refused, Code::ResourceExhausted, "TOO_MANY_STREAMS");
    drop(feeds);

    // The history changes under an open feed; in the new one transactions are numbered from less.
    let ended = async {
        loop {
            let ended = end(&client, &cache.cursor).await;
            if reason(&ended) != "TOO_MANY_STREAMS" {
                return ended;
            }
        }
    };
    let (ended, ()) = tokio::join!(ended, async {
        let pool = world.tables().await;
        for statement in [
            "update entitlement_snapshots set changed_xid = 1000000000000000",
            "update deployment set epoch = gen_random_uuid()",
        ] {
            sqlx::query(statement)
                .execute(&pool)
                .await
                .expect("another history");
        }
        pool.close().await;
    });
    assert_refused(&ended, Code::OutOfRange, "CURSOR_EXPIRED");
    let refused = end(&client, &cache.cursor).await;
    assert_refused(&refused, Code::OutOfRange, "CURSOR_EXPIRED");
    let old = cache.told(&alice.account);
    cache = Cache::list(&client, 10).await;
    assert!(cache.told(&alice.account).is_some() && cache.told(&alice.account) != old);
    give(&world, "dev:alice").await;
    assert_eq!(cache.catch_up(&client).await, 1);
    world.stop().await;
}
