//! Tokens that have been verified, so that a busy caller costs one signature per token.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest as hash};
use moka::Expiry;
use moka::future::Cache;

use super::presets::Issuer;
use super::{Caller, Moment};

/// Some tens of MB when full.
const TOKENS_MAX: u64 = 100_000;
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
    pub(super) caller: Arc<Caller>,
    issuer: Arc<Issuer>,
    generation: u64,
    lifetime: Duration,
}

impl Verified {
    pub(super) fn new(caller: &Arc<Caller>, issuer: &Arc<Issuer>, generation: u64) -> Self {
        Self {
            caller: Arc::clone(caller),
            issuer: Arc::clone(issuer),
            generation,
            lifetime: Duration::ZERO,
        }
    }

    /// Not expired, and its issuer still publishes the very key set that verified it.
    pub(super) fn is_current(&self, now: Moment) -> bool {
        self.caller.expires_at > now.wall
            && self.issuer.keys.generation(now) == Some(self.generation)
    }
}

pub(super) struct VerifiedTokens(Cache<Digest, Verified>);

impl VerifiedTokens {
    pub(super) fn new() -> Self {
        let cache = Cache::builder()
            .max_capacity(TOKENS_MAX)
            .expire_after(UntilTokenExpires)
            .build();
        Self(cache)
    }

    pub(super) async fn get(&self, digest: &Digest) -> Option<Verified> {
        self.0.get(digest).await
    }

    /// A token within the tolerance after its expiry is verified every time instead.
    pub(super) async fn insert(&self, digest: Digest, mut verified: Verified, now: Moment) {
        if let Ok(left) = verified.caller.expires_at.duration_since(now.wall)
            && !left.is_zero()
        {
            verified.lifetime = left.min(REMEMBERED_FOR);
            self.0.insert(digest, verified).await;
        }
    }

    #[cfg(test)]
    pub(super) async fn len(&self) -> u64 {
        self.0.run_pending_tasks().await;
        self.0.entry_count()
    }
}

struct UntilTokenExpires;

impl Expiry<Digest, Verified> for UntilTokenExpires {
    fn expire_after_create(&self, _: &Digest, value: &Verified, _: Instant) -> Option<Duration> {
        Some(value.lifetime)
    }

    fn expire_after_update(
        &self,
        _: &Digest,
        value: &Verified,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(value.lifetime)
    }
}
