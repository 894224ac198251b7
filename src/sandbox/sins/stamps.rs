//! How wrong the clocks are that stamp what the sources say.

use chrono::{DateTime, TimeDelta, Utc};
use rand::Rng as _;
use serde::{Deserialize, Serialize};

use super::super::delivery::Source;
use super::random;

/// Seconds by which the stamps (`signedDate`, `eventTimeMillis`, `publishTime`) are ahead of
/// business time, or with a minus behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClockSins {
    /// Apple's.
    pub app_store_seconds: i32,
    /// Google's.
    pub google_play_seconds: i32,
    /// Superwall's.
    pub superwall_seconds: i32,
    /// Each stamp is off by up to so many more, either way: a source has many machines.
    pub jitter_seconds: u32,
}

impl ClockSins {
    /// What a source writes for `at`.
    pub(in crate::sandbox) fn stamp(
        &self,
        seed: u64,
        source: Source,
        at: DateTime<Utc>,
    ) -> DateTime<Utc> {
        let ahead = match source {
            Source::AppStore => self.app_store_seconds,
            Source::GooglePlay => self.google_play_seconds,
            Source::Superwall => self.superwall_seconds,
        };
        let jitter = match i64::from(self.jitter_seconds) {
            0 => 0,
            most => {
                let number = at.timestamp_millis().unsigned_abs();
                random(seed, "stamp", number).random_range(-most..=most)
            }
        };
        at + TimeDelta::seconds(i64::from(ahead) + jitter)
    }
}
