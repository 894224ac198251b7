//! A7, A15, A17 and B5: purchase tokens that are none, or not what they are said to be.

use entitled::proto::{BindOutcome, InactiveReason};
use entitled::sandbox::{GooglePlayBuy, Store};
use futures::StreamExt as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tonic::Code;

use super::Counted;
use crate::books::Books;
use crate::scene::{PACKAGE, google_buy};
use crate::support::{World, entitlement, is_active, reason};

const SEED: u64 = 20_270_110;
const JUNK: usize = 100_000;
const ACCOUNTS: usize = 20;
const IN_FLIGHT: usize = 64;
/// Store calls for tokens that the store does not know, for one account in a minute; two kinds of
/// purchase are asked for.
const CALLS_EACH: u64 = 60;

/// What cracking tools and fuzzers hand in. The simulator knows none of them.
fn junk(dice: &mut StdRng) -> String {
    let letters = |dice: &mut StdRng, count: usize, alphabet: &[u8]| -> String {
        let any = |_| char::from(alphabet[dice.random_range(0..alphabet.len())]);
        (0..count).map(any).collect()
    };
    let (lower, digits) = (
        b"abcdefghijklmnopqrstuvwxyz".as_slice(),
        b"0123456789".as_slice(),
    );
    match dice.random_range(0..9) {
        // As Lucky Patcher and its like make them.
        0 => letters(dice, 15, digits),
        1 => letters(dice, 24, lower),
        2 => format!("../../{}", letters(dice, 40, lower)),
        3 => format!(
            "{}%2f..%2f{}",
            letters(dice, 20, lower),
            letters(dice, 20, lower)
        ),
        4 => format!("{}/acknowledge", letters(dice, 60, lower)),
        5 => format!(
            "{}?alt=media#{}",
            letters(dice, 40, lower),
            letters(dice, 9, digits)
        ),
        6 => format!(
            "{}\u{0}{}",
            letters(dice, 30, lower),
            letters(dice, 30, lower)
        ),
        7 => format!("{}\u{202e}\u{1f4b0}", letters(dice, 50, lower)),
        // Shaped like a genuine one.
        _ => format!(
            "{}.AO-J1O{}",
            letters(dice, 24, lower),
            letters(dice, 110, lower)
        ),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_junk_tokens_costs_the_store_little() {
    let world = World::start().await;
    let people = world.people("junk", ACCOUNTS).await;
    let mut dice = StdRng::seed_from_u64(SEED);
    let books = Books::of(&world).await;
    let begun = std::time::Instant::now();
    let asked = world.asked(Store::GooglePlay);
    let tokens = (0..JUNK).map(|_| junk(&mut dice));
    let mut binds = futures::stream::iter(tokens.enumerate())
        .map(|(number, token)| {
            let person = &people[number % ACCOUNTS];
            async move {
                let answer = person.bind_google(&token).await;
                (token, answer)
            }
        })
        .buffer_unordered(IN_FLIGHT);
    let mut counted = Counted::default();
    while let Some((token, answer)) = binds.next().await {
        let refused = answer.expect_err(&token);
        let known = [
            "PROOF_INVALID",
            "PURCHASE_NOT_FOUND",
            "RATE_LIMITED",
            // More than the budget of calls allows: later, perhaps.
            "STORE_UNAVAILABLE",
        ];
        let reason = reason(&refused);
        assert!(
            known.contains(&reason.as_str()),
            "{token}: {reason} (seed {SEED})"
        );
        counted.count("A17", false);
    }
    let asked = world.asked(Store::GooglePlay) - asked;
    println!(
        "{} junk tokens, {asked} calls to the store",
        counted.forged()
    );
    // An account may try sixty a minute; most of what it tries has the shape of no token.
    let minutes = begun.elapsed().as_secs() / 60 + 1;
    let bound = ACCOUNTS as u64 * CALLS_EACH * minutes;
    assert!(asked <= bound, "{asked} calls for {JUNK} tokens");
    // No more of them is kept than may be tried.
    let chains = "select count(*) from purchase_chains";
    let chains = u64::try_from(books.number(chains).await).expect("a count");
    assert!(chains <= bound, "{chains} chains of {JUNK} tokens");
    assert_eq!(
        world
            .count("select count(*) from purchase_chains where owner_account_id is not null")
            .await,
        0
    );
    // Whoever has a genuine one is served, even one of the flooders a minute later.
    let alice = world.person("alice").await;
    let bought = world.buy_google("alice", "premium-yearly", None).await;
    alice
        .bind_google(&bought.purchase_token)
        .await
        .expect("bound");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_one_is_refused_unread() {
    let world = World::still().await;
    let alice = world.person("alice").await;
    let bought = world.buy_google("alice", "premium-yearly", None).await;
    world.settled().await;
    let good = &bought.purchase_token;
    let asked = world.asked(Store::GooglePlay);
    let cases = [
        "../purchases".to_owned(),
        format!("../{good}"),
        format!("{good}/../{good}"),
        format!("{good}%2F"),
        format!("{good}%2f..%2fx"),
        format!("{good}/acknowledge"),
        format!("{good}?x=1"),
        format!("{good}#x"),
        format!("{good}\r\nhost: evil.example"),
        format!(" {good}"),
        format!("{good} "),
        format!("{good}\u{0}"),
        "short".to_owned(),
        "ａｂｃｄｅｆｇｈｉｊｋｌｍｎｏｐｑｒｓｔｕｖｗｘｙｚ".to_owned(),
    ];
    for token in &cases {
        let refused = alice.bind_google(token).await.expect_err(token);
        assert_eq!(reason(&refused), "PROOF_INVALID", "{token:?}");
    }
    let mebibyte = "a".repeat(1 << 20);
    let refused = alice.bind_google(&mebibyte).await.expect_err("too large");
    assert!(matches!(
        refused.code(),
        Code::OutOfRange | Code::ResourceExhausted
    ));
    assert_eq!(
        world.asked(Store::GooglePlay),
        asked,
        "none of them costs a call"
    );
    for package in [
        "com.example.other",
        "com.example.APP",
        "com.example.app/../x",
        " com.example.app",
    ] {
        let mut client = alice.client.clone();
        let refused = client
            .bind_google_play(package, good)
            .await
            .expect_err(package);
        assert_eq!(reason(&refused), "APP_UNKNOWN", "{package}");
    }
    assert_eq!(world.asked(Store::GooglePlay), asked);
    alice.bind_google(good).await.expect("the genuine one");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_genuine_token_gives_what_its_store_says_and_no_more() {
    let world = World::start().await;
    let pending = world.person("pending").await;
    let ended = world.person("ended").await;
    let refunded = world.person("refunded").await;
    // Bought, and not paid.
    let buy = GooglePlayBuy {
        pending: true,
        ..google_buy("pending", "premium-monthly", None)
    };
    let bought = world.stores().buy_google_play(&buy).await.expect("bought");
    let answer = pending
        .bind_google(&bought.purchase_token)
        .await
        .expect("known");
    assert_eq!(answer.outcome(), BindOutcome::Pending);
    assert!(!is_active(&pending.now().await, "pro_access"));
    // Refunded before it is handed in.
    let bought = world.buy_google("refunded", "premium-monthly", None).await;
    world
        .stores()
        .refund_google_play(&bought.purchase_token)
        .await
        .expect("refunded");
    world.settled().await;
    let _ = refunded.bind_google(&bought.purchase_token).await;
    assert!(!is_active(&refunded.now().await, "pro_access"));
    // Ended, and handed in when the store still remembers it, and when it does not.
    let bought = world
        .buy_google("ended", "premium-monthly", Some(&ended.store_token))
        .await;
    world.settled().await;
    world
        .stores()
        .cancel_google_play(&bought.purchase_token)
        .await
        .expect("cancelled");
    for days in [40, 70] {
        world
            .stores()
            .advance_by(chrono::TimeDelta::days(days))
            .await
            .expect("time passes");
        let _ = ended.bind_google(&bought.purchase_token).await;
        let told = ended.now().await;
        assert!(!is_active(&told, "pro_access"), "after {days} days more");
        assert_eq!(
            entitlement(&told, "pro_access").inactive_reason(),
            InactiveReason::Expired
        );
    }
    // Nobody else can do anything with what they found.
    let mallory = world.person("mallory").await;
    let mut client = mallory.client.clone();
    let _ = client
        .bind_google_play(PACKAGE, &bought.purchase_token)
        .await;
    assert!(!is_active(&mallory.now().await, "pro_access"));
    world.stop().await;
}

const PACKS: usize = 2;
/// An account may bind sixty times in a minute.
const AT_ONCE: usize = 14;

/// B8: each pack is credited once, however many hands it comes through at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn parallel_claims_of_one_consumable_credit_it_once() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let mallory = world.person("mallory").await;
    let mut proofs = Vec::new();
    for number in 0..PACKS {
        // Every other one is told by the store as well, at the same moment.
        let hint = number
            .is_multiple_of(2)
            .then_some(alice.store_token.as_str());
        let apple = world
            .buy_apple("alice", "com.example.coins.100", hint)
            .await;
        proofs.push((Some(apple.signed_transaction), String::new()));
        let buyer = format!("alice's phone {number}");
        let google = world.buy_google(&buyer, "coins_100", hint).await;
        proofs.push((None, google.purchase_token));
    }
    for (signed, token) in &proofs {
        let binds = (0..AT_ONCE).map(|_| async {
            match signed {
                Some(signed) => alice.bind_apple(signed).await,
                None => alice.bind_google(token).await,
            }
        });
        let answers = futures::future::join_all(binds).await;
        let bound = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!(bound > 0, "{answers:?}");
        let late = match signed {
            Some(signed) => mallory.bind_apple(signed).await,
            None => mallory.bind_google(token).await,
        };
        late.expect_err("alice's");
    }
    for id in world.said() {
        world.deliver(&id).await;
    }
    world.settled().await;
    let expected = i64::try_from(2 * PACKS * 100).expect("a count");
    let coins = |snapshot: entitled::proto::EntitlementSnapshot| -> i64 {
        snapshot.credits.iter().map(|credit| credit.balance).sum()
    };
    assert_eq!(coins(alice.now().await), expected);
    assert_eq!(coins(mallory.now().await), 0);
    let entries = "select count(*) from credit_entries";
    assert_eq!(
        world.count(entries).await,
        i64::try_from(2 * PACKS).expect("a count")
    );
    world.stop().await;
}
