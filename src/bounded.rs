//! A map that holds so many entries and no more, for what is read far more often than written.
//!
//! A read takes one of many shared locks, sets a bit and moves nothing: no queue of accesses, no
//! clock. Who makes room is whoever was not read since the hand came by last (second chance).

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Enough that cores rarely meet; a power of two.
const SHARDS_MAX: usize = 64;
/// A shard of fewer would be full by chance while others are empty.
const SHARD_ENTRIES_MIN: usize = 512;
/// With each new entry the hand also looks at this many others, so that what is over leaves although
/// nobody needs its room.
const STEPS_PER_ENTRY: usize = 2;

/// What the hand does with an entry that it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Nobody needs it any more.
    No,
    /// As long as there is room, and longer if it is read.
    WhileUsed,
    /// Unless there is nothing else to make room with.
    Yes,
}

/// The map. Entries of a shard are changed one at a time; `judge` is asked under its lock.
pub(crate) struct Bounded<K, V> {
    shards: Box<[RwLock<Shard<K, V>>]>,
    shard_entries_max: usize,
    /// Seeded at random: nobody outside can choose keys that meet.
    hasher: RandomState,
    judge: fn(&V) -> Keep,
}

struct Shard<K, V> {
    places: HashMap<K, usize>,
    entries: Vec<Entry<K, V>>,
    hand: usize,
}

struct Entry<K, V> {
    key: K,
    /// None only while it is changed.
    value: Option<V>,
    /// Read since the hand came by.
    used: AtomicBool,
}

impl<K: Hash + Eq + Clone, V> Bounded<K, V> {
    /// At most `entries_max`, rounded up to a whole number for each shard.
    pub(crate) fn new(entries_max: usize, judge: fn(&V) -> Keep) -> Self {
        let shards = (entries_max / SHARD_ENTRIES_MIN)
            .next_power_of_two()
            .clamp(1, SHARDS_MAX);
        Self {
            shards: (0..shards).map(|_| RwLock::default()).collect(),
            shard_entries_max: entries_max.div_ceil(shards).max(1),
            hasher: RandomState::new(),
            judge,
        }
    }

    /// What `pick` takes from the value.
    pub(crate) fn get<R>(&self, key: &K, pick: impl FnOnce(&V) -> R) -> Option<R> {
        let shard = read(self.shard(key));
        let entry = shard.entries.get(*shard.places.get(key)?)?;
        // Written once between two passes of the hand, not by every reader.
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        entry.value.as_ref().map(pick)
    }

    /// Changes what is at `key`, nothing or something, into something or nothing.
    pub(crate) fn update<R>(&self, key: K, change: impl FnOnce(&mut Option<V>) -> R) -> R {
        let mut guard = write(self.shard(&key));
        let shard = &mut *guard;
        let Some(&place) = shard.places.get(&key) else {
            let mut value = None;
            let result = change(&mut value);
            if value.is_some() {
                shard.make_room(self.shard_entries_max, self.judge);
                shard.put(key, value);
            }
            return result;
        };
        let entry = &mut shard.entries[place];
        let result = change(&mut entry.value);
        if entry.value.is_none() {
            shard.take(place);
        }
        result
    }

    /// Forgets all for which `keep` does not hold; entries may be changed.
    pub(crate) fn retain(&self, mut keep: impl FnMut(&mut V) -> bool) {
        for shard in &self.shards {
            let mut shard = write(shard);
            let mut place = 0;
            while let Some(entry) = shard.entries.get_mut(place) {
                if entry.value.as_mut().is_some_and(&mut keep) {
                    place += 1;
                } else {
                    shard.take(place);
                }
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let shards = self.shards.iter();
        shards.map(|shard| read(shard).entries.len()).sum()
    }

    fn shard(&self, key: &K) -> &RwLock<Shard<K, V>> {
        // The high bits: the shard's own table begins with the low ones of another seed.
        let hash = self.hasher.hash_one(key) >> 32;
        let number = usize::try_from(hash).unwrap_or_default() % self.shards.len();
        &self.shards[number]
    }
}

impl<K, V> Default for Shard<K, V> {
    fn default() -> Self {
        Self {
            places: HashMap::new(),
            entries: Vec::new(),
            hand: 0,
        }
    }
}

impl<K: Hash + Eq + Clone, V> Shard<K, V> {
    fn put(&mut self, key: K, value: Option<V>) {
        self.places.insert(key.clone(), self.entries.len());
        self.entries.push(Entry {
            key,
            value,
            used: AtomicBool::new(false),
        });
    }

    /// The last one takes its place.
    fn take(&mut self, place: usize) {
        let entry = self.entries.swap_remove(place);
        self.places.remove(&entry.key);
        if let Some(moved) = self.entries.get(place) {
            self.places.insert(moved.key.clone(), place);
        }
    }

    fn make_room(&mut self, entries_max: usize, judge: fn(&V) -> Keep) {
        for _ in 0..STEPS_PER_ENTRY {
            match self.at_hand(judge) {
                Some(Keep::No) => self.take(self.hand),
                Some(Keep::WhileUsed | Keep::Yes) => self.hand += 1,
                None => return,
            }
        }
        if self.entries.len() < entries_max {
            return;
        }
        // Twice around: the first time takes away every second chance.
        for _ in 0..2 * self.entries.len() {
            let goes = match self.at_hand(judge) {
                Some(Keep::No) => true,
                Some(Keep::WhileUsed) => !std::mem::take(self.entries[self.hand].used.get_mut()),
                Some(Keep::Yes) | None => false,
            };
            if goes {
                return self.take(self.hand);
            }
            self.hand += 1;
        }
        if self.at_hand(judge).is_some() {
            self.take(self.hand);
        }
    }

    /// About the entry that the hand points at, once it is brought back to the beginning; none if
    /// there is no entry.
    fn at_hand(&mut self, judge: fn(&V) -> Keep) -> Option<Keep> {
        if self.hand >= self.entries.len() {
            self.hand = 0;
        }
        let entry = self.entries.get(self.hand)?;
        Some(entry.value.as_ref().map_or(Keep::No, judge))
    }
}

/// Nothing is left half done where one of `pick`, `change` or `keep` panics.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn judge(value: &u32) -> Keep {
        match value {
            0 => Keep::No,
            1..1_000 => Keep::WhileUsed,
            _ => Keep::Yes,
        }
    }

    fn put(map: &Bounded<u32, u32>, key: u32, value: u32) {
        map.update(key, |slot| *slot = Some(value));
    }

    fn has(map: &Bounded<u32, u32>, key: u32) -> bool {
        map.update(key, |slot| slot.is_some())
    }

    #[test]
    fn it_holds_what_it_is_given_and_changes_it_in_place() {
        let map = Bounded::new(100_000, judge);
        for key in 0..10_000 {
            put(&map, key, key + 1);
        }
        put(&map, 7, 70);
        map.update(8, |slot| *slot = None);
        map.update(20_000, |slot| assert!(slot.is_none()));
        assert_eq!(map.get(&7, |value| *value), Some(70));
        assert_eq!(map.get(&8, |value| *value), None);
        assert_eq!(map.get(&9_999, |value| *value), Some(10_000));
        assert_eq!(map.len(), 9_999);
        map.retain(|value| value.is_multiple_of(2));
        assert_eq!(map.len(), 5_000);
        for key in 0..10_000 {
            let kept = key == 7 || (key != 8 && (key + 1) % 2 == 0);
            assert_eq!(has(&map, key), kept, "{key}");
        }
    }

    #[test]
    fn it_never_holds_more_and_what_is_read_stays() {
        let map = Bounded::new(100, judge);
        put(&map, 0, 1);
        for key in 1..10_000 {
            map.get(&0, |_| ()).unwrap();
            put(&map, key, 1);
            assert!(map.len() <= 100, "{}", map.len());
        }
        assert!(has(&map, 0), "the one that is read");
        assert!(!has(&map, 5_000), "one that nobody read");
        assert!(has(&map, 9_999), "the last");
    }

    #[test]
    fn what_must_be_kept_makes_room_only_for_its_like() {
        let map = Bounded::new(10, judge);
        for key in 0..5 {
            put(&map, key, 1_000);
        }
        for key in 5..1_000 {
            put(&map, key, 1);
            map.get(&key, |_| ());
        }
        assert!((0..5).all(|key| has(&map, key)));
        for key in 2_000..2_020 {
            put(&map, key, 1_000);
        }
        assert_eq!(map.len(), 10, "even then");
    }

    #[test]
    fn what_is_over_leaves_before_its_room_is_needed() {
        let map = Bounded::new(1_000, judge);
        for key in 0..200 {
            put(&map, key, 0);
        }
        for key in 1_000..1_200 {
            put(&map, key, 1);
        }
        assert_eq!(map.len(), 200);
        assert!((1_000..1_200).all(|key| has(&map, key)));
    }
}
