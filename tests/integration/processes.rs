//! Processes that die, stop and compete: nothing is lost, and every effect happens once.

mod balanced;
mod crashes;
mod erasures;
mod goods;
mod planted;
mod storm;
mod workers;

use std::os::unix::process::ExitStatusExt as _;

use entitled::sandbox::{AppStoreBuy, GooglePlayBuy, Store};

use crate::books::{Books, Effects};
use crate::process::{NOBODY, Process, eventually};
use crate::support::World;

const SIGABRT: i32 = 6;

/// A world whose only server dies at `place`.
async fn doomed_at(place: &str) -> (World, Process) {
    let mut world = World::with(|options| options.roles = NOBODY).await;
    let_time_pass(&world);
    let doomed = Process::start(&world, "start", &[("ENTITLED_CRASH_AT", place)]).await;
    doomed.serves(&mut world);
    (world, doomed)
}

/// The process died where it was told to; another one takes its place.
async fn replaced(world: &mut World, doomed: &mut Process) -> Process {
    assert_eq!(doomed.ended().await.signal(), Some(SIGABRT));
    let healthy = Process::start(world, "start", &[]).await;
    healthy.serves(world);
    healthy
}

/// The token that the stores carry for an account.
async fn store_token(world: &World, subject: &str) -> String {
    let snapshot = world
        .client(subject)
        .await
        .get()
        .await
        .expect("an account")
        .snapshot;
    snapshot
        .and_then(|snapshot| snapshot.account)
        .expect("an account")
        .store_token
}

/// The yearly subscription; what proves it.
async fn buy(world: &World, store: Store, customer: &str, account: Option<&str>) -> String {
    match store {
        Store::AppStore => {
            let buy = AppStoreBuy {
                customer: customer.into(),
                product_id: "com.example.premium.yearly".into(),
                app_account_token: account.map(|token| token.parse().expect("a UUID")),
                ..AppStoreBuy::default()
            };
            world
                .stack
                .sandbox
                .buy_app_store(&buy)
                .await
                .expect("bought")
                .signed_transaction
        }
        Store::GooglePlay => {
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
    }
}

/// What one purchase, told by `notifications` of them, comes to, however often it was worked on.
fn once(store: Store, notifications: i64) -> Effects {
    Effects {
        chains: 1,
        owners: 1,
        transactions: 1,
        applied: 1,
        duties_open: 0,
        duties_done: i64::from(store == Store::GooglePlay),
        notifications,
        unfinished: 0,
        revision: 1,
    }
}

/// Waits until nothing is owed, then compares.
async fn came_to(world: &World, expected: &Effects) {
    let books = Books::of(world).await;
    eventually(
        "every duty is done, every notification worked in",
        async || {
            let effects = books.effects().await;
            effects.duties_done == expected.duties_done && effects.unfinished == 0
        },
    )
    .await;
    world.settled().await;
    assert_eq!(books.effects().await, *expected);
}

/// The stores do not wait for a server that is about to die.
fn let_time_pass(world: &World) {
    world
        .stack
        .sandbox
        .set_idle_hook(|| Box::pin(std::future::ready(())));
}
