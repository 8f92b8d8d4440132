//! What must never be, and what must be once everything is over.

use std::collections::BTreeMap;

use bgp_wire::ExtCommunity;
use fib::{Nexthop, Target};
use net_types::Prefix;

use super::{CIRCLE, Circle, Fate, Later, RESTART, Router, World};
use crate::{
    daemon::{Daemon, Heard},
    reference::{self, Alive},
    topology::{LinkKind, ifindex, link_of},
};

impl World {
    /// Keeps count of what neighbors behind tunnels have promised, and those within the AS whom others have.
    pub(super) fn heard(&mut self, router: usize, at: usize, heard: Heard) {
        let own = self.plan.routers[router].asn;
        let closed = self.plan.always_closed;
        let inside = self.plan.links[self.plan.routers[router].neighbors[at].link].kind == LinkKind::Lan;
        let closed = closed && !inside;
        let state = &mut self.routers[router];
        match heard {
            Heard::Session => state.sessions[at] += 1,
            Heard::Update(update) => {
                let session = state.sessions[at];
                if !closed {
                    state.told[at].retain(|prefix, _| !update.withdrawn.contains(prefix));
                }
                for reach in update.reach.iter() {
                    let marks = [ExtCommunity::THROUGH_TUNNEL, ExtCommunity::TUNNEL_LOST];
                    let marked = reach.attributes.ext_communities.iter().any(|community| marks.contains(community));
                    let taken = reach.attributes.as_path.asns().all(|asn| asn.get() != own) && (marked || !inside);
                    for prefix in reach.announced.iter().flat_map(|group| &group.prefixes) {
                        if taken {
                            state.told[at].insert(*prefix, session);
                        } else {
                            state.told[at].remove(prefix);
                        }
                    }
                }
                state.spoken[at] |= update.end_of_rib.is_some();
                if update.end_of_rib.is_some() && !closed {
                    state.told[at].retain(|_, said| *said == session);
                }
            }
        }
        state.forget_answered_for();
        let Router { told, owed, .. } = state;
        owed.retain(|prefix| told.iter().any(|told| told.contains_key(prefix)));
    }

    /// What must hold whatever happens, at a router whose daemon has just done something.
    pub(super) fn check(&mut self, router: usize) {
        let state = &mut self.routers[router];
        let Some(daemon) = &mut state.daemon else { return };
        let changes = state.kernel.twin().applied();
        let changed = std::mem::replace(&mut state.changes, changes) != changes;
        let idle = daemon.is_idle();
        if std::mem::replace(&mut state.was_idle, idle) && idle && !changed {
            return; // a packet that changed nothing
        }
        state.repairing &= !idle;
        if !state.repairing {
            let twin = state.kernel.twin();
            let missing = state.owed.iter().find(|prefix| twin.target(prefix).is_none()).copied();
            drop(twin);
            if let Some(prefix) = missing {
                let now = self.net.now();
                let seen = daemon.describe(now, &prefix);
                return self.violate(format!(
                    "router {router} leaks {prefix}: it came through a tunnel and has no route now; {seen}"
                ));
            }
            if idle && !daemon.is_deferring() {
                let twin = state.kernel.twin();
                let told = state.told.iter().flat_map(BTreeMap::keys);
                state.owed.extend(told.filter(|prefix| twin.target(prefix).is_some()));
            }
        }
        if changed {
            for at in 0..self.prefixes.len() {
                let prefix = self.prefixes[at];
                if let Fate::Circle(circle) = self.walk(router, &prefix) {
                    let first = self.plan.routers[circle[0]].asn;
                    let within = circle.iter().all(|at| self.plan.routers[*at].asn == first);
                    let now = self.now();
                    if self.circles.is_empty() {
                        self.later.insert((now + CIRCLE / 50, Later::Look));
                    }
                    self.circles.entry((router, prefix)).or_insert(Circle { since: now, within, restarting: now });
                }
            }
        }
    }

    /// Its daemon does not run, or has not heard everybody since it was started.
    pub(super) fn is_restarting(&mut self, router: usize) -> bool {
        self.routers[router].daemon.as_mut().is_none_or(Daemon::is_deferring)
    }

    pub(super) fn describe(&mut self, router: usize, prefix: &Prefix) -> String {
        let now = self.now();
        match &mut self.routers[router].daemon {
            Some(daemon) => format!("router {router}: {}", daemon.describe(now, prefix)),
            None => format!("router {router}: its daemon does not run"),
        }
    }

    /// Whether circles are still there.
    pub(super) fn look(&mut self) {
        let now = self.now();
        for ((router, prefix), Circle { since, within, restarting }) in self.circles.clone() {
            let lasted = now - since;
            let fate = self.walk(router, &prefix);
            if let Fate::Circle(circle) = fate {
                let excused = circle.iter().any(|at| self.is_restarting(*at));
                let restarting = if excused { now } else { restarting };
                self.circles.insert((router, prefix), Circle { since, within, restarting });
                if now - restarting > CIRCLE || lasted > RESTART {
                    let seen: Vec<String> = circle.iter().map(|at| self.describe(*at, &prefix)).collect();
                    self.violate(format!(
                        "packets to {prefix} run in a circle through routers {circle:?} since {lasted:?}; {}",
                        seen.join("; ")
                    ));
                }
            } else {
                self.circles.remove(&(router, prefix));
                self.figures.circles += 1;
                self.figures.circles_in_restart += usize::from(lasted > CIRCLE);
                self.figures.longest_circle = self.figures.longest_circle.max(lasted);
                if within {
                    self.figures.longest_within_site = self.figures.longest_within_site.max(lasted);
                }
            }
        }
        if !self.circles.is_empty() {
            self.later.insert((now + CIRCLE / 50, Later::Look));
        }
    }

    /// Follows a packet.
    pub(super) fn walk(&mut self, from: usize, prefix: &Prefix) -> Fate {
        self.figures.walks += 1;
        let mut passed = Vec::new();
        let mut at = from;
        loop {
            if self.plan.routers[at].prefixes.contains(prefix) {
                return Fate::Delivered;
            }
            if let Some(first) = passed.iter().position(|before| *before == at) {
                return Fate::Circle(passed.split_off(first));
            }
            passed.push(at);
            let twin = self.routers[at].kernel.twin();
            let link = match twin.forwarding(prefix).map(|found| found.nexthops().next().map(|it| it.nexthop)) {
                Some(Some(Nexthop::Via { ifindex, .. })) => link_of(ifindex),
                Some(_) => return Fate::Dropped,
                None => {
                    let drops = twin.target(prefix) == Some(Target::Unreachable);
                    return if drops { Fate::Dropped } else { Fate::Leaked(at) };
                }
            };
            let end = self.plan.links[link].end(at);
            if !self.passes(link, end) {
                return Fate::Dropped;
            }
            at = self.plan.links[link].ends[1 - end];
        }
    }

    /// Whether some neighbor has not spoken since the daemon was started: what it had announced before is
    /// dropped, and nobody knows any more what that was.
    pub(super) fn has_silent_neighbor(&self, router: usize) -> bool {
        self.routers[router].spoken.contains(&false)
    }

    /// Every router against the reference.
    pub(super) fn compare(&mut self) {
        let now = self.now();
        for at in 0..self.prefixes.len() {
            let prefix = self.prefixes[at];
            let running = |router: usize| self.routers[router].daemon.is_some();
            let both = |link: usize| (0..2).all(|end| self.passes(link, end));
            let held = Alive { plan: &self.plan, router: &running, link: &both }.held(&prefix);
            for (router, route) in held.iter().enumerate() {
                let expected = route.as_ref().and_then(|route| Some((route.from?, route.path.clone())));
                let told = self.routers[router].told.iter().any(|told| told.contains_key(&prefix));
                let silent = self.has_silent_neighbor(router);
                let state = &mut self.routers[router];
                let Some(daemon) = &mut state.daemon else { continue };
                let best = daemon.best(now, &prefix);
                if best != expected {
                    let seen = daemon.describe(now, &prefix);
                    return self.violate(format!(
                        "router {router} has settled on (neighbor, path) {best:?} for {prefix}, expected {expected:?}; {seen}"
                    ));
                }
                let own = self.plan.routers[router].prefixes.contains(&prefix);
                let out = expected.map(|(place, _)| ifindex(self.plan.routers[router].neighbors[place].link));
                let twin = state.kernel.twin();
                let found = twin.forwarding(&prefix).and_then(|found| found.nexthops().next()).map(|it| it.nexthop);
                let right = match (found, out) {
                    (Some(Nexthop::Via { ifindex, .. }), Some(out)) => ifindex == out,
                    (Some(Nexthop::Blackhole(_)), None) => told || silent,
                    (None, None) => own || !told,
                    _ => false,
                };
                drop(twin);
                if !right {
                    let seen = daemon.describe(now, &prefix);
                    return self.violate(format!(
                        "router {router} forwards {prefix} by {found:?}, expected interface {out:?} (protected: {told}); {seen}"
                    ));
                }
            }
            for router in 0..self.routers.len() {
                if self.routers[router].daemon.is_none() {
                    continue;
                }
                let delivered = self.walk(router, &prefix) == Fate::Delivered;
                if delivered != reference::delivers(&self.plan, &held, router) {
                    let fate = self.walk(router, &prefix);
                    return self.violate(format!(
                        "a packet from router {router} to {prefix}: {fate:?}, delivered: {delivered}"
                    ));
                }
            }
        }
    }
}
