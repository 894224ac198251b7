//! Keeps a replica in step with the others: hints as they come, sweeps in case they do not.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::bus::{Attentive, BusError, HintBus, HintSender};
use super::hub::Hub;
use crate::domain::ids::{AccountId, Revision};
use crate::domain::planted::{self, Bug};
use crate::storage::{StorageError, snapshots};

const SWEEP_EVERY: Duration = Duration::from_secs(1);
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
const BATCH: usize = 1_000;
/// An open transaction holds the horizon back this long before somebody is told.
const HORIZON_AGE_MAX: Duration = Duration::from_secs(60);
/// A bus that does not answer must not hold the relay up for ever.
const SEND_TIMEOUT: Duration = Duration::from_secs(3);

/// Listens and sweeps until told to stop.
pub(crate) async fn run(hub: Hub, stop: CancellationToken) {
    let listen = stop.run_until_cancelled(listen(&hub));
    let sweep = stop.run_until_cancelled(sweep(&hub));
    let _ = tokio::join!(listen, sweep);
}

/// Sends hints to the other replicas: what queued up during the previous commit is the next batch.
pub(crate) async fn relay(
    hub: Hub,
    mut queue: mpsc::Receiver<(AccountId, Revision)>,
    stop: CancellationToken,
) {
    let mut sender = None;
    let mut batch = Vec::new();
    loop {
        batch.clear();
        let received = stop
            .run_until_cancelled(queue.recv_many(&mut batch, 64))
            .await;
        if matches!(received, None | Some(0)) {
            return;
        }
        if planted::is(Bug::LostHintsAreNotMissed) {
            continue;
        }
        let epoch = hub.epoch();
        let hints: Vec<String> = batch
            .iter()
            .map(|(id, revision)| format!("{epoch}/{id}/{revision}"))
            .collect();
        if let Err(error) = send(hub.bus(), &mut sender, &hints).await {
            // Lost hints are healed by the sweep of each replica.
            metrics::counter!("entitled_hints_dropped_total").increment(hints.len() as u64);
            debug!(%error, "hints were not sent");
            sender = None;
        }
    }
}

async fn send(
    bus: &dyn HintBus,
    sender: &mut Option<Box<dyn HintSender>>,
    hints: &[String],
) -> Result<(), BusError> {
    let sending = async {
        let sender = match sender {
            Some(sender) => sender,
            None => sender.insert(bus.sender().await?),
        };
        sender.send(hints).await
    };
    tokio::time::timeout(SEND_TIMEOUT, sending)
        .await
        .map_err(|_| BusError("hints were not sent in time".into()))?
}

/// Why a listener is opened anew.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Storage(#[from] StorageError),
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

async fn listen_until_lost(hub: &Hub) -> Result<(), Lost> {
    let mut listener = Attentive::new(hub.bus().listener().await?);
    // Hints sent while nobody listened are lost: compare before trusting them again.
    compare_watched(hub).await?;
    loop {
        let hints = listener.next_batch(BATCH).await?;
        let epoch = hub.epoch();
        let reached: Vec<_> = hints
            .iter()
            .filter_map(|hint| parse(hint, &epoch))
            .collect();
        tell(hub, &reached).await?;
    }
}

/// `EPOCH/ACCOUNT/REVISION`; a hint of another history says nothing about this one.
fn parse(hint: &str, epoch: &str) -> Option<(AccountId, Revision)> {
    let (id, revision) = hint
        .strip_prefix(epoch)?
        .strip_prefix('/')?
        .split_once('/')?;
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
    let mut sweep = Sweep::default();
    loop {
        let began = tokio::time::Instant::now();
        match sweep_once(hub, &mut sweep).await {
            Ok(()) => hub.swept(began),
            Err(error) => debug!(%error, "sweep failed"),
        }
        tokio::time::sleep(SWEEP_EVERY).await;
    }
}

async fn sweep_once(hub: &Hub, sweep: &mut Sweep) -> Result<(), StorageError> {
    let changes = snapshots::changes_since(hub.db(), sweep.watermark.unwrap_or(i64::MAX)).await?;
    // Read last: whatever history the changes were of, a new one is noticed now.
    let epoch = snapshots::epoch(hub.db()).await?;
    if sweep.watermark.is_none() || *epoch != *hub.epoch() {
        sweep.watermark = None;
        info!(epoch, "everything is read anew");
        hub.begin_anew(epoch).await?;
    } else if !planted::is(Bug::LostHintsAreNotMissed) {
        tell(hub, &changes.changed).await?;
    }
    sweep.note_horizon(&changes);
    sweep.watermark = Some(changes.horizon);
    Ok(())
}

/// What a replica knows of the database's horizon.
#[derive(Default)]
struct Sweep {
    /// Everything below it has been told; `None` until everything has been read once.
    watermark: Option<i64>,
    /// Since when the horizon has stood still while transactions went on.
    stuck_since: Option<tokio::time::Instant>,
}

impl Sweep {
    /// A transaction that stays open holds the horizon back, and every sweep reads more.
    fn note_horizon(&mut self, changes: &snapshots::Changes) {
        let stuck = changes.trailing > 0 && self.watermark == Some(changes.horizon);
        self.stuck_since =
            stuck.then(|| self.stuck_since.unwrap_or_else(tokio::time::Instant::now));
        let age = self
            .stuck_since
            .map(|since| since.elapsed())
            .unwrap_or_default();
        metrics::gauge!("entitled_sweep_horizon_seconds").set(age.as_secs_f64());
        if age > HORIZON_AGE_MAX {
            warn!(
                seconds = age.as_secs(),
                "a transaction is open for long: end it"
            );
        }
    }
}
