//! How a store's API fails a call.

use rand::Rng as _;
use serde::{Deserialize, Serialize};

use super::{digest, random};

/// How likely each sin is, from 0 to 1, and how grave. The number of a call counts the calls of
/// its path, so that calls under way at the same time do not change each other's fate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallSins {
    /// Answered late.
    pub slow: f64,
    /// How late, in milliseconds of machine time.
    pub slow_millis: u64,
    /// Answered 429.
    pub rate_limited: f64,
    /// Answered 5xx.
    pub unavailable: f64,
    /// Not answered for so long that the caller gives up.
    pub timeout: f64,
    /// Reads only: not found for the moment, as Apple's 4040002 and 4040006 say it.
    pub not_found: f64,
    /// Reads only: answered as of before the last change, while that is recent.
    pub stale: f64,
    /// How long a change can stay unseen, in seconds of business time; at most an hour.
    pub stale_seconds: u32,
}

impl Default for CallSins {
    fn default() -> Self {
        Self {
            slow: 0.0,
            slow_millis: 500,
            rate_limited: 0.0,
            unavailable: 0.0,
            timeout: 0.0,
            not_found: 0.0,
            stale: 0.0,
            stale_seconds: 60,
        }
    }
}

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "sin", rename_all = "snake_case", deny_unknown_fields)]
pub enum CallSin {
    /// Answered late.
    Slow {
        /// Milliseconds of machine time.
        millis: u64,
    },
    /// Answered 429.
    RateLimited,
    /// Answered 5xx.
    Unavailable,
    /// Not answered for so long that the caller gives up.
    Timeout,
    /// Not found for the moment.
    NotFound,
    /// Answered as of before the last change.
    Stale,
    /// Answered that something went wrong inside, as Apple's 5000001 says it.
    InternalError,
}

impl CallSin {
    /// Whether only reads of the stores can suffer it.
    pub(in crate::sandbox) fn strikes_reads_only(self) -> bool {
        match self {
            Self::NotFound | Self::Stale => true,
            Self::Slow { .. }
            | Self::RateLimited
            | Self::Unavailable
            | Self::Timeout
            | Self::InternalError => false,
        }
    }
}

impl CallSins {
    pub(super) fn chances(&self) -> [f64; 6] {
        [
            self.slow,
            self.rate_limited,
            self.unavailable,
            self.timeout,
            self.not_found,
            self.stale,
        ]
    }

    pub(in crate::sandbox) fn any(&self) -> bool {
        self.chances().iter().any(|chance| *chance > 0.0)
    }

    /// What the so-manieth call of a path suffers.
    pub(in crate::sandbox) fn draw(&self, seed: u64, path: &str, number: u64) -> Vec<CallSin> {
        let key = digest(path).wrapping_add(number);
        let slow = CallSin::Slow {
            millis: self.slow_millis,
        };
        [
            ("slow", self.slow, slow),
            ("rate limited", self.rate_limited, CallSin::RateLimited),
            ("unavailable", self.unavailable, CallSin::Unavailable),
            ("timeout", self.timeout, CallSin::Timeout),
            ("not found", self.not_found, CallSin::NotFound),
            ("stale", self.stale, CallSin::Stale),
        ]
        .into_iter()
        .filter(|(question, chance, _)| {
            *chance > 0.0 && random(seed, question, key).random_bool(chance.clamp(0.0, 1.0))
        })
        .map(|(_, _, sin)| sin)
        .collect()
    }
}
