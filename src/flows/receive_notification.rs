//! Receive: authenticate the sender from raw bytes, keep the row, answer after the commit.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, warn};

use super::Core;
use crate::domain::planted::{self, Bug};
use crate::domain::provider::Source;
use crate::failpoint;
use crate::providers::contract::{Delivery, Rejection};
use crate::storage::ingress::{self, NewRow};
use crate::storage::{Db, StorageError};

/// Rows that share one commit at most.
const GROUP_MAX: usize = 64;
/// Rows that may wait for a commit; beyond it the sender is told to come back.
const QUEUE_MAX: usize = 4_096;

/// The stores wait longer than this, and send again.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a notification was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// Not from the store: 401.
    #[error("not authentic")]
    Forged,
    /// Ours to mend: 503, never 4xx, so that the store sends it again.
    #[error("not now")]
    Unavailable,
}

type Waiting = (NewRow, oneshot::Sender<Result<(), ReceiveError>>);

/// The way into the raw tables: concurrent notifications share a commit.
#[derive(Clone)]
pub(crate) struct Ingress(mpsc::Sender<Waiting>);

impl Ingress {
    /// Starts the writer; it ends with the last handle.
    pub(crate) fn start(db: Db) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(write_groups(db, queue));
        Self(sender)
    }

    async fn keep(&self, row: NewRow) -> Result<(), ReceiveError> {
        let (told, done) = oneshot::channel();
        self.0
            .try_send((row, told))
            .map_err(|_| ReceiveError::Unavailable)?;
        if planted::is(Bug::AcknowledgeBeforeCommit) {
            return Ok(());
        }
        done.await.map_err(|_| ReceiveError::Unavailable)?
    }
}

/// No timer: what queued during one commit is the next group.
async fn write_groups(db: Db, mut queue: mpsc::Receiver<Waiting>) {
    let mut group = Vec::with_capacity(GROUP_MAX);
    while queue.recv_many(&mut group, GROUP_MAX).await > 0 {
        let (rows, told): (Vec<_>, Vec<_>) = group.drain(..).unzip();
        let results = write_group(&db, &rows).await;
        for (told, result) in told.into_iter().zip(results) {
            // Whoever hung up is told by the store's next delivery.
            let _ = told.send(result);
        }
    }
}

/// A commit that does not come back in time counts as not kept; the key makes a repeat harmless.
async fn insert(db: &Db, rows: &[NewRow]) -> Result<(), StorageError> {
    tokio::time::timeout(COMMIT_TIMEOUT, ingress::insert(db, rows))
        .await
        .map_err(|_| StorageError::Unavailable("no commit in time".into()))??;
    Ok(())
}

async fn write_group(db: &Db, rows: &[NewRow]) -> Vec<Result<(), ReceiveError>> {
    match insert(db, rows).await {
        Ok(()) => rows.iter().map(|_| Ok(())).collect(),
        Err(StorageError::Unavailable(cause) | StorageError::Slow(cause)) => {
            warn!(cause, rows = rows.len(), "notifications could not be kept");
            rows.iter()
                .map(|_| Err(ReceiveError::Unavailable))
                .collect()
        }
        Err(cause) => {
            // One bad row must not harm the others: each on its own.
            warn!(%cause, rows = rows.len(), "a group of notifications is kept row by row");
            let mut results = Vec::with_capacity(rows.len());
            for row in rows {
                let kept = insert(db, std::slice::from_ref(row)).await;
                results.push(kept.map_err(|cause| {
                    error!(%cause, source = row.source, "a notification could not be kept");
                    ReceiveError::Unavailable
                }));
            }
            results
        }
    }
}

/// Takes one notification; `Ok` means that it is durable.
pub(crate) async fn receive(
    core: &Arc<Core>,
    ingress: &Ingress,
    source: Source,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), ReceiveError> {
    // Nobody's notification: `doctor` knocks like this, and no alarm is to count it as a forgery.
    if body.is_empty() {
        return Err(ReceiveError::Forged);
    }
    let received_at = core.clock.now();
    let delivery = Delivery {
        headers,
        body,
        now: received_at,
    };
    let authentic = core
        .stores
        .authenticate(source, delivery)
        .await
        .map_err(|rejection| {
            let (error, word) = match &rejection {
                Rejection::Forged(_) => (ReceiveError::Forged, "forged"),
                Rejection::Unavailable(_) => (ReceiveError::Unavailable, "unavailable"),
            };
            debug!(source = source.as_str(), %rejection, "a notification was turned away");
            metrics::counter!("entitled_notifications_rejected_total",
            "provider" => source.as_str(), "why" => word)
            .increment(1);
            error
        })?;
    let row = NewRow {
        source: source.as_str(),
        event_id: authentic.event_id,
        body: core.stores.redact(source, body).into_owned(),
        received_at,
        swept: false,
    };
    ingress.keep(row).await?;
    failpoint::at("after_raw_insert");
    metrics::counter!("entitled_notifications_total", "provider" => source.as_str()).increment(1);
    core.received.notify_one();
    failpoint::at("before_ack");
    Ok(())
}
