//! Whether static routes lead anywhere: by what ipsecd says of tunnels, and by BFD where a route asks for it.
//!
//! A tunnel keeps its interface, and the interface its carrier, whatever becomes of the keys. So a route onto it has to be told;
//! routes that BGP learned have their neighbor for that.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fib::{PathKey, PathState, Scope};
use net_types::{Prefix, TunnelName};
use tokio::sync::Notify;

/// Static routes, as a source of paths, next to the neighbors that are numbered from 1.
const STATIC_SOURCE: u32 = u32::MAX - 1;
/// The same, of those that depend on BFD: another route over the same way need not.
const STATIC_WITH_BFD: u32 = u32::MAX - 2;

/// A router on a link.
pub type Hop = (u32, IpAddr);

/// The path of a static route, as the FIB knows it.
pub fn path(ifindex: u32, gateway: Option<IpAddr>, bfd: bool) -> PathKey {
    PathKey { source: if bfd { STATIC_WITH_BFD } else { STATIC_SOURCE }, ifindex, gateway }
}

/// What is known, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Interfaces of tunnels that are not up.
    pub dead: BTreeSet<u32>,
    /// Routers whose BFD sessions are up.
    pub answering: BTreeSet<Hop>,
    /// What tunnels that are up carry.
    pub carried: BTreeMap<TunnelName, Carried>,
}

/// What a tunnel carries on its peer's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Its interface.
    pub ifindex: u32,
    /// As its child SA has it, sorted.
    pub prefixes: Vec<Prefix>,
}

impl Health {
    /// Whether packets that leave this way have a chance.
    pub fn leads(&self, ifindex: u32, gateway: Option<IpAddr>, bfd: bool) -> bool {
        !self.dead.contains(&ifindex)
            && (!bfd || gateway.is_some_and(|gateway| self.answering.contains(&(ifindex, gateway))))
    }
}

/// BFD sessions to routers on links, for static routes: written by the thread of BFD, read by the supervisor.
#[derive(Clone, Debug, Default)]
pub struct StaticBfd(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    sessions: Mutex<Sessions>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Sessions {
    up: BTreeSet<Hop>,
    /// Those that static routes depend on.
    watched: BTreeSet<Hop>,
}

impl StaticBfd {
    /// Static routes depend on these from now on. Gives what to tell the FIB of each, and of those that no route depends on
    /// any more.
    pub fn watch(&self, hops: BTreeSet<Hop>) -> Vec<(Scope, PathState)> {
        let mut sessions = self.sessions();
        let before = std::mem::replace(&mut sessions.watched, hops);
        let up = |hop: &Hop| sessions.up.contains(hop) || !sessions.watched.contains(hop);
        let concerned: BTreeSet<Hop> = before.union(&sessions.watched).copied().collect();
        concerned.iter().map(|hop| word(*hop, up(hop))).collect()
    }

    /// A session came up or was lost. Gives what to tell the FIB, where a static route depends on it.
    pub fn changed(&self, hop: Hop, up: bool) -> Option<(Scope, PathState)> {
        let mut sessions = self.sessions();
        let is_news = if up { sessions.up.insert(hop) } else { sessions.up.remove(&hop) };
        let concerned = is_news && sessions.watched.contains(&hop);
        drop(sessions);
        if concerned {
            self.0.changed.notify_one();
        }
        concerned.then(|| word(hop, up))
    }

    /// Completes when a session that static routes depend on has changed.
    pub async fn news(&self) {
        self.0.changed.notified().await;
    }

    /// The sessions that are up.
    pub fn answering(&self) -> BTreeSet<Hop> {
        self.sessions().up.clone()
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn word((ifindex, gateway): Hop, up: bool) -> (Scope, PathState) {
    (Scope::Path(path(ifindex, Some(gateway), true)), if up { PathState::Up } else { PathState::Dead })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_that_depend_on_bfd_are_dead_until_it_is_up_and_others_do_not_care() {
        let hop: Hop = (3, "169.254.1.1".parse().unwrap());
        let bfd = StaticBfd::default();
        assert_eq!(bfd.changed(hop, true), None, "nobody asked");
        assert_eq!(bfd.changed(hop, false), None);
        assert_eq!(bfd.watch([hop].into()), [word(hop, false)]);
        assert_eq!(bfd.changed(hop, true), Some(word(hop, true)));
        assert_eq!(bfd.changed(hop, true), None, "no news");
        let health = Health { answering: bfd.answering(), ..Health::default() };
        assert!(health.leads(3, Some(hop.1), true));
        assert!(!health.leads(4, Some(hop.1), true) && !health.leads(3, None, true));
        assert!(health.leads(4, None, false));
        assert!(!Health { dead: [3].into(), ..health }.leads(3, Some(hop.1), true));
        assert_eq!(bfd.changed(hop, false), Some(word(hop, false)));
        assert_eq!(bfd.watch(BTreeSet::new()), [word(hop, true)], "nothing is left behind");
    }
}
