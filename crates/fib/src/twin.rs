//! A forwarding table in memory that behaves as the kernel's does, for tests and for running without a kernel.
//!
//! It refuses what the kernel refuses, with the same error numbers, and does unasked what the kernel does unasked: a
//! link that goes down takes its nexthop objects along, and those take their routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use net_types::{Family, Prefix};

use crate::backend::{Backend, BackendError, Change, Event, Nexthop, NexthopId, Refusal, Row};

/// The table. Every link is up until [`Twin::set_link`] says otherwise.
#[derive(Debug, Default)]
pub struct Twin {
    nexthops: BTreeMap<NexthopId, Nexthop>,
    routes: BTreeMap<Prefix, Option<NexthopId>>,
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

    fn flush(&mut self, id: NexthopId) -> bool {
        self.routes.retain(|_, used| *used != Some(id));
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
    pub fn forwarding(&self, prefix: &Prefix) -> Option<Nexthop> {
        self.nexthops.get(&self.routes.get(prefix).copied()??).copied()
    }

    /// The whole table: prefix and what it meets.
    pub fn table(&self) -> BTreeMap<Prefix, Nexthop> {
        self.routes.keys().filter_map(|prefix| Some((*prefix, self.forwarding(prefix)?))).collect()
    }

    /// How many nexthop objects exist.
    pub fn nexthops(&self) -> usize {
        self.nexthops.len()
    }

    /// How many changes were applied, in total.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    fn change(&mut self, change: &Change) -> Result<(), (i32, &'static str)> {
        match *change {
            Change::PutNexthop(id, nexthop) | Change::ReplaceNexthop(id, nexthop) => {
                if matches!(change, Change::ReplaceNexthop(..)) && !self.nexthops.contains_key(&id) {
                    return Err((libc::ENOENT, "Replace specified without create and no entry exists"));
                }
                if let Nexthop::Via { ifindex, .. } = nexthop
                    && self.down.contains(&ifindex)
                {
                    return Err((libc::ENETDOWN, "Nexthop device is not up"));
                }
                self.nexthops.insert(id, nexthop);
            }
            Change::RemoveNexthop(id) => {
                self.flush(id);
            }
            Change::PutRoute(prefix, id) => {
                let Some(nexthop) = self.nexthops.get(&id) else {
                    return Err((libc::EINVAL, "Nexthop id does not exist"));
                };
                if prefix.family() == Family::Ipv6Unicast && family(nexthop) == Family::Ipv4Unicast {
                    return Err((libc::EINVAL, "IPv6 routes can not use an IPv4 nexthop"));
                }
                self.routes.insert(prefix, Some(id));
            }
            Change::RemoveRoute(prefix) => {
                self.routes.remove(&prefix);
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
        let nexthops = self.nexthops.iter().map(|(id, nexthop)| Row::Nexthop(*id, Some(*nexthop)));
        let routes = self.routes.iter().map(|(prefix, id)| Row::Route(*prefix, *id));
        let mut rows: Vec<Row> = nexthops.chain(routes).collect();
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
