//! Everything the simulator remembers, and the turn in which it changes.

use std::path::Path;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::agenda::{Agenda, Due};
use super::app_store::AppStore;
use super::customers::Customers;
use super::delivery::{Notification, Outbox, Source};
use super::disk;
use super::error::SandboxError;
use super::google_play::GooglePlay;
use super::ids::Ids;
use super::keys::Keys;
use super::setup::StoreSetup;
use super::sins::Sins;
use super::superwall::Superwall;

const FILE: &str = "state.json";

/// The state of both stores and of everything they have said.
#[derive(Serialize, Deserialize)]
pub(super) struct World {
    pub(super) ids: Ids,
    /// Business time of the last change; a simulator loaded from disk never starts before it.
    pub(super) time: DateTime<Utc>,
    /// The last stamp given out; see [`Turn::stamp`].
    last_stamp: DateTime<Utc>,
    pub(super) app_store: AppStore,
    pub(super) google_play: GooglePlay,
    #[serde(default)]
    pub(super) superwall: Superwall,
    pub(super) outbox: Outbox,
    #[serde(default)]
    pub(super) customers: Customers,
    #[serde(default)]
    pub(super) sins: Sins,
    #[serde(skip)]
    pub(super) agenda: Agenda,
}

impl World {
    pub(super) fn load_or_new(
        dir: Option<&Path>,
        seed: u64,
        setup: &StoreSetup,
    ) -> Result<Self, SandboxError> {
        let stored: Option<Self> = match dir {
            Some(dir) => disk::read(&dir.join(FILE))?,
            None => None,
        };
        let mut world = stored.unwrap_or_else(|| Self {
            ids: Ids::new(seed),
            time: DateTime::UNIX_EPOCH,
            last_stamp: DateTime::UNIX_EPOCH,
            app_store: AppStore::default(),
            google_play: GooglePlay::default(),
            superwall: Superwall::default(),
            outbox: Outbox::default(),
            customers: Customers::default(),
            sins: Sins::default(),
            agenda: Agenda::default(),
        });
        world.plan_all(setup);
        Ok(world)
    }

    pub(super) fn save(&self, dir: Option<&Path>) -> Result<(), SandboxError> {
        dir.map_or(Ok(()), |dir| disk::write(&dir.join(FILE), self))
    }

    /// The agenda is not kept on disk: it follows from the rest.
    fn plan_all(&mut self, setup: &StoreSetup) {
        for (id, chain) in &self.app_store.chains {
            let at = chain.next_due(&setup.timing);
            self.agenda.set(Due::AppStore(id.clone()), at);
        }
        for (token, purchase) in &self.google_play.purchases {
            let at = purchase.next_due(setup);
            self.agenda.set(Due::GooglePlay(token.clone()), at);
        }
        for notification in self.outbox.all() {
            let due = Due::Delivery(notification.number);
            self.agenda.set(due, notification.next_attempt);
        }
    }

    /// Exchanges whatever has changed within the last seconds with what it was before; the second
    /// call undoes the first.
    pub(super) fn turn_back(&mut self, now: DateTime<Utc>, seconds: u32) {
        let since = now - TimeDelta::seconds(seconds.into());
        self.app_store.chains.turn_back(since);
        self.google_play.purchases.turn_back(since);
    }

    /// The stamp on documents that are signed while nothing changes.
    pub(super) fn read_stamp(&self, source: Source, now: DateTime<Utc>) -> DateTime<Utc> {
        self.shown(source, now.max(self.last_stamp))
    }

    /// What the clock of a source makes of a moment.
    pub(super) fn shown(&self, source: Source, at: DateTime<Utc>) -> DateTime<Utc> {
        self.sins.clock.stamp(self.ids.seed(), source, at)
    }
}

/// One change of the world, at one moment, under the lock.
pub(super) struct Turn<'a> {
    pub(super) world: &'a mut World,
    pub(super) setup: &'a StoreSetup,
    pub(super) keys: &'a Keys,
    /// Business time, in whole milliseconds as the stores write it.
    pub(super) now: DateTime<Utc>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(
        world: &'a mut World,
        setup: &'a StoreSetup,
        keys: &'a Keys,
        now: DateTime<Utc>,
    ) -> Self {
        let now = whole_millis(now);
        world.time = world.time.max(now);
        world.app_store.chains.begin_turn(now);
        world.google_play.purchases.begin_turn(now);
        Self {
            world,
            setup,
            keys,
            now,
        }
    }

    /// When a source says something: now, but never twice the same, because the stores' stamps
    /// order what they say even while a stopped clock shows one moment.
    pub(super) fn stamp(&mut self, source: Source) -> DateTime<Utc> {
        let next = self.world.last_stamp + TimeDelta::milliseconds(1);
        self.world.last_stamp = self.now.max(next);
        self.world.shown(source, self.world.last_stamp)
    }

    /// Puts a notification into the outbox, to be delivered at once unless deliveries are held.
    pub(super) fn send(&mut self, notification: Notification) {
        let world = &mut *self.world;
        let number = world.outbox.next_number();
        let sins = world.sins.deliveries.draw(world.ids.seed(), number);
        for (number, next) in world.outbox.push(notification, sins) {
            world.agenda.set(Due::Delivery(number), next);
        }
    }
}

/// Cuts to the milliseconds that the stores' documents carry.
pub(super) fn whole_millis(at: DateTime<Utc>) -> DateTime<Utc> {
    at.duration_trunc(TimeDelta::milliseconds(1)).unwrap_or(at)
}
