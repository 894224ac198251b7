//! What a replica does with keys while it cannot reach its database.

use super::*;
use crate::domain::api_key::{AppScope, KeyKind};

/// Nobody listens there.
const NOWHERE: &str = "postgres://nobody@127.0.0.1:1/none";

fn key(letter: u8) -> api_key::Written {
    api_key::write(KeyKind::Service, &[letter; DRAWN])
}

fn live(key: &api_key::Written) -> LiveKey {
    LiveKey {
        id: key.id.clone(),
        name: "backend".into(),
        powers: Powers {
            kind: KeyKind::Service,
            apps: AppScope::all(),
        },
        digest: hash(&key.text).as_ref().to_vec(),
        expires_at: None,
        use_is_news: true,
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_database_known_keys_are_believed_for_a_minute_and_others_are_not_judged() {
    let ring = KeyRing::new(Db::open(NOWHERE, 1).unwrap());
    let (known, unknown) = (key(1), key(2));
    let told = async |text: &str| ring.check(text).await.map(|_| ());
    assert_eq!(told(&known.text).await, Err(CheckError::Unavailable));

    ring.hold(vec![live(&known)], MachineInstant::now());
    let begun = MachineInstant::now();
    // Time stands still but for this: what is asked is asked after the keys were read.
    tokio::time::sleep(Duration::from_millis(1)).await;
    while begun.elapsed() < STALE_MAX - Duration::from_secs(15) {
        assert_eq!(told(&known.text).await, Ok(()));
        // Whether it was made meanwhile, nobody here can know.
        assert_eq!(told(&unknown.text).await, Err(CheckError::Unavailable));
        // What nobody was ever given, and another secret under a known name, need no database.
        assert_eq!(told("entitled_svc_").await, Err(CheckError::Malformed));
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    tokio::time::sleep_until(begun + STALE_MAX - Duration::from_millis(1)).await;
    assert_eq!(told(&known.text).await, Ok(()));
    tokio::time::sleep_until(begun + STALE_MAX).await;
    assert_eq!(told(&known.text).await, Err(CheckError::Unavailable));

    // It is back: what was revoked meanwhile is over, and so are its streams.
    let streams = ring.held.load_full().unwrap().keys[&known.id].ended.clone();
    assert!(!streams.is_cancelled());
    ring.hold(vec![live(&unknown)], MachineInstant::now());
    assert!(streams.is_cancelled());
    assert_eq!(told(&unknown.text).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_use_that_could_not_be_written_is_written_later() {
    let ring = KeyRing::new(Db::open(NOWHERE, 1).unwrap());
    let known = key(1);
    ring.hold(vec![live(&known)], MachineInstant::now());
    ring.check(&known.text).await.unwrap();
    let held = ring.held.load_full().unwrap();
    let used = || held.keys[&known.id].used.load(Ordering::Relaxed);
    ring.write_uses().await;
    assert!(used(), "nobody has written it down");
    // Within the hour it is no news, and nothing is kept for later.
    let old = LiveKey {
        use_is_news: false,
        ..live(&known)
    };
    ring.hold(vec![old], MachineInstant::now());
    ring.write_uses().await;
    assert!(!used());
}
