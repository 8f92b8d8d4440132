//! Next hops that paths depend on, whether they can be reached, and which entries care (RFC 4271 §9.1.2.1).
//!
//! The owner is told which addresses are wanted and answers with what the kernel's tables say. A next hop is shared by
//! every path through it, so an answer that changes is one write here and a visit to the entries that depend on it.

use std::net::IpAddr;

use hashbrown::HashMap;
use net_types::Family;
use slab::Slab;

use super::id_set::IdSet;

/// A next hop to resolve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHopKey {
    /// The address.
    pub address: IpAddr,
    /// For an IPv6 link-local address the interface that it belongs to (RFC 4007 §6), 0 otherwise.
    pub scope: u32,
}

impl NextHopKey {
    /// Whether it is of a route of our own, so that there is nothing to resolve. The unspecified address stands for ourselves;
    /// peers cannot announce it (see `admission`).
    pub(super) fn is_ours(&self) -> bool {
        self.address.is_unspecified() || self.scope == OWN
    }
}

/// How packets get to a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resolved {
    /// The interface to send through.
    pub ifindex: u32,
    /// The neighbour to send to; `None` on an interface that needs none, such as a tunnel.
    pub gateway: Option<IpAddr>,
    /// Cost of the route to it, compared by the decision process (RFC 4271 §9.1.2.2 e).
    pub metric: u32,
}

/// What the owner should do about resolving a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHopEvent {
    /// Some path needs it: resolve it now and whenever routes change.
    Wanted(NextHopKey),
    /// No path needs it any more.
    Unwanted(NextHopKey),
}

/// Names a next hop in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NextHopId(u32);

struct NextHopState {
    key: NextHopKey,
    /// Attribute sets in use that name it.
    uses: u32,
    resolved: Option<Resolved>,
    /// Entries that have, or had, a path through it: a superset that visits prune.
    dependents: [IdSet; Family::COUNT],
    /// The owner was told that it is wanted.
    announced: bool,
    /// The owner has answered, be it that it is not reached.
    answered: bool,
    /// It is in `changed`.
    queued: bool,
    /// Where the visit of its dependents stands, per family.
    visit: [Option<u32>; Family::COUNT],
}

/// Every next hop in use.
pub(crate) struct NextHops {
    states: Slab<NextHopState>,
    by_key: HashMap<NextHopKey, NextHopId, foldhash::quality::FixedState>,
    /// The last that was asked for: a peer mostly has one.
    last: Option<(NextHopKey, NextHopId)>,
    changed: Vec<NextHopId>,
    visits: Vec<NextHopId>,
    /// How many have no answer yet.
    unanswered: usize,
}

/// The scope of a next hop of a route of our own: whoever we have it from sees to it that it can be reached.
pub(super) const OWN: u32 = u32::MAX;

/// The scope of the unspecified address that stands for a way that is not there.
pub(super) const NOWHERE: u32 = u32::MAX - 1;

/// What a route of our own goes through: nothing to resolve.
const OURSELVES: Resolved = Resolved { ifindex: 0, gateway: None, metric: 0 };

impl NextHops {
    pub(crate) fn new(seed: u64) -> Self {
        let by_key = HashMap::with_hasher(foldhash::quality::FixedState::with_seed(seed));
        Self { states: Slab::new(), by_key, last: None, changed: Vec::new(), visits: Vec::new(), unanswered: 0 }
    }

    /// One more attribute set names `key`.
    pub(crate) fn acquire(&mut self, key: NextHopKey) -> NextHopId {
        let known = self.last.filter(|(last, _)| *last == key).map(|(_, id)| id);
        let id = known.unwrap_or_else(|| {
            *self.by_key.entry(key).or_insert_with(|| {
                let resolved = (key.is_ours() && key.scope != NOWHERE).then_some(OURSELVES);
                let state = NextHopState {
                    key,
                    uses: 0,
                    resolved,
                    dependents: Default::default(),
                    announced: false,
                    answered: key.is_ours(),
                    queued: false,
                    visit: [None; Family::COUNT],
                };
                self.unanswered += usize::from(!state.answered);
                NextHopId(self.states.insert(state) as u32)
            })
        });
        self.last = Some((key, id));
        self.states[id.0 as usize].uses += 1;
        self.queue(id);
        id
    }

    /// One attribute set less names it.
    pub(crate) fn release(&mut self, id: NextHopId) {
        let state = &mut self.states[id.0 as usize];
        state.uses -= 1;
        if state.uses == 0 {
            self.queue(id);
        }
    }

    fn queue(&mut self, id: NextHopId) {
        let state = &mut self.states[id.0 as usize];
        if !state.queued && (state.uses > 0) != state.announced {
            state.queued = true;
            self.changed.push(id);
        }
    }

    /// The next thing that the owner should know. What went and came back between two calls is not mentioned.
    pub(crate) fn poll(&mut self) -> Option<NextHopEvent> {
        while let Some(id) = self.changed.pop() {
            let state = &mut self.states[id.0 as usize];
            state.queued = false;
            let (wanted, key) = (state.uses > 0, state.key);
            let was = std::mem::replace(&mut state.announced, wanted);
            if !wanted {
                let gone = self.states.remove(id.0 as usize);
                self.unanswered -= usize::from(!gone.answered);
                self.by_key.remove(&key);
                self.last = None;
            }
            if wanted != was && !key.is_ours() {
                return Some(if wanted { NextHopEvent::Wanted(key) } else { NextHopEvent::Unwanted(key) });
            }
        }
        None
    }

    /// The owner's answer. Whether something changed, and dependents have to be visited.
    pub(crate) fn resolve(&mut self, key: NextHopKey, resolved: Option<Resolved>) -> bool {
        let Some(id) = self.by_key.get(&key).copied() else { return false };
        let state = &mut self.states[id.0 as usize];
        if key.is_ours() {
            return false;
        }
        self.unanswered -= usize::from(!std::mem::replace(&mut state.answered, true));
        if state.resolved == resolved {
            return false;
        }
        state.resolved = resolved;
        if state.visit == [None; Family::COUNT] {
            self.visits.push(id);
        }
        state.visit = [Some(0); Family::COUNT];
        true
    }

    /// Whether it is not known yet of any how it is reached.
    pub(crate) fn has_unanswered(&self) -> bool {
        self.unanswered > 0
    }

    /// How it is reached at present.
    pub(crate) fn resolved(&self, id: NextHopId) -> Option<&Resolved> {
        self.states[id.0 as usize].resolved.as_ref()
    }

    /// How `key` is reached at present, and whether anything needs it.
    pub(crate) fn get(&self, key: &NextHopKey) -> Option<Option<Resolved>> {
        self.by_key.get(key).map(|id| self.states[id.0 as usize].resolved)
    }

    /// Entry `entry` of `family` has a path through it.
    pub(crate) fn depend(&mut self, id: NextHopId, family: Family, entry: u32) {
        self.states[id.0 as usize].dependents[family as usize].insert(entry);
    }

    /// Entry `entry` of `family` has none after all.
    pub(crate) fn forget_dependent(&mut self, id: NextHopId, family: Family, entry: u32) {
        self.states[id.0 as usize].dependents[family as usize].remove(entry);
    }

    /// The next entry to decide again after a change of resolution.
    pub(crate) fn next_visit(&mut self) -> Option<(NextHopId, Family, u32)> {
        while let Some(id) = self.visits.last().copied() {
            // A next hop that went meanwhile leaves its number here; one that took the number has nothing to visit.
            let Some(state) = self.states.get_mut(id.0 as usize) else {
                self.visits.pop();
                continue;
            };
            for family in Family::ALL {
                let Some(cursor) = state.visit[family as usize] else { continue };
                match state.dependents[family as usize].next_from(cursor) {
                    Some(entry) => {
                        state.visit[family as usize] = Some(entry + 1);
                        return Some((id, family, entry));
                    }
                    None => state.visit[family as usize] = None,
                }
            }
            self.visits.pop();
        }
        None
    }

    /// Whether dependents are still to be visited.
    pub(crate) fn has_visits(&self) -> bool {
        !self.visits.is_empty()
    }

    /// Every next hop with its resolution, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&NextHopKey, Option<&Resolved>, u32)> {
        self.states.iter().map(|(_, state)| (&state.key, state.resolved.as_ref(), state.uses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> NextHopKey {
        NextHopKey { address: text.parse().unwrap(), scope: 0 }
    }

    #[test]
    fn the_owner_hears_of_a_next_hop_once_and_of_its_end() {
        let mut hops = NextHops::new(1);
        let id = hops.acquire(key("192.0.2.1"));
        hops.acquire(key("192.0.2.1"));
        assert_eq!(hops.poll(), Some(NextHopEvent::Wanted(key("192.0.2.1"))));
        assert!(hops.has_unanswered());
        hops.release(id);
        assert_eq!(hops.poll(), None);
        hops.release(id);
        assert_eq!(hops.poll(), Some(NextHopEvent::Unwanted(key("192.0.2.1"))));
        assert_eq!((hops.poll(), hops.states.len(), hops.has_unanswered()), (None, 0, false));
        hops.acquire(key("192.0.2.2"));
        hops.resolve(key("192.0.2.2"), None);
        assert!(!hops.has_unanswered(), "that it is not reached is an answer");
    }

    #[test]
    fn a_next_hop_that_goes_and_returns_at_once_is_not_resolved_anew() {
        let mut hops = NextHops::new(1);
        let id = hops.acquire(key("192.0.2.1"));
        hops.poll();
        let there = Some(Resolved { ifindex: 7, gateway: None, metric: 0 });
        assert!(hops.resolve(key("192.0.2.1"), there) && !hops.resolve(key("192.0.2.1"), there));
        hops.release(id);
        let id = hops.acquire(key("192.0.2.1"));
        assert_eq!(hops.poll(), None);
        assert_eq!(hops.resolved(id), there.as_ref());
    }

    #[test]
    fn a_change_visits_every_dependent_of_both_families_once() {
        let mut hops = NextHops::new(1);
        let id = hops.acquire(key("2001:db8::1"));
        hops.depend(id, Family::Ipv6Unicast, 3);
        hops.depend(id, Family::Ipv6Unicast, 9);
        hops.depend(id, Family::Ipv4Unicast, 5);
        assert!(!hops.has_visits());
        hops.resolve(key("2001:db8::1"), Some(Resolved { ifindex: 1, gateway: None, metric: 0 }));
        let seen: Vec<_> = std::iter::from_fn(|| hops.next_visit()).map(|(_, family, entry)| (family, entry)).collect();
        assert_eq!(seen, [(Family::Ipv4Unicast, 5), (Family::Ipv6Unicast, 3), (Family::Ipv6Unicast, 9)]);
        assert!(!hops.has_visits());
    }
}
