//! Notifications and their way to the server under test: attempts, retries by each source's rules,
//! and what a test does to them on purpose (hold, drop, repeat).

mod body;
mod letter;
mod outbox;
mod record;
mod rules;
mod source;

pub(super) use letter::{Letter, client, lost, send};
pub(super) use outbox::{Notification, OrderedSin, Outbox};
pub use record::{Attempt, AttemptResult, DeliveryState, NotificationRecord};
pub(super) use rules::Policy;
pub use rules::{DeliveryRules, PubSubRules};
pub use source::{Source, Store, Webhooks};
