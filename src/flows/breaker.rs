//! A circuit breaker per store: while a store fails, most calls are not made.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::provider::Provider;

const FAILURES_TO_OPEN: u32 = 8;
const OPEN_FOR: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Breakers {
    app_store: Breaker,
    google_play: Breaker,
}

impl Breakers {
    pub(super) fn of(&self, provider: Provider) -> &Breaker {
        match provider {
            Provider::AppStore => &self.app_store,
            Provider::GooglePlay => &self.google_play,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    /// Whether to call. When an open breaker's pause ends, one caller goes first.
    pub(super) fn allows(&self) -> bool {
        let mut state = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match state.open_until {
            Some(until) if Instant::now() < until => false,
            Some(_) => {
                state.open_until = Some(Instant::now() + OPEN_FOR);
                true
            }
            None => true,
        }
    }

    pub(super) fn succeeded(&self) {
        *self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = State::default();
    }

    pub(super) fn failed(&self) {
        let mut state = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        state.failures += 1;
        if state.failures >= FAILURES_TO_OPEN {
            state.open_until = Some(Instant::now() + OPEN_FOR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_open_breaker_lets_one_call_through_after_its_pause() {
        let breaker = Breaker::default();
        for _ in 0..FAILURES_TO_OPEN {
            assert!(breaker.allows());
            breaker.failed();
        }
        assert!(!breaker.allows());
        tokio::time::advance(OPEN_FOR).await;
        assert!(breaker.allows());
        assert!(
            !breaker.allows(),
            "the others wait for the first one's luck"
        );
        breaker.succeeded();
        assert!(breaker.allows());
    }
}
