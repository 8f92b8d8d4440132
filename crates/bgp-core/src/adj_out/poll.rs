//! The next piece of what a group of peers is owed, or of what one that is behind it lacks.

use std::time::Duration;

use net_types::{Family, Prefix};
use smallvec::SmallVec;

use super::{
    Alternatives, Audience, Behind, Group, GroupBatch, GroupId, OutBatch, Polled, Room, Several, Teller, Terms, Told,
    making::{Making, keeping_pace, sharing},
    offers::offers,
};
use crate::{
    PeerId,
    decision::{self, Candidate},
    rib::{
        AddPaths, Path, PathAttrs, Rib, RibConfig, Slot, Source, conditions,
        path_ids::PathIds,
        state::{FamilyTable, Shared},
        table::Entry,
    },
};

/// Entries that wait for their group cost a member that is behind this part of one that it can be told.
const SKIPS: usize = 16;

impl Rib {
    /// Every group of peers that are owed the same messages.
    pub fn groups(&self) -> Vec<GroupId> {
        let of = |family: Family| {
            let groups = self.shared.groups[family as usize].iter().enumerate();
            groups.filter(|(_, group)| group.is_some()).map(move |(index, _)| GroupId { family, index })
        };
        Family::ALL.into_iter().flat_map(of).collect()
    }

    /// How long to leave a group alone after everything that it was owed has been sent (RFC 4271 §9.2.1.1).
    pub fn advertisement_interval(&self, id: GroupId) -> Duration {
        let group = self.shared.groups[id.family as usize].get(id.index).and_then(Option::as_ref);
        group.map_or(Duration::ZERO, |group| group.terms.advertisement_interval)
    }

    /// The next piece of what a group is owed, after a look at up to `budget` prefixes. `room` says of each member
    /// whether it takes more; what is handed over counts as sent to all members named in it.
    pub fn poll_group(&mut self, id: GroupId, budget: usize, room: impl FnMut(PeerId) -> Room) -> Polled {
        self.poll_members(id, budget, false, room)
    }

    /// `without`: goes on without those that are stuck even if nobody is ready.
    fn poll_members(
        &mut self,
        id: GroupId,
        budget: usize,
        without: bool,
        mut room: impl FnMut(PeerId) -> Room,
    ) -> Polled {
        if self.is_deferring() {
            return Polled::Nothing;
        }
        let Self { shared, tables, config, .. } = self;
        let Some(mut group) = shared.groups[id.family as usize].get_mut(id.index).and_then(Option::take) else {
            return Polled::Nothing;
        };
        let polled =
            poll(config, shared, &mut tables[id.family as usize], (&mut group, id.index), budget, without, &mut room);
        shared.groups[id.family as usize][id.index] = Some(group);
        polled
    }

    /// The next piece of what `peer` lacks because it is behind its group, after a look at up to `budget` prefixes.
    /// `None` when it is not, or has to wait for its group.
    pub fn poll_behind(&mut self, peer: PeerId, budget: usize) -> Option<OutBatch> {
        let slot = self.slot(peer)?;
        Family::ALL.into_iter().find_map(|family| self.catch_up(slot, family, budget))
    }

    /// The next piece of what `peer` is owed, after a look at up to `budget` prefixes of one family, whatever becomes
    /// of the other members of its groups. `None` when it is up to date; a piece may be empty when none of those
    /// looked at concerns the peer.
    ///
    /// What is handed over counts as sent. Pull only when there is room for it: until then, changes collapse.
    pub fn poll_out(&mut self, peer: PeerId, budget: usize) -> Option<OutBatch> {
        let slot = self.slot(peer)?;
        for family in Family::ALL {
            if let Some(batch) = self.catch_up(slot, family, budget) {
                return Some(batch);
            }
            let Some(member) = &self.shared.peer(slot).families[family as usize].member else { continue };
            let group = GroupId { family, index: member.group };
            let room = |other| if other == peer { Room::Ready } else { Room::Stuck };
            match self.poll_members(group, budget, true, room) {
                Polled::Batch(batch) => return Some(batch.of(peer)),
                Polled::Nothing | Polled::Blocked => {}
            }
        }
        None
    }

    /// Whether anything is to be handed over to `peer`.
    pub fn owes(&self, peer: PeerId) -> bool {
        let owed = |slot: Slot| {
            Family::ALL.into_iter().any(|family| {
                let Some(member) = &self.shared.peer(slot).families[family as usize].member else { return false };
                let group = self.shared.groups[family as usize][member.group].as_ref();
                member.end_of_rib_in > 0 || group.is_some_and(|group| member.to_send(group) > 0)
            })
        };
        !self.is_deferring() && self.slot(peer).is_some_and(owed)
    }

    /// Whether `peer` lacks something that its group has been told.
    pub fn is_behind(&self, peer: PeerId) -> bool {
        let behind = |slot: Slot| {
            let mut members = self.shared.peer(slot).families.iter().filter_map(|state| state.member.as_ref());
            members.any(|member| member.behind.is_some())
        };
        self.slot(peer).is_some_and(behind)
    }

    fn catch_up(&mut self, slot: Slot, family: Family, budget: usize) -> Option<OutBatch> {
        if self.is_deferring() {
            return None;
        }
        let Self { shared, tables, config, .. } = self;
        let state = &mut shared.peer_mut(slot).families[family as usize];
        let mut behind = state.member.as_mut()?.behind.take()?;
        let batch = catch_up(config, shared, &mut tables[family as usize], slot, &mut behind, budget);
        if let Some(member) = &mut shared.peer_mut(slot).families[family as usize].member {
            member.behind = (!behind.entries.is_empty()).then_some(behind);
        }
        batch
    }

    /// What `peer` was sent for `prefix`, if anything. While a change is on its way to it, the new state.
    pub fn advertised(&self, peer: PeerId, prefix: &Prefix) -> Option<PathAttrs> {
        self.sent(peer, prefix, false)
    }

    /// The same before our AS is put in front of the path, as FRR shows it: the path that policy speaks of.
    pub fn advertised_bare(&self, peer: PeerId, prefix: &Prefix) -> Option<PathAttrs> {
        self.sent(peer, prefix, true)
    }

    fn sent(&self, peer: PeerId, prefix: &Prefix, bare: bool) -> Option<PathAttrs> {
        let slot = self.slot(peer)?;
        let family = prefix.family();
        let known = self.shared.peer(slot);
        let table = &self.tables[family as usize].table;
        let id = table.find(prefix)?;
        let member = known.families[family as usize].member.as_ref()?;
        let group = self.shared.groups[family as usize][member.group].as_ref()?;
        if !member.has(group, slot, id) {
            return None;
        }
        let mut terms = Terms::of(self.config(), known, known.up.as_ref()?, family);
        terms.path.bare = bare;
        let entry = &table.entries[id as usize];
        let mut offers = offers(&self.shared, entry, prefix, &terms).filter(|path| terms.echo || path.source != slot);
        offers.find_map(|path| self.as_told(&terms, entry, prefix, &path))
    }

    /// How a path is told to a peer with `terms`, if it may be.
    fn as_told(&self, terms: &Terms, entry: &Entry, prefix: &Prefix, path: &Path) -> Option<PathAttrs> {
        let from = Teller::of(&self.shared, path, terms.family);
        let attrs = path.effective?;
        if path.source == conditions::default_slot() {
            return terms.default_route(from, self.shared.attrs.attrs(attrs));
        }
        if terms.is_withheld(&self.shared, prefix, attrs) {
            return None;
        }
        if terms.is_suppressed(&self.shared, prefix, attrs) {
            return terms.unsuppressed(from, prefix, self.shared.attrs.attrs(attrs));
        }
        if let Some(advertised) = terms.advertised(&self.shared, from, prefix, attrs) {
            return Some(advertised);
        }
        let outline = terms.outline(from, self.shared.attrs.attrs(attrs))?;
        let changes = terms.permits(prefix, &outline, &self.shared.roas)?;
        let sharing = sharing(&self.shared, terms, entry, |_| true);
        Some(terms.finish(from.kind, outline, &changes, sharing))
    }
}

fn poll(
    own: &RibConfig,
    shared: &mut Shared,
    table: &mut FamilyTable,
    (group, index): (&mut Group, usize),
    budget: usize,
    without: bool,
    room: &mut dyn FnMut(PeerId) -> Room,
) -> Polled {
    let family = table.family;
    let (mut ready, mut behind, mut owed): (Vec<(Slot, PeerId)>, Vec<Slot>, bool) = (Vec::new(), Vec::new(), false);
    for slot in &group.members {
        let peer = shared.peer_mut(*slot);
        let Source::Peer(id) = peer.source else { continue };
        let Some(member) = &mut peer.families[family as usize].member else { continue };
        if member.behind.is_some() {
            behind.push(*slot);
            continue;
        }
        owed |= member.end_of_rib_in > 0;
        ready.push((*slot, id));
    }
    if group.dirty.is_empty() && !owed {
        return Polled::Nothing;
    }
    // Asked only now: who asks may wish to be told when there is room.
    let rooms: SmallVec<[Room; 8]> = ready.iter().map(|(_, id)| room(*id)).collect();
    // Somebody is worth waiting for; or there is nobody to go on for, and those that are stuck may as well be waited for.
    let nobody = !ready.is_empty() && !without && !rooms.contains(&Room::Ready);
    if rooms.contains(&Room::Full) || nobody {
        return Polled::Blocked;
    }
    let mut rooms = rooms.into_iter();
    ready.retain(|(slot, _)| {
        let keeps_pace = rooms.next() == Some(Room::Ready);
        if !keeps_pace && let Some(member) = &mut shared.peer_mut(*slot).families[family as usize].member {
            member.behind = Some(Box::default());
            behind.push(*slot);
        }
        keeps_pace
    });
    let mut making = Making::new();
    let (mut end_of_rib, mut looked) = (Vec::new(), false);
    for _ in 0..budget {
        let Some(id) = group.dirty.next_from(group.cursor) else {
            // The end of a pass: whatever there was when it began has been handed over.
            group.cursor = 0;
            pass_ended(shared, group, family, &mut end_of_rib);
            if !end_of_rib.is_empty() || group.dirty.is_empty() {
                break;
            }
            continue;
        };
        group.cursor = id + 1;
        group.dirty.remove(id);
        looked = true;
        let doubtful = group.doubtful.remove(id);
        // An unsuppress-map changes what a route says, too.
        let doubtful = doubtful && !group.terms.may_unsuppress();
        if group.several.is_some() {
            look_at_several(shared, table, group, id, &mut making);
        } else if !look(own, shared, table, (group, index), (id, doubtful), &behind, &mut making) {
            continue;
        }
        if shared.monitors.watch_adj_out(family) {
            for (slot, _) in &ready {
                shared.monitors.told(*slot, family, id);
            }
        }
    }
    if group.dirty.is_empty() && group.cursor > 0 {
        group.cursor = 0;
        pass_ended(shared, group, family, &mut end_of_rib);
    }
    let Making { announced, withdrawn, .. } = making;
    let members = ready.into_iter().map(|(_, id)| id).collect();
    let batch = GroupBatch { family, members, announced, withdrawn: withdrawn.into_vec(), end_of_rib };
    // Whoever is behind may have waited for a look that came to nothing.
    if batch.is_empty() && !looked { Polled::Nothing } else { Polled::Batch(batch) }
}

/// Members for whom the pass was the last that End-of-RIB had to wait for.
fn pass_ended(shared: &mut Shared, group: &Group, family: Family, end_of_rib: &mut Vec<PeerId>) {
    let last = group.dirty.is_empty();
    for slot in &group.members {
        let peer = shared.peer_mut(*slot);
        let (Source::Peer(id), Some(member)) = (peer.source, &mut peer.families[family as usize].member) else {
            continue;
        };
        match (member.end_of_rib_in, &member.behind) {
            (0, _) => {}
            (1, Some(_)) => {} // it has to catch up first
            (passes, None) if passes == 1 || last => {
                member.end_of_rib_in = 0;
                end_of_rib.push(id);
            }
            (_, _) => member.end_of_rib_in -= 1,
        }
    }
}

/// Whose paths a group is to be told of an entry; `making` takes what is to be said then. The members have the path of
/// `known` as it is.
fn choose(
    own: &RibConfig,
    shared: &Shared,
    table: &FamilyTable,
    (group, index): (&Group, usize),
    (id, known): (u32, Option<Slot>),
    making: &mut Making,
) -> Told {
    let (prefix, entry) = (table.table.prefix(id), &table.table.entries[id as usize]);
    let full = || group.terms.maximum_out.is_some_and(|limit| group.told_count() >= limit);
    if group.told(id).first.is_none() && full() {
        return Told::default();
    }
    making.share(shared, &group.terms, entry);
    let mut offers = offers(shared, entry, &prefix, &group.terms);
    let first = offers.find(|path| {
        making.only_asking = known == Some(path.source);
        making.announce(own, shared, (group, index), &prefix, path)
    });
    making.only_asking = false;
    let first = first.map(|path| path.source);
    if group.terms.echo {
        return Told { first, second: first };
    }
    let own_view = |source: &Slot| {
        group.terms.alternatives == Alternatives::Permitted && entry.paths.len() > 1 && {
            let member = &shared.peer(*source).families[table.family as usize].member;
            member.as_ref().is_some_and(|member| member.group == index)
        }
    };
    let second = first.filter(own_view).and_then(|whose| {
        offers.find(|path| path.source != whose && making.announce_to(own, shared, group, whose, &prefix, path))
    });
    Told { first, second: second.map(|path| path.source) }
}

/// What the group is to be told of an entry; whether it is anything. A `doubtful` one is told of only where that is another
/// path than before, or none.
fn look(
    own: &RibConfig,
    shared: &mut Shared,
    table: &mut FamilyTable,
    (group, index): (&mut Group, usize),
    (id, doubtful): (u32, bool),
    behind: &[Slot],
    making: &mut Making,
) -> bool {
    let prefix = table.table.prefix(id);
    let known = group.told(id).first.filter(|_| doubtful);
    let after = choose(own, shared, table, (group, index), (id, known), making);
    let before = group.tell(id, after);
    if (doubtful, before) == (true, after) && (after.second.is_none() || after.second == after.first) {
        return false;
    }
    let member = |slot: Slot| keeping_pace(shared, table.family, index, slot);
    let entry = &mut table.table.entries[id as usize];
    match (before.first, after.first) {
        (None, None) => return true,
        (None, Some(_)) => entry.sent += 1,
        (Some(first), None) => {
            entry.sent -= 1;
            // Whose path it was never had it from us.
            let source = if before.second.is_none() { member(first) } else { None };
            making.withdraw(Audience::Except([source, None]), prefix, None);
        }
        // Only the sources of the old path and of the new one may have nothing in the place of what they had.
        (Some(first), Some(now)) => {
            for source in std::iter::once(first).chain((now != first).then_some(now)) {
                if before.to(source).is_some()
                    && after.to(source).is_none()
                    && let Some(only) = member(source)
                {
                    making.withdraw(Audience::Only(only), prefix, None);
                }
            }
        }
    }
    let unchanged = |slot: Slot| known.is_some() && (before.to(slot), after.to(slot)) == (known, known);
    for slot in behind.iter().filter(|slot| !unchanged(**slot)) {
        let Some(member) = &mut shared.peer_mut(*slot).families[table.family as usize].member else { continue };
        if let Some(state) = &mut member.behind
            && state.miss(id, before.to(*slot).is_some(), after.to(*slot).is_some())
        {
            table.table.entries[id as usize].sent += 1;
        }
    }
    if after.first.is_none() {
        table.reap(id);
    }
    true
}

/// What the only member of a group is to be told of an entry's paths.
fn look_at_several(shared: &mut Shared, table: &mut FamilyTable, group: &mut Group, id: u32, making: &mut Making) {
    let (family, prefix) = (table.family, table.table.prefix(id));
    let full =
        group.terms.maximum_out.is_some_and(|limit| group.told(id).first.is_none() && group.told_count() >= limit);
    let Some(several) = &mut group.several else { return };
    let everybody = Audience::Except([None; 2]);
    let (mut told, mut first): (SmallVec<[u32; 2]>, _) = (SmallVec::new(), None);
    let entry = &table.table.entries[id as usize];
    making.share(shared, &group.terms, entry);
    for path in several_paths(shared, family, entry, &prefix, several, &group.terms).iter().filter(|_| !full) {
        let name = PathIds::announced(path.source, path.id);
        if making.place(shared, &group.terms, &prefix, path, everybody, Some(name)).is_some() {
            told.push(name);
            first.get_or_insert(path.source);
        }
    }
    for gone in several.told.remove(&id).into_iter().flatten().filter(|name| !told.contains(name)) {
        making.withdraw(everybody, prefix, Some(gone));
    }
    if !told.is_empty() {
        several.told.insert(id, told);
    }
    let entry = &mut table.table.entries[id as usize];
    let second = first.filter(|_| group.terms.echo);
    match (group.tell(id, Told { first, second }).first, first) {
        (None, Some(_)) => entry.sent += 1,
        (Some(_), None) => table.unsent(id),
        _ => {}
    }
}

/// The paths of an entry that a peer is told that takes several.
fn several_paths(
    shared: &Shared,
    family: Family,
    entry: &Entry,
    prefix: &Prefix,
    several: &Several,
    terms: &Terms,
) -> SmallVec<[Path; 4]> {
    let best = conditions::told(entry, prefix, terms.default_route.is_some());
    if let Some(default) = best.filter(|path| path.source == conditions::default_slot()) {
        return SmallVec::from_iter([default]); // ours in place of all others
    }
    if let Some(lost) = terms.tells_lost().then(|| shared.tunnel_lost(entry)).flatten() {
        return SmallVec::from_iter([lost]); // there is no other
    }
    let others = entry.paths.iter().filter(|path| terms.echo || path.source != several.whose);
    let (candidates, paths): (Vec<Candidate<'_>>, SmallVec<[Path; 4]>) =
        others.filter_map(|path| Some((shared.candidate(family, path)?, *path))).unzip();
    match several.which {
        AddPaths::All => paths,
        AddPaths::BestPerNeighbor => {
            decision::best_per_neighbor(&candidates, &shared.decision).into_iter().map(|at| paths[at]).collect()
        }
    }
}

fn catch_up(
    own: &RibConfig,
    shared: &mut Shared,
    table: &mut FamilyTable,
    slot: Slot,
    behind: &mut Behind,
    budget: usize,
) -> Option<OutBatch> {
    let family = table.family;
    let peer = shared.peer(slot);
    let (terms, index) =
        (Terms::of(own, peer, peer.up.as_ref()?, family), peer.families[family as usize].member.as_ref()?.group);
    let group = shared.groups[family as usize][index].take()?;
    let mut batch =
        OutBatch { family, withdrawn: Vec::new(), withdrawn_ids: Vec::new(), announced: Vec::new(), end_of_rib: false };
    let mut making = Making::new();
    let everybody = Audience::Except([None; 2]);
    let (mut done, mut skipped) = (0, 0);
    let mut wrapped = behind.cursor == 0;
    while done < budget && skipped < budget * SKIPS {
        let Some(id) = behind.entries.next_from(behind.cursor) else {
            behind.cursor = 0;
            if std::mem::replace(&mut wrapped, true) {
                break;
            }
            continue;
        };
        behind.cursor = id + 1;
        if group.dirty.contains(id) {
            skipped += 1; // the group has to look at it first
            continue;
        }
        done += 1;
        let visible = group.is_visible(id, slot);
        let had = behind.caught_up(id, visible);
        shared.monitors.told(slot, family, id);
        let prefix = table.table.prefix(id);
        let entry = &table.table.entries[id as usize];
        making.share(shared, &terms, entry);
        let told = offers(shared, entry, &prefix, &terms)
            .filter(|path| visible && (terms.echo || path.source != slot))
            .any(|path| making.place(shared, &terms, &prefix, &path, everybody, None).is_some());
        if had {
            table.unsent(id);
            if !told {
                batch.withdrawn.push(prefix);
            }
        }
    }
    shared.groups[family as usize][index] = Some(group);
    batch.announced = making.announced.into_iter().map(|(_, group)| group).collect();
    (done > 0).then_some(batch)
}
