//! The steps of setting up, in their order: the documents, `setup` and `doctor` all count by these.

use serde::{Serialize, Serializer};

/// Whose steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Guide {
    /// `docs/stores/README.md`
    Server,
    /// `docs/stores/app-store.md`
    AppStore,
    /// `docs/stores/google-play.md`
    GooglePlay,
}

const SERVER: &[&str] = &[
    "Configuration",
    "Database",
    "Encryption key",
    "Clocks",
    "Catalog",
    "Sign-in",
    "Public address",
];

const APP_STORE: &[&str] = &[
    "The app",
    "Products",
    "In-App Purchase key",
    "Notification URLs",
    "Your app's code",
    "The first sandbox purchase",
];

const GOOGLE_PLAY: &[&str] = &[
    "The app",
    "Service account",
    "Permissions",
    "Products and base plans",
    "Topic",
    "Push subscription",
    "Your app's code",
    "The first test purchase",
];

impl Guide {
    #[cfg(test)]
    const ALL: [Self; 3] = [Self::Server, Self::AppStore, Self::GooglePlay];

    /// The document that explains its steps.
    pub(crate) fn document(self) -> &'static str {
        match self {
            Self::Server => "docs/stores/README.md",
            Self::AppStore => "docs/stores/app-store.md",
            Self::GooglePlay => "docs/stores/google-play.md",
        }
    }

    /// As a person reads it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::AppStore => "App Store",
            Self::GooglePlay => "Google Play",
        }
    }

    /// What each step is called, the first first.
    pub(crate) fn titles(self) -> &'static [&'static str] {
        match self {
            Self::Server => SERVER,
            Self::AppStore => APP_STORE,
            Self::GooglePlay => GOOGLE_PLAY,
        }
    }
}

/// One step: the guide and its number there, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Step {
    pub(crate) guide: Guide,
    pub(crate) number: usize,
}

impl Step {
    pub(crate) const CONFIGURATION: Self = Self::new(Guide::Server, 1);
    pub(crate) const DATABASE: Self = Self::new(Guide::Server, 2);
    pub(crate) const ENCRYPTION: Self = Self::new(Guide::Server, 3);
    pub(crate) const CLOCKS: Self = Self::new(Guide::Server, 4);
    pub(crate) const CATALOG: Self = Self::new(Guide::Server, 5);
    pub(crate) const SIGN_IN: Self = Self::new(Guide::Server, 6);
    pub(crate) const ADDRESS: Self = Self::new(Guide::Server, 7);

    pub(crate) const APPLE_APP: Self = Self::new(Guide::AppStore, 1);
    pub(crate) const APPLE_PRODUCTS: Self = Self::new(Guide::AppStore, 2);
    pub(crate) const APPLE_KEY: Self = Self::new(Guide::AppStore, 3);
    pub(crate) const APPLE_NOTIFICATIONS: Self = Self::new(Guide::AppStore, 4);
    pub(crate) const APPLE_CODE: Self = Self::new(Guide::AppStore, 5);
    pub(crate) const APPLE_PURCHASE: Self = Self::new(Guide::AppStore, 6);

    pub(crate) const GOOGLE_APP: Self = Self::new(Guide::GooglePlay, 1);
    pub(crate) const GOOGLE_ACCOUNT: Self = Self::new(Guide::GooglePlay, 2);
    pub(crate) const GOOGLE_PERMISSIONS: Self = Self::new(Guide::GooglePlay, 3);
    pub(crate) const GOOGLE_PRODUCTS: Self = Self::new(Guide::GooglePlay, 4);
    pub(crate) const GOOGLE_TOPIC: Self = Self::new(Guide::GooglePlay, 5);
    pub(crate) const GOOGLE_PUSH: Self = Self::new(Guide::GooglePlay, 6);
    pub(crate) const GOOGLE_CODE: Self = Self::new(Guide::GooglePlay, 7);
    pub(crate) const GOOGLE_PURCHASE: Self = Self::new(Guide::GooglePlay, 8);

    const fn new(guide: Guide, number: usize) -> Self {
        Self { guide, number }
    }

    pub(crate) fn title(self) -> &'static str {
        let titles = self.guide.titles();
        titles.get(self.number - 1).copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.guide.label(), self.number)
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Whoever follows a document sees the same steps in what the commands print.
    #[test]
    fn the_documents_have_these_steps_in_this_order() {
        for guide in Guide::ALL {
            let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(guide.document());
            let text = std::fs::read_to_string(file).unwrap();
            let told: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix("## "))
                .filter(|heading| heading.starts_with(|c: char| c.is_ascii_digit()))
                .collect();
            let expected: Vec<String> = (1..)
                .zip(guide.titles())
                .map(|(number, title)| format!("{number}. {title}"))
                .collect();
            assert_eq!(told, expected, "{}", guide.document());
        }
    }
}
