//! Route-maps: numbered clauses of conditions and changes; the first whose conditions all hold decides, none denies.

use std::{net::IpAddr, sync::Arc};

use bgp_wire::{Community, LargeCommunity, Origin};
use net_types::{Asn, Family, Prefix};
use smallvec::SmallVec;

use super::{Action, Origins, PrefixList, Route};
use crate::{
    rib::{DEFAULT_LOCAL_PREF, PathAttrs},
    validation::ValidationState,
};

/// A condition on a route.
#[derive(Clone, Debug, PartialEq)]
pub enum Match {
    /// The prefix is of this family and the list permits it. For an undefined list use [`PrefixList::undefined`]: it
    /// never matches.
    Prefix(Family, Arc<PrefixList>),
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
    /// It comes from, or goes to, this neighbor.
    Peer(IpAddr),
    /// Its origin has this validation state (RFC 6811).
    Rpki(ValidationState),
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
    /// The leftmost AS of the path again in front of it, so many times.
    PrependLast(u8),
    /// COMMUNITIES.
    Communities(CommunityChange<Community>),
    /// LARGE_COMMUNITY.
    LargeCommunities(CommunityChange<LargeCommunity>),
    /// Another next hop.
    NextHop(IpAddr),
}

/// How a list of communities is changed.
#[derive(Clone, Debug, PartialEq)]
pub enum CommunityChange<C> {
    /// These instead of those there; none of them removes the attribute.
    Replace(Vec<C>),
    /// These besides those there.
    Add(Vec<C>),
}

impl<C: Copy + Ord> CommunityChange<C> {
    fn apply(&self, list: &mut Vec<C>) {
        match self {
            Self::Replace(new) => list.clone_from(new),
            Self::Add(more) => list.extend(more),
        }
        list.sort_unstable();
        list.dedup();
    }
}

/// What follows a clause that permits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMatch {
    /// Nothing: the route-map ends.
    #[default]
    Stop,
    /// The next clause may change more, or deny.
    Next,
    /// The same from this sequence number on.
    Goto(u32),
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
    /// What follows if it permits.
    pub on_match: OnMatch,
}

/// A route-map.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteMap {
    name: String,
    clauses: Vec<Clause>,
}

/// The changes that a route-map asks for: those of these clauses, in order. Clauses that change nothing are left out,
/// so that equal changes are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Changes(SmallVec<[u16; 4]>);

impl Changes {
    /// Whether the route stays as it is.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl RouteMap {
    /// The route-map `name` with these clauses, in order of their sequence numbers.
    pub fn new(name: impl Into<String>, mut clauses: Vec<Clause>) -> Self {
        clauses.sort_by_key(|clause| clause.sequence);
        clauses.truncate(usize::from(u16::MAX)); // there are no more sequence numbers
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

    /// Whether the outcome depends on origin validation.
    pub(crate) fn uses_validation(&self) -> bool {
        self.clauses.iter().flat_map(|clause| &clause.matches).any(|condition| matches!(condition, Match::Rpki(_)))
    }

    pub(crate) fn evaluate(&self, route: Route<'_>) -> Option<Changes> {
        let (mut changes, mut permitted, mut from) = (Changes::default(), false, 0);
        for (at, clause) in self.clauses.iter().enumerate() {
            if clause.sequence < from || !clause.matches.iter().all(|condition| condition.holds(route)) {
                continue;
            }
            if clause.action == Action::Deny {
                return None;
            }
            permitted = true;
            if !clause.sets.is_empty() {
                changes.0.push(at as u16); // bounded when built
            }
            match clause.on_match {
                OnMatch::Stop => break,
                OnMatch::Next => {}
                OnMatch::Goto(sequence) => from = sequence,
            }
        }
        permitted.then_some(changes)
    }

    pub(crate) fn apply(&self, changes: &Changes, attrs: &mut PathAttrs) {
        let clauses = changes.0.iter().filter_map(|at| self.clauses.get(usize::from(*at)));
        clauses.flat_map(|clause| &clause.sets).for_each(|set| set.apply(attrs));
    }
}

impl Match {
    fn holds(&self, Route { prefix, attrs, peer, origins }: Route<'_>) -> bool {
        let attributes = &attrs.attributes;
        match self {
            Self::Prefix(family, list) => prefix.family() == *family && list.evaluate(prefix) == Action::Permit,
            Self::NextHop(list) => list.evaluate(&Prefix::host(attrs.next_hop.address())) == Action::Permit,
            Self::Communities(wanted) => wanted.iter().all(|community| attributes.communities.contains(community)),
            Self::AsPathContains(asn) => attributes.as_path.contains(*asn),
            Self::Metric(metric) => attributes.med == Some(*metric),
            Self::LocalPreference(preference) => attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF) == *preference,
            Self::Origin(origin) => attributes.origin == *origin,
            Self::Peer(address) => peer == *address,
            Self::Rpki(state) => {
                // Without payloads nothing is known about anybody, as in FRR.
                let Origins { roas, own_as } = origins;
                !roas.is_empty() && roas.validate(prefix, &attributes.as_path, own_as) == *state
            }
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
            Self::PrependLast(times) => {
                if let Some(last) = attributes.as_path.first() {
                    attributes.as_path.prepend(last, usize::from(*times));
                }
            }
            Self::Communities(change) => change.apply(&mut attributes.communities),
            Self::LargeCommunities(change) => change.apply(&mut attributes.large_communities),
            Self::NextHop(address) => {
                attrs.next_hop = (*address).into();
                attrs.scope = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bgp_wire::{AsPath, Attributes};

    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn attrs() -> PathAttrs {
        PathAttrs {
            attributes: Attributes {
                as_path: AsPath::sequence([Asn::literal(64500)]),
                communities: vec![Community(5)],
                med: Some(10),
                ..Attributes::default()
            },
            next_hop: PEER.into(),
            scope: 0,
            weight: 0,
        }
    }

    fn clause(sequence: u32, action: Action, matches: Vec<Match>, sets: Vec<Set>, on_match: OnMatch) -> Clause {
        Clause { sequence, action, matches, sets, on_match }
    }

    /// What becomes of 10.0.0.0/8 with `attrs()`.
    fn run(clauses: Vec<Clause>) -> Option<PathAttrs> {
        let map = RouteMap::new("m", clauses);
        let mut attrs = attrs();
        let roas = crate::validation::RoaTable::new(1);
        let origins = Origins { roas: &roas, own_as: Asn::literal(65000) };
        let route = Route { prefix: &"10.0.0.0/8".parse().unwrap(), attrs: &attrs, peer: PEER, origins };
        let changes = map.evaluate(route)?;
        map.apply(&changes, &mut attrs);
        Some(attrs)
    }

    #[test]
    fn the_first_clause_whose_conditions_all_hold_decides() {
        let weight = |weight| vec![Set::Weight(weight)];
        let (permit, stop) = (Action::Permit, OnMatch::Stop);
        let clauses = vec![
            clause(30, permit, vec![], weight(3), stop),
            clause(20, permit, vec![Match::Metric(10), Match::Peer(PEER)], weight(2), stop),
            clause(10, permit, vec![Match::Metric(10), Match::LocalPreference(7)], weight(1), stop),
        ];
        assert_eq!(run(clauses).unwrap().weight, 2);
    }

    #[test]
    fn nothing_that_matches_denies_and_so_does_an_undefined_map() {
        let never = vec![Match::AsPathContains(Asn::literal(9))];
        assert_eq!(run(vec![clause(10, Action::Permit, never, vec![], OnMatch::Stop)]), None);
        assert_eq!(run(vec![]), None);
        let list = Match::Prefix(Family::Ipv4Unicast, Arc::new(PrefixList::undefined("none")));
        assert_eq!(run(vec![clause(10, Action::Permit, vec![list], vec![], OnMatch::Stop)]), None);
    }

    #[test]
    fn on_match_goes_on_and_a_later_clause_may_still_deny() {
        let add = |value| vec![Set::Communities(CommunityChange::Add(vec![Community(value)]))];
        let steps = |last: Action| {
            vec![
                clause(10, Action::Permit, vec![], add(1), OnMatch::Next),
                clause(20, Action::Permit, vec![], add(2), OnMatch::Goto(40)),
                clause(30, Action::Deny, vec![], vec![], OnMatch::Stop),
                clause(40, last, vec![Match::Metric(10)], add(4), OnMatch::Next),
            ]
        };
        let communities = run(steps(Action::Permit)).unwrap().attributes.communities;
        assert_eq!(communities, [1, 2, 4, 5].map(Community));
        assert_eq!(run(steps(Action::Deny)), None);
    }

    #[test]
    fn changes_are_made_in_order_and_within_bounds() {
        let sets = vec![
            Set::Prepend(vec![Asn::literal(1), Asn::literal(2)]),
            Set::PrependLast(2),
            Set::Metric(Adjust::Subtract(11)),
            Set::LocalPreference(Adjust::Add(u32::MAX)),
            Set::Communities(CommunityChange::Replace(vec![])),
        ];
        let changed = run(vec![clause(10, Action::Permit, vec![], sets, OnMatch::Stop)]).unwrap().attributes;
        assert_eq!(changed.as_path.to_string(), "1 1 1 2 64500");
        assert_eq!((changed.med, changed.local_pref), (Some(0), Some(u32::MAX)));
        assert!(changed.communities.is_empty());
    }
}
