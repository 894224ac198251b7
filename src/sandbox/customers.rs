//! People with names. A purchase makes its customer known; these were named before they bought.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longer names help nobody.
const NAME_CHARS_MAX: usize = 100;

/// Who was named, and when.
#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Customers(BTreeMap<String, DateTime<Utc>>);

impl Customers {
    /// Names a customer; false if that name is unusable.
    pub(super) fn add(&mut self, name: &str, now: DateTime<Utc>) -> bool {
        let usable = !name.trim().is_empty()
            && name.chars().count() <= NAME_CHARS_MAX
            && !name.chars().any(char::is_control);
        if usable {
            self.0.entry(name.to_owned()).or_insert(now);
        }
        usable
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// An account id for a customer whose app has not said one: always the same for the same name.
pub(super) fn account(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}
