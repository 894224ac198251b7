//! Retention: what is no longer needed goes, a batch at a time.

use std::time::Duration;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::Core;
use crate::domain::time::Instant;
pub(crate) use crate::storage::retention::Kept;
use crate::storage::{StorageError, job_cursors, retention};

const JOB: &str = "retention";
/// Between two rounds, by business time.
const EVERY: TimeDelta = TimeDelta::hours(24);
/// Longer than a batch and its pause.
const LEASE: Duration = Duration::from_secs(120);

/// The settings of `[retention]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    /// `None`: kept for ever.
    pub(crate) notifications: Option<TimeDelta>,
    pub(crate) open_notifications: Option<TimeDelta>,
    pub(crate) ingress_keys: Option<TimeDelta>,
    pub(crate) store_answers: Option<TimeDelta>,
    pub(crate) snapshot_history: Option<TimeDelta>,
    pub(crate) source_activity: Option<TimeDelta>,
    pub(crate) claims: Option<TimeDelta>,
    pub(crate) duties: Option<TimeDelta>,
    pub(crate) batch_rows: i64,
    /// Machine time.
    pub(crate) pause: Duration,
}

impl Retention {
    /// How long rows of a kind stay.
    pub(crate) fn of(&self, kept: Kept) -> Option<TimeDelta> {
        match kept {
            Kept::Notifications => self.notifications,
            Kept::OpenNotifications => self.open_notifications,
            Kept::IngressKeys => self.ingress_keys,
            Kept::StoreAnswers => self.store_answers,
            Kept::SnapshotHistory => self.snapshot_history,
            Kept::SourceActivity => self.source_activity,
            Kept::Claims => self.claims,
            Kept::Duties => self.duties,
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Cursor {
    #[serde(default)]
    done_at: Option<Instant>,
}

/// Trims one kind until nothing old is left; tells how many rows went, or would go.
pub(crate) async fn trim(core: &Core, kept: Kept, dry: bool) -> Result<u64, StorageError> {
    let Some(age) = core.retention.of(kept) else {
        return Ok(0);
    };
    let before = core.clock.now() - age;
    if dry {
        return retention::trim(&core.db, kept, before, i64::MAX, true).await;
    }
    let limit = core.retention.batch_rows;
    let mut total = 0;
    loop {
        let gone = retention::trim(&core.db, kept, before, limit, false).await?;
        total += gone;
        metrics::counter!("entitled_retention_deleted_total", "what" => kept.as_str())
            .increment(gone);
        if i64::try_from(gone).unwrap_or(i64::MAX) < limit {
            return Ok(total);
        }
        tokio::time::sleep(core.retention.pause).await;
    }
}

/// A round over all kinds, once a day, on one replica.
pub(crate) async fn retain_if_due(core: &Core) -> Result<(), StorageError> {
    let now = core.clock.now();
    let seen: job_cursors::Stand<Cursor, ()> = job_cursors::read(&core.db, JOB, "").await?;
    let due = seen.cursor.done_at.is_none_or(|at| now - at >= EVERY);
    if !due || !job_cursors::hold(&core.db, JOB, "", LEASE, now).await? {
        return Ok(());
    }
    for kept in Kept::ALL {
        let gone = trim(core, kept, false).await?;
        if gone > 0 {
            info!(
                what = kept.as_str(),
                rows = gone,
                "what is no longer needed was deleted"
            );
        }
    }
    let done = Cursor { done_at: Some(now) };
    job_cursors::save(&core.db, JOB, "", &done, None::<&()>, now).await
}
