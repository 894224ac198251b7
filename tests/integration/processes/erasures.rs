//! A process that dies while an account is erased: it is erased whole or not at all, and asking again
//! comes to the same.

use entitled::cli::client::Bearer;
use entitled::proto::account_service_client::AccountServiceClient;
use entitled::proto::{EraseAccountRequest, ErasureOutcome, LinkIdentityRequest};
use entitled::sandbox::{Outage, Store};
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use super::workers::DOORS;
use super::{buy, doomed_at, let_time_pass, replaced, store_token};
use crate::accounts::{Phone, store_tokens::register};
use crate::privacy::{erase, nothing_is_left};
use crate::process::{Process, eventually};
use crate::support::{World, assert_refused};
use crate::tickets::token;

/// What a half would have left behind.
const HALVES: &str = "select count(*) from accounts a where erased_at is not null
        and (exists (select from account_identities i where i.account_id = a.id)
          or exists (select from store_tokens t where t.account_id = a.id)
          or exists (select from purchase_chains c where c.owner_account_id = a.id)
          or not exists (select from operator_actions o where o.account_id = a.id))";

async fn an_erasure_survives(place: &str, expected: ErasureOutcome) {
    let (mut world, mut doomed) = doomed_at(place).await;
    let names = store_token(&world, "alice").await;
    let mut phone = world.device("alice").await;
    buy(&world, Store::AppStore, "alice", Some(&names)).await;
    phone.until_active("pro_access").await;
    let account = phone.latest.account.clone().expect("an account").id;
    let operator = |world: &World| token(world, "sue", "entitled.admin");
    let died = erase(&world, &operator(&world), &account, "GDPR-17").await;
    died.expect_err("the server died");
    let _healthy = replaced(&mut world, &mut doomed).await;
    assert_eq!(world.count(HALVES).await, 0, "{place}");
    let again = erase(&world, &operator(&world), &account, "GDPR-17").await;
    assert_eq!(again.expect("an outcome").outcome(), expected, "{place}");
    assert_eq!(world.count(HALVES).await, 0, "{place}");
    let erased = "select count(*) from accounts where erased_at is not null";
    assert_eq!(world.count(erased).await, 1, "{place}");
    let readable = "select count(*) from chain_keys where wrapped is not null";
    assert_eq!(world.count(readable).await, 0, "{place}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_was_not_committed() {
    an_erasure_survives("before_erase_commit", ErasureOutcome::Erased).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_was_committed_and_not_told() {
    an_erasure_survives("after_erase_commit", ErasureOutcome::AlreadyErased).await;
}

/// A worker that has read whom a purchase is for, and stands still before it writes.
async fn reads_and_stops(world: &World) -> Process {
    Process::start(
        world,
        "worker",
        &[("ENTITLED_STOP_AT", "after_settle_read")],
    )
    .await
}

/// Only the store's record names her: nothing holds up her erasure, and what was read before it is
/// not written after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_that_was_read_before_an_erasure_is_nobodys() {
    let world = World::with(|options| options.roles = DOORS).await;
    let_time_pass(&world);
    let names = store_token(&world, "alice").await;
    let alice = world.person("alice").await;
    let sleeper = reads_and_stops(&world).await;
    buy(&world, Store::AppStore, "alice", Some(&names)).await;
    sleeper.stopped().await;
    let erased = erase(&world, &world.token("alice"), "", "").await;
    assert_eq!(erased.expect("an outcome").purchases, 0, "not hers yet");
    sleeper.signal("CONT");
    world.settled().await;
    nothing_is_left(&world, &alice.account, &[]).await;
    let nobodys = "select count(*) from purchase_chains where owner_account_id is null";
    assert_eq!(world.count(nobodys).await, 1);
    world.stop().await;
}

/// Somebody who loses a purchase is erased while that is decided.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_claims_in_vain_is_erased_with_their_claim() {
    let world = World::with(|options| options.roles = DOORS).await;
    let_time_pass(&world);
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    // The store is away, so both wishes wait.
    let sandbox = &world.stack.sandbox;
    sandbox.set_outage(Store::GooglePlay, Some(Outage::Timeout));
    let proof = buy(&world, Store::GooglePlay, "alice", None).await;
    for (person, open) in [(&alice, 1), (&bob, 2)] {
        let claims = "select count(*) from ownership_claims where verdict is null";
        tokio::select! {
            bound = person.bind_google(&proof) => panic!("{bound:?}"),
            () = eventually("the wish is kept", async || world.count(claims).await == open) => {}
        }
    }
    sandbox.set_outage(Store::GooglePlay, None);
    let sleeper = reads_and_stops(&world).await;
    sleeper.stopped().await;
    let token = world.token("bob");
    let (erased, ()) = futures::join!(erase(&world, &token, "", ""), async {
        eventually("the erasure waits for the purchase", async || {
            let waiting = "select count(*) from pg_locks where not granted";
            world.count(waiting).await > 0
        })
        .await;
        sleeper.signal("CONT");
    });
    erased.expect("an outcome");
    world.settled().await;
    nothing_is_left(&world, &bob.account, &[&bob.store_token]).await;
    let hers = "select count(*) from purchase_chains c join accounts a
        on a.id = c.owner_account_id where a.erased_at is null";
    assert_eq!(world.count(hers).await, 1);
    world.stop().await;
}

/// A service registers a store token in the moment in which the account is erased: it waits for that,
/// and names nobody.
#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_registered_for_an_account_that_is_being_erased() {
    const OLD: &str = "6d2a1b52-7c1f-4a5b-9d36-0f6c2b9e4a11";
    let world = World::with(|options| options.roles = DOORS).await;
    let_time_pass(&world);
    let alice = world.person("alice").await;
    let stop = [("ENTITLED_STOP_AT", "before_erase_commit")];
    let erasing = Process::start(&world, "serve", &stop).await;
    let (server, user) = (erasing.grpc().to_owned(), world.token("alice"));
    let request = EraseAccountRequest::default();
    let erased = tokio::spawn(async move { at(server, &user).await.erase_account(request).await });
    erasing.stopped().await;
    let (registered, ()) = futures::join!(register(&world, &alice.account, OLD), async {
        eventually("the service waits for the account", async || {
            let waiting = "select count(*) from pg_locks where not granted";
            world.count(waiting).await > 0
        })
        .await;
        erasing.signal("CONT");
    });
    let erased = erased
        .await
        .expect("joined")
        .expect("an outcome")
        .into_inner();
    assert_eq!(erased.outcome(), ErasureOutcome::Erased);
    let refused = registered.expect_err("it was erased");
    assert_refused(&refused, Code::NotFound, "ACCOUNT_NOT_FOUND");
    nothing_is_left(&world, &alice.account, &[&alice.store_token, OLD]).await;
    world.stop().await;
}

/// An operator erases an account in the moment in which it becomes part of another one: it is one
/// person, and all of them is erased.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_linked_in_that_moment_is_erased_as_what_they_became() {
    let world = World::with(|options| options.roles = DOORS).await;
    let_time_pass(&world);
    let alice = world.person("alice").await;
    let phone = Phone::first_start(&world).await;
    let stop = [("ENTITLED_STOP_AT", "before_link_commit")];
    let linking = Process::start(&world, "serve", &stop).await;
    let (server, user) = (linking.grpc().to_owned(), world.token("alice"));
    let request = LinkIdentityRequest {
        account: String::new(),
        other_token: phone.credentials.access_token.clone(),
    };
    let linked = tokio::spawn(async move { at(server, &user).await.link_identity(request).await });
    linking.stopped().await;
    let operator = token(&world, "sue", "entitled.admin");
    let erased = erase(&world, &operator, &phone.person.account, "GDPR-17");
    let (erased, ()) = futures::join!(erased, async {
        eventually("the erasure waits for the link", async || {
            let waiting = "select count(*) from pg_locks where not granted";
            world.count(waiting).await > 0
        })
        .await;
        linking.signal("CONT");
    });
    linked.await.expect("joined").expect("linked");
    let erased = erased.expect("an outcome");
    assert_eq!(erased.outcome(), ErasureOutcome::Erased);
    assert_eq!(erased.account_id, alice.account, "what they became");
    let names = [&alice.store_token, &phone.person.store_token];
    nothing_is_left(&world, &alice.account, &names.map(String::as_str)).await;
    world.stop().await;
}

/// By another server than the world's.
async fn at(
    server: String,
    token: &str,
) -> AccountServiceClient<InterceptedService<Channel, Bearer>> {
    let channel = Endpoint::from_shared(server).expect("a URL");
    let channel = channel.connect().await.expect("a server");
    let bearer = Bearer::of(token).expect("a token");
    AccountServiceClient::with_interceptor(channel, bearer)
}
