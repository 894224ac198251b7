//! What all parts of a running simulator share.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, watch};

use super::agenda::Due;
use super::app_store::{LastToken, OcspAnswer};
use super::control::Journey;
use super::courier::IdleHook;
use super::error::SandboxError;
use super::google_play::oauth::Tokens;
use super::keys::{IdentityKeys, Keys};
use super::limits::Limits;
use super::pace::{Pace, Progress};
use super::recent::RecentCalls;
use super::saver::Saver;
use super::setup::StoreSetup;
use super::state::{Turn, World, whole_millis};
use super::superwall;
use super::traffic::{self, Traffic};
use crate::clock::VirtualClock;

/// One running simulator.
pub(super) struct Inner {
    pub(super) setup: StoreSetup,
    pub(super) dir: Option<PathBuf>,
    /// Keeps other simulators out of the directory while this one saves into it.
    pub(super) dir_lock: Mutex<Option<File>>,
    pub(super) clock: VirtualClock,
    pub(super) keys: Keys,
    pub(super) identity: Mutex<IdentityKeys>,
    pub(super) world: Mutex<World>,
    pub(super) traffic: Traffic,
    pub(super) recent: RecentCalls,
    pub(super) limits: Limits,
    pub(super) ocsp: Mutex<OcspAnswer>,
    /// Of the caller of Apple's API.
    pub(super) apple_caller: LastToken,
    pub(super) google_tokens: Tokens,
    pub(super) superwall_secrets: Mutex<superwall::Secrets>,
    /// Where the simulator is reached, without a slash at the end.
    pub(super) base_url: String,
    pub(super) client: reqwest::Client,
    /// Held by whoever plays events: they happen one after the other.
    pub(super) playing: tokio::sync::Mutex<()>,
    /// Told whenever the agenda may have changed.
    pub(super) planned: Notify,
    pub(super) idle_hook: Mutex<Option<IdleHook>>,
    /// Where a server in another process says whether it has settled.
    pub(super) idle_url: Mutex<Option<String>>,
    /// The time that such a server has been asked to reach.
    pub(super) followed: Mutex<DateTime<Utc>>,
    pub(super) pace: Mutex<Pace>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) saver: Saver,
    /// Told whenever anything may have changed, time included.
    pub(super) changed: watch::Sender<()>,
    /// Where the clock is being moved to.
    pub(super) journey: watch::Sender<Option<Journey>>,
    /// Whether only this machine reaches the listener.
    pub(super) loopback_only: bool,
}

impl Inner {
    /// One change of the world. While the state is small it is saved before anybody hears of it.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut Turn<'_>) -> Result<T, SandboxError>,
    ) -> Result<T, SandboxError> {
        let mut world = self.world();
        let now = self.clock.now();
        let value = change(&mut Turn::new(&mut world, &self.setup, &self.keys, now))?;
        if self.dir.is_some() && self.saver.soil() {
            self.save_now(&world)?;
        }
        drop(world);
        self.planned.notify_one();
        self.changed.send_replace(());
        Ok(value)
    }

    fn save_now(&self, world: &World) -> Result<(), SandboxError> {
        let began = Instant::now();
        world.save(self.dir.as_deref())?;
        self.saver.saved(began);
        Ok(())
    }

    /// Saves what is unsaved.
    pub(super) fn save(&self) -> Result<(), SandboxError> {
        let world = self.world();
        match self.saver.is_dirty() {
            true => self.save_now(&world),
            false => Ok(()),
        }
    }

    /// Saves what is unsaved, and never again: a request that is still under way must not write
    /// over what the next simulator keeps in the same directory.
    pub(super) fn save_last(&self) -> Result<(), SandboxError> {
        let world = self.world();
        let saved = match self.saver.close() {
            true => self.save_now(&world),
            false => Ok(()),
        };
        let mut lock = self.dir_lock.lock().unwrap_or_else(PoisonError::into_inner);
        *lock = None;
        saved
    }

    /// Saves what an explicit act has changed, unless the state is so large that it must wait.
    pub(super) fn save_if_small(&self) -> Result<(), SandboxError> {
        match self.saver.owes_little() {
            true => self.save(),
            false => Ok(()),
        }
    }

    /// Saves what its change did not, until told to stop.
    pub(super) async fn keep_saved(&self) {
        loop {
            self.saver.due().await;
            if let Err(error) = self.save() {
                tracing::error!(%error, "the simulator's state cannot be saved");
            }
        }
    }

    /// A look at the world at this moment; a call that a stale read was ordained for sees the
    /// world as of before its last changes.
    pub(super) fn read<T>(&self, read: impl FnOnce(&World, DateTime<Utc>) -> T) -> T {
        let now = whole_millis(self.clock.now());
        let mut world = self.world();
        match traffic::stale_seconds() {
            None => read(&world, now),
            Some(seconds) => {
                world.turn_back(now, seconds);
                let value = read(&world, now);
                world.turn_back(now, seconds);
                value
            }
        }
    }

    /// Replaces when an attempt to deliver a notification is due.
    pub(super) fn plan(&self, number: u64, at: Option<DateTime<Utc>>) {
        self.world().agenda.set(Due::Delivery(number), at);
    }

    pub(super) fn pace(&self) -> Pace {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that something has been played.
    pub(super) fn played(&self, note: impl FnOnce(&mut Progress)) {
        let now = self.clock.now();
        self.progress.send_modify(|progress| {
            progress.now = now;
            note(progress);
        });
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the OCSP responders say for now.
    pub(super) fn ocsp(&self) -> OcspAnswer {
        *self.ocsp.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn identity(&self) -> MutexGuard<'_, IdentityKeys> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
