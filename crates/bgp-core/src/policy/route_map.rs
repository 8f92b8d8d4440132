//! Route-maps: numbered clauses of conditions and changes; the first whose conditions all hold decides, none denies.

use std::{net::IpAddr, sync::Arc};

use bgp_wire::{Community, Origin};
use net_types::{Asn, Prefix};

use super::{Action, PrefixList, Verdict};
use crate::rib::{DEFAULT_LOCAL_PREF, PathAttrs};

/// A condition on a route.
#[derive(Clone, Debug, PartialEq)]
pub enum Match {
    /// The list permits the prefix. For an undefined list use [`PrefixList::undefined`]: it never matches.
    Prefix(Arc<PrefixList>),
    /// The list permits the next hop as a host prefix.
    NextHop(Arc<PrefixList>),
    /// The route carries all of these communities.
    Communities(Vec<Community>),
    /// The AS is on the path.
    AsPathContains(Asn),
    /// The route has this MED.
    Metric(u32),
    /// The route has this LOCAL_PREF, or the default.
    LocalPreference(u32),
    /// The route has this origin.
    Origin(Origin),
}

/// How a number is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjust {
    /// Becomes this.
    To(u32),
    /// Grows by this, up to the greatest number.
    Add(u32),
    /// Shrinks by this, down to zero.
    Subtract(u32),
}

impl Adjust {
    fn apply(self, old: u32) -> u32 {
        match self {
            Self::To(new) => new,
            Self::Add(more) => old.saturating_add(more),
            Self::Subtract(less) => old.saturating_sub(less),
        }
    }
}

/// A change to a route.
#[derive(Clone, Debug, PartialEq)]
pub enum Set {
    /// LOCAL_PREF.
    LocalPreference(Adjust),
    /// MED.
    Metric(Adjust),
    /// Weight, which never leaves this router.
    Weight(u32),
    /// ORIGIN.
    Origin(Origin),
    /// These ASes in front of the path, in this order.
    Prepend(Vec<Asn>),
    /// These communities instead of those there, or added to them.
    Communities {
        /// Sorted or not; duplicates do not matter.
        communities: Vec<Community>,
        /// Keep those there.
        additive: bool,
    },
    /// Another next hop.
    NextHop(IpAddr),
}

/// One clause.
#[derive(Clone, Debug, PartialEq)]
pub struct Clause {
    /// Its place.
    pub sequence: u32,
    /// What happens to routes that meet every condition.
    pub action: Action,
    /// All must hold; without any, every route matches.
    pub matches: Vec<Match>,
    /// Made to permitted routes, in this order.
    pub sets: Vec<Set>,
}

/// A route-map.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteMap {
    name: String,
    clauses: Vec<Clause>,
}

impl RouteMap {
    /// The route-map `name` with these clauses, in order of their sequence numbers.
    pub fn new(name: impl Into<String>, mut clauses: Vec<Clause>) -> Self {
        clauses.sort_by_key(|clause| clause.sequence);
        Self { name: name.into(), clauses }
    }

    /// A route-map that is used but was never defined: as in FRR, it denies everything.
    pub fn undefined(name: impl Into<String>) -> Self {
        Self::new(name, Vec::new())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn evaluate(&self, prefix: &Prefix, attrs: &PathAttrs) -> Verdict<'_> {
        let first = self.clauses.iter().find(|clause| clause.matches.iter().all(|m| m.holds(prefix, attrs)));
        match first {
            Some(clause) if clause.action == Action::Permit => Verdict::Permit(&clause.sets),
            _ => Verdict::Deny,
        }
    }
}

impl Match {
    fn holds(&self, prefix: &Prefix, attrs: &PathAttrs) -> bool {
        let attributes = &attrs.attributes;
        match self {
            Self::Prefix(list) => list.evaluate(prefix) == Action::Permit,
            Self::NextHop(list) => list.evaluate(&Prefix::host(attrs.next_hop.address())) == Action::Permit,
            Self::Communities(wanted) => wanted.iter().all(|community| attributes.communities.contains(community)),
            Self::AsPathContains(asn) => attributes.as_path.contains(*asn),
            Self::Metric(metric) => attributes.med == Some(*metric),
            Self::LocalPreference(preference) => attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF) == *preference,
            Self::Origin(origin) => attributes.origin == *origin,
        }
    }
}

impl Set {
    pub(crate) fn apply(&self, attrs: &mut PathAttrs) {
        let attributes = &mut attrs.attributes;
        match self {
            Self::LocalPreference(adjust) => {
                let old = attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
                attributes.local_pref = Some(adjust.apply(old));
            }
            Self::Metric(adjust) => attributes.med = Some(adjust.apply(attributes.med.unwrap_or(0))),
            Self::Weight(weight) => attrs.weight = *weight,
            Self::Origin(origin) => attributes.origin = *origin,
            Self::Prepend(asns) => asns.iter().rev().for_each(|asn| attributes.as_path.prepend(*asn, 1)),
            Self::Communities { communities, additive } => {
                let mut all = if *additive { attributes.communities.to_vec() } else { Vec::new() };
                all.extend(communities);
                all.sort_unstable();
                all.dedup();
                attributes.communities = all.into();
            }
            Self::NextHop(address) => {
                attrs.next_hop = (*address).into();
                attrs.scope = 0;
            }
        }
    }
}
