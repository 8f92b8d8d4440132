//! What is accepted from a peer and sent to one: prefix-lists and route-maps, as FRR spells and evaluates them.
//!
//! Policies are immutable values behind `Arc`s; the configuration builds new ones and hands them to the table, which
//! evaluates again what they touch. Names that the configuration uses but never defines are resolved before they get
//! here, to the values that FRR's rules give them ([`PrefixList::undefined`], [`RouteMap::undefined`]).

mod access_list;
mod as_path_list;
mod change;
mod community_list;
mod condition;
mod pattern;
mod prefix_list;
mod route_map;

use std::{net::IpAddr, sync::Arc};

use net_types::{Asn, Prefix};

pub use access_list::{AccessList, AccessTarget};
pub use as_path_list::AsPathList;
pub use change::{Adjust, CommunityChange, ExtCommunityChange, Set};
pub(crate) use change::{NextHopRule, Sharing, Way};
pub use community_list::{CommunityKind, CommunityList, CommunityTest};
pub use condition::Match;
pub use pattern::Pattern;
pub use prefix_list::{Action, PrefixList, PrefixRule};
pub(crate) use route_map::Changes;
pub use route_map::{Clause, OnMatch, RouteMap};

use crate::{
    rib::{DEFAULT_LOCAL_PREF, LocalSource, PathAttrs},
    validation::RoaTable,
};

/// What one peer's routes of one family go through in one direction, in this order. The default lets everything pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// `distribute-list`
    pub access_list: Option<Arc<AccessList>>,
    /// `prefix-list`
    pub prefix_list: Option<Arc<PrefixList>>,
    /// What the neighbor asked us to keep back (RFC 5291).
    pub outbound_filter: Option<Arc<PrefixList>>,
    /// `filter-list`
    pub as_path_list: Option<Arc<AsPathList>>,
    /// `route-map`, which may change attributes.
    pub route_map: Option<Arc<RouteMap>>,
}

/// A route in front of a policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route<'a> {
    pub(crate) prefix: &'a Prefix,
    pub(crate) attrs: &'a PathAttrs,
    /// The neighbor that it comes from or goes to; unspecified for ourselves.
    pub(crate) peer: IpAddr,
    /// Where this router has it from, if not from a neighbor.
    pub(crate) source: Option<LocalSource>,
    /// It comes from the neighbor.
    pub(crate) inbound: bool,
    /// The preference of routes of our own that have none.
    pub(crate) default_local_pref: u32,
    /// What its origin is validated by; without, it has no validation state.
    pub(crate) origins: Option<Origins<'a>>,
}

/// What origins are validated by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origins<'a> {
    pub(crate) roas: &'a RoaTable,
    /// Ours: the origin of routes without a path.
    pub(crate) own_as: Asn,
}

impl Route<'_> {
    fn way(&self) -> Way {
        match (self.inbound, self.source) {
            (false, _) => Way::Out(Sharing::default()),
            (true, None) => Way::In(self.peer),
            (true, Some(_)) => Way::Own(self.default_local_pref),
        }
    }
}

impl Policy {
    /// A policy that lets nothing pass, as between ASes that have not said what they want (RFC 8212).
    pub fn deny_all() -> Self {
        Self { route_map: Some(Arc::new(RouteMap::undefined("deny-all"))), ..Self::default() }
    }

    /// A policy of a route-map alone.
    pub fn of_map(route_map: Option<Arc<RouteMap>>) -> Self {
        Self { route_map, ..Self::default() }
    }

    /// Whether the outcome may differ between two prefixes with the same attributes.
    pub(crate) fn looks_at_prefix(&self) -> bool {
        self.access_list.is_some()
            || self.prefix_list.is_some()
            || self.outbound_filter.is_some()
            || self.route_map.as_ref().is_some_and(|map| map.looks_at_prefix())
    }

    /// Whether the outcome depends on origin validation.
    pub(crate) fn uses_validation(&self) -> bool {
        self.route_map.as_ref().is_some_and(|map| map.uses_validation())
    }

    /// Whether what it changes depends on the paths that share the packets of a route.
    pub(crate) fn concerns_sharing(&self) -> bool {
        self.route_map.as_ref().is_some_and(|map| map.concerns_sharing())
    }

    /// Whether the outcome depends on which peer a route comes from or goes to (`match peer`), so that peers with the
    /// same policy may get different routes.
    pub(crate) fn concerns_peer(&self) -> bool {
        self.route_map.as_ref().is_some_and(|map| map.concerns_peer())
    }

    /// Whether everything passes as it is.
    pub(crate) fn is_open(&self) -> bool {
        let Self { access_list, prefix_list, outbound_filter, as_path_list, route_map } = self;
        access_list.is_none()
            && prefix_list.is_none()
            && outbound_filter.is_none()
            && as_path_list.is_none()
            && route_map.is_none()
    }

    /// The changes to make to `route`, which may be none at all; `None` if it may not pass.
    pub(crate) fn evaluate(&self, route: Route<'_>) -> Option<Changes> {
        let Self { access_list, prefix_list, outbound_filter, as_path_list, route_map } = self;
        // Lists name prefixes, in whatever VPN they are.
        let plain = route.prefix.plain();
        let route = Route { prefix: &plain, ..route };
        let path = || route.attrs.attributes.as_path.to_string();
        let denied = access_list.as_ref().is_some_and(|list| list.evaluate(route.prefix) == Action::Deny)
            || prefix_list.as_ref().is_some_and(|list| list.evaluate(route.prefix) == Action::Deny)
            || outbound_filter.as_ref().is_some_and(|list| list.evaluate(route.prefix) == Action::Deny)
            || as_path_list.as_ref().is_some_and(|list| list.evaluate(&path()) == Action::Deny);
        match route_map {
            _ if denied => None,
            Some(map) => map.evaluate(route),
            None => Some(Changes::default()),
        }
    }

    /// Makes the changes that [`evaluate`](Self::evaluate) asked for; tells what is to become of the next hop on the way
    /// out.
    pub(crate) fn apply(&self, changes: &Changes, attrs: &mut PathAttrs, way: Way) -> NextHopRule {
        self.route_map.as_ref().map_or_else(NextHopRule::default, |map| map.apply(changes, attrs, way))
    }

    /// What becomes of a route that stays on this router, such as one on its way into the kernel (`table-map`); `None` if
    /// it may not pass.
    pub fn judge(&self, prefix: &Prefix, attrs: &PathAttrs, source: Option<LocalSource>) -> Option<PathAttrs> {
        let changes = self.verdict(prefix, attrs, source)?;
        let mut changed = attrs.clone();
        self.apply(&changes, &mut changed, Way::Out(Sharing::default()));
        Some(changed)
    }

    /// The same, not made yet.
    pub(crate) fn verdict(&self, prefix: &Prefix, attrs: &PathAttrs, source: Option<LocalSource>) -> Option<Changes> {
        let peer = std::net::Ipv4Addr::UNSPECIFIED.into();
        let default_local_pref = DEFAULT_LOCAL_PREF;
        self.evaluate(Route { prefix, attrs, peer, source, inbound: false, default_local_pref, origins: None })
    }
}
