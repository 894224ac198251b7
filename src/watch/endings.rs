//! Accounts and sessions that take no credential any more: merged, erased, revoked.
//!
//! A caller who was recognised before that is remembered in many places of a replica. This is the
//! one list that all of them look at.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use super::hub::Hub;
use crate::storage::token_sessions;

/// Replicas learn of what others have ended this often: well within the minute after which a stream
/// of a revoked session has to be closed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Longer than a verified caller is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(2 * 60 * 60);
const REMEMBERED_MAX: u64 = 1_000_000;
/// Dead sessions that one look deletes at most.
const TRIMMED_MAX: i64 = 500;
/// Every so many looks.
const TRIM_EVERY: u32 = 120;

#[derive(Debug)]
pub(super) struct Endings {
    ended: Cache<Uuid, ()>,
    /// Nothing has ended on most replicas at most times: then nothing is looked up.
    count: AtomicU64,
}

impl Endings {
    pub(super) fn new() -> Self {
        Self {
            ended: Cache::builder()
                .max_capacity(REMEMBERED_MAX)
                .time_to_live(REMEMBERED_FOR)
                .build(),
            count: AtomicU64::new(0),
        }
    }

    pub(super) fn has(&self, id: Uuid) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.ended.contains_key(&id)
    }

    /// Whether it is news.
    pub(super) fn note(&self, id: Uuid) -> bool {
        let fresh = self.ended.entry(id).or_insert(()).is_fresh();
        if fresh {
            self.count.fetch_add(1, Ordering::AcqRel);
        }
        fresh
    }
}

/// Learns what has ended on other replicas, until told to stop.
pub(crate) async fn follow(hub: Hub, stop: CancellationToken) {
    let mut looks = 0;
    loop {
        match token_sessions::ended_lately(hub.db()).await {
            Ok(ended) => {
                for ended in ended {
                    hub.end(ended.id, ended.account);
                }
            }
            Err(error) => warn!(%error, "what has ended elsewhere is not known"),
        }
        if looks % TRIM_EVERY == 0
            && let Err(error) = token_sessions::trim(hub.db(), TRIMMED_MAX).await
        {
            warn!(%error, "dead sessions were not deleted");
        }
        looks += 1;
        let pause = stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY));
        if pause.await.is_none() {
            return;
        }
    }
}
