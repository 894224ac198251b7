//! Keys under load, replaced without a failed call, and keys while Postgres is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use entitled::cli::client::Client;
use entitled::proto::GetEntitlementsRequest;
use entitled::storage::cluster::{Cluster, DataDir};
use tokio::sync::{Mutex, RwLock};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{Keys, channel, reads, service, until_refused};
use crate::scene::{MONTHLY, READER};
use crate::support::{PATIENCE, World, assert_refused};

/// What docs/operations.md and the API's description say of a revocation.
const REFUSED_WITHIN: Duration = Duration::from_secs(3);
const CALLERS: usize = 4;
const ROTATIONS: usize = 3;
/// With the new key, before the old one is revoked.
const CALLS_BETWEEN: u64 = 40;

/// A backend: many callers that all use the key of the moment, without a pause.
struct Backend {
    /// Whoever calls holds it for reading; the key changes between two calls of everybody.
    key: RwLock<String>,
    over: AtomicBool,
    served: AtomicU64,
    slowest: Mutex<Duration>,
}

impl Backend {
    async fn call_until_over(self: Arc<Self>, server: String) -> Result<(), Status> {
        let connection = channel(&server).await;
        while !self.over.load(Ordering::Relaxed) {
            let key = self.key.read().await;
            let begun = Instant::now();
            let mut client = Client::over(connection.clone(), &key).expect("a client");
            let request = GetEntitlementsRequest {
                account: "dev:alice".into(),
                ..Default::default()
            };
            client.inner.get_entitlements(request).await?;
            drop(key);
            let mut slowest = self.slowest.lock().await;
            *slowest = begun.elapsed().max(*slowest);
            self.served.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Keys are replaced one by one under a load that never stops, others are made and revoked beside
/// them: no call with a live key is refused, and a revoked one is, everywhere and for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_replaced_under_load_without_a_failed_call() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    let bound = alice.bind_apple(&bought.signed_transaction).await;
    bound.expect("bound");
    let reader = world.replica(READER, |_| {}).await;
    let servers = [
        world.stack.address.server.clone(),
        reader.grpc_url().expect("gRPC"),
    ];
    let mut keys = Keys::of(&world).await;
    let first = keys.create(service("backend", &[])).await.expect("made");
    let mut live = first.api_key.expect("a key").id;
    let backend = Arc::new(Backend {
        key: RwLock::new(first.secret),
        over: AtomicBool::new(false),
        served: AtomicU64::new(0),
        slowest: Mutex::default(),
    });
    let mut callers = JoinSet::new();
    for server in &servers {
        for _ in 0..CALLERS {
            callers.spawn(Arc::clone(&backend).call_until_over(server.clone()));
        }
    }
    // Somebody else's keys come and go all the time.
    let mut others = Keys::of(&world).await;
    let busy = Arc::clone(&backend);
    callers.spawn(async move {
        while !busy.over.load(Ordering::Relaxed) {
            let made = others.create(service("churn", &[])).await?;
            others.revoke(&made.api_key.expect("a key").id).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    });

    for _ in 0..ROTATIONS {
        let next = keys
            .create(service("backend", &[]))
            .await
            .expect("a second");
        let next_id = next.api_key.expect("a key").id;
        let old = std::mem::replace(&mut *backend.key.write().await, next.secret);
        let before = backend.served.load(Ordering::Relaxed);
        while backend.served.load(Ordering::Relaxed) < before + CALLS_BETWEEN {
            if let Some(ended) = callers.try_join_next() {
                panic!("a call with a live key: {ended:?}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // What nobody uses any more is ended. The stated time holds for a replica that is let work:
        // what this machine was late itself does not count.
        keys.revoke(&std::mem::replace(&mut live, next_id))
            .await
            .expect("revoked");
        let revoked = Instant::now();
        for server in &servers {
            let mut last_served = revoked;
            loop {
                let asked = Instant::now();
                match reads(server, &old).await {
                    Ok(_) => last_served = asked,
                    Err(refused) => {
                        assert_refused(&refused, Code::Unauthenticated, "KEY_INVALID");
                        break;
                    }
                }
            }
            let late = 2 * *backend.slowest.lock().await;
            assert!(
                last_served - revoked < REFUSED_WITHIN + late,
                "served {:?} after it was revoked",
                last_served - revoked
            );
            for _ in 0..3 {
                let refused = reads(server, &old).await.expect_err("for good");
                assert_refused(&refused, Code::Unauthenticated, "KEY_INVALID");
            }
        }
    }
    backend.over.store(true, Ordering::Relaxed);
    for ended in callers.join_all().await {
        ended.expect("no call with a live key fails");
    }
    let served = backend.served.load(Ordering::Relaxed);
    assert!(served > 100, "{served} calls");
    reader.stop().await;
    world.stop().await;
}

/// Whatever a service with that key reads of an account that is named by its id, which needs no
/// database on a replica that has it in its cache.
async fn reads_by_id(server: &str, key: &str, account: &str) -> Result<(), Status> {
    let client = Client::over(channel(server).await, key).expect("a client");
    let request = GetEntitlementsRequest {
        account: account.into(),
        ..Default::default()
    };
    client.inner.clone().get_entitlements(request).await?;
    Ok(())
}

#[track_caller]
fn assert_not_judged(refused: &Status) {
    assert_refused(refused, Code::Unavailable, "KEYS_UNAVAILABLE");
    let retry = refused.get_details_retry_info();
    assert!(
        retry.and_then(|info| info.retry_delay).is_some(),
        "{refused:?}"
    );
}

/// Tries until somebody knows again that the key is no good.
async fn until_judged(server: &str, key: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match reads(server, key).await.expect_err("it was revoked") {
            refused if refused.code() == Code::Unavailable => {
                assert!(Instant::now() < deadline, "{refused:?}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            refused => {
                assert_refused(&refused, Code::Unauthenticated, "KEY_INVALID");
                return;
            }
        }
    }
}

/// Postgres is gone, and comes back: a known key is good meanwhile, an unknown one is not judged.
#[tokio::test(flavor = "multi_thread")]
async fn keys_go_on_without_postgres_and_nobody_is_refused_for_what_cannot_be_known() {
    let cluster = Cluster::start(DataDir::Ephemeral)
        .await
        .expect("a cluster of its own");
    let made = cluster.create_database("keys", None).await;
    made.expect("database");
    let url = cluster.url("keys");
    let world = World::with(|options| options.database_url.clone_from(&url)).await;
    let alice = world.person("alice").await;
    let server = world.stack.address.server.clone();
    let mut keys = Keys::of(&world).await;
    let known = keys.create(service("backend", &[])).await.expect("made");
    let gone = keys.create(service("former", &[])).await.expect("made");
    let known = known.secret;
    reads_by_id(&server, &known, &alice.account)
        .await
        .expect("warm");
    let id = gone.api_key.expect("a key").id;
    keys.revoke(&id).await.expect("revoked");
    until_refused(&server, &gone.secret).await;

    cluster.pause().await.expect("paused");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        reads_by_id(&server, &known, &alice.account)
            .await
            .expect("it was live a moment ago");
        let refused = reads_by_id(&server, &gone.secret, &alice.account).await;
        assert_not_judged(&refused.expect_err("nobody knows it"));
    }
    for made_up in ["entitled_svc_", "entitled_svc_0123456789"] {
        let refused = reads_by_id(&server, made_up, &alice.account).await;
        assert_refused(
            &refused.expect_err("nobody was given it"),
            Code::Unauthenticated,
            "KEY_INVALID",
        );
    }
    cluster.resume().await.expect("resumed");
    until_judged(&server, &gone.secret).await;
    reads_by_id(&server, &known, &alice.account)
        .await
        .expect("as before");

    // One that takes every question and answers none is as good as gone.
    let pool = sqlx::PgPool::connect(&url)
        .await
        .expect("the test's database");
    let mut stuck = pool.begin().await.expect("begun");
    sqlx::query("lock table api_keys in access exclusive mode")
        .execute(&mut *stuck)
        .await
        .expect("locked");
    let refused = reads_by_id(&server, &gone.secret, &alice.account).await;
    assert_not_judged(&refused.expect_err("nobody answers"));
    reads_by_id(&server, &known, &alice.account)
        .await
        .expect("it was live a moment ago");
    stuck.rollback().await.expect("let go");
    pool.close().await;
    until_judged(&server, &gone.secret).await;
    world.stop().await;
    cluster.stop().await.expect("stopped");
}
