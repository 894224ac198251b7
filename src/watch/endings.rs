//! Accounts and sessions that take no credential any more: merged, erased, revoked.
//!
//! A caller who was recognised before that is remembered in many places of a replica. This is the
//! one list that all of them look at.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use moka::sync::Cache;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use super::hub::Hub;
use crate::storage::{StorageError, token_sessions};

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

/// Longer than any transaction of ours takes to become visible.
const VISIBLE_WITHIN: TimeDelta = TimeDelta::minutes(5);

/// From when on a look asks: the last one that succeeded has told what was visible then. However
/// long the database was away, nothing that ended meanwhile is missed.
fn look_from(last: Option<DateTime<Utc>>, now: DateTime<Utc>) -> DateTime<Utc> {
    last.unwrap_or(now).min(now) - VISIBLE_WITHIN
}

/// One look; when it was, by the database's clock.
async fn look(hub: &Hub, last: Option<DateTime<Utc>>) -> Result<DateTime<Utc>, StorageError> {
    let now = token_sessions::clock(hub.db()).await?;
    for ended in token_sessions::ended_since(hub.db(), look_from(last, now)).await? {
        hub.end(ended.id, ended.account);
    }
    Ok(now)
}

/// Learns what has ended on other replicas, until told to stop.
pub(crate) async fn follow(hub: Hub, stop: CancellationToken) {
    let mut looks = 0;
    let mut last = None;
    loop {
        match look(&hub, last).await {
            Ok(now) => last = Some(now),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_begins_where_the_last_one_ended_however_long_ago() {
        let at = |minute: i64| DateTime::<Utc>::UNIX_EPOCH + TimeDelta::minutes(minute);
        assert_eq!(look_from(None, at(60)), at(55));
        assert_eq!(look_from(Some(at(59)), at(60)), at(54));
        // Nothing was heard for an hour.
        assert_eq!(look_from(Some(at(0)), at(60)), at(-5));
        // Another primary, whose clock is behind.
        assert_eq!(look_from(Some(at(60)), at(50)), at(45));
    }
}
