//! Notifications and their way to the server under test: attempts, retries by each store's rules,
//! and the sins that a test commits on purpose (hold, drop, repeat).

use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::{Deserialize, Serialize};

use super::changes::Changes;
use super::error::SandboxError;
use super::setup::Environment;

/// Hours after the previous attempt at which Apple tries again, in Production.
const APPLE_RETRY_HOURS: [i64; 5] = [1, 12, 24, 48, 72];
/// Pub/Sub's default back-off between two attempts.
const PUBSUB_BACKOFF_SECONDS: (i64, i64) = (10, 600);
/// Pub/Sub forgets an unacknowledged message after this.
const PUBSUB_RETENTION_DAYS: i64 = 7;

/// One of the two simulated stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// Apple's App Store.
    AppStore,
    /// Google Play.
    GooglePlay,
}

/// Where each store sends its notifications.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    /// URL for App Store Server Notifications V2.
    pub app_store: Option<String>,
    /// URL that Pub/Sub pushes Google's developer notifications to.
    pub google_play: Option<String>,
}

impl Webhooks {
    fn of(&self, store: Store) -> Option<&String> {
        match store {
            Store::AppStore => self.app_store.as_ref(),
            Store::GooglePlay => self.google_play.as_ref(),
        }
    }
}

/// How an attempt ended; the names are those of Apple's `sendAttemptResult`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AttemptResult {
    /// The server acknowledged it.
    Success,
    /// No answer in time.
    TimedOut,
    /// The connection could not be made or broke.
    SocketIssue,
    /// The server answered with a status that the store does not take for an acknowledgement.
    UnsuccessfulHttpResponseCode,
}

/// One attempt to deliver a notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Business time at which it was sent.
    pub at: DateTime<Utc>,
    /// How it ended.
    pub result: AttemptResult,
    /// The server's HTTP status, if it answered.
    pub status: Option<u16>,
    /// Milliseconds of machine time from sending to the answer.
    pub latency_millis: u64,
    /// Machine time of the answer, for measuring what the server did with it.
    pub answered_at: SystemTime,
}

/// Where a notification stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// An attempt is due.
    Pending,
    /// The server acknowledged it.
    Delivered,
    /// Kept back until deliveries are released or it is delivered by hand.
    Held,
    /// Lost on purpose.
    Dropped,
    /// The store has given up.
    Failed,
    /// The store knew no URL when it happened.
    NoWebhook,
}

/// What a store said, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationRecord {
    /// Apple's `notificationUUID`, or Pub/Sub's `messageId`.
    pub id: String,
    /// Who said it.
    pub store: Store,
    /// Apple's `notificationType`, or the name of Google's notification type.
    pub notification_type: String,
    /// Apple's subtype.
    pub subtype: Option<String>,
    /// The chain it is about: original transaction id or purchase token; none for tests.
    pub purchase: Option<String>,
    /// Business time at which it happened.
    pub created_at: DateTime<Utc>,
    /// Where it stands.
    pub state: DeliveryState,
    /// Every attempt so far, oldest first.
    pub attempts: Vec<Attempt>,
    /// The request body, the same in every attempt.
    pub body: String,
}

/// A record with the delivery's own bookkeeping.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Notification {
    /// Position in the outbox; given by it.
    pub(super) number: u64,
    pub(super) record: NotificationRecord,
    /// Attempts made by schedule; those made by hand do not count.
    scheduled_attempts: usize,
    pub(super) next_attempt: Option<DateTime<Utc>>,
}

impl Notification {
    pub(super) fn new(record: NotificationRecord) -> Self {
        Self {
            number: 0,
            record,
            scheduled_attempts: 0,
            next_attempt: None,
        }
    }

    /// When the store would try again after a failure at `at`.
    fn retry_at(&self, environment: Environment, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let failures = self.scheduled_attempts;
        match self.record.store {
            Store::AppStore => {
                let hours = APPLE_RETRY_HOURS.get(failures.checked_sub(1)?)?;
                (environment == Environment::Production).then(|| at + TimeDelta::hours(*hours))
            }
            Store::GooglePlay => {
                let (first, last) = PUBSUB_BACKOFF_SECONDS;
                let doublings = u32::try_from(failures.saturating_sub(1))
                    .unwrap_or(30)
                    .min(30);
                let wait = TimeDelta::seconds((first << doublings).min(last));
                let retry = at + wait;
                let end = self.record.created_at + TimeDelta::days(PUBSUB_RETENTION_DAYS);
                (retry <= end).then_some(retry)
            }
        }
    }

    /// Notes an attempt and decides what follows.
    fn note(&mut self, attempt: Attempt, environment: Environment, by_hand: bool) {
        let (at, result) = (attempt.at, attempt.result);
        self.record.attempts.push(attempt);
        if result == AttemptResult::Success {
            self.next_attempt = None;
            self.record.state = DeliveryState::Delivered;
        } else if !by_hand {
            self.scheduled_attempts += 1;
            self.next_attempt = self.retry_at(environment, at);
            self.record.state = match self.next_attempt {
                Some(_) => DeliveryState::Pending,
                None => DeliveryState::Failed,
            };
        }
    }
}

/// All notifications in the order in which they happened.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Outbox {
    notifications: Vec<Notification>,
    pub(super) webhooks: Webhooks,
    holding: bool,
    #[serde(skip)]
    changes: Changes,
}

impl Outbox {
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = &Notification> {
        self.notifications.iter()
    }

    /// Adds a notification and says when its first attempt is due.
    pub(super) fn push(&mut self, mut notification: Notification) -> (u64, Option<DateTime<Utc>>) {
        notification.number = self.notifications.len() as u64;
        if self.webhooks.of(notification.record.store).is_none() {
            notification.record.state = DeliveryState::NoWebhook;
        } else if self.holding {
            notification.record.state = DeliveryState::Held;
        } else {
            notification.record.state = DeliveryState::Pending;
            notification.next_attempt = Some(notification.record.created_at);
        }
        let planned = (notification.number, notification.next_attempt);
        self.notifications.push(notification);
        self.changes.note(planned.0);
        planned
    }

    pub(super) fn holding(&self) -> bool {
        self.holding
    }

    /// What has become of the notifications, for watchers.
    pub(super) fn changes(&self) -> &Changes {
        &self.changes
    }

    pub(super) fn get(&self, number: u64) -> Option<&Notification> {
        self.notifications.get(usize::try_from(number).ok()?)
    }

    pub(super) fn find(&self, id: &str) -> Option<&Notification> {
        self.all().find(|notification| notification.record.id == id)
    }

    /// Keeps new notifications back, or releases those that are; returns what is due now.
    pub(super) fn hold(&mut self, holding: bool, now: DateTime<Utc>) -> Vec<u64> {
        self.holding = holding;
        if holding {
            return Vec::new();
        }
        let mut released = Vec::new();
        for notification in &mut self.notifications {
            if notification.record.state == DeliveryState::Held {
                notification.record.state = DeliveryState::Pending;
                notification.next_attempt = Some(now);
                self.changes.note(notification.number);
                released.push(notification.number);
            }
        }
        released
    }

    /// Gives a notification up, as a network would.
    pub(super) fn drop_one(&mut self, number: u64) {
        if let Some(notification) = self.get_mut(number) {
            notification.next_attempt = None;
            notification.record.state = DeliveryState::Dropped;
        }
    }

    /// Notes an attempt; returns when the next one is due.
    pub(super) fn note(
        &mut self,
        number: u64,
        attempt: Attempt,
        environment: Environment,
        by_hand: bool,
    ) -> Option<DateTime<Utc>> {
        let notification = self.get_mut(number)?;
        notification.note(attempt, environment, by_hand);
        notification.next_attempt
    }

    /// What an attempt to deliver this notification sends where.
    pub(super) fn letter(&self, number: u64) -> Option<Letter> {
        let record = &self.get(number)?.record;
        Some(Letter {
            store: record.store,
            url: self.webhooks.of(record.store)?.clone(),
            body: record.body.clone(),
        })
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Notification> {
        let notification = self.notifications.get_mut(usize::try_from(number).ok()?)?;
        self.changes.note(number);
        Some(notification)
    }
}

/// One HTTP request to the server under test.
pub(super) struct Letter {
    pub(super) store: Store,
    url: String,
    body: String,
}

/// The HTTP client that plays both stores' senders.
pub(super) fn client(timeout_seconds: u32) -> Result<reqwest::Client, SandboxError> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(Duration::from_secs(timeout_seconds.into()))
        .build()
        .map_err(SandboxError::Client)
}

/// Sends once and says what the store makes of the answer.
pub(super) async fn send(
    client: &reqwest::Client,
    letter: Letter,
    bearer: Option<String>,
    at: DateTime<Utc>,
) -> Attempt {
    let mut request = client
        .post(letter.url)
        .header(CONTENT_TYPE, "application/json")
        .body(letter.body);
    if let Some(token) = bearer {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let started = Instant::now();
    let answer = request.send().await;
    let (result, status) = match answer {
        Ok(answer) => judge(letter.store, answer.status().as_u16()),
        Err(error) if error.is_timeout() => (AttemptResult::TimedOut, None),
        Err(_) => (AttemptResult::SocketIssue, None),
    };
    Attempt {
        at,
        result,
        status,
        latency_millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        answered_at: SystemTime::now(),
    }
}

fn judge(store: Store, status: u16) -> (AttemptResult, Option<u16>) {
    let acknowledged = match store {
        Store::AppStore => (200..=206).contains(&status),
        Store::GooglePlay => matches!(status, 102 | 200 | 201 | 202 | 204),
    };
    let result = match acknowledged {
        true => AttemptResult::Success,
        false => AttemptResult::UnsuccessfulHttpResponseCode,
    };
    (result, Some(status))
}
