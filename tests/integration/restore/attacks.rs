//! Guessing, racing and taking over by lists of proofs.

use std::collections::BTreeSet;
use std::time::Instant;

use entitled::sandbox::Store;
use futures::StreamExt as _;
use futures::future::join_all;

use super::{signed, told};
use crate::guesses::{AtStake, guesses, in_either_words, nothing_was_won};
use crate::scene::{YEARLY, bare_id, google_token};
use crate::support::{World, is_active};

const GUESSERS: usize = 100;
const GUESSES_EACH: usize = 100;
/// Bare ids that an account may try in a minute.
const TRIES: usize = 10;
/// Each of them with a hundred guesses.
const AT_ONCE: usize = 20;

/// A hundred at a time, and no more is learnt than by one at a time.
#[tokio::test(flavor = "multi_thread")]
async fn i4_ten_thousand_guesses_by_restore_bind_nothing() {
    let world = World::start().await;
    let real = AtStake::of(&world).await.real;
    let guessers = world.people("guesser", GUESSERS).await;
    let began = Instant::now();
    let asked = world.asked(Store::AppStore);
    let restores = guessers.iter().enumerate().map(|(number, guesser)| {
        let ids = guesses(number, &real);
        assert_eq!(ids.len(), GUESSES_EACH);
        let proofs = ids.iter().enumerate();
        let proofs = proofs.map(|(nth, id)| in_either_words(nth, id));
        guesser.restore(proofs.collect())
    });
    let mut reasons = BTreeSet::new();
    let mut answers = futures::stream::iter(restores).buffer_unordered(AT_ONCE);
    while let Some(answer) = answers.next().await {
        reasons.extend(told(&answer));
        assert!(
            answer
                .snapshot
                .is_some_and(|snapshot| snapshot.subscriptions.is_empty())
        );
    }
    assert_eq!(
        reasons,
        BTreeSet::from(["PROOF_INSUFFICIENT", "RATE_LIMITED"].map(str::to_owned))
    );
    let asked = world.asked(Store::AppStore) - asked;
    let minutes = began.elapsed().as_secs() / 60 + 1;
    assert!(
        asked <= (GUESSERS * TRIES * 2) as u64 * minutes,
        "{asked} calls to the store"
    );
    nothing_was_won(&world).await;
    world.stop().await;
}

/// Ids that exist, are mine to guess, or are none: the same words at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_ids_is_answered_alike_whatever_is_among_them() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let bound = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    let unclaimed = world.buy_apple("nobody", YEARLY, None).await;
    world.settled().await;
    let real = vec![
        bare_id(&bound.transaction_id),
        bare_id(&unclaimed.transaction_id),
    ];
    let none = vec![bare_id("570009999999999"), bare_id("no number")];
    let mut answers = Vec::new();
    for (number, ids) in [real, none].into_iter().enumerate() {
        let mallory = world.person(&format!("mallory-{number}")).await;
        let began = Instant::now();
        let answer = mallory.restore(ids).await;
        assert!(began.elapsed().as_millis() >= 1_400, "answered early");
        answers.push(answer.purchases);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let traces =
        "select count(*) from subscription_events e join account_identities i using (account_id)
        where i.subject like 'mallory%'";
    assert_eq!(world.count(traces).await, 0);
    world.stop().await;
}

/// Fifty accounts restore the same two genuine purchases at once, one with a hint and one without.
#[tokio::test(flavor = "multi_thread")]
async fn i4_fifty_accounts_restore_one_proof_at_once_and_one_owns_it() {
    let world = World::start().await;
    let payer = world.person("payer").await;
    let people = world.people("person", 50).await;
    world.hold().await;
    let nameless = world.buy_apple("buyer", YEARLY, None).await;
    let named = world
        .buy_google("payer", "premium-yearly", Some(&payer.store_token))
        .await;
    let restores = people.iter().map(|person| {
        person.restore(vec![
            signed(&nameless.signed_transaction),
            google_token(&named.purchase_token),
        ])
    });
    let answers = join_all(restores).await;
    let mut winners = Vec::new();
    for (person, answer) in people.iter().zip(&answers) {
        let told = told(answer);
        assert_eq!(
            told[1], "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT",
            "the record names the payer"
        );
        if told[0] == "BOUND" {
            winners.push(person.name.clone());
        } else {
            assert_eq!(told[0], "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT");
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    world.settled().await;
    for person in &people {
        assert_eq!(
            is_active(&person.now().await, "pro_access"),
            person.name == winners[0]
        );
    }
    assert!(is_active(&payer.now().await, "pro_access"), "the payer");
    let owners = "select count(*) from ownership_changes";
    assert_eq!(world.count(owners).await, 2);
    world.stop().await;
}

/// One proof sent many times, in one call and in many at once, brings its coins once.
#[tokio::test(flavor = "multi_thread")]
async fn coins_restored_over_and_over_are_credited_once() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    world.hold().await;
    let apple = world
        .buy_apple("alice", "com.example.coins.100", None)
        .await;
    let google = world.buy_google("alice", "coins_100", None).await;
    let proofs = [
        signed(&apple.signed_transaction),
        google_token(&google.purchase_token),
        signed(&apple.signed_transaction),
        google_token(&google.purchase_token),
    ];
    let restores = join_all((0..10).map(|_| alice.restore(proofs.to_vec()))).await;
    for answer in &restores {
        assert!(
            answer.purchases.iter().all(|told| told.reason.is_empty()),
            "{answer:?}"
        );
    }
    world.settled().await;
    let balance = alice.now().await.credits[0].balance;
    assert_eq!(balance, 200);
    world.stop().await;
}
