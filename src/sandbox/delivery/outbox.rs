//! All notifications in the order in which they happened, and where each stands.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::super::changes::Changes;
use super::letter::Letter;
use super::record::{Attempt, AttemptResult, DeliveryState, NotificationRecord};
use super::rules::Policy;
use super::source::{Source, Webhooks};

/// A record with the delivery's own bookkeeping.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::sandbox) struct Notification {
    /// Position in the outbox; given by it.
    pub(in crate::sandbox) number: u64,
    pub(in crate::sandbox) record: NotificationRecord,
    /// Attempts made by schedule; those made by hand do not count.
    scheduled_attempts: usize,
    pub(in crate::sandbox) next_attempt: Option<DateTime<Utc>>,
}

impl Notification {
    pub(in crate::sandbox) fn new(record: NotificationRecord) -> Self {
        Self {
            number: 0,
            record,
            scheduled_attempts: 0,
            next_attempt: None,
        }
    }

    /// Notes an attempt and decides what follows.
    fn note(&mut self, attempt: Attempt, policy: Policy, by_hand: bool) {
        let (at, result) = (attempt.at, attempt.result);
        self.record.attempts.push(attempt);
        if result == AttemptResult::Success {
            self.next_attempt = None;
            self.record.state = DeliveryState::Delivered;
        } else if !by_hand {
            self.scheduled_attempts += 1;
            self.next_attempt =
                policy.retry_at(self.record.created_at, self.scheduled_attempts, at);
            self.record.state = match self.next_attempt {
                Some(_) => DeliveryState::Pending,
                None => DeliveryState::Failed,
            };
        }
    }
}

/// All notifications in the order in which they happened.
#[derive(Default, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub(in crate::sandbox) struct Outbox {
    notifications: Vec<Notification>,
    pub(in crate::sandbox) webhooks: Webhooks,
    holding: bool,
    /// Since when a source has had failures only.
    failing_since: BTreeMap<Source, DateTime<Utc>>,
    #[serde(skip)]
    by_id: HashMap<String, u64>,
    #[serde(skip)]
    held: BTreeSet<u64>,
    #[serde(skip)]
    changes: Changes,
}

/// The outbox as it lies on disk.
#[derive(Deserialize)]
struct Stored {
    notifications: Vec<Notification>,
    webhooks: Webhooks,
    holding: bool,
    #[serde(default)]
    failing_since: BTreeMap<Source, DateTime<Utc>>,
}

impl From<Stored> for Outbox {
    fn from(stored: Stored) -> Self {
        let all = stored.notifications.iter();
        let by_id = all.clone().map(|n| (n.record.id.clone(), n.number));
        let held = all.filter(|n| n.record.state == DeliveryState::Held);
        Self {
            by_id: by_id.collect(),
            held: held.map(|n| n.number).collect(),
            notifications: stored.notifications,
            webhooks: stored.webhooks,
            holding: stored.holding,
            failing_since: stored.failing_since,
            changes: Changes::default(),
        }
    }
}

impl Outbox {
    pub(in crate::sandbox) fn all(&self) -> impl DoubleEndedIterator<Item = &Notification> {
        self.notifications.iter()
    }

    /// All that has happened since then.
    pub(in crate::sandbox) fn since(
        &self,
        at: DateTime<Utc>,
    ) -> impl Iterator<Item = &Notification> {
        let earlier = |notification: &Notification| notification.record.created_at < at;
        let skipped = self.notifications.partition_point(earlier);
        self.notifications.iter().skip(skipped)
    }

    /// Adds a notification and says when its first attempt is due.
    pub(in crate::sandbox) fn push(
        &mut self,
        mut notification: Notification,
    ) -> (u64, Option<DateTime<Utc>>) {
        notification.number = self.notifications.len() as u64;
        if self.webhooks.of(notification.record.source).is_none() {
            notification.record.state = DeliveryState::NoWebhook;
        } else if self.holding {
            notification.record.state = DeliveryState::Held;
            self.held.insert(notification.number);
        } else {
            notification.record.state = DeliveryState::Pending;
            notification.next_attempt = Some(notification.record.created_at);
        }
        let planned = (notification.number, notification.next_attempt);
        self.by_id
            .insert(notification.record.id.clone(), notification.number);
        self.notifications.push(notification);
        self.changes.note(planned.0);
        planned
    }

    pub(in crate::sandbox) fn holding(&self) -> bool {
        self.holding
    }

    /// What has become of the notifications, for watchers.
    pub(in crate::sandbox) fn changes(&self) -> &Changes {
        &self.changes
    }

    pub(in crate::sandbox) fn get(&self, number: u64) -> Option<&Notification> {
        self.notifications.get(usize::try_from(number).ok()?)
    }

    pub(in crate::sandbox) fn find(&self, id: &str) -> Option<&Notification> {
        self.get(*self.by_id.get(id)?)
    }

    /// Keeps new notifications back, or releases those that are; returns what is due now.
    pub(in crate::sandbox) fn hold(&mut self, holding: bool, now: DateTime<Utc>) -> Vec<u64> {
        self.holding = holding;
        if holding {
            return Vec::new();
        }
        let mut released = Vec::new();
        for number in std::mem::take(&mut self.held) {
            if let Some(notification) = self.get_mut(number) {
                notification.record.state = DeliveryState::Pending;
                notification.next_attempt = Some(now);
                released.push(number);
            }
        }
        released
    }

    /// Gives a notification up, as a network would.
    pub(in crate::sandbox) fn drop_one(&mut self, number: u64) {
        self.held.remove(&number);
        if let Some(notification) = self.get_mut(number) {
            notification.next_attempt = None;
            notification.record.state = DeliveryState::Dropped;
        }
    }

    /// Notes an attempt; returns when the next one is due.
    pub(in crate::sandbox) fn note(
        &mut self,
        number: u64,
        attempt: Attempt,
        policy: Policy,
        by_hand: bool,
    ) -> Option<DateTime<Utc>> {
        let (at, result) = (attempt.at, attempt.result);
        let notification = self.get_mut(number)?;
        notification.note(attempt, policy, by_hand);
        let (source, next) = (notification.record.source, notification.next_attempt);
        if notification.record.state != DeliveryState::Held {
            self.held.remove(&number);
        }
        if result == AttemptResult::Success {
            self.failing_since.remove(&source);
            return next;
        }
        let since = *self.failing_since.entry(source).or_insert(at);
        if policy.patience().is_some_and(|most| at - since > most) {
            self.webhooks.shut_off(source);
        }
        next
    }

    /// What an attempt to deliver this notification sends where.
    pub(in crate::sandbox) fn letter(&self, number: u64, policy: Policy) -> Option<Letter> {
        let notification = self.get(number)?;
        let record = &notification.record;
        let url = self.webhooks.of(record.source)?.clone();
        Some(Letter::new(
            record,
            url,
            policy,
            notification.scheduled_attempts + 1,
        ))
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Notification> {
        let notification = self.notifications.get_mut(usize::try_from(number).ok()?)?;
        self.changes.note(number);
        Some(notification)
    }
}
