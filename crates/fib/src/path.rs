//! What a route may go over, and what is known about the health of it.

use std::{fmt, net::IpAddr};

use hashbrown::HashMap;

/// One way out: who taught it, and the interface and gateway that it resolves to.
///
/// `source` is opaque here. The speaker numbers its peers (and its own static routes) and may so declare everything
/// that it learned from one of them dead in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathKey {
    /// Whoever the path was learned from.
    pub source: u32,
    /// Kernel index of the interface.
    pub ifindex: u32,
    /// Next hop on that interface; `None` on a point-to-point link that needs none.
    pub gateway: Option<IpAddr>,
}

impl fmt::Display for PathKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.gateway {
            Some(gateway) => write!(f, "via {gateway} on interface {} (source {})", self.ifindex, self.source),
            None => write!(f, "on interface {} (source {})", self.ifindex, self.source),
        }
    }
}

/// Health, from good to bad; the worst word on any part of a path decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathState {
    /// Usable.
    #[default]
    Up,
    /// Nothing is known against it, but not enough for it either (a tunnel nobody reports on, a neighbor that is not done with
    /// its routes, a path that keeps failing): to be used when nothing that is up is left.
    Doubtful,
    /// Something is known against it (BFD hears nobody, the session is gone): to be used when nothing better is left.
    LastResort,
    /// Never to be used.
    Dead,
}

/// The part of the world that a [`PathState`] speaks about.
///
/// Each observer has a scope of its own, so that a link that comes up cannot overrule a tunnel that is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everything learned from one source.
    Source(u32),
    /// Everything learned from one source, as whoever tests the path to it (BFD) reports.
    Monitored(u32),
    /// Everything over an interface, as its kernel link reports.
    Link(u32),
    /// Everything over an interface, as the owner of the tunnel behind it reports.
    Tunnel(u32),
    /// One path alone.
    Path(PathKey),
    /// What has failed too often, as whoever counts that says.
    Damped(Damped),
}

/// What may be held down for having failed too often, though it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Damped {
    /// Everything over an interface.
    Interface(u32),
    /// Everything learned from one source.
    Source(u32),
    /// One path alone.
    Path(PathKey),
}

/// The last word on every scope that is not [`PathState::Up`].
#[derive(Debug, Default)]
pub(crate) struct States {
    not_up: HashMap<Scope, PathState, foldhash::fast::RandomState>,
    /// Paths that the kernel refused to build a nexthop for; out until something about them changes.
    refused: HashMap<(u32, Option<IpAddr>), (), foldhash::fast::RandomState>,
}

impl States {
    /// Records a state; false when it was known already.
    pub(crate) fn set(&mut self, scope: Scope, state: PathState) -> bool {
        let before = match state {
            PathState::Up => self.not_up.remove(&scope),
            worse => self.not_up.insert(scope, worse),
        };
        before.unwrap_or_default() != state
    }

    /// The last word on this scope alone.
    pub(crate) fn word(&self, scope: &Scope) -> PathState {
        self.not_up.get(scope).copied().unwrap_or_default()
    }

    pub(crate) fn of(&self, path: &PathKey) -> PathState {
        if self.refused.contains_key(&(path.ifindex, path.gateway)) {
            return PathState::Dead;
        }
        let scopes = [
            Scope::Source(path.source),
            Scope::Monitored(path.source),
            Scope::Link(path.ifindex),
            Scope::Tunnel(path.ifindex),
            Scope::Path(*path),
            Scope::Damped(Damped::Interface(path.ifindex)),
            Scope::Damped(Damped::Source(path.source)),
            Scope::Damped(Damped::Path(*path)),
        ];
        scopes.iter().filter_map(|scope| self.not_up.get(scope)).max().copied().unwrap_or_default()
    }

    pub(crate) fn refuse(&mut self, ifindex: u32, gateway: Option<IpAddr>) {
        self.refused.insert((ifindex, gateway), ());
    }

    /// Gives refused paths over `ifindex` another try; true when there were any.
    pub(crate) fn forgive(&mut self, ifindex: u32) -> bool {
        let before = self.refused.len();
        self.refused.retain(|(refused, _), ()| *refused != ifindex);
        self.refused.len() != before
    }

    /// Gives every refused path another try that news about `scope` may have changed the kernel's mind on.
    pub(crate) fn forgive_scope(&mut self, scope: Scope) -> bool {
        match scope {
            Scope::Link(ifindex) | Scope::Tunnel(ifindex) => self.forgive(ifindex),
            Scope::Path(path) => self.forgive(path.ifindex),
            Scope::Source(_) | Scope::Monitored(_) => self.forgive_all(),
            // That somebody stops counting is no news for the kernel.
            Scope::Damped(_) => false,
        }
    }

    pub(crate) fn forgive_all(&mut self) -> bool {
        let any = !self.refused.is_empty();
        self.refused.clear();
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: PathKey = PathKey { source: 1, ifindex: 2, gateway: None };

    #[test]
    fn the_worst_word_decides() {
        let mut states = States::default();
        assert_eq!(states.of(&PATH), PathState::Up);
        assert!(states.set(Scope::Tunnel(2), PathState::Dead));
        assert!(states.set(Scope::Source(1), PathState::LastResort));
        assert!(states.set(Scope::Damped(Damped::Source(1)), PathState::Doubtful));
        assert_eq!(states.of(&PATH), PathState::Dead);
        // The link's word does not overrule the tunnel's.
        assert!(!states.set(Scope::Link(2), PathState::Up));
        assert_eq!(states.of(&PATH), PathState::Dead);
        assert!(states.set(Scope::Tunnel(2), PathState::Up));
        assert_eq!(states.of(&PATH), PathState::LastResort);
        assert!(!states.set(Scope::Source(1), PathState::LastResort));
    }

    #[test]
    fn what_is_damped_is_doubtful_however_it_is_named() {
        for damped in [Damped::Interface(2), Damped::Source(1), Damped::Path(PATH)] {
            let mut states = States::default();
            assert!(states.set(Scope::Damped(damped), PathState::Doubtful));
            assert_eq!(states.of(&PATH), PathState::Doubtful, "{damped:?}");
            assert_eq!(states.of(&PathKey { source: 3, ifindex: 4, gateway: None }), PathState::Up, "{damped:?}");
            assert_eq!(states.word(&Scope::Damped(damped)), PathState::Doubtful);
            assert_eq!(states.word(&Scope::Source(1)), PathState::Up, "the detectors' words are their own");
        }
    }

    #[test]
    fn a_refused_path_is_dead_until_its_interface_is_forgiven() {
        let mut states = States::default();
        states.refuse(2, None);
        assert_eq!(states.of(&PATH), PathState::Dead);
        assert!(!states.forgive(3));
        assert!(!states.forgive_scope(Scope::Link(3)));
        assert!(states.forgive_scope(Scope::Tunnel(2)));
        assert_eq!(states.of(&PATH), PathState::Up);
    }
}
