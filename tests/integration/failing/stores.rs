//! Stores that cannot be asked, and callers who would make us ask too much.

use std::time::Duration;

use chrono::TimeDelta;
use entitled::proto::watch_entitlements_response::Event;
use entitled::proto::{BindOutcome, Entitlement};
use entitled::sandbox::{Endpoint, GooglePlayBuy, Outage, Store};
use futures::future::join_all;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::forged::buy_yearly;
use crate::books::Books;
use crate::support::{
    Device, World, assert_refused, client_action, entitlement, is_active, reason,
};

pub(super) const PACKAGE: &str = "com.example.app";
/// What an outage has put off happens this long after it, at the latest: the pause doubles from
/// one second while a bind waits its ten.
const HEALED_WITHIN: Duration = Duration::from_secs(30);

/// The yearly subscription at Google Play; its purchase token.
pub(super) async fn buy_premium(world: &World, customer: &str, account: Option<&str>) -> String {
    let buy = GooglePlayBuy {
        customer: customer.into(),
        product_id: "premium".into(),
        base_plan_id: Some("premium-yearly".into()),
        obfuscated_account_id: account.map(ToOwned::to_owned),
        ..Default::default()
    };
    world
        .stack
        .sandbox
        .buy_google_play(&buy)
        .await
        .expect("bought")
        .purchase_token
}

/// A token that Google could have made, and has not.
fn junk_token(number: u32) -> String {
    format!("{}.AO-J1O{number:0>110}", "k".repeat(24))
}

/// Reads of purchases at Google.
fn google_reads(world: &World) -> u64 {
    let calls = world.stack.sandbox.store_calls();
    let reads = [Endpoint::GoogleSubscription, Endpoint::GoogleProduct];
    reads
        .iter()
        .filter_map(|endpoint| calls.get(endpoint))
        .sum()
}

/// `UNAVAILABLE`, with the time to come back and what to do with the purchase until then.
#[track_caller]
fn assert_put_off(status: &Status) {
    assert_refused(status, Code::Unavailable, "STORE_UNAVAILABLE");
    assert_eq!(client_action(status), "KEEP_AND_RETRY");
    let retry = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay);
    assert!(
        retry.is_some_and(|delay| delay >= Duration::from_secs(1)),
        "{status:?}"
    );
}

async fn until_healed(device: &mut Device, what: &str, wanted: impl Fn(&Entitlement) -> bool) {
    let deadline = Instant::now() + HEALED_WITHIN;
    while !wanted(entitlement(&device.latest, "pro_access")) {
        let message = timeout_at(deadline, device.stream.message()).await;
        let message = message.unwrap_or_else(|_| panic!("not told in time: {what}"));
        if let Some(Event::Snapshot(snapshot)) = message.expect("open").expect("open").event {
            device.latest = snapshot;
        }
    }
}

fn is_confirmed(entitlement: &Entitlement) -> bool {
    entitlement.active && !entitlement.sources[0].unconfirmed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_transaction_stands_in_for_its_store_until_it_answers() {
    let world = World::start().await;
    let sandbox = &world.stack.sandbox;
    sandbox.hold_deliveries(true).await.expect("held");
    let mut phone = world.device("alice").await;
    let bought = buy_yearly(&world, "alice", None).await;
    sandbox.set_outage(Store::AppStore, Some(Outage::Down503));
    let mut app = world.client("alice").await;
    let bound = app
        .bind_app_store(&bought.signed_transaction)
        .await
        .expect("bound");
    assert_eq!(bound.outcome(), BindOutcome::Bound);
    phone.until_active("pro_access").await;
    let unconfirmed = entitlement(&phone.latest, "pro_access");
    assert!(unconfirmed.sources[0].unconfirmed);
    let lasts = unconfirmed.access_until.expect("an end").seconds - sandbox.now().timestamp();
    assert!(
        (1..=6 * 3600).contains(&lasts),
        "{lasts} s without the store's word"
    );

    sandbox.set_outage(Store::AppStore, None);
    until_healed(&mut phone, "confirmed", is_confirmed).await;
    let access = entitlement(&phone.latest, "pro_access")
        .access_until
        .expect("an end")
        .seconds;
    assert!(
        access - sandbox.now().timestamp() > 300 * 86_400,
        "the year that was paid"
    );
    assert_eq!(
        Books::of(&world)
            .await
            .number("select count(*) from ownership_changes")
            .await,
        1
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_signed_transaction_says_ends_after_six_hours() {
    let world = World::start().await;
    let sandbox = &world.stack.sandbox;
    sandbox.hold_deliveries(true).await.expect("held");
    let mut phone = world.device("alice").await;
    let bought = buy_yearly(&world, "alice", None).await;
    sandbox.set_outage(Store::AppStore, Some(Outage::Down503));
    let mut app = world.client("alice").await;
    app.bind_app_store(&bought.signed_transaction)
        .await
        .expect("bound");
    phone.until_active("pro_access").await;
    let end = sandbox.now() + TimeDelta::hours(6);
    // Work is left over on purpose: the store does not answer.
    sandbox.set_idle_hook(|| Box::pin(std::future::ready(())));
    sandbox
        .advance_to(end - TimeDelta::minutes(2))
        .await
        .expect("time passes");
    assert!(is_active(
        &app.get().await.expect("read").snapshot.expect("snapshot"),
        "pro_access"
    ));
    sandbox.advance_to(end).await.expect("time passes");
    phone.until_inactive("pro_access").await;
    sandbox.set_outage(Store::AppStore, None);
    until_healed(&mut phone, "confirmed", is_confirmed).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_signed_transaction_does_not_stand_in() {
    let world = World::start().await;
    let sandbox = &world.stack.sandbox;
    sandbox.hold_deliveries(true).await.expect("held");
    let bought = buy_yearly(&world, "alice", None).await;
    sandbox
        .advance_by(TimeDelta::hours(25))
        .await
        .expect("a day passes");
    let mut phone = world.device("alice").await;
    sandbox.set_outage(Store::AppStore, Some(Outage::Down503));
    let mut app = world.client("alice").await;
    let status = app
        .bind_app_store(&bought.signed_transaction)
        .await
        .expect_err("nobody confirms it");
    assert_put_off(&status);
    assert!(!is_active(
        &app.get().await.expect("read").snapshot.expect("snapshot"),
        "pro_access"
    ));
    sandbox.set_outage(Store::AppStore, None);
    until_healed(&mut phone, "access after the outage", is_confirmed).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_token_waits_for_its_store_as_an_open_claim() {
    let world = World::start().await;
    let sandbox = &world.stack.sandbox;
    sandbox.hold_deliveries(true).await.expect("held");
    let mut phone = world.device("bob").await;
    let token = buy_premium(&world, "bob", None).await;
    let mut app = world.client("bob").await;
    // From here on the server has an access token: each of its calls will hang to its deadline.
    app.bind_google_play(PACKAGE, &junk_token(0))
        .await
        .expect_err("junk");
    // Nothing answers at all: the caller is told in time all the same.
    sandbox.set_outage(Store::GooglePlay, Some(Outage::Timeout));
    let asked = Instant::now();
    let status = app
        .bind_google_play(PACKAGE, &token)
        .await
        .expect_err("nobody confirms it");
    assert_put_off(&status);
    assert!(
        asked.elapsed() < Duration::from_secs(11),
        "{:?}",
        asked.elapsed()
    );
    let books = Books::of(&world).await;
    assert_eq!(
        books
            .number("select count(*) from ownership_claims where verdict is null")
            .await,
        1
    );
    assert_eq!(phone.latest.revision, 0);

    // The app never comes back: the claim alone brings access.
    drop(app);
    sandbox.set_outage(Store::GooglePlay, None);
    until_healed(&mut phone, "access after the outage", |entitlement| {
        entitlement.active
    })
    .await;
    world.settled().await;
    assert_eq!(sandbox.is_acknowledged(&token), Some(true));
    assert_eq!(
        books
            .number("select count(*) from ownership_claims where verdict = 'won'")
            .await,
        1
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_purchase_token_costs_no_call() {
    let world = World::still().await;
    let mut app = world.client("mallory").await;
    app.get().await.expect("an account");
    let books = Books::of(&world).await;
    let before = books.kept().await;
    let long = "a".repeat(60 * 1024);
    let junk = [
        "123456789012345",
        "abcdefghijklmnopqrstuvwx",
        "12345678901234567890",
        "../../../../v3/applications/com.example.app/purchases/x",
        "abcdefghijklmnopqrst%2f%2e%2e%2f",
        "abcdefghijklmnopqrst:acknowledge",
        "abcdefghijklmnopqrst?alt=json",
        "abcdefghijklmnopqrst\u{0}uvwxyz",
        "abcdefghijklmnop\r\nqrstuvwxyz",
        "\u{430}bcdefghijklmnopqrstuvwxyz",
        long.as_str(),
    ];
    for token in junk {
        let status = app
            .bind_google_play(PACKAGE, token)
            .await
            .expect_err("junk");
        assert_refused(&status, Code::InvalidArgument, "PROOF_INVALID");
        assert!(
            !status.message().contains(token),
            "the token is not repeated"
        );
    }
    assert_eq!(books.kept().await, before, "nothing of it was kept");
    assert_eq!(google_reads(&world), 0);
    world.stop().await;
}

/// Twenty accounts that send one token cost what one costs; an account that sends a hundred is
/// stopped at sixty a minute, four reads each.
#[tokio::test(flavor = "multi_thread")]
async fn well_shaped_junk_is_shared_per_token_and_bounded_per_account() {
    let world = World::start().await;
    let callers = join_all((0..20).map(|number| {
        let world = &world;
        async move {
            let mut app = world.client(&format!("mallory-{number}")).await;
            app.bind_google_play(PACKAGE, &junk_token(0))
                .await
                .expect_err("junk")
        }
    }));
    for status in callers.await {
        assert_refused(&status, Code::NotFound, "PURCHASE_NOT_FOUND");
    }
    let shared = google_reads(&world);
    assert!(
        shared <= 12,
        "twenty accounts with one token cost {shared} calls"
    );

    let app = world.client("mallory").await;
    let attempts = join_all((1..=100).map(|number| {
        let mut app = app.clone();
        async move {
            app.bind_google_play(PACKAGE, &junk_token(number))
                .await
                .expect_err("junk")
        }
    }));
    let reasons: Vec<String> = attempts.await.iter().map(reason).collect();
    let limited = reasons
        .iter()
        .filter(|reason| *reason == "RATE_LIMITED")
        .count();
    assert_eq!(limited, 40, "sixty a minute");
    let spent = google_reads(&world) - shared;
    assert!(
        spent <= 60 * 4,
        "a hundred binds of junk cost {spent} calls"
    );
    assert_eq!(
        Books::of(&world)
            .await
            .number("select count(*) from entitlement_snapshots")
            .await,
        0
    );
    world.stop().await;
}
