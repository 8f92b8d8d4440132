//! The engine: decides nothing about routes, and keeps the table as it was told to be, whatever happens to it.

mod members;
mod report;
mod resync;
mod routes;
mod slots;
mod switch;

pub use report::{Adopted, Flushed, Resync, RouteView, Stats, Switch};

use std::borrow::Cow;

use hashbrown::HashSet;
use net_types::Prefix;

use self::{
    members::Members,
    resync::Cycle,
    routes::{Desired, Entry, Installed, Queued, Routes},
    slots::Slots,
};
use crate::{
    backend::{Backend, Change, Event, Nexthop, NexthopId, Target},
    forwarding::Forwarding,
    path::{PathKey, PathState, Scope, States},
    path_list::PathList,
};

/// An entry that costs no message costs this part of one.
const LOOKS_PER_MESSAGE: usize = 16;

/// The forwarding table, over a backend that holds it.
pub struct Fib<B> {
    backend: B,
    states: States,
    slots: Slots,
    routes: Routes,
    cycle: Cycle,
    /// Path-lists that could do better once the routes that lag behind on them have left.
    waiting: HashSet<NexthopId, foldhash::fast::RandomState>,
    /// Routes that the backend refused; tried again after the next resync.
    refused: Vec<usize>,
    /// Batches sent so far.
    batches: u64,
}

impl<B: Backend> Fib<B> {
    /// An engine that knows of nothing yet.
    pub fn new(backend: B) -> Self {
        Self {
            backend,
            states: States::default(),
            slots: Slots::default(),
            routes: Routes::default(),
            cycle: Cycle::default(),
            waiting: HashSet::default(),
            refused: Vec::new(),
            batches: 0,
        }
    }

    /// The backend. Changing the table behind the engine's back is for tests.
    pub fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// To be called with prefixes that a word will be said on in a moment, a thousand or so: looked up together they cost
    /// less.
    pub fn look_ahead<'a>(&self, prefixes: impl IntoIterator<Item = &'a Prefix>) {
        self.routes.look_ahead(prefixes);
    }

    /// Routes `prefix` over the first of `candidates` that lives; with none that does (or none at all) its packets
    /// are dropped. Queued; a later word on the same prefix takes its place. Costs nothing when nothing changes.
    pub fn set_route(&mut self, prefix: Prefix, candidates: &[PathKey]) {
        self.set_path_list(prefix, &PathList::ordered(candidates));
    }

    /// The same over the paths of `list`, of which several may share the packets.
    pub fn set_path_list(&mut self, prefix: Prefix, list: &PathList) {
        let index = self.routes.find(&prefix).unwrap_or_else(|| self.routes.insert(prefix));
        let hint = match self.routes.get(index).map(|entry| entry.installed) {
            Some(Installed::Through(id)) => Some(id),
            _ => None,
        };
        let id = self.slots.list(prefix.family(), list, hint, &self.states);
        self.desire(index, Desired::List(id));
    }

    /// Takes `prefix` out. Queued.
    pub fn remove_route(&mut self, prefix: Prefix) {
        if let Some(index) = self.routes.find(&prefix) {
            self.desire(index, Desired::Absent);
        }
    }

    fn desire(&mut self, index: usize, desired: Desired) {
        self.routes.change(&mut self.slots, index, |entry| entry.desired = desired);
        let Some(entry) = self.routes.get(index) else { return };
        let how = self.work_for(entry);
        if entry.installed == Installed::Nothing && entry.desired == Desired::Absent && entry.queued == Queued::No {
            self.routes.release(index);
        } else {
            self.routes.queue(index, how);
        }
    }

    /// Whether there is anything to do for an entry, and whether it can wait.
    fn work_for(&self, entry: &Entry) -> Queued {
        match (entry.desired, entry.installed) {
            (Desired::Absent, Installed::Nothing) | (Desired::AsFound(None), _) => Queued::No,
            (Desired::List(wanted) | Desired::AsFound(Some(wanted)), Installed::Through(id)) => {
                if wanted == id {
                    return Queued::No;
                }
                let (Some(used), Some(own)) = (self.slots.get(id), self.slots.get(wanted)) else {
                    return Queued::Urgent;
                };
                let better = own.present.as_ref().map_or_else(|| Cow::Owned(own.choose(&self.states)), Cow::Borrowed);
                let differs = |nexthop| used.after(nexthop, &self.states) != own.after(nexthop, &self.states);
                // A path-list that could do better waits for this route to leave.
                if !own.is_written_like(used) || used.present.as_ref() != Some(&*better) || self.waiting.contains(&id) {
                    Queued::Urgent
                } else if better.nexthops().any(|it| differs(it.nexthop)) {
                    Queued::Unprotected
                } else {
                    Queued::Lazy
                }
            }
            _ => Queued::Urgent,
        }
    }

    /// Writes routes that forward to the wrong place, or not at all, and when there are none, those that the next fault
    /// would find without the way out that they have by now: at most `budget` messages, in one go.
    pub fn flush(&mut self, budget: usize) -> Flushed {
        self.improve();
        let mut flushed = self.write(Queued::Urgent, budget);
        if flushed.written == 0 && flushed.error.is_none() {
            flushed = self.write(Queued::Unprotected, budget);
        }
        if flushed.written == 0 && flushed.error.is_none() {
            self.collect(budget, &mut flushed);
        }
        flushed
    }

    /// Writes routes that forward to the right place already, by way of a path-list that is no longer theirs.
    /// To be called now and then when nothing is left to [flush](Self::flush): should the path that died come
    /// back first, nothing has to be written at all.
    pub fn migrate(&mut self, budget: usize) -> Flushed {
        let mut flushed = self.write(Queued::Lazy, budget);
        if flushed.written == 0 && flushed.error.is_none() {
            self.collect(budget, &mut flushed);
        }
        flushed
    }

    fn write(&mut self, queue: Queued, budget: usize) -> Flushed {
        let mut batch = self.batch();
        for _ in 0..budget.saturating_mul(LOOKS_PER_MESSAGE) {
            if batch.changes.len() >= budget {
                break;
            }
            let Some(index) = self.routes.pop(queue) else { break };
            self.plan(index, queue, &mut batch);
        }
        self.commit(batch)
    }

    /// Adds what one entry needs to a batch; make before break, so the object first.
    fn plan(&mut self, index: usize, queue: Queued, batch: &mut Batch) {
        let Some(entry) = self.routes.get(index) else { return };
        let prefix = entry.prefix;
        match self.work_for(entry) {
            Queued::No => {
                if (entry.desired, entry.installed) == (Desired::Absent, Installed::Nothing) {
                    self.routes.release(index);
                }
            }
            how @ (Queued::Lazy | Queued::Unprotected) if queue == Queued::Urgent => self.routes.queue(index, how),
            Queued::Lazy if queue == Queued::Unprotected => self.routes.queue(index, Queued::Lazy),
            Queued::Lazy | Queued::Unprotected | Queued::Urgent => match entry.desired.slot() {
                None => batch.push(Change::RemoveRoute(prefix), Cause::Route(index, Installed::Nothing)),
                Some(id) => {
                    let Some(slot) = self.slots.get_mut(id) else { return };
                    let target = slot.target(id).unwrap_or(Target::Through(id, None));
                    if slot.present.is_none() && target != Target::Unreachable {
                        let forwarding = slot.choose(&self.states);
                        slot.present = Some(forwarding.clone());
                        self.spare_members(id, batch);
                        self.members(&forwarding, batch);
                        batch.push(self.slots.change(id, &forwarding, false), Cause::Object(id));
                    }
                    batch.push(Change::PutRoute(prefix, target), Cause::Route(index, Installed::Through(id)));
                }
            },
        }
    }

    fn batch(&mut self) -> Batch {
        self.batches += 1;
        Batch { number: self.batches, ..Batch::default() }
    }

    /// Adds what has to exist before a group can forward so.
    fn members(&mut self, forwarding: &Forwarding, batch: &mut Batch) {
        for it in forwarding.nexthops() {
            if let Some(id) = self.slots.members.make(&it.nexthop, batch.number) {
                batch.push(Change::PutNexthop(id, it.nexthop), Cause::Member(id));
            }
        }
    }

    /// Adds what a group needs when paths die later, so that one message will do then.
    fn spare_members(&mut self, id: NexthopId, batch: &mut Batch) {
        let Some(slot) = self.slots.get(id).filter(|slot| slot.group) else { return };
        let usable = |nexthop: &Nexthop| match *nexthop {
            Nexthop::Via { ifindex, gateway, .. } => {
                self.states.of(&PathKey { source: u32::MAX, ifindex, gateway }) != PathState::Dead
            }
            Nexthop::Blackhole(_) => true,
        };
        let spare: Vec<Nexthop> = slot.held.iter().copied().filter(usable).collect();
        spare.into_iter().for_each(|nexthop| self.members(&Forwarding::Single(nexthop), batch));
    }

    /// Makes a batch of changes and books what became of each.
    fn commit(&mut self, batch: Batch) -> Flushed {
        let mut flushed = Flushed { written: batch.changes.len(), ..Flushed::default() };
        if batch.changes.is_empty() {
            return flushed;
        }
        let refusals = match self.backend.apply(&batch.changes) {
            Ok(refusals) => refusals,
            Err(error) => {
                self.outcome_unknown(&batch);
                flushed.error = Some(error);
                return flushed;
            }
        };
        let mut refusals = refusals.into_iter().peekable();
        for (place, cause) in batch.causes.iter().enumerate() {
            let refusal = refusals.next_if(|refusal| refusal.index == place);
            match (*cause, refusal) {
                (Cause::Route(index, installed), None) => self.booked(index, installed),
                (Cause::Route(index, installed), Some(refusal)) => {
                    let object_gone = matches!(installed, Installed::Through(id)
                        if self.slots.get(id).is_some_and(|slot| slot.present.is_none() && !slot.is_unreachable()));
                    if object_gone {
                        // Its object was refused a moment ago, and will be another one at the next attempt.
                        self.routes.queue(index, Queued::Urgent);
                    } else {
                        flushed.refused += 1;
                        if let Some(entry) = self.routes.get(index) {
                            flushed.refusal = Some(format!("route {}: {refusal}", entry.prefix));
                        }
                        self.refused.push(index);
                        self.cycle.want();
                    }
                }
                (Cause::Object(id), None) => {
                    if let Some(slot) = self.slots.get_mut(id) {
                        slot.seen = self.cycle.number();
                        slot.uncertain = false;
                    }
                }
                (Cause::Object(id), Some(refusal)) => {
                    let tried = self.slots.get_mut(id).and_then(|slot| slot.present.take());
                    flushed.refusal = self.object_refused(id, tried, batch.number, &refusal.to_string());
                }
                (Cause::Member(id), None) => self.slots.members.mark_seen(id, self.cycle.number()),
                (Cause::Member(id), Some(refusal)) => {
                    let tried = self.slots.members.refused(id);
                    flushed.refusal = Some(self.nexthop_refused(tried, &refusal.to_string()));
                }
                (Cause::Unused(id), None) if Members::owns(id) => self.slots.members.remove(id),
                (Cause::Unused(id), None) => self.slots.remove(id),
                (Cause::Unused(_), Some(refusal)) => {
                    flushed.refusal = Some(refusal.to_string());
                    self.cycle.want();
                }
            }
        }
        flushed
    }

    fn booked(&mut self, index: usize, installed: Installed) {
        let cycle = self.cycle.number();
        self.routes.change(&mut self.slots, index, |entry| {
            entry.installed = installed;
            entry.seen = cycle;
        });
        let Some(entry) = self.routes.get(index) else { return };
        match (entry.desired, entry.installed, entry.queued) {
            (Desired::Absent, Installed::Nothing, Queued::No) => self.routes.release(index),
            _ => {
                let how = self.work_for(entry);
                self.routes.queue(index, how);
            }
        }
    }

    /// The kernel will not have this object. What it was to be is tried no more until something about it changes, unless
    /// it is a group that may merely lack a member: that one is made again. What is to be said about it.
    fn object_refused(&mut self, id: NexthopId, tried: Option<Forwarding>, batch: u64, why: &str) -> Option<String> {
        let group = self.slots.get(id).is_some_and(|slot| slot.group);
        match tried {
            Some(forwarding) if group && self.slots.members.doubt_all(&forwarding, batch) => None,
            Some(forwarding) => {
                let said: Vec<String> =
                    forwarding.nexthops().map(|it| self.nexthop_refused(Some(it.nexthop), why)).collect();
                Some(said.join("; "))
            }
            None => Some(self.nexthop_refused(None, why)),
        }
    }

    fn nexthop_refused(&mut self, nexthop: Option<Nexthop>, why: &str) -> String {
        match nexthop {
            Some(Nexthop::Via { ifindex, gateway, .. }) => {
                self.states.refuse(ifindex, gateway);
                match gateway {
                    Some(gateway) => format!("nexthop {gateway} on interface {ifindex}: {why}"),
                    None => format!("nexthop on interface {ifindex}: {why}"),
                }
            }
            Some(Nexthop::Blackhole(_)) | None => {
                self.cycle.want();
                format!("blackhole nexthop: {why}")
            }
        }
    }

    /// After a lost answer: what was sent may or may not be in, so it is sent again, and then the table is read.
    fn outcome_unknown(&mut self, batch: &Batch) {
        self.cycle.want();
        for cause in &batch.causes {
            match *cause {
                Cause::Route(index, _) => {
                    self.routes.change(&mut self.slots, index, |entry| entry.installed = Installed::Unknown);
                    self.routes.queue(index, Queued::Urgent);
                }
                Cause::Object(id) => {
                    if let Some(slot) = self.slots.get_mut(id) {
                        slot.present = None;
                        slot.uncertain = true;
                    }
                }
                Cause::Member(id) => self.slots.members.doubt(id),
                Cause::Unused(id) if Members::owns(id) => {
                    self.slots.members.doubt(id);
                    self.slots.members.list_idle(id);
                }
                Cause::Unused(id) => {
                    // Not removed from the books: it is sent again, and nobody minds when it is gone already.
                    self.slots.list_idle(id);
                }
            }
        }
    }

    /// With an object the kernel removes the routes that use it, so none goes while a route may use we know not what.
    fn may_collect(&self) -> bool {
        let unknown =
            |index: &usize| self.routes.get(*index).is_some_and(|entry| entry.installed == Installed::Unknown);
        !self.refused.iter().any(unknown)
    }

    /// Removes objects that no route uses and none is to use.
    fn collect(&mut self, budget: usize, flushed: &mut Flushed) {
        let unknown =
            |index: &usize| self.routes.get(*index).is_some_and(|entry| entry.installed == Installed::Unknown);
        // With its last object the kernel removes a route, so nothing goes while a route may use we know not what.
        if self.routes.queued().urgent > 0 || self.refused.iter().any(unknown) {
            return;
        }
        let mut batch = self.batch();
        while batch.changes.len() < budget {
            let Some(id) = self.slots.next_idle() else {
                // Members come after groups, in a batch of their own.
                let groups_go =
                    batch.causes.iter().any(|cause| !matches!(cause, Cause::Unused(id) if Members::owns(*id)));
                match if groups_go { None } else { self.slots.members.next_idle() } {
                    None => break,
                    Some((id, false)) => self.slots.members.remove(id),
                    Some((id, true)) => batch.push(Change::RemoveNexthop(id), Cause::Unused(id)),
                }
                continue;
            };
            if self.slots.get(id).is_none_or(|slot| slot.present.is_none() && !slot.uncertain) {
                self.slots.remove(id);
            } else {
                batch.push(Change::RemoveNexthop(id), Cause::Unused(id));
            }
        }
        let collected = self.commit(batch);
        flushed.written += collected.written;
        flushed.refusal = flushed.refusal.take().or(collected.refusal);
        flushed.error = flushed.error.take().or(collected.error);
    }

    /// What the kernel, an operator or another daemon did; repaired at once where it takes one message, else queued.
    pub fn on_event(&mut self, event: &Event) -> Switch {
        match *event {
            Event::Link { ifindex, up } => self.link_changed(ifindex, up),
            Event::NexthopRemoved(id) | Event::NexthopChanged(id) if Members::owns(id) => self.member_touched(id),
            Event::NexthopRemoved(id) | Event::NexthopChanged(id) => {
                if self.slots.get(id).is_none() {
                    return Switch::default();
                }
                // Maybe the news is old, and it has been made anew since; so it is made sure, which does no harm.
                self.flushed_with_routes(id);
                self.reevaluate(vec![id])
            }
            Event::RouteTouched(prefix) => {
                let Some(index) = self.routes.find(&prefix) else { return Switch::default() };
                self.routes.change(&mut self.slots, index, |entry| entry.installed = Installed::Unknown);
                self.routes.queue(index, Queued::Urgent);
                Switch::default()
            }
            Event::Overrun => {
                self.cycle.want();
                Switch::default()
            }
        }
    }

    fn link_changed(&mut self, ifindex: u32, up: bool) -> Switch {
        let concerned = self.slots.concerned(Scope::Link(ifindex));
        let forgiven = up && self.states.forgive(ifindex);
        let changed = self.states.set(Scope::Link(ifindex), if up { PathState::Up } else { PathState::Dead });
        if !up {
            // An object that goes elsewhere by now was replaced before the link went down, or made anew since.
            self.slots.members.doubt_interface(ifindex);
            for id in &concerned {
                let through = |nexthop: &Nexthop| matches!(nexthop, Nexthop::Via { ifindex: it, .. } if *it == ifindex);
                self.lost_nexthops(*id, through);
            }
        }
        if changed || forgiven || !up { self.reevaluate(concerned) } else { Switch::default() }
    }

    /// Somebody removed or rewrote an object that groups consist of.
    fn member_touched(&mut self, id: NexthopId) -> Switch {
        let Some(nexthop) = self.slots.members.get(id).and_then(|member| member.nexthop) else {
            return Switch::default();
        };
        self.slots.members.doubt(id);
        let groups = self.slots.groups_through(nexthop);
        for id in &groups {
            self.lost_nexthops(*id, |it| *it == nexthop);
        }
        self.reevaluate(groups)
    }

    /// The kernel took some nexthops away: an object that had no others is gone with its routes, a group that had goes on
    /// with those, unless the news is old and it has been made whole since. So it is made sure; by a replacement, since
    /// the kernel then says when it has lost the others as well by now.
    fn lost_nexthops(&mut self, id: NexthopId, lost: impl Fn(&Nexthop) -> bool) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let Some(present) = &slot.present else { return };
        if present.nexthops().any(|it| lost(&it.nexthop)) {
            match Forwarding::spread(present.nexthops().filter(|it| !lost(&it.nexthop))) {
                Some(others) => (slot.present, slot.uncertain) = (Some(others), true),
                None => {
                    self.flushed_with_routes(id);
                }
            }
        }
    }

    /// What is known about one prefix.
    pub fn route(&self, prefix: &Prefix) -> Option<RouteView<'_>> {
        self.routes.get(self.routes.find(prefix)?).map(|entry| self.view(entry))
    }

    /// Up to `limit` routes, starting with the entry numbered `from`; the number to go on with, while there is more.
    /// Entries keep their numbers, so a listing may go on after the table has changed.
    pub fn routes(&self, from: usize, limit: usize) -> (Vec<RouteView<'_>>, Option<usize>) {
        let mut views = Vec::new();
        let end = self.routes.end();
        for index in from..end {
            if views.len() == limit {
                return (views, Some(index));
            }
            views.extend(self.routes.get(index).map(|entry| self.view(entry)));
        }
        (views, None)
    }

    fn view(&self, entry: &Entry) -> RouteView<'_> {
        let slot = |id| self.slots.get(id);
        let object = match entry.installed {
            Installed::Through(id) => Some(id),
            Installed::Nothing | Installed::Unknown => None,
        };
        let installed = match entry.installed {
            Installed::Through(id) => slot(id).and_then(|slot| slot.present.as_ref()),
            Installed::Nothing | Installed::Unknown => None,
        };
        RouteView {
            prefix: entry.prefix,
            list: entry.desired.slot().and_then(slot).and_then(|slot| slot.list.as_deref()),
            installed,
            object,
            adopted: matches!(entry.desired, Desired::AsFound(_)),
            queued: entry.queued != Queued::No,
        }
    }

    /// Gives paths over `ifindex` that the kernel refused another try, say because its addresses changed.
    pub fn retry(&mut self, ifindex: u32) -> Switch {
        if !self.states.forgive(ifindex) {
            return Switch::default();
        }
        let concerned = self.slots.concerned(Scope::Link(ifindex));
        self.reevaluate(concerned)
    }

    /// Whether nothing is left to [flush](Self::flush).
    pub fn is_settled(&self) -> bool {
        let garbage = self.slots.has_idle() && self.may_collect();
        let queued = self.routes.queued();
        queued.urgent == 0 && queued.unprotected == 0 && self.waiting.is_empty() && !garbage
    }

    /// Counts for metrics and `show`.
    pub fn stats(&self) -> Stats {
        let routes::Lengths { urgent, unprotected, lazy } = self.routes.queued();
        Stats {
            routes: self.routes.len(),
            path_lists: self.slots.len(),
            urgent,
            unprotected,
            lazy,
            refused: self.refused.len(),
            resyncs: u64::from(self.cycle.number()),
        }
    }
}

/// Who a change is made for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Route(usize, Installed),
    Object(NexthopId),
    Member(NexthopId),
    Unused(NexthopId),
}

#[derive(Default)]
struct Batch {
    number: u64,
    changes: Vec<Change>,
    causes: Vec<Cause>,
}

impl Batch {
    fn push(&mut self, change: Change, cause: Cause) {
        self.changes.push(change);
        self.causes.push(cause);
    }
}
