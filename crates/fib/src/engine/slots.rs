//! Path-lists and the nexthop objects that they are: plain ones, or groups where paths share packets.

use std::net::IpAddr;

use hashbrown::{HashMap, HashSet};
use net_types::Family;

use super::members::Members;
use crate::{
    backend::{Change, Nexthop, NexthopId, Target},
    forwarding::Forwarding,
    path::{Damped, PathKey, PathState, Scope, States},
    path_list::PathList,
};

type Fast = foldhash::fast::RandomState;

/// Ids are taken from a range of our own, so that an operator's small numbers are never in the way.
const FIRST_ID: u32 = 0x4800_0000;
const LAST_ID: u32 = 0x48ff_ffff;

/// The source address of the routes found at start that use an object nobody has asked for yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FoundSource {
    /// There was none such route.
    #[default]
    NoRoute,
    /// All of them have this one, or none.
    Same(Option<IpAddr>),
    /// They differ: what is decided is written anew.
    Different,
}

/// One nexthop object.
pub(super) struct Slot {
    pub(super) family: Family,
    /// It is a group, and will be while it exists.
    pub(super) group: bool,
    /// `None` for one found at start whose meaning is not known yet.
    pub(super) list: Option<Box<PathList>>,
    /// Of one without a list.
    found_source: FoundSource,
    /// What the kernel holds under this id; `None` when it holds nothing.
    pub(super) present: Option<Forwarding>,
    /// Members that it keeps from being removed.
    pub(super) held: Vec<Nexthop>,
    /// An answer was lost, or news of a group may be old: the kernel may hold something else than `present`, and routes
    /// that use it.
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
    /// What routes by this path-list say besides naming the object; `None` when that is not known.
    pub(super) fn target(&self, id: NexthopId) -> Option<Target> {
        match (&self.list, self.found_source) {
            (Some(list), _) if list.is_unreachable() => Some(Target::Unreachable),
            (Some(list), _) => Some(Target::Through(id, list.source())),
            (None, FoundSource::Same(source)) => Some(Target::Through(id, source)),
            (None, FoundSource::NoRoute | FoundSource::Different) => None,
        }
    }

    /// Whether routes by `other` say the same besides the object that they name.
    pub(super) fn is_written_like(&self, other: &Self) -> bool {
        self.target(NexthopId(0)).is_some_and(|target| other.target(NexthopId(0)) == Some(target))
    }

    /// A route was found at start that uses the object.
    pub(super) fn note_source(&mut self, source: Option<IpAddr>) {
        self.found_source = match self.found_source {
            FoundSource::NoRoute => FoundSource::Same(source),
            same if same == FoundSource::Same(source) => same,
            _ => FoundSource::Different,
        };
    }

    /// Its routes name no object at all.
    pub(super) fn is_unreachable(&self) -> bool {
        self.list.as_ref().is_some_and(|list| list.is_unreachable())
    }

    /// What the object should do, as things stand.
    pub(super) fn choose(&self, states: &States) -> Forwarding {
        let nothing = Forwarding::Single(Nexthop::Blackhole(self.family));
        match (&self.list, &self.present) {
            (Some(list), _) => list.choose(self.family, states, |_| true),
            // Not understood yet: goes on as it is while its interfaces live, and fails closed afterwards.
            (None, Some(present)) => {
                let alive = |nexthop: &Nexthop| match *nexthop {
                    Nexthop::Via { ifindex, gateway, .. } => {
                        states.of(&PathKey { source: u32::MAX, ifindex, gateway }) != PathState::Dead
                    }
                    Nexthop::Blackhole(_) => true,
                };
                Forwarding::spread(present.nexthops().filter(|it| alive(&it.nexthop))).unwrap_or(nothing)
            }
            (None, None) => nothing,
        }
    }

    /// What it would do without the paths that `nexthop` stands for.
    pub(super) fn after(&self, nexthop: Nexthop, states: &States) -> Forwarding {
        let Nexthop::Via { ifindex, gateway, .. } = nexthop else { return Forwarding::Single(nexthop) };
        let others = |path: &PathKey| (path.ifindex, path.gateway) != (ifindex, gateway);
        match &self.list {
            Some(list) => list.choose(self.family, states, others),
            None => Forwarding::Single(Nexthop::Blackhole(self.family)),
        }
    }

    /// Whether what it does now is still fine, so that doing better can wait for the routes that have to leave first.
    pub(super) fn present_is_sound(&self, states: &States) -> bool {
        let up = |list: &PathList, nexthop: Nexthop| match nexthop {
            Nexthop::Blackhole(_) => true,
            Nexthop::Via { ifindex, gateway, .. } => list.paths().iter().any(|path| {
                (path.ifindex, path.gateway) == (ifindex, gateway) && list.state(path, states) == PathState::Up
            }),
        };
        match (&self.present, &self.list) {
            (Some(present), _) if present.is_blackhole() => true,
            (Some(present), Some(list)) => present.nexthops().all(|it| up(list, it.nexthop)),
            (Some(_), None) | (None, _) => false,
        }
    }
}

/// Path-lists of one family.
type Lists = HashMap<PathList, NexthopId, Fast>;

/// All of them, and the ways to find one.
#[derive(Default)]
pub(super) struct Slots {
    by_id: HashMap<NexthopId, Slot, Fast>,
    /// Per family.
    by_list: [Lists; 2],
    pub(super) members: Members,
    by_source: HashMap<u32, HashSet<NexthopId, Fast>, Fast>,
    by_interface: HashMap<u32, HashSet<NexthopId, Fast>, Fast>,
    /// The last path-list that was asked for, per family: neighbors in the table mostly have the same.
    recent: [Option<(PathList, NexthopId)>; 2],
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
        list: &PathList,
        hint: Option<NexthopId>,
        states: &States,
    ) -> NexthopId {
        if let Some((_, id)) = self.recent[family as usize].as_ref().filter(|(recent, _)| recent == list) {
            return *id;
        }
        let id = self.find_or_make(family, list, hint, states);
        self.recent[family as usize] = Some((list.clone(), id));
        id
    }

    fn find_or_make(&mut self, family: Family, list: &PathList, hint: Option<NexthopId>, states: &States) -> NexthopId {
        if let Some(id) = self.by_list[family as usize].get(list) {
            return *id;
        }
        let wanted = list.choose(family, states, |_| true);
        let fits = |slot: &Slot| {
            let alike = slot.family == family && slot.group == list.is_multipath() && !list.is_unreachable();
            let same_source = [FoundSource::NoRoute, FoundSource::Same(list.source())].contains(&slot.found_source);
            alike && same_source && slot.list.is_none() && slot.present.as_ref() == Some(&wanted)
        };
        let adopted = hint.filter(|id| self.by_id.get(id).is_some_and(fits));
        let id = match adopted {
            Some(id) => id,
            None => {
                let id = self.unused_id();
                self.add(id, family, list.is_multipath(), None);
                id
            }
        };
        for path in list.paths() {
            self.by_source.entry(path.source).or_default().insert(id);
            self.by_interface.entry(path.ifindex).or_default().insert(id);
        }
        if let Some(slot) = self.by_id.get_mut(&id) {
            slot.list = Some(Box::new(list.clone()));
            if slot.group {
                let before = std::mem::take(&mut slot.held);
                slot.held = list.nexthops(family).collect();
                slot.held.iter().for_each(|nexthop| self.members.hold(*nexthop));
                before.into_iter().for_each(|nexthop| self.members.release(nexthop));
            }
        }
        self.by_list[family as usize].insert(list.clone(), id);
        id
    }

    /// The message that makes an object do this; `exists` when it is known to be there.
    pub(super) fn change(&self, id: NexthopId, forwarding: &Forwarding, exists: bool) -> Change {
        let group = self.by_id.get(&id).is_some_and(|slot| slot.group);
        match (forwarding, group, exists) {
            (Forwarding::Single(nexthop), false, true) => Change::ReplaceNexthop(id, *nexthop),
            (Forwarding::Single(nexthop), false, false) => Change::PutNexthop(id, *nexthop),
            (_, _, true) => Change::ReplaceGroup(id, self.members.group(forwarding).into()),
            (_, _, false) => Change::PutGroup(id, self.members.group(forwarding).into()),
        }
    }

    /// Groups that forward to `nexthop`, as far as is known.
    pub(super) fn groups_through(&self, nexthop: Nexthop) -> Vec<NexthopId> {
        let through =
            |slot: &Slot| slot.present.as_ref().is_some_and(|it| it.nexthops().any(|it| it.nexthop == nexthop));
        self.by_id.iter().filter(|(_, slot)| slot.group && through(slot)).map(|(id, _)| *id).collect()
    }

    /// Enters an object that the kernel holds, or (with `present` none) is about to.
    pub(super) fn add(&mut self, id: NexthopId, family: Family, group: bool, present: Option<Forwarding>) {
        let nexthops: Vec<Nexthop> = present.iter().flat_map(Forwarding::nexthops).map(|it| it.nexthop).collect();
        for nexthop in &nexthops {
            if let Nexthop::Via { ifindex, .. } = nexthop {
                self.by_interface.entry(*ifindex).or_default().insert(id);
            }
            if group {
                self.members.hold(*nexthop);
            }
        }
        let slot = Slot {
            family,
            group,
            list: None,
            found_source: FoundSource::default(),
            held: if group { nexthops } else { Vec::new() },
            present,
            uncertain: false,
            users: 0,
            wanted: 0,
            lagging: 0,
            seen: 0,
            listed_idle: false,
        };
        self.by_id.insert(id, slot);
    }

    pub(super) fn remove(&mut self, id: NexthopId) {
        let Some(slot) = self.by_id.remove(&id) else { return };
        self.recent = Default::default();
        if let Some(list) = slot.list {
            for path in list.paths() {
                forget(&mut self.by_source, path.source, id);
                forget(&mut self.by_interface, path.ifindex, id);
            }
            self.by_list[slot.family as usize].remove(&*list);
        }
        for it in slot.present.iter().flat_map(Forwarding::nexthops) {
            if let Nexthop::Via { ifindex, .. } = it.nexthop {
                forget(&mut self.by_interface, ifindex, id);
            }
        }
        slot.held.into_iter().for_each(|nexthop| self.members.release(nexthop));
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
        !self.idle.is_empty() || self.members.has_idle()
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
            Scope::Source(source) | Scope::Monitored(source) | Scope::Damped(Damped::Source(source)) => {
                self.by_source.get(&source)
            }
            Scope::Link(ifindex) | Scope::Tunnel(ifindex) | Scope::Damped(Damped::Interface(ifindex)) => {
                self.by_interface.get(&ifindex)
            }
            Scope::Path(path) | Scope::Damped(Damped::Path(path)) => self.by_interface.get(&path.ifindex),
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
