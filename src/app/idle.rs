//! Whether a server has work left: what a simulator waits for between two moments.

use std::sync::Arc;
use std::time::Duration;

use crate::flows::Core;
use crate::storage::work;
use crate::telemetry;

/// How long work may rest before every job is told to look for it, while somebody waits for the end.
const IDLE_LOOK: Duration = Duration::from_millis(25);
/// Pauses between two looks whether any work is left.
const IDLE_PAUSE: Duration = Duration::from_micros(500);
const IDLE_PAUSE_MAX: Duration = Duration::from_millis(10);

/// Asks a running server whether it has work left.
#[derive(Clone)]
pub struct IdleProbe(Arc<Core>);

impl std::fmt::Debug for IdleProbe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdleProbe")
    }
}

impl IdleProbe {
    pub(super) fn of(core: Arc<Core>) -> Self {
        Self(core)
    }

    /// As [`super::App::idle`].
    pub async fn idle(&self, patience: Duration) -> bool {
        idle(&self.0, patience).await
    }
}

/// `true` once nothing is due and nothing in flight; `false` if there was still work after `patience`.
pub(super) async fn idle(core: &Core, patience: Duration) -> bool {
    let deadline = tokio::time::Instant::now() + patience;
    let mut asked = 0;
    let mut look = true;
    loop {
        let stepped = core.stepped.notified();
        tokio::pin!(stepped);
        stepped.as_mut().enable();
        if let Ok(false) = work::is_waiting(&core.db, core.clock.now()).await {
            return true;
        }
        if tokio::time::Instant::now() >= deadline {
            return false;
        }
        if look {
            core.ring_all();
        }
        look = tokio::time::timeout(IDLE_LOOK, stepped).await.is_err();
        // The longer the work, the less often it is asked for.
        asked += 1;
        let pause = IDLE_PAUSE * asked;
        tokio::time::sleep(pause.min(IDLE_PAUSE_MAX)).await;
    }
}

/// What a store simulator in another process asks between two moments.
pub(super) fn idle_answer(core: &Arc<Core>) -> telemetry::Idle {
    let core = Arc::clone(core);
    Arc::new(move |question| {
        let core = Arc::clone(&core);
        Box::pin(async move {
            let deadline = tokio::time::Instant::now() + question.patience;
            if let Some(at) = question.at {
                let reached = tokio::time::timeout_at(deadline, core.clock.sleep_until(at));
                if reached.await.is_err() {
                    return false;
                }
            }
            if question.clock_only {
                return true;
            }
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            idle(&core, left).await
        })
    })
}
