//! Numbers found by the hash of what they name.
//!
//! A slot has the number and the hash, eight octets: an index that grows moves its slots without a look at what they
//! name, which lies anywhere in memory, and a lookup follows a number only where all of the hash is the same. It is in
//! parts, so that growing stops whoever uses it for a millisecond and not for fifty.

use std::hash::{BuildHasher, Hash};

use foldhash::quality::FixedState;
use hashbrown::HashTable;

/// How many parts there are.
const SHARDS: usize = 64;
/// The part is chosen by bits that the part itself uses neither for places (the lowest) nor for tags (the highest seven).
const SHARD_SHIFT: u32 = 19;

/// Lookups that wait for memory together.
const TOGETHER: usize = 32;

/// What is kept of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed(u32);

impl Hashed {
    fn shard(self) -> usize {
        (self.0 >> SHARD_SHIFT) as usize % SHARDS
    }

    /// As a part of the index wants it: places by the lowest bits, tags by the highest.
    fn spread(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}

#[derive(Clone, Copy)]
struct Slot {
    hash: Hashed,
    number: u32,
}

/// Numbers by hash.
pub struct Index {
    shards: Box<[HashTable<Slot>; SHARDS]>,
    hasher: FixedState,
}

impl Index {
    /// An empty one. Where peers choose what is hashed, `seed` should not be guessable.
    pub fn new(seed: u64) -> Self {
        Self { shards: Box::new(std::array::from_fn(|_| HashTable::new())), hasher: FixedState::with_seed(seed) }
    }

    /// The hash of what a number names or might name.
    pub fn hash(&self, key: &(impl Hash + ?Sized)) -> Hashed {
        Hashed(self.hasher.hash_one(key) as u32)
    }

    /// The number with this hash that `is` the one.
    pub fn find(&self, hash: Hashed, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let same = |slot: &Slot| slot.hash == hash && is(slot.number);
        self.shards[hash.shard()].find(hash.spread(), same).map(|slot| slot.number)
    }

    /// The first number with this hash, which nearly always is the one if there is one. Calls one behind the other wait
    /// for memory together, as none needs to know what a number names.
    pub fn first(&self, hash: Hashed) -> Option<u32> {
        self.find(hash, |_| true)
    }

    /// To be called with what will be looked up in a moment: the lookups, which do not depend on each other, wait for memory
    /// together and not one by one.
    pub fn look_ahead(&self, keys: impl IntoIterator<Item: Hash>) {
        let mut keys = keys.into_iter();
        loop {
            // Hashes first, or there would be too much between two reads of memory for the machine to overlap them.
            let mut hashes = [Hashed(0); TOGETHER];
            let known = hashes.iter_mut().zip(keys.by_ref()).map(|(hash, key)| *hash = self.hash(&key)).count();
            // What was found is nothing to anybody; having looked is.
            std::hint::black_box(hashes[..known].iter().filter_map(|hash| self.first(*hash)).count());
            if known < TOGETHER {
                return;
            }
        }
    }

    /// Adds a number that is not there.
    pub fn insert(&mut self, hash: Hashed, number: u32) {
        let slot = Slot { hash, number };
        self.shards[hash.shard()].insert_unique(hash.spread(), slot, |slot| slot.hash.spread());
    }

    /// Takes a number out; whether it was there.
    pub fn remove(&mut self, hash: Hashed, number: u32) -> bool {
        let found = self.shards[hash.shard()].find_entry(hash.spread(), |slot| slot.number == number);
        found.map(|slot| slot.remove()).is_ok()
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(HashTable::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(HashTable::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, btree_map::Entry};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_found_as_in_a_map(steps in proptest::collection::vec((any::<bool>(), 0u32..300), 0..600)) {
            let mut index = Index::new(3);
            let (mut model, mut keys) = (BTreeMap::new(), Vec::new());
            for (add, key) in steps {
                let hash = index.hash(&key);
                if !add {
                    let number = model.remove(&key);
                    prop_assert_eq!(index.remove(hash, number.unwrap_or(u32::MAX)), number.is_some());
                } else if let Entry::Vacant(place) = model.entry(key) {
                    index.insert(hash, *place.insert(keys.len() as u32));
                    keys.push(key);
                }
                let found = index.find(hash, |number| keys[number as usize] == key);
                prop_assert_eq!(found, model.get(&key).copied());
                prop_assert!(found.is_none() || index.first(hash).is_some());
                prop_assert_eq!(index.len(), model.len());
            }
        }
    }

    #[test]
    fn numbers_with_equal_hashes_are_told_apart() {
        let mut index = Index::new(3);
        let hash = index.hash(&1u8);
        index.insert(hash, 7);
        index.insert(hash, 9);
        assert_eq!((index.find(hash, |number| number == 9), index.find(hash, |_| false)), (Some(9), None));
        assert!(index.remove(hash, 7) && !index.remove(hash, 7));
        assert_eq!(index.find(hash, |_| true), Some(9));
    }
}
