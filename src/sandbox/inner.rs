//! What all parts of a running simulator share.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, watch};

use super::app_store::OcspAnswer;
use super::clockwork::IdleHook;
use super::control::Journey;
use super::error::SandboxError;
use super::google_play::oauth::Tokens;
use super::keys::{IdentityKeys, Keys};
use super::limits::Limits;
use super::setup::StoreSetup;
use super::state::{Turn, World, whole_millis};
use super::superwall;
use super::traffic::Traffic;
use crate::clock::VirtualClock;

/// One running simulator.
pub(super) struct Inner {
    pub(super) setup: StoreSetup,
    pub(super) dir: Option<PathBuf>,
    pub(super) clock: VirtualClock,
    pub(super) keys: Keys,
    pub(super) identity: Mutex<IdentityKeys>,
    pub(super) world: Mutex<World>,
    pub(super) traffic: Traffic,
    pub(super) limits: Limits,
    pub(super) ocsp: Mutex<OcspAnswer>,
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
    /// Told whenever anything may have changed, time included.
    pub(super) changed: watch::Sender<()>,
    /// Where the clock is being moved to.
    pub(super) journey: watch::Sender<Option<Journey>>,
    /// Whether only this machine reaches the listener.
    pub(super) loopback_only: bool,
}

impl Inner {
    /// One change of the world, saved before anybody hears of it.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut Turn<'_>) -> Result<T, SandboxError>,
    ) -> Result<T, SandboxError> {
        let mut world = self.world();
        let now = self.clock.now();
        let value = change(&mut Turn::new(&mut world, &self.setup, &self.keys, now))?;
        world.save(self.dir.as_deref())?;
        drop(world);
        self.planned.notify_one();
        self.changed.send_replace(());
        Ok(value)
    }

    /// A look at the world at this moment.
    pub(super) fn read<T>(&self, read: impl FnOnce(&World, DateTime<Utc>) -> T) -> T {
        read(&self.world(), whole_millis(self.clock.now()))
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
