//! What becomes of a notification between its source and the server under test.

use rand::Rng as _;
use serde::{Deserialize, Serialize};

use super::random;

/// Longest time after which a repetition follows or a notification that nothing has overtaken
/// goes out.
const SPREAD_SECONDS: u32 = 600;

/// How likely each sin is, from 0 to 1, and how grave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliverySins {
    /// Delivered again after it was acknowledged.
    pub duplicate: f64,
    /// Overtaken by the next one.
    pub reorder: f64,
    /// Sent late.
    pub delay: f64,
    /// The longest delay, in seconds of business time; a day by default.
    pub delay_seconds_max: u32,
    /// Lost for good: its source made an attempt and never another.
    pub drop: f64,
    /// The connection ends in the middle of the first attempt's body.
    pub truncate: f64,
    /// The first attempt's body takes its time.
    pub slow: f64,
    /// How much, in milliseconds of machine time.
    pub slow_millis: u64,
}

impl Default for DeliverySins {
    fn default() -> Self {
        Self {
            duplicate: 0.0,
            reorder: 0.0,
            delay: 0.0,
            delay_seconds_max: 86_400,
            drop: 0.0,
            truncate: 0.0,
            slow: 0.0,
            slow_millis: 200,
        }
    }
}

/// What becomes of one notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "sin", rename_all = "snake_case", deny_unknown_fields)]
pub enum DeliverySin {
    /// Delivered again after it was acknowledged.
    Duplicate {
        /// Seconds of business time in between.
        #[serde(default)]
        after_seconds: u32,
    },
    /// Waits until the next one is out.
    Reorder,
    /// Sent late.
    Delay {
        /// Seconds of business time.
        seconds: u32,
    },
    /// Lost for good.
    Drop,
    /// The connection ends in the middle of the first attempt's body.
    Truncate,
    /// The first attempt's body takes its time.
    Slow {
        /// Milliseconds of machine time.
        millis: u64,
    },
}

impl DeliverySins {
    pub(super) fn chances(&self) -> [f64; 6] {
        [
            self.duplicate,
            self.reorder,
            self.delay,
            self.drop,
            self.truncate,
            self.slow,
        ]
    }

    /// What the notification with this number suffers. Every sin has randomness of its own: the
    /// chance of one does not move another.
    pub(in crate::sandbox) fn draw(&self, seed: u64, number: u64) -> Vec<DeliverySin> {
        let mut sins = Vec::new();
        let mut consider = |question: &str, chance: f64, sin: &dyn Fn(f64) -> DeliverySin| {
            // Most runs have no sins at all.
            if chance > 0.0 {
                let mut random = random(seed, question, number);
                if random.random_bool(chance.clamp(0.0, 1.0)) {
                    sins.push(sin(random.random()));
                }
            }
        };
        consider("duplicate", self.duplicate, &|part| {
            // Every other repetition follows at once.
            let part = (part * 2.0 - 1.0).max(0.0);
            DeliverySin::Duplicate {
                after_seconds: seconds(part, SPREAD_SECONDS),
            }
        });
        consider("reorder", self.reorder, &|_| DeliverySin::Reorder);
        consider("delay", self.delay, &|part| DeliverySin::Delay {
            seconds: seconds(part, self.delay_seconds_max).max(1),
        });
        consider("drop", self.drop, &|_| DeliverySin::Drop);
        consider("truncate", self.truncate, &|_| DeliverySin::Truncate);
        consider("slow", self.slow, &|_| DeliverySin::Slow {
            millis: self.slow_millis,
        });
        sins
    }
}

impl DeliverySin {
    /// By how many seconds of business time the first attempt comes late.
    pub(in crate::sandbox) fn lateness_seconds(self) -> u32 {
        match self {
            Self::Delay { seconds } => seconds,
            Self::Reorder => SPREAD_SECONDS,
            Self::Duplicate { .. } | Self::Drop | Self::Truncate | Self::Slow { .. } => 0,
        }
    }
}

/// A part, from 0 to 1, of so many seconds.
fn seconds(part: f64, most: u32) -> u32 {
    // Within the range of the type: the part is at most 1.
    (part * f64::from(most)) as u32
}
