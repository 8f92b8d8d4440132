//! The ways of a route, in order of preference, and which of them share its packets.

use std::net::IpAddr;

use net_types::Family;

use crate::{
    backend::Nexthop,
    forwarding::{Forwarding, WeightedNexthop},
    path::{PathKey, PathState, States},
};

/// Paths of which the first ones, equally good, share the packets while they live; the others stand by, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathList {
    paths: Vec<PathKey>,
    /// Of those that share, when there are at least two; none of a list in which the first that lives takes all.
    weights: Vec<u8>,
    source: Option<IpAddr>,
    unreachable: bool,
    /// Is no better than this, however well all that it goes over is.
    at_best: Option<(PathKey, PathState)>,
}

impl PathList {
    /// The first of `paths` that lives takes all packets.
    pub fn ordered(paths: impl Into<Vec<PathKey>>) -> Self {
        Self { paths: paths.into(), ..Self::default() }
    }

    /// `best` share the packets by weight (0 counts as 1); when none of them lives, the first of `alternates` that does
    /// takes all.
    pub fn multipath(best: &[(PathKey, u8)], alternates: &[PathKey]) -> Self {
        let paths = best.iter().map(|(path, _)| *path).chain(alternates.iter().copied()).collect();
        let weights =
            if best.len() < 2 { Vec::new() } else { best.iter().map(|(_, weight)| (*weight).max(1)).collect() };
        Self { paths, weights, ..Self::default() }
    }

    /// No path: packets are dropped, and their senders told so, where a list without paths drops them in silence.
    pub fn unreachable() -> Self {
        Self { unreachable: true, ..Self::default() }
    }

    /// With an address that packets of this router's own are sent from which have none yet.
    pub fn with_source(self, source: Option<IpAddr>) -> Self {
        Self { source, ..self }
    }

    /// With one of the paths no better than a state, though all that it goes over is up: for the sake of what whoever taught it
    /// does with packets.
    pub fn with_at_best(self, path: Option<(PathKey, PathState)>) -> Self {
        Self { at_best: path, ..self }
    }

    /// What [`with_source`](Self::with_source) was told.
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// Whether senders are told that their packets are dropped.
    pub fn is_unreachable(&self) -> bool {
        self.unreachable
    }

    /// Every path, best first.
    pub fn paths(&self) -> &[PathKey] {
        &self.paths
    }

    /// The weights of the paths at the front that share the packets; empty when the first takes all.
    pub fn weights(&self) -> &[u8] {
        &self.weights
    }

    /// Whether several paths share the packets, which takes a nexthop group.
    pub fn is_multipath(&self) -> bool {
        !self.weights.is_empty()
    }

    /// How well one of the paths is.
    pub(crate) fn state(&self, path: &PathKey, states: &States) -> PathState {
        let at_best = self.at_best.filter(|(it, _)| it == path).map(|(_, state)| state);
        states.of(path).max(at_best.unwrap_or_default())
    }

    /// Of the paths that `wanted` lets take part: those that share and are up, else the first that is up, else the same of
    /// those that are doubtful, then of last resorts, else nothing gets through.
    pub(crate) fn choose(&self, family: Family, states: &States, wanted: impl Fn(&PathKey) -> bool) -> Forwarding {
        let (sharing, alternates) = self.paths.split_at(self.weights.len());
        for state in [PathState::Up, PathState::Doubtful, PathState::LastResort] {
            let takes_part = |path: &&PathKey| fits(family, path) && self.state(path, states) == state && wanted(path);
            let share = sharing.iter().zip(&self.weights).filter(|(path, _)| takes_part(path));
            let share = share.map(|(path, weight)| WeightedNexthop { nexthop: nexthop(family, path), weight: *weight });
            if let Some(forwarding) = Forwarding::spread(share) {
                return forwarding;
            }
            if let Some(path) = alternates.iter().find(takes_part) {
                return Forwarding::Single(nexthop(family, path));
            }
        }
        Forwarding::Single(Nexthop::Blackhole(family))
    }

    /// What it may ever forward to, the blackhole included.
    pub(crate) fn nexthops(&self, family: Family) -> impl Iterator<Item = Nexthop> {
        let paths = self.paths.iter().filter(move |path| fits(family, path)).map(move |path| nexthop(family, path));
        paths.chain([Nexthop::Blackhole(family)])
    }
}

/// IPv4 goes over an IPv6 gateway (RFC 8950), but not the other way round.
fn fits(family: Family, path: &PathKey) -> bool {
    family == Family::Ipv4Unicast || path.gateway.is_none_or(|gateway| gateway.is_ipv6())
}

/// As the kernel reports it back: with the gateway's family, where there is a gateway.
fn nexthop(family: Family, path: &PathKey) -> Nexthop {
    let family = match path.gateway {
        Some(gateway) if gateway.is_ipv4() => Family::Ipv4Unicast,
        Some(_) => Family::Ipv6Unicast,
        None => family,
    };
    Nexthop::Via { family, ifindex: path.ifindex, gateway: path.gateway }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Scope;

    const V4: Family = Family::Ipv4Unicast;

    fn path(source: u32) -> PathKey {
        PathKey { source, ifindex: source, gateway: None }
    }

    fn chosen(list: &PathList, states: &States) -> Vec<(u32, u8)> {
        let hops = list.choose(V4, states, |_| true);
        let index = |nexthop| match nexthop {
            Nexthop::Via { ifindex, .. } => ifindex,
            Nexthop::Blackhole(_) => 0,
        };
        hops.nexthops().map(|hop| (index(hop.nexthop), hop.weight)).collect()
    }

    #[test]
    fn those_that_live_share_then_alternates_follow_and_then_last_resorts() {
        let list = PathList::multipath(&[(path(1), 3), (path(2), 0), (path(3), 5)], &[path(4), path(5)]);
        let mut states = States::default();
        assert_eq!(chosen(&list, &states), [(1, 3), (2, 1), (3, 5)]);
        states.set(Scope::Source(1), PathState::Dead);
        assert_eq!(chosen(&list, &states), [(2, 1), (3, 5)]);
        states.set(Scope::Source(3), PathState::LastResort);
        assert_eq!(chosen(&list, &states), [(2, 1)], "not beside one that is up");
        states.set(Scope::Source(2), PathState::LastResort);
        assert_eq!(chosen(&list, &states), [(4, 1)]);
        states.set(Scope::Source(4), PathState::Dead);
        states.set(Scope::Source(5), PathState::Dead);
        assert_eq!(chosen(&list, &states), [(2, 1), (3, 5)]);
        states.set(Scope::Source(2), PathState::Dead);
        states.set(Scope::Source(3), PathState::Dead);
        assert_eq!(chosen(&list, &states), [(0, 1)]);
    }

    #[test]
    fn a_path_that_its_teacher_has_lost_is_no_better_than_ones_own_that_is_lost() {
        let list = PathList::ordered([path(1), path(2)]);
        let told = list.clone().with_at_best(Some((path(2), PathState::LastResort)));
        let mut states = States::default();
        states.set(Scope::Source(1), PathState::LastResort);
        assert_eq!((chosen(&list, &states), chosen(&told, &states)), (vec![(2, 1)], vec![(1, 1)]));
        states.set(Scope::Source(1), PathState::Dead);
        assert_eq!(chosen(&told, &states), [(2, 1)]);
        states.set(Scope::Source(2), PathState::Dead);
        assert_eq!(chosen(&told, &states), [(0, 1)]);
    }

    #[test]
    fn a_doubtful_path_is_left_for_one_that_works_but_not_for_one_whose_router_sends_packets_back() {
        let list = PathList::ordered([path(1), path(2)]);
        let comes_back = list.clone().with_at_best(Some((path(2), PathState::Doubtful)));
        let mut states = States::default();
        states.set(Scope::Tunnel(1), PathState::Doubtful);
        assert_eq!((chosen(&list, &states), chosen(&comes_back, &states)), (vec![(2, 1)], vec![(1, 1)]));
        // Now something is known against it, and the other router will be told.
        states.set(Scope::Monitored(1), PathState::LastResort);
        assert_eq!(chosen(&comes_back, &states), [(2, 1)]);
        // Of two tunnels that nobody reports on, the one that BFD hears is used.
        states.set(Scope::Tunnel(2), PathState::Doubtful);
        assert_eq!(chosen(&list, &states), [(2, 1)]);
    }

    #[test]
    fn one_that_shares_with_nobody_is_an_ordered_list() {
        assert_eq!(PathList::multipath(&[(path(1), 9)], &[path(2)]), PathList::ordered([path(1), path(2)]));
        assert!(!PathList::ordered([path(1), path(2)]).is_multipath());
    }
}
