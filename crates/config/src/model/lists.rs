//! Lists that policies ask: access-lists, AS path access-lists, community-lists of three kinds.

use std::{collections::BTreeMap, net::Ipv4Addr};

use net_types::Prefix;

use super::{Action, Pattern};

/// Numbered rules; the first in sequence that matches decides, and none denies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules<R>(pub BTreeMap<u32, (Action, R)>);

impl<R> Default for Rules<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R: PartialEq> Rules<R> {
    /// Puts a rule at `sequence`, or behind the last in steps of five, as FRR numbers them. What is said already, under
    /// whatever number, stays as it is.
    pub(crate) fn put(&mut self, sequence: Option<u32>, action: Action, rule: R) {
        if sequence.is_none() && self.0.values().any(|(known, of)| (known, of) == (&action, &rule)) {
            return;
        }
        let next = || self.0.last_key_value().map_or(5, |(last, _)| (last / 5).saturating_add(1).saturating_mul(5));
        let sequence = sequence.unwrap_or_else(next);
        self.0.insert(sequence, (action, rule));
    }
}

/// What a rule of an access-list is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessTarget {
    /// `any`
    Any,
    /// `PREFIX`: everything within it.
    Within(Prefix),
    /// `PREFIX exact-match`
    Exactly(Prefix),
    /// `ADDRESS WILDCARD`, or `host ADDRESS` where no bit may differ; IPv4 only.
    Wildcard {
        /// Bits to have.
        address: Ipv4Addr,
        /// Ones where they do not matter.
        wildcard: Ipv4Addr,
    },
}

/// A community-list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommunityList<C> {
    /// Each rule names communities that must all be there.
    Standard(Rules<Vec<C>>),
    /// Each rule is an expression over the communities as they are printed.
    Expanded(Rules<Pattern>),
}
