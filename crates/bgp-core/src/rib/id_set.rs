//! Sets of entry numbers that stay small whether they hold three members or a million.
//!
//! A peer's Adj-RIB-In, what was advertised to it, what is still to be sent: each is a set of entries of one table.
//! Up to [`FEW`] members are a sorted vector; beyond that, chunks of 4096 bits made on demand, so that a full table
//! costs one bit a member and a pass over it reads memory in order. Because a set is also the queue of what is to be
//! done, a consumer that is slow costs a bit a prefix and never more.

/// Members kept as a plain vector before chunks are made.
const FEW: usize = 32;
const CHUNK_BITS: u32 = 12;
const WORDS: usize = 1 << (CHUNK_BITS - 6);

#[derive(Clone, Debug)]
enum Members {
    Few(Vec<u32>),
    Chunks(Vec<Option<Box<Chunk>>>),
}

/// 4096 members, with a bit for each word that is not empty.
#[derive(Clone, Debug)]
struct Chunk {
    filled: u64,
    words: [u64; WORDS],
}

/// A set of entry numbers.
#[derive(Clone, Debug)]
pub(crate) struct IdSet {
    members: Members,
    len: u32,
}

impl Default for IdSet {
    fn default() -> Self {
        Self { members: Members::Few(Vec::new()), len: 0 }
    }
}

impl Chunk {
    const EMPTY: Self = Self { filled: 0, words: [0; WORDS] };

    /// The first member at or after `bit`.
    fn next_from(&self, bit: u32) -> Option<u32> {
        let (word, low) = (bit >> 6, bit & 63);
        let rest = self.words[word as usize] >> low << low;
        if rest != 0 {
            return Some(word << 6 | rest.trailing_zeros());
        }
        // Words after `word`; a shift by 64 is not defined, hence two.
        let later = self.filled >> word >> 1 << 1 << word;
        if later == 0 {
            return None;
        }
        let word = later.trailing_zeros();
        Some(word << 6 | self.words[word as usize].trailing_zeros())
    }
}

fn place(id: u32) -> (usize, u32) {
    ((id >> CHUNK_BITS) as usize, id & ((1 << CHUNK_BITS) - 1))
}

impl IdSet {
    /// How many members there are.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `id` is a member.
    pub(crate) fn contains(&self, id: u32) -> bool {
        match &self.members {
            Members::Few(ids) => ids.binary_search(&id).is_ok(),
            Members::Chunks(chunks) => {
                let (at, bit) = place(id);
                let chunk = chunks.get(at).and_then(Option::as_deref);
                chunk.is_some_and(|chunk| chunk.words[(bit >> 6) as usize] & 1 << (bit & 63) != 0)
            }
        }
    }

    /// Adds `id`; whether it was not there before.
    pub(crate) fn insert(&mut self, id: u32) -> bool {
        let added = match &mut self.members {
            Members::Few(ids) => match ids.binary_search(&id) {
                Ok(_) => false,
                Err(at) if ids.len() < FEW => {
                    ids.insert(at, id);
                    true
                }
                Err(_) => {
                    let ids = std::mem::take(ids);
                    let mut chunks = Vec::new();
                    ids.into_iter().for_each(|member| {
                        set(&mut chunks, member);
                    });
                    set(&mut chunks, id);
                    self.members = Members::Chunks(chunks);
                    true
                }
            },
            Members::Chunks(chunks) => set(chunks, id),
        };
        self.len += u32::from(added);
        added
    }

    /// Takes `id` out; whether it was there.
    pub(crate) fn remove(&mut self, id: u32) -> bool {
        let removed = match &mut self.members {
            Members::Few(ids) => ids.binary_search(&id).map(|at| ids.remove(at)).is_ok(),
            Members::Chunks(chunks) => {
                let (at, bit) = place(id);
                chunks.get_mut(at).is_some_and(|slot| {
                    let Some(chunk) = slot else { return false };
                    let word = &mut chunk.words[(bit >> 6) as usize];
                    let was = *word & 1 << (bit & 63) != 0;
                    *word &= !(1 << (bit & 63));
                    if *word == 0 {
                        chunk.filled &= !(1 << (bit >> 6));
                    }
                    if chunk.filled == 0 {
                        *slot = None;
                    }
                    was
                })
            }
        };
        self.len -= u32::from(removed);
        if self.len == 0 {
            self.members = Members::Few(Vec::new());
        }
        removed
    }

    /// The first member at or after `id`.
    pub(crate) fn next_from(&self, id: u32) -> Option<u32> {
        match &self.members {
            Members::Few(ids) => ids.get(ids.partition_point(|member| *member < id)).copied(),
            Members::Chunks(chunks) => {
                let (at, bit) = place(id);
                let found = |at: usize, bit: u32| (at as u32) << CHUNK_BITS | bit;
                if let Some(bit) = chunks.get(at)?.as_deref().and_then(|chunk| chunk.next_from(bit)) {
                    return Some(found(at, bit));
                }
                let later = chunks.iter().enumerate().skip(at + 1);
                later.flat_map(|(at, chunk)| Some(found(at, chunk.as_deref()?.next_from(0)?))).next()
            }
        }
    }

    /// Every member, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let mut next = Some(0);
        std::iter::from_fn(move || {
            let id = self.next_from(next?)?;
            next = id.checked_add(1);
            Some(id)
        })
    }
}

fn set(chunks: &mut Vec<Option<Box<Chunk>>>, id: u32) -> bool {
    let (at, bit) = place(id);
    if at >= chunks.len() {
        chunks.resize_with(at + 1, || None);
    }
    let chunk = chunks[at].get_or_insert_with(|| Box::new(Chunk::EMPTY));
    let word = &mut chunk.words[(bit >> 6) as usize];
    let new = *word & 1 << (bit & 63) == 0;
    *word |= 1 << (bit & 63);
    chunk.filled |= 1 << (bit >> 6);
    new
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_behaves_as_an_ordered_set(steps in proptest::collection::vec((any::<bool>(), 0u32..20_000), 0..400)) {
            let (mut set, mut model) = (IdSet::default(), BTreeSet::new());
            for (add, id) in steps {
                if add {
                    prop_assert_eq!(set.insert(id), model.insert(id));
                } else {
                    prop_assert_eq!(set.remove(id), model.remove(&id));
                }
                prop_assert_eq!(set.len() as usize, model.len());
                prop_assert_eq!(set.next_from(id), model.range(id..).next().copied());
                prop_assert_eq!(set.contains(id), model.contains(&id));
            }
            prop_assert!(set.iter().eq(model.into_iter()));
        }

        #[test]
        fn dense_sets_walk_in_order(first in 0u32..10_000, count in 1u32..10_000) {
            let mut set = IdSet::default();
            (first..first + count).for_each(|id| assert!(set.insert(id)));
            prop_assert!(set.iter().eq(first..first + count));
            (first..first + count).for_each(|id| assert!(set.remove(id)));
            prop_assert!(set.is_empty() && set.iter().next().is_none());
        }
    }
}
