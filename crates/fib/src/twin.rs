//! A forwarding table in memory that behaves as the kernel's does, for tests and for running without a kernel.
//!
//! It refuses what the kernel refuses, with the same error numbers, and does unasked what the kernel does unasked: a
//! link that goes down takes its nexthop objects along, those leave their groups, and what is empty then takes its routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use net_types::{Family, Prefix};

use crate::{
    backend::{Backend, BackendError, Change, Event, GroupMember, Nexthop, NexthopId, Refusal, Row, Target},
    forwarding::{Forwarding, WeightedNexthop},
};

/// The table. Every link is up until [`Twin::set_link`] says otherwise.
#[derive(Debug, Default)]
pub struct Twin {
    nexthops: BTreeMap<NexthopId, Nexthop>,
    groups: BTreeMap<NexthopId, Vec<GroupMember>>,
    routes: BTreeMap<Prefix, Target>,
    down: BTreeSet<u32>,
    events: Vec<Event>,
    dump: Option<Vec<Row>>,
    /// Calls of `apply` that are still to fail after having taken effect, as on a full receive buffer.
    overruns: usize,
    applied: u64,
}

impl Twin {
    /// A link goes up or down. Going down flushes what uses it.
    pub fn set_link(&mut self, ifindex: u32, up: bool) {
        let changed = if up { self.down.remove(&ifindex) } else { self.down.insert(ifindex) };
        if !changed {
            return;
        }
        self.events.push(Event::Link { ifindex, up });
        if !up {
            let uses = |nexthop: &Nexthop| matches!(nexthop, Nexthop::Via { ifindex: it, .. } if *it == ifindex);
            let lost: Vec<_> = self.nexthops.iter().filter(|(_, nexthop)| uses(nexthop)).map(|(id, _)| *id).collect();
            // The kernel tells nobody about these.
            for id in lost {
                self.flush(id);
            }
        }
    }

    /// Somebody else removes an object of ours.
    pub fn lose_nexthop(&mut self, id: NexthopId) {
        if self.flush(id) {
            self.events.push(Event::NexthopRemoved(id));
        }
    }

    /// Somebody else removes one of the objects that groups consist of, if there is any: the `nth`, round and round.
    pub fn lose_member(&mut self, nth: usize) {
        let mut members: Vec<_> = self.groups.values().flatten().map(|member| member.id).collect();
        members.sort_unstable();
        members.dedup();
        if let Some(id) = members.get(nth.checked_rem(members.len()).unwrap_or(0)) {
            self.lose_nexthop(*id);
        }
    }

    fn flush(&mut self, id: NexthopId) -> bool {
        self.routes.retain(|_, target| !matches!(target, Target::Through(used, _) if *used == id));
        if self.groups.remove(&id).is_some() {
            return true;
        }
        self.groups.values_mut().for_each(|members| members.retain(|member| member.id != id));
        let empty: Vec<_> = self.groups.iter().filter(|(_, members)| members.is_empty()).map(|(id, _)| *id).collect();
        for group in empty {
            self.flush(group);
        }
        self.nexthops.remove(&id).is_some()
    }

    /// Somebody else removes a route of ours; `announced` is false when the notification is lost.
    pub fn lose_route(&mut self, prefix: &Prefix, announced: bool) {
        if self.routes.remove(prefix).is_some() && announced {
            self.events.push(Event::RouteTouched(*prefix));
        }
    }

    /// The next `count` batches take effect, but the answers to them are lost.
    pub fn lose_answers(&mut self, count: usize) {
        self.overruns = count;
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// What a packet to exactly this prefix meets; `None` when it has no route of ours.
    pub fn forwarding(&self, prefix: &Prefix) -> Option<Forwarding> {
        let Target::Through(id, _) = *self.routes.get(prefix)? else { return None };
        let Some(members) = self.groups.get(&id) else {
            return self.nexthops.get(&id).copied().map(Forwarding::Single);
        };
        let weighted = |member: &GroupMember| {
            Some(WeightedNexthop { nexthop: *self.nexthops.get(&member.id)?, weight: member.weight })
        };
        Forwarding::spread(members.iter().filter_map(weighted))
    }

    /// What the route of a prefix is, if it has one of ours.
    pub fn target(&self, prefix: &Prefix) -> Option<Target> {
        self.routes.get(prefix).copied()
    }

    /// The whole table: prefix and what it meets.
    pub fn table(&self) -> BTreeMap<Prefix, Forwarding> {
        self.routes.keys().filter_map(|prefix| Some((*prefix, self.forwarding(prefix)?))).collect()
    }

    /// How many nexthop objects exist that are no groups.
    pub fn nexthops(&self) -> usize {
        self.nexthops.len()
    }

    /// How many groups exist.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// How many changes were applied, in total.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    fn change(&mut self, change: &Change) -> Result<(), (i32, &'static str)> {
        match change {
            Change::PutNexthop(id, nexthop) | Change::ReplaceNexthop(id, nexthop) => {
                if self.groups.contains_key(id) {
                    return Err((libc::EINVAL, "Can not replace a nexthop group with a nexthop."));
                }
                if matches!(change, Change::ReplaceNexthop(..)) && !self.nexthops.contains_key(id) {
                    return Err((libc::ENOENT, "Replace specified without create and no entry exists"));
                }
                if let Nexthop::Via { ifindex, .. } = nexthop
                    && self.down.contains(ifindex)
                {
                    return Err((libc::ENETDOWN, "Nexthop device is not up"));
                }
                self.nexthops.insert(*id, *nexthop);
            }
            Change::PutGroup(id, members) | Change::ReplaceGroup(id, members) => {
                // In this order: members are looked up before the group is.
                let found: Option<Vec<&Nexthop>> = members.iter().map(|member| self.nexthops.get(&member.id)).collect();
                let found = found.ok_or((libc::EINVAL, "Invalid nexthop id"))?;
                if found.len() > 1 && found.iter().any(|nexthop| matches!(nexthop, Nexthop::Blackhole(_))) {
                    return Err((libc::EINVAL, "Blackhole nexthop can not be used in a group with more than 1 path"));
                }
                if self.nexthops.contains_key(id) {
                    return Err((libc::EINVAL, "Can not replace a nexthop with a nexthop group."));
                }
                if matches!(change, Change::ReplaceGroup(..)) && !self.groups.contains_key(id) {
                    return Err((libc::ENOENT, "Replace specified without create and no entry exists"));
                }
                self.groups.insert(*id, members.to_vec());
            }
            Change::RemoveNexthop(id) => {
                self.flush(*id);
            }
            Change::PutRoute(prefix, Target::Unreachable) => {
                self.routes.insert(*prefix, Target::Unreachable);
            }
            Change::PutRoute(prefix, target @ Target::Through(id, _)) => {
                let of_group = self.groups.get(id).map(|members| members.iter().map(|member| member.id).collect());
                let ids: Vec<NexthopId> = of_group.unwrap_or_else(|| vec![*id]);
                let found: Option<Vec<&Nexthop>> = ids.iter().map(|id| self.nexthops.get(id)).collect();
                let found = found.ok_or((libc::EINVAL, "Nexthop id does not exist"))?;
                let v4 = |nexthop: &&Nexthop| family(nexthop) == Family::Ipv4Unicast;
                if prefix.family() == Family::Ipv6Unicast && found.iter().any(v4) {
                    return Err((libc::EINVAL, "IPv6 routes can not use an IPv4 nexthop"));
                }
                self.routes.insert(*prefix, *target);
            }
            Change::RemoveRoute(prefix) => {
                self.routes.remove(prefix);
            }
        }
        Ok(())
    }
}

fn family(nexthop: &Nexthop) -> Family {
    match nexthop {
        Nexthop::Via { gateway: Some(IpAddr::V4(_)), .. } => Family::Ipv4Unicast,
        Nexthop::Via { gateway: Some(IpAddr::V6(_)), .. } => Family::Ipv6Unicast,
        Nexthop::Blackhole(family) | Nexthop::Via { family, .. } => *family,
    }
}

impl Backend for Twin {
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<Refusal>, BackendError> {
        let mut refusals = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            self.applied += 1;
            if let Err((errno, message)) = self.change(change) {
                refusals.push(Refusal { index, errno, message: Some(message.to_owned()) });
            }
        }
        if self.overruns > 0 {
            self.overruns -= 1;
            return Err(BackendError::Overrun);
        }
        Ok(refusals)
    }

    fn start_dump(&mut self) -> Result<(), BackendError> {
        // The kernel lists objects of both kinds in the order of their numbers.
        let nexthops = self.nexthops.iter().map(|(id, nexthop)| (*id, Row::Nexthop(*id, Some(*nexthop))));
        let groups = self.groups.iter().map(|(id, members)| (*id, Row::Group(*id, members.clone())));
        let mut objects: Vec<_> = nexthops.chain(groups).collect();
        objects.sort_by_key(|(id, _)| *id);
        let routes = self.routes.iter().map(|(prefix, target)| Row::Route(*prefix, Some(*target)));
        let mut rows: Vec<Row> = objects.into_iter().map(|(_, row)| row).chain(routes).collect();
        rows.reverse(); // taken from the end
        self.dump = Some(rows);
        Ok(())
    }

    fn continue_dump(&mut self, rows: &mut Vec<Row>) -> Result<bool, BackendError> {
        let Some(dump) = &mut self.dump else { return Ok(false) };
        let rest = dump.len().saturating_sub(512);
        rows.extend(dump.drain(rest..).rev());
        let more = !dump.is_empty();
        if !more {
            self.dump = None;
        }
        Ok(more)
    }
}
