//! C1 to C5: deliveries in Superwall's name, as Svix signs them or would not.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use entitled::sandbox::forge::{SvixDelivery, svix_corpus};

use super::Counted;
use crate::books::Books;
use crate::support::World;

/// A body that names no purchase: what is tested is who is believed.
const BODY: &str =
    r#"{"object":"event","type":"initial_purchase","projectId":1,"timestamp":1,"data":{}}"#;

async fn send(world: &World, delivery: &SvixDelivery) -> u16 {
    let url = world.stack.app.webhooks_url().expect("webhooks");
    // Made once: a client reads the machine's certificates.
    static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(reqwest::Client::new);
    let mut request = CLIENT
        .post(format!("{url}/webhooks/superwall"))
        .header("content-type", "application/json");
    for (name, value) in &delivery.headers {
        request = request.header(*name, value);
    }
    let answer = request.body(delivery.body.clone()).send().await;
    answer.expect("an answer").status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_forged_superwall_delivery_is_turned_away_and_every_genuine_one_is_taken() {
    let world = World::with(|options| options.superwall = true).await;
    let books = Books::of(&world).await;
    let before = books.kept().await;
    let corpus = svix_corpus(world.stores(), "msg", BODY);
    let forged: Vec<_> = corpus.into_iter().filter(|case| !case.genuine).collect();
    let mut counted = Counted::default();
    for delivery in &forged {
        let status = send(&world, delivery).await;
        // What is compressed is not even looked at.
        let compressed = delivery
            .headers
            .iter()
            .any(|(name, _)| *name == "content-encoding");
        let expected = if compressed { 415 } else { 401 };
        assert_eq!(status, expected, "{} {}", delivery.class, delivery.name);
        counted.count(delivery.class, false);
    }
    assert_eq!(books.kept().await, before, "nothing of them was kept");
    // Signed now: what is almost too old must not become so while others are sent.
    let corpus = svix_corpus(world.stores(), "msg", BODY);
    let genuine: Vec<_> = corpus.into_iter().filter(|case| case.genuine).collect();
    // Replays inside the tolerance: each id once, however often it is sent.
    for _ in 0..3 {
        for delivery in &genuine {
            let status = send(&world, delivery).await;
            assert_eq!(status, 200, "{} {}", delivery.class, delivery.name);
        }
    }
    for delivery in &genuine {
        counted.count(delivery.class, true);
    }
    counted.report("deliveries", &["C1", "C2", "C3"]);
    let ids: BTreeSet<&str> = genuine
        .iter()
        .filter_map(|delivery| {
            delivery
                .headers
                .iter()
                .find(|(name, _)| name.ends_with("-id"))
        })
        .map(|(_, id)| id.as_str())
        .collect();
    let rows = "select count(*) from raw_notifications where source = 'superwall'";
    assert_eq!(
        books.number(rows).await,
        i64::try_from(ids.len()).expect("a count")
    );
    world.settled().await;
    assert_eq!(world.count("select count(*) from purchase_chains").await, 0);
    world.stop().await;
}

/// C5: both secrets hold while both are configured, and each alone when it is alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_holds_beside_the_old_one_and_a_foreign_one_never() {
    let mut world = World::with(|options| options.superwall = true).await;
    let genuine = |world: &World, prefix: &str| {
        let corpus = svix_corpus(world.stores(), prefix, BODY);
        corpus
            .into_iter()
            .find(|case| case.genuine)
            .expect("one of them")
    };
    let old_secret = world.stores().manifest().superwall.secret;
    let old = genuine(&world, "old");
    world.stores().rotate_superwall_secret().expect("rotated");
    let new_secret = world.stores().manifest().superwall.secret;
    let new = genuine(&world, "new");
    let foreign = "whsec_Zm9yZWlnbi1mb3JlaWduLWZvcmVpZ24=".to_owned();
    let cases = [
        (old_secret.clone(), (200, 401)),
        (format!("{old_secret} {new_secret}"), (200, 200)),
        (new_secret, (401, 200)),
        (foreign, (401, 401)),
    ];
    for (secrets, expected) in cases {
        world
            .restart(|config| {
                let superwall = config.superwall.as_mut().expect("Superwall");
                superwall.signing_secret_file = None;
                superwall.signing_secret = Some(secrets.into());
            })
            .await;
        let answers = (send(&world, &old).await, send(&world, &new).await);
        assert_eq!(answers, expected);
    }
    world.stop().await;
}
