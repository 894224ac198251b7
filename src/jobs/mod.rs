//! The worker: what must happen by itself, on any number of replicas at once.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::flows::fulfil_duties::{alarm_unacknowledged, fulfil_duties};
use crate::flows::pass_time::pass_time;
use crate::flows::reconcile::reconcile_due;
use crate::flows::resolve::resolve_batch;
use crate::flows::{Core, apply_catalog};
use crate::storage::{StorageError, chains, ingress, snapshots};

/// Polling is the fallback: work that another replica queued, leases that ran out.
const POLL: Duration = Duration::from_millis(300);
const TIME_POLL: Duration = Duration::from_secs(1);
const DUTIES_POLL: Duration = Duration::from_secs(2);
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(10);
/// After a failure (the database away) nobody hammers it.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs every job until stopped.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let pipeline = stop.run_until_cancelled(pipeline(&core));
    let time = stop.run_until_cancelled(time(&core));
    let duties = stop.run_until_cancelled(duties(&core));
    let housekeeping = stop.run_until_cancelled(housekeeping(&core));
    let _ = tokio::join!(pipeline, time, duties, housekeeping);
}

/// Reads raw rows, then reconciles what they made dirty, until there is nothing left.
async fn pipeline(core: &Arc<Core>) {
    loop {
        let rung = core.work.notified();
        let done = async {
            let read = resolve_batch(core).await?;
            let settled = reconcile_due(core).await?;
            Ok::<_, StorageError>(read + settled)
        };
        match done.await {
            Ok(0) => {
                tokio::select! {
                    () = rung => {}
                    () = tokio::time::sleep(POLL) => {}
                }
            }
            Ok(_) => {}
            Err(error) => {
                warn!(%error, "the pipeline pauses");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Commits transitions at their moment: sleeps until the next one by business time.
async fn time(core: &Arc<Core>) {
    loop {
        match pass_time(core).await {
            Ok(0) => {}
            Ok(_) => continue,
            Err(error) => {
                warn!(%error, "passing time pauses");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        }
        let next = snapshots::next_due(&core.db).await.ok().flatten();
        tokio::select! {
            () = async {
                match next {
                    Some(at) => core.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            } => {}
            () = tokio::time::sleep(TIME_POLL) => {}
        }
    }
}

async fn duties(core: &Arc<Core>) {
    loop {
        let rung = core.duties.notified();
        match fulfil_duties(core).await {
            Ok(0) => {
                tokio::select! {
                    () = rung => {}
                    () = tokio::time::sleep(DUTIES_POLL) => {}
                }
            }
            Ok(_) => {}
            Err(error) => {
                warn!(%error, "duties pause");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn housekeeping(core: &Arc<Core>) {
    loop {
        if let Err(error) = keep_house(core).await {
            warn!(%error, "housekeeping failed");
        }
        tokio::time::sleep(HOUSEKEEPING_EVERY).await;
    }
}

async fn keep_house(core: &Arc<Core>) -> Result<(), StorageError> {
    apply_catalog::follow(core).await?;
    alarm_unacknowledged(core).await?;
    let rows = ingress::backlog(&core.db).await?;
    let chains = chains::backlog(&core.db, core.clock.now()).await?;
    metrics::gauge!("entitled_ingress_backlog").set(rows as f64);
    metrics::gauge!("entitled_chains_due").set(chains as f64);
    Ok(())
}
