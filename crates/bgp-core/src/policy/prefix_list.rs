//! Prefix-lists: numbered rules on prefixes, the first that matches decides, and none denies.

use std::cmp::Reverse;

use hashbrown::HashMap;
use net_types::Prefix;
use smallvec::SmallVec;

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Let it pass.
    Permit,
    /// Refuse it.
    Deny,
}

/// One line of a prefix-list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixRule {
    /// Its place.
    pub sequence: u32,
    /// What it does.
    pub action: Action,
    /// What it covers.
    pub prefix: Prefix,
    /// Shortest length matched, if longer than the prefix itself.
    pub ge: Option<u8>,
    /// Longest length matched. With neither bound only the prefix itself matches; with `ge` alone anything longer does.
    pub le: Option<u8>,
}

impl PrefixRule {
    fn lengths(&self) -> (u8, u8) {
        let own = self.prefix.bits();
        match (self.ge, self.le) {
            (None, None) => (own, own),
            (Some(ge), None) => (ge.max(own), self.prefix.family().max_bits()),
            (None, Some(le)) => (own, le),
            (Some(ge), Some(le)) => (ge.max(own), le),
        }
    }

    fn matches(&self, prefix: &Prefix) -> bool {
        let (min, max) = self.lengths();
        // `covers` is false across families, so a list of one family never matches the other.
        (min..=max).contains(&prefix.bits()) && self.prefix.covers(prefix)
    }
}

/// Rules up to this number are tried one after the other; more are looked up by prefix.
const LINEAR: usize = 24;

/// An ordered list of rules.
#[derive(Clone, Debug, PartialEq)]
pub struct PrefixList {
    name: String,
    rules: Vec<PrefixRule>,
    /// Of a long list: which rules name a prefix, in order.
    index: HashMap<Prefix, SmallVec<[u32; 2]>, foldhash::quality::FixedState>,
    /// Lengths that occur in `index`, longest first.
    lengths: Vec<u8>,
    otherwise: Action,
}

impl PrefixList {
    /// The list `name` with these rules, in order of their sequence numbers.
    pub fn new(name: impl Into<String>, mut rules: Vec<PrefixRule>) -> Self {
        rules.sort_by_key(|rule| rule.sequence);
        let mut index: HashMap<Prefix, SmallVec<[u32; 2]>, _> = HashMap::default();
        let mut lengths = Vec::new();
        if rules.len() > LINEAR {
            for (at, rule) in rules.iter().enumerate() {
                index.entry(rule.prefix).or_default().push(at as u32);
                lengths.push(rule.prefix.bits());
            }
            lengths.sort_unstable_by_key(|bits| Reverse(*bits));
            lengths.dedup();
        }
        // As in FRR: a list that exists but has no line permits everything.
        let otherwise = if rules.is_empty() { Action::Permit } else { Action::Deny };
        Self { name: name.into(), rules, index, lengths, otherwise }
    }

    /// A list that is used but was never defined: as in FRR, it denies everything.
    pub fn undefined(name: impl Into<String>) -> Self {
        Self { otherwise: Action::Deny, ..Self::new(name, Vec::new()) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the first matching rule says.
    pub fn evaluate(&self, prefix: &Prefix) -> Action {
        let rule = if self.lengths.is_empty() {
            self.rules.iter().find(|rule| rule.matches(prefix))
        } else {
            let covering = self.lengths.iter().skip_while(|bits| **bits > prefix.bits());
            let named = covering.filter_map(|bits| self.index.get(&Prefix::new(prefix.address(), *bits).ok()?));
            let first =
                |rules: &SmallVec<[u32; 2]>| rules.iter().copied().find(|at| self.rules[*at as usize].matches(prefix));
            named.filter_map(first).min().map(|at| &self.rules[at as usize])
        };
        rule.map_or(self.otherwise, |rule| rule.action)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn rule(sequence: u32, action: Action, prefix: &str, ge: Option<u8>, le: Option<u8>) -> PrefixRule {
        PrefixRule { sequence, action, prefix: prefix.parse().unwrap(), ge, le }
    }

    fn permits(list: &PrefixList, prefix: &str) -> bool {
        list.evaluate(&prefix.parse().unwrap()) == Action::Permit
    }

    #[test]
    fn without_bounds_only_the_prefix_itself_matches() {
        let list = PrefixList::new("l", vec![rule(5, Action::Permit, "10.0.0.0/8", None, None)]);
        assert!(permits(&list, "10.0.0.0/8"));
        assert!(!permits(&list, "10.1.0.0/16") && !permits(&list, "0.0.0.0/0"));
    }

    #[test]
    fn ge_alone_reaches_to_host_routes_and_le_alone_starts_at_the_prefix() {
        let list = PrefixList::new("l", vec![rule(5, Action::Permit, "10.0.0.0/8", Some(24), None)]);
        assert!(permits(&list, "10.0.0.1/32") && permits(&list, "10.0.0.0/24") && !permits(&list, "10.0.0.0/23"));
        let list = PrefixList::new("l", vec![rule(5, Action::Permit, "10.0.0.0/8", None, Some(16))]);
        assert!(permits(&list, "10.0.0.0/8") && permits(&list, "10.9.0.0/16") && !permits(&list, "10.9.0.0/17"));
    }

    #[test]
    fn the_lowest_sequence_number_decides() {
        let rules = vec![
            rule(20, Action::Permit, "0.0.0.0/0", None, Some(32)),
            rule(10, Action::Deny, "192.168.0.0/16", None, Some(32)),
        ];
        let list = PrefixList::new("l", rules);
        assert!(!permits(&list, "192.168.7.0/24") && permits(&list, "10.0.0.0/8"));
        assert!(!permits(&list, "fd00::/8"), "an IPv4 rule says nothing about IPv6");
    }

    #[test]
    fn empty_lists_permit_and_undefined_lists_deny() {
        assert!(permits(&PrefixList::new("l", vec![]), "10.0.0.0/8"));
        assert!(!permits(&PrefixList::undefined("l"), "10.0.0.0/8"));
    }

    proptest! {
        #[test]
        fn long_lists_answer_as_a_plain_scan_does(
            rules in proptest::collection::vec((any::<bool>(), any::<u8>(), 0u8..12, 0u8..12, 0u8..12), 0..80),
            address in any::<u8>(), bits in 0u8..12,
        ) {
            let place = |a: u8| Ipv4Addr::new(a, 0, 0, 0).into();
            let rules: Vec<_> = rules.into_iter().enumerate().map(|(at, (permit, a, bits, ge, le))| PrefixRule {
                sequence: at as u32,
                action: if permit { Action::Permit } else { Action::Deny },
                prefix: Prefix::new(place(a), bits).unwrap(),
                ge: (ge > bits).then_some(ge),
                le: (le > bits).then_some(le),
            }).collect();
            let prefix = Prefix::new(place(address), bits).unwrap();
            let list = PrefixList::new("l", rules.clone());
            let scan = rules.iter().find(|rule| rule.matches(&prefix)).map(|rule| rule.action);
            prop_assert_eq!(list.evaluate(&prefix), scan.unwrap_or(list.otherwise));
        }
    }
}
