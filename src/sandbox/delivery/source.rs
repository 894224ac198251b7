//! Who sends notifications, and where to.

use serde::{Deserialize, Serialize};

/// One of the two simulated stores: where something is bought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// Apple's App Store.
    AppStore,
    /// Google Play.
    GooglePlay,
}

/// Who sends a notification: a store, or somebody who relays what the stores say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Apple: App Store Server Notifications V2.
    AppStore,
    /// Google: developer notifications over Pub/Sub push.
    GooglePlay,
    /// Superwall: webhooks over Svix.
    Superwall,
}

impl From<Store> for Source {
    fn from(store: Store) -> Self {
        match store {
            Store::AppStore => Self::AppStore,
            Store::GooglePlay => Self::GooglePlay,
        }
    }
}

impl PartialEq<Store> for Source {
    fn eq(&self, store: &Store) -> bool {
        *self == Self::from(*store)
    }
}

/// Where each source sends its notifications.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhooks {
    /// URL for App Store Server Notifications V2.
    pub app_store: Option<String>,
    /// URL that Pub/Sub pushes Google's developer notifications to.
    pub google_play: Option<String>,
    /// URL for Superwall's webhooks.
    pub superwall: Option<String>,
}

impl Webhooks {
    pub(super) fn of(&self, source: Source) -> Option<&String> {
        match source {
            Source::AppStore => self.app_store.as_ref(),
            Source::GooglePlay => self.google_play.as_ref(),
            Source::Superwall => self.superwall.as_ref(),
        }
    }

    /// A source has given the URL up; it is used again once it is set again.
    pub(in crate::sandbox) fn shut_off(&mut self, source: Source) {
        match source {
            Source::AppStore => self.app_store = None,
            Source::GooglePlay => self.google_play = None,
            Source::Superwall => self.superwall = None,
        }
    }
}
