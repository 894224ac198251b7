//! An account's snapshot with its name, encoded once for all its readers.

use std::sync::Arc;

use bytes::Bytes;

use crate::domain::entitlement::Snapshot;
use crate::domain::ids::Revision;
use crate::domain::time::Instant;
use crate::storage::accounts::Account;

/// Turns a named snapshot into the bytes that devices read; the wire format is the door's affair.
pub(crate) type Encoder = fn(&Account, epoch: &str, Revision, &Snapshot) -> Bytes;

/// A snapshot as readers get it.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) account: Account,
    pub(crate) epoch: Arc<str>,
    pub(crate) revision: Revision,
    pub(crate) snapshot: Snapshot,
    pub(crate) encoded: Bytes,
    /// Machine time at which the database last said so.
    pub(crate) read_at: tokio::time::Instant,
}

impl View {
    /// Whether it says the same at `now` as when it was encoded.
    pub(crate) fn holds_at(&self, now: Instant) -> bool {
        self.snapshot
            .next_transition_at
            .is_none_or(|next| now < next)
    }

    /// The same revision as it reads at `now`: access that has ended is closed.
    pub(crate) fn at(self: &Arc<Self>, now: Instant, encode: Encoder) -> Arc<Self> {
        if self.holds_at(now) {
            return Arc::clone(self);
        }
        let snapshot = self.snapshot.at(now).into_owned();
        let encoded = encode(&self.account, &self.epoch, self.revision, &snapshot);
        Arc::new(Self {
            snapshot,
            encoded,
            ..Self::clone(self)
        })
    }
}
