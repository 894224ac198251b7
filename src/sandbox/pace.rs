//! How closely a server under test is walked through time, and how far a walk has come.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// How events follow each other while time is made to pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// The server settles after each event and what it has to tell: the same order, whatever the
    /// machine is doing.
    #[default]
    EveryEvent,
    /// The events of a window happen in their order, their notifications go out several at a time,
    /// and the server settles at the window's end: for many customers and long times. Which
    /// notification arrives first is then up to the machine, and whoever acts returns when what
    /// that causes has been sent, settled or not.
    Window {
        /// Length of a window in seconds of business time.
        seconds: u32,
        /// Notifications under way at once.
        parallel: usize,
    },
}

impl Pace {
    /// The end of the window that begins with an event at `start`, and how many deliveries it
    /// takes at once; none where every event is a window of its own.
    pub(super) fn window(self, start: DateTime<Utc>) -> Option<(DateTime<Utc>, usize)> {
        match self {
            Self::EveryEvent => None,
            Self::Window { seconds, parallel } => {
                Some((start + TimeDelta::seconds(seconds.into()), parallel.max(1)))
            }
        }
    }
}

/// What has been played since the simulator started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Business time of the latest event.
    pub now: DateTime<Utc>,
    /// Where the clock is being moved to, while it is.
    pub target: Option<DateTime<Utc>>,
    /// Things that happened at the stores by themselves.
    pub events: u64,
    /// Attempts to deliver a notification.
    pub signals: u64,
    /// Machine time spent waiting for the server to settle.
    pub settling: Duration,
}

impl Progress {
    pub(super) fn at(now: DateTime<Utc>) -> Self {
        Self {
            now,
            target: None,
            events: 0,
            signals: 0,
            settling: Duration::ZERO,
        }
    }
}
