//! Reading the table back: once at start to adopt what is there, and whenever it may differ from what it should be.
//!
//! The listing goes on in steps while routes are written. What was written since it began is known better than what
//! the listing says, so every entry and object notes the number of the listing in which it was last read or written.

use hashbrown::HashMap;
use net_types::{Family, Prefix};

use super::{
    Fib,
    members::Members,
    report::{Adopted, Resync},
    routes::{Desired, Installed, Queued},
    slots::Slot,
};
use crate::{
    backend::{Backend, BackendError, GroupMember, Nexthop, NexthopId, Row, Target},
    forwarding::Forwarding,
};

/// Where the engine is with reading the table.
#[derive(Default)]
pub(super) struct Cycle {
    number: u32,
    wanted: bool,
    running: bool,
    repaired: usize,
}

impl Cycle {
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    pub(super) fn wanted(&self) -> bool {
        self.wanted || self.running
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }
}

impl<B: Backend> Fib<B> {
    /// Takes over what an earlier run left in the table. Its routes go on as they are.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn adopt(&mut self) -> Result<Adopted, BackendError> {
        self.cycle.number = self.cycle.number.wrapping_add(1);
        self.backend.start_dump()?;
        let mut rows = Vec::new();
        let mut adopted = Adopted::default();
        // The family of an object without gateway is the one of the routes below it, where it has any.
        loop {
            let more = self.backend.continue_dump(&mut rows)?;
            self.routes.look_ahead(rows.iter().filter_map(|row| match row {
                Row::Route(prefix, _) => Some(prefix),
                Row::Nexthop(..) | Row::Group(..) => None,
            }));
            for row in rows.drain(..) {
                match row {
                    Row::Nexthop(id, present) => {
                        adopted.nexthops += 1;
                        self.stray_nexthop(id, present);
                    }
                    Row::Group(id, members) => {
                        adopted.nexthops += 1;
                        let present = self.slots.members.forwarding(&members);
                        self.stray_object(id, true, present);
                    }
                    Row::Route(prefix, target) => {
                        adopted.routes += 1;
                        let (through, source) = match target {
                            Some(Target::Through(id, source)) => (Some(id), source),
                            Some(Target::Unreachable) | None => (None, None),
                        };
                        let through = through.filter(|id| self.slots.get(*id).is_some());
                        if let Some(slot) = through.and_then(|id| self.slots.get_mut(id)) {
                            slot.family = prefix.family();
                            slot.note_source(source);
                        }
                        self.enter(prefix, Desired::AsFound(through), through);
                    }
                }
            }
            if !more {
                return Ok(adopted);
            }
        }
    }

    /// Routes found at start that nobody has decided on are stale: they are taken out. Returns how many.
    pub fn sweep(&mut self) -> usize {
        let stale = self.routes.select(|entry| matches!(entry.desired, Desired::AsFound(_)));
        for index in &stale {
            self.routes.change(&mut self.slots, *index, |entry| entry.desired = Desired::Absent);
            self.routes.queue(*index, Queued::Urgent);
        }
        stale.len()
    }

    /// Asks for a resync.
    pub fn request_resync(&mut self) {
        self.cycle.want();
    }

    /// Whether [`resync_step`](Self::resync_step) has something to do. One that keeps being wanted (another daemon
    /// fights for the same routes) should not run without a pause.
    pub fn wants_resync(&self) -> bool {
        self.cycle.wanted()
    }

    /// Whether a resync has begun and not ended.
    pub fn is_resyncing(&self) -> bool {
        self.cycle.running
    }

    /// Goes on with a resync that is wanted, for about a millisecond.
    ///
    /// # Errors
    /// When the table cannot be read; the resync stays wanted.
    pub fn resync_step(&mut self) -> Result<Resync, BackendError> {
        if !self.cycle.running {
            if !self.cycle.wanted {
                return Ok(Resync::Idle);
            }
            self.backend.start_dump()?;
            self.cycle.number = self.cycle.number.wrapping_add(1);
            self.cycle.wanted = false;
            self.cycle.running = true;
            self.cycle.repaired = 0;
        }
        let mut rows = Vec::new();
        let more = self.backend.continue_dump(&mut rows).inspect_err(|_| {
            self.cycle.running = false;
            self.cycle.wanted = true;
        })?;
        for row in rows {
            match row {
                Row::Nexthop(id, present) if Members::owns(id) => self.compare_member(id, present),
                Row::Nexthop(id, present) => self.compare_object(id, false, present.map(Forwarding::Single)),
                Row::Group(id, members) => self.compare_group(id, &members),
                Row::Route(prefix, target) => self.compare_route(prefix, target),
            }
        }
        if more {
            return Ok(Resync::Running);
        }
        self.finish();
        self.cycle.running = false;
        Ok(Resync::Done { repaired: self.cycle.repaired })
    }

    fn compare_member(&mut self, id: NexthopId, present: Option<Nexthop>) {
        let cycle = self.cycle.number;
        match self.slots.members.get(id) {
            Some(member) if member.seen == cycle => {}
            Some(member) if member.nexthop == present && present.is_some() => {
                self.slots.members.read(id, cycle);
            }
            Some(_) => {
                self.cycle.repaired += 1;
                self.member_touched(id);
            }
            None => {
                self.cycle.repaired += 1;
                self.stray_nexthop(id, present);
            }
        }
    }

    fn compare_group(&mut self, id: NexthopId, members: &[GroupMember]) {
        let present = self.slots.members.forwarding(members);
        self.compare_object(id, true, present);
    }

    fn compare_object(&mut self, id: NexthopId, group: bool, present: Option<Forwarding>) {
        let cycle = self.cycle.number;
        match self.slots.get_mut(id) {
            Some(slot) if slot.seen == cycle => {}
            Some(slot) => {
                slot.seen = cycle;
                slot.uncertain = false;
                if slot.present != present {
                    slot.present = present;
                    self.cycle.repaired += 1;
                }
            }
            None => {
                self.cycle.repaired += 1;
                self.stray_object(id, group, present);
            }
        }
    }

    fn compare_route(&mut self, prefix: Prefix, target: Option<Target>) {
        let cycle = self.cycle.number;
        let through = match target {
            Some(Target::Through(id, _)) => Some(id).filter(|id| self.slots.get(*id).is_some()),
            Some(Target::Unreachable) | None => None,
        };
        // The source address is wrong only where it is known what it should be.
        let installed = self.routes.find(&prefix).and_then(|index| self.routes.get(index)).map(|entry| entry.installed);
        let as_booked = |id: NexthopId| {
            let booked = self.slots.get(id).and_then(|slot| slot.target(id));
            booked.is_none_or(|booked| Some(booked) == target)
        };
        let found = match (through, installed) {
            // That names no object, but has a path-list of ours.
            (None, Some(Installed::Through(id)))
                if target == Some(Target::Unreachable) && self.slots.get(id).is_some_and(Slot::is_unreachable) =>
            {
                Installed::Through(id)
            }
            (Some(id), _) if as_booked(id) => Installed::Through(id),
            _ => Installed::Unknown,
        };
        match self.routes.find(&prefix) {
            Some(index) => {
                let Some(entry) = self.routes.get(index) else { return };
                if entry.seen == cycle {
                    return;
                }
                if entry.installed != found {
                    self.cycle.repaired += 1;
                    self.routes.change(&mut self.slots, index, |entry| entry.installed = found);
                    self.routes.queue(index, Queued::Urgent);
                }
                self.routes.mark_seen(index, cycle);
            }
            None => {
                self.cycle.repaired += 1;
                let index = self.enter(prefix, Desired::Absent, through);
                self.routes.queue(index, Queued::Urgent);
            }
        }
    }

    /// What the listing did not show is gone.
    fn finish(&mut self) {
        let cycle = self.cycle.number;
        for member in self.slots.members.iter_mut().filter(|member| member.seen != cycle) {
            member.present = false;
        }
        let mut lost: HashMap<NexthopId, (), foldhash::fast::RandomState> = HashMap::default();
        for (id, slot) in self.slots.iter_mut() {
            if slot.seen != cycle {
                slot.uncertain = false;
                if slot.present.take().is_some() {
                    lost.insert(id, ());
                }
            }
        }
        self.cycle.repaired += lost.len();
        let missing = self.routes.select(|entry| match entry.installed {
            Installed::Nothing => false,
            Installed::Unknown => entry.seen != cycle,
            Installed::Through(id) => entry.seen != cycle || lost.contains_key(&id),
        });
        self.cycle.repaired += missing.len();
        for index in missing {
            self.routes.change(&mut self.slots, index, |entry| entry.installed = Installed::Nothing);
            self.routes.queue(index, Queued::Urgent);
        }
        for index in std::mem::take(&mut self.refused) {
            self.routes.queue(index, Queued::Urgent);
        }
        self.states.forgive_all();
        self.reevaluate(self.slots.ids());
    }

    /// An object with our protocol number that we know nothing of, and that is no group.
    fn stray_nexthop(&mut self, id: NexthopId, present: Option<Nexthop>) {
        match Members::owns(id) {
            true => self.slots.members.found(id, present, self.cycle.number),
            false => self.stray_object(id, false, present.map(Forwarding::Single)),
        }
    }

    fn stray_object(&mut self, id: NexthopId, group: bool, present: Option<Forwarding>) {
        let family = match present.as_ref().and_then(|present| present.nexthops().next()).map(|it| it.nexthop) {
            Some(Nexthop::Blackhole(family) | Nexthop::Via { family, .. }) => family,
            None => Family::Ipv4Unicast,
        };
        self.slots.add(id, family, group, present);
        if let Some(slot) = self.slots.get_mut(id) {
            slot.seen = self.cycle.number;
        }
        self.slots.list_idle(id);
    }

    fn enter(&mut self, prefix: Prefix, desired: Desired, through: Option<NexthopId>) -> usize {
        let index = self.routes.insert(prefix);
        let cycle = self.cycle.number;
        self.routes.change(&mut self.slots, index, |entry| {
            entry.desired = desired;
            entry.installed = through.map_or(Installed::Unknown, Installed::Through);
            entry.seen = cycle;
        });
        index
    }
}
