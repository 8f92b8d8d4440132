//! Path-lists and the nexthop objects that they are.

use std::hash::{Hash, Hasher};

use hashbrown::{Equivalent, HashMap, HashSet};
use net_types::Family;

use crate::{
    backend::{Nexthop, NexthopId},
    path::{PathKey, PathState, Scope, States},
};

type Fast = foldhash::fast::RandomState;

/// Ids are taken from a range of our own, so that an operator's small numbers are never in the way.
const FIRST_ID: u32 = 0x4800_0000;
const LAST_ID: u32 = 0x48ff_ffff;

/// One nexthop object.
pub(super) struct Slot {
    pub(super) family: Family,
    /// Best first; `None` for one found at start whose meaning is not known yet.
    pub(super) candidates: Option<Box<[PathKey]>>,
    /// What the kernel holds under this id; `None` when it holds nothing.
    pub(super) present: Option<Nexthop>,
    /// An answer was lost: the kernel may hold something else than `present`, and routes that use it.
    pub(super) uncertain: bool,
    /// Routes in the kernel that use it.
    pub(super) users: usize,
    /// Routes that should use it.
    pub(super) wanted: usize,
    /// Routes in the kernel that use it and should not.
    pub(super) lagging: usize,
    /// The last resync in which it was read or written.
    pub(super) seen: u32,
    listed_idle: bool,
}

impl Slot {
    /// What the object should do, as things stand.
    pub(super) fn choose(&self, states: &States) -> Nexthop {
        match (&self.candidates, self.present) {
            (Some(candidates), _) => choose(self.family, candidates.iter(), states),
            // Not understood yet: goes on as it is while its interface lives, and fails closed afterwards.
            (None, Some(Nexthop::Via { ifindex, gateway, .. }))
                if states.of(&PathKey { source: u32::MAX, ifindex, gateway }) == PathState::Dead =>
            {
                Nexthop::Blackhole(self.family)
            }
            (None, Some(present)) => present,
            (None, None) => Nexthop::Blackhole(self.family),
        }
    }

    /// What it would do without the path that `nexthop` stands for.
    pub(super) fn after(&self, nexthop: Nexthop, states: &States) -> Nexthop {
        let Nexthop::Via { ifindex, gateway, .. } = nexthop else { return nexthop };
        let others = |path: &&PathKey| (path.ifindex, path.gateway) != (ifindex, gateway);
        choose(self.family, self.candidates.iter().flatten().filter(others), states)
    }

    /// Whether what it does now is still fine, so that doing better can wait for the routes that have to leave first.
    pub(super) fn present_is_sound(&self, states: &States) -> bool {
        match (self.present, &self.candidates) {
            (Some(Nexthop::Blackhole(_)), _) => true,
            (Some(Nexthop::Via { ifindex, gateway, .. }), Some(candidates)) => candidates
                .iter()
                .any(|path| (path.ifindex, path.gateway) == (ifindex, gateway) && states.of(path) == PathState::Up),
            (Some(Nexthop::Via { .. }), None) | (None, _) => false,
        }
    }
}

/// The first path that is up, else the first of last resort, else nothing gets through.
fn choose<'a>(family: Family, candidates: impl Iterator<Item = &'a PathKey> + Clone, states: &States) -> Nexthop {
    // IPv4 goes over an IPv6 gateway (RFC 8950), but not the other way round.
    let fits = |path: &PathKey| family == Family::Ipv4Unicast || path.gateway.is_none_or(|gateway| gateway.is_ipv6());
    let of_state = |wanted| candidates.clone().find(|path| fits(path) && states.of(path) == wanted);
    match of_state(PathState::Up).or_else(|| of_state(PathState::LastResort)) {
        Some(path) => {
            Nexthop::Via { family: nexthop_family(family, path), ifindex: path.ifindex, gateway: path.gateway }
        }
        None => Nexthop::Blackhole(family),
    }
}

/// As the kernel reports it back: the gateway's family, where there is a gateway.
fn nexthop_family(family: Family, path: &PathKey) -> Family {
    match path.gateway {
        Some(gateway) if gateway.is_ipv4() => Family::Ipv4Unicast,
        Some(_) => Family::Ipv6Unicast,
        None => family,
    }
}

#[derive(PartialEq, Eq)]
struct ListKey(Family, Box<[PathKey]>);

/// A [`ListKey`] that borrows, for lookups that allocate nothing.
struct ListRef<'a>(Family, &'a [PathKey]);

impl Hash for ListKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        ListRef(self.0, &self.1).hash(state);
    }
}

impl Hash for ListRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
        self.1.hash(state);
    }
}

impl Equivalent<ListKey> for ListRef<'_> {
    fn equivalent(&self, key: &ListKey) -> bool {
        self.0 == key.0 && *self.1 == *key.1
    }
}

/// All of them, and the ways to find one.
#[derive(Default)]
pub(super) struct Slots {
    by_id: HashMap<NexthopId, Slot, Fast>,
    by_list: HashMap<ListKey, NexthopId, Fast>,
    by_source: HashMap<u32, HashSet<NexthopId, Fast>, Fast>,
    by_interface: HashMap<u32, HashSet<NexthopId, Fast>, Fast>,
    last_id: u32,
    /// Slots whose last user or claimant left; looked at again before they are removed.
    idle: Vec<NexthopId>,
}

impl Slots {
    pub(super) fn get(&self, id: NexthopId) -> Option<&Slot> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: NexthopId) -> Option<&mut Slot> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (NexthopId, &mut Slot)> {
        self.by_id.iter_mut().map(|(id, slot)| (*id, slot))
    }

    pub(super) fn ids(&self) -> Vec<NexthopId> {
        self.by_id.keys().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The path-list of these candidates, made when there is none yet.
    ///
    /// `hint` is the object that the asking route uses: one found at start that already does the right thing becomes
    /// the path-list, so that its routes need not be rewritten.
    pub(super) fn list(
        &mut self,
        family: Family,
        candidates: &[PathKey],
        hint: Option<NexthopId>,
        states: &States,
    ) -> NexthopId {
        if let Some(id) = self.by_list.get(&ListRef(family, candidates)) {
            return *id;
        }
        let wanted = choose(family, candidates.iter(), states);
        let fits = |slot: &Slot| slot.candidates.is_none() && slot.family == family && slot.present == Some(wanted);
        let adopted = hint.filter(|id| self.by_id.get(id).is_some_and(fits));
        let id = match adopted {
            Some(id) => id,
            None => {
                let id = self.unused_id();
                self.add(id, family, None);
                id
            }
        };
        for path in candidates {
            self.by_source.entry(path.source).or_default().insert(id);
            self.by_interface.entry(path.ifindex).or_default().insert(id);
        }
        if let Some(slot) = self.by_id.get_mut(&id) {
            slot.candidates = Some(candidates.into());
        }
        self.by_list.insert(ListKey(family, candidates.into()), id);
        id
    }

    /// Enters an object that the kernel holds, or (with `present` none) is about to.
    pub(super) fn add(&mut self, id: NexthopId, family: Family, present: Option<Nexthop>) {
        let slot = Slot {
            family,
            candidates: None,
            present,
            uncertain: false,
            users: 0,
            wanted: 0,
            lagging: 0,
            seen: 0,
            listed_idle: false,
        };
        if let Some(Nexthop::Via { ifindex, .. }) = present {
            self.by_interface.entry(ifindex).or_default().insert(id);
        }
        self.by_id.insert(id, slot);
    }

    pub(super) fn remove(&mut self, id: NexthopId) {
        let Some(slot) = self.by_id.remove(&id) else { return };
        if let Some(candidates) = slot.candidates {
            for path in &candidates {
                forget(&mut self.by_source, path.source, id);
                forget(&mut self.by_interface, path.ifindex, id);
            }
            self.by_list.remove(&ListRef(slot.family, &candidates));
        }
        if let Some(Nexthop::Via { ifindex, .. }) = slot.present {
            forget(&mut self.by_interface, ifindex, id);
        }
    }

    /// Notes that an object may be of no use any more.
    pub(super) fn list_idle(&mut self, id: NexthopId) {
        if let Some(slot) = self.by_id.get_mut(&id)
            && !std::mem::replace(&mut slot.listed_idle, true)
        {
            self.idle.push(id);
        }
    }

    /// Whether there may be objects of no use.
    pub(super) fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// The next object that is of no use any more.
    pub(super) fn next_idle(&mut self) -> Option<NexthopId> {
        while let Some(id) = self.idle.pop() {
            if let Some(slot) = self.by_id.get_mut(&id) {
                slot.listed_idle = false;
                if slot.users == 0 && slot.wanted == 0 {
                    return Some(id);
                }
            }
        }
        None
    }

    /// Those that `scope` may concern.
    pub(super) fn concerned(&self, scope: Scope) -> Vec<NexthopId> {
        let found = match scope {
            Scope::Source(source) | Scope::Monitored(source) => self.by_source.get(&source),
            Scope::Link(ifindex) | Scope::Tunnel(ifindex) => self.by_interface.get(&ifindex),
            Scope::Path(path) => self.by_interface.get(&path.ifindex),
        };
        found.into_iter().flatten().copied().collect()
    }

    fn unused_id(&mut self) -> NexthopId {
        loop {
            self.last_id = if (FIRST_ID..LAST_ID).contains(&self.last_id) { self.last_id + 1 } else { FIRST_ID };
            let id = NexthopId(self.last_id);
            if !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }
}

fn forget(index: &mut HashMap<u32, HashSet<NexthopId, Fast>, Fast>, key: u32, id: NexthopId) {
    if let Some(ids) = index.get_mut(&key) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(&key);
        }
    }
}
