//! Who sold it, and in which world.

use serde::{Deserialize, Serialize};

/// A store whose signed or fetched answer is proof of purchase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Provider {
    AppStore,
    GooglePlay,
}

impl Provider {
    pub(crate) const ALL: [Self; 2] = [Self::AppStore, Self::GooglePlay];

    /// The word used in SQL, logs, metrics and the catalog.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::AppStore => "app_store",
            Self::GooglePlay => "google_play",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == word)
    }

    /// As a person reads it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::AppStore => "App Store",
            Self::GooglePlay => "Google Play",
        }
    }
}

impl std::fmt::Display for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who sends webhooks: the stores, and one that only listens to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    Store(Provider),
    /// Relays what the stores say: never proof of anything.
    Superwall,
}

impl Source {
    /// The word used in SQL, logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Store(provider) => provider.as_str(),
            Self::Superwall => "superwall",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        let stores = Provider::ALL.into_iter().map(Self::Store);
        let mut all = stores.chain([Self::Superwall]);
        all.find(|source| source.as_str() == word)
    }
}

/// Whether real money moved; a fact told by the store, never by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Environment {
    /// Best first where both exist: production wins.
    Production,
    /// TestFlight, App Review, sandbox accounts, licence testers.
    Sandbox,
}

impl Environment {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Sandbox => "sandbox",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Production, Self::Sandbox]
            .into_iter()
            .find(|environment| environment.as_str() == word)
    }
}
