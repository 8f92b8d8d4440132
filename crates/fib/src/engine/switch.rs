//! Path-lists follow the health of their paths: one message each, all in one send, before anything else.

use std::time::Instant;

use super::{
    Cause, Fib,
    report::Switch,
    routes::{Installed, Queued},
};
use crate::{
    backend::{Backend, Change, NexthopId},
    forwarding::Forwarding,
    path::{PathState, Scope},
};

/// How often a switch is sent whose answer does not come.
const ATTEMPTS: usize = 3;

impl<B: Backend> Fib<B> {
    /// Takes note of the health of everything in `scope`, and moves every path-list that it concerns at once.
    ///
    /// A path that dies, or becomes a doubtful one or the last resort, is left before this returns. A path that comes (back) up takes
    /// over before this returns too, unless routes are still to leave its path-list; those are written first, by the
    /// next calls of [`flush`](Self::flush).
    pub fn set_state(&mut self, scope: Scope, state: PathState) -> Switch {
        self.set_states(&[(scope, state)])
    }

    /// Several words at once, and one send for all that they move.
    pub fn set_states(&mut self, words: &[(Scope, PathState)]) -> Switch {
        let mut concerned = Vec::new();
        for (scope, state) in words {
            let forgiven = *state == PathState::Up && self.states.forgive_scope(*scope);
            if self.states.set(*scope, *state) || forgiven {
                concerned.extend(self.slots.concerned(*scope));
            }
        }
        concerned.sort_unstable();
        concerned.dedup();
        self.reevaluate(concerned)
    }

    /// The last word on a scope, whatever others say of the same paths.
    pub fn word(&self, scope: &Scope) -> PathState {
        self.states.word(scope)
    }

    /// Brings path-lists in line with the states of their paths.
    pub(super) fn reevaluate(&mut self, mut ids: Vec<NexthopId>) -> Switch {
        let started = Instant::now();
        let mut switch = Switch::default();
        let any = !ids.is_empty();
        // A refused nexthop counts as a dead path, so each round has fewer to try; the blackhole ends them all.
        while !ids.is_empty() {
            let moves = self.moves(&ids);
            let again = self.replace(&moves, &mut switch);
            ids = again;
        }
        switch.elapsed = started.elapsed();
        if any {
            // What forwarded to the right place by another way may do so no longer, be it that a path-list without
            // routes yet, which is not replaced, leads elsewhere now.
            self.routes.promote();
        }
        switch
    }

    /// Which objects are to be replaced, those with the most routes first.
    fn moves(&mut self, ids: &[NexthopId]) -> Vec<(NexthopId, Forwarding)> {
        let mut moves = Vec::new();
        for &id in ids {
            let Some(slot) = self.slots.get(id).filter(|slot| !slot.is_unreachable()) else { continue };
            let better = slot.choose(&self.states);
            // An object without routes that is not there is made with its first route.
            let right = slot.present.as_ref() == Some(&better) && !slot.uncertain;
            if right || (slot.present.is_none() && slot.users == 0 && !slot.uncertain) {
                self.waiting.remove(&id);
            } else if slot.lagging > 0 && !slot.uncertain && slot.present_is_sound(&self.states) {
                self.waiting.insert(id);
                self.routes.promote();
            } else {
                self.waiting.remove(&id);
                moves.push((slot.users, id, better));
            }
        }
        moves.sort_unstable_by_key(|(users, id, _)| (std::cmp::Reverse(*users), *id));
        moves.into_iter().map(|(_, id, better)| (id, better)).collect()
    }

    /// Replaces objects in one go; returns those that have to be decided again.
    fn replace(&mut self, moves: &[(NexthopId, Forwarding)], switch: &mut Switch) -> Vec<NexthopId> {
        if moves.is_empty() {
            return Vec::new();
        }
        let mut batch = self.batch();
        // Where the change of each move is, among those that make members for it.
        let mut places = Vec::with_capacity(moves.len());
        for (id, forwarding) in moves {
            let Some(slot) = self.slots.get(*id) else { continue };
            let exists = slot.present.is_some();
            if slot.group {
                self.members(forwarding, &mut batch);
            }
            places.push((batch.changes.len(), *id, forwarding));
            batch.push(self.slots.change(*id, forwarding, exists), Cause::Object(*id));
        }
        // A batch whose answer was lost can be sent again as it is.
        let mut answer = self.backend.apply(&batch.changes);
        for _ in 1..ATTEMPTS {
            if answer.is_err() {
                answer = self.backend.apply(&batch.changes);
            }
        }
        let mut refusals = match answer {
            Ok(refusals) => refusals,
            Err(error) => {
                self.outcome_unknown(&batch);
                switch.error = Some(error);
                return Vec::new();
            }
        };
        let cycle = self.cycle.number();
        refusals.sort_by_key(|refusal| refusal.index);
        let refused = |place: usize| refusals.binary_search_by_key(&place, |refusal| refusal.index).ok();
        for (place, cause) in batch.causes.iter().enumerate() {
            let Cause::Member(id) = *cause else { continue };
            match refused(place) {
                None => self.slots.members.mark_seen(id, cycle),
                Some(at) => {
                    let tried = self.slots.members.refused(id);
                    switch.refusals.push(self.nexthop_refused(tried, &refusals[at].to_string()));
                }
            }
        }
        let mut again = Vec::new();
        for (place, id, forwarding) in places {
            if let Some(refusal) = refused(place).map(|at| &refusals[at]) {
                let replaced = matches!(batch.changes[place], Change::ReplaceNexthop(..) | Change::ReplaceGroup(..));
                if refusal.errno == libc::ENOENT && replaced {
                    // Its link went down a moment ago, and the kernel said nothing; nor has the monitor yet.
                    switch.flushed += self.flushed_with_routes(id);
                    again.push(id);
                    continue;
                }
                // The kernel goes on with what it had; the next in line is tried.
                let said = self.object_refused(id, Some(forwarding.clone()), batch.number, &refusal.to_string());
                if said.is_none() || !forwarding.is_blackhole() {
                    again.push(id);
                }
                switch.refusals.extend(said);
                continue;
            }
            let Some(slot) = self.slots.get_mut(id) else { continue };
            slot.present = Some(forwarding.clone());
            slot.uncertain = false;
            slot.seen = cycle;
            switch.lists += 1;
            switch.routes += slot.users;
            if forwarding.is_blackhole() {
                switch.blackholed += slot.users;
            }
        }
        again
    }

    /// The kernel took an object away with all of its routes: both are made anew.
    pub(super) fn flushed_with_routes(&mut self, id: NexthopId) -> usize {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.present = None;
            slot.uncertain = true;
        }
        let lost = self.routes.select(|entry| entry.installed == Installed::Through(id));
        for index in &lost {
            self.routes.change(&mut self.slots, *index, |entry| entry.installed = Installed::Unknown);
            self.routes.queue(*index, Queued::Urgent);
        }
        lost.len()
    }

    /// Gives path-lists whose laggards have left what they have been waiting for.
    pub(super) fn improve(&mut self) {
        let free = |id: &NexthopId| self.slots.get(*id).is_none_or(|slot| slot.lagging == 0);
        let ready: Vec<NexthopId> = self.waiting.iter().copied().filter(free).collect();
        if !ready.is_empty() {
            for id in &ready {
                self.waiting.remove(id);
            }
            self.reevaluate(ready);
        }
    }
}
