//! Routes that an earlier run left in the kernel and that nobody has claimed when our restart is over.
//!
//! Whoever announced them may not have been heard since: its tunnel is down, and what it announced must not leave in the clear
//! for that. So they are dropped where they would else be taken out, until everybody has spoken who may have announced them.

use std::collections::BTreeSet;

use bgp_core::{PeerId, rib::Unclaimed};
use fib::{Backend, Nexthop, PathList};
use net_types::Prefix;
use tracing::{info, warn};

use super::worker::Worker;

/// Routes looked at together.
const PIECE: usize = 1024;

/// What fails closed for the sake of neighbors that have not spoken since the restart.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Dropped, though nobody has announced them in this run, or not any more.
    closed: BTreeSet<Prefix>,
    /// Who has not spoken, and may have announced anything in the run before.
    silent: BTreeSet<PeerId>,
    /// Prefixes stay protected whatever neighbors say.
    always: bool,
}

impl Found {
    /// These have not spoken, from now on.
    pub(super) fn wait_for(&mut self, unclaimed: &Unclaimed) {
        self.silent = unclaimed.silent.iter().copied().collect();
        self.always = unclaimed.always;
    }

    /// The table has a route for a prefix, or it is our own.
    pub(super) fn claimed(&mut self, prefix: &Prefix) {
        if !self.closed.is_empty() {
            self.closed.remove(prefix);
        }
    }

    /// The table has no route for a prefix any more. Whether packets are to be dropped all the same: everybody who speaks
    /// has taken it back, but somebody who does not may have announced it as well.
    pub(super) fn closes(&mut self, prefix: &Prefix) -> bool {
        let closes = !self.silent.is_empty();
        if closes {
            self.closed.insert(*prefix);
        }
        closes
    }
}

impl<B: Backend> Worker<B> {
    /// Deals with what was found at start and nobody asked for. `tunnels`: what protected neighbors are behind.
    pub(super) fn sweep_found(&mut self, unclaimed: Unclaimed, tunnels: &BTreeSet<u32>) {
        let Unclaimed { silent, always, .. } = unclaimed;
        // One that led elsewhere may have been the alternate of a tunnel.
        let protected = |nexthop: Nexthop| match nexthop {
            Nexthop::Via { ifindex, .. } => !silent.is_empty() || (always && tunnels.contains(&ifindex)),
            Nexthop::Blackhole(_) => !silent.is_empty() || always,
        };
        let (mut closed, mut from) = (BTreeSet::new(), Some(0));
        while let Some(start) = from {
            let (routes, next) = self.fib.routes(start, PIECE);
            let found = routes.iter().filter(|route| route.adopted).filter(|route| {
                route.installed.is_some_and(|installed| installed.nexthops().any(|it| protected(it.nexthop)))
            });
            closed.extend(found.map(|route| route.prefix));
            from = next;
        }
        for prefix in &closed {
            self.route(*prefix, Some(PathList::default()));
        }
        let stale = self.fib.sweep();
        if silent.is_empty() && closed.is_empty() {
            info!(stale, "every neighbor has spoken: routes of an earlier run that none announced are taken out");
        } else {
            warn!(
                dropped = closed.len(), stale, neighbors = ?silent,
                "what was reached before our restart and nobody announces is dropped: neighbors behind tunnels have not spoken, or \
                 what they take back stays protected"
            );
        }
        self.found.closed.extend(closed);
    }

    /// This neighbor has spoken, or is not waited for any more; or nobody is.
    pub(super) fn excuse(&mut self, peer: Option<PeerId>) {
        let Found { closed, silent, always } = &mut self.found;
        let over = match peer {
            Some(peer) => silent.remove(&peer) && silent.is_empty() && !*always,
            None => true,
        };
        if over {
            let closed = std::mem::take(closed);
            silent.clear();
            if !closed.is_empty() {
                info!(stale = closed.len(), "what was dropped for the sake of silent neighbors is so no more");
            }
            closed.into_iter().for_each(|prefix| self.route(prefix, None));
        }
    }
}
