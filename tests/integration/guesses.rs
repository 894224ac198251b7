//! I4 against guessers: a bare transaction id is no proof, and its answer tells nothing.

use std::collections::BTreeSet;

use entitled::proto::BindOutcome;
use entitled::proto::purchase_proof::Proof;
use entitled::sandbox::Store;
use futures::future::join_all;
use futures::{StreamExt as _, stream};
use tonic::Code;

use crate::scene::{Person, YEARLY, bare_id};
use crate::superwall;
use crate::support::{World, assert_refused};

const ACCOUNTS: usize = 100;

/// All of them are more than a slow machine answers in the time of one call.
const ACCOUNTS_AT_ONCE: usize = 20;

const GUESSES_EACH: usize = 100;

/// Bare ids that an account may try in a minute.
const TRIES: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn i4_ten_thousand_guessed_transaction_ids_bind_nothing() {
    let world = World::start().await;
    let AtStake {
        carol,
        awaited,
        real,
    } = AtStake::of(&world).await;

    let guessers = world.people("guesser", ACCOUNTS).await;
    let asked = world.asked(Store::AppStore);
    let guesses = guessers.iter().enumerate().map(|(number, guesser)| {
        let ids = guesses(number, &real);
        async move {
            let mut reasons = BTreeSet::new();
            let binds = ids.iter().enumerate().map(|(nth, id)| {
                let mut client = guesser.client.clone();
                let guess = in_either_words(nth, id);
                async move { client.bind(guess).await }
            });
            let answers = join_all(binds).await;
            for answer in answers {
                reasons.insert(crate::support::reason(&answer.expect_err("a guess")));
            }
            reasons
        }
    });
    let guessing = stream::iter(guesses).buffer_unordered(ACCOUNTS_AT_ONCE);
    let reasons: Vec<_> = guessing.collect().await;
    let reasons: BTreeSet<String> = reasons.into_iter().flatten().collect();
    assert_eq!(
        reasons,
        BTreeSet::from(["PROOF_INSUFFICIENT", "RATE_LIMITED"].map(str::to_owned))
    );
    // An id is looked up in production and in sandbox at most.
    let asked = world.asked(Store::AppStore) - asked;
    assert!(
        asked <= (ACCOUNTS * TRIES * 2) as u64,
        "{asked} calls to the store"
    );

    nothing_was_won(&world).await;
    // The same bare id binds for the account that the store's record names.
    let outcome = carol
        .bind_bare_id(&awaited)
        .await
        .expect("carol's")
        .outcome();
    assert_eq!(outcome, BindOutcome::Bound);
    world.stop().await;
}

/// What guessers are after.
pub(crate) struct AtStake {
    /// Her purchase waits for her.
    pub(crate) carol: Person,
    pub(crate) awaited: String,
    /// Bound, unclaimed, and carrying the token of somebody who has not claimed it yet.
    pub(crate) real: [String; 3],
}

impl AtStake {
    pub(crate) async fn of(world: &World) -> Self {
        let (alice, carol) = (world.person("alice").await, world.person("carol").await);
        let bound = world
            .buy_apple("alice", YEARLY, Some(&alice.store_token))
            .await;
        let unclaimed = world.buy_apple("nobody", YEARLY, None).await;
        world.hold().await;
        let awaited = world
            .buy_apple("carol", YEARLY, Some(&carol.store_token))
            .await;
        let real = [&bound, &unclaimed, &awaited].map(|bought| bought.transaction_id.clone());
        world.settled().await;
        Self {
            carol,
            awaited: awaited.transaction_id,
            real,
        }
    }
}

/// A guess in the store's words, every other in Superwall's.
pub(crate) fn in_either_words(nth: usize, id: &str) -> Proof {
    match nth % 2 {
        0 => bare_id(id),
        _ => superwall::app_store(id, id, ""),
    }
}

/// Guessers own nothing, claim nothing, and made nothing known.
pub(crate) async fn nothing_was_won(world: &World) {
    world.settled().await;
    let theirs = "select count(*) from purchase_chains c
        join account_identities i on i.account_id = c.owner_account_id where i.subject like 'guesser%'";
    assert_eq!(world.count(theirs).await, 0);
    let claims = "select count(*) from ownership_claims";
    assert_eq!(world.count(claims).await, 0, "no guess became a claim");
    let chains = "select count(*) from purchase_chains";
    assert_eq!(world.count(chains).await, 2, "no guess became a chain");
}

/// Real ids first, then their neighbours, then what else looks like one.
pub fn guesses(number: usize, real: &[String; 3]) -> Vec<String> {
    let mut ids = real.to_vec();
    for id in real {
        let id: u64 = id.parse().expect("digits");
        let offset = 1 + number as u64 * 16;
        ids.extend(
            (0..16)
                .flat_map(|step| [id + offset + step, id - offset - step])
                .map(|id| id.to_string()),
        );
    }
    ids.push("0".into());
    ids.truncate(GUESSES_EACH);
    assert_eq!(ids.len(), GUESSES_EACH);
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_a_foreign_id_is_answered_like_one_that_does_not_exist() {
    let world = World::start().await;
    let (alice, mallory) = (world.person("alice").await, world.person("mallory").await);
    let bound = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    let unclaimed = world.buy_apple("nobody", YEARLY, None).await;
    world.settled().await;
    let (bound, unclaimed) = (&bound.transaction_id, &unclaimed.transaction_id);
    let (nobodys, none) = ("570009999999999", "no number");
    // In the store's words, and in Superwall's with ids that fit each other and that do not.
    let guesses = [
        bare_id(bound),
        bare_id(unclaimed),
        bare_id(nobodys),
        bare_id(none),
        superwall::app_store(bound, bound, ""),
        superwall::app_store(unclaimed, unclaimed, ""),
        superwall::app_store(nobodys, nobodys, ""),
        superwall::app_store(bound, nobodys, ""),
        superwall::app_store(nobodys, bound, ""),
        superwall::app_store(none, none, ""),
    ];
    let answers = guesses.into_iter().map(async |guess| {
        let began = std::time::Instant::now();
        let mut client = mallory.client.clone();
        let refused = client.bind(guess.clone()).await.expect_err("not mallory's");
        assert_refused(&refused, Code::FailedPrecondition, "PROOF_INSUFFICIENT");
        // Timing tells nothing either: an answer that is ready sooner waits.
        assert!(
            began.elapsed().as_millis() >= 1_400,
            "{guess:?} was answered early"
        );
        (
            refused.code(),
            refused.message().to_owned(),
            refused.details().to_vec(),
        )
    });
    let mut answers = join_all(answers).await;
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let traces =
        "select count(*) from subscription_events e join account_identities i using (account_id)
        where i.subject = 'mallory'";
    assert_eq!(world.count(traces).await, 0);
    world.stop().await;
}
