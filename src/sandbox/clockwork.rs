//! Lets time pass: every due event in its order, what it has to tell delivered before the next.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use tokio_util::sync::CancellationToken;

use super::agenda::Due;
use super::delivery::{self, Letter, NotificationRecord, Policy, Source};
use super::error::SandboxError;
use super::identity::PushToken;
use super::inner::Inner;
use super::state::Turn;

/// Awaited after each event, until the server under test has settled.
pub(super) type IdleHook = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// Pause before events are tried again that could not be played (a full disk, for instance).
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

impl Inner {
    /// A change made from outside, and everything that it causes at this moment.
    pub(super) async fn act<T>(
        &self,
        change: impl FnOnce(&mut Turn<'_>) -> Result<T, SandboxError>,
    ) -> Result<T, SandboxError> {
        let _playing = self.playing.lock().await;
        let value = self.change(change)?;
        self.play_until(self.clock.now()).await?;
        self.idle().await;
        Ok(value)
    }

    /// Moves the clock to `target` through every event on the way.
    pub(super) async fn advance_to(&self, target: DateTime<Utc>) -> Result<(), SandboxError> {
        let _playing = self.playing.lock().await;
        self.play_until(target).await?;
        self.clock.advance_to(target);
        self.idle().await;
        Ok(())
    }

    /// Sends one notification now, whatever became of it before.
    pub(super) async fn deliver(&self, id: &str) -> Result<NotificationRecord, SandboxError> {
        let _playing = self.playing.lock().await;
        let number = self.read(|world, _| world.outbox.find(id).map(|found| found.number));
        let number = number.ok_or(SandboxError::UnknownNotification)?;
        self.attempt(number, true).await?;
        self.idle().await;
        self.read(|world, _| world.outbox.get(number).map(|found| found.record.clone()))
            .ok_or(SandboxError::UnknownNotification)
    }

    /// Plays what falls due while the clock runs, until told to stop.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let next = self.read(|world, _| world.agenda.next());
            let due = async {
                match next {
                    Some(at) => self.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.planned.notified() => continue,
                () = due => {}
            }
            let playing = tokio::select! {
                () = stop.cancelled() => return,
                playing = self.playing.lock() => playing,
            };
            let played = tokio::select! {
                () = stop.cancelled() => return,
                played = self.play_until(self.clock.now()) => played,
            };
            drop(playing);
            if let Err(error) = played {
                tracing::error!(%error, "the simulator cannot play its events");
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
    }

    async fn play_until(&self, target: DateTime<Utc>) -> Result<(), SandboxError> {
        while let Some((at, due)) = self.read(|world, _| world.agenda.first_due(target)) {
            self.clock.advance_to(at);
            match due {
                Due::Delivery(number) => self.attempt(number, false).await?,
                Due::AppStore(_) | Due::GooglePlay(_) => self.change(|turn| turn.play(due))?,
            }
            let told = self.read(|world, now| {
                let next = world.agenda.first_due(now);
                !matches!(next, Some((_, Due::Delivery(_))))
            });
            if told {
                self.idle().await;
            }
        }
        Ok(())
    }

    async fn idle(&self) {
        let hook = self
            .idle_hook
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(hook) = hook {
            hook().await;
        }
    }

    /// One attempt to deliver a notification, noted with its outcome.
    async fn attempt(&self, number: u64, by_hand: bool) -> Result<(), SandboxError> {
        let letter = self.read(|world, now| {
            let policy = self.policy(world.outbox.get(number)?.record.source);
            Some((world.outbox.letter(number, policy)?, now))
        });
        let Some((letter, now)) = letter else {
            // The URL has been taken away; there is nothing left to do.
            return self.change(|turn| {
                turn.world.agenda.set(Due::Delivery(number), None);
                Ok(())
            });
        };
        let policy = self.policy(letter.source);
        let proofs = self.proofs(&letter)?;
        let attempt = delivery::send(&self.client, letter, proofs, now).await;
        self.change(|turn| {
            let next = turn.world.outbox.note(number, attempt, policy, by_hand);
            turn.world.agenda.set(Due::Delivery(number), next);
            Ok(())
        })
    }

    fn policy(&self, source: Source) -> Policy {
        Policy::new(source, self.setup.environment, self.setup.deliveries)
    }

    /// The headers that prove who sends.
    fn proofs(&self, letter: &Letter) -> Result<HeaderMap, SandboxError> {
        match letter.source {
            // Apple's documents carry their proof inside.
            Source::AppStore => Ok(HeaderMap::new()),
            // Pub/Sub signs in anew for every push.
            Source::GooglePlay => {
                let token = self.push_token(&PushToken::default())?;
                let bearer = HeaderValue::from_str(&format!("Bearer {token}"))
                    .map_err(|error| SandboxError::Key(error.to_string()))?;
                Ok(HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
            }
            Source::Superwall => self.superwall_proofs(letter),
        }
    }
}

impl Turn<'_> {
    fn play(&mut self, event: Due) -> Result<(), SandboxError> {
        self.world.agenda.set(event.clone(), None);
        match event {
            Due::AppStore(id) => self.app_store_play(&id),
            Due::GooglePlay(token) => {
                self.google_play_play(&token);
                Ok(())
            }
            Due::Delivery(_) => Ok(()),
        }
    }
}
