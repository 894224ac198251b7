//! A map that remembers for a while what its values were before their last change, for reads that
//! come too early.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// What has changed longer ago than this is not remembered.
const MEMORY: TimeDelta = TimeDelta::hours(1);

/// A map by id. What it was is not kept on disk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(
    transparent,
    bound(serialize = "V: Serialize", deserialize = "V: Deserialize<'de>")
)]
pub(super) struct Remembering<V> {
    current: BTreeMap<String, V>,
    #[serde(skip)]
    past: BTreeMap<String, Past<V>>,
    /// Remembered ids by the time of their change, oldest first.
    #[serde(skip)]
    by_age: VecDeque<(DateTime<Utc>, String)>,
    #[serde(skip)]
    now: DateTime<Utc>,
}

/// A value before its last change.
#[derive(Debug)]
struct Past<V> {
    changed_at: DateTime<Utc>,
    /// None: there was nothing by this id.
    value: Option<V>,
}

impl<V> Default for Remembering<V> {
    fn default() -> Self {
        Self {
            current: BTreeMap::new(),
            past: BTreeMap::new(),
            by_age: VecDeque::new(),
            now: DateTime::UNIX_EPOCH,
        }
    }
}

impl<V> Deref for Remembering<V> {
    type Target = BTreeMap<String, V>;

    fn deref(&self) -> &Self::Target {
        &self.current
    }
}

impl<'a, V> IntoIterator for &'a Remembering<V> {
    type Item = (&'a String, &'a V);
    type IntoIter = std::collections::btree_map::Iter<'a, String, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.current.iter()
    }
}

impl<V: Clone> Remembering<V> {
    /// The moment of the changes that follow; several changes at one moment count as one.
    pub(super) fn begin_turn(&mut self, now: DateTime<Utc>) {
        self.now = now;
        while let Some((at, _)) = self.by_age.front()
            && *at < now - MEMORY
        {
            if let Some((at, id)) = self.by_age.pop_front()
                && self.past.get(&id).is_some_and(|past| past.changed_at == at)
            {
                self.past.remove(&id);
            }
        }
    }

    pub(super) fn insert(&mut self, id: String, value: V) -> Option<V> {
        let old = self.current.insert(id.clone(), value);
        self.remember(id, old.clone());
        old
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut V> {
        let old = self.current.get(id)?.clone();
        self.remember(id.to_owned(), Some(old));
        self.current.get_mut(id)
    }

    fn remember(&mut self, id: String, value: Option<V>) {
        if self
            .past
            .get(&id)
            .is_some_and(|past| past.changed_at == self.now)
        {
            return;
        }
        self.by_age.push_back((self.now, id.clone()));
        let past = Past {
            changed_at: self.now,
            value,
        };
        self.past.insert(id, past);
    }

    /// Exchanges every value that has changed at `since` or later with what it was before; the
    /// second call undoes the first.
    pub(super) fn turn_back(&mut self, since: DateTime<Utc>) {
        for (id, past) in &mut self.past {
            if past.changed_at >= since {
                let before = past.value.take();
                past.value = match before {
                    Some(before) => self.current.insert(id.clone(), before),
                    None => self.current.remove(id),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_seen_and_left_as_it_was() {
        let start = DateTime::UNIX_EPOCH;
        let mut map = Remembering::default();
        map.begin_turn(start);
        map.insert("a".to_owned(), 1);
        map.begin_turn(start + TimeDelta::seconds(100));
        map.insert("a".to_owned(), 2);
        map.insert("a".to_owned(), 3);
        map.insert("b".to_owned(), 7);
        let recent = start + TimeDelta::seconds(90);
        map.turn_back(recent);
        assert_eq!((map.get("a"), map.get("b")), (Some(&1), None));
        map.turn_back(recent);
        assert_eq!((map.get("a"), map.get("b")), (Some(&3), Some(&7)));
        map.turn_back(start + TimeDelta::seconds(101));
        assert_eq!(map.get("a"), Some(&3), "too long ago");
    }

    #[test]
    fn what_is_long_past_is_forgotten() {
        let start = DateTime::UNIX_EPOCH;
        let mut map = Remembering::default();
        map.begin_turn(start);
        map.insert("a".to_owned(), 1);
        map.begin_turn(start + TimeDelta::minutes(30));
        if let Some(value) = map.get_mut("a") {
            *value = 2;
        }
        map.begin_turn(start + TimeDelta::minutes(70));
        assert_eq!(map.past.len(), 1, "the change half an hour later counts");
        map.begin_turn(start + TimeDelta::minutes(100));
        assert!(map.past.is_empty() && map.by_age.is_empty());
    }
}
