//! Carries notifications to the server under test, one attempt at a time, and knows when that
//! server has settled.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use futures::future::BoxFuture;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::agenda::Due;
use super::delivery::{self, Letter, NotificationRecord, Policy, Source};
use super::error::SandboxError;
use super::identity::PushToken;
use super::inner::Inner;

/// Awaited after each event, until the server under test has settled.
pub(super) type IdleHook = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// How long a server in another process is waited for in one request, and altogether.
const IDLE_WAIT: Duration = Duration::from_secs(5);
const IDLE_PATIENCE: Duration = Duration::from_secs(30);
/// How long its clock may take to catch up, and by how much it may be behind.
const FOLLOW_WAIT: Duration = Duration::from_secs(2);
const UNFOLLOWED_MAX: TimeDelta = TimeDelta::seconds(1);
/// Pause before a server is asked again that was not idle or did not answer.
const IDLE_PAUSE: Duration = Duration::from_millis(100);

/// What an attempt sends.
enum Errand {
    Send(Letter, DateTime<Utc>),
    /// The network loses it.
    Lose(Source, DateTime<Utc>),
    /// The URL has been taken away, or the body is no longer kept.
    Nothing,
}

impl Inner {
    /// One attempt to deliver a notification, noted with its outcome.
    pub(super) async fn attempt(&self, number: u64, by_hand: bool) -> Result<(), SandboxError> {
        self.be_followed().await;
        let (source, sent, lost) = match self.errand(number, by_hand) {
            Errand::Nothing if by_hand => {
                return Err(SandboxError::Refused(
                    "its source knows no webhook URL, or its body is no longer kept",
                ));
            }
            Errand::Nothing => {
                return self.change(|turn| {
                    turn.world.outbox.strand(number);
                    turn.world.agenda.set(Due::Delivery(number), None);
                    Ok(())
                });
            }
            Errand::Lose(source, at) => (source, delivery::lost(at), true),
            Errand::Send(letter, at) => {
                let (source, proofs) = (letter.source, self.proofs(&letter)?);
                let sent = delivery::send(&self.client, letter, proofs, at).await;
                (source, sent, false)
            }
        };
        let policy = self.policy(source);
        self.played(|progress| progress.signals += 1);
        self.change(|turn| {
            let outbox = &mut turn.world.outbox;
            let next = outbox.note(number, sent, policy, by_hand);
            if lost {
                outbox.drop_one(number);
            }
            turn.world.agenda.set(Due::Delivery(number), next);
            Ok(())
        })
    }

    fn errand(&self, number: u64, by_hand: bool) -> Errand {
        self.read(|world, now| {
            let outbox = &world.outbox;
            let Some(notification) = outbox.get(number) else {
                return Errand::Nothing;
            };
            let source = notification.record.source;
            if !by_hand && outbox.loses(number) {
                return Errand::Lose(source, now);
            }
            outbox
                .letter(number, self.policy(source), by_hand)
                .map_or(Errand::Nothing, |letter| Errand::Send(letter, now))
        })
    }

    /// Sends one notification now, whatever became of it before.
    pub(super) async fn deliver(&self, id: &str) -> Result<NotificationRecord, SandboxError> {
        let _playing = self.playing.lock().await;
        let number = self.read(|world, _| world.outbox.find(id).map(|found| found.number));
        let number = number.ok_or(SandboxError::UnknownNotification)?;
        self.attempt(number, true).await?;
        self.settle().await;
        self.save_if_small()?;
        self.read(|world, _| world.outbox.get(number).map(|found| found.record.clone()))
            .ok_or(SandboxError::UnknownNotification)
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

/// Whether the server under test has settled.
impl Inner {
    /// Returns once the server under test has settled, if it can be asked.
    pub(super) async fn settle(&self) {
        let began = Instant::now();
        let hook = self
            .idle_hook
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(hook) = hook {
            hook().await;
        }
        if let Some(url) = self.idle_url() {
            self.settle_elsewhere(&url).await;
        }
        self.played(|progress| progress.settling += began.elapsed());
    }

    /// A server in another process must not hear of something before its clock shows when that was.
    async fn be_followed(&self) {
        let Some(url) = self.idle_url() else {
            return;
        };
        let now = self.clock.now();
        let behind = {
            let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
            let behind = now - *followed;
            *followed = now;
            behind
        };
        if behind > UNFOLLOWED_MAX {
            let question = [
                ("wait", FOLLOW_WAIT.as_millis().to_string()),
                ("at", written(now)),
                ("clock_only", "true".to_owned()),
            ];
            let asked = self.client.get(url).query(&question);
            // Whoever does not understand the question is none who follows.
            let _ = asked.timeout(FOLLOW_WAIT * 2).send().await;
        }
    }

    fn idle_url(&self) -> Option<String> {
        self.idle_url
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Asks a server in another process until it has caught up with this clock and has nothing to
    /// do. One that cannot be asked, or has no end of work, is not waited for for ever.
    async fn settle_elsewhere(&self, url: &str) {
        let at = written(self.clock.now());
        let began = Instant::now();
        loop {
            let wait = IDLE_WAIT.as_millis().to_string();
            let asked = self
                .client
                .get(url)
                .query(&[("wait", wait.as_str()), ("at", at.as_str())])
                .timeout(IDLE_WAIT * 2)
                .send()
                .await;
            let answer = match asked {
                Ok(answer) if answer.status().is_success() => return,
                Ok(answer) => answer.status().to_string(),
                Err(error) => error.without_url().to_string(),
            };
            if began.elapsed() > IDLE_PATIENCE {
                tracing::warn!(
                    answer,
                    "the server under test does not say that it is idle; going on without it: is \
                     the idle URL right?"
                );
                return;
            }
            // Whoever answers at once, as to a wrong URL, is not hammered.
            tokio::time::sleep(IDLE_PAUSE).await;
        }
    }
}

fn written(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}
