//! Retention: what is no longer needed goes, a batch at a time.

use std::time::Duration;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::Core;
use crate::domain::time::Instant;
use crate::storage::retention::Batch;
pub(crate) use crate::storage::retention::Kept;
use crate::storage::{StorageError, job_cursors, retention};

const JOB: &str = "retention";
/// Between two rounds, by business time.
const EVERY: TimeDelta = TimeDelta::hours(24);
/// Longer than a batch and its pause; renewed before each.
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
    /// Machine time.
    pub(crate) anonymous_accounts: Option<TimeDelta>,
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
            Kept::AnonymousAccounts => self.anonymous_accounts,
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Cursor {
    #[serde(default)]
    done_at: Option<Instant>,
}

/// A round's turn: one replica's, as long as its lease is renewed.
struct Turn<'a> {
    core: &'a Core,
    held_until: Instant,
}

impl Turn<'_> {
    /// Whether the turn is still this replica's.
    async fn goes_on(&mut self) -> Result<bool, StorageError> {
        let db = &self.core.db;
        let renewed = job_cursors::renew(db, JOB, "", self.held_until, LEASE).await?;
        self.held_until = renewed.unwrap_or(self.held_until);
        Ok(renewed.is_some())
    }
}

/// Trims one kind until nothing old is left; tells how many rows went, or would go.
pub(crate) async fn trim(core: &Core, kept: Kept, dry: bool) -> Result<u64, StorageError> {
    if dry {
        let Some(batch) = first_batch(core, kept, i64::MAX, true) else {
            return Ok(0);
        };
        return Ok(retention::trim(&core.db, batch).await?.gone);
    }
    let (gone, _) = trim_in(core, kept, None).await?;
    Ok(gone)
}

fn first_batch(core: &Core, kept: Kept, limit: i64, dry: bool) -> Option<Batch> {
    let age = core.retention.of(kept)?;
    Some(Batch {
        kept,
        before: core.clock.now() - age,
        age,
        limit,
        after: None,
        dry,
    })
}

/// Trims one kind; tells how many rows went, and whether the turn, if there is one, goes on.
async fn trim_in(
    core: &Core,
    kept: Kept,
    mut turn: Option<&mut Turn<'_>>,
) -> Result<(u64, bool), StorageError> {
    let mut total = 0;
    let Some(mut batch) = first_batch(core, kept, core.retention.batch_rows, false) else {
        return Ok((total, true));
    };
    loop {
        if let Some(turn) = &mut turn
            && !turn.goes_on().await?
        {
            return Ok((total, false));
        }
        let trimmed = retention::trim(&core.db, batch).await?;
        total += trimmed.gone;
        metrics::counter!("entitled_retention_deleted_total", "what" => kept.as_str())
            .increment(trimmed.gone);
        if !trimmed.more {
            return Ok((total, true));
        }
        batch.after = trimmed.after;
        tokio::time::sleep(core.retention.pause).await;
    }
}

/// A round over all kinds, once a day, on one replica.
pub(crate) async fn retain_if_due(core: &Core) -> Result<(), StorageError> {
    let now = core.clock.now();
    let seen: job_cursors::Stand<Cursor, ()> = job_cursors::read(&core.db, JOB, "").await?;
    let due = seen.cursor.done_at.is_none_or(|at| now - at >= EVERY);
    if !due {
        return Ok(());
    }
    let Some(held_until) = job_cursors::take(&core.db, JOB, "", LEASE, now).await? else {
        return Ok(());
    };
    let mut turn = Turn { core, held_until };
    for kept in Kept::ALL {
        let (gone, goes_on) = trim_in(core, kept, Some(&mut turn)).await?;
        if gone > 0 {
            info!(
                what = kept.as_str(),
                rows = gone,
                "what is no longer needed was deleted"
            );
        }
        if !goes_on {
            info!("another replica has the turn to delete what is no longer needed");
            return Ok(());
        }
    }
    let done = Cursor { done_at: Some(now) };
    job_cursors::save(&core.db, JOB, "", &done, None::<&()>, now).await
}
