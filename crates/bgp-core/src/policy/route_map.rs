//! Route-maps: numbered clauses of conditions and changes; the first whose conditions all hold decides, none denies.
//!
//! A clause may call another route-map and may let later clauses go on. As in FRR these see what was changed before them,
//! and a denial anywhere is one of the whole. What comes out of an evaluation is not a changed route but which clauses
//! change it, since routes with equal attributes and equal changes are one and need to be made once.

use std::{borrow::Cow, sync::Arc};

use smallvec::SmallVec;

use super::{Action, Match, NextHopRule, Route, Set, Way};
use crate::rib::PathAttrs;

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
    /// Asked after that if it permits; a route that it denies is denied.
    pub call: Option<Arc<RouteMap>>,
    /// What follows if it permits.
    pub on_match: OnMatch,
}

/// A route-map.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteMap {
    name: String,
    clauses: Vec<Clause>,
    /// For each clause, the number that the first clause of the map it calls has in [`Changes`].
    called_from: Vec<u32>,
    /// Numbers that this map takes in [`Changes`], those of called maps included.
    size: u32,
    looks_at_prefix: bool,
    uses_validation: bool,
    concerns_sharing: bool,
}

/// The changes that a route-map asks for: those of these clauses, in order. Clauses that change nothing are left out,
/// so that equal changes are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Changes(SmallVec<[u32; 2]>);

impl Changes {
    /// Whether the route stays as it is.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Most clauses that one evaluation may come to, so that maps that call each other cost no more than long ones.
const MOST_CLAUSES: u64 = 1 << 20;

/// An evaluation under way.
struct Evaluation<'a> {
    route: Route<'a>,
    /// The map that was asked first, which all numbers refer to.
    top: &'a RouteMap,
    /// The attributes with the first `made` changes.
    attrs: Cow<'a, PathAttrs>,
    changes: Changes,
    made: usize,
}

impl Evaluation<'_> {
    /// Whether every condition of `clause` holds for the route as clauses before have left it.
    fn meets(&mut self, clause: &Clause) -> bool {
        if clause.matches.is_empty() {
            return true;
        }
        while let Some(number) = self.changes.0.get(self.made).copied() {
            // On the way out the final next hop is worked out later; conditions see it as it came.
            let way = self.route.way();
            self.top.make(number, self.attrs.to_mut(), way, &mut NextHopRule::default());
            self.made += 1;
        }
        clause.matches.iter().all(|condition| condition.holds(&self.route, &self.attrs))
    }
}

impl RouteMap {
    /// The route-map `name` with these clauses, in order of their sequence numbers.
    ///
    /// A map of more than a million clauses, counted as often as they are called, denies everything instead.
    pub fn new(name: impl Into<String>, mut clauses: Vec<Clause>) -> Self {
        clauses.sort_by_key(|clause| clause.sequence);
        let mut size = clauses.len() as u64;
        let called_from = clauses.iter().map(|clause| {
            let first = size;
            size += clause.call.as_ref().map_or(0, |map| u64::from(map.size));
            first as u32 // beyond the bound the map is not used
        });
        let called_from = called_from.collect();
        if size > MOST_CLAUSES {
            return Self::undefined(name);
        }
        let size = size as u32;
        let looks = |clause: &Clause| {
            clause.matches.iter().any(Match::looks_at_prefix) || clause.call.as_ref().is_some_and(|m| m.looks_at_prefix)
        };
        let looks_at_prefix = clauses.iter().any(looks);
        let asks = |clause: &Clause| {
            clause.matches.iter().any(|condition| matches!(condition, Match::Rpki(_)))
                || clause.call.as_ref().is_some_and(|map| map.uses_validation)
        };
        let uses_validation = clauses.iter().any(asks);
        let counts = |clause: &Clause| {
            clause.sets.iter().any(Set::concerns_sharing)
                || clause.call.as_ref().is_some_and(|map| map.concerns_sharing)
        };
        let concerns_sharing = clauses.iter().any(counts);
        Self { name: name.into(), clauses, called_from, size, looks_at_prefix, uses_validation, concerns_sharing }
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
        self.uses_validation
    }

    /// Whether a change depends on the paths that share the packets of a route.
    pub(crate) fn concerns_sharing(&self) -> bool {
        self.concerns_sharing
    }

    /// Whether the outcome may differ between two prefixes with the same attributes.
    pub(crate) fn looks_at_prefix(&self) -> bool {
        self.looks_at_prefix
    }

    /// Whether a condition or a change is about the peer.
    pub(crate) fn concerns_peer(&self) -> bool {
        self.clauses.iter().any(|clause| {
            let called = clause.call.as_ref().is_some_and(|map| map.concerns_peer());
            called || clause.matches.iter().any(|condition| matches!(condition, Match::Peer(_)))
        })
    }

    /// What becomes of `route`: which changes, if it is permitted.
    pub(crate) fn evaluate(&self, route: Route<'_>) -> Option<Changes> {
        let attrs = Cow::Borrowed(route.attrs);
        let mut evaluation = Evaluation { route, top: self, attrs, changes: Changes::default(), made: 0 };
        self.walk(&mut evaluation, 0).then_some(evaluation.changes)
    }

    /// Whether the clauses permit the route; their numbers begin at `base`.
    fn walk(&self, evaluation: &mut Evaluation<'_>, base: u32) -> bool {
        let (mut permitted, mut from) = (false, 0);
        for (at, (clause, called_from)) in self.clauses.iter().zip(&self.called_from).enumerate() {
            if clause.sequence < from || !evaluation.meets(clause) {
                continue;
            }
            if clause.action == Action::Deny {
                return false;
            }
            permitted = true;
            if !clause.sets.is_empty() {
                evaluation.changes.0.push(base + at as u32); // bounded when built
            }
            if clause.call.as_ref().is_some_and(|map| !map.walk(evaluation, base + called_from)) {
                return false;
            }
            match clause.on_match {
                OnMatch::Stop => break,
                OnMatch::Next => {}
                OnMatch::Goto(sequence) => from = sequence,
            }
        }
        permitted
    }

    /// Makes the changes that [`evaluate`](Self::evaluate) asked for; tells what is to become of the next hop on the way
    /// out.
    pub(crate) fn apply(&self, changes: &Changes, attrs: &mut PathAttrs, way: Way) -> NextHopRule {
        let mut next_hop = NextHopRule::default();
        changes.0.iter().for_each(|number| self.make(*number, attrs, way, &mut next_hop));
        next_hop
    }

    /// Makes the changes of one clause, by its number.
    fn make(&self, number: u32, attrs: &mut PathAttrs, way: Way, next_hop: &mut NextHopRule) {
        if let Some(clause) = self.clauses.get(number as usize) {
            return clause.sets.iter().for_each(|set| set.apply(attrs, way, next_hop));
        }
        // Of the maps called, the last that begins at or before the number; those without a call take no numbers.
        let at = self.called_from.partition_point(|first| *first <= number).checked_sub(1);
        let called = at.and_then(|at| Some((self.clauses.get(at)?.call.as_ref()?, self.called_from.get(at)?)));
        if let Some((map, first)) = called {
            map.make(number - first, attrs, way, next_hop);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use bgp_wire::{AsPath, Attributes, Community};
    use net_types::{Asn, Family};

    use super::*;
    use crate::policy::{Adjust, CommunityChange, PrefixList};

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
            install: Default::default(),
        }
    }

    fn clause(sequence: u32, action: Action, matches: Vec<Match>, sets: Vec<Set>, on_match: OnMatch) -> Clause {
        Clause { sequence, action, matches, sets, call: None, on_match }
    }

    /// What becomes of 10.0.0.0/8 with `attrs()`.
    fn run(clauses: Vec<Clause>) -> Option<PathAttrs> {
        let map = RouteMap::new("m", clauses);
        let mut attrs = attrs();
        let prefix = "10.0.0.0/8".parse().unwrap();
        let route = Route {
            prefix: &prefix,
            attrs: &attrs,
            peer: PEER,
            source: None,
            inbound: true,
            default_local_pref: 100,
            origins: None,
        };
        let changes = map.evaluate(route)?;
        map.apply(&changes, &mut attrs, Way::In(PEER));
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

    #[test]
    fn later_clauses_see_what_earlier_ones_changed() {
        let seven = vec![Set::Metric(Adjust::To(7))];
        let clauses = vec![
            clause(10, Action::Permit, vec![], seven, OnMatch::Next),
            clause(20, Action::Permit, vec![Match::Metric(7)], vec![Set::Weight(1)], OnMatch::Stop),
        ];
        assert_eq!(run(clauses).unwrap().weight, 1);
    }

    #[test]
    fn a_called_map_changes_and_denies() {
        let weight = |weight| vec![Set::Weight(weight)];
        let stop = OnMatch::Stop;
        let called = |action| {
            let inner = clause(5, Action::Permit, vec![], vec![Set::Metric(Adjust::Add(1))], stop);
            let deeper = Arc::new(RouteMap::new("deeper", vec![inner]));
            let first = clause(5, Action::Permit, vec![Match::Metric(1)], weight(1), stop);
            let second = Clause { call: Some(deeper), ..clause(10, action, vec![Match::Metric(10)], weight(2), stop) };
            Arc::new(RouteMap::new("called", vec![first, second]))
        };
        let calls = |map| {
            let call = Clause { call: Some(map), ..clause(10, Action::Permit, vec![], vec![], OnMatch::Next) };
            vec![
                call,
                clause(20, Action::Permit, vec![Match::Metric(11)], vec![Set::Prepend(vec![Asn::literal(3)])], stop),
            ]
        };
        let changed = run(calls(called(Action::Permit))).unwrap();
        assert_eq!((changed.weight, changed.attributes.med), (2, Some(11)), "of both maps that were called");
        assert_eq!(changed.attributes.as_path.to_string(), "3 64500", "what they changed is seen behind the call");
        assert_eq!(run(calls(called(Action::Deny))), None);
        assert_eq!(run(calls(Arc::new(RouteMap::undefined("none")))), None);
    }

    #[test]
    fn a_map_called_beyond_measure_denies() {
        let mut map = RouteMap::new("m", vec![clause(1, Action::Permit, vec![], vec![], OnMatch::Stop)]);
        let mut denied = Vec::new();
        for _ in 0..7 {
            let called = Arc::new(map);
            let calls = |sequence| Clause {
                call: Some(called.clone()),
                ..clause(sequence, Action::Permit, vec![], vec![], OnMatch::Stop)
            };
            map = RouteMap::new("m", (0..10).map(calls).collect());
            denied.push(map.clauses.is_empty());
        }
        assert_eq!(denied, [false, false, false, false, false, true, false], "the sixth is over, the seventh calls it");
    }
}
