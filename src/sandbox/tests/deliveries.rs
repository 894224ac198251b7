//! Notifications on their way: retries, holding, repeating, losing; outages of the stores' APIs.

use std::time::{Instant, SystemTime};

use super::*;

impl Rig {
    fn answers(&self, status: StatusCode) {
        *self.answer.lock().unwrap() = status;
    }

    /// Hours between the attempts of the first notification.
    fn gaps(&self) -> Vec<i64> {
        let attempts = &self.sandbox.notifications()[0].attempts;
        attempts
            .windows(2)
            .map(|pair| (pair[1].at - pair[0].at).num_hours())
            .collect()
    }
}

#[tokio::test]
async fn apple_tries_six_times_in_production() {
    let rig = Rig::start().await;
    rig.answers(StatusCode::SERVICE_UNAVAILABLE);
    rig.buy_apple("alice", LIFETIME).await;
    assert_eq!(rig.sandbox.notifications()[0].state, DeliveryState::Pending);
    rig.sandbox.advance_by(TimeDelta::days(10)).await.unwrap();
    assert_eq!(rig.gaps(), [1, 12, 24, 48, 72]);
    let record = &rig.sandbox.notifications()[0];
    assert_eq!(record.state, DeliveryState::Failed);
    assert_eq!(record.attempts[0].status, Some(503));
    let received = rig.received.lock().unwrap();
    assert!(received.iter().all(|(_, _, body)| *body == received[0].2));
}

#[tokio::test]
async fn apple_tries_once_in_the_sandbox() {
    let rig = Rig::with(Environment::Sandbox, None).await;
    rig.answers(StatusCode::INTERNAL_SERVER_ERROR);
    rig.buy_apple("alice", LIFETIME).await;
    rig.sandbox.advance_by(TimeDelta::days(10)).await.unwrap();
    assert_eq!(rig.sandbox.notifications()[0].attempts.len(), 1);
    assert_eq!(rig.sandbox.notifications()[0].state, DeliveryState::Failed);
}

#[tokio::test]
async fn pubsub_backs_off_and_takes_only_its_own_statuses_for_an_acknowledgement() {
    let rig = Rig::start().await;
    rig.answers(StatusCode::PARTIAL_CONTENT);
    rig.buy_google("alice", "lifetime").await;
    rig.sandbox
        .advance_by(TimeDelta::seconds(2_000))
        .await
        .unwrap();
    let record = rig.sandbox.notifications().remove(0);
    let waits: Vec<i64> = record
        .attempts
        .windows(2)
        .map(|pair| (pair[1].at - pair[0].at).num_seconds())
        .collect();
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600]);
    rig.answers(StatusCode::NO_CONTENT);
    rig.sandbox
        .advance_by(TimeDelta::seconds(600))
        .await
        .unwrap();
    assert_eq!(
        rig.sandbox.notifications()[0].state,
        DeliveryState::Delivered
    );

    let received = rig.received.lock().unwrap();
    let (_, headers, body) = &received[0];
    assert_eq!(
        body["subscription"],
        rig.sandbox.manifest().push.subscription
    );
    assert_eq!(body["message"]["messageId"], body["message"]["message_id"]);
    let bearer = headers["authorization"].to_str().unwrap();
    let claims = payload(bearer.strip_prefix("Bearer ").unwrap());
    assert_eq!(claims["email"], rig.sandbox.manifest().push.email);
    assert_eq!(claims["email_verified"], true);
    let machine = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(
        claims["iat"].as_u64().unwrap().abs_diff(machine) < 60,
        "machine time"
    );
}

#[tokio::test]
async fn apple_takes_206_for_an_acknowledgement() {
    let rig = Rig::start().await;
    rig.answers(StatusCode::PARTIAL_CONTENT);
    rig.buy_apple("alice", LIFETIME).await;
    assert_eq!(
        rig.sandbox.notifications()[0].state,
        DeliveryState::Delivered
    );
}

#[tokio::test]
async fn held_notifications_go_out_in_any_order_twice_or_never() {
    let rig = Rig::start().await;
    rig.sandbox.hold_deliveries(true).await.unwrap();
    let bought = rig.buy_apple("alice", MONTHLY).await;
    rig.sandbox.advance(Period::months(2)).await.unwrap();
    rig.sandbox
        .refund_app_store(&bought.transaction_id)
        .await
        .unwrap();
    assert_eq!((rig.received(), rig.told().len()), (0, 4));
    let ids: Vec<String> = rig
        .sandbox
        .notifications()
        .into_iter()
        .map(|r| r.id)
        .collect();
    rig.sandbox.deliver(&ids[2]).await.unwrap();
    let twice = rig.sandbox.deliver(&ids[2]).await.unwrap();
    assert_eq!(twice.attempts.len(), 2);
    rig.sandbox.drop_notification(&ids[1]).unwrap();
    rig.sandbox.hold_deliveries(false).await.unwrap();
    rig.sandbox.advance_by(TimeDelta::days(1)).await.unwrap();
    let states: Vec<DeliveryState> = rig
        .sandbox
        .notifications()
        .iter()
        .map(|r| r.state)
        .collect();
    let (delivered, dropped) = (DeliveryState::Delivered, DeliveryState::Dropped);
    assert_eq!(states, [delivered, dropped, delivered, delivered]);
    assert_eq!(rig.received(), 4);
    assert!(rig.sandbox.deliver("unknown").await.is_err());
}

#[tokio::test]
async fn each_notification_is_delivered_and_settled_before_the_next_event() {
    let rig = Rig::start().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (received, clock, log) = (
        Arc::clone(&rig.received),
        rig.sandbox.inner.clock.clone(),
        Arc::clone(&seen),
    );
    rig.sandbox.set_idle_hook(move || {
        log.lock()
            .unwrap()
            .push((received.lock().unwrap().len(), clock.now()));
        Box::pin(async {})
    });
    rig.buy_apple("alice", MONTHLY).await;
    rig.sandbox.advance(Period::months(3)).await.unwrap();
    let seen = seen.lock().unwrap();
    for count in 2..=4 {
        let (_, at) = seen
            .iter()
            .find(|(received, _)| *received == count)
            .unwrap();
        let record = &rig.sandbox.notifications()[count - 1];
        assert_eq!(*at, record.created_at);
    }
}

#[tokio::test]
async fn a_running_clock_plays_events_by_itself() {
    let clock = VirtualClock::running(start_time());
    let mut options = Options::new(setup(Environment::Production), clock.clone());
    options.setup.timing.apple_renewal_lead_seconds = 0;
    let sandbox = Sandbox::start(options).await.unwrap();
    let buy = AppStoreBuy {
        customer: "alice".to_owned(),
        product_id: MONTHLY.to_owned(),
        ..AppStoreBuy::default()
    };
    sandbox.buy_app_store(&buy).await.unwrap();
    // Somebody else moves the shared clock to just before the renewal.
    let expires = sandbox.purchases("alice")[0].expires_at.unwrap();
    clock.advance_to(expires - TimeDelta::milliseconds(50));
    let deadline = Instant::now() + Duration::from_secs(5);
    while sandbox.notifications().len() < 2 {
        assert!(Instant::now() < deadline, "no renewal");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(sandbox.notifications()[1].state, DeliveryState::NoWebhook);
    sandbox.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_sent_any_more_is_given_up() {
    let rig = Rig::start().await;
    rig.answers(StatusCode::SERVICE_UNAVAILABLE);
    rig.buy_apple("alice", LIFETIME).await;
    rig.sandbox.set_webhooks(Webhooks::default()).unwrap();
    rig.sandbox.advance_by(TimeDelta::days(10)).await.unwrap();
    let record = &rig.sandbox.notifications()[0];
    assert_eq!(record.state, DeliveryState::Failed);
    assert_eq!(record.attempts.len(), 1);
}

#[tokio::test]
async fn what_is_dropped_while_it_is_under_way_stays_dropped() {
    let rig = Rig::start().await;
    rig.sandbox
        .sin_next_deliveries(None, DeliverySin::Slow { millis: 600 }, 1)
        .unwrap();
    rig.answers(StatusCode::SERVICE_UNAVAILABLE);
    let drop = async {
        while rig.sandbox.notifications().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let id = rig.sandbox.notifications()[0].id.clone();
        rig.sandbox.drop_notification(&id).unwrap();
    };
    tokio::join!(rig.buy_apple("alice", LIFETIME), drop);
    rig.sandbox.advance_by(TimeDelta::days(10)).await.unwrap();
    let record = &rig.sandbox.notifications()[0];
    assert_eq!(record.state, DeliveryState::Dropped);
    assert_eq!(record.attempts.len(), 1);
}

#[tokio::test]
async fn the_calendar_has_an_end() {
    let rig = Rig::start().await;
    rig.buy_apple("alice", LIFETIME).await;
    for beyond in [
        DateTime::<Utc>::MAX_UTC,
        Period::years(9_000).after(start_time()),
    ] {
        let refused = rig.sandbox.advance_to(beyond).await;
        assert!(matches!(refused, Err(SandboxError::BeyondCalendar)));
    }
    assert_eq!(rig.sandbox.now(), start_time());
}

#[tokio::test]
async fn outages_hit_one_store_and_end() {
    let rig = Rig::start().await;
    let bought = rig.buy_apple("alice", MONTHLY).await;
    let path = format!("/inApps/v1/transactions/{}", bought.transaction_id);
    rig.sandbox
        .set_outage(Store::AppStore, Some(Outage::Down503));
    assert_eq!(rig.apple(&path).await.0, 503);
    rig.google_token().await;

    rig.sandbox
        .set_outage(Store::AppStore, Some(Outage::RateLimited));
    let url = format!("{}/apple{path}", rig.sandbox.base_url());
    let limited = rig
        .http
        .get(&url)
        .bearer_auth(rig.apple_token(&json!({})))
        .send()
        .await
        .unwrap();
    assert_eq!(limited.status(), 429);
    let retry: i64 = limited.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        (retry / 1_000 - machine_seconds()).abs() < 60,
        "absolute milliseconds"
    );
    assert_eq!(
        limited.json::<Value>().await.unwrap()["errorCode"],
        4_290_000
    );

    rig.sandbox
        .set_outage(Store::AppStore, Some(Outage::Timeout));
    let hanging = rig.apple(&path);
    let ended = tokio::time::timeout(Duration::from_millis(200), hanging).await;
    assert!(ended.is_err(), "answered during a time-out");
    rig.sandbox.set_outage(Store::AppStore, None);
    assert_eq!(rig.apple(&path).await.0, 200);
    rig.sandbox
        .set_outage(Store::GooglePlay, Some(Outage::RateLimited));
    let (status, body) = rig.google_get_with("x", "orders/1").await;
    assert_eq!(
        (status, &body["error"]["status"]),
        (429, &json!("RESOURCE_EXHAUSTED"))
    );
}

impl Rig {
    async fn google_get_with(&self, bearer: &str, path: &str) -> (u16, Value) {
        answer_of(self.http.get(self.google_url(path)).bearer_auth(bearer)).await
    }
}
