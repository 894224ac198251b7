//! Walking through time: scaled clocks, windows, progress, and servers in other processes.

use axum::extract::Query;
use axum::routing::get;
use std::collections::HashMap;
use std::time::Instant;

use super::*;

/// Customers with a monthly subscription at either store.
async fn crowd(rig: &Rig, count: usize) {
    for number in 0..count {
        let name = format!("customer-{number}");
        match number % 2 {
            0 => drop(rig.buy_apple(&name, MONTHLY).await),
            _ => drop(rig.buy_google(&name, "premium").await),
        }
    }
}

fn outcome(rig: &Rig) -> (Vec<PurchaseTruth>, usize) {
    (rig.sandbox.all_purchases(), rig.received())
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_end_where_single_events_do() {
    let mut outcomes = Vec::new();
    for pace in [
        Pace::EveryEvent,
        Pace::Window {
            seconds: 86_400,
            parallel: 8,
        },
    ] {
        let rig = Rig::start().await;
        crowd(&rig, 12).await;
        rig.sandbox.set_pace(pace);
        let settled = Arc::new(Mutex::new(0));
        let count = Arc::clone(&settled);
        rig.sandbox.set_idle_hook(move || {
            *count.lock().unwrap() += 1;
            Box::pin(async {})
        });
        rig.sandbox.advance(Period::months(4)).await.unwrap();
        let told = rig.sandbox.notifications();
        assert!(told.iter().all(|r| r.state == DeliveryState::Delivered));
        outcomes.push((outcome(&rig), *settled.lock().unwrap()));
    }
    let (single, windows) = (&outcomes[0], &outcomes[1]);
    assert_eq!(single.0, windows.0);
    assert!(windows.1 * 3 < single.1, "{} and {}", windows.1, single.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_of_a_window_are_under_way_together() {
    let rig = Rig::start().await;
    let (now, most) = (Arc::new(Mutex::new((0, 0))), 4);
    let seen = Arc::clone(&now);
    let busy = axum::Router::new().route(
        "/",
        post(move || {
            let seen = Arc::clone(&seen);
            async move {
                {
                    let mut seen = seen.lock().unwrap();
                    seen.0 += 1;
                    seen.1 = seen.1.max(seen.0);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                seen.lock().unwrap().0 -= 1;
                StatusCode::OK
            }
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, busy).await });
    crowd(&rig, 12).await;
    rig.sandbox
        .set_webhooks(Webhooks {
            app_store: Some(url.clone()),
            google_play: Some(url),
            superwall: None,
        })
        .unwrap();
    rig.sandbox.set_pace(Pace::Window {
        seconds: 86_400,
        parallel: most,
    });
    rig.sandbox.advance(Period::months(1)).await.unwrap();
    assert_eq!(now.lock().unwrap().1, most);
}

#[tokio::test]
async fn a_failed_delivery_is_tried_again_within_its_window() {
    let rig = Rig::start().await;
    rig.sandbox.set_pace(Pace::Window {
        seconds: 86_400,
        parallel: 4,
    });
    *rig.answer.lock().unwrap() = StatusCode::SERVICE_UNAVAILABLE;
    rig.buy_apple("alice", LIFETIME).await;
    rig.sandbox.advance(Period::days(8)).await.unwrap();
    let record = rig.sandbox.notifications().remove(0);
    assert_eq!(
        (record.attempts.len(), record.state),
        (6, DeliveryState::Failed)
    );
}

#[tokio::test]
async fn progress_tells_where_the_walk_is() {
    let rig = Rig::start().await;
    crowd(&rig, 2).await;
    let mut progress = rig.sandbox.progress();
    let before = *progress.borrow_and_update();
    assert_eq!((before.target, before.signals), (None, 2));
    let target = Period::months(3).after(rig.sandbox.now());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let watcher = rig.sandbox.progress();
    rig.sandbox.set_idle_hook(move || {
        log.lock().unwrap().push(*watcher.borrow());
        Box::pin(async {})
    });
    rig.sandbox.advance_to(target).await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|progress| progress.target == Some(target)));
    assert!(seen.windows(2).all(|pair| pair[0].now <= pair[1].now));
    let after = *progress.borrow_and_update();
    assert_eq!(after.target, None);
    assert_eq!(after.signals as usize, rig.received());
    assert!(after.events >= 4, "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_clock_waits_for_every_event() {
    let clock = VirtualClock::stopped(start_time());
    let rig = Rig::of(Options::new(setup(Environment::Production), clock.clone())).await;
    rig.buy_apple("alice", MONTHLY).await;
    let at_delivery = Arc::new(Mutex::new(Vec::new()));
    let (log, shown) = (Arc::clone(&at_delivery), clock.clone());
    rig.sandbox.set_idle_hook(move || {
        log.lock().unwrap().push(shown.now());
        Box::pin(tokio::time::sleep(Duration::from_millis(30)))
    });
    // Ten years a second: without waiting, all would be over at the first event.
    rig.sandbox.set_rate(3.2e8);
    let deadline = Instant::now() + Duration::from_secs(20);
    let delivered = || {
        let told = rig.sandbox.notifications().into_iter();
        told.filter(|record| record.state == DeliveryState::Delivered)
            .count()
    };
    while delivered() < 6 {
        assert!(Instant::now() < deadline, "{} told", delivered());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rig.sandbox.set_rate(0.0);
    for record in &rig.sandbox.notifications()[1..5] {
        assert_eq!(record.attempts[0].at, record.created_at);
        assert!(at_delivery.lock().unwrap().contains(&record.created_at));
    }
    let renewals = rig
        .told()
        .iter()
        .filter(|kind| *kind == "DID_RENEW")
        .count();
    assert!(renewals >= 5);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn a_server_elsewhere_is_asked_with_the_time_until_it_is_idle() {
    let rig = Rig::start().await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let elsewhere = axum::Router::new().route(
        "/idle",
        get(move |Query(question): Query<HashMap<String, String>>| {
            let mut log = log.lock().unwrap();
            log.push(question["at"].parse::<DateTime<Utc>>().unwrap());
            let busy = log.len().is_multiple_of(2);
            async move {
                match busy {
                    true => StatusCode::SERVICE_UNAVAILABLE,
                    false => StatusCode::OK,
                }
            }
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/idle", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, elsewhere).await });
    rig.sandbox.set_idle_url(Some(url));
    rig.buy_apple("alice", MONTHLY).await;
    let bought = asked.lock().unwrap().len();
    assert!(bought > 0);
    rig.sandbox.advance(Period::months(1)).await.unwrap();
    let asked = asked.lock().unwrap();
    assert_eq!(asked[bought], start_time(), "before the first event");
    let renewed = rig.sandbox.notifications()[1].created_at;
    assert!(asked.contains(&renewed), "at the event");
    assert_eq!(asked.last(), Some(&rig.sandbox.now()), "at the end");
}

#[tokio::test]
async fn everything_is_saved_at_the_end_however_large() {
    let dir = std::env::temp_dir().join(format!("sandbox-{}", uuid::Uuid::new_v4()));
    let rig = Rig::with(Environment::Production, Some(dir.clone())).await;
    crowd(&rig, 30).await;
    rig.sandbox.advance(Period::months(6)).await.unwrap();
    let truth = rig.sandbox.all_purchases();
    rig.sandbox.shutdown().await;
    let again = Rig::with(Environment::Production, Some(dir.clone())).await;
    assert_eq!(again.sandbox.all_purchases(), truth);
    std::fs::remove_dir_all(dir).unwrap();
}
