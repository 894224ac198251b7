//! A notification as tests and people see it: what was said, and every attempt to say it.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::super::sins::DeliverySin;
use super::source::Source;

/// How an attempt ended; the names are those of Apple's `sendAttemptResult`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AttemptResult {
    /// The server acknowledged it.
    Success,
    /// No answer in time.
    TimedOut,
    /// The TLS handshake failed.
    TlsIssue,
    /// Nothing came back: it was lost on the way.
    NoResponse,
    /// The connection could not be made or broke.
    SocketIssue,
    /// The answer was no HTTP.
    InvalidResponse,
    /// The connection ended before the answer.
    PrematureClose,
    /// The server answered with a status that the source does not take for an acknowledgement.
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
    /// The source has given up.
    Failed,
    /// The source knew no URL when it happened or was to be sent, or has shut it off after days of
    /// failures only.
    NoWebhook,
}

/// What a source said, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationRecord {
    /// Apple's `notificationUUID`, Pub/Sub's `messageId`, or Svix' message id.
    pub id: String,
    /// Who said it.
    pub source: Source,
    /// Apple's `notificationType`, the name of Google's notification type, or Superwall's event.
    pub notification_type: String,
    /// Apple's subtype.
    pub subtype: Option<String>,
    /// The chain it is about: original transaction id or purchase token; none for tests.
    pub purchase: Option<String>,
    /// Business time at which it happened.
    pub created_at: DateTime<Utc>,
    /// Where it stands.
    pub state: DeliveryState,
    /// What the network does to it on purpose.
    #[serde(default)]
    pub sins: Vec<DeliverySin>,
    /// Every attempt so far, oldest first.
    pub attempts: Vec<Attempt>,
    /// The request body, the same in every attempt but for Pub/Sub's count of attempts; empty once
    /// it is no longer kept, which happens to the oldest where there are very many.
    pub body: String,
}
