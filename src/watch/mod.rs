//! Fan-out: one view per account, encoded once, pushed to every device the moment it changes.

mod batch;
mod bus;
mod copies;
mod endings;
mod feed;
mod hub;
mod stream;
mod sync;
mod view;

pub(crate) use batch::read_batch;
pub(crate) use bus::{HintBus, NatsBus, NatsOptions, PostgresBus};
pub(crate) use endings::follow as follow_endings;
pub(crate) use feed::{Change, FeedError, Feeds, Follower, State, Told};
pub(crate) use hub::{Freshness, Hub, HubOptions, ReadError};
pub(crate) use stream::{Seen, WatchEvent, watch};
pub(crate) use sync::{relay, run as run_sync};
pub(crate) use view::View;
