//! Lists that judge communities of one of the three kinds (RFC 1997, RFC 4360, RFC 8092).
//!
//! A *standard* rule names communities that must all be there; an *expanded* one is an expression over the communities as
//! they are printed, separated by spaces. The first rule that matches decides, and none denies.

use std::fmt;

use bgp_wire::Community;

use super::{Action, Pattern};

/// A kind of community.
pub trait CommunityKind: Copy + Ord + fmt::Display {
    /// A value that in a list stands for all there are, even none: FRR's `internet`.
    const ANY: Option<Self>;
}

impl CommunityKind for Community {
    const ANY: Option<Self> = Some(Self(0));
}

impl CommunityKind for bgp_wire::LargeCommunity {
    const ANY: Option<Self> = None;
}

impl CommunityKind for bgp_wire::ExtCommunity {
    const ANY: Option<Self> = None;
}

/// What a rule asks of a route's communities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommunityTest<C> {
    /// All of these are there.
    All(Vec<C>),
    /// The expression matches them as they are printed.
    Pattern(Pattern),
}

/// Rules in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommunityList<C> {
    name: String,
    rules: Vec<(Action, CommunityTest<C>)>,
}

impl<C: CommunityKind> CommunityList<C> {
    /// The list `name` with these rules, in this order. Without any, as if it were not defined, it permits nothing.
    pub fn new(name: impl Into<String>, rules: impl IntoIterator<Item = (Action, CommunityTest<C>)>) -> Self {
        Self { name: name.into(), rules: rules.into_iter().collect() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the first rule that matches `communities` permits.
    pub fn permits(&self, communities: &[C]) -> bool {
        let mut printed = None;
        self.decide(|test| match test {
            CommunityTest::All(wanted) => wanted.iter().all(|one| C::ANY == Some(*one) || communities.contains(one)),
            CommunityTest::Pattern(pattern) => pattern.matches(printed.get_or_insert_with(|| print(communities))),
        })
    }

    /// The same where a standard rule wants these and no others (`exact-match`).
    pub fn permits_exactly(&self, communities: &[C]) -> bool {
        let mut printed = None;
        self.decide(|test| match test {
            CommunityTest::All(wanted) => {
                let any = wanted.iter().any(|one| C::ANY == Some(*one));
                any || wanted.iter().all(|one| communities.contains(one))
                    && communities.iter().all(|one| wanted.contains(one))
            }
            CommunityTest::Pattern(pattern) => pattern.matches(printed.get_or_insert_with(|| print(communities))),
        })
    }

    /// Whether the list names this one community: `set comm-list … delete` removes it then.
    pub fn names(&self, community: &C) -> bool {
        let one = std::slice::from_ref(community);
        let mut printed = None;
        self.decide(|test| match test {
            CommunityTest::All(wanted) => wanted.iter().any(|wanted| C::ANY == Some(*wanted) || wanted == community),
            CommunityTest::Pattern(pattern) => pattern.matches(printed.get_or_insert_with(|| print(one))),
        })
    }

    fn decide(&self, mut matches: impl FnMut(&CommunityTest<C>) -> bool) -> bool {
        self.rules.iter().find(|(_, test)| matches(test)).is_some_and(|(action, _)| *action == Action::Permit)
    }
}

fn print<C: fmt::Display>(communities: &[C]) -> String {
    let texts: Vec<String> = communities.iter().map(ToString::to_string).collect();
    texts.join(" ")
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn list(rules: Vec<(Action, CommunityTest<Community>)>) -> CommunityList<Community> {
        CommunityList::new("l", rules)
    }

    fn all(texts: &[&str]) -> CommunityTest<Community> {
        CommunityTest::All(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn communities(texts: &[&str]) -> Vec<Community> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_standard_rule_wants_all_that_it_names() {
        let list = list(vec![(Action::Deny, all(&["1:1", "1:2"])), (Action::Permit, all(&["1:1"]))]);
        assert!(list.permits(&communities(&["1:1", "9:9"])));
        assert!(!list.permits(&communities(&["1:1", "1:2"])), "denied");
        assert!(!list.permits(&[]), "nothing matches");
    }

    #[test]
    fn exact_match_wants_no_others() {
        let list = list(vec![(Action::Permit, all(&["1:1", "1:2"]))]);
        assert!(list.permits_exactly(&communities(&["1:2", "1:1"])));
        assert!(!list.permits_exactly(&communities(&["1:2", "1:1", "1:3"])));
        assert!(!list.permits_exactly(&communities(&["1:1"])));
    }

    #[test]
    fn an_expanded_rule_sees_them_printed() {
        let pattern = CommunityTest::Pattern(Regex::new("65000:1[0-9]+ no-export").unwrap().into());
        let list = list(vec![(Action::Permit, pattern)]);
        assert!(list.permits(&communities(&["1:1", "65000:12", "no-export"])));
        assert!(!list.permits(&communities(&["65000:1", "no-export"])));
    }

    #[test]
    fn deletion_looks_at_one_at_a_time() {
        let list = list(vec![(Action::Deny, all(&["1:2"])), (Action::Permit, all(&["1:1", "1:2", "1:3"]))]);
        let named: Vec<_> = communities(&["1:1", "1:2", "1:3", "1:4"]).into_iter().filter(|c| list.names(c)).collect();
        assert_eq!(named, communities(&["1:1", "1:3"]));
    }

    #[test]
    fn internet_stands_for_everything() {
        let list = list(vec![(Action::Permit, CommunityTest::All(vec![Community(0)]))]);
        assert!(list.permits(&[]) && list.permits(&communities(&["1:1"])) && list.names(&Community(7)));
    }
}
