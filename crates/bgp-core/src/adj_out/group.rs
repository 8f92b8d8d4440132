//! Update groups: peers that are owed the same messages, which are made once.
//!
//! Peers with equal [`Terms`] whose sessions write alike form a group. The group notes for every entry whose path its
//! members were *told*: one source a prefix, whatever the number of members. A member has what was told unless the path
//! came from itself, since nobody is told what he said. Clients of a route server are told the next path then
//! ([`Told::second`]), so that two paths a prefix are enough to give each its own view. Where the terms are to [echo](Terms::echo),
//! it is told its own path in that place.
//!
//! A member that cannot keep pace, or has just come, is *behind*: for some entries it still has what it *had* when the
//! group went on. It catches up by itself, entry by entry, from what the group has been told since; an entry that the
//! group has still to look at waits for that. So what a member has is always known exactly, and nothing is withdrawn
//! that was never announced.

use std::net::IpAddr;

use bgp_wire::Negotiated;
use hashbrown::HashMap;
use net_types::Family;
use smallvec::SmallVec;

use super::{Terms, offers::Alternatives};
use crate::rib::{
    AddPaths, IdSet, RibConfig, Slot,
    state::{FamilyTable, Shared},
};

/// Names a group of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    /// Whose prefixes.
    pub family: Family,
    pub(crate) index: usize,
}

/// Nobody, in place of a source.
const NOBODY: Slot = Slot(u16::MAX);

/// Peers that are owed the same messages.
#[derive(Debug)]
pub(crate) struct Group {
    /// With the address of nobody, unless policy asks for it.
    pub(crate) terms: Terms,
    /// How their messages are written.
    pub(crate) negotiated: Negotiated,
    /// In the order in which they came.
    pub(crate) members: Vec<Slot>,
    /// Which member has an address: a path through it is told to that one in another way.
    pub(crate) by_address: HashMap<IpAddr, Slot, foldhash::quality::RandomState>,
    /// By entry: the source of the path that was told.
    told: Vec<Slot>,
    told_count: u32,
    /// By entry: whose path the source of the one that was told has been told instead.
    seconds: HashMap<u32, Slot, foldhash::quality::RandomState>,
    /// By source: how many entries that were told are its own, and it was told no other path of.
    own: Vec<u32>,
    /// Entries to look at.
    pub(crate) dirty: IdSet,
    /// Those of them whose routes are as they were: only whether they are told may have changed.
    pub(crate) doubtful: IdSet,
    /// Where the pass over `dirty` stands; it goes round, so that no prefix waits for ever behind a flapping one.
    pub(crate) cursor: u32,
    /// The only member is told several paths for a prefix.
    pub(crate) several: Option<Several>,
}

/// What a group was told of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Whose path.
    pub(crate) first: Option<Slot>,
    /// Whose path that one was told in its place, who is a member; there is none without a `first`. Its own where they are
    /// echoed.
    pub(crate) second: Option<Slot>,
}

impl Told {
    /// Whose path `member` has been told.
    pub(crate) fn to(self, member: Slot) -> Option<Slot> {
        if self.first == Some(member) { self.second } else { self.first }
    }
}

/// A peer that is told several paths for a prefix (RFC 7911). It is a group of its own, which waits for it, so it is never
/// behind.
#[derive(Debug)]
pub(crate) struct Several {
    pub(crate) whose: Slot,
    pub(crate) which: AddPaths,
    /// By entry: the identifiers of the paths that it has.
    pub(crate) told: HashMap<u32, SmallVec<[u32; 2]>, foldhash::quality::RandomState>,
}

/// What peers are told alike.
pub(crate) struct Key {
    pub(crate) terms: Terms,
    negotiated: Negotiated,
    several: Option<AddPaths>,
}

/// A peer's place in its group.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) group: usize,
    pub(crate) behind: Option<Box<Behind>>,
    /// Ends of passes after which End-of-RIB is owed (RFC 4724 §2); 0 when it is not.
    pub(crate) end_of_rib_in: u8,
}

/// What a member lacks.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    /// Entries for which it may have something else than the group was told.
    pub(crate) entries: IdSet,
    /// Those of them for which it has anything.
    pub(crate) had: IdSet,
    /// Those of `entries` for which it should have something, by what the group was told.
    visible: u32,
    pub(crate) cursor: u32,
}

impl Group {
    fn new(key: Key, whose: Slot, table: &FamilyTable) -> Self {
        let Key { terms, negotiated, several } = key;
        let several = several.map(|which| Several { whose, which, told: HashMap::default() });
        let mut dirty = IdSet::default();
        table.live().for_each(|id| {
            dirty.insert(id);
        });
        Self {
            terms,
            negotiated,
            members: Vec::new(),
            by_address: HashMap::default(),
            told: Vec::new(),
            told_count: 0,
            seconds: HashMap::default(),
            own: Vec::new(),
            dirty,
            doubtful: IdSet::default(),
            cursor: 0,
            several,
        }
    }

    /// What was told of an entry.
    pub(crate) fn told(&self, id: u32) -> Told {
        let first = self.told.get(id as usize).copied().filter(|source| *source != NOBODY);
        let second = match first {
            Some(_) if self.terms.echo => first,
            _ if self.seconds.is_empty() => None,
            _ => self.seconds.get(&id).copied(),
        };
        Told { first, second }
    }

    /// The route of an entry changed, or is to be told again.
    pub(crate) fn changed(&mut self, id: u32) {
        self.dirty.insert(id);
        if !self.doubtful.is_empty() {
            self.doubtful.remove(id);
        }
    }

    /// Whether an entry is told may have changed, and nothing else about it.
    pub(crate) fn doubt(&mut self, id: u32) {
        if self.dirty.insert(id) {
            self.doubtful.insert(id);
        }
    }

    /// Some path of an entry changed that need not be the best; `source` is whose, unless only the order of paths did.
    pub(crate) fn reconsider(&mut self, id: u32, source: Option<Slot>) {
        match self.told(id).first {
            Some(first) if source != Some(first) => self.doubt(id),
            _ => self.changed(id),
        }
    }

    /// How many entries were told.
    pub(crate) fn told_count(&self) -> u32 {
        self.told_count
    }

    /// Whether `member` was told of it, if it kept pace.
    pub(crate) fn is_visible(&self, id: u32, member: Slot) -> bool {
        self.told(id).to(member).is_some()
    }

    /// Notes whose paths are told from now on; says whose were before.
    pub(crate) fn tell(&mut self, id: u32, told: Told) -> Told {
        let before = self.told(id);
        if before == told {
            return before;
        }
        if self.told.len() <= id as usize {
            self.told.resize(id as usize + 1, NOBODY);
        }
        self.told[id as usize] = told.first.unwrap_or(NOBODY);
        if let Some(first) = before.first {
            self.own[usize::from(first.0)] -= u32::from(before.second.is_none());
            self.told_count -= 1;
        }
        if let Some(first) = told.first {
            let at = usize::from(first.0);
            if self.own.len() <= at {
                self.own.resize(at + 1, 0);
            }
            self.own[at] += u32::from(told.second.is_none());
            self.told_count += 1;
        }
        match told.second {
            Some(second) if told.second != told.first => drop(self.seconds.insert(id, second)),
            Some(_) => {} // which the terms say of all
            None if before.second.is_some() => drop(self.seconds.remove(&id)),
            None => {}
        }
        before
    }

    /// What is echoed has changed, perhaps.
    fn count_own(&mut self) {
        self.own.fill(0);
        for id in 0..self.told.len() as u32 {
            if let Told { first: Some(first), second: None } = self.told(id) {
                self.own[usize::from(first.0)] += 1;
            }
        }
    }

    /// A member has come whose own paths may have been told before: there may be others for it now.
    fn reconsider_own(&mut self, member: Slot) {
        if self.own.get(usize::from(member.0)).is_none_or(|own| *own == 0) {
            return;
        }
        for id in (0..self.told.len() as u32).filter(|id| self.told[*id as usize] == member) {
            if self.dirty.insert(id) {
                self.doubtful.insert(id);
            }
        }
    }

    /// Everything that was told to anybody.
    fn everything_told(&self) -> impl Iterator<Item = u32> {
        self.told.iter().enumerate().filter(|(_, source)| **source != NOBODY).map(|(id, _)| id as u32)
    }

    /// What `member` was told, if it kept pace.
    fn visible(&self, member: Slot) -> impl Iterator<Item = u32> {
        self.everything_told().filter(move |id| self.is_visible(*id, member))
    }

    fn visible_count(&self, member: Slot) -> u32 {
        self.told_count - self.own.get(usize::from(member.0)).copied().unwrap_or(0)
    }
}

impl Behind {
    /// Notes that the group goes on with an entry; `before` and `after` say whether the member was told of it, and is,
    /// if it kept pace.
    pub(crate) fn miss(&mut self, id: u32, before: bool, after: bool) -> bool {
        let mut had = false;
        if self.entries.insert(id) {
            had = before;
            if had {
                self.had.insert(id);
            }
        } else {
            self.visible -= u32::from(before);
        }
        self.visible += u32::from(after);
        had
    }

    /// The member has caught up with an entry; whether it had something before.
    pub(crate) fn caught_up(&mut self, id: u32, visible: bool) -> bool {
        if self.entries.remove(id) {
            self.visible -= u32::from(visible);
        }
        self.had.remove(id)
    }
}

impl Member {
    /// How many prefixes the peer has.
    pub(crate) fn sent(&self, group: &Group, slot: Slot) -> u32 {
        let all = group.visible_count(slot);
        self.behind.as_ref().map_or(all, |behind| all - behind.visible + behind.had.len())
    }

    /// How many are to be looked at before it is up to date.
    pub(crate) fn to_send(&self, group: &Group) -> u32 {
        group.dirty.len() + self.behind.as_ref().map_or(0, |behind| behind.entries.len())
    }

    /// Whether the peer has something of an entry.
    pub(crate) fn has(&self, group: &Group, slot: Slot, id: u32) -> bool {
        match &self.behind {
            Some(behind) if behind.entries.contains(id) => behind.had.contains(id),
            _ => group.is_visible(id, slot),
        }
    }

    /// Every entry of which the peer has something.
    pub(crate) fn held(&self, group: &Group, slot: Slot) -> IdSet {
        let mut held = IdSet::default();
        for id in group.visible(slot).filter(|id| self.has(group, slot, *id)) {
            held.insert(id);
        }
        if let Some(behind) = &self.behind {
            behind.had.iter().for_each(|id| {
                held.insert(id);
            });
        }
        held
    }
}

impl Shared {
    pub(crate) fn key(&self, own: &RibConfig, slot: Slot, family: Family) -> Option<Key> {
        let peer = self.peer(slot);
        let up = peer.up.as_ref()?;
        // Whose AS their paths are to start with is of no concern to what they are sent.
        let negotiated = Negotiated { enforce_first_as: None, ..up.negotiated };
        let terms = Terms::of(own, peer, up, family);
        let several = up.negotiated.add_path_out.contains(family);
        let several = several.then_some(peer.config.families[family as usize].add_path.unwrap_or_default());
        let terms = if several.is_some() { terms } else { terms.shared() };
        Some(Key { terms, negotiated, several })
    }

    /// Puts a peer whose session is up into the group that it belongs to. It has `had` already.
    pub(crate) fn join(&mut self, own: &RibConfig, table: &mut FamilyTable, slot: Slot, had: IdSet, end_of_rib: bool) {
        let family = table.family;
        let Some(key) = self.key(own, slot, family) else { return };
        let address = self.peer(slot).config.address;
        let groups = &mut self.groups[family as usize];
        let fits = |group: &Option<Group>| {
            let same = |group: &Group| group.negotiated == key.negotiated && group.terms == key.terms;
            key.several.is_none() && group.as_ref().is_some_and(|group| group.several.is_none() && same(group))
        };
        let index = groups.iter().position(fits).unwrap_or_else(|| {
            let group = Some(Group::new(key, slot, table));
            match groups.iter().position(Option::is_none) {
                Some(free) => {
                    groups[free] = group;
                    free
                }
                None => {
                    groups.push(group);
                    groups.len() - 1
                }
            }
        });
        let Some(group) = &mut groups[index] else { return };
        group.members.push(slot);
        group.by_address.insert(address, slot);
        if group.terms.alternatives == Alternatives::Permitted {
            group.reconsider_own(slot);
        }
        let mut behind = Behind::default();
        for id in group.visible(slot) {
            behind.entries.insert(id);
            behind.visible += 1;
        }
        for id in had.iter() {
            behind.entries.insert(id);
            table.table.entries[id as usize].sent += 1;
        }
        behind.had = had;
        // A pass that has begun has to come round once more before it has seen everything.
        let passes = if group.cursor > 0 && !group.dirty.is_empty() { 2 } else { 1 };
        let member = Member {
            group: index,
            behind: (!behind.entries.is_empty()).then(|| Box::new(behind)),
            end_of_rib_in: if end_of_rib { passes } else { 0 },
        };
        self.peer_mut(slot).families[family as usize].member = Some(member);
    }

    /// Takes a peer out of its group. Says what it has, and what nobody has any more who is left; both still count as
    /// sent in their entries.
    pub(crate) fn leave(&mut self, family: Family, slot: Slot) -> Option<Left> {
        let member = self.peer_mut(slot).families[family as usize].member.take()?;
        let groups = &mut self.groups[family as usize];
        let group = groups[member.group].as_mut()?;
        let held = member.held(group, slot);
        group.members.retain(|other| *other != slot);
        group.by_address.retain(|_, other| *other != slot);
        let mut orphaned = IdSet::default();
        if group.members.is_empty() {
            group.everything_told().for_each(|id| {
                orphaned.insert(id);
            });
            groups[member.group] = None;
        }
        let behind = member.behind.map(|behind| behind.had).unwrap_or_default();
        Some(Left { held, counted: [behind, orphaned] })
    }

    /// The peer wants everything again (RFC 2918), or has to be told in another way.
    pub(crate) fn resend(&mut self, table: &mut FamilyTable, slot: Slot) {
        let family = table.family;
        let Shared { peers, groups, .. } = self;
        let Some(peer) = &mut peers[usize::from(slot.0)] else { return };
        let Some(member) = &mut peer.families[family as usize].member else { return };
        let Some(group) = &mut groups[family as usize][member.group] else { return };
        if let Some(several) = &group.several {
            several.told.keys().for_each(|id| {
                group.dirty.insert(*id);
            });
            return;
        }
        let behind = member.behind.get_or_insert_default();
        behind.cursor = 0;
        for id in group.visible(slot) {
            // What it has is what the group was told, so nothing is seen otherwise than before.
            if !behind.entries.contains(id) && behind.miss(id, true, true) {
                table.table.entries[id as usize].sent += 1;
            }
        }
        if behind.entries.is_empty() {
            member.behind = None;
        }
    }

    /// The peer's terms may have changed: if so it goes to another group, where everything is decided anew.
    pub(crate) fn regroup(&mut self, own: &RibConfig, table: &mut FamilyTable, slot: Slot) -> Option<Left> {
        let family = table.family;
        let Key { terms, negotiated, several } = self.key(own, slot, family)?;
        let index = self.peer(slot).families[family as usize].member.as_ref()?.group;
        let group = self.groups[family as usize][index].as_mut()?;
        let which = group.several.as_ref().map(|several| several.which);
        if group.terms == terms && group.negotiated == negotiated && which == several {
            return None;
        }
        if let (Some(alone), Some(which)) = (&mut group.several, several) {
            // Nobody else is concerned: what it has is known, and is looked at on the terms of now.
            alone.which = which;
            (group.terms, group.negotiated) = (terms, negotiated);
            group.count_own();
            table.live().for_each(|id| {
                group.dirty.insert(id);
            });
            return None;
        }
        let member = self.peer(slot).families[family as usize].member.as_ref()?;
        let end_of_rib = member.end_of_rib_in > 0;
        let left = self.leave(family, slot)?;
        self.join(own, table, slot, left.held.clone(), end_of_rib);
        Some(left)
    }
}

/// What remains of a member that left its group.
pub(crate) struct Left {
    /// What the peer has.
    pub(crate) held: IdSet,
    /// What is counted as sent in entries and is not any more.
    pub(crate) counted: [IdSet; 2],
}
