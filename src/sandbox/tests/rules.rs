//! The rules of delivery that a developer can set, and the names of what goes wrong.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

impl Rig {
    fn seconds_between_attempts(&self) -> Vec<i64> {
        let attempts = &self.sandbox.notifications()[0].attempts;
        attempts
            .windows(2)
            .map(|pair| (pair[1].at - pair[0].at).num_seconds())
            .collect()
    }
}

async fn unheard(pubsub: PubSubRules) -> Rig {
    let mut options = options(Environment::Production);
    options.setup.deliveries.pubsub = pubsub;
    let rig = Rig::of(options).await;
    *rig.answer.lock().unwrap() = StatusCode::BAD_REQUEST;
    rig.buy_google("alice", "lifetime").await;
    rig
}

#[tokio::test]
async fn a_dead_letter_is_given_up_and_every_push_counts_its_attempts() {
    let rig = unheard(PubSubRules {
        dead_letter_after: Some(5),
        ..PubSubRules::default()
    })
    .await;
    rig.sandbox.advance(Period::days(1)).await.unwrap();
    let record = rig.sandbox.notifications().remove(0);
    assert_eq!(
        (record.attempts.len(), record.state),
        (5, DeliveryState::Failed)
    );
    let received = rig.received.lock().unwrap();
    let counts = received.iter().map(|(_, _, body)| &body["deliveryAttempt"]);
    assert!(counts.eq([1, 2, 3, 4, 5].iter()));
    assert!(
        received
            .iter()
            .all(|(_, _, body)| { body["message"]["messageId"] == json!(record.id) })
    );
}

#[tokio::test]
async fn without_a_dead_letter_topic_nothing_is_counted() {
    let rig = unheard(PubSubRules::default()).await;
    let received = rig.received.lock().unwrap();
    assert_eq!(received[0].2["deliveryAttempt"], Value::Null);
}

#[tokio::test]
async fn back_off_and_retention_are_the_subscriptions_own() {
    let rig = unheard(PubSubRules {
        backoff_min_seconds: 100,
        backoff_max_seconds: 300,
        retention_seconds: 1_200,
        ..PubSubRules::default()
    })
    .await;
    rig.sandbox.advance(Period::days(1)).await.unwrap();
    assert_eq!(rig.seconds_between_attempts(), [100, 200, 300, 300, 300]);
    assert_eq!(rig.sandbox.notifications()[0].state, DeliveryState::Failed);
}

#[tokio::test]
async fn pubsub_forgets_after_seven_days() {
    let rig = unheard(PubSubRules::default()).await;
    rig.sandbox.advance(Period::days(8)).await.unwrap();
    let record = rig.sandbox.notifications().remove(0);
    let last = record.attempts.last().unwrap().at;
    let kept = last - record.created_at;
    assert!(kept <= TimeDelta::days(7) && kept > TimeDelta::days(7) - TimeDelta::minutes(10));
    assert_eq!(record.state, DeliveryState::Failed);
}

/// A server that reads a request and then says `answer`, byte for byte.
async fn rude(answer: &'static [u8]) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 65_536];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
        }
    });
    url
}

#[tokio::test]
async fn each_failure_has_apples_name() {
    let rig = Rig::start().await;
    let nobody = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let urls = [
        (nobody, AttemptResult::SocketIssue, None),
        (rude(b"").await, AttemptResult::PrematureClose, None),
        (
            rude(b"good day\r\n\r\n").await,
            AttemptResult::InvalidResponse,
            None,
        ),
        (
            rude(b"HTTP/1.1 301 Moved\r\nlocation: /\r\ncontent-length: 0\r\n\r\n").await,
            AttemptResult::UnsuccessfulHttpResponseCode,
            Some(301),
        ),
    ];
    for (number, (url, result, status)) in urls.into_iter().enumerate() {
        rig.sandbox
            .set_webhooks(Webhooks {
                app_store: Some(url),
                ..Webhooks::default()
            })
            .unwrap();
        rig.buy_apple(&format!("customer-{number}"), LIFETIME).await;
        let attempt = rig
            .sandbox
            .notifications()
            .remove(number)
            .attempts
            .remove(0);
        assert_eq!((attempt.result, attempt.status), (result, status));
    }
}
