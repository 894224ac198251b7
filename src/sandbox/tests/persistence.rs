//! State on disk, and the same story from the same seed.

use std::path::PathBuf;

use super::*;

struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("sandbox-{}", uuid::Uuid::new_v4())))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn a_directory_is_kept_by_one_simulator_at_a_time() {
    let dir = Dir::new();
    let rig = Rig::with(Environment::Production, Some(dir.0.clone())).await;
    let options = || {
        let clock = VirtualClock::stopped(start_time());
        Options {
            dir: Some(dir.0.clone()),
            ..Options::new(setup(Environment::Production), clock)
        }
    };
    let second = Sandbox::start(options()).await;
    assert!(matches!(second, Err(SandboxError::InUse(_))));
    rig.sandbox.shutdown().await;
    Sandbox::start(options()).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn a_simulator_goes_on_where_it_stopped() {
    let dir = Dir::new();
    let rig = Rig::with(Environment::Production, Some(dir.0.clone())).await;
    rig.buy_apple("alice", MONTHLY).await;
    let google = rig.buy_google("alice", "premium").await;
    rig.acknowledge(&google).await;
    rig.sandbox.advance(Period::months(1)).await.unwrap();
    let identity = rig
        .sandbox
        .identity_token(&IdentityToken::of("alice"))
        .unwrap();
    *rig.answer.lock().unwrap() = StatusCode::SERVICE_UNAVAILABLE;
    rig.buy_apple("bob", LIFETIME).await;
    rig.sandbox.shutdown().await;
    let before = rig.sandbox.manifest();
    let told = rig.sandbox.notifications();
    let truth = rig.sandbox.all_purchases();
    let now = rig.sandbox.now();

    // A clock that knows nothing of the time that has passed.
    let mut options = Options::new(
        setup(Environment::Production),
        VirtualClock::stopped(start_time()),
    );
    options.dir = Some(dir.0.clone());
    let again = Sandbox::start(options).await.unwrap();
    assert!(now - again.now() < TimeDelta::minutes(1));
    assert_eq!(again.notifications(), told);
    assert_eq!(again.all_purchases(), truth);
    let after = again.manifest();
    assert_eq!(after.apple_root_cert_der, before.apple_root_cert_der);
    assert_eq!(after.apple_private_key_pem, before.apple_private_key_pem);
    let opened = jws::Opened::parse(&identity).unwrap();
    assert!(opened.signed_by(again.inner.identity().signer(Algorithm::Es256).unwrap()));

    // The failed delivery is tried again, and both subscriptions renew.
    *rig.answer.lock().unwrap() = StatusCode::OK;
    again.set_webhooks(rig.webhooks.clone()).unwrap();
    again.advance(Period::months(1)).await.unwrap();
    assert!(
        again
            .notifications()
            .iter()
            .all(|r| r.state == DeliveryState::Delivered)
    );
    assert_eq!(again.notifications().len(), told.len() + 2);
    again.shutdown().await;
}

#[tokio::test]
async fn state_and_keys_are_private_to_their_owner() {
    let dir = Dir::new();
    let rig = Rig::with(Environment::Production, Some(dir.0.clone())).await;
    rig.buy_apple("alice", MONTHLY).await;
    for name in ["keys.json", "state.json", "manifest.json"] {
        let meta = std::fs::metadata(dir.0.join(name)).unwrap();
        #[cfg(unix)]
        assert_eq!(
            std::os::unix::fs::MetadataExt::mode(&meta) & 0o077,
            0,
            "{name}"
        );
        assert!(meta.len() > 0);
    }
    rig.sandbox.shutdown().await;
    std::fs::write(dir.0.join("state.json"), b"{").unwrap();
    let mut options = Options::new(
        setup(Environment::Production),
        VirtualClock::stopped(start_time()),
    );
    options.dir = Some(dir.0.clone());
    let refused = Sandbox::start(options).await.err().unwrap().to_string();
    assert!(refused.contains("state.json"), "{refused}");
}

#[tokio::test]
async fn a_fresh_start_keeps_the_keys_and_forgets_the_purchases() {
    let dir = std::env::temp_dir().join(format!("sandbox-{}", uuid::Uuid::new_v4()));
    let rig = Rig::with(Environment::Production, Some(dir.clone())).await;
    rig.buy_apple("alice", LIFETIME).await;
    let key = rig.sandbox.manifest().apple_private_key_pem;
    rig.sandbox.rotate_superwall_secret().unwrap();
    let written: Manifest =
        serde_json::from_slice(&std::fs::read(dir.join("manifest.json")).unwrap()).unwrap();
    let secret = rig.sandbox.manifest().superwall.secret;
    assert_eq!(written.superwall.secret, secret);
    rig.sandbox.shutdown().await;
    let again = Sandbox::start(Options {
        dir: Some(dir.clone()),
        fresh: true,
        ..options(Environment::Production)
    });
    let again = again.await.unwrap();
    assert_eq!(again.manifest().apple_private_key_pem, key);
    assert_eq!(again.all_purchases(), []);
    again.shutdown().await;
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn the_same_seed_tells_the_same_story() {
    let mut stories = Vec::new();
    for seed in [7, 7, 8] {
        let clock = VirtualClock::stopped(start_time());
        let mut options = Options::new(setup(Environment::Production), clock);
        options.seed = seed;
        let sandbox = Sandbox::start(options).await.unwrap();
        for customer in ["alice", "bob"] {
            let apple = AppStoreBuy {
                customer: customer.to_owned(),
                product_id: MONTHLY.to_owned(),
                ..AppStoreBuy::default()
            };
            sandbox.buy_app_store(&apple).await.unwrap();
            sandbox
                .buy_google_play(&google_buy(customer, "premium"))
                .await
                .unwrap();
        }
        sandbox.advance(Period::months(6)).await.unwrap();
        let told: Vec<_> = sandbox
            .notifications()
            .into_iter()
            .map(|r| (r.id, r.notification_type, r.purchase, r.created_at))
            .collect();
        stories.push((told, sandbox.all_purchases()));
        sandbox.shutdown().await;
    }
    assert_eq!(stories[0], stories[1]);
    assert_ne!(stories[0], stories[2]);
}
