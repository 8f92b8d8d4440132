//! Identifiers of paths, for sources that tell several for one prefix apart (RFC 7911 §3).
//!
//! What a peer calls a path means something on its session alone. Each pair of a source and its identifier in use gets a
//! number of ours, by which paths are found and under which they are announced in turn. The pairs are as many as the
//! paths that name them at most, whatever numbers a peer makes up.

use foldhash::quality::FixedState;
use hashbrown::HashMap;
use slab::Slab;

use super::peer::Slot;

struct Known {
    source: Slot,
    theirs: u32,
    uses: u32,
}

/// Every pair in use.
pub(crate) struct PathIds {
    known: Slab<Known>,
    by_pair: HashMap<(Slot, u32), u32, FixedState>,
}

impl PathIds {
    pub(crate) fn new(seed: u64) -> Self {
        Self { known: Slab::new(), by_pair: HashMap::with_hasher(FixedState::with_seed(seed)) }
    }

    /// Our number for what `source` calls `theirs`, held once more.
    pub(crate) fn hold(&mut self, source: Slot, theirs: u32) -> u32 {
        let Self { known, by_pair } = self;
        let number = *by_pair
            .entry((source, theirs))
            .or_insert_with(|| known.insert(Known { source, theirs, uses: 0 }) as u32 + 1);
        known[number as usize - 1].uses += 1;
        number
    }

    /// Holds a number once more; 0 is nobody's.
    pub(crate) fn hold_again(&mut self, number: u32) {
        if let Some(at) = (number as usize).checked_sub(1) {
            self.known[at].uses += 1;
        }
    }

    /// Our number for what `source` calls `theirs`, if anything uses it.
    pub(crate) fn find(&self, source: Slot, theirs: u32) -> Option<u32> {
        self.by_pair.get(&(source, theirs)).copied()
    }

    /// What the path's source calls it; `None` for 0.
    pub(crate) fn theirs(&self, number: u32) -> Option<u32> {
        self.known.get((number as usize).checked_sub(1)?).map(|known| known.theirs)
    }

    /// Lets go of a number once; 0 is nobody's.
    pub(crate) fn release(&mut self, number: u32) {
        let Some(at) = (number as usize).checked_sub(1) else { return };
        let known = &mut self.known[at];
        known.uses -= 1;
        if known.uses == 0 {
            let Known { source, theirs, .. } = self.known.remove(at);
            self.by_pair.remove(&(source, theirs));
        }
    }

    /// How a path is called towards peers that want several: paths of sources that tell one a prefix are named after the
    /// source, the others by their number.
    pub(crate) fn announced(source: Slot, number: u32) -> u32 {
        if number == 0 { u32::from(source.0) + 1 } else { (1 << 16) + number }
    }

    /// Pairs in use.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_one_number_while_it_is_in_use() {
        let mut ids = PathIds::new(1);
        let one = ids.hold(Slot(5), 7);
        assert_eq!(ids.hold(Slot(5), 7), one);
        let other = ids.hold(Slot(6), 7);
        assert!(one != 0 && other != 0 && one != other);
        assert_eq!((ids.theirs(one), ids.find(Slot(6), 7), ids.theirs(0)), (Some(7), Some(other), None));
        assert_ne!(PathIds::announced(Slot(5), 0), PathIds::announced(Slot(5), one));
        for number in [one, one, other, 0] {
            ids.release(number);
        }
        assert_eq!((ids.len(), ids.find(Slot(5), 7)), (0, None));
    }
}
