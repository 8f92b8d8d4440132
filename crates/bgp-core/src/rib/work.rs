//! Work that touches many entries, done by the piece.

use std::time::Instant;

use net_types::Family;
use smallvec::SmallVec;

use super::{
    Path, Rib, RibEvent, Slot,
    attrs::AttrId,
    input::Importer,
    peer::{Retain, Source, Standing, UNUSED_EPOCH, Visit},
    state::FamilyTable,
};

impl Rib {
    /// Does up to `budget` entries' worth of what is pending, timers first. Whether more is pending.
    pub fn work(&mut self, now: Instant, budget: usize) -> bool {
        self.expire(now);
        let mut left = budget;
        // Next hops first: they decide whether routes can be used at all.
        while left > 0 && self.visit_dependent() {
            left -= 1;
        }
        for slot in 0..self.shared.peers.len() as u16 {
            for family in Family::ALL {
                while left > 0 && self.visit_adj_in(Slot(slot), family) {
                    left -= 1;
                }
            }
        }
        for family in Family::ALL {
            while left > 0 && self.revalidate_next(family) {
                left -= 1;
            }
            while left > 0 && self.condition_next(family) {
                left -= 1;
            }
            while left > 0 && self.aggregate_next(now, family) {
                left -= 1;
            }
            while left > 0 && self.redecide_next(family) {
                left -= 1;
            }
        }
        while left > 0 && self.undamp_next(now) {
            left -= 1;
        }
        self.released.overdue = self.dampening_due().is_some_and(|at| at <= now);
        while left > 0 && self.take_back_retired() {
            left -= 1;
        }
        self.has_work()
    }

    /// To be called when nothing is to be done: forgets up to `budget` prefixes that nobody has any more. Whether there may
    /// be more. Until then they take room, but none that new prefixes would not be given.
    pub fn tidy(&mut self, budget: usize) -> bool {
        let mut left = budget;
        for table in &mut self.tables {
            while left > 0 && table.has_doomed() {
                left = left.saturating_sub(table.sweep());
            }
        }
        self.tables.iter().any(FamilyTable::has_doomed)
    }

    /// Whether [`work`](Self::work) has anything to do before the next timer.
    pub fn has_work(&self) -> bool {
        let visits = |peer: &super::Peer| peer.families.iter().any(|state| state.visit.is_some());
        self.shared.next_hops.has_visits()
            || self.shared.peers.iter().flatten().any(visits)
            || self.redecide.iter().any(Option::is_some)
            || self.revalidation.is_pending()
            || !self.released.is_empty()
            || self.released.overdue
            || self.has_aggregates_to_do()
            || self.has_conditions_to_tell()
            || !self.retired.is_empty()
    }

    /// When `work` has to be called although nothing is pending.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let states = self.shared.peers.iter().flatten().flat_map(|peer| &peer.families);
        let stale = states.filter_map(|state| state.retain_until.map(|(at, _)| at));
        let deferral = self.deferral.as_ref().map(|deferral| deferral.until);
        stale.chain(deferral).chain(self.dampening_due()).min()
    }

    fn expire(&mut self, now: Instant) {
        self.check_deferral(Some(now));
        for peer in self.shared.peers.iter_mut().flatten() {
            for family in Family::ALL {
                let state = &mut peer.families[family as usize];
                if let Some((_, retain)) = state.retain_until.filter(|(at, _)| *at <= now) {
                    // RFC 9494 §4.2: from the end of the restart time on they carry LLGR_STALE, and go if they may not.
                    let longer = std::mem::take(&mut state.long_lived_for);
                    if state.retain == Retain::Stale && !longer.is_zero() && peer.up.is_none() {
                        (state.long_lived, state.retain_until) = (true, Some((now + longer, retain)));
                        peer.visit(family, Visit { reimport: true, ..Visit::default() });
                        continue;
                    }
                    peer.retain(family, retain);
                    peer.visit(family, Visit::default());
                }
            }
        }
    }

    fn visit_dependent(&mut self) -> bool {
        let Some((next_hop, family, id)) = self.shared.next_hops.next_visit() else { return false };
        let Self { shared, tables, .. } = self;
        let table = &mut tables[family as usize];
        let uses =
            |path: &Path| path.effective.is_some_and(|effective| shared.attrs.merit(effective).1 == Some(next_hop));
        let entry = &table.table.entries[id as usize];
        if !entry.paths.iter().any(uses) {
            shared.next_hops.forget_dependent(next_hop, family, id);
            return true;
        }
        // The FIB has to hear of another interface or gateway even if the choice stays.
        let named = entry.sharing().iter().chain(entry.alternate()).any(uses);
        if named && (shared.fib || family.is_vpn()) {
            table.fib_dirty.insert(id);
        }
        table.settle(shared, id);
        true
    }

    /// One entry of a peer's visit; `false` when there is none left, and the visit is over.
    fn visit_adj_in(&mut self, slot: Slot, family: Family) -> bool {
        let Some(peer) = &mut self.shared.peers[usize::from(slot.0)] else { return false };
        let state = &mut peer.families[family as usize];
        let Some(visit) = &mut state.visit else { return false };
        let Some(id) = state.adj_in.next_from(visit.cursor) else {
            self.visited(slot, family);
            return false;
        };
        visit.cursor = id + 1;
        let visit = *visit;
        let entry = &self.tables[family as usize].table.entries[id as usize];
        let paths: SmallVec<[Path; 2]> = entry.paths.iter().filter(|path| path.source == slot).copied().collect();
        for path in paths {
            let Self { shared, tables, .. } = self;
            let table = &mut tables[family as usize];
            match shared.standing(family, &path) {
                Standing::Gone => {
                    table.take(shared, id, slot, path.id);
                }
                Standing::Ghost if visit.exorcise => {
                    table.take(shared, id, slot, path.id);
                }
                _ if visit.reimport => self.reevaluate(family, id, path),
                Standing::Stale
                    if visit.departed && shared.is_sent_back(family, &path, &table.table.entries[id as usize]) =>
                {
                    match shared.protects_if_kept(&path) {
                        true => table.haunt(shared, id, slot, path.id, UNUSED_EPOCH),
                        false => drop(table.take(shared, id, slot, path.id)),
                    }
                }
                standing => {
                    table.settle(shared, id);
                    if visit.departed && standing == Standing::Stale {
                        table.aged(shared, id, slot);
                    }
                }
            }
        }
        true
    }

    /// Evaluates import policy for `path` again.
    pub(super) fn reevaluate(&mut self, family: Family, id: u32, path: Path) {
        let effective = self.evaluate(family, id, &path);
        let Self { shared, tables, .. } = self;
        tables[family as usize].put_again(shared, id, path, effective);
        if let Some(effective) = effective {
            self.shared.attrs.release(effective);
        }
    }

    /// The effective attributes that `path` gets today, held once.
    fn evaluate(&mut self, family: Family, id: u32, path: &Path) -> Option<AttrId> {
        let Self { shared, tables, config, .. } = self;
        let prefix = tables[family as usize].table.prefix(id);
        let received = shared.attrs.attrs(path.received);
        let peer = shared.peer(path.source);
        let long_lived = peer.families[family as usize].long_lived && path.epoch != peer.epoch;
        let mut importer = Importer::new(shared, config, path.source, family, path.received, received);
        if long_lived {
            importer.make_long_lived(shared);
        }
        let effective = importer.effective(shared, &prefix).ok();
        let effective = effective.filter(|_| !shared.is_damped(&prefix, path.source, path.id));
        if let Some(effective) = effective {
            shared.attrs.hold(effective);
        }
        importer.finish(shared);
        effective
    }

    fn visited(&mut self, slot: Slot, family: Family) {
        let peer = self.shared.peer_mut(slot);
        let state = &mut peer.families[family as usize];
        let departed = state.visit.take().is_some_and(|visit| visit.departed);
        let Source::Peer(id) = peer.source else { return };
        if departed {
            self.events.push_back(RibEvent::Departed { peer: id, family });
        }
        let peer = self.shared.peer(slot);
        let empty = peer.families.iter().all(|state| state.visit.is_none() && state.adj_in.is_empty());
        if peer.removed && empty {
            self.shared.peers[usize::from(slot.0)] = None;
        }
    }

    fn redecide_next(&mut self, family: Family) -> bool {
        let Some(id) = self.redecide[family as usize] else { return false };
        let Self { shared, tables, .. } = self;
        let table = &mut tables[family as usize];
        let Some(entry) = table.table.entries.get(id as usize) else {
            self.redecide[family as usize] = None;
            return false;
        };
        if entry.live {
            table.settle(shared, id);
        }
        self.redecide[family as usize] = Some(id + 1);
        true
    }

    fn take_back_retired(&mut self) -> bool {
        let Some((family, ids)) = self.retired.last_mut() else { return false };
        let Some(id) = ids.next_from(0) else {
            self.retired.pop();
            return true;
        };
        ids.remove(id);
        let table = &mut self.tables[*family as usize];
        table.unsent(id);
        true
    }
}

impl super::state::FamilyTable {
    /// Puts other effective attributes on `path`.
    fn put_again(&mut self, shared: &mut super::state::Shared, id: u32, path: Path, effective: Option<AttrId>) {
        if effective == path.effective {
            return self.settle(shared, id);
        }
        self.put(shared, id, Path { effective, ..path });
    }
}
