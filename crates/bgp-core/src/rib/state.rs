//! How an entry changes: every path that comes or goes ends in [`FamilyTable::settle`].

use std::net::IpAddr;

use bgp_wire::Labels;
use foldhash::quality::FixedState;
use hashbrown::HashMap;
use net_types::{Family, Prefix};
use smallvec::SmallVec;

use super::{
    Slot,
    aggregate::{self, Aggregates},
    attrs::{AttrId, Interner, Merit},
    bandwidth,
    conditions::{Condition, default_slot},
    dampening::Flaps,
    id_set::IdSet,
    monitor::Monitors,
    next_hops::NextHops,
    path_ids::PathIds,
    peer::{GHOST_EPOCH, Peer, Protection, Retain, Standing},
    table::{Entry, Path, Table},
};
use crate::{
    adj_out::{Alternatives, Group},
    decision::{self, Candidate, DecisionOptions, SourceKind},
    policy::Policy,
    validation::RoaTable,
};

/// What both families share.
pub(crate) struct Shared {
    pub(crate) decision: DecisionOptions,
    pub(crate) peers: Vec<Option<Peer>>,
    pub(crate) attrs: Interner,
    pub(crate) next_hops: NextHops,
    pub(crate) path_ids: PathIds,
    /// Peers to tell of changes, by what they are told; per family.
    pub(crate) groups: [Vec<Option<Group>>; Family::COUNT],
    /// There is a FIB to be told.
    pub(crate) fib: bool,
    /// What origins are validated by.
    pub(crate) roas: RoaTable,
    /// Who watches everything.
    pub(crate) monitors: Monitors,
    pub(crate) aggregates: [Aggregates; Family::COUNT],
    /// What announcements to some peers depend on.
    pub(crate) conditions: [Vec<Condition>; Family::COUNT],
    /// `table-map`: what best paths go through on their way into the FIB.
    pub(crate) table_maps: [Policy; Family::COUNT],
    /// `ip protocol bgp route-map`: what they go through after that.
    pub(crate) protocol_maps: [Policy; Family::COUNT],
    /// What has flapped, where that is dampened.
    pub(crate) dampening: [Option<Box<Flaps>>; Family::COUNT],
    /// The labels of paths for prefixes of VPNs, by source and number. They are no part of the attributes, which thousands
    /// of prefixes share that have a label each.
    pub(crate) labels: HashMap<(Prefix, Slot, u32), Labels, FixedState>,
}

pub(super) const CONFIGURED: &str = "a slot is freed only after the paths that name it";

impl Shared {
    pub(crate) fn peer(&self, slot: Slot) -> &Peer {
        self.peers[usize::from(slot.0)].as_ref().expect(CONFIGURED)
    }

    pub(crate) fn peer_mut(&mut self, slot: Slot) -> &mut Peer {
        self.peers[usize::from(slot.0)].as_mut().expect(CONFIGURED)
    }

    /// Whether `path` may be used now, and if only for want of a better one.
    pub(crate) fn standing(&self, family: Family, path: &Path) -> Standing {
        let peer = self.peer(path.source);
        let standing = match peer.standing(family, path.epoch) {
            // RFC 9494 §4.2: NO_LLGR. What came through a tunnel stays protected all the same.
            Standing::Stale
                if peer.families[family as usize].long_lived
                    && path.effective.is_some_and(|id| self.attrs.merit(id).0.never_long_lived) =>
            {
                if peer.remains() == Retain::Ghosts { Standing::Ghost } else { Standing::Gone }
            }
            standing => standing,
        };
        match standing {
            // It drops what we send there, as we do.
            Standing::Fresh | Standing::Stale if self.says(path, |merit| merit.tunnel_lost) => Standing::Ghost,
            Standing::Ghost if !self.protects_if_kept(path) => Standing::Gone,
            standing => standing,
        }
    }

    /// Whether an internal peer says so of its path. What others say of tunnels is of no interest.
    fn says(&self, path: &Path, what: impl FnOnce(&Merit) -> bool) -> bool {
        let internal = self.peer(path.source).kind == SourceKind::Internal;
        internal && path.effective.is_some_and(|id| what(self.attrs.merit(id).0))
    }

    /// Whether `path` protects its prefix while it is not gone.
    pub(crate) fn protects_if_kept(&self, path: &Path) -> bool {
        match self.peer(path.source).config.protection {
            Protection::None => false,
            Protection::AsTold => self.says(path, |merit| merit.through_tunnel || merit.tunnel_lost),
            Protection::OnFailure | Protection::Always => true,
        }
    }

    /// Of a prefix that has no usable path and is protected: the path that came through a tunnel of ours. Internal peers are told
    /// of it, so that they protect the prefix as well. As with any other, what was decided last counts.
    pub(crate) fn tunnel_lost(&self, entry: &Entry) -> Option<Path> {
        if entry.sharing > 0 || !entry.protect {
            return None;
        }
        let tunnel = |peer: &Peer| peer.has_tunnel() && peer.kind != SourceKind::Internal;
        let ours = |path: &&Path| path.effective.is_some() && tunnel(self.peer(path.source));
        // As a ghost, be it that it only lacks its next hop.
        entry.paths.iter().find(ours).map(|path| Path { epoch: GHOST_EPOCH, ..*path })
    }

    /// `path` as the decision process sees it, if it is usable.
    pub(crate) fn candidate(&self, family: Family, path: &Path) -> Option<Candidate<'_>> {
        if path.source == default_slot() {
            return None; // it is for peers that are told one, whatever is in the table
        }
        let peer = self.peer(path.source);
        let stale = match self.standing(family, path) {
            Standing::Fresh => false,
            Standing::Stale => true,
            Standing::Ghost | Standing::Gone => return None,
        };
        let (merit, next_hop) = self.attrs.merit(path.effective?);
        let resolved = self.next_hops.resolved(next_hop?)?; // RFC 4271 §9.1.2.1
        Some(Candidate {
            merit,
            kind: peer.kind,
            stale: stale || merit.long_lived_stale,
            router_id: peer.router_id,
            address: peer.config.address,
            metric: resolved.metric,
            learned: path.learned,
            source: path.source.0,
            id: path.id,
            exit: (resolved.ifindex, resolved.gateway),
        })
    }

    /// Whether losing `path` must not let packets out in the clear.
    fn protects(&self, family: Family, path: &Path) -> bool {
        path.effective.is_some() && self.protects_if_kept(path) && self.standing(family, path) != Standing::Gone
    }

    /// Whether a path is worth nothing while its router does not hear us, since it goes on sending packets to us: it preferred
    /// what we told it, and still does if it restarts (RFC 4724 §4.1).
    pub(crate) fn is_sent_back(&self, family: Family, path: &Path, entry: &Entry) -> bool {
        let Some(theirs) = self.candidate(family, path) else { return false };
        // As it was there: that we have lost the session since is not known to it.
        let theirs = Candidate { stale: theirs.merit.long_lived_stale, ..theirs };
        entry.paths.iter().any(|other| {
            self.candidate(family, other).is_some_and(|ours| decision::prefers_ours(&theirs, &ours, &self.decision))
        })
    }

    /// Notes the labels of a path, or that it has none any more; whether that is news.
    pub(crate) fn label(&mut self, prefix: Prefix, source: Slot, number: u32, labels: Option<&Labels>) -> bool {
        let key = (prefix, source, number);
        match labels {
            Some(labels) if self.labels.get(&key) == Some(labels) => false,
            Some(labels) => {
                self.labels.insert(key, labels.clone());
                true
            }
            None => self.labels.remove(&key).is_some(),
        }
    }

    /// The labels of a path.
    pub(crate) fn labels(&self, prefix: &Prefix, path: &Path) -> Labels {
        if prefix.rd().is_none() {
            return Labels::new();
        }
        self.labels.get(&(*prefix, path.source, path.id)).cloned().unwrap_or_default()
    }

    fn let_go(&mut self, path: &Path) {
        self.attrs.release(path.received);
        if let Some(id) = path.effective {
            self.attrs.deactivate(id, &mut self.next_hops);
        }
    }
}

/// What the decision process asks of paths that may share packets.
struct Details<'a> {
    shared: &'a Shared,
    entry: &'a Entry,
    /// Where each candidate is in the entry.
    places: &'a [usize],
}

impl Details<'_> {
    fn path(&self, candidate: usize) -> &Path {
        &self.entry.paths[self.places[candidate]]
    }
}

impl decision::Details for Details<'_> {
    fn next_hop(&self, candidate: usize) -> IpAddr {
        let path = self.path(candidate);
        self.shared.attrs.next_hop(path.effective.unwrap_or(path.received)).address()
    }

    fn peer_as(&self, candidate: usize) -> u32 {
        self.shared.peer(self.path(candidate).source).remote_as.map_or(0, |asn| asn.get())
    }

    fn same_as_path(&self, a: usize, b: usize) -> bool {
        let [a, b] = [a, b].map(|at| self.path(at).effective);
        let as_path = |id: Option<AttrId>| id.map(|id| self.shared.attrs.attrs(id).attributes.as_path);
        a == b || as_path(a) == as_path(b)
    }
}

type Beside = SmallVec<[(Slot, AttrId); 4]>;

/// What of an entry others depend on: compared before and after a change.
#[derive(Clone, PartialEq, Eq)]
struct Outcome {
    best: Option<(Slot, AttrId)>,
    /// Those that share its packets. Nearly always nothing, which is to cost nothing.
    beside: Option<Box<Beside>>,
    alternate: Option<(Slot, AttrId)>,
    protect: bool,
}

impl Outcome {
    #[inline]
    fn of(entry: &Entry) -> Self {
        let name = |path: &Path| Some((path.source, path.effective?));
        let beside = || Box::new(entry.sharing().iter().skip(1).filter_map(name).collect::<Beside>());
        Self {
            best: entry.best().and_then(name),
            beside: (entry.sharing > 1).then(beside),
            alternate: entry.alternate().and_then(name),
            protect: entry.protect,
        }
    }

    /// Packets are dropped rather than sent some other way.
    fn is_closed(&self) -> bool {
        self.best.is_none() && self.protect
    }
}

/// One family's prefixes and what is to be said about them.
pub(crate) struct FamilyTable {
    pub(crate) family: Family,
    pub(crate) table: Table,
    /// Entries whose best path, alternate or protection the FIB has not been told.
    pub(crate) fib_dirty: IdSet,
    pub(crate) fib_cursor: u32,
    /// Entries with a best path.
    pub(crate) reachable: u32,
    /// Entries that may hold nothing any more. They are forgotten when there is time: those who wait for news of other
    /// prefixes need not wait for that.
    doomed: Vec<u32>,
}

/// Entries that are forgotten together.
const SWEPT: usize = 1024;

impl FamilyTable {
    pub(crate) fn new(family: Family, seed: u64) -> Self {
        let table = Table::new(family, seed);
        Self { family, table, fib_dirty: IdSet::default(), fib_cursor: 0, reachable: 0, doomed: Vec::new() }
    }

    /// Puts `path` in place of what its source said before under the same number. The caller lends the references that
    /// `path` carries; the entry takes its own. Whether the prefix is new from this source, in this epoch.
    pub(crate) fn put(&mut self, shared: &mut Shared, id: u32, path: Path) -> bool {
        let Self { family, table, .. } = self;
        let entry = &mut table.entries[id as usize];
        let at = entry.position(path.source, path.id);
        let old = at.map(|at| entry.paths[at]);
        if let Some(old) = old
            && (old.received, old.effective, old.epoch) == (path.received, path.effective, path.epoch)
        {
            return false; // said again: nothing changes, not even its age
        }
        let same = old.is_some_and(|old| old.received == path.received);
        let path = Path { learned: old.filter(|_| same).map_or(path.learned, |old| old.learned), ..path };
        shared.attrs.hold(path.received);
        if let Some(effective) = path.effective {
            let next_hop = shared.attrs.activate(effective, &mut shared.next_hops);
            shared.next_hops.depend(next_hop, *family, id);
        }
        let before = Outcome::of(entry);
        match at {
            Some(at) => entry.paths[at] = path,
            None => {
                shared.path_ids.hold_again(path.id);
                entry.paths.push(path);
            }
        }
        let peer = shared.peer_mut(path.source);
        let epoch = peer.epoch;
        let state = &mut peer.families[*family as usize];
        let fresh_before = old.filter(|old| old.epoch == epoch);
        state.adj_in.insert(id);
        state.paths += u32::from(old.is_none());
        if path.epoch == epoch {
            state.received += 1;
            state.accepted += u32::from(path.effective.is_some());
        }
        if let Some(old) = fresh_before {
            state.received -= 1;
            state.accepted -= u32::from(old.effective.is_some());
        }
        shared.monitors.heard(path.source, self.family, id);
        self.decide(shared, id, before, Some(path.source));
        if old.is_some_and(|old| old.epoch != path.epoch) {
            self.aged(shared, id, path.source);
        }
        if let Some(old) = old {
            shared.let_go(&old); // only now: a number that is free might have come back as the new one's
        }
        fresh_before.is_none()
    }

    /// Takes out what `source` said under a number of ours; whether there was anything.
    pub(crate) fn take(&mut self, shared: &mut Shared, id: u32, source: Slot, number: u32) -> bool {
        let entry = &mut self.table.entries[id as usize];
        let Some(at) = entry.position(source, number) else { return false };
        let before = Outcome::of(entry);
        // Order carries meaning only for the first two, and `decide` settles those anew.
        let old = entry.paths.swap_remove(at);
        (entry.sharing, entry.has_alternate) = (0, false);
        let others = entry.paths.iter().any(|path| path.source == source);
        let peer = shared.peer_mut(source);
        let fresh = old.epoch == peer.epoch;
        let state = &mut peer.families[self.family as usize];
        state.paths -= 1;
        if !others {
            state.adj_in.remove(id);
        }
        if fresh {
            state.received -= 1;
            state.accepted -= u32::from(old.effective.is_some());
        }
        shared.monitors.heard(source, self.family, id);
        self.decide(shared, id, before, Some(source));
        shared.let_go(&old);
        shared.path_ids.release(number);
        if self.family.is_vpn() {
            shared.label(self.table.prefix(id), source, number, None);
        }
        self.reap(id);
        true
    }

    /// Turns what `source` said into a ghost: not usable, still protecting, for as long as one of this epoch does.
    pub(crate) fn haunt(&mut self, shared: &mut Shared, id: u32, source: Slot, number: u32, epoch: u16) {
        let entry = &mut self.table.entries[id as usize];
        let Some(at) = entry.position(source, number) else { return };
        let before = Outcome::of(entry);
        let peer = shared.peer_mut(source);
        let path = &mut entry.paths[at];
        let state = &mut peer.families[self.family as usize];
        if path.epoch == peer.epoch {
            state.received -= 1;
            state.accepted -= u32::from(path.effective.is_some());
        }
        path.epoch = epoch;
        shared.monitors.heard(source, self.family, id);
        self.decide(shared, id, before, Some(source));
    }

    /// Other labels stand in front of a path than before: whoever was told of it is told again.
    pub(crate) fn relabelled(&mut self, shared: &mut Shared, id: u32) {
        self.fib_dirty.insert(id);
        for group in shared.groups[self.family as usize].iter_mut().flatten() {
            group.changed(id);
        }
    }

    /// Decides an entry again because of something outside of it: a next hop, a session, an option.
    pub(crate) fn settle(&mut self, shared: &mut Shared, id: u32) {
        let entry = &self.table.entries[id as usize];
        let before = Outcome::of(entry);
        self.decide(shared, id, before, None);
    }

    /// The session of `source` has ended, or its path is fresh again: who was told of that path, and how fresh it is, is told
    /// again.
    pub(crate) fn aged(&self, shared: &mut Shared, id: u32, source: Slot) {
        let groups = shared.groups[self.family as usize].iter_mut().flatten();
        for group in groups.filter(|group| group.terms.marks_stale()) {
            if group.told(id).first == Some(source) {
                group.changed(id);
            }
        }
    }

    /// Puts the best path first and the alternate second, and notes whom that concerns. `of` is whose path came, went or
    /// has other attributes.
    fn decide(&mut self, shared: &mut Shared, id: u32, before: Outcome, of: Option<Slot>) {
        let family = self.family;
        let entry = &mut self.table.entries[id as usize];
        for group in shared.groups[family as usize].iter_mut().flatten() {
            if group.several.is_some() {
                group.dirty.insert(id); // who is told several paths hears of every one of them
            } else if group.terms.alternatives != Alternatives::None {
                // With several paths of one source its name does not say which of them was told.
                match of.is_none() && entry.paths.iter().any(|path| path.id != 0) {
                    true => group.changed(id),
                    false => group.reconsider(id, of),
                }
            }
        }
        match &entry.paths[..] {
            [] => (entry.sharing, entry.has_alternate) = (0, false),
            [only] => (entry.sharing, entry.has_alternate) = (shared.candidate(family, only).is_some().into(), false),
            _ => Self::choose(shared, family, entry),
        }
        entry.protect = entry.paths.iter().any(|path| shared.protects(family, path));
        let after = Outcome::of(entry);
        if before.is_closed() || after.is_closed() {
            // Whose path it was matters where nobody's is used.
            let told = |group: &&mut Group| group.terms.tells_lost();
            shared.groups[family as usize].iter_mut().flatten().filter(told).for_each(|group| group.changed(id));
        }
        if !shared.conditions[family as usize].is_empty() {
            shared.note_conditions(family, &self.table.prefix(id), id, &self.table.entries[id as usize]);
        }
        if after == before {
            return;
        }
        // What VRFs import is worked out with what the FIB is told, and is shown where there is none, too.
        if shared.fib || family.is_vpn() {
            self.fib_dirty.insert(id);
        }
        self.reachable += u32::from(after.best.is_some());
        self.reachable -= u32::from(before.best.is_some());
        if after.best != before.best {
            shared.monitors.decided(family, id);
            if !shared.aggregates[family as usize].is_empty() {
                let Shared { aggregates, attrs, .. } = shared;
                let merit = |best: Option<(Slot, AttrId)>| {
                    best.filter(|(source, _)| *source != aggregate::slot()).map(|(_, id)| attrs.merit(id).0)
                };
                let prefix = self.table.prefix(id);
                aggregates[family as usize].note(&prefix, id, merit(before.best), merit(after.best));
            }
            // The others have been asked above.
            let concerned = |group: &&mut Group| group.terms.alternatives == Alternatives::None;
            for group in shared.groups[family as usize].iter_mut().flatten().filter(concerned) {
                group.changed(id);
            }
        } else if after.beside != before.beside {
            let bandwidth = |(_, id)| bandwidth::of(&shared.attrs.attrs(id));
            let weighted = after.best.and_then(bandwidth).is_some();
            let concerned = |group: &&mut Group| weighted || group.terms.policy.concerns_sharing();
            for group in shared.groups[family as usize].iter_mut().flatten().filter(concerned) {
                group.changed(id);
            }
        }
    }

    /// Puts the paths of an entry in order.
    fn choose(shared: &Shared, family: Family, entry: &mut Entry) {
        let mut candidates: SmallVec<[Candidate<'_>; 4]> = SmallVec::new();
        let mut places: SmallVec<[usize; 4]> = SmallVec::new();
        for (at, path) in entry.paths.iter().enumerate() {
            if let Some(candidate) = shared.candidate(family, path) {
                candidates.push(candidate);
                places.push(at);
            }
        }
        let details = Details { shared, entry, places: &places };
        let maximum = &shared.decision.maximum_paths[family as usize];
        let choice = decision::choose(&candidates, &shared.decision, maximum, &details);
        drop(candidates);
        let sharing = choice.best.into_iter().chain(choice.beside);
        let mut front: SmallVec<[usize; 4]> = sharing.map(|i| places[i]).collect();
        entry.sharing = front.len() as u8; // no more than a maximum of that size
        entry.has_alternate = choice.alternate.is_some();
        front.extend(choice.alternate.map(|i| places[i]));
        for to in 0..front.len() {
            let from = front[to];
            entry.paths.swap(to, from);
            // What was there has moved to where the other one came from.
            front[to + 1..].iter_mut().filter(|place| **place == to).for_each(|place| *place = from);
        }
    }

    /// Every entry in use.
    pub(crate) fn live(&self) -> impl Iterator<Item = u32> {
        self.table.entries.iter().enumerate().filter(|(_, entry)| entry.live).map(|(id, _)| id as u32)
    }

    /// Somebody who was told of an entry is not any more.
    pub(crate) fn unsent(&mut self, id: u32) {
        self.table.entries[id as usize].sent -= 1;
        self.reap(id);
    }

    /// The number of `prefix`'s entry, which is made if need be. `None` if the prefix is of another family.
    pub(crate) fn number(&mut self, prefix: &Prefix) -> Option<u32> {
        if !self.table.has_free() && self.has_doomed() {
            self.sweep();
        }
        self.table.find_or_insert(prefix)
    }

    /// Lets an entry be forgotten that has no path left and that everybody has been told about, when there is time or its
    /// room is wanted.
    pub(crate) fn reap(&mut self, id: u32) {
        if self.is_over(id) {
            self.doomed.push(id);
            // Not more than there are, however often they come and go.
            if self.doomed.len() > self.table.entries.len() {
                self.sweep();
            }
        }
    }

    fn is_over(&self, id: u32) -> bool {
        let entry = &self.table.entries[id as usize];
        entry.live && entry.paths.is_empty() && entry.sent == 0 && !self.fib_dirty.contains(id)
    }

    /// Forgets some of what was [reaped](Self::reap) and has not come back since. How many were looked at.
    pub(crate) fn sweep(&mut self) -> usize {
        let mut some = self.doomed.split_off(self.doomed.len().saturating_sub(SWEPT));
        let count = some.len();
        some.retain(|id| self.is_over(*id));
        self.table.forget(&some);
        count
    }

    /// Whether there is something to [`sweep`](Self::sweep).
    pub(crate) fn has_doomed(&self) -> bool {
        !self.doomed.is_empty()
    }
}
