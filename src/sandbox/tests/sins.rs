//! The network's sins: each on demand, by chance, and the same from the same seed.

use super::*;

impl Rig {
    fn next(&self, sin: DeliverySin) {
        self.sandbox.sin_next_deliveries(None, sin, 1).unwrap();
    }

    fn next_call(&self, sin: CallSin) {
        self.sandbox.sin_next_calls(None, sin, 1);
    }

    /// Ids of what arrived from Apple, in order of arrival.
    fn arrived(&self) -> Vec<String> {
        let received = self.received.lock().unwrap();
        let bodies = received.iter().map(|(_, _, body)| body);
        bodies
            .map(|body| {
                let id = &signed(&body["signedPayload"])["notificationUUID"];
                id.as_str().unwrap().to_owned()
            })
            .collect()
    }

    fn record(&self, index: usize) -> NotificationRecord {
        self.sandbox.notifications().remove(index)
    }

    async fn wait(&self, seconds: i64) {
        let wait = TimeDelta::seconds(seconds);
        self.sandbox.advance_by(wait).await.unwrap();
    }
}

#[tokio::test]
async fn a_repetition_follows_an_acknowledgement() {
    let rig = Rig::start().await;
    rig.next(DeliverySin::Duplicate { after_seconds: 60 });
    rig.buy_apple("alice", LIFETIME).await;
    assert_eq!(rig.received(), 1);
    rig.wait(59).await;
    assert_eq!(rig.received(), 1);
    rig.wait(1).await;
    let record = rig.record(0);
    assert_eq!((rig.received(), record.attempts.len()), (2, 2));
    assert_eq!(record.state, DeliveryState::Delivered);
    assert_eq!(
        record.sins,
        [DeliverySin::Duplicate { after_seconds: 60 }],
        "what was done to it can be read"
    );
    // The next one suffers nothing.
    rig.buy_apple("bob", LIFETIME).await;
    rig.wait(3_600).await;
    assert_eq!(rig.received(), 3);
}

#[tokio::test]
async fn a_failed_repetition_is_not_tried_again() {
    let rig = Rig::start().await;
    rig.next(DeliverySin::Duplicate { after_seconds: 5 });
    rig.buy_apple("alice", LIFETIME).await;
    *rig.answer.lock().unwrap() = StatusCode::INTERNAL_SERVER_ERROR;
    rig.wait(400_000).await;
    assert_eq!(rig.received(), 2);
    assert_eq!(rig.record(0).state, DeliveryState::Delivered);
}

#[tokio::test]
async fn the_next_one_overtakes() {
    let rig = Rig::start().await;
    rig.next(DeliverySin::Reorder);
    rig.buy_apple("alice", LIFETIME).await;
    assert_eq!(rig.received(), 0);
    rig.wait(30).await;
    rig.buy_apple("bob", LIFETIME).await;
    let (first, second) = (rig.record(0), rig.record(1));
    assert_eq!(rig.arrived(), [second.id.clone(), first.id.clone()]);
    assert_eq!(first.attempts[0].at, second.attempts[0].at);

    // Where none follows, it goes out after ten minutes.
    rig.next(DeliverySin::Reorder);
    rig.buy_apple("carol", LIFETIME).await;
    rig.wait(599).await;
    assert_eq!(rig.received(), 2);
    rig.wait(1).await;
    assert_eq!(rig.received(), 3);
}

#[tokio::test]
async fn late_ones_come_late_or_when_told_to() {
    let rig = Rig::start().await;
    rig.next(DeliverySin::Delay { seconds: 7_200 });
    rig.buy_apple("alice", LIFETIME).await;
    rig.next(DeliverySin::Delay { seconds: 3_600 });
    rig.buy_apple("bob", LIFETIME).await;
    assert_eq!((rig.received(), rig.record(0).attempts.len()), (0, 0));
    rig.wait(3_600).await;
    assert_eq!(rig.arrived(), [rig.record(1).id]);
    rig.sandbox.flush_deliveries().await.unwrap();
    assert_eq!(rig.arrived(), [rig.record(1).id, rig.record(0).id]);
    rig.wait(10_000).await;
    assert_eq!(rig.received(), 2);
}

#[tokio::test]
async fn what_is_lost_stays_lost_and_apples_history_shows_the_attempt() {
    let rig = Rig::start().await;
    rig.next(DeliverySin::Drop);
    let bought = rig.buy_apple("alice", LIFETIME).await;
    rig.wait(1_000_000).await;
    let record = rig.record(0);
    assert_eq!((rig.received(), record.state), (0, DeliveryState::Dropped));
    assert_eq!(record.attempts.len(), 1);
    assert_eq!(record.attempts[0].result, AttemptResult::NoResponse);
    let wish = json!({
        "startDate": millis("2026-01-10T00:00:00Z"),
        "endDate": millis("2026-01-11T00:00:00Z"),
        "transactionId": bought.transaction_id,
        "onlyFailures": true,
    });
    let url = format!(
        "{}/apple/inApps/v1/notifications/history",
        rig.sandbox.base_url()
    );
    let token = rig.apple_token(&json!({}));
    let (status, history) = answer_of(rig.http.post(url).bearer_auth(token).json(&wish)).await;
    assert_eq!(status, 200, "{history}");
    let tried = &history["notificationHistory"][0]["sendAttempts"];
    assert_eq!(tried[0]["sendAttemptResult"], "NO_RESPONSE");
}

#[tokio::test]
async fn a_connection_that_ends_in_the_middle_is_a_failed_attempt() {
    let rig = Rig::start().await;
    rig.next(DeliverySin::Truncate);
    rig.buy_apple("alice", LIFETIME).await;
    let record = rig.record(0);
    assert_eq!((rig.received(), record.state), (0, DeliveryState::Pending));
    assert_eq!(record.attempts[0].result, AttemptResult::SocketIssue);
    rig.wait(3_600).await;
    assert_eq!(rig.arrived(), [record.id], "the next attempt is whole");
}

#[tokio::test]
async fn a_slow_body_arrives_whole_or_times_out() {
    let mut options = options(Environment::Production);
    options.setup.deliveries.apple_timeout_seconds = 1;
    let rig = Rig::of(options).await;
    rig.next(DeliverySin::Slow { millis: 150 });
    rig.buy_apple("alice", LIFETIME).await;
    let record = rig.record(0);
    assert_eq!(
        (rig.received(), record.state),
        (1, DeliveryState::Delivered)
    );
    assert!(record.attempts[0].latency_millis >= 150);
    rig.next(DeliverySin::Slow { millis: 1_500 });
    rig.buy_apple("bob", LIFETIME).await;
    assert_eq!(rig.record(1).attempts[0].result, AttemptResult::TimedOut);
}

#[tokio::test]
async fn only_the_named_source_suffers_what_was_ordered() {
    let rig = Rig::start().await;
    let google = Some(Source::GooglePlay);
    rig.sandbox
        .sin_next_deliveries(google, DeliverySin::Drop, 1)
        .unwrap();
    rig.buy_apple("alice", LIFETIME).await;
    rig.buy_google("alice", "lifetime").await;
    let states: Vec<_> = rig.sandbox.notifications();
    assert_eq!(states[0].state, DeliveryState::Delivered);
    assert_eq!(states[1].state, DeliveryState::Dropped);
}

/// What became of each notification of half a year under sins of every kind.
async fn story(seed: u64) -> Vec<(String, DeliveryState, Vec<DeliverySin>, Vec<DateTime<Utc>>)> {
    let mut options = options(Environment::Production);
    options.seed = seed;
    options.sins = Some(Sins {
        deliveries: DeliverySins {
            duplicate: 0.3,
            reorder: 0.3,
            delay: 0.2,
            drop: 0.1,
            truncate: 0.1,
            ..DeliverySins::default()
        },
        ..Sins::default()
    });
    let rig = Rig::of(options).await;
    for customer in ["alice", "bob", "carol"] {
        rig.buy_apple(customer, MONTHLY).await;
        rig.buy_google(customer, "premium").await;
    }
    rig.sandbox.advance(Period::months(6)).await.unwrap();
    let told = rig.sandbox.notifications().into_iter();
    told.map(|record| {
        let attempts = record.attempts.iter().map(|attempt| attempt.at);
        (record.id, record.state, record.sins, attempts.collect())
    })
    .collect()
}

#[tokio::test]
async fn the_same_seed_commits_the_same_sins() {
    let (first, again, other) = (story(5).await, story(5).await, story(6).await);
    assert_eq!(first, again);
    assert_ne!(first, other);
    let suffered = |wanted: fn(&DeliverySin) -> bool| {
        let all = first.iter().flat_map(|(_, _, sins, _)| sins);
        all.filter(|sin| wanted(sin)).count()
    };
    assert!(suffered(|sin| matches!(sin, DeliverySin::Duplicate { .. })) > 0);
    assert!(suffered(|sin| matches!(sin, DeliverySin::Reorder)) > 0);
    assert!(suffered(|sin| matches!(sin, DeliverySin::Drop)) > 0);
}

#[tokio::test]
async fn sins_outlive_a_restart() {
    let dir = std::env::temp_dir().join(format!("sandbox-{}", uuid::Uuid::new_v4()));
    let sins = Sins {
        calls: CallSins {
            unavailable: 1.0,
            ..CallSins::default()
        },
        ..Sins::default()
    };
    let rig = Rig::with(Environment::Production, Some(dir.clone())).await;
    rig.sandbox.set_sins(sins).unwrap();
    rig.sandbox.shutdown().await;
    let rig = Rig::with(Environment::Production, Some(dir.clone())).await;
    assert_eq!(rig.sandbox.sins(), sins);
    assert_eq!(rig.apple("/inApps/v1/transactions/1").await.0, 503);
    let mut wrong = sins;
    wrong.calls.slow = -0.1;
    assert!(rig.sandbox.set_sins(wrong).is_err());
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn calls_are_refused_in_each_stores_words() {
    let rig = Rig::start().await;
    let bought = rig.buy_apple("alice", MONTHLY).await;
    let transaction = format!("/inApps/v1/transactions/{}", bought.transaction_id);
    let statuses = format!("/inApps/v1/subscriptions/{}", bought.transaction_id);
    for (path, sin, status, code) in [
        (&transaction, CallSin::RateLimited, 429, json!(4_290_000)),
        (&transaction, CallSin::InternalError, 500, json!(5_000_001)),
        (&transaction, CallSin::NotFound, 404, json!(4_040_006)),
        (&statuses, CallSin::NotFound, 404, json!(4_040_002)),
    ] {
        rig.next_call(sin);
        let (got, body) = rig.apple(path).await;
        assert_eq!((got, &body["errorCode"]), (status, &code), "{sin:?}");
        assert_eq!(rig.apple(path).await.0, 200, "once only");
    }
    rig.next_call(CallSin::Unavailable);
    assert_eq!(rig.apple(&transaction).await.0, 503);
    rig.next_call(CallSin::Slow { millis: 120 });
    let began = std::time::Instant::now();
    assert_eq!(rig.apple(&transaction).await.0, 200);
    assert!(began.elapsed() >= Duration::from_millis(120));

    rig.next_call(CallSin::Timeout);
    let hanging = tokio::time::timeout(Duration::from_millis(200), rig.apple(&transaction));
    assert!(hanging.await.is_err());

    let google = rig.buy_google("alice", "premium").await;
    let path = format!("purchases/subscriptionsv2/tokens/{}", google.purchase_token);
    let bearer = rig.google_token().await;
    let read = || rig.http.get(rig.google_url(&path)).bearer_auth(&bearer);
    for (sin, status) in [
        (CallSin::RateLimited, 429),
        (CallSin::NotFound, 404),
        (CallSin::Unavailable, 503),
        (CallSin::InternalError, 500),
    ] {
        rig.sandbox.sin_next_calls(Some(Store::GooglePlay), sin, 1);
        assert_eq!(rig.apple(&transaction).await.0, 200, "meant for Google");
        assert_eq!(answer_of(read()).await.0, status);
    }
    assert_eq!(answer_of(read()).await.0, 200);
}

#[tokio::test]
async fn a_stale_read_shows_what_was_before_the_last_change() {
    let rig = Rig::start().await;
    let apple = rig.buy_apple("alice", MONTHLY).await;
    let google = rig.buy_google("alice", "premium").await;
    let id = &apple.original_transaction_id;
    let path = format!("/inApps/v1/subscriptions/{id}");
    let token = &google.purchase_token;
    let subscription = format!("purchases/subscriptionsv2/tokens/{token}");
    let bearer = rig.google_token().await;
    let read = || {
        rig.http
            .get(rig.google_url(&subscription))
            .bearer_auth(&bearer)
    };
    let renews = |body: &Value| {
        let last = &body["data"][0]["lastTransactions"][0];
        signed(&last["signedRenewalInfo"])["autoRenewStatus"].clone()
    };

    // Just bought: a read that comes too early finds nothing.
    rig.next_call(CallSin::Stale);
    assert_eq!(answer_of(read()).await.0, 404);
    assert_eq!(answer_of(read()).await.0, 200);

    rig.wait(3_600).await;
    rig.sandbox.set_auto_renew(id, false).await.unwrap();
    rig.sandbox.cancel_google_play(token).await.unwrap();
    rig.next_call(CallSin::Stale);
    assert_eq!(renews(&rig.apple(&path).await.1), 1);
    assert_eq!(renews(&rig.apple(&path).await.1), 0);
    rig.next_call(CallSin::Stale);
    let state = "SUBSCRIPTION_STATE_ACTIVE";
    assert_eq!(answer_of(read()).await.1["subscriptionState"], state);
    let state = "SUBSCRIPTION_STATE_CANCELED";
    assert_eq!(answer_of(read()).await.1["subscriptionState"], state);

    // A minute later every machine of the store knows.
    rig.wait(61).await;
    rig.next_call(CallSin::Stale);
    assert_eq!(renews(&rig.apple(&path).await.1), 0);
}

#[tokio::test]
async fn chance_decides_by_the_number_of_a_paths_call() {
    let fates = |seed: u64| async move {
        let mut options = options(Environment::Production);
        options.seed = seed;
        options.sins = Some(Sins {
            calls: CallSins {
                unavailable: 0.5,
                ..CallSins::default()
            },
            ..Sins::default()
        });
        let rig = Rig::of(options).await;
        let mut fates = Vec::new();
        for _ in 0..24 {
            fates.push(rig.apple("/inApps/v1/transactions/1").await.0);
        }
        fates
    };
    let first = fates(1).await;
    assert!(first.contains(&503) && first.contains(&404), "{first:?}");
    assert_eq!(first, fates(1).await);
    assert_ne!(first, fates(2).await);
}

#[tokio::test]
async fn a_stores_clock_can_be_wrong() {
    let rig = Rig::start().await;
    rig.sandbox
        .set_sins(Sins {
            clock: ClockSins {
                app_store_seconds: 90,
                google_play_seconds: -45,
                ..ClockSins::default()
            },
            ..Sins::default()
        })
        .unwrap();
    let bought = rig.buy_apple("alice", LIFETIME).await;
    rig.buy_google("alice", "lifetime").await;
    let told = rig.sandbox.notifications();
    let start = start_time().timestamp_millis();
    let apple = apple_notification(&told[0]);
    let ahead = apple["signedDate"].as_i64().unwrap() - start;
    assert!((90_000..91_000).contains(&ahead), "{ahead}");
    let about = &apple["data"]["signedTransactionInfo"];
    assert_eq!(about["purchaseDate"], start, "what happened, happened then");
    let google = google_notification(&told[1]);
    let stamp: i64 = google["eventTimeMillis"].as_str().unwrap().parse().unwrap();
    assert!((-45_000..-44_000).contains(&(stamp - start)));
    assert_eq!(told[0].created_at, start_time());
    let path = format!("/inApps/v1/transactions/{}", bought.transaction_id);
    let read = signed(&rig.apple(&path).await.1["signedTransactionInfo"]);
    assert!(read["signedDate"].as_i64().unwrap() - start >= 90_000);
}
