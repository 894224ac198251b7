//! Keeps a replica in step with the others: hints as they come, sweeps in case they do not.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use super::hub::Hub;
use crate::domain::ids::{AccountId, Revision};
use crate::storage::listener::{Listener, Notifier};
use crate::storage::{Db, StorageError, snapshots};

const SWEEP_EVERY: Duration = Duration::from_secs(1);
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
const BATCH: usize = 1_000;

/// Listens and sweeps until told to stop.
pub(crate) async fn run(hub: Hub, stop: CancellationToken) {
    let listen = stop.run_until_cancelled(listen(&hub));
    let sweep = stop.run_until_cancelled(sweep(&hub));
    let _ = tokio::join!(listen, sweep);
}

/// Sends hints to the other replicas: what queued up during the previous commit is the next batch.
pub(crate) async fn relay(
    db: Db,
    mut queue: mpsc::Receiver<(AccountId, Revision)>,
    stop: CancellationToken,
) {
    let mut notifier = None;
    let mut batch = Vec::new();
    loop {
        batch.clear();
        let received = stop
            .run_until_cancelled(queue.recv_many(&mut batch, 64))
            .await;
        if matches!(received, None | Some(0)) {
            return;
        }
        let hints: Vec<String> = batch
            .iter()
            .map(|(id, revision)| format!("{}:{revision}", id.0))
            .collect();
        if let Err(error) = send(&db, &mut notifier, &hints).await {
            // Lost hints are healed by the sweep of each replica.
            metrics::counter!("entitled_hints_dropped_total").increment(hints.len() as u64);
            debug!(%error, "hints were not sent");
            notifier = None;
        }
    }
}

async fn send(
    db: &Db,
    notifier: &mut Option<Notifier>,
    hints: &[String],
) -> Result<(), StorageError> {
    let notifier = match notifier {
        Some(notifier) => notifier,
        None => notifier.insert(Notifier::connect(db).await?),
    };
    notifier.send(hints).await
}

async fn listen(hub: &Hub) {
    loop {
        match listen_until_lost(hub).await {
            Ok(()) => {}
            Err(error) => {
                warn!(%error, "the hint listener lost its connection; the sweep carries on");
                metrics::counter!("entitled_listener_reconnects_total").increment(1);
            }
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

async fn listen_until_lost(hub: &Hub) -> Result<(), StorageError> {
    let mut listener = Listener::connect(hub.db()).await?;
    // Hints sent while nobody listened are lost: compare before trusting them again.
    compare_watched(hub).await?;
    loop {
        let hint = listener.next().await?;
        if let Some((id, revision)) = parse(&hint)
            && hub.note(id, revision)
        {
            hub.refresh(&[id]).await?;
        }
    }
}

fn parse(hint: &str) -> Option<(AccountId, Revision)> {
    let (id, revision) = hint.split_once(':')?;
    Some((
        AccountId(Uuid::parse_str(id).ok()?),
        Revision(revision.parse().ok()?),
    ))
}

async fn compare_watched(hub: &Hub) -> Result<(), StorageError> {
    for ids in hub.watched_ids().chunks(BATCH) {
        let revisions = snapshots::revisions(hub.db(), ids).await?;
        tell(hub, &revisions).await?;
    }
    Ok(())
}

async fn tell(hub: &Hub, changed: &[(AccountId, Revision)]) -> Result<(), StorageError> {
    let behind: Vec<AccountId> = changed
        .iter()
        .filter(|(id, revision)| hub.note(*id, *revision))
        .map(|(id, _)| *id)
        .collect();
    for ids in behind.chunks(BATCH) {
        hub.refresh(ids).await?;
    }
    Ok(())
}

/// Asks what changed since the horizon of the last sweep, whatever the hints said.
async fn sweep(hub: &Hub) {
    let mut watermark = None;
    loop {
        let began = tokio::time::Instant::now();
        match sweep_once(hub, &mut watermark).await {
            Ok(()) => hub.swept(began),
            Err(error) => debug!(%error, "sweep failed"),
        }
        tokio::time::sleep(SWEEP_EVERY).await;
    }
}

async fn sweep_once(hub: &Hub, watermark: &mut Option<i64>) -> Result<(), StorageError> {
    // The first sweep only takes the horizon: nothing is cached that it could confirm.
    let changes = snapshots::changes_since(hub.db(), watermark.unwrap_or(i64::MAX)).await?;
    if *changes.epoch != *hub.epoch() {
        warn!("the database has another epoch: everything is read again");
        hub.change_epoch(changes.epoch).await?;
        *watermark = Some(changes.horizon);
        return Ok(());
    }
    tell(hub, &changes.changed).await?;
    *watermark = Some(changes.horizon);
    Ok(())
}
