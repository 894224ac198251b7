//! All notifications in the order in which they happened, and where each stands.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::super::changes::Changes;
use super::super::sins::DeliverySin;
use super::letter::Letter;
use super::record::{Attempt, AttemptResult, DeliveryState, NotificationRecord};
use super::rules::Policy;
use super::source::{Source, Webhooks};

/// Bytes of request bodies that are kept; beyond, the oldest that have come to rest go.
const BODIES_BYTES_MAX: usize = 64 << 20;

/// A record with the delivery's own bookkeeping.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::sandbox) struct Notification {
    /// Position in the outbox; given by it.
    pub(in crate::sandbox) number: u64,
    pub(in crate::sandbox) record: NotificationRecord,
    /// Failed attempts made by schedule; those made by hand do not count.
    failures: usize,
    pub(in crate::sandbox) next_attempt: Option<DateTime<Utc>>,
}

impl Notification {
    pub(in crate::sandbox) fn new(record: NotificationRecord) -> Self {
        Self {
            number: 0,
            record,
            failures: 0,
            next_attempt: None,
        }
    }

    /// The request body; none once it is no longer kept.
    pub(in crate::sandbox) fn body(&self) -> Option<&str> {
        Some(self.record.body.as_str()).filter(|body| !body.is_empty())
    }

    fn suffers(&self, sin: DeliverySin) -> bool {
        self.record.sins.contains(&sin)
    }

    /// Nothing is due any more.
    fn is_at_rest(&self) -> bool {
        match self.record.state {
            DeliveryState::Pending | DeliveryState::Held => false,
            DeliveryState::Delivered => self.next_attempt.is_none(),
            DeliveryState::Dropped | DeliveryState::Failed | DeliveryState::NoWebhook => true,
        }
    }

    /// When a repetition follows the first acknowledgement.
    fn repeats_at(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.record.state == DeliveryState::Delivered {
            return None;
        }
        self.record.sins.iter().find_map(|sin| match sin {
            DeliverySin::Duplicate { after_seconds } => {
                Some(at + TimeDelta::seconds(i64::from(*after_seconds)))
            }
            DeliverySin::Reorder
            | DeliverySin::Delay { .. }
            | DeliverySin::Drop
            | DeliverySin::Truncate
            | DeliverySin::Slow { .. } => None,
        })
    }

    /// Notes an attempt and decides what follows.
    fn note(&mut self, sent: Sent, policy: Policy, by_hand: bool) {
        let (at, result) = (sent.attempt.at, sent.attempt.result);
        self.record.attempts.push(sent.attempt);
        if result == AttemptResult::Success {
            self.next_attempt = match by_hand {
                true => None,
                false => self.repeats_at(at),
            };
            self.record.state = DeliveryState::Delivered;
        } else if matches!(
            self.record.state,
            DeliveryState::Delivered | DeliveryState::Dropped
        ) {
            // A repetition may fail: the first was acknowledged. What was dropped while an attempt
            // was under way stays so.
            self.next_attempt = None;
        } else if !by_hand {
            self.failures += 1;
            self.next_attempt = match sent.abort {
                true => None,
                false => policy.retry_at(self.record.created_at, self.failures, at),
            };
            self.record.state = match self.next_attempt {
                Some(_) => DeliveryState::Pending,
                None => DeliveryState::Failed,
            };
        }
    }
}

/// An attempt that was made.
pub(in crate::sandbox) struct Sent {
    pub(in crate::sandbox) attempt: Attempt,
    /// The server asked not to be told again.
    pub(in crate::sandbox) abort: bool,
}

/// When an attempt is due.
pub(in crate::sandbox) type Planned = (u64, Option<DateTime<Utc>>);

/// A sin that the next notifications shall suffer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::sandbox) struct OrderedSin {
    /// Whose notifications; anybody's if none is named.
    pub(in crate::sandbox) source: Option<Source>,
    pub(in crate::sandbox) sin: DeliverySin,
    /// How many notifications.
    pub(in crate::sandbox) count: u32,
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
    /// Waiting for the next one to overtake them.
    waiting: BTreeSet<u64>,
    pub(in crate::sandbox) ordered: Vec<OrderedSin>,
    #[serde(skip)]
    by_id: HashMap<String, u64>,
    #[serde(skip)]
    held: BTreeSet<u64>,
    #[serde(skip)]
    changes: Changes,
    #[serde(skip)]
    bodies: Bodies,
}

/// How much the kept bodies weigh, and where the oldest may be.
#[derive(Default)]
struct Bodies {
    bytes: usize,
    oldest: usize,
}

/// The outbox as it lies on disk.
#[derive(Deserialize)]
struct Stored {
    notifications: Vec<Notification>,
    webhooks: Webhooks,
    holding: bool,
    #[serde(default)]
    failing_since: BTreeMap<Source, DateTime<Utc>>,
    #[serde(default)]
    waiting: BTreeSet<u64>,
    #[serde(default)]
    ordered: Vec<OrderedSin>,
}

impl From<Stored> for Outbox {
    fn from(stored: Stored) -> Self {
        let all = stored.notifications.iter();
        let by_id = all.clone().map(|n| (n.record.id.clone(), n.number));
        let held = all
            .clone()
            .filter(|n| n.record.state == DeliveryState::Held);
        Self {
            by_id: by_id.collect(),
            held: held.map(|n| n.number).collect(),
            bodies: Bodies {
                bytes: all.map(|n| n.record.body.len()).sum(),
                oldest: 0,
            },
            notifications: stored.notifications,
            webhooks: stored.webhooks,
            holding: stored.holding,
            failing_since: stored.failing_since,
            waiting: stored.waiting,
            ordered: stored.ordered,
            changes: Changes::default(),
        }
    }
}

/// What was said.
impl Outbox {
    pub(in crate::sandbox) fn all(&self) -> impl DoubleEndedIterator<Item = &Notification> {
        self.notifications.iter()
    }

    /// All that has happened since then, from this number on.
    pub(in crate::sandbox) fn since(
        &self,
        at: DateTime<Utc>,
        number: u64,
    ) -> impl Iterator<Item = &Notification> {
        let earlier = |notification: &Notification| notification.record.created_at < at;
        let skipped = self.notifications.partition_point(earlier);
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        self.notifications.iter().skip(skipped.max(number))
    }

    /// The number that the next notification gets.
    pub(in crate::sandbox) fn next_number(&self) -> u64 {
        self.notifications.len() as u64
    }

    pub(in crate::sandbox) fn get(&self, number: u64) -> Option<&Notification> {
        self.notifications.get(usize::try_from(number).ok()?)
    }

    pub(in crate::sandbox) fn find(&self, id: &str) -> Option<&Notification> {
        self.get(*self.by_id.get(id)?)
    }

    /// Those that are kept back.
    pub(in crate::sandbox) fn held(&self) -> impl Iterator<Item = &Notification> {
        self.held.iter().filter_map(|number| self.get(*number))
    }

    pub(in crate::sandbox) fn holding(&self) -> bool {
        self.holding
    }

    /// What has become of the notifications, for watchers.
    pub(in crate::sandbox) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// What an attempt to deliver this notification sends where.
    pub(in crate::sandbox) fn letter(
        &self,
        number: u64,
        policy: Policy,
        by_hand: bool,
    ) -> Option<Letter> {
        let notification = self.get(number)?;
        let url = self.webhooks.of(notification.record.source)?.clone();
        let letter = Letter::new(&notification.record, url, policy, notification.failures + 1)?;
        let first = notification.failures == 0
            && notification.record.state != DeliveryState::Delivered
            && !by_hand;
        Some(match first {
            true => letter.suffering(&notification.record.sins),
            false => letter,
        })
    }
}

/// What becomes of it.
impl Outbox {
    /// Adds a notification that suffers these sins and those that were ordered; says when its first
    /// attempt is due, and those of others that it overtakes.
    pub(in crate::sandbox) fn push(
        &mut self,
        mut notification: Notification,
        mut sins: Vec<DeliverySin>,
    ) -> Vec<Planned> {
        let number = self.next_number();
        notification.number = number;
        let source = notification.record.source;
        sins.extend(self.take_ordered(source));
        let mut overtaken = Vec::new();
        if self.webhooks.of(source).is_none() {
            notification.record.state = DeliveryState::NoWebhook;
            sins.clear();
        } else if self.holding {
            notification.record.state = DeliveryState::Held;
            self.held.insert(number);
        } else {
            let lateness = sins.iter().map(|sin| sin.lateness_seconds()).max();
            let lateness = lateness.unwrap_or_default();
            let at = notification.record.created_at;
            notification.record.state = DeliveryState::Pending;
            notification.next_attempt = Some(at + TimeDelta::seconds(lateness.into()));
            if sins.contains(&DeliverySin::Reorder) {
                self.waiting.insert(number);
            } else if lateness == 0 && !sins.contains(&DeliverySin::Drop) {
                overtaken = self.release(at);
            }
        }
        notification.record.sins = sins;
        let mut planned = vec![(number, notification.next_attempt)];
        planned.append(&mut overtaken);
        self.by_id.insert(notification.record.id.clone(), number);
        self.bodies.bytes += notification.record.body.len();
        self.notifications.push(notification);
        self.changes.note(number);
        self.forget_bodies();
        planned
    }

    fn take_ordered(&mut self, source: Source) -> Vec<DeliverySin> {
        let mut taken = Vec::new();
        self.ordered.retain_mut(|order| {
            if order.source.is_none_or(|wanted| wanted == source) && order.count > 0 {
                order.count -= 1;
                taken.push(order.sin);
            }
            order.count > 0
        });
        taken
    }

    /// Those that were waiting to be overtaken go out now.
    fn release(&mut self, now: DateTime<Utc>) -> Vec<Planned> {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let mut released = Vec::new();
        for number in waiting {
            if let Some(found) = self.get_mut(number)
                && found.record.state == DeliveryState::Pending
                && found.failures == 0
            {
                found.next_attempt = found.next_attempt.map(|at| at.min(now));
                released.push((number, found.next_attempt));
            }
        }
        released
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

    /// Everything that has an attempt due later goes out now; returns what, in the order in which
    /// it was due.
    pub(in crate::sandbox) fn hasten(&mut self, now: DateTime<Utc>) -> Vec<u64> {
        self.waiting.clear();
        let mut late: Vec<(DateTime<Utc>, u64)> = self
            .notifications
            .iter()
            .filter_map(|notification| Some((notification.next_attempt?, notification.number)))
            .collect();
        late.sort_unstable();
        for (_, number) in &late {
            if let Some(notification) = self.get_mut(*number) {
                notification.next_attempt = Some(now);
            }
        }
        late.into_iter().map(|(_, number)| number).collect()
    }

    /// Gives a notification up, as a network would.
    pub(in crate::sandbox) fn drop_one(&mut self, number: u64) {
        self.held.remove(&number);
        self.waiting.remove(&number);
        if let Some(notification) = self.get_mut(number) {
            notification.next_attempt = None;
            notification.record.state = DeliveryState::Dropped;
        }
    }

    /// Gives a notification up that there is no way to send.
    pub(in crate::sandbox) fn strand(&mut self, number: u64) {
        self.waiting.remove(&number);
        if let Some(notification) = self.get_mut(number) {
            notification.next_attempt = None;
            let record = &mut notification.record;
            if record.state == DeliveryState::Pending {
                record.state = match record.attempts.is_empty() {
                    true => DeliveryState::NoWebhook,
                    false => DeliveryState::Failed,
                };
            }
        }
    }

    /// Whether the attempt that is due by schedule gets lost on the way.
    pub(in crate::sandbox) fn loses(&self, number: u64) -> bool {
        self.get(number)
            .is_some_and(|notification| notification.suffers(DeliverySin::Drop))
    }

    /// Notes an attempt; returns when the next one is due.
    pub(in crate::sandbox) fn note(
        &mut self,
        number: u64,
        sent: Sent,
        policy: Policy,
        by_hand: bool,
    ) -> Option<DateTime<Utc>> {
        let (at, result) = (sent.attempt.at, sent.attempt.result);
        let notification = self.get_mut(number)?;
        notification.note(sent, policy, by_hand);
        let (source, next) = (notification.record.source, notification.next_attempt);
        if notification.record.state != DeliveryState::Held {
            self.held.remove(&number);
        }
        self.waiting.remove(&number);
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

    /// Bodies that nobody is going to send go, the oldest first, once there is too much of them.
    fn forget_bodies(&mut self) {
        while self.bodies.bytes > BODIES_BYTES_MAX {
            let Some(oldest) = self.notifications.get_mut(self.bodies.oldest) else {
                return;
            };
            if !oldest.is_at_rest() {
                return;
            }
            self.bodies.bytes -= std::mem::take(&mut oldest.record.body).len();
            self.bodies.oldest += 1;
        }
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Notification> {
        let notification = self.notifications.get_mut(usize::try_from(number).ok()?)?;
        self.changes.note(number);
        Some(notification)
    }
}
