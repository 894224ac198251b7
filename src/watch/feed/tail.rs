//! The one task of a replica that reads the changes of all accounts, for all feeds at once.

use std::sync::PoisonError;
use std::time::Duration;

use tracing::debug;

use super::{FeedError, Feeds, PAGE};

/// Without a hint, the next read is so much later: hints may be lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// However many changes there are, a read takes those of so long together.
const GATHERED_FOR: Duration = Duration::from_millis(3);
const RETRY_PAUSE: Duration = Duration::from_millis(200);

impl Feeds {
    /// Starts the task, unless it runs.
    pub(super) fn ensure_tailed(&self) {
        let mut tailed = self.0.tailed.lock().unwrap_or_else(PoisonError::into_inner);
        if !*tailed {
            *tailed = true;
            tokio::spawn(tail(self.clone()));
        }
        self.0.wanted.notify_one();
    }

    /// Whether there is nobody to read for; then the task has ended, and what it had read is gone.
    fn ends_unread(&self) -> bool {
        let mut tailed = self.0.tailed.lock().unwrap_or_else(PoisonError::into_inner);
        let unread = self.0.open.available_permits() == super::FEEDS_MAX;
        if unread {
            *tailed = false;
            self.turn(super::Window::clear);
        }
        unread
    }
}

async fn tail(feeds: Feeds) {
    loop {
        match step(&feeds).await {
            // There is more of this step.
            Ok(false) => continue,
            Ok(true) => {}
            Err(error) => {
                debug!(%error, "the feed was not read");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
        tokio::select! {
            () = feeds.0.hub.changed() => tokio::time::sleep(GATHERED_FOR).await,
            () = feeds.0.wanted.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if feeds.ends_unread() {
            return;
        }
    }
}

/// Reads the next page into the window; whether its step is complete.
async fn step(feeds: &Feeds) -> Result<bool, FeedError> {
    let (position, epoch) = feeds.look(|window| (window.position(), window.epoch().to_owned()));
    let Some(position) = position else {
        return begin(feeds).await;
    };
    let (target, after) = position.step.unzip();
    let read = feeds.read(&position.seen, target.as_ref(), after, PAGE, &epoch);
    let page = match read.await {
        Err(FeedError::Expired) => return begin(feeds).await,
        page => page?,
    };
    let complete = page.complete;
    let target = target.unwrap_or_else(|| page.now.clone());
    feeds.turn(|window| window.push(target, page));
    Ok(complete)
}

async fn begin(feeds: &Feeds) -> Result<bool, FeedError> {
    let here = feeds.here().await?;
    feeds.turn(|window| window.begin(&here.epoch, here.now));
    Ok(true)
}
