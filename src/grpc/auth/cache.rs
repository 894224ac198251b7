//! Tokens that have been verified, so that a busy caller costs one signature per token.
//!
//! A token is known by its SHA-256 and by nothing less: tokens are chosen by whoever calls, and two
//! that met in a shorter or weaker name would be one caller. Where an entry is put is a matter of a
//! randomly seeded hash of that; meeting there costs time, never a mistake.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest as hash};

use super::presets::Issuer;
use super::{Caller, Moment};
use crate::bounded::{Bounded, Keep};

/// Some tens of MB when full.
const TOKENS_MAX: usize = 100_000;
/// However long a token is good: who its account is, is looked up anew after that.
const REMEMBERED_FOR: Duration = Duration::from_secs(60 * 60);

/// SHA-256 of a token: the token itself is never kept.
pub(super) type Digest = [u8; 32];

pub(super) fn digest(bytes: impl AsRef<[u8]>) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(hash(&SHA256, bytes.as_ref()).as_ref());
    out
}

/// A caller and what its verification rested on.
#[derive(Clone)]
pub(super) struct Verified {
    caller: Arc<Caller>,
    issuer: Arc<Issuer>,
    generation: u64,
    /// Not remembered longer than this.
    until: Instant,
}

impl Verified {
    pub(super) fn new(
        caller: &Arc<Caller>,
        issuer: &Arc<Issuer>,
        generation: u64,
        now: Moment,
    ) -> Self {
        let left = caller.expires_at.duration_since(now.wall);
        Self {
            caller: Arc::clone(caller),
            issuer: Arc::clone(issuer),
            generation,
            // One within the tolerance after its expiry is verified every time instead.
            until: now.steady + left.unwrap_or_default().min(REMEMBERED_FOR),
        }
    }

    /// Not expired, and its issuer still publishes the very key set that verified it.
    fn is_current(&self, now: Moment) -> bool {
        self.until > now.steady
            && self.caller.expires_at > now.wall
            && self.issuer.keys.generation(now) == Some(self.generation)
    }

    fn keep(&self) -> Keep {
        match self.until > Instant::now() {
            true => Keep::WhileUsed,
            false => Keep::No,
        }
    }
}

pub(super) struct VerifiedTokens(Bounded<Digest, Verified>);

impl VerifiedTokens {
    pub(super) fn new() -> Self {
        Self(Bounded::new(TOKENS_MAX, Verified::keep))
    }

    /// The caller whose token this is, if it has been verified and would be again.
    pub(super) fn caller(&self, digest: &Digest, now: Moment) -> Option<Arc<Caller>> {
        let current = |verified: &Verified| {
            let current = verified.is_current(now);
            current.then(|| Arc::clone(&verified.caller))
        };
        self.0.get(digest, current).flatten()
    }

    pub(super) fn insert(&self, digest: Digest, verified: Verified, now: Moment) {
        if verified.until > now.steady {
            self.0.update(digest, |slot| *slot = Some(verified));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
