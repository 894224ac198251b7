//! The worker: what must happen by itself, on any number of replicas at once.

mod healing;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub(crate) use self::healing::keep_beating;
use crate::flows::fulfil_duties::{fulfil, take_due, watch_deadlines};
use crate::flows::pass_time::pass_time;
use crate::flows::reconcile::{claim_due, reconcile_claimed};
use crate::flows::resolve::resolve_batch;
use crate::flows::rotate_keys;
use crate::flows::spread_catalog::{self, Spread, Stepped};
use crate::flows::{Core, apply_catalog};
use crate::storage::{StorageError, catalogs, chains, ingress, snapshots};

/// Polling is the fallback: work that another replica queued, leases that ran out.
const POLL: Duration = Duration::from_millis(300);
const TIME_POLL: Duration = Duration::from_secs(1);
const DUTIES_POLL: Duration = Duration::from_secs(2);
/// Calls to stores for duties, under way at once.
const DUTIES_AT_ONCE: usize = 16;
const CATALOG_POLL: Duration = Duration::from_secs(2);
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(10);
/// After a failure (the database away) nobody hammers it.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs every job until stopped; what is under way is finished.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let resolve = stop.run_until_cancelled(resolve(&core));
    let reconcile = reconcile(&core, &stop);
    let time = stop.run_until_cancelled(time(&core));
    let duties = duties(&core, &stop);
    let housekeeping = stop.run_until_cancelled(housekeeping(&core));
    let healing = stop.run_until_cancelled(healing::run(&core));
    let catalog = stop.run_until_cancelled(spread_catalog(&core));
    let _ = tokio::join!(
        resolve,
        reconcile,
        time,
        duties,
        housekeeping,
        healing,
        catalog
    );
}

/// Reads raw rows and marks their chains dirty.
async fn resolve(core: &Arc<Core>) {
    loop {
        let rung = core.received.notified();
        match resolve_batch(core).await {
            Ok(0) => {
                tokio::select! {
                    () = rung => {}
                    () = tokio::time::sleep(POLL) => {}
                }
            }
            Ok(_) => {
                core.work.notify_one();
                core.stepped.notify_waiters();
            }
            Err(error) => {
                warn!(%error, "reading notifications pauses");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Reconciles what is due. A chain whose store hangs takes one place, and holds up no other.
async fn reconcile(core: &Arc<Core>, stop: &CancellationToken) {
    let mut running = JoinSet::new();
    while !stop.is_cancelled() {
        let rung = core.work.notified();
        // A claim may bring more than there was room for.
        let free = core.tuning.concurrency.saturating_sub(running.len());
        let claimed = match free {
            0 => Ok(Vec::new()),
            free => claim_due(core, free).await,
        };
        let pause = match claimed {
            Ok(claimed) => {
                for claimed in claimed {
                    let core = Arc::clone(core);
                    running.spawn(async move {
                        reconcile_claimed(&core, claimed).await;
                        core.stepped.notify_waiters();
                    });
                }
                POLL
            }
            Err(error) => {
                warn!(%error, "reconciling pauses");
                PAUSE
            }
        };
        tokio::select! {
            () = rung => {}
            () = tokio::time::sleep(pause) => {}
            Some(_) = running.join_next() => {}
            () = stop.cancelled() => {}
        }
    }
    running.join_all().await;
}

/// Applies the file that the process was started with, and takes up new catalogs: every role needs
/// the newest.
pub(crate) async fn follow_catalog(
    core: Arc<Core>,
    file: Option<Result<String, String>>,
    stop: CancellationToken,
) {
    let start = async {
        if let Some(text) = file {
            apply_catalog::apply_start_file(&core, text).await;
        }
    };
    let follow = async {
        loop {
            if let Err(error) = apply_catalog::follow(&core).await {
                warn!(%error, "the catalog could not be looked at");
            }
            tokio::time::sleep(CATALOG_POLL).await;
        }
    };
    let both = async { tokio::join!(start, follow) };
    stop.run_until_cancelled(both).await;
}

/// Takes up new root keys: what another process has sealed is read, and what is new is sealed under
/// the newest.
pub(crate) async fn follow_keys(core: Arc<Core>, stop: CancellationToken) {
    let follow = async {
        let keyring = core.db.keyring();
        loop {
            tokio::select! {
                () = tokio::time::sleep(rotate_keys::TAKEN_UP_WITHIN / 2) => {}
                () = keyring.wanted() => {}
            }
            if let Err(error) = keyring.refresh(&core.db).await {
                warn!(%error, "the encryption keys could not be looked at");
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    stop.run_until_cancelled(follow).await;
}

/// Has accounts derived by the newest catalog.
async fn spread_catalog(core: &Arc<Core>) {
    let mut spread = Spread::default();
    loop {
        let rung = core.catalog_taken_up.notified();
        let pause = match spread_catalog::step(core, &mut spread).await {
            Ok(Stepped::Worked) => {
                core.stepped.notify_waiters();
                continue;
            }
            Ok(Stepped::Waits(pause)) => pause,
            Ok(Stepped::Rests) => {
                core.stepped.notify_waiters();
                TIME_POLL
            }
            Err(error) => {
                warn!(%error, "accounts come to the newest catalog later");
                PAUSE
            }
        };
        tokio::select! {
            () = rung => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Commits transitions at their moment: sleeps until the next one by business time.
async fn time(core: &Arc<Core>) {
    loop {
        let rung = core.transitions.notified();
        match pass_time(core).await {
            Ok(0) => {}
            Ok(_) => {
                core.stepped.notify_waiters();
                continue;
            }
            Err(error) => {
                warn!(%error, "passing time pauses");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        }
        let next = snapshots::next_due(&core.db, core.catalog.load().version())
            .await
            .ok()
            .flatten();
        tokio::select! {
            () = async {
                match next {
                    Some(at) => core.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            } => {}
            () = rung => {}
            () = tokio::time::sleep(TIME_POLL) => {}
        }
    }
}

/// Carries duties out. One whose store hangs takes one place, and holds up no other.
async fn duties(core: &Arc<Core>, stop: &CancellationToken) {
    let mut running = JoinSet::new();
    while !stop.is_cancelled() {
        let rung = core.duties.notified();
        let taken = match DUTIES_AT_ONCE.saturating_sub(running.len()) {
            0 => Ok(Vec::new()),
            free => take_due(core, free).await,
        };
        let pause = match taken {
            Ok(taken) => {
                for duty in taken {
                    let core = Arc::clone(core);
                    running.spawn(async move {
                        fulfil(&core, duty).await;
                        core.stepped.notify_waiters();
                    });
                }
                DUTIES_POLL
            }
            Err(error) => {
                warn!(%error, "duties pause");
                PAUSE
            }
        };
        tokio::select! {
            () = rung => {}
            () = tokio::time::sleep(pause) => {}
            Some(_) = running.join_next() => {}
            () = stop.cancelled() => {}
        }
    }
    running.join_all().await;
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
    if ingress::wake_all(&core.db).await? > 0 {
        core.received.notify_one();
    }
    watch_deadlines(core).await?;
    let rows = ingress::backlog(&core.db).await?;
    let chains = chains::backlog(&core.db, core.clock.now()).await?;
    let behind = catalogs::behind(&core.db, core.catalog.load().version()).await?;
    metrics::gauge!("entitled_ingress_backlog").set(rows as f64);
    let underived = catalogs::underived(&core.db, core.catalog.load().version()).await?;
    metrics::gauge!("entitled_catalog_accounts_behind").set(behind as f64);
    metrics::gauge!("entitled_catalog_accounts_underived").set(underived.count as f64);
    metrics::gauge!("entitled_chains_due").set(chains as f64);
    Ok(())
}
