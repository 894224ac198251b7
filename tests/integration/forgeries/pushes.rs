//! C6, C9 and C10: the tokens of Google's pushes, bodies that never end, and floods.

use std::time::{Duration, Instant};

use entitled::sandbox::{Endpoint, Store, forge};
use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Counted;
use super::canary::Canary;
use crate::books::Books;
use crate::scene::YEARLY;
use crate::support::{World, is_active};

/// A body has ten seconds, its head five; the rest is the machine's.
const CUT_WITHIN: Duration = Duration::from_secs(16);
const FLOOD: usize = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn every_forged_push_is_turned_away_and_every_genuine_one_is_taken() {
    let world = World::still().await;
    let canary = Canary::set().await;
    world.hold().await;
    world.buy_google("bob", "premium-yearly", None).await;
    let body = world.stores().notifications()[0].body.clone();
    let url = world.stack.app.webhooks_url().expect("webhooks");
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let books = Books::of(&world).await;
    let before = books.kept().await;
    let mut counted = Counted::default();
    let corpus = forge::push_corpus(world.stores(), &canary.url).expect("forged");
    let (genuine, forged): (Vec<_>, Vec<_>) = corpus.into_iter().partition(|case| case.genuine);
    for (cases, expected) in [(forged, 401), (genuine, 200)] {
        for case in cases {
            let answer = client
                .post(format!("{url}/webhooks/google-play"))
                .bearer_auth(&case.jws)
                .body(body.clone())
                .send();
            // A header of a mebibyte does not even arrive, nor does its sender always hear why.
            let oversize = case.jws.len() > 100_000;
            let status = match answer.await {
                Ok(answer) => answer.status().as_u16(),
                Err(error) => {
                    assert!(oversize, "{}: {error}", case.name);
                    431
                }
            };
            let too_large = oversize && matches!(status, 400 | 431);
            assert!(status == expected || too_large, "{}: {status}", case.name);
            counted.count(case.class, case.genuine);
        }
        if expected == 401 {
            assert_eq!(books.kept().await, before, "nothing of them was kept");
        }
    }
    counted.report("pushes", &["C6"]);
    assert_eq!(canary.visits(), 0, "keys come from one place only");
    let fetched = world
        .stores()
        .store_calls()
        .get(&Endpoint::GoogleKeys)
        .copied();
    assert!(
        fetched <= Some(2),
        "one fetch, and one for an unknown key: {fetched:?}"
    );
    world.stop().await;
}

/// C10: whoever cannot prove to be a store leaves nothing behind, however often.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_unverifiable_posts_leaves_nothing_behind() {
    let world = World::still().await;
    let alice = world.person("alice").await;
    let books = Books::of(&world).await;
    let before = books.kept().await;
    let flood = futures::stream::iter(0..FLOOD)
        .map(|number| {
            let body = serde_json::json!({ "signedPayload": format!("a.{number}.c") });
            world.post(Store::AppStore, body.to_string())
        })
        .buffer_unordered(32);
    let statuses: Vec<u16> = flood.collect().await;
    assert!(statuses.iter().all(|status| *status == 401));
    assert_eq!(books.kept().await, before);
    // A store is heard in the meantime and after it.
    world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    world.settled().await;
    assert!(is_active(&alice.now().await, "pro_access"));
    world.stop().await;
}

/// C9: a byte a second, and heads and bodies that are announced and do not come.
#[tokio::test(flavor = "multi_thread")]
async fn slow_senders_are_cut_off_while_others_are_served() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let url = world.stack.app.webhooks_url().expect("webhooks");
    let address = url.trim_start_matches("http://").to_owned();
    let head = "POST /webhooks/app-store HTTP/1.1\r\nhost: a\r\n";
    let slow = [
        ("an unfinished head", head.to_owned()),
        (
            "a body that does not come",
            format!("{head}content-length: 1000\r\n\r\n"),
        ),
        (
            "a chunk that does not come",
            format!("{head}transfer-encoding: chunked\r\n\r\n"),
        ),
        (
            "a huge body, announced",
            format!("{head}content-length: 99999999999\r\n\r\n"),
        ),
    ];
    let senders = slow.map(|(what, start)| {
        let address = address.clone();
        tokio::spawn(async move { (what, cut_after(&address, &start).await) })
    });
    for number in 0..5 {
        let buyer = format!("buyer{number}");
        world.buy_apple(&buyer, YEARLY, None).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    world.settled().await;
    assert!(
        is_active(&alice.now().await, "pro_access"),
        "served meanwhile"
    );
    for sender in senders {
        let (what, lasted) = sender.await.expect("ran");
        assert!(lasted < CUT_WITHIN, "{what} lasted {lasted:?}");
    }
    world.stop().await;
}

/// As many as the door has places for, and more.
const SILENT: usize = 1_100;

/// C9: who has connected and says nothing makes room for who has something to say.
#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_say_nothing_make_room() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let url = world.stack.app.webhooks_url().expect("webhooks");
    let address = url.trim_start_matches("http://");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
    let greeting = [preface, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    // Nothing, a part of HTTP/2's first words, or all of them.
    let words = [&[][..], &preface[..7], &greeting];
    let mut silent = Vec::new();
    for number in 0..SILENT {
        let mut socket = TcpStream::connect(address).await.expect("a connection");
        let said = socket.write_all(words[number % words.len()]).await;
        said.expect("written");
        silent.push(socket);
    }
    let began = Instant::now();
    let body = serde_json::json!({ "signedPayload": "a.b.c" }).to_string();
    let answered = tokio::time::timeout(CUT_WITHIN, world.post(Store::AppStore, body)).await;
    assert_eq!(answered.expect("a place in time"), 401);
    println!("{SILENT} silent sockets: heard after {:?}", began.elapsed());
    world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    world.settled().await;
    assert!(is_active(&alice.now().await, "pro_access"));
    drop(silent);
    world.stop().await;
}

/// Sends a byte a second until the server has had enough.
async fn cut_after(address: &str, start: &str) -> Duration {
    let began = Instant::now();
    let mut socket = TcpStream::connect(address).await.expect("a connection");
    socket.write_all(start.as_bytes()).await.expect("sent");
    let (mut reader, mut writer) = socket.into_split();
    let mut answer = [0; 512];
    loop {
        let read = tokio::time::timeout(Duration::from_secs(1), reader.read(&mut answer)).await;
        // The end, an answer, or an error: it is over.
        if read.is_ok() || began.elapsed() > 2 * CUT_WITHIN {
            return began.elapsed();
        }
        if writer.write_all(b"a").await.is_err() {
            return began.elapsed();
        }
    }
}
