//! Every prefix: where it should go, what the kernel has for it, and whether that has to be worked on.

use std::{collections::VecDeque, hash::BuildHasher};

use hash_index::Index;
use net_types::Prefix;
use slab::Slab;

use super::slots::Slots;
use crate::backend::NexthopId;

/// What a prefix should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Desired {
    /// No route.
    Absent,
    /// What was found at start, until somebody decides: through this object, or in a way that is none of ours.
    AsFound(Option<NexthopId>),
    /// A route through this path-list.
    List(NexthopId),
}

impl Desired {
    pub(super) fn slot(self) -> Option<NexthopId> {
        match self {
            Self::List(id) | Self::AsFound(Some(id)) => Some(id),
            Self::Absent | Self::AsFound(None) => None,
        }
    }
}

/// What the kernel has for a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Installed {
    Nothing,
    /// Something: not through an object of ours, or an answer was lost.
    Unknown,
    Through(NexthopId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queued {
    No,
    /// It forwards to the wrong place, or not at all.
    Urgent,
    /// It forwards to the right place, by way of a path-list that knows no such way out as its own does: the next fault
    /// would find it unprotected.
    Unprotected,
    /// It forwards to the right place already, and would after a fault, only by way of another path-list.
    Lazy,
}

pub(super) struct Entry {
    pub(super) prefix: Prefix,
    pub(super) desired: Desired,
    pub(super) installed: Installed,
    pub(super) queued: Queued,
    /// The last resync in which it was read or written.
    pub(super) seen: u32,
}

/// All of them, with the queues.
pub(super) struct Routes {
    by_prefix: Index,
    entries: Slab<Entry>,
    urgent: VecDeque<usize>,
    unprotected: VecDeque<usize>,
    lazy: VecDeque<usize>,
}

/// How many entries each queue holds, counting some twice that moved from one to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lengths {
    pub(super) urgent: usize,
    pub(super) unprotected: usize,
    pub(super) lazy: usize,
}

impl Default for Routes {
    fn default() -> Self {
        // Neighbors choose the prefixes, and should not be able to choose where they lie.
        let seed = std::hash::RandomState::new().hash_one(());
        Self {
            by_prefix: Index::new(seed),
            entries: Slab::new(),
            urgent: VecDeque::new(),
            unprotected: VecDeque::new(),
            lazy: VecDeque::new(),
        }
    }
}

impl Routes {
    pub(super) fn find(&self, prefix: &Prefix) -> Option<usize> {
        let named = |index: u32| self.entries.get(index as usize).is_some_and(|entry| entry.prefix == *prefix);
        self.by_prefix.find(self.by_prefix.hash(prefix), named).map(|index| index as usize)
    }

    /// To be called with prefixes that will be looked up in a moment.
    pub(super) fn look_ahead<'a>(&self, prefixes: impl IntoIterator<Item = &'a Prefix>) {
        self.by_prefix.look_ahead(prefixes);
    }

    pub(super) fn get(&self, index: usize) -> Option<&Entry> {
        self.entries.get(index)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn queued(&self) -> Lengths {
        Lengths { urgent: self.urgent.len(), unprotected: self.unprotected.len(), lazy: self.lazy.len() }
    }

    /// One more than the greatest index in use.
    pub(super) fn end(&self) -> usize {
        self.entries.iter().next_back().map_or(0, |(index, _)| index + 1)
    }

    /// The indexes of all entries that are as `wanted` says.
    pub(super) fn select(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<usize> {
        self.entries.iter().filter(|(_, entry)| wanted(entry)).map(|(index, _)| index).collect()
    }

    pub(super) fn insert(&mut self, prefix: Prefix) -> usize {
        let entry =
            Entry { prefix, desired: Desired::Absent, installed: Installed::Nothing, queued: Queued::No, seen: 0 };
        let index = self.entries.insert(entry);
        self.by_prefix.insert(self.by_prefix.hash(&prefix), index as u32);
        index
    }

    /// Forgets an entry that neither is nor should be in the kernel.
    pub(super) fn release(&mut self, index: usize) {
        if let Some(entry) = self.entries.try_remove(index) {
            self.by_prefix.remove(self.by_prefix.hash(&entry.prefix), index as u32);
        }
    }

    /// Changes an entry, keeping the books of the slots that it uses.
    pub(super) fn change(&mut self, slots: &mut Slots, index: usize, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.entries.get_mut(index) else { return };
        let before = (entry.desired, entry.installed);
        change(entry);
        let after = (entry.desired, entry.installed);
        if before != after {
            count(slots, before, false);
            count(slots, after, true);
        }
    }

    pub(super) fn mark_seen(&mut self, index: usize, cycle: u32) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.seen = cycle;
        }
    }

    /// Queues an entry; one that is queued as urgently already stays where it is.
    pub(super) fn queue(&mut self, index: usize, how: Queued) {
        let Some(entry) = self.entries.get_mut(index) else { return };
        let line = match (entry.queued, how) {
            (_, Queued::No)
            | (Queued::Urgent, _)
            | (Queued::Unprotected, Queued::Unprotected | Queued::Lazy)
            | (Queued::Lazy, Queued::Lazy) => return,
            (_, Queued::Urgent) => &mut self.urgent,
            (_, Queued::Unprotected) => &mut self.unprotected,
            (_, Queued::Lazy) => &mut self.lazy,
        };
        entry.queued = how;
        line.push_back(index);
    }

    /// Everything that could wait has to be looked at again.
    pub(super) fn promote(&mut self) {
        self.urgent.append(&mut self.unprotected);
        self.urgent.append(&mut self.lazy);
    }

    /// The next entry to work on. What a queue holds of entries since dealt with is passed over.
    pub(super) fn pop(&mut self, queue: Queued) -> Option<usize> {
        loop {
            let index = match queue {
                Queued::Lazy => self.lazy.pop_front()?,
                Queued::Unprotected => self.unprotected.pop_front()?,
                Queued::Urgent | Queued::No => self.urgent.pop_front()?,
            };
            if let Some(entry) = self.entries.get_mut(index) {
                let due = match queue {
                    Queued::Lazy | Queued::Unprotected => entry.queued == queue,
                    Queued::Urgent | Queued::No => entry.queued != Queued::No,
                };
                if due {
                    entry.queued = Queued::No;
                    return Some(index);
                }
            }
        }
    }
}

fn count(slots: &mut Slots, (desired, installed): (Desired, Installed), add: bool) {
    let step = |counter: &mut usize| *counter = if add { *counter + 1 } else { counter.saturating_sub(1) };
    if let Installed::Through(id) = installed
        && let Some(slot) = slots.get_mut(id)
    {
        step(&mut slot.users);
        if desired.slot() != Some(id) {
            step(&mut slot.lagging);
        }
        if slot.users == 0 {
            slots.list_idle(id);
        }
    }
    if let Some(id) = desired.slot()
        && let Some(slot) = slots.get_mut(id)
    {
        step(&mut slot.wanted);
        if slot.wanted == 0 {
            slots.list_idle(id);
        }
    }
}
