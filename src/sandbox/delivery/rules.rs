//! When an attempt counts as delivered and when the next one follows: one policy per source. A
//! further source (a payment gateway) adds its arm here.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::super::setup::Environment;
use super::source::Source;

/// Apple tries again so long after the previous attempt; not at all in its sandbox.
const APPLE_RETRIES: [TimeDelta; 5] = [
    TimeDelta::hours(1),
    TimeDelta::hours(12),
    TimeDelta::hours(24),
    TimeDelta::hours(48),
    TimeDelta::hours(72),
];
/// Svix tries again so long after the previous attempt.
const SVIX_RETRIES: [TimeDelta; 7] = [
    TimeDelta::seconds(5),
    TimeDelta::minutes(5),
    TimeDelta::minutes(30),
    TimeDelta::hours(2),
    TimeDelta::hours(5),
    TimeDelta::hours(10),
    TimeDelta::hours(10),
];
/// Svix shuts an endpoint off after failures only for so long.
const SVIX_PATIENCE: TimeDelta = TimeDelta::days(5);
const SVIX_TIMEOUT: Duration = Duration::from_secs(15);

/// Delivery settings that a developer could change at the real services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryRules {
    /// Seconds of machine time that Apple waits for the answer.
    pub apple_timeout_seconds: u32,
    /// The push subscription.
    pub pubsub: PubSubRules,
}

impl Default for DeliveryRules {
    fn default() -> Self {
        Self {
            apple_timeout_seconds: 30,
            pubsub: PubSubRules::default(),
        }
    }
}

/// A Pub/Sub push subscription's settings, with its defaults and limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PubSubRules {
    /// Acknowledgement deadline, which is also the push time-out (machine time): 10 to 600.
    pub ack_deadline_seconds: u32,
    /// Shortest wait before a redelivery: up to 600.
    pub backoff_min_seconds: u32,
    /// Longest wait before a redelivery: up to 600.
    pub backoff_max_seconds: u32,
    /// How long an unacknowledged message is kept: 600 (10 minutes) to 2 678 400 (31 days).
    pub retention_seconds: u32,
    /// Attempts after which a message goes to the dead-letter topic, 5 to 100; with one set,
    /// every push says which attempt it is.
    pub dead_letter_after: Option<u32>,
}

impl Default for PubSubRules {
    fn default() -> Self {
        Self {
            ack_deadline_seconds: 10,
            backoff_min_seconds: 10,
            backoff_max_seconds: 600,
            retention_seconds: 604_800,
            dead_letter_after: None,
        }
    }
}

impl PubSubRules {
    /// The wait before the attempt that follows so many failed ones.
    fn backoff(&self, failures: usize) -> TimeDelta {
        let doublings = failures.saturating_sub(1).min(20);
        let wait = i64::from(self.backoff_min_seconds) << doublings;
        TimeDelta::seconds(wait.min(self.backoff_max_seconds.into()))
    }
}

/// How one source delivers.
#[derive(Clone, Copy, Debug)]
pub(in crate::sandbox) struct Policy {
    source: Source,
    environment: Environment,
    rules: DeliveryRules,
}

impl Policy {
    pub(in crate::sandbox) fn new(
        source: Source,
        environment: Environment,
        rules: DeliveryRules,
    ) -> Self {
        Self {
            source,
            environment,
            rules,
        }
    }

    /// How long the answer is waited for, in machine time.
    pub(super) fn timeout(self) -> Duration {
        let seconds = match self.source {
            Source::AppStore => self.rules.apple_timeout_seconds,
            Source::GooglePlay => self.rules.pubsub.ack_deadline_seconds.clamp(10, 600),
            Source::Superwall => return SVIX_TIMEOUT,
        };
        Duration::from_secs(seconds.into())
    }

    /// Whether an HTTP status is an acknowledgement.
    pub(super) fn acknowledges(self, status: u16) -> bool {
        match self.source {
            Source::AppStore => (200..=206).contains(&status),
            Source::GooglePlay => matches!(status, 102 | 200 | 201 | 202 | 204),
            Source::Superwall => (200..=299).contains(&status),
        }
    }

    /// When the next attempt follows the last of so many failed ones, if any does.
    pub(super) fn retry_at(
        self,
        created_at: DateTime<Utc>,
        failures: usize,
        last: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        match self.source {
            Source::AppStore if self.environment == Environment::Sandbox => None,
            Source::AppStore => Some(last + *APPLE_RETRIES.get(failures.checked_sub(1)?)?),
            Source::GooglePlay => {
                let pubsub = self.rules.pubsub;
                let dead = pubsub
                    .dead_letter_after
                    .is_some_and(|most| failures >= most.clamp(5, 100) as usize);
                let end = created_at + TimeDelta::seconds(pubsub.retention_seconds.into());
                let retry = last + pubsub.backoff(failures);
                (!dead && retry <= end).then_some(retry)
            }
            Source::Superwall => Some(last + *SVIX_RETRIES.get(failures.checked_sub(1)?)?),
        }
    }

    /// Failures only for so long, and the source stops using the URL.
    pub(super) fn patience(self) -> Option<TimeDelta> {
        match self.source {
            Source::AppStore | Source::GooglePlay => None,
            Source::Superwall => Some(SVIX_PATIENCE),
        }
    }

    /// Whether each push says which attempt it is.
    pub(super) fn counts_attempts(self) -> bool {
        self.source == Source::GooglePlay && self.rules.pubsub.dead_letter_after.is_some()
    }
}
