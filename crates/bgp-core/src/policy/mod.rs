//! What is accepted from a peer and sent to one: prefix-lists and route-maps, as FRR spells and evaluates them.
//!
//! Policies are immutable values behind `Arc`s; the configuration builds new ones and hands them to the table, which
//! evaluates again what they touch. Names that the configuration uses but never defines are resolved before they get
//! here, to the values that FRR's rules give them ([`PrefixList::undefined`], [`RouteMap::undefined`]).

mod prefix_list;
mod route_map;

use std::{net::IpAddr, sync::Arc};

use net_types::{Asn, Prefix};

pub use prefix_list::{Action, PrefixList, PrefixRule};
pub(crate) use route_map::Changes;
pub use route_map::{Adjust, Clause, CommunityChange, Match, OnMatch, RouteMap, Set};

use crate::{rib::PathAttrs, validation::RoaTable};

/// What one peer's routes of one family go through in one direction. The default lets everything pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Asked first.
    pub prefix_list: Option<Arc<PrefixList>>,
    /// Asked second, and may change attributes.
    pub route_map: Option<Arc<RouteMap>>,
}

/// A route in front of a policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route<'a> {
    pub(crate) prefix: &'a Prefix,
    pub(crate) attrs: &'a PathAttrs,
    /// The neighbor that it comes from or goes to.
    pub(crate) peer: IpAddr,
    pub(crate) origins: Origins<'a>,
}

/// What origins are validated by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origins<'a> {
    pub(crate) roas: &'a RoaTable,
    /// Ours: the origin of routes without a path.
    pub(crate) own_as: Asn,
}

impl Policy {
    /// A policy that lets nothing pass, as between ASes that have not said what they want (RFC 8212).
    pub fn deny_all() -> Self {
        Self { prefix_list: None, route_map: Some(Arc::new(RouteMap::undefined("deny-all"))) }
    }

    /// Whether the outcome depends on origin validation.
    pub(crate) fn uses_validation(&self) -> bool {
        self.route_map.as_ref().is_some_and(|map| map.uses_validation())
    }

    /// The changes to make to `route`, which may be none at all; `None` if it may not pass.
    pub(crate) fn evaluate(&self, route: Route<'_>) -> Option<Changes> {
        if self.prefix_list.as_ref().is_some_and(|list| list.evaluate(route.prefix) == Action::Deny) {
            return None;
        }
        match &self.route_map {
            Some(map) => map.evaluate(route),
            None => Some(Changes::default()),
        }
    }

    /// Makes the changes that [`evaluate`](Self::evaluate) asked for.
    pub(crate) fn apply(&self, changes: &Changes, attrs: &mut PathAttrs) {
        if let Some(map) = &self.route_map {
            map.apply(changes, attrs);
        }
    }
}
