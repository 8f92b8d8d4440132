//! Static routes and prefix-lists.

use std::{collections::BTreeMap, net::IpAddr};

use net_types::{IfName, Prefix};

use super::Name;

/// `ip route` or `ipv6 route`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StaticRoute {
    /// Destination.
    pub prefix: Prefix,
    /// Where to.
    pub target: StaticTarget,
    /// Administrative distance; 1 unless said otherwise.
    pub distance: u8,
    /// `tag`, for route-maps of what is redistributed; 0 for none.
    pub tag: u32,
    /// `bfd`: it is used only while a BFD session to its router is up.
    pub bfd: Option<StaticBfd>,
}

/// How a router is watched for a static route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StaticBfd {
    /// `profile`; the defaults of BFD without one.
    pub profile: Option<Name>,
}

/// Where a static route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StaticTarget {
    /// Dropped without a word: `blackhole` or `Null0`.
    Blackhole,
    /// Dropped with an ICMP unreachable: `reject`.
    Reject,
    /// Onto a link.
    Interface(IfName),
    /// To a router.
    Gateway {
        /// Its address, of the prefix's family.
        address: IpAddr,
        /// The link it is on, where the address alone does not tell.
        interface: Option<IfName>,
    },
}

/// What a prefix-list or route-map does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// `permit`
    Permit,
    /// `deny`
    Deny,
}

/// `ip prefix-list NAME` or `ipv6 prefix-list NAME`: the first entry in sequence that matches decides, and no match denies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixList {
    /// `description`
    pub description: Option<String>,
    /// By sequence number.
    pub entries: BTreeMap<u32, PrefixListEntry>,
}

/// One line of a prefix-list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixListEntry {
    /// What a match means.
    pub action: Action,
    /// What must cover the candidate.
    pub prefix: Prefix,
    /// `ge`: least length of the candidate.
    pub ge: Option<u8>,
    /// `le`: greatest length of the candidate.
    pub le: Option<u8>,
}

impl PrefixListEntry {
    /// Whether `candidate` is meant: within the prefix, and of exactly its length unless `ge` or `le` widen that.
    pub fn matches(&self, candidate: &Prefix) -> bool {
        let (least, greatest) = match (self.ge, self.le) {
            (None, None) => (self.prefix.bits(), self.prefix.bits()),
            (Some(ge), None) => (ge, self.prefix.family().max_bits()),
            (ge, Some(le)) => (ge.unwrap_or(self.prefix.bits()), le),
        };
        self.prefix.covers(candidate) && (least..=greatest).contains(&candidate.bits())
    }
}

impl PrefixList {
    /// The verdict on `candidate`; what nothing matches is denied.
    pub fn decide(&self, candidate: &Prefix) -> Action {
        self.entries.values().find(|entry| entry.matches(candidate)).map_or(Action::Deny, |entry| entry.action)
    }
}

impl Action {
    /// As the configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Deny => "deny",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(action: Action, prefix: &str, ge: Option<u8>, le: Option<u8>) -> PrefixListEntry {
        PrefixListEntry { action, prefix: prefix.parse().unwrap(), ge, le }
    }

    #[test]
    fn the_first_match_decides_and_no_match_denies() {
        let entries = [
            (5, entry(Action::Deny, "10.9.0.0/16", None, Some(32))),
            (10, entry(Action::Permit, "10.0.0.0/8", Some(9), Some(24))),
            (15, entry(Action::Permit, "192.0.2.0/24", None, None)),
        ];
        let list = PrefixList { description: None, entries: entries.into() };
        for (candidate, verdict) in [
            ("10.9.1.0/24", Action::Deny),
            ("10.8.1.0/24", Action::Permit),
            ("10.8.1.0/25", Action::Deny),
            ("10.0.0.0/8", Action::Deny),
            ("192.0.2.0/24", Action::Permit),
            ("192.0.2.0/25", Action::Deny),
            ("2001:db8::/32", Action::Deny),
        ] {
            assert_eq!(list.decide(&candidate.parse().unwrap()), verdict, "{candidate}");
        }
    }
}
