//! Time, and what goes wrong on the way.

use serde::Deserialize;

use super::super::super::delivery::Store;
use super::super::super::sins::Sins;
use super::super::super::traffic::Outage;
use super::super::time::{Length, Moment};

/// Time passes; what falls due happens in its order.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advance {
    /// How much.
    pub advance: Length,
}

/// Time passes until a moment.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// The moment.
    pub at: Moment,
}

/// What the network does from now on.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinsFromNowOn {
    /// Its sins; an empty table ends them.
    pub sins: Sins,
}

/// Keeps what the stores say from now on, or sends all that was kept.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Whether to keep.
    pub hold: bool,
}

/// Sends notifications now: early, late, or once more.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deliver {
    /// Notification type as the store names it, with its subtype after a slash if wanted; or `all`.
    pub deliver: String,
    /// About this purchase only.
    pub of: Option<String>,
    /// Which of those found.
    #[serde(default)]
    pub which: Which,
}

/// Loses notifications: the store does not try them again.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drop {
    /// Notification type as the store names it, with its subtype after a slash if wanted; or `all`.
    pub drop: String,
    /// About this purchase only.
    pub of: Option<String>,
    /// Which of those found.
    #[serde(default)]
    pub which: Which,
}

/// Which of several notifications, and in which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Which {
    /// The oldest alone.
    #[serde(rename = "first")]
    First,
    /// The newest alone.
    #[default]
    #[serde(rename = "latest")]
    Latest,
    /// All as they happened.
    #[serde(rename = "oldest first")]
    OldestFirst,
    /// All, the newest first.
    #[serde(rename = "newest first")]
    NewestFirst,
}

/// A store's API fails from now on, or works again.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutageFromNowOn {
    /// The store.
    pub outage: Store,
    /// How it fails.
    pub how: Failing,
}

/// How a store's API fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failing {
    /// Every call is answered 503.
    Down,
    /// No call is answered.
    Silent,
    /// Every call is answered 429.
    RateLimited,
    /// Not any more.
    Over,
}

impl Failing {
    /// The same in the simulator's words.
    pub(in crate::sandbox::scenario) const fn outage(self) -> Option<Outage> {
        match self {
            Self::Down => Some(Outage::Down503),
            Self::Silent => Some(Outage::Timeout),
            Self::RateLimited => Some(Outage::RateLimited),
            Self::Over => None,
        }
    }
}
