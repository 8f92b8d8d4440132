//! The nexthop objects that groups consist of: one a way, whatever the number of groups.
//!
//! A member is made once and never rewritten; what changes is which groups name it. The kernel drops the members of a link
//! that goes down without a word, so what is known here of their presence may be wrong for as long as the notification of
//! the link takes; a group refused for want of a member is what tells then.

use hashbrown::HashMap;

use crate::{
    backend::{GroupMember, Nexthop, NexthopId},
    forwarding::{Forwarding, WeightedNexthop},
};

type Fast = foldhash::fast::RandomState;

/// Below the numbers of path-lists, so that a listing in order names no group before its members.
const FIRST_ID: u32 = 0x4700_0000;
const LAST_ID: u32 = 0x47ff_ffff;

pub(super) struct Member {
    /// What it is; `None` for one found in the kernel that we would not have made.
    pub(super) nexthop: Option<Nexthop>,
    /// The kernel has it, as far as is known.
    pub(super) present: bool,
    /// An answer was lost, or it went with its link: the kernel may have it all the same.
    uncertain: bool,
    /// Path-lists that may come to need it.
    holders: usize,
    /// The last resync in which it was read or written.
    pub(super) seen: u32,
    /// The last batch in which it was written.
    batch: u64,
    listed_idle: bool,
}

/// All of them.
#[derive(Default)]
pub(super) struct Members {
    by_id: HashMap<NexthopId, Member, Fast>,
    by_nexthop: HashMap<Nexthop, NexthopId, Fast>,
    last_id: u32,
    idle: Vec<NexthopId>,
}

impl Members {
    /// Whether a number is one of theirs.
    pub(super) fn owns(id: NexthopId) -> bool {
        (FIRST_ID..=LAST_ID).contains(&id.0)
    }

    pub(super) fn get(&self, id: NexthopId) -> Option<&Member> {
        self.by_id.get(&id)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.by_id.values_mut()
    }

    /// A path-list may come to need `nexthop`.
    pub(super) fn hold(&mut self, nexthop: Nexthop) {
        let id = match self.by_nexthop.get(&nexthop) {
            Some(id) => *id,
            None => {
                let id = self.unused_id();
                self.enter(id, Some(nexthop), false);
                id
            }
        };
        if let Some(member) = self.by_id.get_mut(&id) {
            member.holders += 1;
        }
    }

    /// It will not any more.
    pub(super) fn release(&mut self, nexthop: Nexthop) {
        let Some(id) = self.by_nexthop.get(&nexthop).copied() else { return };
        let Some(member) = self.by_id.get_mut(&id) else { return };
        member.holders = member.holders.saturating_sub(1);
        if member.holders == 0 {
            self.list_idle(id);
        }
    }

    /// Enters one that the kernel has.
    pub(super) fn found(&mut self, id: NexthopId, nexthop: Option<Nexthop>, seen: u32) {
        self.enter(id, nexthop, true);
        if let Some(member) = self.by_id.get_mut(&id) {
            member.seen = seen;
        }
        self.list_idle(id);
    }

    fn enter(&mut self, id: NexthopId, nexthop: Option<Nexthop>, present: bool) {
        let nexthop = nexthop.filter(|nexthop| !self.by_nexthop.contains_key(nexthop));
        if let Some(nexthop) = nexthop {
            self.by_nexthop.insert(nexthop, id);
        }
        let member = Member { nexthop, present, uncertain: false, holders: 0, seen: 0, batch: 0, listed_idle: false };
        self.by_id.insert(id, member);
    }

    pub(super) fn remove(&mut self, id: NexthopId) {
        if let Some(nexthop) = self.by_id.remove(&id).and_then(|member| member.nexthop) {
            self.by_nexthop.remove(&nexthop);
        }
    }

    /// The group that forwards so, all of whose ways some path-list holds.
    pub(super) fn group(&self, forwarding: &Forwarding) -> Vec<GroupMember> {
        let member =
            |it: WeightedNexthop| Some(GroupMember { id: *self.by_nexthop.get(&it.nexthop)?, weight: it.weight });
        forwarding.nexthops().filter_map(member).collect()
    }

    /// What a group forwards to; `None` when it has a member that is not known here.
    pub(super) fn forwarding(&self, group: &[GroupMember]) -> Option<Forwarding> {
        let nexthop = |member: &GroupMember| {
            let nexthop = self.by_id.get(&member.id)?.nexthop?;
            Some(WeightedNexthop { nexthop, weight: member.weight })
        };
        let all: Vec<_> = group.iter().map(nexthop).collect::<Option<_>>()?;
        Forwarding::spread(all.into_iter())
    }

    /// The number of `nexthop` if it has to be made first, which counts as done in `batch` from now on.
    pub(super) fn make(&mut self, nexthop: &Nexthop, batch: u64) -> Option<NexthopId> {
        let id = *self.by_nexthop.get(nexthop)?;
        let member = self.by_id.get_mut(&id).filter(|member| !member.present)?;
        (member.present, member.uncertain, member.batch) = (true, false, batch);
        Some(id)
    }

    /// It was made in this resync.
    pub(super) fn mark_seen(&mut self, id: NexthopId, cycle: u32) {
        if let Some(member) = self.by_id.get_mut(&id) {
            member.seen = cycle;
        }
    }

    /// It was read from the kernel in this resync.
    pub(super) fn read(&mut self, id: NexthopId, cycle: u32) {
        if let Some(member) = self.by_id.get_mut(&id) {
            (member.present, member.uncertain, member.seen) = (true, false, cycle);
        }
    }

    /// The kernel refused it; gives back what it was to be.
    pub(super) fn refused(&mut self, id: NexthopId) -> Option<Nexthop> {
        let member = self.by_id.get_mut(&id)?;
        member.present = false;
        member.nexthop
    }

    /// Whether the kernel has it is not known: it is made again before it is used.
    pub(super) fn doubt(&mut self, id: NexthopId) {
        if let Some(member) = self.by_id.get_mut(&id) {
            (member.present, member.uncertain) = (false, true);
        }
    }

    /// The same of all that go through an interface.
    pub(super) fn doubt_interface(&mut self, ifindex: u32) {
        let through =
            |member: &&mut Member| matches!(member.nexthop, Some(Nexthop::Via { ifindex: it, .. }) if it == ifindex);
        for member in self.by_id.values_mut().filter(through) {
            (member.present, member.uncertain) = (false, true);
        }
    }

    /// A group that forwards so was refused in `batch`: members that were not made in that batch may be the reason.
    /// Whether there is any that may be, so that another try makes sense.
    pub(super) fn doubt_all(&mut self, forwarding: &Forwarding, batch: u64) -> bool {
        let mut any = false;
        for it in forwarding.nexthops() {
            let Some(member) = self.by_nexthop.get(&it.nexthop).and_then(|id| self.by_id.get_mut(id)) else { continue };
            if !member.present {
                any = true; // refused in the same batch
            } else if member.batch != batch {
                (member.present, member.uncertain, any) = (false, true, true);
            }
        }
        any
    }

    /// Notes that one may be of no use any more.
    pub(super) fn list_idle(&mut self, id: NexthopId) {
        if let Some(member) = self.by_id.get_mut(&id)
            && !std::mem::replace(&mut member.listed_idle, true)
        {
            self.idle.push(id);
        }
    }

    pub(super) fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// The next one of no use, and whether the kernel may have it.
    pub(super) fn next_idle(&mut self) -> Option<(NexthopId, bool)> {
        while let Some(id) = self.idle.pop() {
            if let Some(member) = self.by_id.get_mut(&id) {
                member.listed_idle = false;
                if member.holders == 0 {
                    return Some((id, member.present || member.uncertain));
                }
            }
        }
        None
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
