//! What is accepted from a peer and sent to one: prefix-lists and route-maps, as FRR spells and evaluates them.
//!
//! Policies are immutable values behind `Arc`s; the configuration builds new ones and hands them to the table, which
//! evaluates again what they touch. Names that the configuration uses but never defines are resolved before they get
//! here, to the values that FRR's rules give them ([`PrefixList::undefined`], [`RouteMap::undefined`]).

mod prefix_list;
mod route_map;

use std::sync::Arc;

use net_types::Prefix;

pub use prefix_list::{Action, PrefixList, PrefixRule};
pub use route_map::{Adjust, Clause, Match, RouteMap, Set};

use crate::rib::PathAttrs;

/// What one peer's routes of one family go through in one direction. The default lets everything pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Asked first.
    pub prefix_list: Option<Arc<PrefixList>>,
    /// Asked second, and may change attributes.
    pub route_map: Option<Arc<RouteMap>>,
}

/// What a policy says about a route.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict<'a> {
    Deny,
    /// Permitted, with these changes to make. The slice is the clause's own: same slice, same changes.
    Permit(&'a [Set]),
}

impl Policy {
    pub(crate) fn evaluate(&self, prefix: &Prefix, attrs: &PathAttrs) -> Verdict<'_> {
        if self.prefix_list.as_ref().is_some_and(|list| list.evaluate(prefix) == Action::Deny) {
            return Verdict::Deny;
        }
        match &self.route_map {
            Some(map) => map.evaluate(prefix, attrs),
            None => Verdict::Permit(&[]),
        }
    }
}
