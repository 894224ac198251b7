//! The jobs that mend: sweeps, the watch over sources, retention. Polled, never rung: nothing waits
//! for them.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::flows::retain::retain_if_due;
use crate::flows::sweep::{Swept, sweep_round};
use crate::flows::watch_sources::{beat, listen};
use crate::flows::{Core, StorageError};

const SWEEP_POLL: Duration = Duration::from_secs(2);
/// Google allows 30 calls in 30 s for one app.
const PAGE_PAUSE: Duration = Duration::from_millis(1_100);
/// A store that does not answer is not hammered.
const AWAY_PAUSE: Duration = Duration::from_secs(30);
const LISTEN_EVERY: Duration = Duration::from_secs(30);
const RETAIN_POLL: Duration = Duration::from_secs(60);
const BEAT_EVERY: Duration = Duration::from_secs(15);
/// After a failure of the database.
const PAUSE: Duration = Duration::from_secs(2);

/// Runs the workers' share until dropped.
pub(super) async fn run(core: &Arc<Core>) {
    tokio::join!(
        sweep(core),
        repeat(core, "listening", LISTEN_EVERY, listen),
        repeat(core, "retention", RETAIN_POLL, retain_if_due),
    );
}

async fn sweep(core: &Core) {
    loop {
        let pause = match sweep_round(core).await {
            Ok(Swept::Pages) => PAGE_PAUSE,
            Ok(Swept::Nothing) => SWEEP_POLL,
            Ok(Swept::Away) => AWAY_PAUSE,
            Err(error) => {
                warn!(%error, "sweeps pause");
                PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn repeat<'a, F>(
    core: &'a Core,
    what: &'static str,
    every: Duration,
    job: impl Fn(&'a Core) -> F,
) where
    F: Future<Output = Result<(), StorageError>>,
{
    loop {
        if let Err(error) = job(core).await {
            warn!(%error, "{what} failed; tried again");
        }
        tokio::time::sleep(every).await;
    }
}

/// Says that notifications are taken here, for as long as they are.
pub(crate) async fn keep_beating(core: Arc<Core>, stop: CancellationToken) {
    let beating = async {
        loop {
            if let Err(error) = beat(&core).await {
                warn!(%error, "no sign of life could be left");
            }
            tokio::time::sleep(BEAT_EVERY).await;
        }
    };
    stop.run_until_cancelled(beating).await;
}
